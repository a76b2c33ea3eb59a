"""windows_load: records written and flushed, each acknowledged once it is on the disk; lines as windows_canary.ps1's.

There is no metadata arm: no driver of NTFS on Linux keeps a log, so renames are no crash-safe operation here.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from drtest.lab.standin.canary import Place
from drtest.lab.standin.windows import Windows
from drtest.lab.winrm.shells import Command, EndedError

_LAG = 1.0
"""Seconds behind its schedule after which a load does not catch up any more."""


def stream(windows: Windows, arguments: Mapping[str, Any], command: Command) -> None:
    """Acknowledges records until it is told to stop, or its input ends."""
    try:
        places = [
            Place(
                number,
                volume=str(one["volume_id"]),
                folder=windows.path(one["directory"]),
                series=str(arguments["series"]),
            )
            for number, one in enumerate(arguments["volumes"])
        ]
    except OSError as problem:
        _say(command, "end", {"reason": f"error: {type(problem).__name__}: {problem}", "records": 0})
        return
    _say(
        command,
        "ready",
        {"pid": os.getpid(), "clock": time.time(), "capacity": [one.capacity for one in places]},
    )
    load = _Load(places, command, rate=float(arguments["rate"]), most=float(arguments["seconds_at_most"]))
    try:
        while (line := command.read_line()) is not None:
            words = line.split()
            if words[:1] == [b"go"] and len(words) == 2:
                load.begin(int(words[1]))
            elif words[:1] == [b"stop"]:
                load.stopped.set()
    finally:
        load.end()
        for place in places:
            place.close()


def _say(command: Command, word: str, data: Mapping[str, Any]) -> None:
    command.write(f"{word} {json.dumps(data)}\n".encode("ascii"))


class _Load:
    def __init__(self, places: list[Place], command: Command, *, rate: float, most: float) -> None:
        self._places, self._command = places, command
        self._rate, self._most = rate, most
        self._thread: threading.Thread | None = None
        self.stopped = threading.Event()

    def begin(self, now_ns: int) -> None:
        """Starts it, by the runner's clock, which this machine's own carries on."""
        if self._thread is None:
            ahead = now_ns - time.monotonic_ns()
            self._thread = threading.Thread(target=self._work, args=(ahead,), daemon=True, name="load")
            self._thread.start()

    def end(self) -> None:
        """Stops it and waits until it has said its last word."""
        self.stopped.set()
        if self._thread is not None:
            self._thread.join()
        elif not self._command.cancelled:
            _say(self._command, "end", {"reason": "never begun", "records": 0})

    def _work(self, ahead: int) -> None:
        with contextlib.suppress(EndedError):  # nobody listens any more
            self._write(ahead)

    def _write(self, ahead: int) -> None:
        written, reason = 0, "stopped"
        due = time.monotonic()
        ends = due + self._most
        try:
            while not self.stopped.is_set():
                if time.monotonic() >= ends:
                    reason = "limit"
                    break
                place = self._places[written % len(self._places)]
                index = written // len(self._places)
                if index >= place.capacity:
                    reason = "full"
                    break
                now = ahead + time.monotonic_ns()
                place.write(index, n=written, time_ns=now)
                self._command.write(b"r %d %d %d %d\n" % (place.number, index, written, now))
                written += 1
                due = max(due + 1 / self._rate, time.monotonic() - _LAG)
                self.stopped.wait(max(0.0, due - time.monotonic()))
        except OSError as problem:
            reason = f"error: {type(problem).__name__} {problem.errno}"
        _say(self._command, "end", {"reason": reason, "records": written})
