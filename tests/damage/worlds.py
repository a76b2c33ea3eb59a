"""Servers in small: filesystems on disks that can be captured, one load over all of them, and backups of that."""

import dataclasses
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from drtest.guest import canary, linux
from drtest.guest.local import LocalGuest
from drtest.guest.probes import record
from drtest.words import Capture, Filesystem
from tests.damage.store import Store, Write, raw
from tests.guest.images import ENVIRONMENT, root, tool

SIZES = {Filesystem.EXT4: 64 << 20, Filesystem.XFS: 320 << 20, Filesystem.BTRFS: 128 << 20}
SERVER = "lin"
DEADLINE = 300.0
RATE = 600.0
"""Records a second, over all volumes."""
RECORDS = 20000
"""Records that a volume has room for."""


@dataclass(frozen=True, kw_only=True)
class Backup:
    """A recovery point of a server: raw images, and what is known of them.

    Attributes:
        images: by volume; a damage changes these, each test works on copies of its own.
        volumes: the source's volume ids.
        places: where the canary lies.
        series: the load that ran.
        acknowledged: the observation's data, as of the capture.
        capture: how it was made.
        cut: when it was asked for.
        writes: what each disk had acknowledged until shortly before, in order.
        earlier: a backup of the same server that was made before this one; None where there is none.
    """

    images: Mapping[str, Path]
    volumes: Mapping[str, str]
    places: Mapping[str, linux.CanaryPlace]
    series: str
    acknowledged: Mapping[str, Any]
    capture: Capture
    cut: datetime
    writes: Mapping[str, Sequence[Write]] = dataclasses.field(default_factory=dict, repr=False)
    earlier: "Backup | None" = dataclasses.field(default=None, repr=False)

    def copied(self, folder: Path) -> "Backup":
        """The same with images of its own."""
        folder.mkdir(parents=True, exist_ok=True)
        images = {}
        for name, image in self.images.items():
            images[name] = folder / f"{name}.img"
            tool("cp", "--sparse=always", image, images[name])
        return replace(self, images=images)

    def records(self, volume: str) -> list[int]:
        """Indices of the records that had been acknowledged, in order."""
        return _numbers(self.acknowledged["volumes"][volume]["records"])

    def operations(self, volume: str) -> list[int]:
        """Numbers of the acknowledged operations of the metadata arm, in order."""
        return _numbers(self.acknowledged["volumes"][volume]["metadata"])


def _numbers(ranges: Sequence[Sequence[int]]) -> list[int]:
    return [number for first, last in ranges for number in range(first, last + 1)]


