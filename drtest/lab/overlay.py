"""Writing a disk's file in one go: a qcow2 file, with the clusters that differ from the file that it is built on.

Source: QEMU, docs/interop/qcow2.txt. The file is QEMU's in all that it says: version 3, clusters of 64 KiB, reference
counts of 16 bits, as ``qemu-img create`` makes them.
"""

import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

_BITS = 16
CLUSTER = 1 << _BITS
"""Bytes of a cluster."""

_ENTRIES = CLUSTER // 8
_COUNTS = CLUSTER // 2
"""How many reference counts a cluster holds."""

_COPIED = 1 << 63
_ZEROS = 1
_HEADER = ">4sIQIIQIIQQIIQQQQII"
_HEADER_LENGTH = 104
_FORMAT = 0xE2792ACA
"""The header extension that names the format of the file below."""


def write_overlay(
    path: Path, *, size: int, backing: Path | None, clusters: Iterable[tuple[int, bytes]] = ()
) -> None:
    """Write a disk's file.

    Args:
        path: the new file; it must not exist.
        size: bytes of the disk.
        backing: the qcow2 file that it is built on; None for zeros.
        clusters: the number of each cluster that differs, with its bytes; none twice.

    Raises:
        OSError: there is no room, or the file exists.
    """
    tables: dict[int, list[int]] = {}
    with path.open("xb") as file:
        file.write(bytes(CLUSTER))  # the header comes last: until then this is no disk
        for number, data in clusters:
            high, low = divmod(number, _ENTRIES)
            table = tables.setdefault(high, [0] * _ENTRIES)
            blank = data.count(0) == len(data)
            table[low] = _ZEROS if blank else file.tell() | _COPIED
            if not blank:
                file.write(data.ljust(CLUSTER, b"\0"))
        entries = -(-size // (CLUSTER * _ENTRIES))
        first = [0] * entries
        for high, table in tables.items():
            first[high] = file.tell() | _COPIED
            file.write(struct.pack(f">{_ENTRIES}Q", *table))
        first_at = file.tell()
        file.write(_padded(struct.pack(f">{entries}Q", *first)))
        counts_at, counts_clusters = _write_counts(file.tell(), file.write)
        name = b"" if backing is None else os.fsencode(backing)
        file.seek(0)
        file.write(
            struct.pack(
                _HEADER,
                b"QFI\xfb",
                3,
                _HEADER_LENGTH + 24 if name else 0,
                len(name),
                _BITS,
                size,
                0,
                entries,
                first_at,
                counts_at,
                counts_clusters,
                0,
                0,
                0,
                0,
                0,
                4,
                _HEADER_LENGTH,
            )
            + (struct.pack(">II8sII", _FORMAT, 5, b"qcow2", 0, 0) + name if name else bytes(8))
        )


def _write_counts(end: int, write: Callable[[bytes], object]) -> tuple[int, int]:
    """Write reference counts of one for all clusters of a file that is ``end`` bytes long so far, and for their own.

    Returns:
        Where their table is, and how many clusters it has.
    """
    used = end // CLUSTER
    blocks = table = 1
    while (total := used + blocks + table) > blocks * _COUNTS or blocks > table * _ENTRIES:
        blocks = -(-total // _COUNTS)
        table = -(-blocks // _ENTRIES)
    for number in range(blocks):
        here = max(0, min(_COUNTS, total - number * _COUNTS))
        write(_padded(struct.pack(">H", 1) * here))
    write(_padded(struct.pack(f">{blocks}Q", *(end + number * CLUSTER for number in range(blocks)))))
    return end + blocks * CLUSTER, table


def _padded(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // CLUSTER) * CLUSTER, b"\0")
