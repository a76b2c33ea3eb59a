"""An NTFS volume by its bytes: its serial number, its flags, and whether its log says that somebody has it open.

ntfs-3g keeps no log. So that a volume that is mounted here looks as Windows would have it, its log's restart pages are
written as Windows writes them when it opens a volume, and emptied when it is closed (Linux-NTFS, "$LogFile").
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_NOBODY = 0xFFFF
_CLEAN = 2
_PAGE = 4096
_EMPTY = b"\xff" * _PAGE
_LABEL, _INFORMATION, _DATA = 0x60, 0x70, 0x80


class NtfsError(Exception):
    """A structure is not what it should be."""


_FARTHEST = 1 << 62
"""Bytes that no disk has."""
_BROKEN = (NtfsError, struct.error, IndexError)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the bytes of a volume say.

    Attributes:
        serial: 16 hex digits.
        flags: of $VOLUME_INFORMATION, 1 is dirty; None where it can't be told.
        log_clean: whether nobody has the log open; None where it can't be told.
        label: the volume's name.
        problem: what was wrong with them.
    """

    serial: str
    flags: int | None = None
    log_clean: bool | None = None
    label: str = ""
    problem: str = ""


def look(path: str) -> Look | None:
    """Reads a volume; None where there is no NTFS.

    Args:
        path: what the volume lies on.

    Raises:
        OSError: it can't be read.
    """
    with Path(path).open("rb") as file:
        boot = file.read(512)
        if len(boot) < 512 or boot[3:11] != b"NTFS    ":
            return None
        serial = f"{struct.unpack_from('<Q', boot, 0x48)[0]:016X}"
        try:
            volume = _Volume(file, boot)
            record = volume.record(3)
            content = volume.resident(record, _INFORMATION)
            flags = struct.unpack_from("<H", content, 10)[0]
            label = volume.resident(record, _LABEL, optional=True).decode("utf-16-le", "replace")
            log_clean = _log_clean(volume.log_pages(2))
        except _BROKEN as problem:
            return Look(serial=serial, problem=str(problem))
    return Look(serial=serial, flags=flags, log_clean=log_clean, label=label)


def open_log(path: str) -> None:
    """Writes into a volume's log that somebody has it open, and flushes that.

    Raises:
        NtfsError, OSError: it can't be done.
    """
    _write_log(path, _restart_page())


def close_log(path: str) -> None:
    """Empties a volume's log: nobody has it open.

    Raises:
        NtfsError, OSError: it can't be done.
    """
    _write_log(path, _EMPTY)


def _write_log(path: str, page: bytes) -> None:
    with Path(path).open("r+b") as file:
        try:
            start = _Volume(file, _at(file, 0, 512)).log_start()
            _at(file, start, 2 * len(page))  # a volume's broken numbers may point beyond its end
        except _BROKEN as problem:
            raise NtfsError(str(problem)) from problem
        file.seek(start)
        file.write(page + page)
        file.flush()
        os.fsync(file.fileno())


def _at(file: BinaryIO, offset: int, count: int) -> bytes:
    if not 0 <= offset < _FARTHEST:
        raise NtfsError(f"it points to {offset}")
    try:
        file.seek(offset)
    except OSError as problem:  # no file is that long here, and no disk
        raise NtfsError(f"it points to {offset}") from problem
    data = file.read(count)
    if len(data) < count:
        raise NtfsError(f"it ends before {offset + count}")
    return data


