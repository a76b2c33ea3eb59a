"""CreateReplaceRootVolumeTask and DescribeReplaceRootVolumeTasks: another root under a running instance."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from drtest.lab import power, refusal, volumes, wire
from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute, new_id, now
from drtest.lab.filters import Field, page, select
from drtest.lab.instances import tag_view
from drtest.lab.lookup import find, find_all, made_before, remember
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Attachment, Image, Instance, RootTask, Snapshot, Volume

LOG = logging.getLogger(__name__)

LOOK_EVERY = 0.1
"""Seconds between two looks at a reboot that is under way."""


def create_replace_root_volume_task(lab: Compute, call: Call) -> Answer:
    """Replace the root of a running instance, by a reboot (API_CreateReplaceRootVolumeTask).

    The new root begins as "a snapshot that you previously created from the original root volume", as an image,
    as the volume that is named, or else as the instance's root began.

    Raises:
        Refusal: ``IncorrectInstanceState``, ``InvalidParameterValue`` for a snapshot of another lineage,
            ``InvalidParameterCombination``, ``IncorrectState``, ``InvalidVolume.ZoneMismatch``.
    """
    call.only(
        "ClientToken",
        "DeleteReplacedRootVolume",
        "ImageId",
        "InstanceId",
        "SnapshotId",
        "TagSpecifications",
        "VolumeId",
        "VolumeInitializationRate",
    )
    with lab.books.open():
        if before := made_before(lab, call):
            return {"ReplaceRootVolumeTask": _view(find(lab, call, RootTask, before[0]))}
        instance = find(lab, call, Instance, call.required("InstanceId"))
        if instance.state != "running" or instance.rebooting:
            raise Refusal(
                "IncorrectInstanceState",
                f"The instance '{instance.id}' is not in the 'running' state, or is rebooting.",
            )
        if any(t.instance == instance.id and t.state in UNDER_WAY for t in lab.books.all(RootTask)):
            raise Refusal(
                "IncorrectInstanceState", f"The root volume of '{instance.id}' is being replaced already."
            )
        root = next(
            (
                v
                for v in lab.books.attached(instance.id)
                if v.attachment and v.attachment.device == instance.root_device
            ),
            None,
        )
        if root is None:
            raise Refusal("IncorrectState", f"The instance '{instance.id}' has no root volume attached.")
        if sum(bool(call.text(name)) for name in ("SnapshotId", "ImageId", "VolumeId")) > 1:
            raise Refusal(
                "InvalidParameterCombination", "Specify only one of SnapshotId, ImageId and VolumeId."
            )
        task_id = new_id("replacevol")
        made = not call.text("VolumeId")
        new, snapshot = _made(lab, call, instance, root) if made else (_named(lab, call, instance, root), "")
        task = RootTask(
            id=task_id,
            owner=call.owner,
            region=call.region,
            number=lab.books.next_number(),
            created=now(),
            tags=call.tags_of("replace-root-volume-task"),
            state="pending",
            instance=instance.id,
            replacement=new.id,
            replaced=root.id,
            made=made,
            delete_replaced=call.flag("DeleteReplacedRootVolume"),
            snapshot=snapshot,
            image=call.text("ImageId"),
        )
        call.not_dry()
        if made:
            lab.books.put(new)
        lab.books.put(task)
        remember(lab, call, [task.id])
    lab.work.soon(lambda: _carry_out(lab, task_id), name=f"replace-root-{instance.id}")
    return {"ReplaceRootVolumeTask": _view(task)}


UNDER_WAY = frozenset({"pending", "in-progress"})


def _made(lab: Compute, call: Call, instance: Instance, root: Volume) -> tuple[Volume, str]:
    """Enter no volume yet, but say what it will be, and which snapshot it is made from."""
    if call.text("SnapshotId"):
        snapshot = find(lab, call, Snapshot, call.text("SnapshotId"))
        if snapshot.state != "completed":
            raise Refusal("IncorrectState", f"Snapshot is in invalid state - {snapshot.state}")
        earlier = {t.replaced for t in lab.books.all(RootTask) if t.instance == instance.id}
        if snapshot.origin[0] not in {root.id, *root.lineage, *earlier}:
            raise refusal.bad_value(
                f"The snapshot {snapshot.id} was not created from the root volume of '{instance.id}'."
            )
        shown = snapshot.id
    else:
        image = find(lab, call, Image, call.text("ImageId") or instance.image)
        if image.state != "available":
            raise Refusal("InvalidAMIID.Unavailable", f"The image '{image.id}' is '{image.state}'.")
        if (image.architecture, image.os) != (instance.architecture, instance.os):
            raise refusal.bad_value(
                f"The image '{image.id}' has another architecture or platform than '{instance.id}'."
            )
        device = next((d for d in image.devices if d.name == image.root_device), None)
        found = lab.books.find(Snapshot, device.snapshot) if device else None
        if found is None:
            raise refusal.bad_value(f"The image '{image.id}' has no root snapshot.")
        snapshot, shown = found, found.id if call.text("ImageId") else ""
    volume = Volume(
        id=new_id("vol"),
        owner=instance.owner,
        region=instance.region,
        number=lab.books.next_number(),
        created=now(),
        state="creating",
        size=max(snapshot.size, root.size),
        zone=instance.zone,
        snapshot=snapshot.id,
        layer=snapshot.layer,
        type=root.type,
        iops=root.iops,
        throughput=root.throughput,
        encrypted=snapshot.encrypted or root.encrypted,
        kms_key=snapshot.kms_key or root.kms_key,
        os=snapshot.os or root.os,
        lineage=snapshot.origin,
    )
    return volume, shown


def _named(lab: Compute, call: Call, instance: Instance, root: Volume) -> Volume:
    volume = find(lab, call, Volume, call.text("VolumeId"))
    if volume.state != "available":
        raise Refusal("IncorrectState", f"{volume.id} is not 'available'.")
    if volume.zone != instance.zone:
        raise Refusal(
            "InvalidVolume.ZoneMismatch",
            f"The volume '{volume.id}' is not in the same availability zone as instance '{instance.id}'",
        )
    if root.encrypted and not volume.encrypted:
        raise refusal.bad_value("The original root volume is encrypted: the replacement has to be, too.")
    return volume


def _carry_out(lab: Compute, task_id: str) -> None:
    task = lab.books.find(RootTask, task_id)
    if task is None:
        return
    if task.made:
        volumes.make(lab, task.replacement)
        until = lab.timings.volume + 60
        while (v := lab.books.find(Volume, task.replacement)) and v.state == "creating" and until > 0:
            if not lab.work.pause(LOOK_EVERY):
                return
            until -= LOOK_EVERY
    with lab.books.open():
        instance = lab.books.find(Instance, task.instance)
        volume = lab.books.find(Volume, task.replacement)
        ready = instance is not None and instance.state == "running" and not instance.rebooting
        if instance is None or not ready or volume is None or volume.state != "available":
            settle(lab, task_id)
            return
        turn = instance.turn
        lab.books.put(replace(task, state="in-progress"))
        lab.books.put(replace(instance, rebooting=True))
        lab.at_reboot[instance.id] = lambda: _swap(lab, task_id)
    power.reboot(lab, task.instance)
    # The guest has its time to go down, and is forced then; its machine is started anew at once.
    left = lab.stop_seconds() + 120
    while left > 0:
        instance = lab.books.find(Instance, task.instance)
        if instance is None or (instance.turn != turn and not instance.rebooting):
            break
        if not lab.work.pause(LOOK_EVERY):
            return
        left -= LOOK_EVERY
    settle(lab, task_id)


def _swap(lab: Compute, task_id: str) -> None:
    """Put the replacement in the root's place: between the end of the machine and its new start."""
    with lab.books.open():
        task = lab.books.find(RootTask, task_id)
        if task is None or task.state != "in-progress":
            return
        instance = lab.books.find(Instance, task.instance)
        old, new = lab.books.find(Volume, task.replaced), lab.books.find(Volume, task.replacement)
        if instance is None or new is None or new.state != "available":
            return
        if old is not None and old.attachment is not None and old.attachment.instance == instance.id:
            lab.books.put(replace(old, state="available", attachment=None))
        place = Attachment(
            instance=instance.id,
            device=instance.root_device,
            state="attached",
            at=now(),
            delete_on_termination=bool(old and old.attachment and old.attachment.delete_on_termination),
        )
        lab.books.put(replace(new, state="in-use", attachment=place))


