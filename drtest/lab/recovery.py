"""Taking the lab up again after its process died: machines, disks and books are made to agree."""

import logging
from dataclasses import replace
from datetime import UTC, datetime

from drtest.errors import DrtestError
from drtest.lab import (
    attachments,
    commands,
    imaging,
    imds,
    lifecycle,
    modifying,
    rootswap,
    snapshots,
    status,
    volumes,
)
from drtest.lab.compute import Compute
from drtest.lab.lifecycle import moved, moved_on
from drtest.lab.machines import End
from drtest.lab.resources import Image, Instance, Snapshot, Volume

LOG = logging.getLogger(__name__)


def take_up(lab: Compute) -> tuple[str, ...]:
    """Go on where an earlier process of the lab was killed.

    Machines that still run are taken up, what was under way is done again, and what is in no book is removed.

    Returns:
        What was lost, as sentences.
    """
    lost: list[str] = []
    to_boot: list[str] = []
    # Machines first: the disks of one that was killed in the middle of a snapshot are put right by taking it up.
    for instance in lab.books.all(Instance):
        lost += _instance(lab, instance, to_boot)
    disks = set(lab.hardware.volumes())
    for volume in lab.books.all(Volume):
        lost += _volume(lab, volume, there=volume.id in disks)
    layers = set(lab.hardware.layers())
    for snapshot in lab.books.all(Snapshot):
        lost += _snapshot(lab, snapshot, there=snapshot.kept or snapshot.layer in layers)
    for image in lab.books.all(Image):
        _image(lab, image)
    for volume in lab.books.all(Volume):
        modifying.go_on(lab, volume.id)
    rootswap.take_up(lab)
    commands.take_up(lab)
    known = {volume.id for volume in lab.books.all(Volume)}
    for stray in disks - known:
        LOG.warning("the disk of %s is in no book: removed", stray)
        lab.hardware.remove(stray)
    for layer in layers - {snapshot.layer for snapshot in lab.books.all(Snapshot)}:
        LOG.warning("the layer %s is in no book: let go of", layer)
        snapshots.release(lab, layer)
    for instance_id in to_boot:
        lifecycle.boot_soon(lab, instance_id)
    for sentence in lost:
        LOG.warning("%s", sentence)
    return tuple(lost)


def _instance(lab: Compute, instance: Instance, to_boot: list[str]) -> list[str]:
    if instance.state == "terminated":
        age = (datetime.now(UTC) - instance.ended).total_seconds() if instance.ended else 0.0
        lab.work.later(max(0.0, lab.timings.terminated - age), lambda: lifecycle.forget(lab, instance.id))
        return []
    if instance.state == "stopped":
        return []
    lost = [f"The machine of {instance.id} ended while the lab was down; the instance is stopped now."]
    try:
        there = lab.hardware.adopt(instance.id, lambda key, end: lifecycle.ended(lab, key, end)) is not None
    except DrtestError as error:
        LOG.exception("the machine of %s can't be controlled", instance.id)
        there = False
        lost = [
            f"The machine of {instance.id} could not be controlled any more, and was ended; the instance is "
            f"stopped now: {error.seen}"
        ]
    if there:
        _go_on(lab, instance)
        return []
    if instance.state == "pending" or instance.rebooting:
        to_boot.append(instance.id)
        return []
    if instance.state in {"stopping", "shutting-down"}:
        lifecycle.ended(lab, instance.id, End(code=None, reason="killed"))
        return []
    with lab.books.open():
        reason = "The machine was lost while the lab was down"
        stopped = moved(instance, "stopped", code="Server.InternalError", reason=reason)
        lab.books.put(replace(stopped, address=""))
    return lost


def _go_on(lab: Compute, instance: Instance) -> None:
    if instance.state == "stopping":
        lifecycle.press(lab, instance.id, state="stopping", deadline=lab.stop_seconds())
    elif instance.state == "shutting-down":
        lab.work.soon(
            lambda: lifecycle.terminate(lab, instance.id, graceful=True), name=f"terminate-{instance.id}"
        )
    else:
        with lab.books.open():
            running = replace(moved_on(instance, "running"), launching=False)
            lab.books.put(running)
        status.watch_soon(lab, instance.id, running.turn, fresh=False)
        imds.serve_soon(lab, instance.id)
        if instance.rebooting:
            lifecycle.press(lab, instance.id, state="running", deadline=lab.stop_seconds())


def _volume(lab: Compute, volume: Volume, *, there: bool) -> list[str]:
    instance = lab.books.find(Instance, volume.attachment.instance) if volume.attachment else None
    if volume.state == "deleting":
        lab.work.soon(lambda: volumes.delete(lab, volume.id), name=f"delete-{volume.id}")
    elif volume.state == "creating":
        if there:
            # It may be half made, and nobody can have used it.
            lab.hardware.remove(volume.id)
        if instance is None:
            lab.work.soon(lambda: volumes.make(lab, volume.id), name=f"make-{volume.id}")
    elif not there and volume.state != "error":
        with lab.books.open():
            lab.books.put(replace(volume, state="error"))
        return [f"The disk of {volume.id} is gone."]
    elif volume.attachment and volume.attachment.state == "attaching":
        lab.work.soon(lambda: attachments.attach(lab, volume.id), name=f"attach-{volume.id}")
    elif volume.attachment and volume.attachment.state == "detaching":
        lab.work.soon(lambda: attachments.detach(lab, volume.id), name=f"detach-{volume.id}")
    return []


def _snapshot(lab: Compute, snapshot: Snapshot, *, there: bool) -> list[str]:
    if not there and snapshot.state != "error":
        with lab.books.open():
            lab.books.put(replace(snapshot, state="error", message="The snapshot's bytes are gone."))
        return [f"The bytes of {snapshot.id} are gone."]
    if snapshot.state == "pending":
        lab.work.later(lab.timings.snapshot, lambda: snapshots.finish_soon(lab, snapshot))
    return []


def _image(lab: Compute, image: Image) -> None:
    if image.state != "pending":
        return
    if image.devices:
        imaging.settle(lab, image.id)
        return
    with lab.books.open():
        lab.books.put(
            replace(image, state="failed", reason="The lab's process died before the bytes were taken.")
        )
