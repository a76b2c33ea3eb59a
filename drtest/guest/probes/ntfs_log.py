"""The log of NTFS: whether it has to be replayed, read from its restart pages; no tool on Linux replays it.

Windows marks a volume dirty (the flag that ntfsinfo shows) only where it found damage. That it was mounted when it
was captured stands in $LogFile alone: the newer of its two restart pages then has clients, and no mark that it is
clean (Linux-NTFS project, "NTFS documentation", $LogFile; ntfs-3g, logfile.c).
"""

import struct
from typing import Any, Optional

_NO_CLIENT = 0xFFFF
_CLEAN = 0x2
_DATA = 0x80


def dirty(device: str) -> Optional[bool]:
    """Whether the log has something to replay; None where it can't be told."""
    with open(device, "rb") as file:
        boot = file.read(512)
        if len(boot) < 512 or boot[3:11] != b"NTFS    ":
            return None
        sector, per_cluster = struct.unpack_from("<HB", boot, 11)
        if sector not in (512, 1024, 2048, 4096) or not per_cluster:
            return None
        # Both are powers of two where they are too large for a byte (Microsoft's "Locating the MFT").
        cluster = sector * (per_cluster if per_cluster < 0x80 else 1 << (256 - per_cluster))
        size = struct.unpack_from("<b", boot, 64)[0]
        record = size * cluster if size > 0 else 1 << -size
        if not 256 <= record <= 65536:
            return None
        file.seek(struct.unpack_from("<Q", boot, 48)[0] * cluster + 2 * record)
        first = _first_cluster(file.read(record))
        if first is None:
            return None
        file.seek(first * cluster)
        return _dirty_pages(file.read(4 * 65536))


def _first_cluster(record: bytes) -> Optional[int]:
    """Where the data of a file begins, from its record; the fields used lie in front of the first fixup."""
    if record[:4] != b"FILE":
        return None
    place = struct.unpack_from("<H", record, 20)[0]
    while place + 64 <= len(record):
        kind, length = struct.unpack_from("<II", record, place)
        if kind == 0xFFFFFFFF or not 16 <= length <= len(record):
            return None
        if kind == _DATA and record[place + 8] == 1:
            at = place + struct.unpack_from("<H", record, place + 32)[0]
            head = record[at] if at < len(record) else 0
            counted, offset = head & 0xF, head >> 4
            if not counted or not offset or at + 1 + counted + offset > len(record):
                return None
            return int.from_bytes(record[at + 1 + counted : at + 1 + counted + offset], "little", signed=True)
        place += length
    return None


def _dirty_pages(log: bytes) -> Optional[bool]:
    if len(log) < 8192:
        return None
    if log[:4] == b"\xff\xff\xff\xff":
        return False  # emptied: by mkfs, or by ntfs-3g after it had been clean
    newest: Any = None
    size = struct.unpack_from("<I", log, 16)[0] if log[:4] == b"RSTR" else 4096
    for place in (0, size):
        page = log[place : place + 4096]
        if page[:4] != b"RSTR" or len(page) < 4096:
            continue
        area = struct.unpack_from("<H", page, 24)[0]
        if area + 16 > len(page):
            continue
        number, _, _, in_use, flags = struct.unpack_from("<QHHHH", page, area)
        if newest is None or number > newest[0]:
            newest = (number, in_use != _NO_CLIENT and not flags & _CLEAN)
    return None if newest is None else bool(newest[1])
