"""Evidence is append-only and chained: what was changed shows, what was torn by a kill is dropped, nothing is lost."""

import json
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drtest.record import journal as journals
from drtest.record.journal import START, Journal, JournalError, decode, encode, read, verify
from drtest.record.lines import LinesError
from drtest.verdict.evidence import Copy, Observation
from drtest.words import Capture


def observation(data: dict[str, Any] | None = None, **fields: Any) -> Observation:
    known: dict[str, Any] = {
        "probe": "filesystem.check",
        "server": "lin",
        "copy": Copy.A,
        "at": datetime(2026, 11, 24, 18, 0, 1, 234567, tzinfo=UTC),
        "command": "e2fsck -fn /dev/nvme1n1p2",
        "data": {"exit": 0, "clean": True} if data is None else data,
        "capture": Capture.RUNNING,
        "trial": 1,
        "attempt": "a1",
        "volume": "root",
    }
    return Observation(**{**known, **fields})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evidence.jsonl"


def filled(path: Path, lines: int) -> Journal:
    journal = Journal(path)
    for number in range(lines):
        journal.append(observation({"exit": number}))
    return journal


def test_what_is_appended_is_read_back_with_its_id(path: Path) -> None:
    kept = Journal(path).append(observation())
    assert kept == observation(id="e000001")
    assert read(path) == (kept,)
    assert Journal(path).observations() == (kept,)


def test_an_observation_of_the_source_belongs_to_no_recovery_point(path: Path) -> None:
    source = observation(capture=None, trial=None, volume=None, attempt="", copy=Copy.SOURCE)
    Journal(path).append(source)
    assert read(path)[0].capture is None


def test_reopening_goes_on_with_the_chain(path: Path) -> None:
    filled(path, 2).close()
    assert Journal(path).append(observation()).id == "e000003"
    assert verify(path).broken_at is None
    assert verify(path).lines == 3


def test_a_line_holds_the_hash_of_the_one_before(path: Path) -> None:
    filled(path, 3)
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert entries[0]["previous"] == START
    assert [entry["previous"] for entry in entries[1:]] == [entry["hash"] for entry in entries[:-1]]
    assert verify(path).head == entries[-1]["hash"]


def edited(path: Path, line: int, change: Any) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines, line)
    path.write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    ("change", "at", "why"),
    [
        (
            lambda lines, n: lines.__setitem__(n, lines[n].replace(b'"exit": 1', b'"exit": 0')),
            2,
            "it was changed",
        ),
        (lambda lines, n: lines.pop(n), 2, "changed, taken out or put in"),
        (lambda lines, n: lines.insert(n, lines[n - 1]), 2, "changed, taken out or put in"),
        (lambda lines, n: lines.__setitem__(slice(n, n + 2), [lines[n + 1], lines[n]]), 2, "taken out"),
        (lambda lines, n: lines.__setitem__(n, b"garbage\n"), 2, "it is no observation"),
        (lambda lines, n: lines.__setitem__(n, b"[]\n"), 2, "it is no observation"),
        (lambda lines, n: lines.__setitem__(n, b"\n"), 2, "it is no observation"),
        (
            lambda lines, n: lines.__setitem__(n, lines[n].replace(b'"copy": "A"', b'"copy": "Z"')),
            2,
            "no observation",
        ),
    ],
)
def test_a_change_is_found_at_its_line(path: Path, change: Any, at: int, why: str) -> None:
    filled(path, 4).close()
    edited(path, at - 1, change)
    chain = verify(path)
    assert chain.broken_at == at
    assert why in chain.why
    for use in (read, Journal):
        with pytest.raises(JournalError, match=rf"evidence\.jsonl:{at}:"):
            use(path)


def test_a_line_taken_from_the_end_shows_by_the_head(path: Path) -> None:
    head = verify_of(filled(path, 3)).head
    edited(path, 2, lambda lines, n: lines.pop(n))
    assert verify(path).broken_at is None  # nobody can tell from the file alone
    assert verify(path).head != head  # who has the head can: the report prints it


def verify_of(journal: Journal) -> journals.Chain:
    return verify(journal.path)


