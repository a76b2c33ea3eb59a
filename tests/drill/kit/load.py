"""The load in a guest in memory: its records change what lies on the disks."""

import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

from drtest.guest.transport import GuestDeadlineError


class Written(Protocol):
    """A guest with disks."""

    def alive(self) -> None:
        """Raise where it is not there any more."""

    def change(self, volume: str, /, **fields: Any) -> None:
        """Write to a volume."""


class LoadStream:
    """A load: records onto the volumes, one acknowledgement each."""

    exit: int | None = None
    stderr = b""

    def __init__(self, guest: Written, arguments: dict[str, Any], *, ends: float) -> None:
        self._guest, self._arguments, self._ends = guest, arguments, ends
        self._went, self._stopped = threading.Event(), threading.Event()

    def send(self, data: bytes) -> None:
        if data.startswith(b"go "):
            self._went.set()

    def stop(self) -> None:
        self._stopped.set()

    def __iter__(self) -> Iterator[bytes]:
        volumes = self._arguments["volumes"]
        for volume in volumes:
            self._guest.change(
                volume["volume_id"],
                series=self._arguments["series"],
                volume=volume["volume_id"],
                records=0,
                metadata=0,
            )
        yield b'ready {"pid": 1}'
        assert self._went.wait(5)
        n = 0
        while not self._stopped.wait(0.05 / self._arguments["rate"]):
            self._guest.alive()
            if time.monotonic() > self._ends:
                raise GuestDeadlineError("the load was not stopped in time")
            index, place = divmod(n, len(volumes))
            now = time.time_ns()
            self._guest.change(volumes[place]["volume_id"], records=index + 1, last_ns=now)
            yield b"r %d %d %d %d" % (place, index, n, now)
            if index % 10 == 9:
                self._guest.change(volumes[place]["volume_id"], metadata=index // 10 + 1)
                yield b"m %d %d %d" % (place, index // 10, time.time_ns())
            n += 1
        yield b'end {"reason": "stopped", "records": %d}' % n
        self.exit = 0
