"""The canary: its records, its ranges, and the log of acknowledgements that decides what counts."""

import itertools
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drtest.guest import canary
from drtest.guest.canary import Ack, AckLog, Recorder, acknowledged
from drtest.guest.probes import record
from drtest.guest.transport import AnswerError, GuestDeadlineError, GuestError, UnreachableError

SERIES = "00112233445566778899aabbccddeeff"
numbers = st.sets(st.integers(0, 200))


def _record(**changes: Any) -> record.Record:
    base = record.Record(record.IN_PLACE, 7, 15, 1_700_000_000_123_456_789, SERIES, "vol-0123456789abcdef0")
    return base._replace(**changes)


@given(
    place=st.integers(0, 2**64 - 1),
    n=st.integers(0, 2**64 - 1),
    time_ns=st.integers(0, 2**64 - 1),
    series=st.binary(min_size=16, max_size=16).map(bytes.hex),
)
def test_a_record_comes_back_as_it_was(place: int, n: int, time_ns: int, series: str) -> None:
    one = _record(place=place, n=n, time_ns=time_ns, series=series)
    data = record.encode(one)
    assert len(data) == canary.RECORD_BYTES == 512
    assert record.decode(data) == one


@given(at=st.integers(0, 511), bits=st.integers(1, 255))
def test_a_change_of_any_byte_is_seen(at: int, bits: int) -> None:
    data = bytearray(record.encode(_record()))
    data[at] ^= bits
    assert record.decode(bytes(data)) is None


def test_half_of_one_record_and_half_of_another_is_no_record() -> None:
    one, other = record.encode(_record(n=1)), record.encode(_record(n=2))
    assert record.decode(one[:256] + other[256:]) is None


def test_zeros_are_blank_and_no_record() -> None:
    assert record.is_blank(bytes(512))
    assert record.decode(bytes(512)) is None
    assert not record.is_blank(bytes(511) + b"\1")


def test_a_volume_id_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        record.encode(_record(volume_id="v" * 33))


@given(one=numbers, other=numbers)
def test_ranges_are_sets_of_numbers(one: set[int], other: set[int]) -> None:
    first, second = canary.to_ranges(one), canary.to_ranges(other)
    assert canary.count(first) == len(one)
    assert canary.subtract(first, second) == canary.to_ranges(one - other)
    assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(first))


def test_a_file_has_room_for_all_that_the_load_can_write() -> None:
    assert canary.capacity(rate=50, seconds=10, volumes=2) >= 250
    assert canary.capacity(rate=0.1, seconds=1, volumes=3) >= 1


def _log(path: Path) -> AckLog:
    return AckLog(path, series=SERIES, volumes=["root", "data"])


def _ack(number: int) -> Ack:
    return Ack(
        volume=number % 2, index=number // 2, n=number, time_ns=1_700_000_000_000_000_000 + number * 1000
    )


def test_what_was_on_the_disk_before_the_cut_counts(tmp_path: Path) -> None:
    path = tmp_path / "acks.jsonl"
    with _log(path) as log:
        for number in range(11):
            log.append(_ack(number))
        log.append(Ack(volume=1, index=0, n=None, time_ns=1))
        cut = log.sync()
        for number in range(11, 20):
            log.append(_ack(number))
    data = acknowledged(path, cut=cut, volumes=["root", "data"])
    assert data["volumes"]["root"] == {
        "records": [[0, 5]],
        "metadata": [],
        "last_at": "2023-11-14T22:13:20.000010Z",
        "position": 0,
    }
    assert data["volumes"]["data"]["records"] == [[0, 4]]
    assert data["volumes"]["data"]["metadata"] == [[0, 0]]
    assert (data["stride"], data["series"], data["error"]) == (2, SERIES, "")
    later = acknowledged(path, cut=datetime.now(UTC), volumes=["root", "data"])
    assert later["volumes"]["root"]["records"] == [[0, 9]]


def test_what_was_not_yet_on_the_disk_at_the_cut_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "BATCH", 1000.0)  # one large batch: only a sync puts it on the disk
    path = tmp_path / "acks.jsonl"
    with _log(path) as log:
        log.append(_ack(0))
        log.sync()
        log.append(_ack(1))
        log.append(_ack(2))
        cut = datetime.now(UTC)
    data = acknowledged(path, cut=cut, volumes=["root", "data"])["volumes"]
    assert (data["root"]["records"], data["data"]["records"]) == ([[0, 0]], [])
    late = acknowledged(path, cut=datetime.now(UTC), volumes=["root", "data"])["volumes"]
    assert (late["root"]["records"], late["data"]["records"]) == ([[0, 1]], [[0, 0]])


