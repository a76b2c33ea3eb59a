"""The volumes of the lab: qcow2 files in layers, of which only the top one of a volume is ever written."""

import os
import shutil
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drtest.errors import EnvironmentFailedError
from drtest.lab.machines import Machine
from drtest.lab.overlay import write_overlay

GIB = 1024**3
LIVE = "live"
"""The file that says that a volume exists: what else is in its folder are layers that somebody needs."""


@dataclass(frozen=True)
class Layer:
    """A disk's bytes at one moment: a file that is never written again.

    Attributes:
        path: the file, which is also the layer's identity.
    """

    path: Path

    @property
    def size(self) -> int:
        """How many bytes the disk had; a disk made from it has at least as many."""
        return _header(self.path)[0]


class Disks:
    """The disks in one folder. Safe to call from several threads, from one process at a time.

    Each volume has a folder with its files ``1.qcow2``, ``2.qcow2`` and so on. The last one is written to, each of
    the others is frozen: the next one is built upon it, and so may be other volumes. Nothing but these files says
    what there is, so that nothing has to be recovered:

    - ``live`` in a volume's folder: the volume exists, and its last file is its top;
    - ``<n>.held``: that layer was given out by ``freeze`` and not yet given back by ``remove_layer``.

    A file without either goes as soon as no other file is built on it.

    Args:
        folder: where they are; made if need be.
        reserve: bytes that are left free on the disk: whatever would need more space is refused below that.
    """

    def __init__(self, folder: Path, *, reserve: int = 2 * GIB) -> None:
        self._folder = folder.absolute()
        self._reserve = reserve
        self._lock = threading.RLock()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for unfinished in self._folder.glob("*/.*.new"):
            unfinished.unlink()
        self._collect()

    def blank(self, volume: str, *, size: int) -> Path:
        """Make an empty volume of ``size`` bytes; gives its top file.

        Raises:
            EnvironmentFailedError: the disk is nearly full, or there is such a volume.
        """
        return self._make(volume, size, None)

    def overlay(self, volume: str, *, layer: Layer, size: int | None = None) -> Path:
        """Make a volume of ``size`` bytes (or the layer's) that begins as a layer's bytes, without copying them.

        Raises:
            EnvironmentFailedError: the disk is nearly full, there is such a volume, or the layer is larger or gone.
        """
        if not layer.path.exists():
            raise EnvironmentFailedError(f"the layer {layer.path}, of which {volume} is to be made, is gone.")
        least = layer.size
        if size is not None and size < least:
            raise EnvironmentFailedError(
                f"{volume} is to have {size} bytes, but begins as a layer of {least}."
            )
        return self._make(volume, size or least, layer.path.absolute())

    def top(self, volume: str) -> Path:
        """Say which file of a volume is written to: the one for a machine to open.

        Raises:
            EnvironmentFailedError: there is no such volume.
        """
        with self._lock:
            if not (self._folder / volume / LIVE).exists():
                raise EnvironmentFailedError(f"the lab has no disk of the volume {volume}.")
            return self._file(volume, self._generations(volume)[-1])

    def size(self, volume: str) -> int:
        """Say how many bytes a volume has, as its machine sees it."""
        return _header(self.top(volume))[0]

    def freeze(self, volumes: Sequence[str], *, machine: Machine | None = None) -> dict[str, Layer]:
        """Keep the bytes that volumes have at this moment, the same one for all: all of them, or none.

        Args:
            volumes: the volumes.
            machine: the running machine that they are attached to; None if they are attached to none that runs.

        Returns:
            A layer for each volume. It stays until ``remove_layer``, whatever becomes of the volume.

        Raises:
            EnvironmentFailedError: the disk is nearly full, a volume is missing, or the machine did not do it.
        """
        with self._lock:
            self._refuse_if_full()
            if machine is not None:
                self.reconcile(machine)
            olds = {volume: self.top(volume) for volume in volumes}
            news: dict[str, Path] = {}
            try:
                for volume, old in olds.items():
                    news[volume] = self._create(volume, int(old.stem) + 1, _header(old)[0], old)
                if machine is not None:
                    machine.switch(news)
            except BaseException as error:
                self._take_back(news, machine)
                if isinstance(error, OSError):
                    raise EnvironmentFailedError(
                        f"{', '.join(volumes)} could not be frozen: {error}"
                    ) from error
                raise
            for old in olds.values():
                old.with_suffix(".held").touch()
                old.chmod(0o444)
            return {volume: Layer(old) for volume, old in olds.items()}

    def grow(self, volume: str, *, size: int, machine: Machine | None = None) -> None:
        """Make a volume larger, by a larger file on top of it: QEMU resizes no file that an NVMe disk has open.

        A running machine writes into it at once, and its guest sees the new size when it is started anew: QEMU's
        NVMe disks have the size that they began with.

        Args:
            volume: the volume.
            size: bytes.
            machine: the running machine that it is attached to; None if it is attached to none that runs.

        Raises:
            EnvironmentFailedError: the disk is nearly full, there is no such volume, or the machine did not do it.
        """
        with self._lock:
            self._refuse_if_full()
            if machine is not None:
                self.reconcile(machine)
            old = self.top(volume)
            if size <= _header(old)[0]:
                return
            new: dict[str, Path] = {}
            try:
                new[volume] = self._create(volume, int(old.stem) + 1, size, old)
                if machine is not None:
                    machine.switch(new)
            except BaseException:
                self._take_back(new, machine)
                raise
            old.chmod(0o444)

    def remove(self, volume: str) -> None:
        """Remove a volume; what was frozen of it, or built on that, stays. Nothing happens if there is none."""
        with self._lock:
            try:
                (self._folder / volume / LIVE).unlink()
            except FileNotFoundError:
                return
            self._collect()

    def hold(self, name: str, *, layer: Layer, size: int) -> Layer:
        """Make a layer that is of no volume: it begins as the bytes of another one, in ``size`` bytes.

        It stays until ``remove_layer``. Whoever made it may put another file in its place that is built on the same.

        Raises:
            EnvironmentFailedError: the disk is nearly full, or the name is taken.
        """
        with self._lock:
            self._refuse_if_full()
            (self._folder / name).mkdir(mode=0o700, exist_ok=True)
            if self._generations(name):
                raise EnvironmentFailedError(f"there is a layer {name} already.")
            path = self._create(name, 1, size, layer.path)
            path.with_suffix(".held").touch()
            return Layer(path)

    def remove_layer(self, layer: Layer) -> None:
        """Give a layer back. Its bytes stay for as long as something is built on them.

        A layer that is not of this folder, as an image's, is left alone.
        """
        with self._lock:
            if layer.path.absolute().parent.parent == self._folder:
                layer.path.with_suffix(".held").unlink(missing_ok=True)
                self._collect()

    def volumes(self) -> tuple[str, ...]:
        """Name the volumes that exist."""
        with self._lock:
            return tuple(sorted(path.parent.name for path in self._folder.glob(f"*/{LIVE}")))

    def layers(self) -> tuple[Layer, ...]:
        """Name the layers that were given out by ``freeze`` and not given back."""
        with self._lock:
            return tuple(
                sorted((Layer(path.with_suffix(".qcow2")) for path in self._folder.glob("*/*.held")), key=str)
            )

    def reconcile(self, machine: Machine) -> None:
        """Believe a running machine about the files that it writes to.

        A freeze that was cut off may have made a file that the machine never went on to: it goes, as the one below it
        is still written.

        Raises:
            EnvironmentFailedError: the machine does not answer.
        """
        with self._lock:
            for volume, written in machine.writing().items():
                if written.parent != self._folder / volume:
                    continue
                above = [number for number in self._generations(volume) if number > int(written.stem)]
                for number in reversed(above):
                    self._file(volume, number).unlink()
                written.with_suffix(".held").unlink(missing_ok=True)
                written.chmod(0o600)  # the next machine has to be able to write it, too

    def free(self) -> int:
        """Say how many bytes are free where the disks are."""
        return shutil.disk_usage(self._folder).free

    def _take_back(self, news: dict[str, Path], machine: Machine | None) -> None:
        """Delete the files of a freeze that failed, as far as it is certain that nothing is written to them.

        Where it is not, they stay: one that was never written to reads as the one below it.
        """
        written: dict[str, Path] = {}
        if machine is not None:
            try:
                written = machine.writing()
            except EnvironmentFailedError:
                return
        for volume, new in news.items():
            if written.get(volume) != new:
                new.unlink()

    def _make(self, volume: str, size: int, backing: Path | None) -> Path:
        with self._lock:
            self._refuse_if_full()
            folder = self._folder / volume
            folder.mkdir(mode=0o700, exist_ok=True)
            if self._generations(volume):
                raise EnvironmentFailedError(f"there is a disk of the volume {volume} already.")
            try:
                path = self._create(volume, 1, size, backing)
            except OSError as error:
                raise EnvironmentFailedError(
                    f"no disk could be made for the volume {volume}: {error}"
                ) from error
            (folder / LIVE).touch()
            return path

    def _create(self, volume: str, number: int, size: int, backing: Path | None) -> Path:
        """Make one qcow2 file; it appears under its name only when it is whole."""
        path = self._file(volume, number)
        partial = path.with_name(f".{path.name}.new")
        partial.unlink(missing_ok=True)
        try:
            write_overlay(partial, size=size, backing=backing)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        partial.rename(path)
        return path

    def _collect(self) -> None:
        """Delete what nobody needs any more: no volume's top, not held, and nothing built on it."""
        while True:
            files = [path for path in self._folder.glob("*/*.qcow2") if path.stem.isdigit()]
            needed = {backing for path in files if (backing := _header(path)[1])}
            tops = {self.top(volume) for volume in self.volumes()}
            spare = [
                path
                for path in files
                if path not in needed and path not in tops and not path.with_suffix(".held").exists()
            ]
            for path in spare:
                path.unlink()
            if not spare:
                break
        for folder in self._folder.iterdir():
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _generations(self, volume: str) -> list[int]:
        names = (path.stem for path in (self._folder / volume).glob("*.qcow2"))
        return sorted(int(name) for name in names if name.isdigit())

    def _file(self, volume: str, number: int) -> Path:
        return self._folder / volume / f"{number}.qcow2"

    def _refuse_if_full(self) -> None:
        free = self.free()
        if free < self._reserve:
            raise EnvironmentFailedError(
                f"{self._folder} has {free / GIB:.1f} GiB left, and {self._reserve / GIB:.1f} GiB must stay free.",
                remedy="Delete snapshots and volumes in the lab, or make room on that disk.",
            )


def _header(path: Path) -> tuple[int, Path | None]:
    """Read from a qcow2 file its disk's size in bytes, and the file that it is built on.

    Source: QEMU, docs/interop/qcow2.txt, "Header". QEMU's own tools would refuse while a machine has it open.
    """
    with path.open("rb") as file:
        magic, _, offset, length, _, size = struct.unpack(">4sIQIIQ", file.read(32))
        if magic != b"QFI\xfb":
            raise EnvironmentFailedError(f"{path} is not a qcow2 file.")
        file.seek(offset)
        return size, Path(os.fsdecode(file.read(length))) if offset else None
