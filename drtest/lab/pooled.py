"""The volumes that have a write pool in front of them while their machine runs, and the snapshots taken of them.

QEMU notes each write to such a volume in a log. The volume itself has them all, so that the guest is served by its true
bytes, and has them when it stops: that the pool is drained then needs no work. What a snapshot of the running volume
misses is found afterwards, from the log.

Nothing is kept in memory: a file beside the machine says where the pool began, one beside a snapshot's layer that its
bytes are still to be put together. So whoever takes the lab up after a kill goes on with both.
"""

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from drtest.errors import EnvironmentFailedError
from drtest.lab.board import MachineDisk, MachineSpec
from drtest.lab.disks import Disks, Layer
from drtest.lab.machines import Machine
from drtest.lab.pool import Pool
from drtest.lab.rebuilt import Moment, rebuild
from drtest.lab.write_log import FIRST, SECTOR, open_log

LOG_LIMIT = 512 * 1024**2
"""Bytes of a log at which the pool is drained: what lies on the disk for it has an end, and so has a rebuild's time."""

_ORDER, _WRITES = "moment.json", "writes.log"
"""Beside a layer that is still to be put together: what of, and the log."""


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """A pooled volume of a running machine.

    Attributes:
        volume: its id.
        base: its last drained state: the file under the one that it went on in.
        log: its writes.
        start: where the log's first entry is that may not be in ``base``.
        pool: what is in front of it.
    """

    volume: str
    base: Path
    log: Path
    start: int
    pool: Pool

    def write(self, folder: Path) -> None:
        """Write it down in its machine's folder, whole or not at all."""
        file = folder / f"{self.volume}.pool"
        partial = file.with_suffix(".pool.new")
        partial.write_text(json.dumps(asdict(self), default=str))
        partial.replace(file)


def pooled(folder: Path) -> Iterator[Pooled]:
    """Give the pooled volumes of a machine by its folder."""
    for file in sorted(folder.glob("*.pool")):
        plain = json.loads(file.read_text())
        paths = {name: Path(plain[name]) for name in ("base", "log")}
        yield Pooled(**plain | paths | {"pool": Pool(**plain["pool"])})


