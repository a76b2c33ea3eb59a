"""Disk images of the test's own: made, mounted, captured while they are written to, and damaged."""

import os
import secrets
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from drtest.guest import canary, linux
from drtest.guest.local import LocalGuest
from drtest.words import Filesystem

SIZES = {"ext4": 64 << 20, "xfs": 320 << 20, "btrfs": 256 << 20, "vfat": 16 << 20}
MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F"],
    "xfs": ["mkfs.xfs", "-q"],
    "btrfs": ["mkfs.btrfs", "-q"],
    "vfat": ["mkfs.vfat"],
}
ENVIRONMENT = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin", LC_ALL="C")


def root(*argv: str | Path, check: bool = True) -> str:
    """Runs a command as root, by sudo where the tests do not run as root; these tests can't do without."""
    prefix = [] if os.getuid() == 0 else ["sudo", "-n"]
    done = subprocess.run([*prefix, *argv], capture_output=True, env=ENVIRONMENT, check=False)
    assert not check or done.returncode == 0, (
        f"{argv} said {done.returncode}: {(done.stdout + done.stderr).decode()} "
        "(these tests need root, or sudo without a password, and loop devices)"
    )
    return done.stdout.decode()


def tool(*argv: str | Path) -> str:
    """Runs a command that works on files, as whoever the tests run as."""
    done = subprocess.run(argv, capture_output=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, f"{argv}: {(done.stdout + done.stderr).decode()}"
    return done.stdout.decode()


@dataclass(frozen=True, kw_only=True)
class Captured:
    """A recovery point of one volume: its bytes, and what had been acknowledged when they were taken."""

    image: Path
    place: linux.CanaryPlace
    series: str
    acknowledged: dict[str, Any]

    @property
    def expected(self) -> linux.CanaryToFind:
        """The canary that a copy of it should hold."""
        return linux.CanaryToFind(
            volume_id=self.place.volume_id, inside=self.place.inside, series=self.series
        )

    @property
    def records(self) -> canary.Ranges:
        """Indices of the acknowledged records."""
        return tuple((first, last) for first, last in self.acknowledged["volumes"]["data"]["records"])

    @property
    def metadata(self) -> canary.Ranges:
        """Indices of the acknowledged operations of the metadata arm."""
        return tuple((first, last) for first, last in self.acknowledged["volumes"]["data"]["metadata"])


class Images:
    """A folder of images, with the loop devices and mounts that were made of them: all undone at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._loops: list[str] = []
        self._mounts: list[Path] = []
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for mount in reversed(self._mounts):
            root("umount", mount, check=False)
        for device in reversed(self._loops):
            root("losetup", "-d", device, check=False)

    def blank(self, size: int) -> Path:
        """A new image of zeros."""
        self._count += 1
        path = self.folder / f"{self._count}.img"
        with path.open("wb") as file:
            file.truncate(size)
        return path

    def made(self, filesystem: str, *options: str) -> Path:
        """A new image with an empty filesystem."""
        path = self.blank(SIZES[filesystem])
        tool(*MAKE[filesystem], *options, path)
        return path

    def copy(self, image: Path) -> Path:
        """A copy of an image."""
        self._count += 1
        path = self.folder / f"{self._count}.img"
        tool("cp", "--sparse=always", image, path)
        return path

    def loop(self, image: Path) -> str:
        """A loop device over an image."""
        device = ""
        for _attempt in range(5):  # another process may take the free one that it found
            device = root("losetup", "-f", "--show", image, check=_attempt == 4).strip()
            if device:
                break
        self._loops.append(device)
        return device

    def _unmount(self, top: Path) -> None:
        """Unmounts, as soon as whoever had files open there has ended."""
        until = time.monotonic() + 30
        while root("sh", "-c", f"umount {top} && echo done", check=False) != "done\n":
            assert time.monotonic() < until, f"{top} stays in use"
            time.sleep(0.1)
        self._mounts.remove(top)

    def remember(self, top: Path) -> None:
        """Undoes at the end a mount that somebody else made."""
        if top not in self._mounts:
            self._mounts.append(top)

    @contextmanager
    def mounted(self, image: Path) -> Iterator[Path]:
        """An image, mounted for a moment."""
        top = self.folder / f"mnt-{image.stem}"
        top.mkdir(exist_ok=True)
        root("mount", "-o", "loop", image, top)
        self._mounts.append(top)
        try:
            yield top
        finally:
            self._unmount(top)

    def partitioned(self, label: str, *contents: Path) -> Path:
        """An image with a partition for each of the contents, one MiB apart."""
        mebi = 1 << 20
        sizes = [-(-content.stat().st_size // mebi) for content in contents]
        path = self.blank((sum(sizes) + len(sizes) + 2) * mebi)
        script, start = [f"label: {label}"], 1
        for size in sizes:
            script.append(f"start={start}MiB, size={size}MiB")
            start += size + 1
        subprocess.run(["sfdisk", "-q", path], input="\n".join(script).encode(), check=True, env=ENVIRONMENT)
        start = 1
        for size, content in zip(sizes, contents, strict=True):
            tool(
                "dd",
                f"if={content}",
                f"of={path}",
                f"seek={start}",
                "bs=1M",
                "conv=notrunc,sparse",
                "status=none",
            )
            start += size + 1
        return path

    def captured(self, filesystem: Filesystem, how: str) -> Captured:
        """A volume that a load writes to, captured.

        Args:
            filesystem: what is on it.
            how: ``running`` (in mid-load, as a snapshot takes it), ``power cut`` (without even the log flushed),
                ``stopped`` (unmounted after the load).
        """
        image = self.blank(SIZES[filesystem.value])
        device = self.loop(image)
        top = self.folder / f"live-{image.stem}"
        guest = LocalGuest()
        prepared = linux.prepare(
            guest,
            volumes={
                "data": linux.VolumeToPrepare(
                    volume_id=f"vol-0{secrets.token_hex(8)}",
                    filesystem=filesystem,
                    mount=str(top),
                    device=device,
                    fstab=str(self.folder / "fstab"),
                )
            },
            records=4000,
            deadline=60,
        )
        self._mounts.append(top)
        series = canary.new_series()
        log_path = self.folder / f"acks-{image.stem}.jsonl"
        with (
            linux.load(
                guest, places=prepared.places, series=series, rate=400, seconds=60, deadline=90
            ) as stream,
            canary.AckLog(log_path, series=series, volumes=["data"]) as log,
            canary.Recorder(stream, log) as recorder,
        ):
            recorder.wait(200, deadline=60)
            if how == "stopped":
                recorder.stop(deadline=30)
                cut = log.sync()
                self._unmount(top)
                copy = self.copy(image)
            elif how == "power cut":
                cut = log.sync()
                root("xfs_io", "-x", "-c", "shutdown", top)
                self._unmount(top)
                copy = self.copy(image)
            else:
                cut = log.sync()
                copy = self._in_one_moment(image, int(stream.ready["pid"]))  # type: ignore[attr-defined]
                recorder.stop(deadline=30)
                self._unmount(top)
        return Captured(
            image=copy,
            place=prepared.places["data"],
            series=series,
            acknowledged=canary.acknowledged(log_path, cut=cut, volumes=["data"]),
        )

    def _in_one_moment(self, image: Path, writer: int) -> Path:
        """A copy of a mounted image that is of one moment: the writer is stopped, and nothing changes meanwhile."""
        root("kill", f"-{int(signal.SIGSTOP)}", str(writer))
        try:
            until = time.monotonic() + 30
            while time.monotonic() < until:
                one, other = self.copy(image), self.copy(image)
                if subprocess.run(["cmp", "-s", one, other], check=False).returncode == 0:
                    return one
            raise AssertionError("the image never stood still")
        finally:
            root("kill", f"-{int(signal.SIGCONT)}", str(writer))


def examine(image: Path, **options: Any) -> dict[str, dict[str, Any]]:
    """The examination of a copy, by the same program as in a drill: what each probe saw."""
    volume = linux.VolumeToExamine(device=str(image), **options)
    seen = linux.offline(LocalGuest(), volumes={"data": volume}, deadline=120)
    return {one.probe: dict(one.data) for one in seen}


def write(image: Path, offset: int, data: bytes) -> None:
    """Overwrites a part of an image."""
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def find(image: Path, data: bytes) -> int:
    """The place of some bytes in an image."""
    place = image.read_bytes().find(data)
    assert place >= 0, "these bytes are not in the image"
    return place


def record_at(image: Path, captured: Captured, index: int) -> tuple[int, bytes]:
    """Where a record of the capture lies in its image, and its 512 bytes."""
    content = image.read_bytes()
    volume_id = captured.place.volume_id.encode().ljust(32, b"\0")
    series = bytes.fromhex(captured.series)
    place = -1
    while (place := content.find(b"DRTCNRY1\x01\x00\x00\x00", place + 1)) >= 0:
        data = content[place : place + 512]
        if (
            struct.unpack_from("<Q", data, 16)[0] == index
            and data[40:56] == series
            and data[56:88] == volume_id
        ):
            return place, data
    raise AssertionError(f"record {index} is not in the image")


def now() -> datetime:
    """The runner's clock."""
    return datetime.now(UTC)


def disk_space(folder: Path) -> int:
    """Bytes that are free where the images are."""
    return shutil.disk_usage(folder).free
