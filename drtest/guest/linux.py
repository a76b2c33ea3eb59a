"""Linux from the inside: one program for each visit, sent whole, answered by one JSON document."""

import contextlib
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from drtest.guest import program
from drtest.guest.canary import iso_of_ns
from drtest.guest.transport import AnswerError, Guest, Result, Stream
from drtest.words import Filesystem

RESERVE = 10.0
"""Seconds of a deadline that the guest's own budget leaves for the way there and back."""
SHARE = 0.1
"""But never more than this part of it."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one probe of a visit saw.

    Attributes:
        probe: the probe's name, as ``filesystem.check``.
        volume: the volume's name; None where it is of the whole guest.
        command: what was asked, as a person would type it.
        at: when, in UTC, by the runner's clock.
        data: what came back.
    """

    probe: str
    volume: str | None
    command: str
    at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class VolumeToPrepare:
    """A volume of a source that a canary goes to.

    Attributes:
        volume_id: its EBS id, by which its disk is found.
        filesystem: what to make on it, if it is blank; None: it is never formatted.
        mount: where it is, or is to be, mounted; ``/`` for root; empty: wherever it is.
        device: a path instead of the id.
        fstab: where the entry for it goes, if its filesystem is made.
    """

    volume_id: str
    filesystem: Filesystem | None = None
    mount: str = ""
    device: str = ""
    fstab: str = "/etc/fstab"


