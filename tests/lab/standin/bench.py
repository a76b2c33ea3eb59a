"""A machine whose disks are files on this host, each partition a loop device: what the stand-in runs on in tests."""

import struct
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from drtest.lab.standin import table
from drtest.lab.standin.machine import Disk

MIB = 1 << 20


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@dataclass(kw_only=True)
class Bench:
    """A machine; `attached` are its disks by serial, in order."""

    asset_tag: str = "i-0source"
    hostname: str = "win-test"
    booted: float = field(default_factory=lambda: time.time() - 5)
    attached: dict[str, Path] = field(default_factory=dict)
    board: Mapping[str, str] = field(default_factory=lambda: {"sys_vendor": "QEMU", "product_name": "q35"})
    loops: dict[tuple[str, int], str] = field(default_factory=dict)

    def disks(self) -> tuple[Disk, ...]:
        return tuple(
            Disk(number=number, serial=serial, path=str(path), size=path.stat().st_size, write_cache=True)
            for number, (serial, path) in enumerate(self.attached.items())
        )

    def partition(self, disk: Disk, number: int) -> str:
        if (disk.path, number) not in self.loops:
            (one,) = [one for one in table.read(disk.path).partitions if one.number == number]
            where = ("--offset", str(one.start), "--sizelimit", str(one.size))
            self.loops[disk.path, number] = run("losetup", "--find", "--show", *where, disk.path)
        return self.loops[disk.path, number]

    def reread(self, disk: Disk) -> None:
        """Loop devices are made as they are asked for."""

    def close(self) -> None:
        """Gives the loop devices back; what is mounted is unmounted first."""
        for device in self.loops.values():
            subprocess.run(["umount", "--lazy", "--all-targets", device], check=False, capture_output=True)
            subprocess.run(["losetup", "--detach", device], check=False)
        self.loops.clear()


def system_disk(path: Path, *, size: int = 96 * MIB, serial: str = "1122334455667788") -> Path:
    """A disk as the image has it: an active partition for the loader, and an empty NTFS for C:."""
    start = 2 * MIB
    entries = struct.pack("<B3xB3xII", 0x80, 0x0C, 2048, 2048)
    entries += struct.pack("<B3xB3xII", 0, 7, start // 512, (size - start) // 512)
    volume = path.with_suffix(".ntfs")
    with volume.open("wb") as file:
        file.truncate(size - start)
    run("mkfs.ntfs", "--quick", "--force", "--label", "Windows", str(volume))
    run("ntfslabel", f"--new-serial={serial}", str(volume))
    with path.open("wb") as file:
        file.write(struct.pack("<440xI2x", 0x5EED) + entries.ljust(64, b"\0") + b"\x55\xaa")
        file.truncate(size)
    run("dd", f"if={volume}", f"of={path}", "bs=1M", "seek=2", "conv=sparse,notrunc")
    volume.unlink()
    return path


def blank_disk(path: Path, *, size: int = 32 * MIB) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path
