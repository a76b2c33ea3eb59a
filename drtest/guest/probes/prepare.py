"""The source made ready for a load: filesystems on its blank volumes, and room for the canary on all of them.

It can be run again: what an earlier run did is found and kept. Nothing that is not blank is ever formatted.
"""

import functools
import os
import stat
import uuid
from typing import Any, Dict, List, Optional

from drtest.guest.probes import disks, prelude, record

ROOT_FOLDERS = ("/var/lib/drtest-canary", "/.drtest-canary", "/root/.drtest-canary")
FOLDER = ".drtest-canary"
MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-U"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-m"],
    "btrfs": ["mkfs.btrfs", "-q", "-f", "-U"],
}
FLOOR_BYTES = 64 << 20
"""What stays free on a volume whatever the canary wants; or a twentieth of it, where that is less."""
BLANK_BYTES = 1 << 20


class RefusedError(Exception):
    """What was asked for would destroy something, or can't be done."""


def main(arguments: Dict[str, Any]) -> List[Dict[str, Any]]:
    """One observation a volume."""
    return [
        prelude.guarded(
            "prepare.volume",
            "mkfs, mount, preallocate the canary",
            functools.partial(_prepare, one, int(arguments["records"]), float(arguments.get("wait", 60))),
            one["name"],
        )
        for one in arguments["volumes"]
    ]


def _prepare(volume: Dict[str, Any], records: int, wait: float) -> Dict[str, Any]:
    disk = (
        disks.of_device(volume["device"]) if volume.get("device") else disks.find(volume["volume_id"], wait)
    )
    made = False
    if volume.get("filesystem"):
        made = _filesystem(volume, disk)
        _mount(volume, disk)
    mounted = _mounted(disk, volume.get("mount") or "")
    folder, mount = _folder(disk, mounted)
    capacity = _room(folder, records)
    return {
        "volume_id": volume["volume_id"],
        "device": disk.device,
        "serial": disk.serial,
        "made": made,
        "mount": mount.target,
        "filesystem": mount.filesystem,
        "uuid": disks.uuid_of(mount.source),
        "options": mount.options,
        "directory": folder,
        "inside": _inside(folder, mount),
        "capacity": capacity,
    }


