"""The canary on the runner's side: what was acknowledged, written down before the capture, and what it adds up to."""

import json
import math
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from drtest.guest.probes import record
from drtest.guest.ranges import Ranges as Ranges
from drtest.guest.ranges import as_lists as as_lists
from drtest.guest.ranges import count as count
from drtest.guest.ranges import subtract as subtract
from drtest.guest.ranges import to_ranges as to_ranges
from drtest.guest.transport import AnswerError, GuestDeadlineError, GuestError, Stream

RECORD_BYTES = record.RECORD_BYTES
BATCH = 0.1
"""Seconds of acknowledgements that may go to the disk together."""
MARGIN_RECORDS = 16


def new_series() -> str:
    """A name for one load, so that a record of an earlier one can't be taken for one of its own."""
    return secrets.token_hex(16)


def capacity(*, rate: float, seconds: float, volumes: int) -> int:
    """Records that a volume's file must have room for.

    Args:
        rate: records a second, over all volumes together.
        seconds: the longest that the load can run.
        volumes: how many volumes share it.
    """
    return math.ceil(rate * seconds / volumes) + MARGIN_RECORDS


@dataclass(frozen=True, kw_only=True)
class Ack:
    """One acknowledgement: it is on that volume's disk.

    Attributes:
        volume: the volume's position in the load's list.
        index: of the record in its volume's file, or of the operation of the metadata arm.
        n: the record's number in the one sequence; None for the metadata arm.
        time_ns: the record's time, by the runner's clock.
    """

    volume: int
    index: int
    n: int | None
    time_ns: int


def parse(line: bytes) -> Ack | None:
    """One line of the load's output; None for the lines that begin and end it.

    Raises:
        AnswerError: it is no such line.
    """
    words = line.split()
    try:
        if words[0] == b"r" and len(words) == 5:
            volume, index, n, time_ns = (int(word) for word in words[1:])
            return Ack(volume=volume, index=index, n=n, time_ns=time_ns)
        if words[0] == b"m" and len(words) == 4:
            volume, index, time_ns = (int(word) for word in words[1:])
            return Ack(volume=volume, index=index, n=None, time_ns=time_ns)
    except (ValueError, IndexError):
        pass
    if words and words[0] in (b"ready", b"end"):
        return None
    raise AnswerError(f"the load printed what is no acknowledgement: {line[:80]!r}")


class AckLog:
    """Acknowledgements on the runner's disk, as JSON lines, in the order in which they came.

    The first line names the load. Each other line is a record (``v`` its volume, ``i`` its index, ``n``, ``t`` its
    time), an operation of the metadata arm (``v``, ``m``, ``t``), or ``{"synced": time}``: what stands above it was
    on the disk at that time. Nothing counts that has no such line after it, so a batch that was being written when
    the capture was asked for does not.

    Args:
        path: a new file: one load, one log.
        series: the load's name.
        volumes: names of its volumes, in the order of the load.

    Raises:
        FileExistsError: there is a log already; a trial that is repeated has a log of its own.
    """

    def __init__(self, path: Path, *, series: str, volumes: Sequence[str]) -> None:
        self.path = path
        self.series = series
        self.volumes = tuple(volumes)
        self._counts = dict.fromkeys(self.volumes, 0)
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("x", encoding="ascii")
        self._pending = 0
        self._synced_at = 0.0
        self._write({"series": series, "volumes": list(self.volumes), "record_bytes": RECORD_BYTES})
        self.sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def counts(self) -> Mapping[str, int]:
        """Acknowledged records by volume, so far."""
        return dict(self._counts)

    def append(self, ack: Ack) -> None:
        """Writes one down; to the disk at once, or with those of the next tenth of a second.

        Raises:
            AnswerError: the load has no such volume.
        """
        if not 0 <= ack.volume < len(self.volumes):
            raise AnswerError(f"the load acknowledged a record on volume {ack.volume}: there is none")
        name = self.volumes[ack.volume]
        with self._lock:
            if ack.n is None:
                self._write({"v": name, "m": ack.index, "t": ack.time_ns})
            else:
                self._write({"v": name, "i": ack.index, "n": ack.n, "t": ack.time_ns})
                self._counts[name] += 1
            self._pending += 1
            due = time.monotonic() - self._synced_at >= BATCH
        if due:
            self.sync()

    def sync(self) -> datetime:
        """Puts all that came on the disk; returns when it was there."""
        with self._lock:
            if self._file.closed:
                return datetime.now(UTC)
            self._file.flush()
            os.fsync(self._file.fileno())
            at = datetime.now(UTC)
            self._synced_at = time.monotonic()
            if self._pending:
                self._write({"synced": _iso(at)})
                self._file.flush()
            self._pending = 0
            return at

    def close(self) -> None:
        """Syncs and closes it."""
        self.sync()
        with self._lock:
            self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")


