"""Faults carried out: on the answers to calls, and on the machines, disks and snapshots behind them."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from drtest.errors import DrtestError
from drtest.lab.call import Call
from drtest.lab.compute import Compute
from drtest.lab.faults import Fault
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Instance, Snapshot, Volume

LOG = logging.getLogger(__name__)

THERE_SECONDS = 600.0
"""How long a fault of a machine or volume waits for it to be there."""


class LostError(Exception):
    """The answer of a call that was carried out does not reach the client: the connection is closed."""


_WORDS: Mapping[str, Mapping[str, tuple[str, str, int]]] = {
    "ec2": {
        "throttled": ("RequestLimitExceeded", "Request limit exceeded.", 503),
        "internal-error": ("InternalError", "An internal error has occurred", 500),
        "unavailable": ("Unavailable", "The service is unavailable. Please try again shortly.", 503),
    },
    "ebs": {
        "throttled": ("RequestThrottledException", "The request was throttled.", 400),
        "internal-error": ("InternalServerException", "An internal error has occurred.", 500),
        "unavailable": ("ServiceUnavailable", "The request has failed due to a temporary failure.", 503),
    },
    "ssm": {
        "throttled": ("ThrottlingException", "The request was denied due to request throttling.", 400),
        "internal-error": ("InternalServerError", "An error occurred on the server side.", 500),
        "unavailable": ("ServiceUnavailable", "The request has failed due to a temporary failure.", 503),
    },
}
"""How each service words the errors that clients may try again.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html,
https://docs.aws.amazon.com/ebs/latest/APIReference/API_GetSnapshotBlock.html#API_GetSnapshotBlock_Errors,
https://docs.aws.amazon.com/systems-manager/latest/APIReference/CommonErrors.html
"""


def _refusals(call: Call, service: str) -> Mapping[str, Refusal]:
    """Word, as the service does, the faults that are refusals."""
    kind = call.text("InstanceType") or "requested"
    capacity = Refusal(
        "InsufficientInstanceCapacity",
        f"We currently do not have sufficient {kind} capacity in the Availability Zone you requested. "
        "Our system will be working on provisioning additional capacity.",
        status=500,
    )
    worded = {
        fault: Refusal(code, message, status=status)
        for fault, (code, message, status) in _WORDS[service].items()
    }
    return {**worded, "no-capacity": capacity}


def before(lab: Compute, call: Call, *, service: str = "ec2") -> tuple[Fault, ...]:
    """Count a call, and refuse it if it is to fail.

    Args:
        lab: where.
        call: the call.
        service: whose: ``ec2``, ``ebs`` or ``ssm``. Of the last one AWS tells no token buckets.

    Returns:
        What happens to it when it has been carried out: for `after`.

    Raises:
        Refusal: the fault.
    """
    if service != "ssm" and lab.faults.throttled(call):
        raise _refusals(call, service)["throttled"]
    hits = lab.faults.happening(call.action)
    refusals = _refusals(call, service) if hits else {}
    for fault in hits:
        LOG.warning("a fault at %s: %s", call.action, fault.fault)
        if fault.fault in refusals:
            raise refusals[fault.fault]
    return hits


def after(lab: Compute, call: Call, answer: Mapping[str, Any], hits: Sequence[Fault]) -> None:
    """Let happen to a call that was carried out what `before` named.

    Raises:
        LostError: the client gets no answer.
    """
    for fault in hits:
        if fault.fault == "snapshot-error":
            _spoil_snapshots(lab, answer)
        elif fault.fault == "machine-freezes":
            for instance in _instances(call, answer):
                _soon(lab, _freezing(lab, instance, fault), instance)
        elif fault.fault.startswith("volume"):
            for volume in _volumes(lab, call, answer):
                if fault.device in {"", _device(volume)}:
                    _soon(lab, _spoiling(lab, volume.id, fault), volume.id)
    for fault in hits:
        if fault.fault == "timeout":
            lab.work.pause(fault.seconds)
    if any(fault.fault == "lost-response" for fault in hits):
        raise LostError


def _soon(lab: Compute, task: Callable[[], None], about: str) -> None:
    lab.work.soon(task, name=f"fault-{about}")


def _instances(call: Call, answer: Mapping[str, Any]) -> list[str]:
    made = [str(instance["InstanceId"]) for instance in answer.get("Instances", [])]
    return made or call.texts("InstanceIds")


def _volumes(lab: Compute, call: Call, answer: Mapping[str, Any]) -> list[Volume]:
    if call.action == "AttachVolume":
        volume = lab.books.find(Volume, call.text("VolumeId"))
        return [volume] if volume else []
    return [volume for key in _instances(call, answer) for volume in lab.books.attached(key)]


def _device(volume: Volume) -> str:
    return volume.attachment.device if volume.attachment else ""


def _spoil_snapshots(lab: Compute, answer: Mapping[str, Any]) -> None:
    keys = [one["SnapshotId"] for one in answer.get("Snapshots", [answer]) if "SnapshotId" in one]

    def spoil() -> None:
        with lab.books.open():
            for key in keys:
                snapshot = lab.books.find(Snapshot, key)
                if snapshot is not None and snapshot.state == "pending":
                    message = "The snapshot failed: a fault of the lab."
                    lab.books.put(replace(snapshot, state="error", message=message))

    lab.work.later(lab.timings.snapshot / 2, spoil)


def _wait(lab: Compute, there: Callable[[], bool], *, then: float) -> bool:
    """Wait until a machine or volume is there, and some seconds more; False if it never is."""
    until = time.monotonic() + THERE_SECONDS
    while time.monotonic() < until:
        if there():
            return lab.work.pause(then)
        if not lab.work.pause(0.05):
            return False
    return False


def _freezing(lab: Compute, instance_id: str, fault: Fault) -> Callable[[], None]:
    def there() -> bool:
        instance = lab.books.find(Instance, instance_id)
        return instance is not None and instance.state == "running" and lab.hardware.running(instance_id)

    def freeze() -> None:
        if _wait(lab, there, then=fault.after):
            _try(lambda: lab.hardware.pause(instance_id), f"{instance_id} freezes")

    return freeze


def _spoiling(lab: Compute, volume_id: str, fault: Fault) -> Callable[[], None]:
    def holder() -> str:
        volume = lab.books.find(Volume, volume_id)
        return volume.attachment.instance if volume and volume.attachment else ""

    def there() -> bool:
        return bool(holder()) and volume_id in lab.hardware.plugged(holder())

    def harm() -> None:
        instance_id = holder()
        if fault.fault == "volume-hangs":
            lab.hardware.hang(instance_id, volume_id)
        else:
            lab.hardware.fail(instance_id, volume_id, requests=fault.requests)

    def spoil() -> None:
        if _wait(lab, there, then=fault.after):
            _try(harm, f"{volume_id}: {fault.fault}")

    return spoil


def _try(harm: Callable[[], None], what: str) -> None:
    LOG.warning("a fault: %s", what)
    try:
        harm()
    except DrtestError:
        LOG.exception("the fault could not be carried out: %s", what)