def test_acknowledgements_go_to_the_disk_without_being_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "acks.jsonl"
    with _log(path) as log:
        until = time.monotonic() + 5
        number = 0
        while '"synced"' not in path.read_text() and time.monotonic() < until:
            log.append(_ack(number))
            number += 1
        assert '"synced"' in path.read_text()


def test_half_a_line_that_a_killed_runner_left_is_no_acknowledgement(tmp_path: Path) -> None:
    path = tmp_path / "acks.jsonl"
    with _log(path) as log:
        log.append(_ack(0))
        log.sync()
    with path.open("a") as file:
        file.write('{"v":"root","i":1,"n":2,"t":5}\n{"synced":"2023-')
    data = acknowledged(path, cut=datetime.now(UTC), volumes=["root"])
    assert (data["volumes"]["root"]["records"], data["error"]) == ([[0, 0]], "")


def test_a_log_that_is_not_there_or_no_log_says_so(tmp_path: Path) -> None:
    missing = acknowledged(tmp_path / "none", cut=datetime.now(UTC), volumes=["root"])
    assert "can't be read" in missing["error"]
    (tmp_path / "bad").write_text("no json\n")
    assert "can't be read" in acknowledged(tmp_path / "bad", cut=datetime.now(UTC), volumes=["root"])["error"]


def test_two_loads_never_share_a_log(tmp_path: Path) -> None:
    with _log(tmp_path / "acks.jsonl"), pytest.raises(FileExistsError):
        _log(tmp_path / "acks.jsonl")


@pytest.mark.parametrize("line", [b"", b"r 1 2", b"r a b c d", b"hello", b"\xff\xfe", b"m 1 2 3 4"])
def test_a_line_that_is_no_acknowledgement_is_refused(line: bytes) -> None:
    with pytest.raises(AnswerError, match="no acknowledgement"):
        canary.parse(line)


class _Script:
    """A stream that says what it is told to, and waits for a stop where it is told to."""

    def __init__(self, *lines: bytes | Exception, exit_code: int = 0) -> None:
        self._lines = lines
        self.exit = exit_code
        self.stderr = b"its last words"
        self.stopped = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        for line in self._lines:
            if isinstance(line, Exception):
                raise line
            if line == b"wait":
                self.stopped.wait(10)
            else:
                yield line

    def send(self, data: bytes) -> None:
        del data

    def stop(self) -> None:
        self.stopped.set()


END = b'end {"reason":"stopped","records":2}'


def test_a_recorder_carries_acknowledgements_to_the_log_until_it_is_stopped(tmp_path: Path) -> None:
    stream = _Script(b"r 0 0 0 100", b"r 1 0 1 200", b"wait", END)
    with _log(tmp_path / "a") as log, Recorder(stream, log) as recorder:
        recorder.wait(1, deadline=5)
        assert dict(log.counts) == {"root": 1, "data": 1}
        assert recorder.stop(deadline=5)["records"] == 2
        assert recorder.error is None


def test_waiting_for_records_that_do_not_come_says_how_many_there_are(tmp_path: Path) -> None:
    stream = _Script(b"r 0 0 0 100", b"wait", END)
    with (
        _log(tmp_path / "a") as log,
        Recorder(stream, log) as recorder,
        pytest.raises(GuestDeadlineError, match="'root': 1, 'data': 0"),
    ):
        recorder.wait(1, deadline=0.3)


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ((b"r 0 0 0 1", UnreachableError("it is gone")), UnreachableError),
        ((b"r 0 0 0 1", b"what is this"), AnswerError),
        ((b"r 9 0 0 1",), AnswerError),
        ((b"r 0 0 0 1",), GuestError),
        ((b'end {"reason":"error: [Errno 5] Input/output error","records":0}',), GuestError),
        ((b'end {"reason":"full","records":0}',), GuestError),
        ((b"end of it",), AnswerError),
    ],
)
def test_a_load_that_fails_is_an_error_for_who_waits_and_for_who_stops_it(
    tmp_path: Path, lines: tuple[bytes | Exception, ...], error: type[GuestError]
) -> None:
    with _log(tmp_path / "a") as log, Recorder(_Script(*lines), log) as recorder:
        with pytest.raises(GuestError):
            recorder.wait(5, deadline=5)
        with pytest.raises(error):
            recorder.stop(deadline=5)


def test_a_runner_s_disk_that_is_full_ends_the_load_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: AckLog, ack: Ack) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AckLog, "append", full)
    with _log(tmp_path / "a") as log, Recorder(_Script(b"r 0 0 0 1", END), log) as recorder:
        with pytest.raises(GuestError, match="No space left") as raised:
            recorder.wait(1, deadline=5)
        assert "Make room" in raised.value.remedy
