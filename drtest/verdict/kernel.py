"""A kernel's own words about filesystems and disks, and which volume they are about."""

import re
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePosixPath

CORRUPT = re.compile(r"corrupt|EXT[234]-fs error|UNEXPECTED INCONSISTENCY|Unmount and run xfs_repair", re.I)
FILESYSTEM = re.compile(
    r"BTRFS:? (error|critical)|NTFS(-fs)? error|JBD2.*(error|recovery failed)|log mount.*failed|"
    r"EXT[234]-fs \([^)]*\): (failed|error loading journal|get root inode failed)|"
    r"remount(ing filesystem|ed) read-only|forced readonly",
    re.I,
)
DISK = re.compile(r"I/O error|input/output error|critical (medium|target) error|nvme.*timeout", re.I)
READ = re.compile(r"I/O error, .*\bop 0x0:\(READ\) flags 0x([0-9a-f]+)\b")
AHEAD = 1 << 19
"""REQ_RAHEAD (Linux, include/linux/blk_types.h): nobody waits for what is read ahead, and it is never tried again."""
SLOW = re.compile(r"hung task|blocked for more than|soft lockup|detected stalls?", re.I)


class Kind(Enum):
    """What a line of a kernel's log tells of."""

    DAMAGE = "damage"
    """A filesystem is damaged (facts/domain.md D, logs)."""
    DISK = "disk"
    """The disk below did not do its part: no word about the backup."""
    SLOW = "slow"
    """The machine or its disk was slow: on a volume that is loaded lazily that is to be expected."""
    OTHER = "other"


def kind(line: str) -> Kind:
    """What a line tells of; corruption outweighs the I/O error that it is told with."""
    if CORRUPT.search(line):
        return Kind.DAMAGE
    if DISK.search(line):
        read = READ.search(line)
        # A disk that was reset drops what was read ahead; what somebody waited for is read again, or fails by itself.
        return Kind.SLOW if read and int(read[1], 16) & AHEAD else Kind.DISK
    if FILESYSTEM.search(line):
        return Kind.DAMAGE
    return Kind.SLOW if SLOW.search(line) else Kind.OTHER


DEVICE = re.compile(r"\b(nvme\d+n\d+(?:p\d+)?|xvd[a-z]+\d*|sd[a-z]+\d*|vd[a-z]+\d*|dm-\d+|md\d+)\b")


def names_of(device: str) -> tuple[str, ...]:
    """The names under which the kernel's log speaks of a device: its own and its disk's.

    ``/dev/nvme1n1p2`` is ``nvme1n1p2`` and ``nvme1n1``: a filesystem's lines name the partition, those of the
    block layer the disk.
    """
    name = PurePosixPath(device.split("[")[0]).name
    disk = re.fullmatch(r"(nvme\d+n\d+)p\d+|((?:xvd|sd|vd)[a-z]+)\d+", name)
    return (name, disk[1] or disk[2]) if disk else (name,) if name else ()


def named(line: str, device: str) -> bool:
    """Whether a line of the kernel's log is about this device."""
    return bool(set(DEVICE.findall(line)) & set(names_of(device)))


def volume_of(line: str, *, devices: Mapping[str, str], otherwise: str) -> str:
    """Which volume a kernel line is about.

    Args:
        line: the kernel's line, as ``EXT4-fs (nvme1n1): recovery complete``.
        devices: from a device (``/dev/nvme1n1p2``) to the volume that it belongs to.
        otherwise: the volume that is taken where the line names no device that is known.
    """
    return next((volume for device, volume in devices.items() if named(line, device)), otherwise)
