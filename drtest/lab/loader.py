"""What a disk boots by: a boot sector with its partition table, and a FAT partition with syslinux and a kernel."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drtest.errors import EnvironmentFailedError
from drtest.lab.tools import Tools

MIB = 1024**2
LOADER_START = MIB

MBR_CODE = (Path("/usr/lib/syslinux/mbr/mbr.bin"), Path("/usr/lib/SYSLINUX/mbr.bin"))

LINUX, NTFS = 0x83, 0x07
"""Types of partitions."""
_FAT16 = 0x0E


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a disk is divided: the loader's partition, and one that takes the rest.

    Attributes:
        disk: bytes of the whole disk.
        loader: bytes of the loader's partition.
        kind: the type of the other partition.
        signature: the disk's signature, 32 bits.
    """

    disk: int
    loader: int
    kind: int
    signature: int

    @property
    def start(self) -> int:
        """Where the other partition starts, in bytes."""
        return LOADER_START + self.loader

    @property
    def size(self) -> int:
        """How many bytes the other partition has."""
        return self.disk - self.start


def write(raw: Path, layout: Layout, *, files: Sequence[Path], work: Path, tools: Tools) -> None:
    """Write the boot sector and the loader's partition onto a raw disk.

    Args:
        raw: the disk, a file that is as long as it is to be.
        layout: how it is divided.
        files: what the loader's partition holds: a kernel, what it needs, and ``syslinux.cfg``.
        work: a folder for what lies in between; the caller removes it.
        tools: runs mkfs.fat, mcopy and syslinux.

    Raises:
        EnvironmentFailedError: a tool is missing, or failed, or the files have no room.
    """
    fat = work / "loader.img"
    tools.run(["mkfs.fat", "-C", "-n", "LOADER", str(fat), str(layout.loader // 1024)])
    tools.run(["mcopy", "-i", str(fat), *map(str, files), "::/"])
    tools.run(["syslinux", "--install", str(fat)])
    with raw.open("r+b") as disk:
        disk.write(_boot_sector(layout))
        disk.seek(LOADER_START)
        disk.write(fat.read_bytes())


def _boot_sector(layout: Layout) -> bytes:
    """Make the first sector: syslinux's code, the disk's signature, the loader's partition and the other one."""
    code = next((path.read_bytes() for path in MBR_CODE if path.exists()), None)
    if code is None:
        raise EnvironmentFailedError(
            f"syslinux's boot sector is in none of {', '.join(map(str, MBR_CODE))}",
            remedy="Install syslinux-common: sudo apt-get install syslinux-common",
        )

    def partition(active: bool, kind: int, start: int, size: int) -> bytes:
        beyond = b"\xfe\xff\xff"  # cylinders, heads and sectors can't say it: see the sector numbers
        return struct.pack("<B3sB3sII", 0x80 * active, beyond, kind, beyond, start // 512, size // 512)

    table = partition(True, _FAT16, LOADER_START, layout.loader)
    table += partition(False, layout.kind, layout.start, layout.size)
    signature = struct.pack("<IH", layout.signature, 0)
    return code[:440].ljust(440, b"\0") + signature + table.ljust(64, b"\0") + b"\x55\xaa"
