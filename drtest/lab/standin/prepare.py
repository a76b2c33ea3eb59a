"""windows_prepare: NTFS on blank disks, each at its letter, and room for the canary on all that are asked for."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drtest.lab.standin import canary, ntfs, storage, table
from drtest.lab.standin import volume as ntfs_volume
from drtest.lab.standin.machine import Disk
from drtest.lab.standin.visit import Seen, Visit, find_disk
from drtest.lab.standin.volume import Volume, VolumeError
from drtest.lab.standin.windows import Windows

_LETTER = re.compile(r"([A-Za-z]):\\?")
_FLOOR = 64 << 20
_BLANK = 1 << 20


def visit(windows: Windows, arguments: Mapping[str, Any]) -> list[Seen]:
    """One observation a volume."""
    here = Visit(arguments)
    return [
        here.see(
            "prepare.volume",
            str(one["name"]),
            "Format-Volume; preallocate the canary",
            lambda one=one: _prepared(windows, one, arguments),  # type: ignore[misc]
        )
        for one in arguments["volumes"]
    ]


def _prepared(windows: Windows, asked: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    disk = find_disk(windows, asked["volume_id"], wait=float(arguments["wait"]))
    wish = asked.get("mount") or ""
    made = False
    with windows.lock:
        if asked.get("filesystem"):
            if asked["filesystem"] != "ntfs":
                raise ValueError(f"this probe makes no {asked['filesystem']}")
            made = _formatted(windows, disk, asked["volume_id"], wish)
            if not _LETTER.fullmatch(wish):
                wish = ""
        letter, volume = _mounted(windows, disk, wish)
    folder = volume.place / canary.FOLDER
    (folder / canary.METADATA).mkdir(parents=True, exist_ok=True)
    capacity = _room(folder / canary.FILE, int(arguments["records"]))
    return {
        "volume_id": asked["volume_id"],
        "device": f"\\\\.\\PhysicalDrive{disk.number}",
        "serial": disk.serial,
        "made": made,
        "mount": f"{letter}:\\",
        "filesystem": "ntfs",
        "uuid": volume.serial,
        "options": "rw",
        "directory": f"{letter}:\\{canary.FOLDER}",
        "inside": f"/{canary.FOLDER}",
        "capacity": capacity,
    }


def _formatted(windows: Windows, disk: Disk, volume_id: str, wish: str) -> bool:
    """Makes the filesystem where there is none, never on what is not blank; True where it did."""
    label = "drtest" + volume_id.replace("-", "").lower()[3:11]
    partitions = table.read(disk.path).partitions
    looks = [ntfs.look(windows.machine.partition(disk, one.number)) for one in partitions]
    if any(look is not None and look.label == label for look in looks):
        return False
    with Path(disk.path).open("rb") as file:
        if any(file.read(_BLANK)):
            raise VolumeError(f"disk {disk.number} is not formatted: its first MiB is not zero")
    partition = table.write(disk.path)
    windows.machine.reread(disk)
    device = windows.machine.partition(disk, partition.number)
    ntfs_volume.make(device, label=label)
    match = _LETTER.fullmatch(wish)
    letter = match[1].upper() if match else windows.free_letter()
    if letter in windows.volumes:
        raise VolumeError(f"{letter}: is another volume's")
    windows.remember(letter, windows.attach(letter, device).serial)
    return True


def _mounted(windows: Windows, disk: Disk, wish: str) -> tuple[str, Volume]:
    """Where the disk's volume is mounted: the one asked for, else the first."""
    if wish == "/":
        wish = "C:"
    own = {windows.machine.partition(disk, one.number): one for one in table.read(disk.path).partitions}
    for letter, volume in sorted(windows.volumes.items()):
        if volume.device in own and wish.rstrip("\\").upper() in ("", f"{letter}:"):
            return letter, volume
    raise VolumeError(f"disk {disk.number} is not mounted at {wish}")


def _room(path: Path, records: int) -> int:
    """Real zeros, flushed: writing a record in place changes no metadata but times then."""
    size = -(-records * canary.RECORD // 4096) * 4096
    there = path.stat().st_size if path.exists() else 0
    state = os.statvfs(path.parent)
    free, total = state.f_bavail * state.f_frsize, state.f_blocks * state.f_frsize
    needed = size - there + 256 * 4096
    if there < size and free - needed < min(_FLOOR, total // 20):
        raise OSError(f"{path.parent} has {free} bytes free: the canary would leave too few")
    with path.open("ab") as file:
        while there < size:
            there += file.write(bytes(min(65536, size - there)))
    storage.settle(path)
    return there // canary.RECORD
