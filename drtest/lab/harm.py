"""Harm to the disks of a running machine: they hang, or their requests end in errors."""

from typing import Any

from drtest.errors import EnvironmentFailedError
from drtest.lab.machines import Machine, MachineDisk

_NO_LIMIT = {"bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0}
_EIO = 5


def hang(machine: Machine, volume: str) -> None:
    """Let requests to a volume wait: at one byte a second, a page takes more than an hour.

    Raises:
        EnvironmentFailedError: the volume is not plugged in, or QEMU refused.
    """
    limits = {**_NO_LIMIT, "id": volume.replace("-", ""), "bps": 1}
    machine.monitor.execute("block_set_io_throttle", limits)


def fail(machine: Machine, volume: str, *, requests: str) -> None:
    """Let requests to a volume end in I/O errors, by QEMU's blkdebug between its qcow2 file and the disk.

    What was written before stays as it is. A snapshot ends the errors of writes: they go to a new file then.

    Args:
        machine: where it is plugged in.
        volume: which.
        requests: ``all``, ``reads`` or ``writes``.

    Raises:
        EnvironmentFailedError: the volume is not plugged in, or QEMU refused.
    """
    serial, top = volume.replace("-", ""), _top(machine, volume)
    below = _children(machine, top)
    rule: dict[str, Any] = {"event": "none", "errno": _EIO}
    if requests != "all":
        rule["iotype"] = requests.removesuffix("s")
    broken = f"{serial}.broken"
    machine.monitor.execute(
        "blockdev-add",
        {"driver": "blkdebug", "node-name": broken, "image": below["file"], "inject-error": [rule]},
    )
    again = {
        "driver": "qcow2",
        "node-name": top,
        "discard": "unmap",
        **below,
        "file": broken,
    }
    machine.monitor.execute("blockdev-reopen", {"options": [again]})


def _top(machine: Machine, volume: str) -> str:
    """Name the node of a volume that is written to."""
    path = machine.writing().get(volume)
    if path is None:
        raise EnvironmentFailedError(f"{volume} is not plugged into the machine {machine.spec.id}.")
    return MachineDisk(device="", volume=volume, path=path).node


def _children(machine: Machine, node: str) -> dict[str, str]:
    """Name what a node stands on: its ``file``, and its ``backing`` where it has one."""
    graph = machine.monitor.execute("x-debug-query-block-graph")
    names = {one["id"]: str(one["name"]) for one in graph["nodes"]}
    (number,) = [key for key, name in names.items() if name == node]
    return {
        edge["name"]: names[edge["child"]]
        for edge in graph["edges"]
        if edge["parent"] == number and edge["name"] in {"file", "backing"}
    }
