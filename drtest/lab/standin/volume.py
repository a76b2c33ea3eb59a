"""NTFS volumes: mounted by ntfs-3g, made by mkfs.ntfs, checked by ntfsresize and ntfsfix."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drtest.lab.standin import ntfs

MOUNT = 60.0
"""Seconds that mounting may take."""
BUSY = 10.0
"""Seconds that whoever has a volume in use is given to let go of it."""
_OUTPUT = 8000


class VolumeError(Exception):
    """A tool did not do what it should have; its own words."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a tool did; `exit` is None where it never ended."""

    exit: int | None
    output: str


def run(command: Sequence[str], *, deadline: float) -> Ran:
    """Runs a tool, for at most that many seconds."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=deadline,
        )
    except subprocess.TimeoutExpired as problem:
        said = (problem.output or b"").decode("utf-8", "replace")
        return Ran(exit=None, output=f"{said}\n{command[0]} did not end in {deadline:.0f} s"[-_OUTPUT:])
    except OSError as problem:
        return Ran(exit=None, output=f"{command[0]}: {problem}")
    return Ran(exit=done.returncode, output=done.stdout.decode("utf-8", "replace")[-_OUTPUT:])


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A volume that is mounted.

    Attributes:
        device: what it lies on.
        place: where it is mounted.
        serial: of its filesystem, 16 hex digits.
    """

    device: str
    place: Path
    serial: str

    def unmount(self) -> None:
        """Closes it: all of it is on the disk then, and its log says that nobody has it open.

        Raises:
            VolumeError: somebody has it in use, and does not let go of it.
        """
        until = time.monotonic() + BUSY
        while (ran := run(["umount", str(self.place)], deadline=MOUNT)).exit != 0:
            if time.monotonic() >= until:
                raise VolumeError(ran.output.strip())
            time.sleep(0.1)
        ntfs.close_log(self.device)


def mount(device: str, place: Path) -> Volume:
    """Mounts a volume; what its log says is dropped first, and then, that somebody has it open.

    Raises:
        VolumeError: it can't be mounted, or is no NTFS.
        OSError: the disk can't be read.
    """
    found = ntfs.look(device)
    if found is None:
        raise VolumeError(f"{device} has no NTFS")
    place.mkdir(parents=True, exist_ok=True)
    ran = run(["ntfs-3g", "-o", "noatime,big_writes", device, str(place)], deadline=MOUNT)
    if ran.exit != 0:
        raise VolumeError(ran.output.strip() or f"ntfs-3g ended with {ran.exit}")
    ntfs.open_log(device)
    return Volume(device=device, place=place, serial=found.serial)


def make(device: str, *, label: str) -> None:
    """Makes an NTFS filesystem.

    Raises:
        VolumeError: it could not be made.
    """
    ran = run(["mkfs.ntfs", "--quick", "--force", "--label", label, device], deadline=120)
    if ran.exit != 0:
        raise VolumeError(ran.output.strip())


def check(device: str, *, deadline: float) -> Ran:
    """What the two checkers say of a volume that is not mounted: 0 whole, 1 not, None where one did not end.

    ntfsresize goes over every record of the MFT and holds the clusters in use against the bitmap; ntfsfix looks at the
    boot sectors, the MFT's mirror and the log.
    """
    looks = [
        run(["ntfsresize", "--info", "--force", "--no-progress-bar", device], deadline=deadline),
        run(["ntfsfix", "--no-action", device], deadline=deadline),
    ]
    exits = [one.exit for one in looks]
    worst = 1 if any(exits) else None if None in exits else 0
    return Ran(exit=worst, output="\n".join(one.output for one in looks)[-_OUTPUT:])
