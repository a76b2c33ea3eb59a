"""The life of an instance's machine: how it comes to run, and what its end means."""

import base64
import logging
import time
from dataclasses import replace
from datetime import datetime

from drtest.errors import DrtestError
from drtest.lab import console, imds, pool, status
from drtest.lab.addresses import FORWARDS
from drtest.lab.compute import Compute, now
from drtest.lab.machines import End, MachineDisk, MachineSpec
from drtest.lab.resources import Instance, Volume
from drtest.lab.sizes import GIB, machine_size

LOG = logging.getLogger(__name__)

START_SECONDS = 30.0
"""How long QEMU has at least to answer when it is started."""

PRESS_EVERY = 3.0
"""Seconds between two presses of the power button."""


def user_initiated(time: datetime) -> str:
    """Say as EC2 does that a call caused a change of state."""
    return f"User initiated ({time:%Y-%m-%d %H:%M:%S} GMT)"


def moved(
    instance: Instance, state: str, *, code: str = "", reason: str = "", transition: str = ""
) -> Instance:
    """Bring an instance into another state, without writing it into the books.

    Args:
        instance: as it is.
        state: the new state.
        code: the code of EC2's state reason, such as ``Client.UserInitiatedShutdown``.
        reason: its sentence.
        transition: EC2's older field for the same.
    """
    return replace(
        instance,
        state=state,
        turn=instance.turn + 1,
        reason_code=code,
        reason=f"{code}: {reason}" if code else "",
        transition=transition,
    )


def pick_address(lab: Compute) -> str:
    """Find a loopback address for an instance. Only while the books are open."""
    return lab.addresses.pick({i.address for i in lab.books.all(Instance) if i.address})


def boot_soon(lab: Compute, instance_id: str) -> None:
    """Start the machine of a pending instance, behind the call."""
    lab.work.soon(lambda: boot(lab, instance_id), name=f"boot-{instance_id}")


def boot(lab: Compute, instance_id: str) -> None:
    """Make the volumes that are still to be made, and start the machine.

    What goes wrong ends the instance as on AWS: a new one is terminated, an older one is stopped.
    """
    volumes = [volume.id for volume in lab.books.attached(instance_id)]
    try:
        with lab.lanes(instance_id, *volumes):
            instance = lab.books.find(Instance, instance_id)
            if instance is None or not _to_be_started(instance):
                return
            for volume in lab.books.attached(instance_id):
                if volume.state == "creating":
                    make_disk(lab, volume)
            with lab.books.open():
                for volume in lab.books.attached(instance_id):
                    if volume.attachment and volume.attachment.state == "detaching":
                        lab.books.put(replace(volume, state="available", attachment=None))
                    elif volume.attachment:
                        attachment = replace(volume.attachment, state="attached")
                        lab.books.put(replace(volume, state="in-use", attachment=attachment))
            lab.hardware.start(
                spec(lab, instance),
                lambda key, end: ended(lab, key, end),
                deadline=lab.stretched(START_SECONDS, boots=2),
            )
            _running(lab, instance_id)
    except Exception as error:
        # Whatever it was, the instance must not stay pending for ever.
        LOG.exception("%s could not be started", instance_id)
        _start_failed(lab, instance_id, str(error))


def _to_be_started(instance: Instance) -> bool:
    return instance.state == "pending" or (instance.state == "running" and instance.rebooting)


def make_disk(lab: Compute, volume: Volume) -> None:
    """Make the disk of a volume: from its snapshot, or empty.

    Raises:
        EnvironmentFailedError: there is no room.
    """
    if volume.layer:
        lab.hardware.overlay(volume.id, layer=volume.layer, size=volume.size * GIB)
    else:
        lab.hardware.blank(volume.id, size=volume.size * GIB)