def uuid_for(volume_id: str) -> str:
    """The UUID that a volume's filesystem gets: by it a second run knows its own work."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "drtest:" + volume_id))


def _filesystem(volume: Dict[str, Any], disk: disks.Disk) -> bool:
    """Makes the filesystem where there is none; True where it did."""
    wanted = uuid_for(volume["volume_id"])
    if disks.probe(disk.device).get("UUID") == wanted:
        return False
    busy = disks.in_use(disk)
    if busy:
        raise RefusedError("{} is not formatted: {}".format(disk.device, busy))
    why = not_blank(disk)
    if why:
        raise RefusedError("{} is not formatted: it is not blank ({})".format(disk.device, why))
    kind = volume["filesystem"]
    if kind not in MAKE:
        raise RefusedError("this program makes no {}".format(kind))
    identity = "uuid=" + wanted if kind == "xfs" else wanted
    ran = prelude.run(MAKE[kind] + [identity, disk.device], 600)
    if not ran.ok:
        raise RefusedError("{}: {}{}".format(ran.command, ran.error, ran.output[-500:]))
    prelude.run(["udevadm", "settle", "--timeout=10"], 15)
    return True


def not_blank(disk: disks.Disk) -> str:
    """What is on a disk, by three witnesses: blkid, wipefs, and its first MiB; empty where there is nothing."""
    tags = disks.probe(disk.device)
    if tags.get("TYPE") or tags.get("PTTYPE") or tags.get("AMBIVALENT"):
        return "blkid sees {}".format(tags.get("TYPE") or tags.get("PTTYPE") or "several things")
    wiped = prelude.run(["wipefs", "-n", disk.device], 60)
    if not wiped.ok:
        return "wipefs can't look: {}{}".format(wiped.error, wiped.output.strip())
    if wiped.output.strip():
        return "wipefs sees signatures"
    with open(disk.device, "rb") as file:
        if not record.is_blank(file.read(BLANK_BYTES)):
            return "its first MiB is not zero"
    return ""


def _mount(volume: Dict[str, Any], disk: disks.Disk) -> None:
    target = volume["mount"]
    identity = uuid_for(volume["volume_id"])
    if not any(mount.target == target for mount in disks.mounts()):
        os.makedirs(target, exist_ok=True)
        ran = prelude.run(["mount", "-t", volume["filesystem"], disk.device, target], 120)
        if not ran.ok:
            raise RefusedError("{}: {}{}".format(ran.command, ran.error, ran.output.strip()))
    line = "UUID={} {} {} defaults 0 {}".format(
        identity, target, volume["filesystem"], 2 if volume["filesystem"] == "ext4" else 0
    )
    with open(volume["fstab"], "a+") as file:
        file.seek(0)
        text = file.read()
        if "UUID=" + identity not in text:
            file.write(("" if not text or text.endswith("\n") else "\n") + line + "\n")
            file.flush()
            os.fsync(file.fileno())


def _mounted(disk: disks.Disk, target: str) -> List[disks.Mount]:
    """Where filesystems of this disk are mounted, the one that was asked for first."""
    here = [mount for mount in disks.mounts() if disk.name in disks.below(mount.major_minor)]
    if target and not any(mount.target == target for mount in here):
        found = ", ".join(mount.target for mount in here) or "nowhere"
        raise RefusedError("{} is not mounted at {}, but: {}".format(disk.device, target, found))
    if not here:
        raise RefusedError("{} is mounted nowhere".format(disk.device))
    whole = [mount for mount in here if mount.inside in ("/", "")] or here
    return sorted(
        whole, key=lambda mount: (mount.target != target, mount.target.startswith("/boot"), mount.target)
    )


def _folder(disk: disks.Disk, mounted: List[disks.Mount]) -> Any:
    """The canary's folder, made where it is not there, on this disk and no other."""
    first = mounted[0]
    wishes = list(ROOT_FOLDERS) if first.target == "/" else [os.path.join(first.target, FOLDER)]
    for wish in wishes:
        if os.path.islink(wish) or not os.path.isdir(os.path.dirname(wish)):
            continue
        mount = _mount_of(os.path.dirname(wish))
        if mount is not None and disk.name in disks.below(mount.major_minor):
            os.makedirs(wish, mode=0o700, exist_ok=True)
            os.makedirs(os.path.join(wish, record.METADATA_FOLDER), mode=0o700, exist_ok=True)
            return wish, mount
    raise RefusedError("none of {} is on {}".format(", ".join(wishes), disk.device))


def _mount_of(path: str) -> Optional[disks.Mount]:
    real = os.path.realpath(path)
    best: Optional[disks.Mount] = None
    for mount in disks.mounts():
        under = real == mount.target or real.startswith(mount.target.rstrip("/") + "/")
        if under and (best is None or len(mount.target) >= len(best.target)):
            best = mount
    # What is mounted above it from no block device (a tmpfs, an overlay) is not in that list.
    if best is not None and os.stat(real).st_dev != os.stat(best.target).st_dev:
        return None
    return best


def _inside(folder: str, mount: disks.Mount) -> str:
    """The folder as it is seen from the top of its filesystem, whatever part of that is mounted."""
    relative = os.path.relpath(os.path.realpath(folder), mount.target)
    top = mount.inside if mount.inside.startswith("/") else "/"
    return os.path.normpath(os.path.join(top, relative))


def _room(folder: str, records: int) -> int:
    """Preallocates the file with real zeros: no hole, no unwritten extent, so writing in place is no metadata."""
    path = os.path.join(folder, record.RECORDS_FILE)
    size = -(-records * record.RECORD_BYTES // 4096) * 4096
    present = 0
    if os.path.lexists(path):
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            raise RefusedError("{} is no file".format(path))
        present = status.st_size
    if present < size:
        room = os.statvfs(folder)
        free = room.f_bavail * room.f_frsize
        floor = min(FLOOR_BYTES, room.f_blocks * room.f_frsize // 20)
        needed = size - present + record.METADATA_SLOTS * 4096
        if free - needed < floor:
            raise RefusedError(
                "{} has {} bytes free: the canary's {} would leave less than {}".format(
                    folder, free, needed, floor
                )
            )
        with open(path, "ab", buffering=0) as file:
            os.chmod(path, 0o600)
            while present < size:
                present += file.write(bytes(min(1 << 20, size - present)))
            os.fsync(file.fileno())
    for place in (os.path.join(folder, record.METADATA_FOLDER), folder, os.path.dirname(folder)):
        handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    return present // record.RECORD_BYTES
