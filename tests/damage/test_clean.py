"""Captures under load that nothing has happened to raise no alarm."""

from pathlib import Path

from tests.damage.clean import CAPTURES, captures


def test_fifty_captures_in_mid_load_are_all_usable(tmp_path: Path) -> None:
    seen = list(captures(tmp_path))
    alarms = [f"{one.number} {one.volume}: {one.judgement.reason}" for one in seen if one.alarm]
    assert alarms == []
    assert len({one.number for one in seen}) == CAPTURES
    assert all("acknowledged records intact" in one.judgement.reason for one in seen)
