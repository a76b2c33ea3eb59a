"""Partition tables: what a disk's says, as Windows sees it, and the one that a blank disk gets."""

import os
import struct
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
BASIC_DATA = uuid.UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")
RAW, NONE, MBR, GPT = "raw", "none", "mbr", "gpt"
STYLES = {RAW: 0, MBR: 1, GPT: 2, NONE: 0}
"""Get-Disk's PartitionStyle."""
_ENTRIES = 128
_ALIGNED = 2048


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A partition; `start` and `size` in bytes. Number 0 is a filesystem without a table."""

    number: int
    start: int
    size: int
    active: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a disk's table says.

    Attributes:
        style: ``raw`` where there is none, ``none`` where a filesystem lies on the disk itself, ``mbr``, ``gpt``.
        signature: of an MBR.
        guid: of a GPT.
    """

    style: str
    signature: int = 0
    guid: str = ""
    partitions: tuple[Partition, ...] = ()


def read(path: str) -> Table:
    """The table of a disk.

    Raises:
        OSError: it can't be read.
    """
    with Path(path).open("rb") as file:
        first = file.read(SECTOR)
        if first[510:] != b"\x55\xaa":
            return Table(style=RAW)
        if first[3:11] == b"NTFS    ":
            size = file.seek(0, os.SEEK_END)
            return Table(style=NONE, partitions=(Partition(number=0, start=0, size=size),))
        entries = [struct.unpack_from("<B3xB3xII", first, 446 + 16 * number) for number in range(4)]
        if any(kind == 0xEE for _, kind, _, _ in entries):
            return _gpt(file.read(SECTOR), path)
    return Table(
        style=MBR,
        signature=struct.unpack_from("<I", first, 0x1B8)[0],
        partitions=tuple(
            Partition(number=number, start=start * SECTOR, size=size * SECTOR, active=bool(flags & 0x80))
            for number, (flags, kind, start, size) in enumerate(entries, 1)
            if kind and size
        ),
    )


def _gpt(head: bytes, path: str) -> Table:
    if head[:8] != b"EFI PART":
        return Table(style=MBR)
    at, count, length = struct.unpack_from("<QII", head, 72)
    if not 128 <= length <= 4096 or count > 1024:
        return Table(style=GPT)
    with Path(path).open("rb") as file:
        file.seek(at * SECTOR)
        data = file.read(count * length)
    found = []
    for number in range(len(data) // length):
        entry = data[number * length : (number + 1) * length]
        first, last = struct.unpack_from("<QQ", entry, 32)
        if any(entry[:16]):
            found.append(Partition(number=number + 1, start=first * SECTOR, size=(last - first + 1) * SECTOR))
    return Table(style=GPT, guid=str(uuid.UUID(bytes_le=head[56:72])), partitions=tuple(found))


def write(path: str) -> Partition:
    """Gives a disk a GPT with one partition over all of it, as Windows makes them, and flushes it.

    Raises:
        OSError: it can't be written.
    """
    with Path(path).open("r+b") as file:
        sectors = file.seek(0, os.SEEK_END) // SECTOR
        last = sectors - 34
        size = (last + 1 - _ALIGNED) // _ALIGNED * _ALIGNED
        entry = BASIC_DATA.bytes_le + uuid.uuid4().bytes_le
        entry += struct.pack("<QQQ", _ALIGNED, _ALIGNED + size - 1, 0)
        entry += "Basic data partition".encode("utf-16-le").ljust(72, b"\0")
        entries = entry.ljust(_ENTRIES * 128, b"\0")
        guid = uuid.uuid4().bytes_le
        protective = bytes(446) + struct.pack("<B3BB3BII", 0, 0, 2, 0, 0xEE, 255, 255, 255, 1, sectors - 1)
        file.seek(0)
        file.write(protective.ljust(510, b"\0") + b"\x55\xaa")
        file.write(_head(guid, entries, here=1, other=sectors - 1, at=2, last=last) + entries)
        file.seek((sectors - 33) * SECTOR)
        file.write(entries + _head(guid, entries, here=sectors - 1, other=1, at=sectors - 33, last=last))
        file.flush()
        os.fsync(file.fileno())
    return Partition(number=1, start=_ALIGNED * SECTOR, size=size * SECTOR)


def _head(guid: bytes, entries: bytes, *, here: int, other: int, at: int, last: int) -> bytes:
    def packed(checksum: int) -> bytes:
        return struct.pack(
            "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, checksum, 0, here, other, 34, last, guid, at,
            _ENTRIES, 128, zlib.crc32(entries),
        )  # fmt: skip

    return packed(zlib.crc32(packed(0))).ljust(SECTOR, b"\0")
