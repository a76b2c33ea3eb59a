"""The load: records written and flushed in place, files made and renamed, each acknowledged as it is on the disk.

Lines that it prints, each flushed at once:

    ready {json}                                it is about to begin, and waits for ``go <time_ns>`` on its input
    r <volume> <index> <n> <time_ns>            a record is on the disk; <volume> is a position in the list given
    m <volume> <index> <time_ns>                an operation of the metadata arm is on the disk
    end {json}                                  nothing comes any more, and why

It runs until its input ends or says ``stop``, at most `seconds_at_most`, or until a file is full: the caller makes
the files long enough for rate times time (`drtest.guest.canary.capacity`). Times are the runner's: ``go`` brings its
clock, and this machine's monotonic clock counts on from there, so a guest whose clock is wrong does not matter.
"""

import json
import os
import sys
import threading
import time
from typing import Any, Dict

from drtest.guest.probes import record

LAG = 1.0
"""Seconds behind its schedule after which a load gives up catching up: bursts would hide a stalled disk."""


def main(arguments: Dict[str, Any]) -> None:
    """Prints acknowledgements until it is stopped."""
    try:
        places = [_Place(number, one, arguments["series"]) for number, one in enumerate(arguments["volumes"])]
    except OSError as problem:
        _say("end " + json.dumps({"reason": "error: {}".format(problem), "records": 0}))
        return
    rate, most = float(arguments["rate"]), float(arguments["seconds_at_most"])
    _say(
        "ready "
        + json.dumps({"pid": os.getpid(), "clock": time.time(), "capacity": [p.capacity for p in places]})
    )
    first = sys.stdin.buffer.readline().split()
    if len(first) != 2 or first[0] != b"go":
        _say("end " + json.dumps({"reason": "never begun", "records": 0}))
        return
    clock = _Clock(int(first[1]))
    stopped = threading.Event()
    threading.Thread(target=_listen, args=(stopped,), daemon=True).start()
    written, reason = 0, "stopped"
    try:
        due = time.monotonic()
        ends = due + most
        while not stopped.is_set():
            if time.monotonic() >= ends:
                reason = "limit"
                break
            place = places[written % len(places)]
            index = written // len(places)
            if index >= place.capacity:
                reason = "full"
                break
            _say(
                "r {} {} {} {}".format(place.number, index, written, place.write(index, written, clock.now()))
            )
            if index % record.METADATA_EVERY == record.METADATA_EVERY - 1:
                operation = index // record.METADATA_EVERY
                _say(
                    "m {} {} {}".format(
                        place.number, operation, place.rename(operation, written, clock.now())
                    )
                )
            written += 1
            due = max(due + 1.0 / rate, time.monotonic() - LAG)
            stopped.wait(max(0.0, due - time.monotonic()))
    except OSError as problem:
        reason = "error: {}".format(problem)
    _say("end " + json.dumps({"reason": reason, "records": written}))
    for place in places:
        place.close()


def _say(line: str) -> None:
    sys.stdout.buffer.write(line.encode("ascii", "backslashreplace") + b"\n")
    sys.stdout.buffer.flush()


def _listen(stopped: threading.Event) -> None:
    for line in iter(sys.stdin.buffer.readline, b""):
        if line.strip() == b"stop":
            break
    stopped.set()


class _Clock:
    """The runner's clock, carried on by this machine's monotonic one."""

    def __init__(self, now_ns: int) -> None:
        self._ahead = now_ns - int(time.monotonic() * 1e9)

    def now(self) -> int:
        return self._ahead + int(time.monotonic() * 1e9)


class _Place:
    """The canary of one volume, open for writing."""

    def __init__(self, number: int, volume: Dict[str, Any], series: str) -> None:
        self.number = number
        self.volume_id: str = volume["volume_id"]
        self.series = series
        folder = volume["directory"]
        # O_DSYNC: the write returns when the disk says that it is there, flush included.
        self.file = os.open(
            os.path.join(folder, record.RECORDS_FILE), os.O_WRONLY | os.O_DSYNC | os.O_NOFOLLOW
        )
        self.capacity = os.fstat(self.file).st_size // record.RECORD_BYTES
        self.folder = os.open(os.path.join(folder, record.METADATA_FOLDER), os.O_RDONLY | os.O_DIRECTORY)

    def write(self, index: int, n: int, now_ns: int) -> int:
        """One record in place; returns its time."""
        data = record.encode(record.Record(record.IN_PLACE, index, n, now_ns, self.series, self.volume_id))
        if os.pwrite(self.file, data, index * record.RECORD_BYTES) != len(data):
            raise OSError("a record was written in part only")
        return now_ns

    def rename(self, operation: int, n: int, now_ns: int) -> int:
        """One operation of the metadata arm: create, flush, rename over the slot's last one, flush the folder."""
        data = record.encode(
            record.Record(record.METADATA, operation, n, now_ns, self.series, self.volume_id)
        )
        new = os.open("new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=self.folder)
        try:
            if os.write(new, data) != len(data):
                raise OSError("a file was written in part only")
            os.fsync(new)
        finally:
            os.close(new)
        slot = str(operation % record.METADATA_SLOTS)
        os.rename("new", slot, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        os.fsync(self.folder)
        return now_ns

    def close(self) -> None:
        """Gives its files back."""
        os.close(self.file)
        os.close(self.folder)
