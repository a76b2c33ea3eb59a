"""The canary as it lies on a mounted copy: which records are whole, and what is where the others should be."""

import errno
import os
import stat
from typing import Any, Dict, List, Tuple

from drtest.guest.probes import record

CHUNK = 1 << 20
BLOCK = 4096
LISTED = 1000


class NotThereError(Exception):
    """The canary's folder or file is not on this filesystem."""


def folder(top: str, inside: str) -> str:
    """The canary's folder below a mount point, reached without following links: the filesystem is not ours.

    Raises:
        NotThereError: it is not there.
    """
    path = top
    for name in [part for part in inside.split("/") if part]:
        path = os.path.join(path, name)
        try:
            mode = os.lstat(path).st_mode
        except OSError as problem:
            raise NotThereError("{} is not there: {}".format(inside, problem.strerror)) from problem
        if not stat.S_ISDIR(mode):
            raise NotThereError("{} is no folder".format(inside))
    return path


def look(top: str, inside: str, volume_id: str, series: str) -> Dict[str, Any]:
    """Reads the whole canary.

    Args:
        top: where the filesystem is mounted.
        inside: the canary's folder, seen from the filesystem's top; empty: the first of those that it can be in.
        volume_id: the id of the volume that the records were written to (the source's); empty: the newest record's.
        series: the load whose records count, 32 hex digits; empty: the newest that is there.
    """
    try:
        place = folder(top, inside) if inside else _anywhere(top)
        records = _read(os.path.join(place, record.RECORDS_FILE))
    except NotThereError as problem:
        return dict(_nothing(), present=False, reason=str(problem))
    if not series:
        newest = max((one for one in records.whole.values()), key=lambda one: one.time_ns, default=None)
        series = newest.series if newest else ""
        volume_id = volume_id or (newest.volume_id if newest else "")
    sorted_out = _sort(records.whole, volume_id, series, record.IN_PLACE)
    metadata, spoiled = _metadata(os.path.join(place, record.METADATA_FOLDER), volume_id, series)
    intact = [index for index, one in sorted_out.intact]
    last = max((one.time_ns for _, one in sorted_out.intact), default=None)
    return {
        "present": True,
        "records": record.to_ranges(intact),
        "torn": records.torn[:LISTED],
        "torn_count": len(records.torn),
        "foreign": sorted_out.foreign[:LISTED],
        "foreign_count": len(sorted_out.foreign),
        "stale": record.to_ranges(sorted_out.stale),
        "last_time_ns": last,
        "metadata": record.to_ranges(metadata),
        "metadata_torn": spoiled[:LISTED],
        "metadata_every": record.METADATA_EVERY,
        "capacity": records.capacity,
        "series": series,
        "error": records.error,
    }


def _anywhere(top: str) -> str:
    """The canary's folder where nobody knows which one it is."""
    for inside in record.FOLDERS:
        try:
            return folder(top, inside)
        except NotThereError:
            continue
    raise NotThereError("no canary is on it")


def _nothing() -> Dict[str, Any]:
    return {
        "records": [],
        "torn": [],
        "torn_count": 0,
        "foreign": [],
        "foreign_count": 0,
        "stale": [],
        "last_time_ns": None,
        "metadata": [],
        "metadata_torn": [],
        "capacity": 0,
        "series": "",
        "error": "",
    }


class _Records:
    """What a file of records holds, place by place."""

    def __init__(self) -> None:
        self.whole: Dict[int, record.Record] = {}
        self.torn: List[int] = []
        self.capacity = 0
        self.error = ""

    def add(self, first: int, data: bytes) -> None:
        if record.is_blank(data):
            return
        for place in range(0, len(data), record.RECORD_BYTES):
            sector = data[place : place + record.RECORD_BYTES]
            index = first + place // record.RECORD_BYTES
            decoded = record.decode(sector)
            if decoded is not None:
                self.whole[index] = decoded
            elif not record.is_blank(sector):
                self.torn.append(index)


def _read(path: str) -> _Records:
    records = _Records()
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as problem:
        if problem.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            raise NotThereError("{} is not there".format(record.RECORDS_FILE)) from problem
        records.error = "{} can't be opened: {}".format(record.RECORDS_FILE, problem.strerror)
        return records
    try:
        size = os.fstat(file).st_size
        records.capacity = size // record.RECORD_BYTES
        for offset in range(0, size, CHUNK):
            length = min(CHUNK, size - offset)
            _read_part(file, offset, length, records)
    finally:
        os.close(file)
    return records


def _read_part(file: int, offset: int, length: int, records: _Records) -> None:
    first = offset // record.RECORD_BYTES
    try:
        data = os.pread(file, length, offset)
        records.add(first, data)
        whole = len(data) // record.RECORD_BYTES * record.RECORD_BYTES
        if 0 < whole < length:  # a read that meets a bad block gives what lies before it, and no error
            _read_part(file, offset + whole, length - whole, records)
    except OSError as problem:
        if problem.errno != errno.EIO:
            raise
        if length > BLOCK:  # find the blocks that can't be read: btrfs refuses those with a wrong checksum
            for place in range(offset, offset + length, BLOCK):
                _read_part(file, place, min(BLOCK, offset + length - place), records)
        else:
            records.torn.extend(range(first, first + length // record.RECORD_BYTES))


class _Sorted:
    """Whole records by what they prove."""

    def __init__(self) -> None:
        self.intact: List[Tuple[int, record.Record]] = []
        self.foreign: List[int] = []
        self.stale: List[int] = []


def _sort(whole: Dict[int, record.Record], volume_id: str, series: str, kind: int) -> _Sorted:
    out = _Sorted()
    for index, one in sorted(whole.items()):
        if one.series != series:
            out.stale.append(index)  # of an earlier load, perhaps on another server
        elif one.volume_id != volume_id or one.place != index or one.kind != kind:
            out.foreign.append(index)
        else:
            out.intact.append((index, one))
    return out


def _metadata(place: str, volume_id: str, series: str) -> Tuple[List[int], List[int]]:
    """Operations of the metadata arm that are there or were rightly replaced by a later one; and spoiled slots."""
    there: List[int] = []
    spoiled: List[int] = []
    try:
        names = sorted(os.listdir(place))
    except OSError:
        return [], []
    for name in names:
        if not name.isdigit():
            continue  # a temporary name: its operation was never acknowledged
        decoded = _content(os.path.join(place, name))
        if decoded is not None and decoded.series != series:
            continue  # of an earlier load, perhaps on another server
        if (
            decoded is None
            or decoded.volume_id != volume_id
            or decoded.kind != record.METADATA
            or decoded.place % record.METADATA_SLOTS != int(name)
        ):
            spoiled.append(int(name))
        else:
            there.extend(range(int(name), decoded.place + 1, record.METADATA_SLOTS))
    return there, spoiled


def _content(path: str) -> Any:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return record.decode(os.read(file, record.RECORD_BYTES + 1))
    except OSError:
        return None
    finally:
        os.close(file)
