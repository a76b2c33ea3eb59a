"""Whole disks, found by what identifies them: the serial of an EBS volume is its id without the dash."""

import glob
import os
import re
import stat
import time
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from drtest.guest.probes import prelude

BY_ID = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_"


class NotFoundError(Exception):
    """No such disk, or it can't be used; the message says what is there instead."""


class Disk(NamedTuple):
    """One whole disk: its name in sysfs, its node, its serial (empty where it has none), its size in bytes."""

    name: str
    device: str
    serial: str
    size: int


def serial_of(volume_id: str) -> str:
    """The serial that Nitro, and the lab, give to the disk of a volume."""
    return volume_id.lower().replace("-", "")


def disks() -> List[Disk]:
    """Every whole disk that has a size."""
    found = []
    for name in sorted(os.listdir("/sys/block")):
        size = int(prelude.read("/sys/block/{}/size".format(name)) or 0) * 512
        if size and not name.startswith(("ram", "zram", "loop", "dm-", "md")):
            found.append(Disk(name, "/dev/" + name, _serial(name), size))
    return found


def _serial(name: str) -> str:
    # NVMe (and its multipath subsystem) has it on the controller, virtio on the disk.
    for path in ("/sys/block/{}/device/serial", "/sys/block/{}/serial"):
        serial = prelude.read(path.format(name))
        if serial:
            return serial
    return ""


def find(volume_id: str, timeout: float) -> Disk:
    """The disk of a volume, waited for: a hot-plugged one takes a moment.

    Raises:
        NotFoundError: it did not show in time; says which disks did.
    """
    wanted = serial_of(volume_id)
    ends = time.monotonic() + min(timeout, prelude.left())
    while True:
        present = disks()
        for disk in present:
            if serial_of(disk.serial) == wanted and os.path.exists(disk.device):
                return disk
        link = BY_ID + wanted
        if os.path.exists(link):
            return of_device(os.path.realpath(link))
        if time.monotonic() >= ends:
            there = ", ".join("{} ({})".format(disk.device, disk.serial or "no serial") for disk in present)
            raise NotFoundError(
                "no disk has the serial {} after {:.0f} s; there are: {}".format(
                    wanted, timeout, there or "none"
                )
            )
        time.sleep(0.2)


def of_device(path: str) -> Disk:
    """The disk behind a block device's node.

    Raises:
        NotFoundError: it is no block device.
    """
    real = os.path.realpath(path)
    try:
        status = os.stat(real)
    except OSError as problem:
        raise NotFoundError("{} can't be looked at: {}".format(path, problem)) from problem
    if not stat.S_ISBLK(status.st_mode):
        raise NotFoundError("{} is no block device".format(path))
    name = os.path.basename(
        os.path.realpath("/sys/dev/block/{}:{}".format(os.major(status.st_rdev), os.minor(status.st_rdev)))
    )
    size = int(prelude.read("/sys/class/block/{}/size".format(name)) or 0) * 512
    return Disk(name, real, _serial(name), size)


def below(major_minor: str) -> List[str]:
    """Names of the whole disks that a block device lies on, through partitions, LVM, md and loop devices."""
    top = os.path.realpath("/sys/dev/block/" + major_minor)
    if not os.path.isdir(top):
        return []
    if os.path.exists(top + "/partition"):
        return [os.path.basename(os.path.dirname(top))]
    slaves = sorted(glob.glob(top + "/slaves/*"))
    names: List[str] = []
    for slave in slaves:
        names.extend(below(prelude.read(slave + "/dev")))
    return names or [os.path.basename(top)]


class Mount(NamedTuple):
    """One line of mountinfo; `source` is the real node even where the kernel says ``/dev/root``."""

    target: str
    source: str
    filesystem: str
    options: str
    inside: str
    major_minor: str