class World:
    """One server that runs: its disks, mounts, and a load when there is one.

    Args:
        folder: where all of it is.
        volumes: the filesystem of each volume, in the canary's order.
        options: mkfs's options for a volume whose filesystem is not to be as drtest makes it.
    """

    def __init__(
        self,
        folder: Path,
        volumes: Mapping[str, Filesystem],
        *,
        options: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.kinds = dict(volumes)
        self.store = Store(folder)
        self.volumes = {name: f"vol-0{secrets.token_hex(8)}" for name in volumes}
        self._options = dict(options or {})
        self._mounts: dict[str, Path] = {}
        self._captures = 0
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.enter_context(self.store)
            undo.callback(self.halt)
            self._start()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def _start(self) -> None:
        self.store.start({name: SIZES[kind] for name, kind in self.kinds.items()})
        wanted = {}
        for name, kind in self.kinds.items():
            device, top = self.store.disks[name].device, self.folder / f"mnt-{name}"
            top.mkdir()
            self._mounts[name] = top
            own = name in self._options
            if own:
                root(*self._options[name], device)
                root("mount", device, top)
            wanted[name] = linux.VolumeToPrepare(
                volume_id=self.volumes[name],
                filesystem=None if own else kind,
                mount=str(top),
                device=device,
                fstab=str(self.folder / "fstab"),
            )
        self.places = linux.prepare(LocalGuest(), volumes=wanted, records=RECORDS, deadline=DEADLINE).places

    def halt(self) -> None:
        """Unmounts all, as a server that shuts down."""
        for name, top in self._mounts.items():
            ends = time.monotonic() + 30
            while top.is_mount():  # the load lets go of its files a moment after its last word
                root("umount", top, check=time.monotonic() > ends)
            released(self.store.disks[name].device)
        self._mounts = {}

    @contextmanager
    def still(self) -> Iterator[None]:
        """All filesystems frozen, for a moment."""
        with ExitStack() as undo:
            for top in self._mounts.values():
                root("fsfreeze", "--freeze", top)
                undo.callback(root, "fsfreeze", "--unfreeze", top)
            yield

    @contextmanager
    def loaded(self, *, rate: float = RATE) -> Iterator["Load"]:
        """A load for as long as it is needed, of so many records a second over all volumes."""
        series = canary.new_series()
        log_path = self.folder / f"acks-{series[:8]}.jsonl"
        with (
            linux.load(
                LocalGuest(),
                places=self.places,
                series=series,
                rate=rate,
                seconds=DEADLINE,
                deadline=DEADLINE,
            ) as stream,
            canary.AckLog(log_path, series=series, volumes=list(self.places)) as log,
            canary.Recorder(stream, log) as recorder,
        ):
            yield Load(world=self, series=series, log=log, recorder=recorder)

    def frozen(self, only: Sequence[str] | None = None) -> dict[str, Path]:
        """A capture of all disks, in one moment; some of them, or all, as raw images."""
        frozen = self.store.capture()
        self._captures += 1
        return {
            name: raw(path, self.folder / f"{name}.{self._captures}.img")
            for name, path in frozen.items()
            if only is None or name in only
        }


@dataclass(frozen=True, kw_only=True)
class Load:
    """A load that runs."""

    world: World
    series: str
    log: canary.AckLog
    recorder: canary.Recorder

    def wait(self, records: int) -> None:
        """Waits until each volume has that many more acknowledged records."""
        self.recorder.wait(min(self.log.counts.values()) + records, deadline=DEADLINE)

    def captured(
        self, *, frozen: bool = False, writes: bool = False, only: Sequence[str] | None = None
    ) -> Backup:
        """A backup in mid-load; `only` these of its volumes are wanted as images."""
        if not frozen:
            return self._backup(Capture.RUNNING, writes=writes, only=only)
        with self.world.still():
            return self._backup(Capture.FROZEN, writes=writes, only=only)

    def stopped(self) -> Backup:
        """A backup of the server after it has shut down."""
        self.recorder.stop(deadline=DEADLINE)
        self.world.halt()
        return self._backup(Capture.STOPPED, writes=False)

    def _backup(self, capture: Capture, *, writes: bool, only: Sequence[str] | None = None) -> Backup:
        cut = self.log.sync()
        lengths = self.world.store.lengths()
        images = self.world.frozen(only)
        known = {name: self.world.store.writes(name, lengths[name]) for name in lengths} if writes else {}
        return Backup(
            images=images,
            volumes=self.world.volumes,
            places=self.world.places,
            series=self.series,
            acknowledged=canary.acknowledged(self.log.path, cut=cut, volumes=list(self.world.kinds)),
            capture=capture,
            cut=cut,
            writes=known,
        )


def released(device: str) -> None:
    """Waits until a filesystem has really ended: a mount namespace of anybody's may hold a copy of its mount."""
    ends = time.monotonic() + DEADLINE
    while True:
        try:
            os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
        except OSError:
            assert time.monotonic() < ends, f"{device} is still in use, though it is unmounted"
            time.sleep(0.05)
        else:
            return


def places_of(image: Path, backup: Backup, volume: str, index: int) -> list[int]:
    """All places in an image that hold a record: btrfs leaves older copies of its block behind."""
    content = image.read_bytes()
    wanted_series, wanted_id = bytes.fromhex(backup.series), backup.volumes[volume]
    found, place = [], -1
    # The magic, the version and the kind: records in place only.
    while (place := content.find(b"DRTCNRY1\x01\x00\x00\x00", place + 1)) >= 0:
        data = content[place : place + record.RECORD_BYTES]
        if data[40:56] != wanted_series:
            continue
        decoded = record.decode(data)
        if decoded is not None and decoded.place == index and decoded.volume_id == wanted_id:
            found.append(place)
    assert found, f"record {index} of {volume} is not in {image}"
    return found


class CantMountError(Exception):
    """The kernel refuses to mount an image."""


@contextmanager
def mounted_at(image: Path, options: str = "defaults", *, kind: str = "") -> Iterator[Path]:
    """An image, mounted for a moment, its log replayed.

    On a loop device of its own: `mount -o loop` takes up one that still has the file, with what that remembers of it.

    Raises:
        CantMountError: the kernel refuses.
    """
    kind = kind or tool("blkid", "-p", "-o", "value", "-s", "TYPE", image).strip()
    with mounted_part(image, 0, options, kind=kind) as top:
        yield top


@contextmanager
def mounted_part(
    image: Path, offset: int, options: str = "defaults", *, kind: str = "ext4"
) -> Iterator[Path]:
    """A filesystem that begins at an offset of an image, mounted for a moment.

    Raises:
        CantMountError: the kernel refuses.
    """
    top = image.with_suffix(".mnt")
    top.mkdir(exist_ok=True)
    device = root("losetup", "-f", "--show", "-o", str(offset), image).strip()
    try:
        argv = [
            "mount",
            "-t",
            kind,
            "-o",
            f"{options},nouuid" if kind == "xfs" else options,
            device,
            str(top),
        ]
        done = subprocess.run(argv, check=False, capture_output=True, env=ENVIRONMENT, timeout=DEADLINE)
        if done.returncode:
            raise CantMountError(done.stderr.decode())
        try:
            yield top
        finally:
            root("umount", top)
            released(device)
    finally:
        root("losetup", "-d", device)
