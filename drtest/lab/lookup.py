"""Finding resources by the ids that a call gives, and the errors for ids that are none."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from drtest.lab import refusal
from drtest.lab.books import R
from drtest.lab.call import Call
from drtest.lab.compute import Compute
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Image, Instance, Resource, RootTask, Snapshot, Token, Volume


@dataclass(frozen=True, kw_only=True)
class _Words:
    prefix: str
    malformed: str
    not_found: str
    one: str
    parameter: str


_WORDS: dict[type[Resource], _Words] = {
    Instance: _Words(
        prefix="i",
        malformed="InvalidInstanceID.Malformed",
        not_found="InvalidInstanceID.NotFound",
        one="The instance ID '{}' does not exist",
        parameter="instanceId",
    ),
    Volume: _Words(
        prefix="vol",
        malformed="InvalidVolumeID.Malformed",
        not_found="InvalidVolume.NotFound",
        one="The volume '{}' does not exist.",
        parameter="volumeId",
    ),
    Snapshot: _Words(
        prefix="snap",
        malformed="InvalidSnapshotID.Malformed",
        not_found="InvalidSnapshot.NotFound",
        one="The snapshot '{}' does not exist.",
        parameter="snapshotId",
    ),
    Image: _Words(
        prefix="ami",
        malformed="InvalidAMIID.Malformed",
        not_found="InvalidAMIID.NotFound",
        one="The image id '[{}]' does not exist",
        parameter="imageId",
    ),
    RootTask: _Words(
        prefix="replacevol",
        malformed="InvalidReplaceRootVolumeTaskId.Malformed",
        not_found="InvalidReplaceRootVolumeTaskId.NotFound",
        one="The replace root volume task '{}' does not exist",
        parameter="replaceRootVolumeTaskId",
    ),
}


def check_id(kind: type[Resource], key: str) -> None:
    """Tell an id that no resource can have.

    Raises:
        Refusal: ``InvalidParameterValue`` where the prefix is another one and EC2 says so, else ``….Malformed``.
    """
    words = _WORDS[kind]
    if re.fullmatch(rf"{words.prefix}-([0-9a-f]{{8}}|[0-9a-f]{{17}})", key):
        return
    if kind in {Volume, Snapshot} and not key.startswith(f"{words.prefix}-"):
        raise refusal.bad_value(
            f"Value ({key}) for parameter {words.parameter} is invalid. Expected: '{words.prefix}-...'."
        )
    raise Refusal(words.malformed, f'Invalid id: "{key}" (expecting "{words.prefix}-...")')


def not_found(kind: type[Resource], keys: Iterable[str]) -> Refusal:
    """Say that there are no such resources."""
    words, names = _WORDS[kind], ", ".join(keys)
    sentence = words.one.format(names)
    if kind is Instance and "," in names:
        sentence = f"The instance IDs '{names}' do not exist"
    return Refusal(words.not_found, sentence)


def may_use(thing: Resource, call: Call) -> bool:
    """Say whether the caller can see a resource: its own, or one that was shared with it, in this region."""
    if thing.region != call.region:
        return False
    if thing.owner == call.owner:
        return True
    shared = thing.shared_with if isinstance(thing, Snapshot | Image) else ()
    return "all" in shared or call.owner in shared


def find(lab: Compute, call: Call, kind: type[R], key: str) -> R:
    """Find a resource that the caller may use.

    Raises:
        Refusal: the id is malformed or nothing has it.
    """
    check_id(kind, key)
    thing = lab.books.find(kind, key)
    if thing is None or not may_use(thing, call) or lab.unseen(thing, call):
        raise not_found(kind, [key])
    return thing


def find_all(lab: Compute, call: Call, kind: type[R], keys: Iterable[str]) -> list[R]:
    """Find several resources, or say which of them there are not.

    Raises:
        Refusal: an id is malformed or nothing has it.
    """
    wanted = list(dict.fromkeys(keys))
    for key in wanted:
        check_id(kind, key)
    found, lost = [], []
    for key in wanted:
        thing = lab.books.find(kind, key)
        if thing is None or not may_use(thing, call) or lab.unseen(thing, call):
            lost.append(key)
        else:
            found.append(thing)
    if lost:
        raise not_found(kind, lost)
    return found


def own(thing: R, call: Call) -> R:
    """Let only the owner change a resource.

    Raises:
        Refusal: ``AuthFailure``.
    """
    if thing.owner != call.owner:
        raise Refusal("AuthFailure", f"Not authorized for the resource: {thing.id}", status=403)
    return thing


def made_before(lab: Compute, call: Call) -> tuple[str, ...]:
    """Say what an earlier call with the same ClientToken made, nothing if there was none.

    Raises:
        Refusal: ``IdempotentParameterMismatch``: the parameters were others
            (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html).
    """
    token = call.text("ClientToken")
    if not token:
        return ()
    if len(token) > 64:
        raise refusal.bad_value("Invalid value for parameter clientToken: at most 64 characters are allowed.")
    before = lab.books.token(_token_key(call))
    if before is None:
        return ()
    if before.parameters != call.fingerprint():
        raise Refusal(
            "IdempotentParameterMismatch",
            "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
        )
    return before.made


def remember(lab: Compute, call: Call, made: Iterable[str]) -> None:
    """Keep what a call made by its ClientToken. Only while the books are open."""
    if call.text("ClientToken"):
        lab.books.put(Token(key=_token_key(call), parameters=call.fingerprint(), made=tuple(made)))


def _token_key(call: Call) -> str:
    return f"{call.owner}/{call.region}/{call.action}/{call.text('ClientToken')}"
