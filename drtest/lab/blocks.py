"""The EBS direct APIs: the blocks of snapshots, read from their frozen layers."""

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from drtest.errors import EnvironmentFailedError
from drtest.lab import mishaps, refusal
from drtest.lab.books import Books
from drtest.lab.call import Call
from drtest.lab.compute import Compute, now
from drtest.lab.faults import Fault
from drtest.lab.qcow2 import Chain
from drtest.lab.resources import Snapshot
from drtest.lab.sizes import GIB

BLOCK = 512 * 1024
"""API_GetSnapshotBlock: "A block index is a logical index in units of 512 KiB blocks."."""

TOKENS_LAST = timedelta(days=7)
"""https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-faq.html: tokens are valid for seven days."""

Reply = tuple[int, dict[str, str], bytes]


class BlockError(refusal.Refusal):
    """An error of the EBS direct APIs, with its reason.

    Args:
        kind: the exception, such as ``ValidationException``.
        reason: one of its documented reasons.
        message: the sentence.
        status: the HTTP status.
    """

    def __init__(self, kind: str, reason: str, message: str, *, status: int = 400) -> None:
        super().__init__(kind, message, status=status)
        self.reason = reason

    def reply(self) -> Reply:
        """Write it as the protocol of the EBS direct APIs has it."""
        headers = {"Content-Type": "application/json", "x-amzn-ErrorType": self.code}
        return self.status, headers, json.dumps({"Message": self.message, "Reason": self.reason}).encode()


def _invalid(reason: str, message: str) -> BlockError:
    return BlockError("ValidationException", reason, message)


@dataclass(frozen=True, kw_only=True)
class _Request:
    lab: Compute
    owner: str
    region: str
    query: Mapping[str, str]
    secret: bytes

    def number(self, name: str, least: int, most: int, *, default: int) -> int:
        text = self.query.get(name, "")
        if not text:
            return default
        if not text.isdigit() or not least <= int(text) <= most:
            raise _invalid("INVALID_PARAMETER_VALUE", f"{name} has to be between {least} and {most}.")
        return int(text)

    def snapshot(self, key: str) -> Snapshot:
        """Find a snapshot that can be read.

        Raises:
            BlockError: it is none, is another's, or is not completed.
        """
        if not re.fullmatch("snap-[0-9a-f]+", key):
            raise _invalid("INVALID_SNAPSHOT_ID", f"The snapshot ID {key} is malformed.")
        found = self.lab.books.find(Snapshot, key)
        shared = () if found is None else found.shared_with
        if found is None or found.region != self.region:
            raise BlockError(
                "ResourceNotFoundException",
                "SNAPSHOT_NOT_FOUND",
                f"The snapshot {key} does not exist.",
                status=404,
            )
        if found.owner != self.owner and self.owner not in shared and "all" not in shared:
            raise BlockError(
                "AccessDeniedException", "UNAUTHORIZED_ACCOUNT", f"{key} is not shared with you.", status=403
            )
        if found.state != "completed":
            raise _invalid("INVALID_SNAPSHOT_ID", f"The snapshot {key} is {found.state}, not completed.")
        return found


def answer(lab: Compute, *, owner: str, region: str, environ: Mapping[str, Any]) -> Reply:
    """Answer a call of the service ``ebs``: ListSnapshotBlocks, ListChangedBlocks or GetSnapshotBlock.

    The calls that write (StartSnapshot, PutSnapshotBlock, CompleteSnapshot) get ``UnsupportedOperation``.
    """
    path = str(environ.get("PATH_INFO", ""))
    query = dict(urllib.parse.parse_qsl(str(environ.get("QUERY_STRING", ""))))
    secret = _secret(lab.books)
    request = _Request(lab=lab, owner=owner, region=region, query=query, secret=secret)
    try:
        if environ.get("REQUEST_METHOD") == "GET":
            for pattern, (name, action) in ROUTES.items():
                if found := re.fullmatch(pattern, path):
                    call = Call(action=name, owner=owner, region=region, params=query)
                    hits = _begin(lab, call)
                    reply = action(request, *found.groups())
                    mishaps.after(lab, call, {}, hits)
                    return reply
        sentence = "The lab carries out the reading calls of the EBS direct APIs only."
        return BlockError("UnsupportedOperation", "UNSUPPORTED", sentence).reply()
    except BlockError as error:
        return error.reply()
    except EnvironmentFailedError as error:
        return BlockError("InternalServerException", "", error.seen, status=500).reply()


def _begin(lab: Compute, call: Call) -> tuple[Fault, ...]:
    try:
        return mishaps.before(lab, call, service="ebs")
    except refusal.Refusal as refused:
        reason = "ACCOUNT_THROTTLED" if refused.code == "RequestThrottledException" else ""
        raise BlockError(refused.code, reason, refused.message, status=refused.status) from refused


def list_snapshot_blocks(request: _Request, key: str) -> Reply:
    """List the blocks of a snapshot that were ever written (API_ListSnapshotBlocks)."""
    snapshot = request.snapshot(key)

    def written() -> Iterator[dict[str, Any]]:
        with Chain(Path(snapshot.layer)) as chain:
            for index in range(_start(request), _count(snapshot)):
                if any(chain.places(index * BLOCK, BLOCK)):
                    yield {"BlockIndex": index, "BlockToken": _token(request, snapshot, index)}

    return _page(request, snapshot, "Blocks", written())


