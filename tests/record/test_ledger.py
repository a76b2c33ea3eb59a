"""The ledger knows what is left over, whatever happened to the runner."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from drtest.record.ledger import Ledger, LedgerError, Resource

AT = datetime(2026, 11, 24, 18, 0, tzinfo=UTC)


def resource(identity: str, kind: str = "snapshot") -> Resource:
    return Resource(
        kind=kind, id=identity, region="us-east-1", purpose="copy B of lin/running/1", server="lin", at=AT
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def test_what_was_created_and_not_deleted_is_open_in_the_order_of_creation(path: Path) -> None:
    ledger = Ledger(path)
    for identity in ("snap-1", "vol-1", "i-1"):
        ledger.created(resource(identity))
    ledger.deleted("vol-1", at=AT)
    assert [one.id for one in ledger.open_resources()] == ["snap-1", "i-1"]
    assert [one.id for one in ledger.resources()] == ["snap-1", "vol-1", "i-1"]


def test_a_reopened_ledger_knows_the_same(path: Path) -> None:
    ledger = Ledger(path)
    ledger.created(resource("snap-1"))
    ledger.created(resource("vol-1"))
    ledger.deleted("snap-1", at=AT)
    ledger.close()
    assert Ledger(path).open_resources() == (resource("vol-1"),)


def test_entering_and_deleting_twice_changes_nothing(path: Path) -> None:
    ledger = Ledger(path)
    for _ in range(2):
        ledger.created(resource("snap-1"))
    for _ in range(2):
        ledger.deleted("snap-1", at=AT)
    assert len(path.read_text().splitlines()) == 2
    assert ledger.open_resources() == ()


def test_what_comes_back_after_its_deletion_is_open_again(path: Path) -> None:
    ledger = Ledger(path)
    ledger.created(resource("i-1"))
    ledger.deleted("i-1", at=AT)
    ledger.created(resource("i-1"))
    assert ledger.open_resources() == Ledger(path).open_resources() == (resource("i-1"),)


def test_a_torn_last_line_does_not_hide_what_is_before_it(path: Path) -> None:
    ledger = Ledger(path)
    ledger.created(resource("snap-1"))
    ledger.close()
    with path.open("ab") as file:
        file.write(b'{"created": {"kind": "vol')
    again = Ledger(path)
    again.created(resource("vol-1"))
    assert [one.id for one in Ledger(path).open_resources()] == ["snap-1", "vol-1"]


@pytest.mark.parametrize(
    "line", ["garbage", "{}", '{"created": {}}', '{"created": 3}', "[]", '{"deleted": {"id": 1}}']
)
def test_a_line_that_is_no_entry_is_told_by_its_number(path: Path, line: str) -> None:
    Ledger(path).created(resource("snap-1"))
    with path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(LedgerError, match=r"ledger\.jsonl:2:") as caught:
        Ledger(path)
    assert "sweep" in caught.value.remedy
