"""AttachVolume and DetachVolume, with hot-plug on a running machine."""

import logging
from dataclasses import replace

from drtest.errors import DrtestError
from drtest.lab import refusal
from drtest.lab.board import PORTS
from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute, now
from drtest.lab.launch import DEVICE_NAME
from drtest.lab.lookup import check_id, find
from drtest.lab.machines import MachineDisk
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Attachment, Instance, Volume
from drtest.lab.volumes import attachment_view

LOG = logging.getLogger(__name__)

MAX_VOLUMES = PORTS
"""As many as a machine has ports for; Nitro has some more, and also a limit."""


DETACH_SECONDS = 30.0
"""How long a guest has at least to let go of a volume."""


def attach_volume(lab: Compute, call: Call) -> Answer:
    """Attach an available volume to a running or stopped instance (API_AttachVolume).

    Raises:
        Refusal: ``VolumeInUse``, ``IncorrectState``, ``InvalidVolume.ZoneMismatch``,
            ``InvalidParameterValue`` for a device that is none or is taken, ``AttachmentLimitExceeded``.
    """
    call.only("Device", "InstanceId", "VolumeId")
    with lab.books.open():
        for name in ("VolumeId", "InstanceId", "Device"):
            call.required(name)
        volume = find(lab, call, Volume, call.text("VolumeId"))
        instance = find(lab, call, Instance, call.text("InstanceId"))
        device = call.text("Device")
        if volume.attachment is not None:
            raise Refusal("VolumeInUse", f"{volume.id} is already attached to an instance")
        if volume.state != "available":
            raise Refusal("IncorrectState", f"{volume.id} is not 'available'.")
        if instance.state not in {"running", "stopped"} or instance.rebooting:
            raise Refusal("IncorrectState", f"Instance '{instance.id}' is not 'running'.")
        if volume.zone != instance.zone:
            raise Refusal(
                "InvalidVolume.ZoneMismatch",
                f"The volume '{volume.id}' is not in the same availability zone as instance '{instance.id}'",
            )
        if not DEVICE_NAME.fullmatch(device):
            raise refusal.bad_value(
                f"Value ({device}) for parameter device is invalid. {device} is not a valid EBS device name."
            )
        others = [v.attachment for v in lab.books.attached(instance.id) if v.attachment]
        if _bare(device) in {_bare(other.device) for other in others}:
            raise refusal.bad_value(
                f"Invalid value '{device}' for unixDevice. Attachment point {device} is already in use"
            )
        if len(others) >= MAX_VOLUMES:
            raise Refusal(
                "AttachmentLimitExceeded", f"'{instance.id}' has {len(others)} volumes attached already."
            )
        call.not_dry()
        attachment = Attachment(instance=instance.id, device=device, state="attaching", at=now())
        lab.books.put(replace(volume, state="in-use", attachment=attachment))
    lab.work.soon(lambda: attach(lab, volume.id), name=f"attach-{volume.id}")
    return attachment_view(volume, attachment)


def _bare(device: str) -> str:
    # /dev/sdf, sdf and /dev/xvdf are one place.
    return device.removeprefix("/dev/").replace("xvd", "sd")


def attach(lab: Compute, volume_id: str) -> None:
    """Bring a volume that is `attaching` to be attached; called behind the call."""
    with lab.lanes(volume_id):
        volume = lab.books.find(Volume, volume_id)
        attachment = volume.attachment if volume else None
        if attachment is None or attachment.state != "attaching":
            return
        plugged = volume_id in lab.hardware.plugged(attachment.instance)
        if lab.hardware.running(attachment.instance) and not plugged:
            disk = MachineDisk(device=attachment.device, volume=volume_id, path=lab.hardware.top(volume_id))
            try:
                lab.hardware.attach(attachment.instance, disk)
            except (DrtestError, OSError):
                LOG.exception("%s could not be plugged into %s", volume_id, attachment.instance)
                # A machine that ended meanwhile finds the volume attached when it starts again.
                if lab.hardware.running(attachment.instance):
                    _take_back(lab, volume_id, attachment.instance)
                    return
            _set(lab, volume_id, "attached")
            return
    # The instance is stopped: nothing to plug in, but AWS takes its moment too.
    lab.work.later(lab.timings.attach, lambda: _settle(lab, volume_id, "attaching", "attached"))