def list_changed_blocks(request: _Request, second_key: str) -> Reply:
    """List the blocks that differ between two snapshots of one lineage (API_ListChangedBlocks).

    Raises:
        BlockError: ``UNRELATED_SNAPSHOTS``, among others.
    """
    second = request.snapshot(second_key)
    first = request.snapshot(request.query["firstSnapshotId"]) if "firstSnapshotId" in request.query else None
    if first is None:
        raise _invalid("INVALID_PARAMETER_VALUE", "FirstSnapshotId is required.")
    if not {first.id, *first.origin} & {second.id, *second.origin}:
        raise _invalid("UNRELATED_SNAPSHOTS", f"{first.id} and {second.id} are of different lineages.")

    def changed() -> Iterator[dict[str, Any]]:
        with Chain(Path(first.layer)) as old, Chain(Path(second.layer)) as new:
            for index in range(_start(request), max(_count(first), _count(second))):
                before, after = old.places(index * BLOCK, BLOCK), new.places(index * BLOCK, BLOCK)
                if before == after or not (any(before) or any(after)):
                    continue
                if old.read(index * BLOCK, BLOCK) == new.read(index * BLOCK, BLOCK):
                    continue
                block: dict[str, Any] = {"BlockIndex": index}
                # "This value is absent if the first snapshot does not have the changed block".
                if any(before):
                    block["FirstBlockToken"] = _token(request, first, index)
                if any(after):
                    block["SecondBlockToken"] = _token(request, second, index)
                yield block

    return _page(request, second, "ChangedBlocks", changed())


def get_snapshot_block(request: _Request, key: str, index: str) -> Reply:
    """Read a block, 512 KiB, with its SHA-256 (API_GetSnapshotBlock).

    Raises:
        BlockError: ``INVALID_BLOCK_TOKEN`` unless a list gave the token for this very block.
    """
    snapshot, number = request.snapshot(key), int(index)
    if number >= _count(snapshot):
        raise _invalid("INVALID_BLOCK", f"The snapshot {key} has no block {number}.")
    _check_token(request, snapshot, number, request.query.get("blockToken", ""))
    with Chain(Path(snapshot.layer)) as chain:
        data = chain.read(number * BLOCK, BLOCK)
    headers = {
        "Content-Type": "application/octet-stream",
        "x-amz-Data-Length": str(len(data)),
        "x-amz-Checksum": base64.b64encode(hashlib.sha256(data).digest()).decode(),
        "x-amz-Checksum-Algorithm": "SHA256",
    }
    return 200, headers, data


ROUTES: Mapping[str, tuple[str, Callable[..., Reply]]] = {
    "/snapshots/([^/]+)/blocks": ("ListSnapshotBlocks", list_snapshot_blocks),
    "/snapshots/([^/]+)/changedblocks": ("ListChangedBlocks", list_changed_blocks),
    "/snapshots/([^/]+)/blocks/([0-9]+)": ("GetSnapshotBlock", get_snapshot_block),
}
"""The calls that read, by their paths, each with its name; all of them are GET."""


def _count(snapshot: Snapshot) -> int:
    return snapshot.size * GIB // BLOCK


def _start(request: _Request) -> int:
    if "pageToken" not in request.query:
        return request.number("startingBlockIndex", 0, 2**31 - 1, default=0)
    try:
        word, number = base64.b64decode(request.query["pageToken"], validate=True).decode().split(" ")
        if word == "from":
            return int(number)
    except (ValueError, binascii.Error):
        pass
    raise _invalid("INVALID_PAGE_TOKEN", "The page token is not valid.")


def _page(request: _Request, snapshot: Snapshot, name: str, blocks: Iterator[dict[str, Any]]) -> Reply:
    # "If you submit a request with a MaxResult parameter value of under 100 […] the API will return at least 100".
    most = max(100, request.number("maxResults", 1, 10000, default=10000))
    some: list[dict[str, Any]] = []
    following = None
    for block in blocks:
        if len(some) == most:
            following = base64.b64encode(f"from {block['BlockIndex']}".encode()).decode()
            break
        some.append(block)
    document = {
        name: some,
        "ExpiryTime": (now() + TOKENS_LAST).timestamp(),
        "VolumeSize": snapshot.size,
        "BlockSize": BLOCK,
        **({"NextToken": following} if following else {}),
    }
    return 200, {"Content-Type": "application/json"}, json.dumps(document).encode()


def _secret(books: Books) -> bytes:
    kept = books.fact("block-tokens")
    if kept is None:
        kept = secrets.token_bytes(32)
        books.note("block-tokens", kept)
    return kept


def _seal(request: _Request, snapshot: Snapshot, index: int, day: int) -> bytes:
    what = f"{request.owner}/{snapshot.id}/{index}/{day}".encode()
    return day.to_bytes(4, "big") + hmac.digest(request.secret, what, "sha256")[:24]


def _token(request: _Request, snapshot: Snapshot, index: int) -> str:
    return base64.b64encode(_seal(request, snapshot, index, now().toordinal())).decode()


def _check_token(request: _Request, snapshot: Snapshot, index: int, token: str) -> None:
    try:
        given = base64.b64decode(token, validate=True)
    except binascii.Error:
        given = b""
    day = int.from_bytes(given[:4], "big")
    good = hmac.compare_digest(given, _seal(request, snapshot, index, day)) if len(given) == 28 else False
    if not good or now().toordinal() - day > TOKENS_LAST.days:
        raise _invalid("INVALID_BLOCK_TOKEN", f"The block token of block {index} is not valid.")