def settle(lab: Compute, task_id: str) -> None:
    """End a task by what became of it; what was made for one that failed is deleted."""
    doomed = ""
    with lab.books.open():
        task = lab.books.find(RootTask, task_id)
        if task is None or task.state not in UNDER_WAY:
            return
        instance = lab.books.find(Instance, task.instance)
        new = lab.books.find(Volume, task.replacement)
        swapped = new is not None and new.attachment is not None and new.attachment.instance == task.instance
        good = swapped and instance is not None and instance.state == "running"
        lab.books.put(replace(task, state="succeeded" if good else "failed", completed=now()))
        if task.state == "in-progress":
            lab.at_reboot.pop(task.instance, None)
        if good and task.delete_replaced:
            doomed = task.replaced
        elif not good and not swapped and task.made:
            doomed = task.replacement
        volume = lab.books.find(Volume, doomed)
        if volume is not None and volume.attachment is None:
            lab.books.put(replace(volume, state="deleting"))
    if not good:
        LOG.warning("the root volume of %s was not replaced", task.instance)
    if doomed:
        lab.work.soon(lambda: volumes.delete(lab, doomed), name=f"delete-{doomed}")


def take_up(lab: Compute) -> None:
    """Go on with the tasks that were cut off by the end of the lab's process."""
    for task in lab.books.all(RootTask):
        if task.state in UNDER_WAY:
            settle(lab, task.id)


def _view(task: RootTask) -> dict[str, Any]:
    return {
        "ReplaceRootVolumeTaskId": task.id,
        "InstanceId": task.instance,
        "TaskState": task.state,
        "StartTime": wire.iso(task.created),
        "CompleteTime": wire.iso(task.completed) if task.completed else None,
        "Tags": tag_view(task.tags),
        "ImageId": task.image or None,
        "SnapshotId": task.snapshot or None,
        "DeleteReplacedRootVolume": task.delete_replaced,
    }


FIELDS: Mapping[str, Field[RootTask]] = {"instance-id": lambda task: task.instance}
"""What the filter of API_DescribeReplaceRootVolumeTasks looks at."""


def describe_replace_root_volume_tasks(lab: Compute, call: Call) -> Answer:
    """Show the replacements of roots (API_DescribeReplaceRootVolumeTasks)."""
    call.only("Filters", "MaxResults", "NextToken", "ReplaceRootVolumeTaskIds")
    ids = call.texts("ReplaceRootVolumeTaskIds")
    found = find_all(lab, call, RootTask, ids) if ids else lab.visible(RootTask, call)
    call.not_dry()
    chosen = select(found, call.params.get("Filters", []), fields=FIELDS, tags=lambda t: t.tags)
    some, token = page(sorted(chosen, key=lambda t: t.number), call, ids="replaceRootVolumeTaskId", given=ids)
    return {"ReplaceRootVolumeTasks": [_view(task) for task in some], "NextToken": token}
