"""Windows from the inside: one PowerShell script for each visit, answered by one JSON document of numbers and flags.

The observations are those of `drtest.guest.linux`, by the same names, so that the judge reads both alike; what only
Windows has comes under names of its own (``boot.events``, ``boot.disks``, ``boot.vss``, ``boot.volumes``).
"""

import contextlib
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Protocol

from drtest.guest import powershell
from drtest.guest.linux import (
    RESERVE,
    SHARE,
    CanaryPlace,
    Prepared,
    Seen,
    VolumeToExamine,
    VolumeToPrepare,
)
from drtest.guest.transport import LIMIT, AnswerError, Guest, Result, Stream
from drtest.guest.windows_answers import seen_of
from drtest.words import ROOT


class WindowsGuest(Guest, Protocol):
    """A guest that runs PowerShell: `drtest.guest.winrm_shells.WinrmGuest`."""

    def run_powershell(self, script: str, *, deadline: float, limit: int = LIMIT) -> Result:
        """See `drtest.guest.winrm_shells.WinrmGuest.run_powershell`."""
        ...


def baseline(guest: WindowsGuest, *, deadline: float) -> tuple[Seen, ...]:
    """The source before any capture: ``baseline.system``.

    Besides what Linux tells: ``hibernation``, ``bitlocker`` (letters of protected volumes), ``disks``,
    ``stopped_units`` (automatic services that do not run and have not failed).

    Raises:
        GuestError: it could not be asked, or gave no answer.
    """
    return _visit(guest, "windows_baseline", {"settle": min(60.0, deadline / 2)}, deadline=deadline)


def prepare(
    guest: WindowsGuest, *, volumes: Mapping[str, VolumeToPrepare], records: int, deadline: float
) -> Prepared:
    """Makes a source ready for a load; see `drtest.guest.linux.prepare`.

    A `mount` is a drive letter (``E:``) here; "/" is the system drive; empty: any letter.

    Raises:
        AnswerError: a volume could not be made ready; says why for each.
        GuestError: the source could not be asked.
    """
    asked = [dict(asdict(one), name=name) for name, one in volumes.items()]
    arguments = {"volumes": asked, "records": records, "wait": deadline / 3}
    seen = _visit(guest, "windows_prepare", arguments, deadline=deadline)
    wrong = [f"{one.volume}: {one.data['error']}" for one in seen if one.data.get("error")]
    if wrong or len(seen) != len(volumes):
        raise AnswerError(
            f"{guest.address}: volumes could not be made ready: {'; '.join(wrong) or 'no answer'}"
        )
    names = CanaryPlace.__dataclass_fields__
    places = {
        str(one.volume): CanaryPlace(**{name: one.data[name] for name in names}) for one in seen if one.volume
    }
    return Prepared(seen=seen, places=places)


@contextlib.contextmanager
def load(
    guest: WindowsGuest,
    *,
    places: Mapping[str, CanaryPlace],
    series: str,
    rate: float,
    seconds: float,
    deadline: float,
) -> Iterator[Stream]:
    """A load on a source, from its first record on; see `drtest.guest.linux.load`.

    Raises:
        GuestError: the load could not be begun.
    """
    arguments = {
        "volumes": [dict(asdict(one), name=name) for name, one in places.items()],
        "series": series,
        "rate": rate,
        "seconds_at_most": seconds,
    }
    text = powershell.text("windows_load", arguments, entry="Start-DrtestStream")
    command = powershell.stream_command(secrets.token_hex(16))
    with guest.stream(command, stdin=powershell.packed_stream(text), deadline=deadline) as stream:
        yield _Begun(stream, guest.address)


class _Begun:
    """A load's stream that has been given the runner's clock.

    Attributes:
        ready: what the load said of itself before it began.
    """

    def __init__(self, stream: Stream, address: str) -> None:
        self._stream = stream
        self._lines = iter(stream)
        first = next(self._lines, b"")
        if not first.startswith(b"ready "):
            rest = b"\n".join([first, *self._lines])
            said = Result(exit=stream.exit, stdout=rest, stderr=stream.stderr).tail()
            raise AnswerError(f"{address}: the load did not begin: {said}")
        self.ready: Mapping[str, Any] = json.loads(first[6:])
        stream.send(b"go %d\r\n" % time.time_ns())

    def __iter__(self) -> Iterator[bytes]:
        return self._lines

    def send(self, data: bytes) -> None:
        self._stream.send(data)

    def stop(self) -> None:
        self._stream.stop()

    @property
    def exit(self) -> int | None:
        return self._stream.exit

    @property
    def stderr(self) -> bytes:
        return self._stream.stderr


def helper(guest: WindowsGuest, *, deadline: float) -> tuple[Seen, ...]:
    """A helper made ready before anything is attached: ``helper.ready``.

    New disks stay offline, get no letter, and are not formatted by EC2Launch. The helper must come from another image
    than the source (equal disk signatures collide), and never gets a Linux volume.

    Raises:
        GuestError: it could not be asked.
    """
    return _visit(guest, "windows_helper", {}, deadline=deadline)


def offline(
    guest: WindowsGuest, *, volumes: Mapping[str, VolumeToExamine], deadline: float, wait: float = 60.0
) -> tuple[Seen, ...]:
    """Examines copies that are attached to a helper, all in one visit; see `drtest.guest.linux.offline`.

    A copy is written to: chkdsk mends what it finds, which is how its word is known without reading its language.

    Raises:
        GuestError: the helper could not be asked, or gave no answer.
    """
    asked = [dict(asdict(one), name=name, wait=wait) for name, one in volumes.items()]
    return _visit(guest, "windows_offline", {"volumes": asked}, deadline=deadline, systems=frozenset({ROOT}))


def booted(
    guest: WindowsGuest, *, deadline: float, settle: float = 120.0, scan: bool = True
) -> tuple[Seen, ...]:
    """A copy that was booted: ``boot.identity``, ``boot.system``, ``boot.mounts``, ``boot.events`` and Windows' own.

    Args:
        guest: the scratch instance.
        deadline: seconds from now.
        settle: seconds that its services may take to come up.
        scan: whether volumes are scanned while they are online (``Repair-Volume -Scan``).

    Raises:
        GuestError: it could not be asked, or gave no answer.
    """
    arguments = {"settle": min(settle, deadline / 2), "scan": scan}
    return _visit(guest, "windows_booted", arguments, deadline=deadline)


def _visit(
    guest: WindowsGuest,
    name: str,
    arguments: Mapping[str, Any],
    *,
    deadline: float,
    systems: frozenset[str] = frozenset(),
) -> tuple[Seen, ...]:
    budget = deadline - min(RESERVE, deadline * SHARE)
    text = powershell.text(name, {**arguments, "seconds": budget})
    begun = datetime.now(UTC)
    result = guest.run_powershell(text, deadline=deadline)
    document = powershell.document(result, guest.address)
    try:
        return tuple(
            seen_of(one, begun=begun, host_key=guest.host_key, systems=systems) for one in document["seen"]
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise AnswerError(
            f"{guest.address}: the answer of {name} has another shape: {problem!r}"
        ) from problem