def spec(lab: Compute, instance: Instance) -> MachineSpec:
    """Say what the machine of an instance is made of."""
    memory, cpus = machine_size(instance.type)
    disks = [
        MachineDisk(
            device=volume.attachment.device,
            volume=volume.id,
            path=lab.hardware.top(volume.id),
            boot=volume.attachment.device == instance.root_device,
            pool=pool.in_front_of(volume, instance, seed=lab.seed),
        )
        for volume in lab.books.attached(instance.id)
        if volume.attachment
    ]
    return MachineSpec(
        id=instance.id,
        memory=memory,
        cpus=cpus,
        disks=tuple(sorted(disks, key=lambda disk: not disk.boot)),
        address=instance.address,
        forwards=FORWARDS,
        folder=lab.hardware.folder(instance.id),
        accelerator=lab.hardware.accelerator,
        authorized_key=instance.public_key,
        password=lab.password if instance.os == "windows" else "",
        user_data=base64.b64decode(instance.user_data),
        hostname=instance.hostname,
        private_address=f"{instance.private_address}/{instance.prefix}",
    )


def _running(lab: Compute, instance_id: str) -> None:
    with lab.books.open():
        instance = lab.books.find(Instance, instance_id)
        wanted = instance is not None and _to_be_started(instance) and lab.hardware.running(instance_id)
        if instance is not None and wanted:
            instance = replace(
                moved(instance, "running"),
                rebooting=False,
                launching=False,
                reachability="initializing",
                reachable_since=now(),
            )
            lab.books.put(instance)
    if instance is not None and wanted:
        LOG.info("the machine of %s runs", instance_id)
        status.watch_soon(lab, instance_id, instance.turn)
        imds.serve_soon(lab, instance_id)
    elif lab.hardware.running(instance_id):
        # Terminated between the call and the start of its machine.
        lab.hardware.kill(instance_id)


def _start_failed(lab: Compute, instance_id: str, why: str) -> None:
    with lab.books.open():
        instance = lab.books.find(Instance, instance_id)
        if instance is None or not _to_be_started(instance):
            return
        new = instance.launching
        lab.books.put(
            replace(
                moved(
                    instance,
                    "shutting-down" if new else "stopped",
                    code="Server.InternalError",
                    reason=f"Internal error on launch: {why}",
                ),
                address="",
                rebooting=False,
            )
        )
    if new:
        _finish_termination(lab, instance_id)


def ended(lab: Compute, instance_id: str, end: End) -> None:
    """Take note that a machine has ended, by whatever cause.

    A guest that powers itself off is stopped or terminated, as its shutdown behaviour says; a machine that
    crashed leaves a stopped instance.
    """
    LOG.info("the machine of %s has ended: %s %s", instance_id, end.reason, end.message)
    if lab.work.stopped:
        return
    console.post(lab, instance_id)
    with lab.books.open():
        instance = lab.books.find(Instance, instance_id)
        if instance is None:
            return
        again, gone = False, instance.state == "shutting-down"
        if instance.state == "stopping":
            lab.books.put(replace(moved_on(instance, "stopped"), address="", rebooting=False))
        elif instance.state == "running" and instance.rebooting:
            again = True
        elif instance.state in {"running", "pending"}:
            if end.reason == "guest-shutdown":
                code, reason = "Client.InstanceInitiatedShutdown", "Instance initiated shutdown"
                gone = instance.shutdown_behavior == "terminate"
            else:
                code, reason = "Server.InternalError", f"The machine has {end.reason}: {end.message}".strip()
            state = "shutting-down" if gone else "stopped"
            lab.books.put(replace(moved(instance, state, code=code, reason=reason), address=""))
        if not gone:
            for volume in lab.books.attached(instance_id):
                if volume.attachment and volume.attachment.state in {"detaching", "busy"}:
                    lab.books.put(replace(volume, state="available", attachment=None))
    if again:
        between = lab.at_reboot.pop(instance_id, None)
        if between is not None:
            try:
                between()
            except DrtestError:
                LOG.exception("what was to be done at the reboot of %s failed", instance_id)
        boot_soon(lab, instance_id)
    elif gone:
        _finish_termination(lab, instance_id)


