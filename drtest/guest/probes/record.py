"""The canary's record: 512 bytes, one sector, that say which write they are and whether they are whole.

    offset  bytes  what
         0      8  magic ``DRTCNRY1``
         8      2  version, 1
        10      2  kind: 0 a record in place, 1 the content of a file of the metadata arm
        12      4  bytes of a record, 512
        16      8  index: the place in its volume's file, counted in records
        24      8  n: the number in the server's one sequence, across all its volumes
        32      8  time in nanoseconds since 1970, by the runner's clock
        40     16  series: the load that wrote it; a record of an earlier load proves nothing
        56     32  id of the volume that it was written to, ASCII, padded with zeros
        88    388  body: the SHA-256 of the 88 bytes above, over and over, so that any part of the sector is known
       476      4  CRC-32 of the 476 bytes above
       480     32  SHA-256 of the 480 bytes above

All numbers are little-endian.
"""

import hashlib
import struct
import zlib
from typing import Iterable, List, NamedTuple, Optional, Tuple

RECORD_BYTES = 512
IN_PLACE = 0
METADATA = 1
RECORDS_FILE = "records.bin"
METADATA_FOLDER = "meta"
FOLDERS = ("/.drtest-canary", "/var/lib/drtest-canary", "/root/.drtest-canary")
"""Where a canary lies, seen from the top of its filesystem: data volumes have the first, roots any."""
METADATA_EVERY = 10
"""Every tenth record of a volume is followed by one operation of the metadata arm."""
METADATA_SLOTS = 256
"""Names that the metadata arm uses, over and over: operation m replaces the file of operation m - 256."""

_MAGIC = b"DRTCNRY1"
_VERSION = 1
_HEAD = struct.Struct("<8sHHIQQQ16s32s")
_BODY_BYTES = 388


class Record(NamedTuple):
    """One record, decoded. `place` is its index, `time_ns` is by the runner's clock, `series` 32 hex digits."""

    kind: int
    place: int
    n: int
    time_ns: int
    series: str
    volume_id: str


def encode(record: Record) -> bytes:
    """The 512 bytes of a record.

    Raises:
        ValueError: the volume's id has more than 32 characters, or the series is not 32 hex digits.
    """
    series = bytes.fromhex(record.series)
    volume_id = record.volume_id.encode("ascii")
    if len(series) != 16 or not 0 < len(volume_id) <= 32:
        raise ValueError("series {!r} or volume id {!r} does not fit".format(record.series, record.volume_id))
    head = _HEAD.pack(
        _MAGIC, _VERSION, record.kind, RECORD_BYTES, record.place, record.n, record.time_ns, series, volume_id
    )
    digest = hashlib.sha256(head).digest()
    data = head + (digest * (_BODY_BYTES // len(digest) + 1))[:_BODY_BYTES]
    data += struct.pack("<I", zlib.crc32(data) & 0xFFFFFFFF)
    return data + hashlib.sha256(data).digest()


def decode(data: bytes) -> Optional[Record]:
    """The record in 512 bytes; None where they are not one whole record."""
    if len(data) != RECORD_BYTES or data[:8] != _MAGIC:
        return None
    if hashlib.sha256(data[:480]).digest() != data[480:]:
        return None
    _, version, kind, size, index, n, time_ns, series, volume_id = _HEAD.unpack(data[: _HEAD.size])
    if version != _VERSION or size != RECORD_BYTES:
        return None
    return Record(kind, index, n, time_ns, series.hex(), volume_id.rstrip(b"\0").decode("ascii", "replace"))


def is_blank(data: bytes) -> bool:
    """Whether nothing was ever written here: zeros only."""
    return data.count(0) == len(data)


def to_ranges(numbers: Iterable[int]) -> List[Tuple[int, int]]:
    """Numbers in any order, as inclusive ranges in ascending order.

    >>> to_ranges([3, 1, 2, 7])
    [(1, 3), (7, 7)]
    """
    ranges: List[Tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges
