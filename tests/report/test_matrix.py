"""The matrix says whether a backup is usable, and keeps that apart from whether it was expected."""

from pathlib import Path
from typing import Any

import pytest

from drtest.record.results import read
from drtest.report.matrix import matrices, matrix, summary, terminal, worst_tone
from drtest.report.tones import Tone
from tests.report.sample import bad_day_run, first_run, windows_run

STATUSES = ("CONSISTENT", "RECOVERED", "INCONSISTENT", "UNBOOTABLE", "UNREACHABLE", "INCONCLUSIVE")


def entry(
    volume: str, verdict: str, *, capture: str = "running", trial: int = 1, expected: str = "usable"
) -> dict[str, Any]:
    usable, unusable = verdict in STATUSES[:2], verdict in STATUSES[2:4]
    return {
        "id": f"lin/{volume}/{capture}/{trial}",
        "scenario": "s",
        "server": "lin",
        "os": "linux",
        "volume": volume,
        "capture": capture,
        "trial": trial,
        "verdict": verdict,
        "expected": expected,
        "met": usable if expected == "usable" else unusable,
    }


def told(*cells: dict[str, Any]) -> dict[str, Any]:
    arms: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        arms.setdefault((cell["volume"], cell["capture"]), []).append(cell["verdict"])
    groups = []
    for (volume, capture), verdicts in arms.items():
        decided = [verdict for verdict in verdicts if verdict in STATUSES[:4]]
        groups.append(
            {
                "scenario": "s",
                "server": "lin",
                "volume": volume,
                "capture": capture,
                "n": len(decided),
                "failures": sum(verdict in STATUSES[2:4] for verdict in decided),
                "undecided": len(verdicts) - len(decided),
                "interval": [0.0, 0.56],
            }
        )
    return {
        "scenarios": [{"name": "s", "title": "T"}],
        "cells": list(cells),
        "groups": groups,
        "statements": [],
    }


def box(*verdicts: str, expected: str = "usable") -> Any:
    cells = [
        entry("root", verdict, trial=n, expected=expected) for n, verdict in enumerate(verdicts, start=1)
    ]
    return matrix(told(*cells), "s").rows[0].boxes[0]


@pytest.mark.parametrize(
    ("verdicts", "tone", "worst"),
    [
        (("CONSISTENT", "RECOVERED"), Tone.USABLE, "RECOVERED"),
        (("CONSISTENT", "INCONSISTENT"), Tone.UNUSABLE, "INCONSISTENT"),
        (("INCONSISTENT", "UNBOOTABLE"), Tone.UNUSABLE, "UNBOOTABLE"),
        (("CONSISTENT", "INCONCLUSIVE"), Tone.UNKNOWN, "INCONCLUSIVE"),
        (("UNREACHABLE", "INCONCLUSIVE"), Tone.UNKNOWN, "UNREACHABLE"),
        (("UNREACHABLE", "INCONSISTENT"), Tone.UNUSABLE, "INCONSISTENT"),
    ],
)
def test_a_box_is_as_good_as_its_worst_trial(verdicts: tuple[str, ...], tone: Tone, worst: str) -> None:
    made = box(*verdicts)
    assert (made.tone, str(made.verdict)) == (tone, worst)


def test_as_expected_never_looks_recoverable() -> None:
    expected, surprise = box("INCONSISTENT", expected="unusable"), box("INCONSISTENT")
    for made in (expected, surprise):
        assert (made.tone, made.headline, made.sign) == (Tone.UNUSABLE, "Not recoverable", "✕")
    assert expected.expectation == "as expected"
    assert surprise.expectation == "not as expected (expected: usable)"


def test_a_backup_that_is_better_than_expected_says_so() -> None:
    made = box("RECOVERED", expected="unusable")
    assert made.tone is Tone.USABLE
    assert made.expectation == "not as expected (expected: unusable)"


def test_what_is_not_known_is_neither_expected_nor_recoverable() -> None:
    made = box("INCONCLUSIVE")
    assert (made.headline, made.sign, made.expectation) == ("Not known", "?", "")