def mounts() -> List[Mount]:
    """What is mounted from block devices, as ``findmnt --real`` lists it.

    Options are those of the mount and of the filesystem together: read-only in either is ``ro``.
    """
    found = []
    for line in prelude.read("/proc/self/mountinfo", 1 << 20).splitlines():
        fields = line.split(" ")
        after = fields.index("-")
        kind, source, of_filesystem = fields[after + 1], _plain(fields[after + 2]), fields[after + 3]
        if not source.startswith("/dev/") or kind in ("devtmpfs", "tmpfs"):
            continue
        node, major_minor = _node(source, fields[2])
        options = fields[5].split(",") + of_filesystem.split(",")
        unique = list(dict.fromkeys(options))
        if "ro" in unique:
            unique = ["ro"] + [option for option in unique if option not in ("ro", "rw")]
        found.append(Mount(_plain(fields[4]), node, kind, ",".join(unique), _plain(fields[3]), major_minor))
    return found


def _node(source: str, major_minor: str) -> Tuple[str, str]:
    if major_minor.startswith("0:"):  # btrfs shows an anonymous device: its source is the real one
        real = os.path.realpath(source)
        try:
            device = os.stat(real).st_rdev
        except OSError:
            return source, major_minor
        return real, "{}:{}".format(os.major(device), os.minor(device))
    sysfs = os.path.realpath("/sys/dev/block/" + major_minor)
    mapped = prelude.read(sysfs + "/dm/name")
    return ("/dev/mapper/" + mapped if mapped else "/dev/" + os.path.basename(sysfs)), major_minor


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def uuids() -> Dict[str, str]:
    """Filesystem UUIDs by the real node that udev links them to."""
    return {os.path.realpath(link): os.path.basename(link) for link in glob.glob("/dev/disk/by-uuid/*")}


def uuid_of(device: str, known: Optional[Dict[str, str]] = None) -> str:
    """A filesystem's UUID: from udev's links, else asked of the device itself."""
    real = os.path.realpath(device)
    linked = (uuids() if known is None else known).get(real)
    return linked or probe(real).get("UUID", "")


def probe(device: str) -> Dict[str, str]:
    """What ``blkid`` finds on a device, by its bytes and never from a cache; ``AMBIVALENT`` where it finds two."""
    ran = prelude.run(["blkid", "-p", "-o", "export", device], 60)
    if ran.error:
        raise NotFoundError(ran.error)
    if ran.exit == 8:
        return {"AMBIVALENT": ran.output.strip()}
    lines = [line.partition("=") for line in ran.output.splitlines() if "=" in line]
    return {name: value for name, _, value in lines}


def in_use(disk: Disk) -> str:
    """Why a disk must not be touched: what it is mounted at, swapped on or held by; empty where it is free."""
    names: Set[str] = {disk.name}
    names.update(os.path.basename(path) for path in glob.glob("/sys/block/{0}/{0}*".format(disk.name)))
    for name in sorted(names):
        held = glob.glob("/sys/class/block/{}/holders/*".format(name))
        if held:
            return "{} is held by {}".format(name, ", ".join(os.path.basename(path) for path in held))
    for mount in mounts():
        if os.path.basename(mount.source) in names or disk.name in below(mount.major_minor):
            return "{} is mounted at {}".format(mount.source, mount.target)
    for line in prelude.read("/proc/swaps").splitlines()[1:]:
        if os.path.basename(line.split()[0]) in names:
            return "{} is in use as swap".format(line.split()[0])
    return ""


def storage() -> List[Dict[str, str]]:
    """What could explain a difference between two captures: driver, write-cache policy and scheduler by disk."""
    found = []
    for disk in disks():
        queue = "/sys/block/{}/queue/".format(disk.name)
        driver = ""
        for link in ("device/driver", "device/device/driver", "device/../driver"):
            path = "/sys/block/{}/{}".format(disk.name, link)
            if os.path.islink(path):
                driver = os.path.basename(os.path.realpath(path))
                break
        found.append(
            {
                "disk": disk.name,
                "serial": disk.serial,
                "driver": driver,
                "model": prelude.read("/sys/block/{}/device/model".format(disk.name)),
                "write_cache": prelude.read(queue + "write_cache"),
                "scheduler": prelude.read(queue + "scheduler"),
                "size": str(disk.size),
            }
        )
    return found
