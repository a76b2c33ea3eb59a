"""The lab's endpoint: one WSGI application that answers for EC2, and for what moto serves beside it."""

import hmac
import io
import json
import logging
import socket
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from drtest.errors import DrtestError
from drtest.lab import blocks, commands, mishaps, refusal, wire
from drtest.lab.actions import ACTIONS, Action, check_unused, tag_actions
from drtest.lab.call import Call
from drtest.lab.compute import Compute
from drtest.lab.mishaps import LostError
from drtest.lab.neighbours import SERVED, SERVICES, Neighbours
from drtest.lab.refusal import Refusal

LOG = logging.getLogger(__name__)

MAX_BODY = 4 * 1024**2
"""Bytes of a request; the largest that EC2 takes is far below it."""

Reply = tuple[int, dict[str, str], bytes]
Door = Callable[[str, bytes], Mapping[str, Any]]
"""Answers the lab's own requests, which are not AWS's: path and body in, a JSON document out."""

DOOR = "/drtest-lab/"

_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}
_REASONS |= {412: "Precondition Failed", 413: "Content Too Large", 500: "Internal Server Error"}
_REASONS |= {503: "Service Unavailable"}


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks, for which service, where: the credential scope of the signature."""

    access_key: str
    owner: str
    region: str
    service: str


class Endpoint:
    """Answers the calls.

    Signatures are not verified, but the access key has to be one of the lab's: the port is open to every
    user of this machine.

    Args:
        lab: what the calls work on.
        neighbours: moto.
        accounts: the number of the account that each access key belongs to.
        door: answers the lab's own requests.
    """

    def __init__(
        self, lab: Compute, *, neighbours: Neighbours, accounts: Mapping[str, str], door: Door | None = None
    ) -> None:
        self._lab = lab
        self._neighbours = neighbours
        self.accounts = dict(accounts)
        self._actions: dict[str, Action] = {**ACTIONS, **tag_actions(neighbours)}
        self._door = door
        self.last_request = time.monotonic()
        self.under_way = 0
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        request_id = str(uuid.uuid4())
        try:
            body = _body(environ)
            if environ.get("PATH_INFO", "").startswith(DOOR):
                status, headers, answer = self._own(environ, body)
            else:
                status, headers, answer = self._counted(environ, body, request_id)
        except Refusal as refused:
            status, headers, answer = _refused(refused, environ, request_id)
        except LostError:
            raise
        except Exception as error:
            # The last stop: a client gets an error document, never a page of HTML; the log has the trace.
            LOG.exception("a call failed")
            broken = Refusal("InternalError", f"An internal error has occurred: {error!r}", status=500)
            status, headers, answer = _refused(broken, environ, request_id)
        headers = {"x-amzn-RequestId": request_id, **headers, "Content-Length": str(len(answer))}
        start_response(f"{status} {_REASONS.get(status, 'Status')}", list(headers.items()))
        return [answer]

    def _counted(self, environ: dict[str, Any], body: bytes, request_id: str) -> Reply:
        with self._lock:
            self.under_way += 1
        try:
            return self._answer(environ, body, request_id)
        finally:
            with self._lock:
                self.under_way -= 1
                self.last_request = time.monotonic()

    def _caller(self, environ: Mapping[str, Any]) -> Caller:
        scope = (
            str(environ.get("HTTP_AUTHORIZATION", "")).partition("Credential=")[2].split(",")[0].split("/")
        )
        if len(scope) != 5:
            raise Refusal("MissingAuthenticationToken", "Request is missing Authentication Token", status=403)
        access_key, _, region, service, _ = scope
        owner = None
        for known, account in self.accounts.items():
            if hmac.compare_digest(known.encode(), access_key.encode()):
                owner = account
        if owner is None and environ.get("HTTP_X_AMZ_SECURITY_TOKEN"):
            owner = self._neighbours.account_of(access_key)
        if owner is None:
            raise Refusal(
                "AuthFailure", "AWS was not able to validate the provided access credentials", status=401
            )
        return Caller(access_key=access_key, owner=owner, region=region, service=service)

    def _answer(self, environ: dict[str, Any], body: bytes, request_id: str) -> Reply:
        caller = self._caller(environ)
        if caller.service == "ec2":
            return self._ec2(caller, _form(environ, body), request_id)
        if caller.service == "ebs":
            return blocks.answer(self._lab, owner=caller.owner, region=caller.region, environ=environ)
        if caller.service == "ssm" and commands.action_of(environ) in commands.ACTIONS:
            return commands.answer(
                self._lab, owner=caller.owner, region=caller.region, environ=environ, body=body
            )
        if caller.service in SERVICES:
            return self._neighbours.serve(caller.service, caller.owner, environ)
        raise refusal.unsupported(f"the service {caller.service}")

    def _ec2(self, caller: Caller, form: dict[str, str], request_id: str) -> Reply:
        action = form.get("Action", "")
        if not action:
            raise Refusal("MissingAction", "The request is missing an action or a required parameter.")
        if action not in wire.operations():
            raise Refusal("InvalidAction", f"The action {action} is not valid for this web service.")
        if action not in self._actions and action not in SERVED:
            raise refusal.unsupported(f"the action {action}")
        call = Call(action=action, owner=caller.owner, region=caller.region, params=wire.parse(action, form))
        started = time.monotonic()
        try:
            hits = mishaps.before(self._lab, call)
            if action in SERVED:
                check_unused(self._lab, call)
                status, headers, answer = self._neighbours.ask(caller.owner, caller.region, form)
                mishaps.after(self._lab, call, {}, hits)
                _record(action, started)
                return status, headers, answer.replace(b">request-id<", f">{request_id}<".encode(), 1)
            found = self._actions[action](self._lab, call)
            mishaps.after(self._lab, call, found, hits)
            answer = wire.render(action, found, request_id=request_id)
        except Refusal as refused:
            LOG.info("%s: %s (%.0f ms)", action, refused, 1000 * (time.monotonic() - started))
            raise
        except DrtestError as error:
            LOG.exception("%s failed", action)
            raise Refusal("InternalError", error.seen, status=500) from error
        _record(action, started)
        return 200, {"Content-Type": "text/xml;charset=UTF-8"}, answer

    def _own(self, environ: Mapping[str, Any], body: bytes) -> Reply:
        key = str(environ.get("HTTP_AUTHORIZATION", "")).removeprefix("Bearer ")
        known = any(hmac.compare_digest(own.encode(), key.encode()) for own in self.accounts)
        if self._door is None or not known:
            raise Refusal("AuthFailure", "Only the lab's owner may ask.", status=401)
        found = self._door(environ["PATH_INFO"].removeprefix(DOOR), body)
        return 200, {"Content-Type": "application/json"}, json.dumps(found).encode()


def _record(action: str, started: float) -> None:
    """Log a call that was carried out; those that only look are many, and told at another level."""
    level = logging.DEBUG if action.startswith(("Describe", "Get")) else logging.INFO
    LOG.log(level, "%s (%.0f ms)", action, 1000 * (time.monotonic() - started))


def _body(environ: dict[str, Any]) -> bytes:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > MAX_BODY:
        raise Refusal("RequestEntityTooLarge", f"A request has at most {MAX_BODY} bytes.", status=413)
    body: bytes = environ["wsgi.input"].read(length) if length else b""
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _form(environ: Mapping[str, Any], body: bytes) -> dict[str, str]:
    query = environ.get("QUERY_STRING", "")
    try:
        text = "&".join(part for part in (query, body.decode()) if part)
        return dict(urllib.parse.parse_qsl(text, keep_blank_values=True, errors="strict"))
    except (UnicodeDecodeError, ValueError) as error:
        raise Refusal("MalformedQueryString", "The query string contains a syntax error.") from error


def _refused(refused: Refusal, environ: Mapping[str, Any], request_id: str) -> Reply:
    """Write an error in the words of the protocol that the client speaks."""
    kind = str(environ.get("CONTENT_TYPE", ""))
    if "HTTP_X_AMZ_TARGET" in environ or "json" in kind:
        document = json.dumps({"__type": refused.code, "message": refused.message})
        headers = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": refused.code}
        return refused.status, headers, document.encode()
    headers = {"Content-Type": "text/xml;charset=UTF-8", "x-amzn-ErrorType": refused.code}
    return refused.status, headers, refused.document(request_id)


class _Handler(WSGIRequestHandler):
    """HTTP/1.1 with connections that are kept: werkzeug's own handler closes each after one answer.

    It can do so as the endpoint reads every request to its end.
    """

    protocol_version = "HTTP/1.1"
    # Head and body go in two writes: with Nagle's algorithm an answer would wait for the client's ACK, 40 ms.
    disable_nagle_algorithm = True
    timeout = 120

    def run_wsgi(self) -> None:
        """Answer one request."""
        answer: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]]) -> None:
            answer[:] = [status, headers]

        try:
            body = b"".join(self.server.app(self.make_environ(), start_response))  # type: ignore[arg-type]
        except LostError:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, headers = answer
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        for name, value in headers:
            self.send_header(name, value)
        if "Transfer-Encoding" in self.headers or int(code) == 413:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing: the endpoint logs the actions, and secrets stay out of the log."""

    def log_error(self, format: str, *args: Any) -> None:
        """Log what goes wrong below HTTP, such as a connection that timed out."""
        LOG.debug(format, *args)


def serve(application: Endpoint, *, port: int = 0) -> BaseWSGIServer:
    """Make a server on the loopback interface, a thread a connection.

    Args:
        application: answers the requests.
        port: 0 for any free one; the server's ``port`` says which.

    Returns:
        The server, listening: ``serve_forever`` runs it, ``shutdown`` ends that.
    """
    return make_server("127.0.0.1", port, application, threaded=True, request_handler=_Handler)
