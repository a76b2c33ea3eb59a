"""The statements for the terminal: the result first, the numbers below, on lines that fit."""

from pathlib import Path

import pytest

from drtest.record.results import read
from drtest.report.matrix import terminal
from drtest.report.statements import WIDTH, statement_views, terminal_statements
from tests.report.sample import bad_day_run, doubtful_run, windows_run


def test_the_terminal_tells_the_statements_above_the_matrix(tmp_path: Path) -> None:
    results = read(windows_run(tmp_path / "run") / "results.json")
    assert terminal_statements(results).splitlines()[:5] == [
        "REPRODUCED      Windows root volume (win/root): snapshots taken while the server runs are unusable",
        "                3 of 3 snapshots taken running were unusable (rate 44 % to 100 %); of those taken",
        "                stopped, 0 of 3 (Fisher's exact p = 0.05, one-sided)",
        "REPRODUCED      Windows data volume (win/data): snapshots taken while the server runs are not",
        "                affected",
    ]
    shown = terminal(results)
    assert shown.startswith(terminal_statements(results))
    assert shown.index("REPRODUCED") < shown.index("server    volume")


def test_each_line_fits_and_each_result_is_told(tmp_path: Path) -> None:
    told = terminal_statements(read(doubtful_run(tmp_path / "run") / "results.json"))
    assert max(len(line) for line in told.splitlines()) <= WIDTH
    for result in ("NOT REPRODUCED", "REPRODUCED", "INCONCLUSIVE"):
        assert any(line.startswith(result) for line in told.splitlines())


def test_a_run_without_statements_tells_none(tmp_path: Path) -> None:
    results = read(bad_day_run(tmp_path / "run") / "results.json")
    assert terminal_statements(results) == ""
    assert terminal(results).startswith("server")


def test_an_arm_shows_each_trial_and_what_is_not_known_of_it(tmp_path: Path) -> None:
    results = read(doubtful_run(tmp_path / "run") / "results.json")
    linux_root = statement_views(results, "windows-root-volume")[2]
    assert [arm.capture for arm in linux_root.arms] == ["running", "stopped"]
    stopped = linux_root.arms[1]
    assert [trial.sign for trial in stopped.trials] == ["✓", "?", "✓"]
    assert (stopped.failed, stopped.rate) == ("0 of 2 failed", "below 66 %")
    assert stopped.low == 0.0
    assert stopped.high == pytest.approx(65.76, abs=0.01)
