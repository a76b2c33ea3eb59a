"""DescribeInstanceStatus, and the knocking at the guests that it rests on."""

import logging
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from drtest.lab import console
from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute, now
from drtest.lab.filters import Field, page, select
from drtest.lab.instances import state_view
from drtest.lab.lookup import find_all
from drtest.lab.resources import STATE_CODES, Instance

LOG = logging.getLogger(__name__)

KNOCK_SECONDS = 3.0
"""How long one knock waits for an answer at least: a guest under load answers late."""


def ssh_answers(address: str, *, seconds: float = KNOCK_SECONDS) -> bool:
    """Say whether an SSH server greets: the forwarded port accepts before the guest does, so a greeting counts."""
    try:
        with socket.create_connection((address, 2222), timeout=seconds) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def tls_answers(address: str, *, seconds: float = KNOCK_SECONDS) -> bool:
    """Say whether WinRM's HTTPS listener shakes hands; whose certificate it has is the runner's question."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address, 5986), timeout=seconds) as connection,
            context.wrap_socket(connection),
        ):
            return True
    except (OSError, ValueError):
        return False


BOOT_FACT = "boot-seconds"
"""Under this name the books keep what the fastest boot took here."""

KNOCKS: Mapping[str, Callable[..., bool]] = {"linux": ssh_answers, "windows": tls_answers}
"""How the network of a guest is tried, by its operating system."""


def watch_soon(lab: Compute, instance_id: str, turn: int, *, fresh: bool = True) -> None:
    """Watch a machine until its instance changes its state; ``fresh``: it has just been started."""
    lab.work.soon(lambda: watch(lab, instance_id, turn, fresh=fresh), name=f"watch-{instance_id}")


def watch(lab: Compute, instance_id: str, turn: int, *, fresh: bool = True) -> None:
    """Knock until the guest answers, then now and then.

    Args:
        lab: where.
        instance_id: whose.
        turn: the turn of the instance that is watched; with the next turn the watch is over.
        fresh: its machine has just been started: what it takes to answer is what a boot takes here.
    """
    started = time.monotonic()
    seen = "initializing"
    while True:
        instance = lab.books.find(Instance, instance_id)
        if instance is None or instance.turn != turn or instance.state != "running":
            return
        answered = _knock(lab, instance)
        if not answered and seen == "passed":
            # One missed answer of a guest that used to answer is no finding yet.
            answered = _second_chance(lab, instance)
        waited = time.monotonic() - started
        if answered and seen == "initializing" and fresh and lab.pace.note(waited, crowd=lab.crowd()):
            lab.books.note(BOOT_FACT, str(lab.pace.fastest).encode())
        late = seen != "initializing" or waited > lab.stretched(lab.timings.impaired, boots=20)
        if answered and seen == "initializing":
            LOG.info("the guest of %s answers", instance_id)
        result = "passed" if answered else "failed" if late else "initializing"
        if result != seen:
            _note(lab, instance_id, turn, result)
            if seen == "initializing":
                console.post(lab, instance_id)
            seen = result
        if not lab.work.pause(lab.timings.recheck if seen == "passed" else lab.timings.probe):
            return


def _second_chance(lab: Compute, instance: Instance) -> bool:
    return any(not lab.work.pause(lab.timings.probe) or _knock(lab, instance) for _ in range(3))


def _knock(lab: Compute, instance: Instance) -> bool:
    return KNOCKS[instance.os](instance.address, seconds=lab.stretched(KNOCK_SECONDS, boots=0.3))


def _note(lab: Compute, instance_id: str, turn: int, result: str) -> None:
    with lab.books.open():
        instance = lab.books.find(Instance, instance_id)
        if instance is not None and instance.turn == turn:
            lab.books.put(replace(instance, reachability=result, reachable_since=now()))


_SUMMARY = {"initializing": "initializing", "passed": "ok", "failed": "impaired"}


def _status(instance: Instance, result: str) -> dict[str, Any]:
    """Show one check: ``not-applicable`` while there is no machine."""
    if instance.state != "running":
        return {"Status": "not-applicable"}
    since = instance.reachable_since if result == "failed" else None
    return {
        "Status": _SUMMARY[result],
        "Details": [{"Name": "reachability", "Status": result, "ImpairedSince": since}],
    }


def _system(instance: Instance) -> str:
    # The host's side: QEMU runs, or the instance were not `running`.
    return "initializing" if instance.reachability == "initializing" else "passed"


def _summary(instance: Instance, result: str) -> str:
    return str(_status(instance, result)["Status"])


FIELDS: Mapping[str, Field[Instance]] = {
    "availability-zone": lambda i: i.zone,
    "event.code": lambda _: None,
    "instance-state-code": lambda i: STATE_CODES[i.state],
    "instance-state-name": lambda i: i.state,
    "instance-status.reachability": lambda i: i.reachability if i.state == "running" else None,
    "instance-status.status": lambda i: _summary(i, i.reachability),
    "system-status.reachability": lambda i: _system(i) if i.state == "running" else None,
    "system-status.status": lambda i: _summary(i, _system(i)),
}
"""What the filters of API_DescribeInstanceStatus look at."""


def describe_instance_status(lab: Compute, call: Call) -> Answer:
    """Show the status checks (API_DescribeInstanceStatus), of running instances only if not asked for all."""
    call.only("InstanceIds", "Filters", "IncludeAllInstances", "MaxResults", "NextToken")
    ids = call.texts("InstanceIds")
    found = find_all(lab, call, Instance, ids) if ids else lab.visible(Instance, call)
    call.not_dry()
    if not call.flag("IncludeAllInstances"):
        found = [instance for instance in found if instance.state == "running"]
    chosen = select(found, call.params.get("Filters", []), fields=FIELDS, tags=lambda i: i.tags)
    some, token = page(sorted(chosen, key=lambda i: i.number), call, ids="instancesSet", given=ids)
    return {
        "InstanceStatuses": [
            {
                "InstanceId": instance.id,
                "AvailabilityZone": instance.zone,
                "InstanceState": state_view(instance.state),
                "InstanceStatus": _status(instance, instance.reachability),
                "SystemStatus": _status(instance, _system(instance)),
            }
            for instance in some
        ],
        "NextToken": token,
    }