class _Volume:
    def __init__(self, file: BinaryIO, boot: bytes) -> None:
        sector, per_cluster = struct.unpack_from("<HB", boot, 0x0B)
        # Both are powers of two where they are too large for a byte (Microsoft, "Locating the MFT").
        self._cluster: int = sector * (per_cluster if per_cluster <= 128 else 1 << (256 - per_cluster))
        size = struct.unpack_from("<b", boot, 0x40)[0]
        self._record = size * self._cluster if size > 0 else 1 << -size
        self._table = struct.unpack_from("<Q", boot, 0x30)[0]
        self._file = file
        if sector < 512 or not self._cluster or not 512 <= self._record <= 65536 or not self._table:
            raise NtfsError("its boot sector has impossible numbers")

    def record(self, number: int) -> bytes:
        """A record of the MFT."""
        place = self._table * self._cluster + number * self._record
        data = _at(self._file, place, self._record)
        if data[:4] != b"FILE":
            raise NtfsError(f"record {number} of its MFT is none")
        return _mended(data)

    def resident(self, record: bytes, kind: int, *, optional: bool = False) -> bytes:
        """The content of an attribute that lies in its record."""
        place = next((at for found, at in _attributes(record) if found == kind), None)
        if place is None:
            if optional:
                return b""
            raise NtfsError("an attribute of it is missing")
        length, offset = struct.unpack_from("<IH", record, place + 0x10)
        return record[place + offset : place + offset + length]

    def log_start(self) -> int:
        """Where the log begins on the disk."""
        record = self.record(2)
        place = next((at for found, at in _attributes(record) if found == _DATA), None)
        if place is None or not record[place + 8]:
            raise NtfsError("its log is no file of its own")
        run = place + struct.unpack_from("<H", record, place + 0x20)[0]
        lengths, offsets = record[run] & 15, record[run] >> 4
        first = int.from_bytes(record[run + 1 + lengths : run + 1 + lengths + offsets], "little")
        return first * self._cluster

    def log_pages(self, count: int) -> list[bytes]:
        """The first pages of the log."""
        start = self.log_start()
        return [_at(self._file, start + number * _PAGE, _PAGE) for number in range(count)]


def _attributes(record: bytes) -> Iterator[tuple[int, int]]:
    """Kinds and places of the attributes without a name."""
    place = struct.unpack_from("<H", record, 0x14)[0]
    while place + 24 < len(record):
        kind, length = struct.unpack_from("<II", record, place)
        if kind == 0xFFFFFFFF or not length:
            return
        if not record[place + 9]:
            yield kind, place
        place += length


def _mended(data: bytes) -> bytes:
    """The last two bytes of each sector are kept elsewhere, to show a torn write."""
    mended = bytearray(data)
    place, count = struct.unpack_from("<HH", data, 4)
    number = data[place : place + 2]
    for sector in range(1, min(count, len(data) // 512 + 1)):
        end = sector * 512 - 2
        if data[end : end + 2] != number:
            raise NtfsError("a structure of it is torn")
        mended[end : end + 2] = data[place + 2 * sector : place + 2 * sector + 2]
    return bytes(mended)


def _log_clean(pages: list[bytes]) -> bool | None:
    """The newer of two restart pages decides; a log that nobody has opened yet is all ones."""
    clean, newest = None, -1
    for page in pages:
        if page[:4] == b"\xff\xff\xff\xff":
            clean = True if clean is None else clean
        elif page[:4] in (b"RSTR", b"CHKD"):
            page = _mended(page)
            area = struct.unpack_from("<H", page, 24)[0]
            if not 30 <= area <= _PAGE - 48:
                continue
            number, _, _, in_use, flags = struct.unpack_from("<QHHHH", page, area)
            if number >= newest:
                newest = number
                clean = in_use == _NOBODY or bool(flags & _CLEAN) or page[:4] == b"CHKD"
    return clean


def _restart_page() -> bytes:
    """A restart page of a log that NTFS, its one client, has open, and in which nothing is written yet."""
    page = bytearray(_PAGE)
    struct.pack_into("<4sHHQIIHHH", page, 0, b"RSTR", 30, 9, 0, _PAGE, _PAGE, 48, 1, 1)
    name = "NTFS".encode("utf-16-le")
    client = struct.pack("<QQHHH6xI", 0, 0, _NOBODY, _NOBODY, 0, len(name)) + name.ljust(128, b"\0")
    area = struct.pack("<QHHHHIHHQIHHII", 1, 1, _NOBODY, 0, 0, 40, 48 + len(client), 48, 0, 0, 48, 64, 1, 0)
    page[48 : 48 + len(area) + len(client)] = area + client
    struct.pack_into("<H", page, 30, 1)
    for sector in range(1, 9):
        end = sector * 512 - 2
        page[30 + 2 * sector : 32 + 2 * sector] = page[end : end + 2]
        struct.pack_into("<H", page, end, 1)
    return bytes(page)