class Recorder:
    """Carries acknowledgements from a load to its log, in a thread, while the capture is made.

    Use as a context manager; leaving it stops the load, and is no error if the load was stopped before.
    """

    def __init__(self, stream: Stream, log: AckLog) -> None:
        self._stream = stream
        self._log = log
        self._error: GuestError | None = None
        self._end: dict[str, Any] | None = None
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._pump, daemon=True, name="drtest-acks")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._stream.stop()
        self._thread.join(5.0)

    @property
    def error(self) -> GuestError | None:
        """What ended the load before it was asked to end, if anything did."""
        return self._error

    @property
    def ended(self) -> Mapping[str, Any] | None:
        """The load's own last word: why it ended, and how many records it wrote."""
        return self._end

    def wait(self, records: int, *, deadline: float) -> None:
        """Waits until every volume has that many acknowledged records.

        Raises:
            GuestError: what ended the load before.
            GuestDeadlineError: they did not come in time; says how many did.
        """
        ends = time.monotonic() + deadline
        with self._changed:
            while min(self._log.counts.values()) < records:
                if self._error is not None:
                    raise self._error
                if not self._thread.is_alive():
                    raise GuestError(f"the load ended by itself: {self._end or 'it gave no reason'}")
                remaining = ends - time.monotonic()
                if remaining <= 0:
                    raise GuestDeadlineError(
                        f"{records} acknowledged records a volume were waited for, there are {dict(self._log.counts)}",
                        remedy="The source's disks, or the way to it, are slower than the load's rate.",
                    )
                self._changed.wait(min(remaining, 0.5))

    def stop(self, *, deadline: float) -> Mapping[str, Any]:
        """Asks the load to end, waits for its last word and returns it.

        Raises:
            GuestError: it had failed, or did not end well.
            GuestDeadlineError: it did not end in time.
        """
        self._stopping.set()
        self._stream.stop()
        self._thread.join(deadline)
        if self._thread.is_alive():
            raise GuestDeadlineError(f"the load did not end within {deadline:.0f} s of being asked to")
        if self._error is not None:
            raise self._error
        self._log.sync()
        if self._end is None:
            raise AnswerError("the load ended without its last word: some of its records may be missing")
        reason = str(self._end.get("reason"))
        if reason != "stopped":
            raise GuestError(
                f"the load ended by itself ({reason}) after {self._end.get('records')} records",
                remedy="Give the load less time or rate, or the source's disks more room."
                if reason in ("full", "limit")
                else "Look at the source's disks: one of them refused a write.",
            )
        return self._end

    def _pump(self) -> None:
        try:
            for line in self._stream:
                ack = parse(line)
                if ack is not None:
                    self._log.append(ack)
                elif line.startswith(b"end "):
                    self._end = _last_word(line)
                with self._changed:
                    self._changed.notify_all()
            if self._end is None and not self._stopping.is_set():
                said = self._stream.stderr.decode("utf-8", "replace").strip()[-400:]
                self._error = GuestError(f"the load ended without a word (exit {self._stream.exit}): {said}")
        except GuestError as problem:
            self._error = problem
        except OSError as problem:
            self._error = GuestError(
                f"acknowledgements can't be written down: {problem}", remedy="Make room on the runner's disk."
            )
        finally:
            with self._changed:
                self._changed.notify_all()


def _last_word(line: bytes) -> dict[str, Any]:
    try:
        word = json.loads(line[4:])
    except ValueError as problem:
        raise AnswerError(f"the load's last word can't be read: {line[:80]!r}") from problem
    if not isinstance(word, dict):
        raise AnswerError(f"the load's last word can't be read: {line[:80]!r}")
    return word


def acknowledged(path: Path, *, cut: datetime, volumes: Sequence[str]) -> dict[str, Any]:
    """What a log proves to have been acknowledged before a capture: the data of ``canary.acknowledged``.

    Args:
        path: the log.
        cut: when the capture was requested, in UTC: what was on the runner's disk by then counts.
        volumes: names of the volumes to tell of; those that the load did not write to have no records.
    """
    result: dict[str, Any] = {
        "record_bytes": RECORD_BYTES,
        "cut": _iso(cut),
        "volumes": {},
        "stride": len(volumes),
        "log": str(path),
        "series": "",
        "error": "",
    }
    try:
        with path.open(encoding="ascii") as file:
            head = json.loads(next(file, "{}"))
            counted = _counted(file, cut)
            tallies = _tally(counted)
    except (OSError, ValueError) as problem:
        result["error"] = f"the log of acknowledgements can't be read: {problem}"
        return result
    order = head.get("volumes", [])
    result["series"], result["stride"] = head.get("series", ""), len(order)
    for name in volumes:
        tally = tallies.get(name, _Tally([], []))
        result["volumes"][name] = {
            "records": as_lists(to_ranges(tally.records)),
            "last_at": None if tally.last_ns is None else iso_of_ns(tally.last_ns),
            "metadata": as_lists(to_ranges(tally.metadata)),
            "position": order.index(name) if name in order else None,
        }
    return result


def _counted(lines: Iterable[str], cut: datetime) -> Iterator[dict[str, Any]]:
    """The lines that were on the disk by the cut; half a line at the end is what a killed runner leaves."""
    batch: list[dict[str, Any]] = []
    for text in lines:
        if not text.endswith("\n"):
            return
        line = json.loads(text)
        if "synced" not in line:
            batch.append(line)
            continue
        if datetime.fromisoformat(line["synced"]) > cut:
            return
        yield from batch
        batch = []


@dataclass
class _Tally:
    records: list[int]
    metadata: list[int]
    last_ns: int | None = None


def _tally(lines: Iterable[Mapping[str, Any]]) -> dict[str, _Tally]:
    tallies: dict[str, _Tally] = {}
    for line in lines:
        tally = tallies.setdefault(line["v"], _Tally([], []))
        if "m" in line:
            tally.metadata.append(line["m"])
        else:
            tally.records.append(line["i"])
            tally.last_ns = max(tally.last_ns or 0, line["t"])
    return tallies


def iso_of_ns(time_ns: int) -> str:
    """A time in nanoseconds since 1970 as evidence has it: UTC, microseconds, Z."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    try:
        at = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    except (OverflowError, ValueError, OSError):  # a record that is whole can still hold any number
        return ""
    return _iso(at)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
