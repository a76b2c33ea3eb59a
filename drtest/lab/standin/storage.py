"""Files that are written in place: preallocated once, so that a write changes no metadata but its times."""

import os
from pathlib import Path
from typing import Protocol

PAGE = 4096


class Storage(Protocol):
    """A file as the parts that write in place see it."""

    def read(self, offset: int, count: int) -> bytes:
        """Bytes from an offset; fewer where the file ends."""
        ...

    def write(self, offset: int, data: bytes) -> None:
        """Writes in place; it need not be on the disk yet."""
        ...

    def flush(self) -> None:
        """Returns when all that was written is on the disk."""
        ...

    def close(self) -> None:
        """Gives it back."""
        ...


class File:
    """A file on a mounted volume; `flush` is an fsync, which ntfs-3g hands on to the disk.

    Raises:
        OSError: it is not there.
    """

    def __init__(self, path: Path, *, writable: bool = True) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR if writable else os.O_RDONLY)

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return os.fstat(self._file).st_size

    def read(self, offset: int, count: int) -> bytes:
        """See `Storage.read`."""
        parts = []
        while count > 0 and (part := os.pread(self._file, count, offset)):
            parts.append(part)
            offset, count = offset + len(part), count - len(part)
        return b"".join(parts)

    def write(self, offset: int, data: bytes) -> None:
        """See `Storage.write`."""
        while data:
            done = os.pwrite(self._file, data, offset)
            offset, data = offset + done, data[done:]

    def flush(self) -> None:
        """See `Storage.flush`."""
        os.fsync(self._file)

    def close(self) -> None:
        """Gives it back."""
        os.close(self._file)


def make(path: Path, data: bytes, *, size: int = 0) -> None:
    """A new file, or an old one as new: its data, zeros up to its size, all of it on the disk.

    Args:
        path: its folder is made if need be.
        data: what it begins with.
        size: bytes that it is to have at least, in whole pages.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    length = -(-max(size, len(data)) // PAGE) * PAGE
    with path.open("wb") as file:
        file.write(data.ljust(length, b"\0"))
    settle(path)


def settle(path: Path) -> None:
    """Puts all of a file that was closed on the disk: ntfs-3g writes some of a file's metadata as it is closed."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
