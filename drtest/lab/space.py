"""The room on the lab's disk: what needs more is refused in time, and machines pause before their writes would fail."""

import json
import logging
import threading

from drtest.errors import DrtestError
from drtest.lab.compute import Compute
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Instance

LOG = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks: what machines write meanwhile has to fit into half of the reserve."""

PAUSED_FACT = "paused"
"""Under this name the books keep which instances are paused."""


def check_room(lab: Compute) -> None:
    """Refuse what would need more of the disk when there is no more.

    Raises:
        Refusal: ``InsufficientVolumeCapacity``, EC2's word for it.
    """
    if lab.hardware.free() > 0:
        return
    raise Refusal(
        "InsufficientVolumeCapacity",
        "There is not enough capacity to fulfill your EBS volume provision request: the disk of the lab is full. "
        "Delete snapshots and volumes, or make room on it.",
        status=500,
    )


class Space:
    """Watches the disk: pauses all machines while it is nearly full, and lets them go on when there is room again.

    A guest whose write fails takes its filesystem for broken; one that is paused notices nothing.

    Args:
        lab: whose machines.
    """

    def __init__(self, lab: Compute) -> None:
        self._lab = lab
        # Who was paused stays so over a kill of the lab, and has to be known to go on.
        self._paused: set[str] = set(json.loads(lab.books.fact(PAUSED_FACT) or "[]"))
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Look now, and again and again until the lab ends."""
        try:
            self.look()
            self._lab.hardware.bound_logs()
        except (DrtestError, OSError):
            LOG.exception("the room on the lab's disk could not be looked at")
        if not self._lab.work.stopped:
            self._lab.work.later(LOOK_EVERY, self.begin)

    def look(self) -> None:
        """Look once, and pause or resume what has to be."""
        with self._lock:
            if self._lab.hardware.nearly_full():
                self._pause()
            elif self._paused and self._lab.hardware.free() > 0:
                self._resume()

    def _pause(self) -> None:
        for instance in self._lab.books.all(Instance):
            if instance.id in self._paused or not self._lab.hardware.running(instance.id):
                continue
            try:
                self._lab.hardware.pause(instance.id)
            except DrtestError:
                LOG.exception("%s could not be paused", instance.id)
                continue
            self._paused.add(instance.id)
            self._note()
            LOG.error("the lab's disk is nearly full: %s is paused", instance.id)

    def _resume(self) -> None:
        for key in sorted(self._paused):
            if self._lab.hardware.running(key):
                try:
                    self._lab.hardware.resume(key)
                except DrtestError:
                    LOG.exception("%s could not be resumed", key)
                    continue
                LOG.warning("there is room on the lab's disk again: %s goes on", key)
            self._paused.discard(key)
        self._note()

    def _note(self) -> None:
        self._lab.books.note(PAUSED_FACT, json.dumps(sorted(self._paused)).encode())

    @property
    def trouble(self) -> tuple[str, ...]:
        """What is wrong, as sentences."""
        with self._lock:
            paused = sorted(key for key in self._paused if self._lab.hardware.running(key))
        if paused:
            return (
                f"The lab's disk is nearly full: {', '.join(paused)} paused until there is room again. "
                "Delete snapshots and volumes in the lab, or make room on that disk.",
            )
        if self._lab.hardware.free() <= 0:
            return (
                "The lab's disk is full: no volume, snapshot or instance can be made until there is room.",
            )
        return ()