def _take_back(lab: Compute, volume_id: str, instance_id: str) -> None:
    """Free a volume whose plugging in failed: what QEMU may have of it has to be let go of first."""
    try:
        lab.hardware.detach(instance_id, volume_id, deadline=lab.stretched(DETACH_SECONDS, boots=2))
    except (DrtestError, OSError):
        LOG.exception("%s was not let go of by %s", volume_id, instance_id)
        if lab.hardware.running(instance_id):
            _set(lab, volume_id, "busy")
            return
    _set(lab, volume_id, None)


def _settle(lab: Compute, volume_id: str, before: str, after: str | None) -> None:
    volume = lab.books.find(Volume, volume_id)
    if volume and volume.attachment and volume.attachment.state == before:
        _set(lab, volume_id, after)


def _set(lab: Compute, volume_id: str, state: str | None) -> None:
    with lab.books.open():
        volume = lab.books.find(Volume, volume_id)
        if volume is None or volume.attachment is None:
            return
        if state is None:
            lab.books.put(replace(volume, state="available", attachment=None))
        else:
            lab.books.put(replace(volume, state="in-use", attachment=replace(volume.attachment, state=state)))


def detach_volume(lab: Compute, call: Call) -> Answer:
    """Detach a volume (API_DetachVolume).

    "If an EBS volume is the root device of an instance, it can't be detached while the instance is running."

    Raises:
        Refusal: ``IncorrectState`` for one that is not attached, ``InvalidAttachment.NotFound``,
            ``OperationNotPermitted`` for the root of an instance that is not stopped.
    """
    call.only("Device", "Force", "InstanceId", "VolumeId")
    with lab.books.open():
        volume = find(lab, call, Volume, call.required("VolumeId"))
        attachment = volume.attachment
        if attachment is None:
            raise Refusal("IncorrectState", f"Volume '{volume.id}' is in the '{volume.state}' state.")
        if wanted := call.text("InstanceId"):
            check_id(Instance, wanted)
            find(lab, call, Instance, wanted)
            if wanted != attachment.instance:
                raise Refusal(
                    "InvalidAttachment.NotFound",
                    f"Volume '{volume.id}' can not be detached from '{wanted}' because it is not attached",
                )
        if call.text("Device") and call.text("Device") != attachment.device:
            raise Refusal(
                "InvalidAttachment.NotFound",
                f"The volume '{volume.id}' is not attached at '{call.text('Device')}'.",
            )
        instance = find(lab, call, Instance, attachment.instance)
        if attachment.device == instance.root_device and instance.state != "stopped":
            raise Refusal(
                "OperationNotPermitted",
                f"Unable to detach root volume '{volume.id}' from instance '{instance.id}'",
            )
        if instance.state not in {"running", "stopped"}:
            raise Refusal(
                "IncorrectState", f"The instance '{instance.id}' is in the '{instance.state}' state."
            )
        if attachment.state == "detaching" and not call.flag("Force"):
            raise Refusal("IncorrectState", f"Volume '{volume.id}' is already detaching.")
        if attachment.state == "attaching" and not call.flag("Force"):
            raise Refusal("IncorrectState", f"Volume '{volume.id}' is still attaching.")
        call.not_dry()
        leaving = replace(attachment, state="detaching")
        lab.books.put(replace(volume, attachment=leaving))
    lab.work.soon(lambda: detach(lab, volume.id), name=f"detach-{volume.id}")
    return attachment_view(volume, leaving)


def detach(lab: Compute, volume_id: str) -> None:
    """Bring a volume that is `detaching` to be available; called behind the call."""
    with lab.lanes(volume_id):
        volume = lab.books.find(Volume, volume_id)
        attachment = volume.attachment if volume else None
        if attachment is None or attachment.state != "detaching":
            return
        if lab.hardware.running(attachment.instance):
            # Also if it is not plugged in any more: its files may still be open.
            # "stuck in the busy state while detaching", until it is forced or the instance stops.
            _take_back(lab, volume_id, attachment.instance)
            return
    lab.work.later(lab.timings.detach, lambda: _settle(lab, volume_id, "detaching", None))
