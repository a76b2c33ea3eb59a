"""Evidence of real runs, judged again: old evidence stays readable, and means what it meant.

``recorded/first.evidence.jsonl`` is what ``drtest run scenarios/first.drill.yaml --target lab`` left on 24 November
2026 under QEMU with TCG: a Debian 12 guest, ext4 root and XFS data volume, written to while it was captured.
``recorded/windows.evidence.jsonl`` is what the Windows server of ``scenarios/windows-root-volume.drill.yaml`` left on
the same day: the lab's stand-in, its write pool at strength 1, seed 2.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from drtest.record.journal import read, verify
from drtest.scenario.plan import Cell, Expected
from drtest.verdict.evidence import Observation
from drtest.verdict.judge import judge
from drtest.words import USABLE, Assurance, Capture, Os, Verdict

FIRST = Path(__file__).parent / "recorded" / "first.evidence.jsonl"
WINDOWS = Path(__file__).parent / "recorded" / "windows.evidence.jsonl"


def cell(volume: str, capture: Capture) -> Cell:
    return Cell(
        id=f"lin/{volume}/{capture}/1",
        scenario="first",
        server="lin",
        os=Os.LINUX,
        volume=volume,
        capture=capture,
        trial=1,
        expected=Expected(text="usable", verdicts=USABLE),
    )


@pytest.mark.parametrize(
    ("volume", "capture", "verdict", "reason"),
    [
        (
            "root",
            Capture.RUNNING,
            Verdict.RECOVERED,
            "ext4 whole after log replay; all 250 acknowledged records intact; booted in 33 s",
        ),
        (
            "root",
            Capture.STOPPED,
            Verdict.CONSISTENT,
            "ext4 whole with nothing to replay; all 250 acknowledged records intact; booted in 20 s",
        ),
        (
            "data",
            Capture.RUNNING,
            Verdict.RECOVERED,
            "xfs whole after log replay; all 250 acknowledged records intact; mounted at /mnt/data",
        ),
        (
            "set",
            Capture.RUNNING,
            Verdict.RECOVERED,
            "both volumes whole after log replay; all 500 acknowledged records intact; in order across volumes; "
            "booted in 33 s",
        ),
        (
            "set",
            Capture.STOPPED,
            Verdict.CONSISTENT,
            "both volumes whole with nothing to replay; all 500 acknowledged records intact; in order across volumes; "
            "booted in 20 s",
        ),
    ],
)
def test_a_real_run_is_judged_as_it_was(volume: str, capture: Capture, verdict: Verdict, reason: str) -> None:
    judged = judge(
        cell(volume, capture),
        read(FIRST),
        volumes=("root", "data"),
        checks=("boot", "filesystem", "canary", "events"),
    )
    assert (judged.verdict, judged.reason, judged.assurance) == (verdict, reason, Assurance.CANARY)


@pytest.mark.parametrize("trial", [1, 2, 3])
@pytest.mark.parametrize(
    ("volume", "capture", "verdict"),
    [
        ("root", Capture.RUNNING, Verdict.UNBOOTABLE),
        ("data", Capture.RUNNING, Verdict.RECOVERED),
        ("root", Capture.STOPPED, Verdict.CONSISTENT),
        ("data", Capture.STOPPED, Verdict.CONSISTENT),
    ],
)
def test_the_finding_is_judged_as_it_was(volume: str, capture: Capture, verdict: Verdict, trial: int) -> None:
    asked = replace(
        cell(volume, capture),
        id=f"win/{volume}/{capture}/{trial}",
        scenario="windows-root-volume",
        server="win",
        os=Os.WINDOWS,
        trial=trial,
    )
    checks = ("boot", "filesystem", "canary", "events")
    judged = judge(asked, read(WINDOWS), volumes=("root", "data"), checks=checks)
    assert judged.verdict is verdict, judged.reason
    assert verdict is not Verdict.UNBOOTABLE or "*** STOP: 0x" in judged.reason


@pytest.mark.parametrize(("evidence", "lines"), [(FIRST, 41), (WINDOWS, 114)])
def test_the_chain_of_a_real_run_holds(evidence: Path, lines: int) -> None:
    chain = verify(evidence)
    assert (chain.lines, chain.broken_at, chain.torn) == (lines, None, False)


def without(probe: str, volume: str | None) -> tuple[Observation, ...]:
    return tuple(one for one in read(FIRST) if (one.probe, one.volume) != (probe, volume))


NEEDED = (
    ("capture", None),
    ("canary.acknowledged", None),
    ("filesystem.before", "root"),
    ("filesystem.check", "root"),
    ("canary.found", "root"),
    ("boot.attempt", None),
    ("boot.identity", None),
    ("boot.system", None),
    ("boot.mounts", None),
    ("boot.kernel", None),
)


@pytest.mark.parametrize(("probe", "volume"), NEEDED)
def test_with_any_of_it_missing_nothing_is_proven(probe: str, volume: str | None) -> None:
    judged = judge(cell("root", Capture.STOPPED), without(probe, volume), volumes=("root", "data"))
    assert judged.verdict is Verdict.INCONCLUSIVE


def test_one_record_less_is_damage() -> None:
    def lose(one: Observation) -> Observation:
        if (one.probe, one.volume) != ("canary.found", "root"):
            return one
        return replace(one, data={**one.data, "records": [[0, 248]]})

    judged = judge(
        cell("root", Capture.STOPPED), [lose(one) for one in read(FIRST)], volumes=("root", "data")
    )
    assert judged.verdict is Verdict.INCONSISTENT
    assert "1 of 250 acknowledged records is missing from lin/root: index 249" in judged.reason
