"""A visit of a probe: its observations, one look each, as windows_prelude.ps1 puts them."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from drtest.lab.standin.machine import Disk
from drtest.lab.standin.windows import Windows

Seen = dict[str, Any]
_POLL = 0.25


class Visit:
    """One visit.

    Args:
        arguments: what the probe was given; `seconds` is how long it may take.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._begun = time.monotonic()
        self._seconds = float(arguments.get("seconds", 60))

    @property
    def left(self) -> float:
        """Seconds that are left of it."""
        return self._seconds - (time.monotonic() - self._begun)

    def see(self, probe: str, volume: str | None, command: str, look: Callable[[], dict[str, Any]]) -> Seen:
        """One observation; a look that fails says so in its error, and takes no other down."""
        try:
            data = {"error": "", **look()}
        except Exception as problem:  # as a script that throws
            data = {"error": f"{type(problem).__name__}: {problem}"}
        return {
            "probe": probe,
            "volume": volume,
            "command": command,
            "after": time.monotonic() - self._begun,
            "data": data,
        }


def find_disk(windows: Windows, volume: str, *, wait: float) -> Disk:
    """The disk of an EBS volume, by its serial; waits for it to appear.

    Raises:
        LookupError: it does not.
    """
    wanted = volume.replace("-", "").lower()
    until = time.monotonic() + wait
    while True:
        for disk in windows.machine.disks():
            if disk.serial.replace("-", "").lower() == wanted:
                return disk
        if time.monotonic() >= until:
            raise LookupError(f"no disk has the serial {wanted}")
        time.sleep(_POLL)
