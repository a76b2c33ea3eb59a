"""Reading the log of a disk's writes that QEMU's blklogwrites keeps: each write with its bytes, in order.

Source of the format: Linux, Documentation/admin-guide/device-mapper/log-writes.rst and drivers/md/dm-log-writes.c;
QEMU, block/blklogwrites.c. All numbers are little-endian.
"""

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drtest.errors import EnvironmentFailedError

SECTOR = 512
"""The size of a sector in the log, as QEMU is told (``log-sector-size``): that of the guest's disks."""

FIRST = SECTOR
"""Where the first entry is: behind the superblock."""

_MAGIC = 0x6A736677736872
_SUPERBLOCK = struct.Struct("<QQQI")
"""Magic, version, number of entries (as of the last flush: of no use here), size of a sector."""

_ENTRY = struct.Struct("<QQQQ")
"""First sector, number of sectors, flags, length of a mark's text; the rest of the sector is zeros."""

_DISCARD = 1 << 2
_NOTHING = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Write:
    """A write to the disk.

    Attributes:
        offset: where on the disk, in bytes.
        length: how many bytes.
        place: where in the log its bytes are; None for a discard, which has none.
    """

    offset: int
    length: int
    place: int | None


class WriteLog:
    """A log, open for reading: its writer may go on meanwhile."""

    def __init__(self, path: Path, view: "mmap.mmap | bytes") -> None:
        self._path = path
        self._view = view

    def writes(self, *, start: int = FIRST, until: int) -> Iterator[Write]:
        """Give the writes of a part of the log, in the order in which they were acknowledged.

        Flushes are left out: they change no byte.

        Args:
            start: where its first entry is.
            until: entries that begin here or later are not read.

        Raises:
            EnvironmentFailedError: this is no such log, or it breaks off.
        """
        for _, write in self._entries(start, until):
            if write.length:
                yield write

    def boundary(self, *, start: int = FIRST, until: int) -> int:
        """Say where the first entry begins that is not before ``until``; ``start`` as for `writes`."""
        return max((end for end, _ in self._entries(start, until)), default=start)

    def _entries(self, start: int, until: int) -> Iterator[tuple[int, Write]]:
        """Give each entry with the place where the next one begins; a flush is a write of no bytes."""
        if start < until:
            self._check()
        while start < until:
            entry: tuple[int, int, int, int] = _ENTRY.unpack_from(self._read(start, SECTOR))
            if entry == _NOTHING:
                raise EnvironmentFailedError(f"{self._path} has no entry at byte {start}, before {until}.")
            sector, sectors, flags, _ = entry
            place, length = start + SECTOR, sectors * SECTOR
            discarded = bool(flags & _DISCARD)
            start = place if discarded else place + length
            yield start, Write(sector * SECTOR, length, None if discarded else place)

    def bytes_of(self, place: int, length: int) -> bytes:
        """Read the bytes of a write, or a part of them."""
        return self._read(place, length)

    def _check(self) -> None:
        magic, version, _, sector = _SUPERBLOCK.unpack_from(self._read(0, SECTOR))
        # It is written at the first flush: until then there are zeros.
        if (magic, version, sector) not in {(_MAGIC, 1, SECTOR), (0, 0, 0)}:
            raise EnvironmentFailedError(
                f"{self._path} is no log of writes with sectors of {SECTOR} bytes (magic {magic:#x})."
            )

    def _read(self, offset: int, length: int) -> bytes:
        found = self._view[offset : offset + length]
        if len(found) < length:
            raise EnvironmentFailedError(f"{self._path} breaks off at byte {offset + len(found)}.")
        return found


@contextmanager
def open_log(path: Path) -> Iterator[WriteLog]:
    """Open a log for reading.

    Raises:
        EnvironmentFailedError: it is gone.
    """
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                yield WriteLog(path, b"")
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                yield WriteLog(path, view)
    except OSError as error:
        raise EnvironmentFailedError(f"the log of writes {path} can't be read: {error}") from error
