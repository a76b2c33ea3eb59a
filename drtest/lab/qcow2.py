"""Reading the bytes of a frozen disk: qcow2 files built on each other, by their format's tables.

Source: QEMU, docs/interop/qcow2.txt. QEMU's own tools take a process for each look; a snapshot is read block by block.
"""

import os
import struct
import zlib
from functools import lru_cache
from pathlib import Path

from drtest.errors import EnvironmentFailedError

_OFFSET = 0x00FFFFFFFFFFFE00
_COMPRESSED = 1 << 62
_ZERO = 1
_INCOMPATIBLE = 0b1
"""Of the incompatible features only the dirty bit is understood: reference counts do not matter to a reader."""

Place = tuple[str, int]
"""Where a cluster's bytes are: the file, and the entry that says where in it."""


class _File:
    """One qcow2 file, open for reading; the tables that were looked at stay in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        header = self._read(0, 104)
        magic, version, backing, length, bits, size, encryption, entries, table = struct.unpack(
            ">4sIQIIQIIQ", header[:48]
        )
        (features,) = struct.unpack(">Q", header[72:80]) if version >= 3 else (0,)
        if magic != b"QFI\xfb" or version not in {2, 3} or encryption or features & ~_INCOMPATIBLE:
            raise EnvironmentFailedError(f"{path} is no qcow2 file that the lab can read.")
        self.size: int = size
        self.bits: int = bits
        self.backing = Path(os.fsdecode(self._read(backing, length))) if backing else None
        self._table = struct.unpack(f">{entries}Q", self._read(table, 8 * entries))
        self._below = lru_cache(maxsize=64)(self._read_table)

    def _read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def _read_table(self, offset: int) -> tuple[int, ...]:
        return struct.unpack(f">{1 << (self.bits - 3)}Q", self._read(offset, 1 << self.bits))

    def entry(self, cluster: int) -> int:
        """Say where a cluster is: 0 for not in this file."""
        high, low = divmod(cluster, 1 << (self.bits - 3))
        table = self._table[high] & _OFFSET if high < len(self._table) else 0
        return self._below(table)[low] if table else 0

    def cluster(self, entry: int) -> bytes:
        """Read the bytes of a cluster by its entry."""
        length = 1 << self.bits
        if entry & _COMPRESSED:
            split = 62 - (self.bits - 8)
            offset, sectors = entry & ((1 << split) - 1), (entry >> split) & ((1 << (62 - split)) - 1)
            raw = self._read(offset, (sectors + 1) * 512 - (offset & 511))
            return zlib.decompressobj(-12).decompress(raw, length).ljust(length, b"\0")
        offset = entry & _OFFSET
        return self._read(offset, length).ljust(length, b"\0") if offset else bytes(length)

    def close(self) -> None:
        os.close(self._descriptor)


class Chain:
    """A frozen disk: a file and those that it is built on. Close it after use.

    Args:
        path: the topmost file; nothing of the chain is written any more.

    Attributes:
        size: bytes of the disk.

    Raises:
        EnvironmentFailedError: a file is gone or can't be read.
    """

    def __init__(self, path: Path) -> None:
        self._files: list[_File] = []
        try:
            following: Path | None = path
            while following is not None:
                self._files.append(_File(following))
                following = self._files[-1].backing
        except (OSError, struct.error) as error:
            self.close()
            raise EnvironmentFailedError(f"{following} can't be read: {error}") from error
        except BaseException:
            self.close()
            raise
        self.size = self._files[0].size
        if len({file.bits for file in self._files}) > 1:
            self.close()
            raise EnvironmentFailedError(f"{path} is built on files with clusters of other sizes.")

    def __enter__(self) -> "Chain":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        while self._files:
            self._files.pop().close()

    def _find(self, offset: int) -> tuple[_File, int] | None:
        for file in self._files:
            if offset >= file.size:
                return None  # what lies beyond a smaller file is zeros, whatever is below that
            entry = file.entry(offset >> file.bits)
            if entry & ~(1 << 63):
                if entry & _ZERO and not entry & _COMPRESSED:
                    return None
                return file, entry & ~(1 << 63)
        return None

    def places(self, offset: int, length: int) -> tuple[Place | None, ...]:
        """Say where the bytes of a part are, cluster by cluster; None is zeros that were never written."""
        step = 1 << self._files[0].bits
        found = (self._find(at) for at in range(offset, min(offset + length, self.size), step))
        return tuple(None if one is None else (str(one[0].path), one[1]) for one in found)

    def read(self, offset: int, length: int) -> bytes:
        """Read bytes; beyond the end are zeros.

        Args:
            offset: where, a multiple of the cluster's size.
            length: how many, too.
        """
        step = 1 << self._files[0].bits
        parts = []
        for at in range(offset, offset + length, step):
            found = self._find(at) if at < self.size else None
            parts.append(found[0].cluster(found[1]) if found else bytes(step))
        return b"".join(parts)
