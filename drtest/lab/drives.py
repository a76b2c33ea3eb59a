"""The drives of a running machine: which volumes are plugged in, and which files these are written to."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drtest.errors import EnvironmentFailedError
from drtest.lab.board import PORTS, MachineDisk, port
from drtest.lab.qmp import CommandError, Monitor


@dataclass(frozen=True, kw_only=True)
class _Written:
    """What a plugged volume is written to: QEMU's name for it, and the file."""

    node: str
    path: Path


class _Graph:
    """QEMU's graph of open files, from the devices down.

    Attributes:
        names: of the nodes, by their numbers.
        tops: the number of the node that each plugged volume is written to, below its log if it has one.
    """

    def __init__(self, monitor: Monitor) -> None:
        graph: Mapping[str, Any] = monitor.execute("x-debug-query-block-graph")
        self._below = {(edge["parent"], edge["name"]): int(edge["child"]) for edge in graph["edges"]}
        self.names = {int(node["id"]): str(node["name"]) for node in graph["nodes"]}
        devices = (int(node["id"]) for node in graph["nodes"] if node["type"] == "block-backend")
        self.tops = {
            f"vol-{self.names[device].removeprefix('vol')}": self._below_log(self._below[device, "root"])
            for device in devices
            if (device, "root") in self._below
        }

    def _below_log(self, node: int) -> int:
        return self._below[node, "file"] if self.names[node].endswith(".log") else node

    def child(self, node: int, *roles: str) -> int | None:
        """Find what a node stands on in one of some roles."""
        return next((self._below[node, role] for role in roles if (node, role) in self._below), None)


class Drives:
    """The disks of one running machine, as QEMU has them at each moment. Safe to call from several threads.

    Args:
        machine: what messages call the machine.
        monitor: its control socket.
    """

    def __init__(self, machine: str, monitor: Monitor) -> None:
        self._machine = machine
        self._monitor = monitor
        self._plugging = threading.Lock()

    def plugged(self) -> dict[str, str]:
        """Map the serial number of each disk to the port that it is in."""
        found: dict[str, str] = {}
        for entry in self._monitor.execute("qom-list", {"path": "/machine/peripheral"}):
            if entry["type"] == "child<nvme>":
                where = {"path": f"/machine/peripheral/{entry['name']}", "property": "parent_bus"}
                try:
                    found[entry["name"]] = self._monitor.execute("qom-get", where).rpartition("/")[2]
                except CommandError:
                    continue  # it went while we looked
        return found

    def attach(self, disk: MachineDisk, *, deadline: float) -> None:
        """Plug a disk in; the guest sees it a second or so later.

        Raises:
            EnvironmentFailedError: no port is free, the volume is attached already, or QEMU refused.
        """
        with self._plugging:
            plugged = self.plugged()
            if disk.serial in plugged:
                raise EnvironmentFailedError(
                    f"{disk.volume} is attached to the machine {self._machine} already."
                )
            free = [name for name in map(port, range(PORTS)) if name not in plugged.values()]
            if not free:
                raise EnvironmentFailedError(f"all {PORTS} ports of the machine {self._machine} are taken.")
            # An attach that a kill of the lab cut off may have left its files open.
            self._close(disk.serial, time.monotonic() + deadline)
            self._monitor.execute("blockdev-add", disk.block_device(), deadline=deadline)
            try:
                self._monitor.execute("device_add", disk.device_on(free[0]), deadline=deadline)
            except CommandError:
                self._monitor.execute("blockdev-del", {"node-name": disk.drive}, deadline=deadline)
                raise

    def detach(self, volume: str, *, deadline: float) -> None:
        """Have the guest let go of a disk, and close its files. Nothing happens if it is not attached.

        Raises:
            DeadlineError: the guest did not let go; it may still do so, and the call can be repeated.
            EnvironmentFailedError: QEMU refused.
        """
        serial = volume.replace("-", "")
        end = time.monotonic() + deadline
        with self._plugging:
            while serial in self.plugged():
                try:
                    self._monitor.execute_until(
                        "device_del",
                        {"id": serial},
                        event="DEVICE_DELETED",
                        about=lambda data: data.get("device") == serial,
                        deadline=max(0.1, end - time.monotonic()),
                    )
                except CommandError:  # it is on its way out already, from an earlier call, or just went
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.1)
            self._close(serial, end)

    def switch(self, tops: Mapping[str, Path], *, deadline: float) -> None:
        """Let volumes go on in new files, all at the same moment; what they had until then is written no more.

        Raises:
            CommandError: QEMU refused, and nothing has changed.
            EnvironmentFailedError: QEMU did not answer: ``writing`` says what became of it.
        """
        files = self._files()
        now = self._written(files)
        missing = sorted(set(tops) - set(now))
        if missing:
            raise EnvironmentFailedError(
                f"{', '.join(missing)}: not attached to the machine {self._machine}."
            )
        new = {volume: MachineDisk(device="", volume=volume, path=path) for volume, path in tops.items()}
        added: list[str] = []
        try:
            for disk in new.values():
                if disk.node in files:
                    # A snapshot that a kill of the lab cut off had opened a file and never gone on to it.
                    self._monitor.execute("blockdev-del", {"node-name": disk.node}, deadline=deadline)
                self._monitor.execute("blockdev-add", disk.block_device(on_top=True), deadline=deadline)
                added.append(disk.node)
            actions = [
                {"type": "blockdev-snapshot", "data": {"node": now[volume].node, "overlay": disk.node}}
                for volume, disk in new.items()
            ]
            self._monitor.execute("transaction", {"actions": actions}, deadline=deadline)
        except CommandError:
            for node in added:
                self._monitor.execute("blockdev-del", {"node-name": node}, deadline=deadline)
            raise

    def writing(self) -> dict[str, Path]:
        """Say which file each plugged volume is written to at this moment."""
        return {volume: written.path for volume, written in self._written(self._files()).items()}

    def _files(self) -> dict[str, str]:
        """Map each node that QEMU has, open files and what is stacked on them, to its file's name."""
        nodes = self._monitor.execute("query-named-block-nodes", {"flat": True})
        return {node["node-name"]: node["file"] for node in nodes}

    def volumes(self) -> tuple[str, ...]:
        """Name the volumes that are plugged in."""
        return tuple(sorted(_Graph(self._monitor).tops))

    def _written(self, files: Mapping[str, str]) -> dict[str, _Written]:
        """Map each plugged volume to what it is written to, from its device downwards.

        That a node could be written to says little: one that was opened for a snapshot that never came to be can, too.
        """
        graph = _Graph(self._monitor)
        found = {}
        for volume, top in graph.tops.items():
            file = top
            while (lower := graph.child(file, "file", "image")) is not None:
                file = lower
            found[volume] = _Written(node=graph.names[top], path=Path(files[graph.names[file]]))
        return found

    def _close(self, serial: str, end: float) -> None:
        """Close the files of a volume that is not plugged in any more: the top one first, it holds the others."""
        while True:
            names = [name for name in self._files() if name.startswith(f"{serial}.")]
            if not names:
                return
            closed = 0
            for name in names:
                try:
                    self._monitor.execute("blockdev-del", {"node-name": name})
                    closed += 1
                except CommandError:
                    if time.monotonic() > end:
                        raise
            if not closed:
                time.sleep(0.05)
