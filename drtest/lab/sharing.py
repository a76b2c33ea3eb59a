"""Who may use a snapshot or an image besides its owner."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from drtest.lab import refusal
from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute
from drtest.lab.lookup import find, own
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Image, Snapshot


def own_tags(thing: Snapshot | Image, call: Call) -> Mapping[str, str]:
    """Show tags to their owner only, as AWS does with what is shared."""
    return thing.tags if thing.owner == call.owner else {}


def owned_by(thing: Snapshot | Image, owners: Sequence[str], call: Call) -> bool:
    """Say whether one of ``owners`` owns a thing; ``self`` is the caller, ``amazon`` owns nothing here."""
    return thing.owner in {call.owner if owner == "self" else owner for owner in owners}


def restorable_by(thing: Snapshot | Image, users: Sequence[str], call: Call) -> bool:
    """Say whether one of ``users`` may use a thing: its owner, who it was shared with, or ``all``."""
    names = {call.owner if user == "self" else user for user in users}
    return bool(names & {thing.owner, *thing.shared_with})


def describe_snapshot_attribute(lab: Compute, call: Call) -> Answer:
    """Show who may make volumes of a snapshot (API_DescribeSnapshotAttribute)."""
    call.only("Attribute", "SnapshotId")
    attribute = call.required("Attribute")
    snapshot = own(find(lab, call, Snapshot, call.required("SnapshotId")), call)
    call.not_dry()
    if attribute == "productCodes":
        return {"SnapshotId": snapshot.id, "ProductCodes": []}
    if attribute != "createVolumePermission":
        raise refusal.bad_value(f"Invalid value '{attribute}' for the attribute.")
    return {"SnapshotId": snapshot.id, "CreateVolumePermissions": permissions_view(snapshot.shared_with)}


def permissions_view(shared_with: Sequence[str]) -> list[dict[str, str]]:
    """Show who a thing is shared with."""
    return [{"Group": "all"} if user == "all" else {"UserId": user} for user in shared_with]


def modify_snapshot_attribute(lab: Compute, call: Call) -> Answer:
    """Share a snapshot, or take that back (API_ModifySnapshotAttribute).

    "Encrypted snapshots and snapshots with AWS Marketplace product codes cannot be made public. Snapshots encrypted
    with your default KMS key cannot be shared with other accounts."
    """
    call.only("Attribute", "CreateVolumePermission", "GroupNames", "OperationType", "SnapshotId", "UserIds")
    with lab.books.open():
        snapshot = own(find(lab, call, Snapshot, call.required("SnapshotId")), call)
        shared = changed_sharing(snapshot.shared_with, call, name="CreateVolumePermission")
        if snapshot.encrypted and "all" in shared:
            raise refusal.bad_value("Encrypted snapshots can't be shared publicly.")
        if snapshot.encrypted and not snapshot.kms_key and set(shared) - set(snapshot.shared_with):
            raise Refusal(
                "OperationNotPermitted",
                "Snapshots encrypted with your default KMS key cannot be shared with other accounts.",
            )
        call.not_dry()
        lab.books.put(replace(snapshot, shared_with=shared))
    return {}


def changed_sharing(shared: Sequence[str], call: Call, *, name: str) -> tuple[str, ...]:
    """Work out who a thing is shared with after a Modify…Attribute call, in its old form or its new one.

    Raises:
        Refusal: ``InvalidParameterValue`` or ``MissingParameter``.
    """
    asked: Mapping[str, Any] = call.params.get(name, {})
    add, remove = list(asked.get("Add", [])), list(asked.get("Remove", []))
    old_form = [{"UserId": u} for u in call.texts("UserIds")]
    old_form += [{"Group": g} for g in call.texts("GroupNames") + call.texts("UserGroups")]
    match call.text("OperationType"):
        case "add":
            add += old_form
        case "remove":
            remove += old_form
        case other if old_form:
            raise refusal.bad_value(f"Invalid value '{other}' for OperationType.")
    if not add and not remove:
        raise refusal.missing(name[0].lower() + name[1:])
    names = dict.fromkeys(shared)
    for entry in add:
        names[_who(entry)] = None
    for entry in remove:
        names.pop(_who(entry), None)
    return tuple(names)


def _who(entry: Mapping[str, str]) -> str:
    if "Group" in entry:
        if entry["Group"] != "all":
            raise refusal.bad_value(f"Invalid value '{entry['Group']}' for a group; 'all' is the only one.")
        return "all"
    user = entry.get("UserId", "")
    if not (user.isdigit() and len(user) == 12):
        raise refusal.bad_value(f"Invalid user id: '{user}'")
    return user
