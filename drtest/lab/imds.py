"""The instance metadata service, 169.254.169.254 as each guest sees it: HTTP over a socket of the guest's machine.

QEMU hands on what a guest sends to that one address and port, and nothing else; all connections of a guest come as one
stream of bytes, so that it may have one request under way at a time.
"""

import base64
import binascii
import hmac
import logging
import re
import secrets
import time
from dataclasses import dataclass

from drtest.lab.compute import Compute
from drtest.lab.metadata import Tree, tree
from drtest.lab.resources import Instance

LOG = logging.getLogger(__name__)

MAX_HEAD = 16 * 1024
MAX_TTL = 21600
"""Seconds that a token may last: "a maximum of six hours"."""

_HEAD = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.[01]\r\n(.*?)\r\n\r\n", re.DOTALL)
_VERSION = re.compile(r"latest|1\.0|20[0-9]{2}-[0-9]{2}-[0-9]{2}")
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}
_REASONS |= {405: "Method Not Allowed"}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request of a guest; the names of the headers are small."""

    method: str
    path: str
    headers: dict[str, str]


def serve_soon(lab: Compute, instance_id: str) -> None:
    """Answer a running machine's guest, behind everything, until the machine has ended."""
    lab.work.soon(lambda: serve(lab, instance_id), name=f"metadata-{instance_id}")


def serve(lab: Compute, instance_id: str) -> None:
    """Answer until the connection to the machine ends."""
    try:
        connection = lab.hardware.metadata(instance_id)
    except OSError as error:
        LOG.info("%s has no metadata service: %s", instance_id, error)
        return
    with connection:
        waiting = b""
        while True:
            try:
                got = connection.recv(65536)
                waiting += got
                answers, waiting = _answers(lab, instance_id, waiting)
                connection.sendall(answers)
            except OSError:
                return
            if not got:
                return


def _answers(lab: Compute, instance_id: str, waiting: bytes) -> tuple[bytes, bytes]:
    out = []
    # What a guest broke off in the middle is skipped: a request begins where a head can be read.
    while found := _HEAD.search(waiting):
        waiting = waiting[found.end() :]
        lines = [line.partition(":") for line in found[3].decode("latin-1").split("\r\n")]
        headers = {name.strip().lower(): value.strip() for name, _, value in lines}
        request = Request(method=found[1].decode(), path=found[2].decode("latin-1"), headers=headers)
        out.append(answer(lab, instance_id, request))
    return b"".join(out), waiting[-MAX_HEAD:]


def answer(lab: Compute, instance_id: str, request: Request) -> bytes:
    """Answer one request.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-returns.html: 401 without a token or with one
    that is none, 403 where the service is disabled or a token is asked for through a proxy, 400, 404.
    """
    instance = lab.books.find(Instance, instance_id)
    if instance is None or not instance.metadata_enabled:
        return _reply(403)
    if request.path == "/latest/api/token":
        return _give_token(lab, instance, request)
    if request.method not in {"GET", "HEAD"}:
        return _reply(405)
    token = request.headers.get("x-aws-ec2-metadata-token")
    if token is None and instance.metadata_tokens == "required":
        return _reply(401)
    if token is not None and not _is_good(lab, instance, token):
        return _reply(401)
    text = _look(lab, instance, request.path.partition("?")[0])
    if text is None:
        return _reply(404)
    return _reply(200, text, body=request.method == "GET")


def _look(lab: Compute, instance: Instance, path: str) -> str | None:
    steps = [step for step in path.split("/") if step]
    if not steps:
        return "1.0\nlatest"
    if not _VERSION.fullmatch(steps[0]):
        return None
    node: Tree | str = tree(lab, instance)
    below = ""
    for step in steps[1:]:
        if isinstance(node, str) or step not in node:
            return None
        node, below = node[step], step
    if isinstance(node, str):
        return node
    if below == "public-keys":
        return f"0={instance.key_name}"
    return "\n".join(name if isinstance(child, str) else f"{name}/" for name, child in node.items())


def _give_token(lab: Compute, instance: Instance, request: Request) -> bytes:
    if request.method != "PUT":
        return _reply(405)
    if "x-forwarded-for" in request.headers:
        return _reply(403)
    ttl = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
    if not ttl.isdigit() or not 1 <= int(ttl) <= MAX_TTL:
        return _reply(400)
    token = _token(lab, instance, int(time.time()) + int(ttl))
    return _reply(200, token, ttl=int(ttl))


def _token(lab: Compute, instance: Instance, until: int) -> str:
    # Its end is in the token, so that it outlives the lab's process.
    secret = lab.books.fact("metadata-tokens")
    if secret is None:
        secret = secrets.token_bytes(32)
        lab.books.note("metadata-tokens", secret)
    seal = hmac.digest(secret, f"{instance.id}/{until}".encode(), "sha256")
    return base64.urlsafe_b64encode(until.to_bytes(6, "big") + seal[:30]).decode()


def _is_good(lab: Compute, instance: Instance, token: str) -> bool:
    try:
        until = int.from_bytes(base64.urlsafe_b64decode(token.encode())[:6], "big")
    except (binascii.Error, ValueError):
        return False
    return time.time() < until and hmac.compare_digest(token.encode(), _token(lab, instance, until).encode())


def _reply(status: int, text: str = "", *, body: bool = True, ttl: int | None = None) -> bytes:
    content = text.encode("latin-1") if status == 200 else _REASONS[status].encode()
    head = [
        f"HTTP/1.1 {status} {_REASONS[status]}",
        "Content-Type: text/plain",
        f"Content-Length: {len(content)}",
        "Server: EC2ws",
        "Connection: close",
    ]
    if ttl is not None:
        head.append(f"X-Aws-Ec2-Metadata-Token-Ttl-Seconds: {ttl}")
    return "\r\n".join([*head, "", ""]).encode() + (content if body else b"")
