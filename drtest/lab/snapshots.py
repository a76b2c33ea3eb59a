"""CreateSnapshot, CreateSnapshots, DescribeSnapshots, DeleteSnapshot: real bytes, frozen under a running machine."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from drtest.errors import DrtestError
from drtest.lab import locks, refusal
from drtest.lab.call import MAX_TAGS, Answer, Call
from drtest.lab.compute import Compute, new_id, now
from drtest.lab.filters import Field, page, select
from drtest.lab.instances import tag_view
from drtest.lab.lookup import check_id, find, find_all, may_use, own
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Image, Instance, Snapshot, Volume
from drtest.lab.sharing import own_tags, owned_by, restorable_by
from drtest.lab.space import check_room

LOG = logging.getLogger(__name__)

MAX_PENDING = 5
"""https://docs.aws.amazon.com/ebs/latest/userguide/ebs-creating-snapshot.html: pending snapshots of one volume."""


def create_snapshot(lab: Compute, call: Call) -> Answer:
    """Take a snapshot of a volume (API_CreateSnapshot).

    "The point-in-time snapshot is created immediately": the bytes are frozen before the call returns, the
    rest of ``pending`` goes on behind it.

    Raises:
        Refusal: ``InvalidVolume.NotFound``, ``IncorrectState``, ``ConcurrentSnapshotLimitExceeded``.
    """
    call.only("Description", "TagSpecifications", "VolumeId", "Location")
    volume = find(lab, call, Volume, call.required("VolumeId"))
    tags = call.tags_of("snapshot")
    check_capturable(lab, [volume])
    call.not_dry()
    (snapshot,) = capture(lab, [volume.id], description=call.text("Description"), tags={volume.id: tags})
    return {key: value for key, value in snapshot_view(snapshot).items() if key not in _NOT_AT_CREATION}


_NOT_AT_CREATION = {"StateMessage", "StorageTier", "CompletionTime"}


def create_snapshots(lab: Compute, call: Call) -> Answer:
    """Take crash-consistent snapshots of an instance's volumes, all of one moment (API_CreateSnapshots).

    Raises:
        Refusal: as `create_snapshot`, and ``InvalidParameterValue`` for an excluded volume that is the root
            or is not attached.
    """
    call.only("CopyTagsFromSource", "Description", "InstanceSpecification", "TagSpecifications", "Location")
    asked = call.params.get("InstanceSpecification", {})
    if not asked.get("InstanceId"):
        raise refusal.missing("instanceSpecification.instanceId")
    copy = call.text("CopyTagsFromSource")
    if copy not in {"", "volume"}:
        raise refusal.bad_value(f"Invalid value '{copy}' for CopyTagsFromSource.")
    instance = find(lab, call, Instance, asked["InstanceId"])
    if instance.state in {"shutting-down", "terminated"}:
        raise Refusal("IncorrectState", f"The instance '{instance.id}' is '{instance.state}'.")
    volumes = _chosen(lab, instance, asked)
    check_capturable(lab, volumes)
    given = call.tags_of("snapshot")
    tags = {v.id: {**(v.tags if copy else {}), **given} for v in volumes}
    if any(len(one) > MAX_TAGS for one in tags.values()):
        raise Refusal("TagLimitExceeded", f"A resource can have up to {MAX_TAGS} tags.")
    call.not_dry()
    taken = capture(lab, [v.id for v in volumes], description=call.text("Description"), tags=tags)
    shown = (
        "Description",
        "Encrypted",
        "VolumeId",
        "State",
        "VolumeSize",
        "StartTime",
        "Progress",
        "OwnerId",
    )
    names = {*shown, "SnapshotId", "Tags"}
    return {
        "Snapshots": [
            {key: value for key, value in snapshot_view(snapshot).items() if key in names}
            for snapshot in taken
        ]
    }


def _chosen(lab: Compute, instance: Instance, asked: Mapping[str, Any]) -> list[Volume]:
    volumes = lab.books.attached(instance.id)
    root = {v.id for v in volumes if v.attachment and v.attachment.device == instance.root_device}
    excluded = set(asked.get("ExcludeDataVolumeIds", []))
    for key in excluded:
        check_id(Volume, key)
        if key in root:
            raise refusal.bad_value(
                f"The volume '{key}' is the root volume. To exclude the root volume, use ExcludeBootVolume."
            )
        if key not in {v.id for v in volumes}:
            raise refusal.bad_value(f"The volume '{key}' is not attached to the instance '{instance.id}'.")
    if asked.get("ExcludeBootVolume"):
        excluded |= root
    chosen = [v for v in volumes if v.id not in excluded]
    if not chosen:
        raise refusal.bad_value("No volume is left to take a snapshot of.")
    return chosen