def moved_on(instance: Instance, state: str) -> Instance:
    """Bring an instance into another state for the reason that it is already on its way."""
    return replace(instance, state=state, turn=instance.turn + 1)


def terminate(lab: Compute, instance_id: str, *, graceful: bool) -> None:
    """End the machine of an instance that is shutting down; called behind the call.

    A graceful end is asked for where a volume outlives the instance; else nothing of it could be seen but
    the time that it takes.
    """
    with lab.lanes(instance_id):
        if not lab.hardware.running(instance_id):
            _finish_termination(lab, instance_id)
            return
        survivors = any(
            volume.attachment and not volume.attachment.delete_on_termination
            for volume in lab.books.attached(instance_id)
        )
        if graceful and survivors:
            press(
                lab,
                instance_id,
                state="shutting-down",
                deadline=lab.stretched(lab.timings.terminate, boots=3),
            )
        else:
            lab.hardware.kill(instance_id)


def press(lab: Compute, instance_id: str, *, state: str, deadline: float) -> None:
    """Press the power button, and use force if the machine has not ended by a deadline.

    Args:
        lab: where.
        instance_id: whose.
        state: the state that the instance has while it goes down; in another one there is no force.
        deadline: seconds.
    """
    instance = lab.books.find(Instance, instance_id)
    turn = instance.turn if instance else 0
    until = time.monotonic() + deadline
    LOG.info("the power button of %s is pressed", instance_id)

    def press_again() -> None:
        # A guest that is still booting loses the event: nothing listens for it yet.
        late = lab.books.find(Instance, instance_id)
        if not (late and late.state == state and late.turn == turn and lab.hardware.running(instance_id)):
            return
        if time.monotonic() >= until:
            LOG.warning("%s did not go down in %.0f s: force", instance_id, deadline)
            lab.work.soon(lambda: lab.hardware.kill(instance_id), name=f"kill-{instance_id}")
            return
        lab.work.soon(push, name=f"power-button-{instance_id}")
        lab.work.later(min(PRESS_EVERY, max(0.0, until - time.monotonic())), press_again)

    def push() -> None:
        try:
            lab.hardware.powerdown(instance_id)
        except DrtestError as error:
            # It may have ended by itself meanwhile; if it hangs, the deadline comes.
            LOG.info("the power button of %s: %s", instance_id, error.seen)

    press_again()


def _finish_termination(lab: Compute, instance_id: str) -> None:
    with lab.books.open():
        instance = lab.books.find(Instance, instance_id)
        if instance is None or instance.state == "terminated":
            return
        doomed = []
        for volume in lab.books.attached(instance_id):
            if instance.launching or (volume.attachment and volume.attachment.delete_on_termination):
                lab.books.drop(volume)
                doomed.append(volume.id)
            else:
                lab.books.put(replace(volume, state="available", attachment=None))
        lab.books.put(
            replace(moved_on(instance, "terminated"), ended=now(), address="", groups=(), rebooting=False)
        )

    def remove_disks() -> None:
        with lab.lanes(*doomed):
            for volume_id in doomed:
                lab.hardware.remove(volume_id)

    # Not here: whoever waits for the end of the machine may hold the lanes of its volumes.
    lab.work.soon(remove_disks, name=f"remove-disks-{instance_id}")
    lab.work.later(lab.timings.terminated, lambda: forget(lab, instance_id))


def forget(lab: Compute, instance_id: str) -> None:
    """Strike a terminated instance out of the books, when it has been seen long enough."""
    with lab.books.open():
        instance = lab.books.find(Instance, instance_id)
        if instance is None or instance.state != "terminated":
            return
        lab.books.drop(instance)
    lab.hardware.discard(instance_id)
