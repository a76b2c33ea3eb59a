"""Disks that can be captured while they are written to: what EBS does, by the storage daemon of QEMU.

Each disk is a chain of qcow2 files, shown as a file by FUSE, with a loop device on it for a filesystem to be mounted
from. A capture starts a new file on all disks in one transaction, in the middle of whatever is being written; the
files below are the capture. Beside it every write is logged in the order in which it came, flushes included, in
dm-log-writes' format (Documentation/admin-guide/device-mapper/log-writes.rst), so that any state that a disk without
its promises could have been in can be rebuilt.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.guest.images import ENVIRONMENT, root, tool

SECTOR = 512
LOG_MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


@dataclass(frozen=True, kw_only=True)
class Write:
    """One write that a disk acknowledged; `flush`: all before it was promised to be on the disk by then."""

    offset: int
    data: bytes
    flush: bool


@dataclass(frozen=True, kw_only=True)
class Disk:
    """One disk: its loop device."""

    name: str
    size: int
    device: str


class Store:
    """The disks of one server, served by one daemon; all is undone at the end.

    Args:
        folder: where its files are; its path must be short enough for a socket's address.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disks: dict[str, Disk] = {}
        self._tops: dict[str, int] = {}
        self._daemon: subprocess.Popen[bytes] | None = None
        self._monitor: _Monitor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for disk in self.disks.values():
            root("losetup", "-d", disk.device, check=False)
        if self._monitor is not None:
            self._monitor.close()
        if self._daemon is not None:
            self._daemon.send_signal(signal.SIGTERM)
            self._daemon.wait(30)

    def start(self, sizes: dict[str, int]) -> None:
        """Makes the disks and their devices."""
        address = self.folder / "qmp"
        argv = ["setpriv", "--pdeathsig", "TERM", "--", "qemu-storage-daemon"]
        argv += ["--chardev", f"socket,id=qmp,path={address},server=on,wait=off", "--monitor", "chardev=qmp"]
        for name, size in sizes.items():
            first, log, shown = (
                self._file(name, 0),
                self.folder / f"{name}.log",
                self.folder / f"{name}.shown",
            )
            tool("qemu-img", "create", "-q", "-f", "qcow2", first, str(size))
            for path in (log, shown):
                path.touch()
            nodes: list[dict[str, Any]] = [
                {
                    "driver": "qcow2",
                    "node-name": f"{name}.0",
                    "file": {"driver": "file", "filename": str(first)},
                },
                {
                    "driver": "blklogwrites",
                    "node-name": f"{name}.logged",
                    "file": f"{name}.0",
                    "log": {"driver": "file", "filename": str(log)},
                },
            ]
            argv += [word for node in nodes for word in ("--blockdev", json.dumps(node))]
            argv += [
                "--export",
                f"type=fuse,id={name},node-name={name}.logged,mountpoint={shown},writable=on",
            ]
            self._tops[name] = 0
        with (self.folder / "daemon.log").open("wb") as out:
            self._daemon = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=ENVIRONMENT,
            )
        self._monitor = _Monitor(address, self._daemon)
        for name, size in sizes.items():
            shown = self.folder / f"{name}.shown"
            _until(
                lambda shown=shown: shown.stat().st_dev != self.folder.stat().st_dev,
                f"{shown} was never shown",
            )
            device = root("losetup", "-f", "--show", shown).strip()
            self.disks[name] = Disk(name=name, size=size, device=device)

    def capture(self) -> dict[str, Path]:
        """All disks as they are at this moment, and the same moment for all: frozen qcow2 files."""
        assert self._monitor is not None
        actions = []
        for name, top in self._tops.items():
            new = self._file(name, top + 1)
            actions.append(
                {
                    "type": "blockdev-snapshot-sync",
                    "data": {
                        "node-name": f"{name}.{top}",
                        "snapshot-file": str(new),
                        "snapshot-node-name": f"{name}.{top + 1}",
                        "format": "qcow2",
                    },
                }
            )
        self._monitor.execute("transaction", {"actions": actions})
        frozen = {name: self._file(name, top) for name, top in self._tops.items()}
        self._tops = {name: top + 1 for name, top in self._tops.items()}
        return frozen

    def lengths(self) -> dict[str, int]:
        """How long the log of each disk is by now; what was acknowledged is in it."""
        return {name: (self.folder / f"{name}.log").stat().st_size for name in self.disks}

    def writes(self, name: str, length: int) -> list[Write]:
        """What was written to a disk until its log was that long, in order."""
        with (self.folder / f"{name}.log").open("rb") as file:
            return read_log(file.read(length))

    def _file(self, name: str, number: int) -> Path:
        return self.folder / f"{name}.{number}.qcow2"


def read_log(log: bytes) -> list[Write]:
    """The writes in a log of dm-log-writes; a last one that is cut off is left out."""
    magic, _, _, sector = struct.unpack_from("<QQQI", log)
    assert magic == LOG_MAGIC
    found, place = [], sector
    while place + sector <= len(log):
        first, count, flags, _ = struct.unpack_from("<QQQQ", log, place)
        place += sector
        if flags & DISCARD:
            # Discarded bytes read as zeros or as before: here as zeros, which is the harder case.
            found.append(Write(offset=first * sector, data=bytes(count * sector), flush=False))
            continue
        data = log[place : place + count * sector]
        if not flags and not count:
            break  # beyond its end: the file grows in larger steps
        if len(data) < count * sector:
            break
        place += count * sector
        found.append(Write(offset=first * sector, data=data, flush=bool(flags & (FLUSH | FUA))))
    return found


def rebuilt(writes: Sequence[Write], *, size: int, path: Path) -> Path:
    """A raw image of a disk that was empty and then got these writes."""
    with path.open("wb") as file:
        file.truncate(size)
        for write in writes:
            file.seek(write.offset)
            file.write(write.data)
    return path


def raw(frozen: Path, path: Path) -> Path:
    """The bytes of a frozen disk as a raw image of our own."""
    tool("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", frozen, path)
    return path


def _until(ready: Any, otherwise: str) -> None:
    ends = time.monotonic() + 20
    while not ready():
        assert time.monotonic() < ends, otherwise
        time.sleep(0.01)


class _Monitor:
    """QMP over its socket: one command, one answer."""

    def __init__(self, address: Path, daemon: "subprocess.Popen[bytes]") -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        ends = time.monotonic() + 20
        while True:
            try:
                self._socket.connect(os.fspath(address))
                break
            except OSError:
                assert daemon.poll() is None, f"the storage daemon ended: see {address.parent / 'daemon.log'}"
                assert time.monotonic() < ends, f"the storage daemon never listened on {address}"
                time.sleep(0.01)
        self._file = self._socket.makefile("rb")
        self._file.readline()
        self.execute("qmp_capabilities")

    def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Runs a command; what went wrong is an assertion."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments or {}}).encode() + b"\n")
        for line in self._file:
            answer = json.loads(line)
            assert "error" not in answer, f"{command}: {answer}"
            if "return" in answer:
                return answer["return"]
        raise AssertionError(f"{command}: the storage daemon hung up")

    def close(self) -> None:
        """Hangs up."""
        self._file.close()
        self._socket.close()