def check_capturable(lab: Compute, volumes: Sequence[Volume]) -> None:
    """Check that snapshots of volumes can be taken.

    Raises:
        Refusal: ``IncorrectState`` or ``ConcurrentSnapshotLimitExceeded``.
    """
    pending = [s.volume for s in lab.books.all(Snapshot) if s.state == "pending"]
    for volume in volumes:
        if volume.state not in {"available", "in-use"}:
            raise Refusal("IncorrectState", f"The volume '{volume.id}' is '{volume.state}'.")
        if pending.count(volume.id) >= MAX_PENDING:
            raise Refusal(
                "ConcurrentSnapshotLimitExceeded",
                f"Maximum allowed in-progress snapshots for a single volume exceeded: {volume.id}",
            )


def capture(
    lab: Compute, volume_ids: Sequence[str], *, description: str, tags: Mapping[str, Mapping[str, str]]
) -> list[Snapshot]:
    """Freeze volumes, all at one moment, and enter the snapshots.

    Args:
        lab: where.
        volume_ids: whose bytes; all free, or all of one instance.
        description: what the snapshots say of themselves.
        tags: by volume.

    Returns:
        The snapshots, ``pending``, in the order of the volumes.

    Raises:
        Refusal: a volume is gone meanwhile, or the bytes could not be frozen; nothing is left then.
    """
    with lab.lanes(*volume_ids):
        volumes = [lab.books.find(Volume, key) for key in volume_ids]
        if any(volume is None for volume in volumes):
            raise Refusal("InvalidVolume.NotFound", "The volume was deleted meanwhile.")
        there = [volume for volume in volumes if volume is not None]
        check_capturable(lab, there)
        check_room(lab)
        time = now()
        try:
            layers = _freeze(lab, there)
        except DrtestError as error:
            LOG.exception("no snapshot of %s", ", ".join(volume_ids))
            raise Refusal(
                "InternalError", f"The snapshot could not be taken: {error.seen}", status=500
            ) from error
        taken = []
        with lab.books.open():
            for volume in there:
                snapshot = Snapshot(
                    id=new_id("snap"),
                    owner=volume.owner,
                    region=volume.region,
                    number=lab.books.next_number(),
                    created=time,
                    tags=dict(tags.get(volume.id, {})),
                    state="pending",
                    volume=volume.id,
                    size=volume.size,
                    description=description,
                    encrypted=volume.encrypted,
                    kms_key=volume.kms_key,
                    layer=layers[volume.id],
                    os=volume.os,
                    lineage=(volume.id, *volume.lineage),
                )
                lab.books.put(snapshot)
                taken.append(snapshot)
    for snapshot in taken:
        complete_later(lab, snapshot)
    return taken


def complete_later(lab: Compute, snapshot: Snapshot) -> None:
    """Let a pending snapshot come to be completed, behind the call."""
    half = lab.timings.snapshot / 2
    lab.work.later(half, lambda: progress(lab, snapshot.id, 50))
    lab.work.later(2 * half, lambda: finish_soon(lab, snapshot))


def finish_soon(lab: Compute, snapshot: Snapshot) -> None:
    """Complete a pending snapshot, behind the call, as soon as all of its bytes are there."""
    lab.work.soon(lambda: _finish(lab, snapshot), name=f"finish-{snapshot.id}")


def _finish(lab: Compute, snapshot: Snapshot) -> None:
    try:
        lab.hardware.finish(snapshot.layer)
    except DrtestError as error:
        LOG.exception("%s can't be completed", snapshot.id)
        with lab.books.open():
            pending = lab.books.find(Snapshot, snapshot.id)
            if pending is not None and pending.state == "pending":
                lab.books.put(replace(pending, state="error", message=error.seen))
        return
    progress(lab, snapshot.id, 100)


def _freeze(lab: Compute, volumes: Sequence[Volume]) -> dict[str, str]:
    ids = [volume.id for volume in volumes]
    holder = next((v.attachment.instance for v in volumes if v.attachment), None)
    plugged = lab.hardware.plugged(holder) if holder is not None else frozenset()
    live, lying = [key for key in ids if key in plugged], [key for key in ids if key not in plugged]
    layers = {}
    if live and holder is not None:
        try:
            layers = lab.hardware.freeze(live, instance=holder)
        except DrtestError:
            if lab.hardware.running(holder):
                raise
            # The machine ended in this very moment: its disks lie still now.
            lying = ids
    return layers | (lab.hardware.freeze(lying, instance=None) if lying else {})


