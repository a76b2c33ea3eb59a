"""The event log on C:, a record a sector, one after the other in a preallocated file, and over again from its start."""

import json
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from drtest.lab.standin.storage import Storage

SECTOR = 512
RECORDS = 128
SIZE = RECORDS * SECTOR
SYSTEM, APPLICATION = "System", "Application"
_MAGIC = b"drtevent"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event.

    Attributes:
        at: seconds since 1970.
        data: its numbers, by name.
    """

    provider: str
    id: int
    at: float
    log: str = SYSTEM
    data: Mapping[str, int] = field(default_factory=dict)


class EventLog:
    """The event log. What has been added is on the disk."""

    def __init__(self, file: Storage) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._next = max((number for number, _ in self._records()), default=0) + 1

    def add(self, event: Event) -> None:
        """Logs an event.

        Raises:
            OSError: it can't be written.
        """
        with self._lock:
            body = json.dumps([self._next, event.at, event.log, event.provider, event.id, dict(event.data)])
            data = _MAGIC + body.encode("ascii").ljust(SECTOR - len(_MAGIC) - 4)
            self._file.write(self._next % RECORDS * SECTOR, data + zlib.crc32(data).to_bytes(4, "little"))
            self._file.flush()
            self._next += 1

    def since(self, at: float) -> tuple[Event, ...]:
        """What was logged since then, by the clock of who logged it."""
        with self._lock:
            found = sorted(self._records(), key=lambda one: one[0])
        return tuple(event for _, event in found if event.at >= at)

    def close(self) -> None:
        """Gives its file back."""
        self._file.close()

    def _records(self) -> Iterator[tuple[int, Event]]:
        """What is there, with its number; a record that was never written whole is none."""
        data = self._file.read(0, SIZE)
        for place in range(0, len(data) - SECTOR + 1, SECTOR):
            sector = data[place : place + SECTOR]
            if not sector.startswith(_MAGIC):
                continue
            if zlib.crc32(sector[:-4]) != int.from_bytes(sector[-4:], "little"):
                continue
            number, at, log, provider, ident, numbers = json.loads(sector[len(_MAGIC) : -4])
            yield number, Event(provider=provider, id=ident, at=at, log=log, data=numbers)
