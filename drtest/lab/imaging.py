"""CreateImage: an image of an instance, with or without a reboot."""

import logging
from dataclasses import replace

from drtest.lab import power
from drtest.lab.amis import check_name
from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute, new_id, now
from drtest.lab.lookup import find
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Device, Image, Instance, Snapshot
from drtest.lab.snapshots import capture, check_capturable

LOG = logging.getLogger(__name__)


def create_image(lab: Compute, call: Call) -> Answer:
    """Make an image of a running or stopped instance (API_CreateImage).

    "By default, when Amazon EC2 creates the new AMI, it reboots the instance": its volumes are frozen between
    the end and the new start. With ``NoReboot`` they are frozen as they are: crash-consistent.

    Raises:
        Refusal: ``IncorrectState``, ``InvalidAMIName.Duplicate``.
    """
    call.only("Description", "InstanceId", "Name", "NoReboot", "TagSpecifications")
    with lab.books.open():
        instance = find(lab, call, Instance, call.required("InstanceId"))
        if instance.state not in {"running", "stopped"} or instance.rebooting:
            raise Refusal(
                "IncorrectState", f"Instance '{instance.id}' is not in the 'running' or 'stopped' state."
            )
        name = check_name(lab, call)
        tags = call.tags_of("image", allowed={"snapshot"})
        snapshot_tags = call.tags_of("snapshot", allowed={"image"})
        volumes = lab.books.attached(instance.id)
        check_capturable(lab, volumes)
        image = Image(
            id=new_id("ami"),
            owner=call.owner,
            region=call.region,
            number=lab.books.next_number(),
            created=now(),
            tags=tags,
            state="pending",
            name=name,
            description=call.text("Description"),
            os=instance.os,
            architecture=instance.architecture,
            root_device=instance.root_device,
            source_instance=instance.id,
            pool=instance.pool,
        )
        reboots = instance.state == "running" and not call.flag("NoReboot")
        if reboots:
            instance = replace(instance, rebooting=True)
            lab.books.put(instance)
        call.not_dry()
        lab.books.put(image)
        if reboots:
            lab.at_reboot[instance.id] = lambda: _take(lab, image.id, instance.id, snapshot_tags)
    if reboots:
        lab.work.soon(lambda: power.reboot(lab, instance.id), name=f"reboot-{instance.id}")
    else:
        _take(lab, image.id, instance.id, snapshot_tags)
    return {"ImageId": image.id}


def _take(lab: Compute, image_id: str, instance_id: str, tags: dict[str, str]) -> None:
    volumes = [v for v in lab.books.attached(instance_id) if v.attachment and v.state == "in-use"]
    try:
        taken = capture(
            lab,
            [volume.id for volume in volumes],
            description=f"Created by CreateImage({instance_id}) for {image_id}",
            tags={volume.id: tags for volume in volumes},
        )
    except Refusal as refused:
        LOG.warning("%s failed: %s", image_id, refused)
        _put(lab, image_id, state="failed", reason=str(refused), devices=())
        return
    devices = tuple(
        Device(
            name=volume.attachment.device,
            snapshot=snapshot.id,
            size=snapshot.size,
            type=volume.type,
            iops=volume.iops,
            delete_on_termination=volume.attachment.delete_on_termination,
            encrypted=volume.encrypted,
        )
        for volume, snapshot in zip(volumes, taken, strict=True)
        if volume.attachment
    )
    _put(lab, image_id, state="pending", reason="", devices=devices)
    lab.work.later(lab.timings.snapshot, lambda: settle(lab, image_id))


def _put(lab: Compute, image_id: str, *, state: str, reason: str, devices: tuple[Device, ...]) -> None:
    with lab.books.open():
        image = lab.books.find(Image, image_id)
        if image is not None:
            lab.books.put(replace(image, state=state, reason=reason, devices=devices))


def settle(lab: Compute, image_id: str) -> None:
    """Make a pending image available when all of its snapshots are completed."""
    image = lab.books.find(Image, image_id)
    if image is None or image.state != "pending":
        return
    states = set()
    for device in image.devices:
        snapshot = lab.books.find(Snapshot, device.snapshot)
        states.add(snapshot.state if snapshot else "error")
    if states == {"completed"}:
        _put(lab, image_id, state="available", reason="", devices=image.devices)
    elif "error" in states or not states:
        _put(lab, image_id, state="failed", reason="a snapshot failed", devices=image.devices)
    else:
        lab.work.later(0.2, lambda: settle(lab, image_id))