@dataclass(frozen=True, kw_only=True)
class CanaryPlace:
    """Where a canary is.

    Attributes:
        volume_id: the source volume's id, which is in each record.
        directory: its folder in the running server.
        inside: the same folder seen from the top of its filesystem, for a copy of it.
        capacity: how many records its file has room for.
        filesystem, uuid: what it lies on.
    """

    volume_id: str
    directory: str
    inside: str
    capacity: int
    filesystem: str
    uuid: str


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A source that is ready for a load; `places` in the order of the volumes that were asked for."""

    seen: tuple[Seen, ...]
    places: Mapping[str, CanaryPlace]


@dataclass(frozen=True, kw_only=True)
class BlankVolume:
    """A blank volume that takes another's place.

    Attributes:
        volume_id: its EBS id, by which its disk is found.
        filesystem, uuid: of the one whose place it takes.
    """

    volume_id: str
    filesystem: str
    uuid: str


@dataclass(frozen=True, kw_only=True)
class CanaryToFind:
    """The canary that a copy should hold: of which volume, where, and of which load.

    What is not known is empty: then it is that of the newest record, and the first folder that a canary can be in.
    """

    volume_id: str
    inside: str
    series: str = ""


@dataclass(frozen=True, kw_only=True)
class VolumeToExamine:
    """A copy to be examined offline.

    Attributes:
        volume_id: the restored volume's id, by which its disk is found.
        device: instead of it, the path of a block device or of an image file (which is written to: give a copy).
        partition: the one to look at; None: all of them.
        filesystem: what the source has on it: where nothing is recognised then, that is damage; empty: not known.
        uuid: the source's filesystem's UUID, to tell which of several it is; empty: not known.
        canary: the canary that it should hold; None: none.
        contents: whether to check all that files hold, where the filesystem has checksums of it (btrfs); that reads
            all of it.
    """

    volume_id: str = ""
    device: str = ""
    partition: int | None = None
    filesystem: str = ""
    uuid: str = ""
    canary: CanaryToFind | None = None
    contents: bool = False


def baseline(guest: Guest, *, deadline: float) -> tuple[Seen, ...]:
    """The source before any capture: ``baseline.system``.

    Raises:
        GuestError: it could not be asked, or gave no answer.
    """
    return _visit(guest, "baseline", {"settle": min(60.0, deadline / 2)}, deadline=deadline)


def prepare(
    guest: Guest, *, volumes: Mapping[str, VolumeToPrepare], records: int, deadline: float
) -> Prepared:
    """Makes a source ready for a load: filesystems on blank volumes, mounts, room for the canary.

    It can be run again. What is not blank is never formatted.

    Args:
        guest: the source.
        volumes: by name, in the order in which the load will write to them.
        records: how many records each must have room for; see `drtest.guest.canary.capacity`.
        deadline: seconds from now.

    Raises:
        AnswerError: a volume could not be made ready; says why for each.
        GuestError: the source could not be asked.
    """
    asked = [dict(asdict(one), name=name) for name, one in volumes.items()]
    seen = _visit(
        guest, "prepare", {"volumes": asked, "records": records, "wait": deadline / 3}, deadline=deadline
    )
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
    guest: Guest,
    *,
    places: Mapping[str, CanaryPlace],
    series: str,
    rate: float,
    seconds: float,
    deadline: float,
) -> Iterator[Stream]:
    """A load on a source, from its first record on: a stream of acknowledgements for `drtest.guest.canary.Recorder`.

    Args:
        guest: the source.
        places: by volume, in the order in which the one sequence goes over them.
        series: a new name for this load; see `drtest.guest.canary.new_series`.
        rate: records a second, over all volumes together.
        seconds: the longest that it runs; it ends before that once the stream is stopped.
        deadline: seconds from now until the stream is given up.

    Raises:
        GuestError: the load could not be begun.
    """
    arguments = {
        "volumes": [dict(asdict(one), name=name) for name, one in places.items()],
        "series": series,
        "rate": rate,
        "seconds_at_most": seconds,
        "seconds": deadline,
    }
    text = program.text("load", arguments, nonce="", entry="stream")
    with guest.stream(program.command("load", text), stdin=text, deadline=deadline) as stream:
        yield _Begun(stream, guest.address)


class _Begun:
    """A load's stream that has been given the runner's clock.

    Attributes:
        ready: what the load said of itself before it began: its process id, the guest's clock, room for records.
    """

    def __init__(self, stream: Stream, address: str) -> None:
        self._stream = stream
        self._lines = iter(stream)
        try:
            first = next(self._lines)
        except StopIteration:
            first = b""
        if not first.startswith(b"ready "):
            rest = b"" if not first else b"\n".join([first, *self._lines])
            program.refuse(Result(exit=stream.exit, stdout=rest, stderr=stream.stderr), address)
            raise AnswerError(f"{address}: the load did not begin: {program.tail(rest, stream.stderr)}")
        self.ready: Mapping[str, Any] = json.loads(first[6:])
        stream.send(b"go %d\n" % time.time_ns())

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


def helper(guest: Guest, *, deadline: float) -> tuple[Seen, ...]:
    """A helper made ready before anything is attached: ``helper.ready``.

    Raises:
        GuestError: it could not be asked.
    """
    return _visit(guest, "helper", {}, deadline=deadline)


def blank(guest: Guest, *, volumes: Mapping[str, BlankVolume], deadline: float) -> tuple[Seen, ...]:
    """Empty filesystems on blank volumes that are attached to a helper: ``blank.volume`` for each.

    Raises:
        GuestError: the helper could not be asked.
        AnswerError: one could not be made, or is not blank.
    """
    asked = [dict(asdict(one), name=name) for name, one in volumes.items()]
    seen = _visit(guest, "blank", {"volumes": asked}, deadline=deadline)
    wrong = [f"{one.volume}: {one.data['error']}" for one in seen if one.data.get("error")]
    if wrong:
        raise AnswerError(f"{guest.address}: blank volumes could not be made ready: {'; '.join(wrong)}")
    return seen


def offline(
    guest: Guest, *, volumes: Mapping[str, VolumeToExamine], deadline: float, wait: float = 60.0
) -> tuple[Seen, ...]:
    """Examines copies that are attached to a helper, all in one visit.

    ``filesystem.before``, ``filesystem.replay``, ``filesystem.check`` and, where one should be there,
    ``canary.found`` for each volume; ``helper.kernel`` once. A stage that could not be done says so in its ``error``.

    Args:
        guest: the helper.
        volumes: by name.
        deadline: seconds from now.
        wait: seconds that a disk may take to appear.

    Raises:
        GuestError: the helper could not be asked, or gave no answer.
    """
    asked = [dict(asdict(one), name=name, wait=wait) for name, one in volumes.items()]
    return _visit(guest, "offline", {"volumes": asked}, deadline=deadline)


def booted(guest: Guest, *, deadline: float, settle: float = 120.0) -> tuple[Seen, ...]:
    """A copy that was booted: ``boot.identity``, ``boot.system``, ``boot.mounts``, ``boot.kernel``.

    Args:
        guest: the scratch instance.
        deadline: seconds from now.
        settle: seconds that its services may take to come up.

    Raises:
        GuestError: it could not be asked, or gave no answer.
    """
    seen = _visit(guest, "booted", {"settle": min(settle, deadline / 2)}, deadline=deadline)
    return tuple(
        Seen(
            probe=one.probe,
            volume=one.volume,
            command=one.command,
            at=one.at,
            data={**one.data, "host_key": guest.host_key} if one.probe == "boot.identity" else one.data,
        )
        for one in seen
    )


def _visit(guest: Guest, name: str, arguments: Mapping[str, Any], *, deadline: float) -> tuple[Seen, ...]:
    nonce = secrets.token_hex(16)
    budget = deadline - min(RESERVE, deadline * SHARE)
    text = program.text(name, {**arguments, "seconds": budget}, nonce=nonce, entry="serve")
    begun = datetime.now(UTC)
    result = guest.run(program.command(name, text), stdin=text, deadline=deadline)
    document = program.answer(result, nonce, guest.address)
    if "error" in document:
        raise AnswerError(f"{guest.address}: {name} failed in the guest:\n{document['error']}")
    try:
        return tuple(_seen(one, begun) for one in document["seen"])
    except (KeyError, TypeError, ValueError) as problem:
        raise AnswerError(
            f"{guest.address}: the answer of {name} has another shape: {problem!r}"
        ) from problem


def _seen(one: Mapping[str, Any], begun: datetime) -> Seen:
    data = dict(one["data"])
    if one["probe"] == "canary.found":
        last = data.pop("last_time_ns", None)
        data["last_at"] = None if last is None else iso_of_ns(last)
    return Seen(
        probe=one["probe"],
        volume=one["volume"],
        command=one["command"],
        at=begun + timedelta(seconds=float(one["after"])),
        data=data,
    )
