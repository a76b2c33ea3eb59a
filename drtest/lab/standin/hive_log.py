"""The log of a registry hive (``SYSTEM.LOG1``): what is about to be written to the hive, complete and with checksums.

The format of Windows 8.1 and later (regf specification, "New format"): a base block of kind 6, then entries, of which
only those count that are not older than the hive.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from drtest.lab.standin import regf
from drtest.lab.standin.marvin import marvin32

KIND = 6
_ENTRY = struct.Struct("<4sIIIIIQQ")
_REFERENCE = struct.Struct("<II")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry.

    Attributes:
        sequence: the sequence number that the hive has once it is applied.
        size: bytes of the hive's bins.
        pages: what is to be written, by its place in the bins.
    """

    sequence: int
    size: int
    pages: Mapping[int, bytes]

    def encode(self) -> bytes:
        """Its bytes, in whole sectors."""
        references = b"".join(_REFERENCE.pack(place, len(data)) for place, data in self.pages.items())
        body = references + b"".join(self.pages.values())
        length = -(-(_ENTRY.size + len(body)) // regf.SECTOR) * regf.SECTOR
        body = body.ljust(length - _ENTRY.size, b"\0")
        head = _ENTRY.pack(b"HvLE", length, 0, self.sequence, self.size, len(self.pages), marvin32(body), 0)[
            :32
        ]
        return head + struct.pack("<Q", marvin32(head)) + body


def encode(base: regf.Base, entry: Entry) -> bytes:
    """A log with one entry."""
    head = replace(base, primary=entry.sequence, secondary=entry.sequence, kind=KIND)
    return head.encode() + entry.encode()


def after(log: bytes, *, base: regf.Base) -> Iterator[Entry]:
    """The entries to be applied to a hive that is dirty, up to the first that is not whole.

    Args:
        log: all of the log.
        base: the hive's base block.
    """
    place, expected = regf.SECTOR, None
    while (entry := _entry(log, place)) is not None:
        length, found = entry
        if found.size != base.size or (expected is not None and found.sequence != expected):
            return
        if found.sequence >= base.primary:
            yield found
            expected = found.sequence + 1
        place += length


def _entry(log: bytes, place: int) -> tuple[int, Entry] | None:
    if place + _ENTRY.size > len(log):
        return None
    magic, length, _, sequence, size, count, first, second = _ENTRY.unpack_from(log, place)
    body = log[place + _ENTRY.size : place + length]
    if magic != b"HvLE" or length % regf.SECTOR or len(body) != length - _ENTRY.size:
        return None
    if marvin32(log[place : place + 32]) != second or marvin32(body) != first:
        return None
    pages, at = {}, count * _REFERENCE.size
    for number in range(count):
        offset, bytes_ = _REFERENCE.unpack_from(body, number * _REFERENCE.size)
        if offset + bytes_ > size:
            return None
        pages[offset] = body[at : at + bytes_]
        at += bytes_
    return length, Entry(sequence=sequence, size=size, pages=pages)
