"""The machine that the stand-in runs on: its disks, its board, its clock."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_NAME = re.compile(r"nvme\d+n\d+")
_NODE = 10.0
"""Seconds until the device of a new partition is there."""


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A disk.

    Attributes:
        number: Windows' number of it.
        serial: of an EBS volume, its id without the dash.
        path: what it is opened by.
        write_cache: whether it says that it has one; None where it does not say.
    """

    number: int
    serial: str
    path: str
    size: int
    model: str = ""
    write_cache: bool | None = None


class Machine(Protocol):
    """What has to be known of a machine."""

    @property
    def asset_tag(self) -> str:
        """What its board says: the instance's id."""
        ...

    @property
    def hostname(self) -> str:
        """Its name."""
        ...

    @property
    def booted(self) -> float:
        """When it was started, in seconds since 1970; always the same number."""
        ...

    @property
    def board(self) -> Mapping[str, str]:
        """`sys_vendor`, `product_name`, `bios_vendor`."""
        ...

    def disks(self) -> tuple[Disk, ...]:
        """The disks that are attached now, by number."""
        ...

    def partition(self, disk: Disk, number: int) -> str:
        """What a partition is opened by, once it is there; 0 is the whole disk."""
        ...

    def reread(self, disk: Disk) -> None:
        """Has the system read a partition table anew that was written just now."""
        ...


class ThisMachine:
    """The machine under this Linux.

    Args:
        sys: where sysfs is.
        told: what the lab told the guest, a file a word.
    """

    def __init__(self, *, sys: Path = Path("/sys"), told: Path = Path("/run/drtest")) -> None:
        self._sys = sys
        self._told = told
        self._booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    def told(self, word: str) -> str:
        """What the lab told the guest; "" where it did not."""
        return _read(self._told / word)

    @property
    def asset_tag(self) -> str:
        """See `Machine.asset_tag`."""
        return _read(self._sys / "class/dmi/id/board_asset_tag")

    @property
    def hostname(self) -> str:
        """See `Machine.hostname`."""
        return self.told("hostname") or os.uname().nodename

    @property
    def booted(self) -> float:
        """See `Machine.booted`."""
        return self._booted

    @property
    def board(self) -> Mapping[str, str]:
        """See `Machine.board`."""
        names = ("sys_vendor", "product_name", "bios_vendor")
        return {name: _read(self._sys / "class/dmi/id" / name) for name in names}

    def disks(self) -> tuple[Disk, ...]:
        """See `Machine.disks`."""
        nodes = [one for one in (self._sys / "block").iterdir() if _NAME.fullmatch(one.name)]
        nodes.sort(key=lambda one: [int(part) for part in re.findall(r"\d+", one.name)])
        return tuple(self._disk(number, node) for number, node in enumerate(nodes))

    def _disk(self, number: int, node: Path) -> Disk:
        return Disk(
            number=number,
            serial=_read(node / "device/serial"),
            path=f"/dev/{node.name}",
            size=int(_read(node / "size") or 0) * 512,
            model=_read(node / "device/model"),
            write_cache={"write back": True, "write through": False}.get(_read(node / "queue/write_cache")),
        )

    def partition(self, disk: Disk, number: int) -> str:
        """See `Machine.partition`."""
        node = Path(f"{disk.path}p{number}" if number else disk.path)
        until = time.monotonic() + _NODE
        while not node.exists() and time.monotonic() < until:
            time.sleep(0.05)
        return str(node)

    def reread(self, disk: Disk) -> None:
        """See `Machine.reread`.

        Raises:
            OSError: it is in use.
        """
        import fcntl

        with Path(disk.path).open("rb") as file:
            fcntl.ioctl(file, 0x125F)  # BLKRRPART


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