class Pools:
    """The write pools of a lab. Safe to call from several threads.

    Args:
        disks: the volumes.
    """

    def __init__(self, disks: Disks) -> None:
        self._disks = disks
        self._freezing = threading.RLock()
        self._rebuilding = threading.Lock()

    def begin(self, spec: MachineSpec) -> MachineSpec:
        """Put the pools that a machine is to have in front of its volumes, before it starts.

        A pooled volume goes on in a file of its own, as it is drained now.

        Returns:
            What to start instead.

        Raises:
            EnvironmentFailedError: the disk is nearly full.
        """
        self.end(spec.folder)
        return replace(spec, disks=tuple(self._begin(disk, spec.folder) for disk in spec.disks))

    def _begin(self, disk: MachineDisk, folder: Path) -> MachineDisk:
        if disk.pool is None:
            return disk
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = folder.absolute() / f"{disk.serial}.writes"
        log.touch(mode=0o600)
        base = self._on_a_new_file(disk.volume)
        # Each start has waiting times of its own, and volumes do not suffer alike.
        pool = replace(disk.pool, seed=f"{disk.pool.seed} {disk.volume} {base.stem}")
        Pooled(volume=disk.volume, base=base, log=log, start=FIRST, pool=pool).write(folder)
        return replace(disk, path=self._disks.top(disk.volume), log=log)

    def _on_a_new_file(self, volume: str, machine: Machine | None = None) -> Path:
        """Let a volume go on in a new file, and say which one it had until then."""
        layer = self._disks.freeze([volume], machine=machine)[volume]
        self._disks.remove_layer(layer)  # it stays: the new file is built on it
        return layer.path

    def end(self, folder: Path) -> None:
        """Forget the pools of a machine that has ended: they are drained."""
        for pattern in ("*.pool", "*.writes"):
            for file in folder.glob(pattern):
                file.unlink(missing_ok=True)

    def freeze(self, volumes: Sequence[str], *, machine: Machine | None) -> dict[str, Layer]:
        """Freeze volumes as `Disks.freeze` does; of pooled ones, what has left the pool by now.

        The layer of a pooled volume is promised: it has its bytes when `finish` returns.

        Raises:
            EnvironmentFailedError: as `Disks.freeze`.
        """
        with self._freezing:
            promised: dict[str, Layer] = {}
            try:
                for one in pooled(machine.spec.folder) if machine is not None else ():
                    if one.volume in volumes:
                        promised[one.volume] = self._promise(one)
                frozen = self._disks.freeze(volumes, machine=machine)
            except BaseException as error:
                for layer in promised.values():
                    self.remove_layer(layer)
                if isinstance(error, OSError):
                    raise EnvironmentFailedError(
                        f"{', '.join(volumes)} could not be frozen: {error}"
                    ) from error
                raise
            for volume in promised:
                self._disks.remove_layer(frozen[volume])  # the true bytes: nobody may have them
            return frozen | promised

    def _promise(self, one: Pooled) -> Layer:
        """Say what a layer is to be made of: the log as it is now, and the file below it.

        The log's length is taken before the freeze, which waits for all writes that are under way: what lies below it
        is whole then. All writes that were acknowledged before this call do.
        """
        moment = Moment(
            size=self._disks.size(one.volume),
            base=one.base,
            start=one.start,
            until=one.log.stat().st_size,
            pool=one.pool,
        )
        name = f"{one.volume}~{self._disks.top(one.volume).stem}"
        layer = self._disks.hold(name, layer=Layer(one.base), size=moment.size)
        folder = layer.path.parent
        # A second name: the log is there for as long as it is needed, whatever becomes of the machine.
        os.link(one.log, folder / _WRITES)
        (folder / _ORDER).write_text(moment.to_json())
        return layer

    def finish(self, layer: Layer) -> None:
        """Put the bytes of a promised layer together; nothing is to be done for any other.

        Raises:
            EnvironmentFailedError: what it is made of can't be read, or there is no room.
        """
        folder = layer.path.parent
        with self._rebuilding:
            if not (folder / _ORDER).exists():
                return
            fresh = folder / f".{layer.path.name}.new"
            fresh.unlink(missing_ok=True)
            try:
                rebuild(fresh, Moment.from_json((folder / _ORDER).read_text()), log=folder / _WRITES)
                fresh.chmod(0o444)
                fresh.replace(layer.path)
            except OSError as error:
                fresh.unlink(missing_ok=True)
                raise EnvironmentFailedError(f"{layer.path} could not be written: {error}") from error
            self._fulfilled(folder)

    def remove_layer(self, layer: Layer) -> None:
        """Give a layer back, promised or not."""
        if "~" in layer.path.parent.name:
            with self._rebuilding:
                self._fulfilled(layer.path.parent)
        self._disks.remove_layer(layer)

    def _fulfilled(self, folder: Path) -> None:
        for name in (_ORDER, _WRITES):
            (folder / name).unlink(missing_ok=True)

    def bound(self, machine: Machine) -> None:
        """Drain the pools of a machine whose logs have become too long.

        Raises:
            EnvironmentFailedError: the machine did not do it, or the disk is nearly full.
        """
        with self._freezing:
            for one in pooled(machine.spec.folder):
                until = one.log.stat().st_size
                if until - one.start > LOG_LIMIT and not self._promised_of(one.volume):
                    self._drain(one, machine, until)

    def _promised_of(self, volume: str) -> bool:
        folders = (layer.path.parent for layer in self._disks.layers())
        return any(one.name.startswith(f"{volume}~") and (one / _ORDER).exists() for one in folders)

    def _drain(self, one: Pooled, machine: Machine, until: int) -> None:
        base = self._on_a_new_file(one.volume, machine)
        with open_log(one.log) as log:
            start = log.boundary(start=one.start, until=until)
        replace(one, base=base, start=start).write(machine.spec.folder)
        hole = ["fallocate", "--punch-hole", "--offset", str(SECTOR), "--length", str(start - SECTOR)]
        done = subprocess.run([*hole, str(one.log)], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise EnvironmentFailedError(
                f"what is done with of {one.log} still takes its room: {done.stderr.strip()}"
            )