@pytest.mark.parametrize("left", [1, 20, -1])
def test_a_line_torn_by_a_kill_is_dropped_and_told(path: Path, left: int) -> None:
    filled(path, 3).close()
    whole = path.read_bytes()
    last = whole.rfind(b"\n", 0, -1) + 1
    torn = whole[last:-1][:left] if left > 0 else whole[last:-1]
    path.write_bytes(whole[:last] + torn)
    assert verify(path).torn
    assert len(read(path)) == 2  # reading changes nothing
    assert path.read_bytes().endswith(torn)
    journal = Journal(path)
    assert journal.dropped == torn.decode()
    assert journal.append(observation()).id == "e000003"
    assert verify(path) == journals.Chain(lines=3, head=verify(path).head)


def test_many_threads_lose_nothing(path: Path) -> None:
    journal = Journal(path)
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda n: journal.append(observation({"n": n})).id, range(80)))
    assert sorted(ids) == [f"e{n:06}" for n in range(1, 81)]
    assert [one.id for one in read(path)] == sorted(ids)


def test_an_appended_line_survives_a_kill(path: Path) -> None:
    program = textwrap.dedent(
        """
        import os, pathlib, signal, sys
        from drtest.record.journal import Journal
        from tests.record.test_journal import observation
        journal = Journal(pathlib.Path(sys.argv[1]))
        journal.append(observation())
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], env={**os.environ, "PYTHONPATH": "."}, check=False
    )
    assert done.returncode == -9
    assert len(read(path)) == 1


def test_changing_what_was_given_changes_nothing_that_was_kept(path: Path) -> None:
    data: dict[str, Any] = {"problems": ["a"]}
    journal = Journal(path)
    kept = journal.append(observation(data))
    data["problems"].append("b")
    assert kept.data == journal.observations()[0].data == read(path)[0].data == {"problems": ["a"]}


@pytest.mark.parametrize("data", [{"x": {1, 2}}, {"x": float("nan")}, {"x": float("inf")}, {"x": b"raw"}])
def test_what_is_no_json_is_refused_and_leaves_no_line(path: Path, data: dict[str, Any]) -> None:
    journal = filled(path, 1)
    before = path.read_bytes()
    with pytest.raises(JournalError, match="can't be kept"):
        journal.append(observation(data))
    assert path.read_bytes() == before
    assert journal.append(observation()).id == "e000002"


def test_a_full_disk_leaves_no_half_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = filled(path, 1)
    write = os.write

    def full(handle: int, content: bytes) -> int:
        if len(content) < 20:
            raise OSError(28, "No space left on device")
        return write(handle, bytes(content)[: len(content) // 2])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(LinesError, match="No space left on device") as caught:
        journal.append(observation())
    assert "--resume" in caught.value.remedy
    monkeypatch.undo()
    assert journal.append(observation()).id == "e000002"
    assert verify(path).lines == 2


def test_only_its_owner_can_read_it(path: Path) -> None:
    filled(path, 1)
    assert path.stat().st_mode & 0o777 == 0o600


def test_there_being_no_evidence_is_an_error_and_no_empty_chain(path: Path) -> None:
    for use in (read, verify):
        with pytest.raises(JournalError, match="can't be read"):
            use(path)


json_data = st.dictionaries(
    st.text(max_size=5) | st.integers(0, 9).map(str),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


@given(json_data)
@settings(max_examples=60, deadline=None)
def test_any_json_goes_there_and_back(data: dict[str, Any]) -> None:
    known = observation(data, id="e000001")
    assert decode(json.loads(json.dumps(encode(known)))) == known


@pytest.mark.parametrize(
    "data",
    [
        {"text": "\udcff\x00\n\u2028 <script>"},  # a guest's bytes that are no UTF-8
        {"z": 1, "a": 2},
        {1: "one key", 10: "another", 2: "third"},
        {"long": "x" * 100_000},
    ],
)
def test_awkward_data_keeps_the_chain_whole(path: Path, data: dict[Any, Any]) -> None:
    journal = Journal(path)
    kept = journal.append(observation(data))
    journal.append(observation())
    assert verify(path).lines == 2
    assert verify(path).broken_at is None
    assert read(path)[0] == kept