def progress(lab: Compute, snapshot_id: str, percent: int) -> None:
    """Bring a pending snapshot forward; at 100 % it is completed."""
    with lab.books.open():
        snapshot = lab.books.find(Snapshot, snapshot_id)
        if snapshot is None or snapshot.state != "pending":
            return
        done = percent == 100
        lab.books.put(
            replace(
                snapshot,
                progress=percent,
                state="completed" if done else "pending",
                completed=now() if done else None,
                lock=locks.started(snapshot.lock, at=now()) if done and snapshot.lock else snapshot.lock,
            )
        )


def delete_snapshot(lab: Compute, call: Call) -> Answer:
    """Delete a snapshot (API_DeleteSnapshot); volumes that were made from it keep their bytes.

    Raises:
        Refusal: ``InvalidSnapshot.InUse``: "You cannot delete a snapshot of the root device of an EBS volume
            used by a registered AMI."; ``OperationNotPermitted`` for one that is locked.
    """
    call.only("SnapshotId")
    with lab.books.open():
        snapshot = own(find(lab, call, Snapshot, call.required("SnapshotId")), call)
        locks.check_not_locked(snapshot)
        for image in lab.books.all(Image):
            if any(device.snapshot == snapshot.id for device in image.devices):
                raise Refusal(
                    "InvalidSnapshot.InUse", f"The snapshot {snapshot.id} is currently in use by {image.id}"
                )
        call.not_dry()
        lab.books.drop(snapshot)
    if not snapshot.kept:
        release(lab, snapshot.layer)
    return {}


def release(lab: Compute, layer: str) -> None:
    """Let go of a layer, behind the call, if nothing else in the books has it."""
    if any(other.layer == layer for other in lab.books.all(Snapshot)):
        return
    if any(v.layer == layer and v.state == "creating" for v in lab.books.all(Volume)):
        # A volume that was asked for before still gets its bytes, as on AWS.
        lab.work.later(0.5, lambda: release(lab, layer))
        return
    lab.work.soon(lambda: lab.hardware.remove_layer(layer), name="release-layer")


def snapshot_view(snapshot: Snapshot) -> dict[str, Any]:
    """Show a snapshot as API_Snapshot has it."""
    return {
        "SnapshotId": snapshot.id,
        "VolumeId": snapshot.volume,
        "VolumeSize": snapshot.size,
        "State": snapshot.state,
        "StateMessage": snapshot.message or None,
        "Progress": f"{snapshot.progress}%",
        "StartTime": snapshot.created,
        "CompletionTime": snapshot.completed,
        "Description": snapshot.description,
        "OwnerId": snapshot.owner,
        "Encrypted": snapshot.encrypted,
        "KmsKeyId": snapshot.kms_key or None,
        "StorageTier": "standard",
        "Tags": tag_view(snapshot.tags),
    }


FIELDS: Mapping[str, Field[Snapshot]] = {
    "description": lambda s: s.description,
    "encrypted": lambda s: s.encrypted,
    "owner-alias": lambda _: None,
    "owner-id": lambda s: s.owner,
    "progress": lambda s: f"{s.progress}%",
    "snapshot-id": lambda s: s.id,
    "start-time": lambda s: s.created,
    "status": lambda s: s.state,
    "storage-tier": lambda _: "standard",
    "volume-id": lambda s: s.volume,
    "volume-size": lambda s: s.size,
}
"""What the filters of API_DescribeSnapshots look at."""


def describe_snapshots(lab: Compute, call: Call) -> Answer:
    """Show snapshots that the caller can make volumes of (API_DescribeSnapshots)."""
    call.only("Filters", "MaxResults", "NextToken", "OwnerIds", "RestorableByUserIds", "SnapshotIds")
    ids = call.texts("SnapshotIds")
    if ids:
        found = find_all(lab, call, Snapshot, ids)
    else:
        found = [s for s in lab.books.all(Snapshot) if may_use(s, call) and not lab.unseen(s, call)]
    call.not_dry()
    if owners := call.texts("OwnerIds"):
        found = [snapshot for snapshot in found if owned_by(snapshot, owners, call)]
    if users := call.texts("RestorableByUserIds"):
        found = [snapshot for snapshot in found if restorable_by(snapshot, users, call)]
    chosen = select(found, call.params.get("Filters", []), fields=FIELDS, tags=lambda s: own_tags(s, call))
    some, token = page(sorted(chosen, key=lambda s: s.number), call, ids="snapshotId", given=ids)
    views = []
    for snapshot in some:
        view = snapshot_view(snapshot)
        views.append(view if snapshot.owner == call.owner else {**view, "Tags": None})
    return {"Snapshots": views, "NextToken": token}
