"""CreateVolume, DeleteVolume, DescribeVolumes, and the status and attribute of volumes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from drtest.errors import DrtestError
from drtest.lab import lifecycle, refusal
from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute, new_id, now
from drtest.lab.filters import Field, page, select
from drtest.lab.instances import tag_view
from drtest.lab.lookup import find, find_all, made_before, remember
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Attachment, Snapshot, Volume
from drtest.lab.sizes import check_size
from drtest.lab.space import check_room

HONOURED = (
    "AvailabilityZone",
    "AvailabilityZoneId",
    "ClientToken",
    "Encrypted",
    "Iops",
    "KmsKeyId",
    "Size",
    "SnapshotId",
    "TagSpecifications",
    "Throughput",
    "VolumeInitializationRate",
    "VolumeType",
)


def create_volume(lab: Compute, call: Call) -> Answer:
    """Make a volume, empty or from a snapshot (API_CreateVolume).

    The answer shows ``creating``; from a snapshot it is an overlay, made behind the call without a copy.

    Raises:
        Refusal: ``InvalidZone.NotFound``, ``InvalidSnapshot.NotFound``, ``IncorrectState`` for a snapshot that
            is not completed, ``MissingParameter``, ``InvalidParameterValue`` for a size.
    """
    call.only(*HONOURED)
    with lab.books.open():
        if before := made_before(lab, call):
            return volume_view(find(lab, call, Volume, before[0]))
        zone = _zone(lab, call)
        snapshot = find(lab, call, Snapshot, call.text("SnapshotId")) if call.text("SnapshotId") else None
        size = call.number("Size")
        if snapshot is not None:
            if snapshot.state != "completed":
                raise Refusal("IncorrectState", f"Snapshot is in invalid state - {snapshot.state}")
            size = snapshot.size if size is None else size
            if size < snapshot.size:
                raise refusal.bad_value(
                    f"Invalid value '{size}' for size. The size of a volume can't be smaller than the size of "
                    f"the snapshot ({snapshot.size} GiB)."
                )
        if size is None:
            raise Refusal("MissingParameter", "The request must contain the parameter size/snapshot")
        kind = call.text("VolumeType", "gp2")
        check_size(size, kind=kind, iops=call.number("Iops"))
        encrypted = call.flag("Encrypted") or (snapshot is not None and snapshot.encrypted)
        if call.text("KmsKeyId") and not encrypted:
            raise Refusal(
                "InvalidParameterDependency",
                "The parameter KmsKeyId requires the parameter Encrypted to be set.",
            )
        volume = Volume(
            id=new_id("vol"),
            owner=call.owner,
            region=call.region,
            number=lab.books.next_number(),
            created=now(),
            tags=call.tags_of("volume"),
            state="creating",
            size=size,
            zone=zone,
            snapshot=snapshot.id if snapshot else "",
            layer=snapshot.layer if snapshot else "",
            type=kind,
            iops=call.number("Iops"),
            throughput=call.number("Throughput"),
            encrypted=encrypted,
            kms_key=call.text("KmsKeyId") or (snapshot.kms_key if snapshot else ""),
            client_token=call.text("ClientToken"),
            os=snapshot.os if snapshot else "",
            lineage=snapshot.origin if snapshot else (),
        )
        call.not_dry()
        check_room(lab)
        lab.books.put(volume)
        remember(lab, call, [volume.id])
    lab.work.soon(lambda: make(lab, volume.id), name=f"make-{volume.id}")
    return volume_view(volume)


def _zone(lab: Compute, call: Call) -> str:
    name, zone_id = call.text("AvailabilityZone"), call.text("AvailabilityZoneId")
    if not name and not zone_id:
        raise refusal.missing("zone")
    if name and zone_id:
        raise Refusal(
            "InvalidParameterCombination",
            "The parameters AvailabilityZone and AvailabilityZoneId may not be specified together.",
        )
    return lab.network.zone(call, name=name, zone_id=zone_id)


def make(lab: Compute, volume_id: str) -> None:
    """Make the disk of a volume that is `creating`; called behind the call."""
    state = "available"
    with lab.lanes(volume_id):
        volume = lab.books.find(Volume, volume_id)
        if volume is None:
            return
        try:
            lifecycle.make_disk(lab, volume)
        except (DrtestError, OSError):
            lifecycle.LOG.exception("the disk of %s could not be made", volume_id)
            state = "error"
    lab.work.later(lab.timings.volume, lambda: _made(lab, volume_id, state))


def _made(lab: Compute, volume_id: str, state: str) -> None:
    with lab.books.open():
        volume = lab.books.find(Volume, volume_id)
        if volume is not None and volume.state == "creating":
            lab.books.put(replace(volume, state=state))


def delete_volume(lab: Compute, call: Call) -> Answer:
    """Delete an available volume (API_DeleteVolume): "The volume must be in the available state".

    Raises:
        Refusal: ``VolumeInUse`` if it is attached, ``IncorrectState`` if it is still being made.
    """
    call.only("VolumeId")
    with lab.books.open():
        volume = find(lab, call, Volume, call.required("VolumeId"))
        if volume.attachment is not None:
            raise Refusal(
                "VolumeInUse", f"Volume {volume.id} is currently attached to {volume.attachment.instance}"
            )
        if volume.state not in {"available", "error"}:
            raise Refusal("IncorrectState", f"The volume '{volume.id}' is '{volume.state}'.")
        call.not_dry()
        lab.books.put(replace(volume, state="deleting", modification=None))
    lab.work.soon(lambda: delete(lab, volume.id), name=f"delete-{volume.id}")
    return {}


def delete(lab: Compute, volume_id: str) -> None:
    """Remove the disk of a volume that is `deleting`, and the volume; called behind the call."""
    with lab.lanes(volume_id):
        lab.hardware.remove(volume_id)
        with lab.books.open():
            volume = lab.books.find(Volume, volume_id)
            if volume is not None:
                lab.books.drop(volume)


def _attachment(name: str) -> Field[Volume]:
    return lambda volume: getattr(volume.attachment, name) if volume.attachment else None


FIELDS: Mapping[str, Field[Volume]] = {
    "attachment.attach-time": _attachment("at"),
    "attachment.delete-on-termination": _attachment("delete_on_termination"),
    "attachment.device": _attachment("device"),
    "attachment.instance-id": _attachment("instance"),
    "attachment.status": _attachment("state"),
    "availability-zone": lambda v: v.zone,
    "create-time": lambda v: v.created,
    "encrypted": lambda v: v.encrypted,
    "fast-restored": lambda _: False,
    "multi-attach-enabled": lambda _: False,
    "size": lambda v: v.size,
    "snapshot-id": lambda v: v.snapshot or None,
    "status": lambda v: v.state,
    "volume-id": lambda v: v.id,
    "volume-type": lambda v: v.type,
}
"""What the filters of API_DescribeVolumes look at."""


def describe_volumes(lab: Compute, call: Call) -> Answer:
    """Show volumes (API_DescribeVolumes)."""
    call.only("Filters", "MaxResults", "NextToken", "VolumeIds")
    ids = call.texts("VolumeIds")
    found = find_all(lab, call, Volume, ids) if ids else lab.visible(Volume, call)
    call.not_dry()
    chosen = select(found, call.params.get("Filters", []), fields=FIELDS, tags=lambda v: v.tags)
    some, token = page(sorted(chosen, key=lambda v: v.number), call, ids="volumeId", given=ids)
    return {"Volumes": [volume_view(volume) for volume in some], "NextToken": token}


def attachment_view(volume: Volume, attachment: Attachment) -> dict[str, Any]:
    """Show an attachment as API_VolumeAttachment has it."""
    return {
        "VolumeId": volume.id,
        "InstanceId": attachment.instance,
        "Device": attachment.device,
        "State": attachment.state,
        "AttachTime": attachment.at,
        "DeleteOnTermination": attachment.delete_on_termination,
    }


def volume_view(volume: Volume) -> dict[str, Any]:
    """Show a volume as API_Volume has it."""
    attachment = volume.attachment
    return {
        "VolumeId": volume.id,
        "Size": volume.size,
        "SnapshotId": volume.snapshot,
        "AvailabilityZone": volume.zone,
        "State": volume.state,
        "CreateTime": volume.created,
        "VolumeType": volume.type,
        "Iops": shown_iops(volume.type, volume.size, volume.iops),
        "Throughput": shown_throughput(volume.type, volume.throughput),
        "Encrypted": volume.encrypted,
        "KmsKeyId": volume.kms_key or None,
        "MultiAttachEnabled": False,
        "Attachments": [attachment_view(volume, attachment)] if attachment else [],
        "Tags": tag_view(volume.tags),
    }


def shown_iops(kind: str, size: int, iops: int | None) -> int | None:
    """Say the IOPS of a volume: those that were asked for, else its type's.

    API_Volume: gp2 has 3 for each GiB, from 100 to 16,000; gp3 begins with 3,000.
    """
    return iops if iops is not None else {"gp2": min(16000, max(100, 3 * size)), "gp3": 3000}.get(kind)


def shown_throughput(kind: str, throughput: int | None) -> int | None:
    """Say the throughput of a volume in MiB/s: only gp3 has one, 125 at least."""
    return (throughput or 125) if kind == "gp3" else None


STATUS_FIELDS: Mapping[str, Field[Volume]] = {
    "availability-zone": lambda v: v.zone,
    "volume-status.details-name": lambda _: "io-enabled",
    "volume-status.details-status": lambda _: "passed",
    "volume-status.status": lambda _: "ok",
}


def describe_volume_status(lab: Compute, call: Call) -> Answer:
    """Show the status checks of volumes (API_DescribeVolumeStatus); from a snapshot they need no initialising."""
    call.only("Filters", "MaxResults", "NextToken", "VolumeIds")
    ids = call.texts("VolumeIds")
    found = find_all(lab, call, Volume, ids) if ids else lab.visible(Volume, call)
    call.not_dry()
    chosen = select(found, call.params.get("Filters", []), fields=STATUS_FIELDS, tags=lambda v: v.tags)
    some, token = page(sorted(chosen, key=lambda v: v.number), call, ids="volumeId", given=ids)
    return {
        "VolumeStatuses": [
            {
                "VolumeId": volume.id,
                "AvailabilityZone": volume.zone,
                "Actions": [],
                "Events": [],
                "VolumeStatus": {
                    "Status": "ok" if volume.state != "error" else "impaired",
                    "Details": [{"Name": "io-enabled", "Status": "passed"}],
                },
                "AttachmentStatuses": [
                    {"InstanceId": volume.attachment.instance, "IoPerformance": "not-applicable"}
                ]
                if volume.attachment
                else [],
            }
            for volume in some
        ],
        "NextToken": token,
    }


def describe_volume_attribute(lab: Compute, call: Call) -> Answer:
    """Show one attribute of a volume (API_DescribeVolumeAttribute): ``autoEnableIO`` or ``productCodes``."""
    call.only("Attribute", "VolumeId")
    attribute = call.required("Attribute")
    volume = find(lab, call, Volume, call.required("VolumeId"))
    call.not_dry()
    if attribute == "autoEnableIO":
        return {"VolumeId": volume.id, "AutoEnableIO": {"Value": volume.auto_enable_io}}
    if attribute != "productCodes":
        raise refusal.bad_value(f"Invalid value '{attribute}' for the attribute.")
    return {"VolumeId": volume.id, "ProductCodes": []}


def modify_volume_attribute(lab: Compute, call: Call) -> Answer:
    """Say whether I/O goes on after an event that puts the data in doubt (API_ModifyVolumeAttribute)."""
    call.only("AutoEnableIO", "VolumeId")
    with lab.books.open():
        volume = find(lab, call, Volume, call.required("VolumeId"))
        if "Value" not in call.params.get("AutoEnableIO", {}):
            raise refusal.missing("autoEnableIO")
        call.not_dry()
        lab.books.put(replace(volume, auto_enable_io=bool(call.params["AutoEnableIO"]["Value"])))
    return {}
