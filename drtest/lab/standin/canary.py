"""The canary on this side: its record, byte for byte that of drtest's probes, and what of it is on a volume.

This package may not know those probes; a test holds both to the same bytes.
"""

import hashlib
import os
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORD = 512
FILE = "records.bin"
METADATA = "meta"
FOLDER = ".drtest-canary"
FOLDERS = ("/.drtest-canary", "/var/lib/drtest-canary", "/root/.drtest-canary")
IN_PLACE = 0
_HEAD = struct.Struct("<8sHHIQQQ16s32s")
_LISTED = 1000


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record."""

    place: int
    n: int
    time_ns: int
    series: str
    volume: str
    kind: int = IN_PLACE

    def encode(self) -> bytes:
        """Its 512 bytes."""
        head = _HEAD.pack(
            b"DRTCNRY1", 1, self.kind, RECORD, self.place, self.n, self.time_ns, bytes.fromhex(self.series),
            self.volume.encode("ascii"),
        )  # fmt: skip
        data = head + (hashlib.sha256(head).digest() * 13)[:388]
        data += struct.pack("<I", zlib.crc32(data))
        return data + hashlib.sha256(data).digest()


def decode(data: bytes) -> Record | None:
    """The record in 512 bytes; None where they are not one whole record."""
    if len(data) != RECORD or data[:8] != b"DRTCNRY1" or hashlib.sha256(data[:480]).digest() != data[480:]:
        return None
    _, version, kind, size, place, n, time_ns, series, volume = _HEAD.unpack_from(data)
    if version != 1 or size != RECORD:
        return None
    name = volume.rstrip(b"\0").decode("ascii", "replace")
    return Record(kind=kind, place=place, n=n, time_ns=time_ns, series=series.hex(), volume=name)


def ranges(numbers: Iterable[int]) -> list[int]:
    """Numbers as inclusive ranges, flat, as the probe puts them: first, last, first, last."""
    flat: list[int] = []
    for number in sorted(numbers):
        if flat and number <= flat[-1] + 1:
            flat[-1] = number
        else:
            flat += [number, number]
    return flat


def find(top: Path, *, inside: str, volume: str, series: str) -> dict[str, Any]:
    """What is there of a canary below a mounted volume: the data of ``canary.found`` as windows_canary.ps1 has them.

    Args:
        top: where the volume is mounted.
        inside: its folder; "" for the first of those that it can be in.
        volume: the volume that it was written to; "" for that of the newest record.
        series: the load that counts; "" for that of the newest record.
    """
    folders = [top / one.lstrip("/") for one in ([inside] if inside else FOLDERS)]
    path = next((one for one in folders if one.is_dir()), top) / FILE
    found: dict[str, Any] = {
        "present": path.is_file(), "reason": "", "records": [], "torn": [], "torn_count": 0, "foreign": [],
        "foreign_count": 0, "stale": [], "last_time_ns": None, "metadata": [], "metadata_torn": [], "capacity": 0,
        "series": series, "error": "",
    }  # fmt: skip
    if not found["present"]:
        return {**found, "reason": f"{FILE} is not there"}
    try:
        data = path.read_bytes()
    except OSError as problem:
        return {**found, "error": f"OSError 0x{problem.errno or 0:08x} {problem.strerror}"}
    whole, torn = _sectors(data)
    if not series and whole:
        newest = max(whole.values(), key=lambda one: one.time_ns)
        series, volume = newest.series, volume or newest.volume
    own = {place: one for place, one in whole.items() if one.series == series}
    intact = {
        place: one
        for place, one in own.items()
        if (one.volume, one.place, one.kind) == (volume, place, IN_PLACE)
    }
    foreign = sorted(own.keys() - intact.keys())
    return {
        **found,
        "records": ranges(intact),
        "torn": torn[:_LISTED],
        "torn_count": len(torn),
        "foreign": foreign[:_LISTED],
        "foreign_count": len(foreign),
        "stale": ranges(whole.keys() - own.keys()),
        "last_time_ns": max((one.time_ns for one in intact.values()), default=None),
        "capacity": len(data) // RECORD,
        "series": series,
    }


def _sectors(data: bytes) -> tuple[dict[int, Record], list[int]]:
    whole: dict[int, Record] = {}
    torn: list[int] = []
    blank = bytes(RECORD)
    for place in range(-(-len(data) // RECORD)):
        sector = data[place * RECORD : (place + 1) * RECORD]
        if sector == blank[: len(sector)]:
            continue
        record = decode(sector)
        if record is None:
            torn.append(place)
        else:
            whole[place] = record
    return whole, torn


class Place:
    """The canary of one volume, open for writing.

    Raises:
        OSError: it is not there.
    """

    def __init__(self, number: int, *, volume: str, folder: Path, series: str) -> None:
        self.number = number
        self._volume, self._series = volume, series
        self._file = os.open(folder / FILE, os.O_WRONLY)
        self.capacity = os.fstat(self._file).st_size // RECORD

    def write(self, place: int, *, n: int, time_ns: int) -> None:
        """Writes one record; it is on the disk then.

        Raises:
            OSError: it is not.
        """
        record = Record(place=place, n=n, time_ns=time_ns, series=self._series, volume=self._volume)
        if os.pwrite(self._file, record.encode(), place * RECORD) != RECORD:
            raise OSError("a record was written in part only")
        os.fsync(self._file)

    def close(self) -> None:
        """Gives its file back."""
        os.close(self._file)