def test_trials_are_told_as_failures_of_n() -> None:
    assert (
        box("INCONSISTENT", "CONSISTENT", "UNREACHABLE").trials
        == "1 of 2 trials failed, 1 came to no verdict"
    )
    assert box("CONSISTENT").trials == ""


def test_a_cell_that_the_scenario_has_not_is_an_empty_box() -> None:
    made = matrix(told(entry("root", "CONSISTENT"), entry("data", "CONSISTENT", capture="stopped")), "s")
    assert [[bool(one) for one in row.boxes] for row in made.rows] == [[True, False], [False, True]]


def test_the_terminals_table_is_readable_without_colours(tmp_path: Path) -> None:
    told = terminal(read(windows_run(tmp_path / "run") / "results.json")).splitlines()
    lines = told[told.index("") + 1 :]  # below the statements
    assert lines[0].split() == ["server", "volume", "running", "stopped"]
    assert lines[2].split(maxsplit=2) == ["win", "root", "✕ UNBOOTABLE 3/3 (as expected)  ✓ CONSISTENT 0/3"]
    assert "\x1b" not in "\n".join(lines)
    assert "n/m: n of m trials failed" in lines


def test_colours_change_nothing_but_the_colour(tmp_path: Path) -> None:
    results = read(bad_day_run(tmp_path / "run") / "results.json")
    plain, coloured = terminal(results), terminal(results, colour=True)
    for code in ("\x1b[1;31m", "\x1b[33m", "\x1b[32m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ([], "No backup was tested."),
        ([entry("root", "CONSISTENT")], "The 1 kind of backup tested was recoverable."),
        (
            [entry("root", "CONSISTENT"), entry("data", "RECOVERED")],
            "All 2 kinds of backup tested were recoverable.",
        ),
        (
            [entry("root", "INCONSISTENT", expected="unusable"), entry("data", "RECOVERED")],
            "Of 2 kinds of backup tested, 1 was recoverable and 1 was not: lin/root taken running. "
            "The scenario had expected the damage; the backups are unusable all the same.",
        ),
        (
            [entry("root", "INCONSISTENT"), entry("data", "RECOVERED")],
            "Of 2 kinds of backup tested, 1 was recoverable and 1 was not: lin/root taken running. "
            "That was not expected.",
        ),
        (
            [entry("root", "UNREACHABLE"), entry("data", "RECOVERED")],
            "Of 2 kinds of backup tested, 1 was recoverable and of 1 nothing is known: lin/root taken running.",
        ),
        (
            [
                entry("root", "INCONSISTENT", trial=1),
                entry("root", "CONSISTENT", trial=2),
                entry("data", "INCONCLUSIVE"),
            ],
            "Of 2 kinds of backup tested, none were recoverable, 1 was not: lin/root taken running "
            "(1 of 2 trials failed), and of 1 nothing is known: lin/data taken running. That was not expected.",
        ),
        (
            [entry("root", "RECOVERED", expected="unusable"), entry("data", "RECOVERED")],
            "All 2 kinds of backup tested were recoverable. Not as the scenario expects: lin/root taken running.",
        ),
    ],
)
def test_the_whole_run_in_a_sentence(cells: list[dict[str, Any]], sentence: str) -> None:
    assert summary(told(*cells)) == sentence


def test_a_run_is_as_good_as_its_worst_box() -> None:
    assert worst_tone(told(entry("root", "CONSISTENT"))) is Tone.USABLE
    assert worst_tone(told(entry("root", "CONSISTENT"), entry("data", "UNREACHABLE"))) is Tone.UNKNOWN
    assert worst_tone(told(entry("root", "INCONSISTENT"), entry("data", "UNREACHABLE"))) is Tone.UNUSABLE
    assert worst_tone(told()) is Tone.UNKNOWN
    assert terminal(told()) == "no cell was judged"


def test_servers_and_volumes_keep_the_scenarios_order(tmp_path: Path) -> None:
    (made,) = matrices(read(first_run(tmp_path / "run") / "results.json"))
    assert [row.volume for row in made.rows] == ["root", "data", "set"]
    assert made.captures == ("running", "stopped")
