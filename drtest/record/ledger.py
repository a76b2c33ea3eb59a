"""The ledger of a run: what was created in the cloud and what of it is gone again, one JSON line each.

An entry is on disk before the drill goes on: whatever happens to the runner, ``--resume`` and ``sweep`` find
here what has to be taken away. What a torn last line was to say is found by its tag.
"""

import json
import threading
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from drtest.errors import EnvironmentFailedError
from drtest.record.lines import Lines


class LedgerError(EnvironmentFailedError):
    """The ledger can't be read or written."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """Something that a run created.

    Attributes:
        kind: as ``snapshot``, ``volume``, ``instance``.
        id: the cloud's id of it.
        region: the region that it is in.
        purpose: what it is for, as ``copy B of lin/running/1``.
        server: the scenario's server that it belongs to; "" for what all share.
        at: when it was created, in UTC.
    """

    kind: str
    id: str
    region: str
    purpose: str
    server: str
    at: datetime


class Ledger:
    """The ledger, open for adding; safe to use from many threads of one process."""

    def __init__(self, path: Path) -> None:
        """Opens it, or makes it.

        Raises:
            LedgerError: a whole line of it can't be read.
        """
        self.path = path
        self._lock = threading.Lock()
        self._created: dict[str, Resource] = {}
        self._deleted: dict[str, datetime] = {}
        self._lines = Lines(path)
        for number, line in enumerate(self._lines.found, start=1):
            self._take(line, number)

    def created(self, resource: Resource) -> None:
        """Enters a new resource; it is on disk when this returns. Entering it again changes nothing."""
        with self._lock:
            if resource.id in self._created and resource.id not in self._deleted:
                return
            self._write({"created": {**asdict(resource), "at": resource.at.isoformat()}})
            self._created[resource.id] = resource
            self._deleted.pop(resource.id, None)

    def deleted(self, resource_id: str, *, at: datetime) -> None:
        """Notes that a resource is gone; that of one which was never entered is kept too."""
        with self._lock:
            if resource_id in self._deleted:
                return
            self._write({"deleted": {"id": resource_id, "at": at.isoformat()}})
            self._deleted[resource_id] = at

    def resources(self) -> tuple[Resource, ...]:
        """All that was ever created, in that order."""
        with self._lock:
            return tuple(self._created.values())

    def open_resources(self) -> tuple[Resource, ...]:
        """What was created and is not gone, in the order of creation: clean up in the reverse one."""
        with self._lock:
            return tuple(one for one in self._created.values() if one.id not in self._deleted)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._lines.close()

    def _take(self, line: bytes, number: int) -> None:
        try:
            entry = json.loads(line)
            if "created" in entry:
                fields = entry["created"]
                resource = Resource(**{**fields, "at": datetime.fromisoformat(fields["at"])})
                self._created.pop(resource.id, None)
                self._created[resource.id] = resource
                self._deleted.pop(resource.id, None)
            else:
                gone = entry["deleted"]
                self._deleted[gone["id"]] = datetime.fromisoformat(gone["at"])
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerError(
                f"{self.path}:{number}: not an entry of a ledger: {error}",
                remedy="Find what the run left by its tag: drtest sweep.",
            ) from error

    def _write(self, entry: dict[str, Any]) -> None:
        self._lines.add(json.dumps(entry))
