"""The main job on real machines: the first drill from the shell's door to the report, and killed once per step."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drtest.cloud.policy import actions, policy
from drtest.record import journal
from tests.drill.kit.runs import LONGEST, drtest, lab_of_its_own, machines, verdicts

pytestmark = pytest.mark.lab

SCENARIO = "scenarios/first.drill.yaml"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A lab of the test's own."""
    with lab_of_its_own(tmp_path / "lab") as environment:
        yield environment


def assert_as_the_issue_says(out: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    seen = verdicts(out)
    assert set(seen) == {
        f"lin/{volume}/{capture}/1" for volume in ("root", "data") for capture in ("running", "stopped")
    }
    for cell, verdict in seen.items():
        assert verdict in ({"CONSISTENT"} if "stopped" in cell else {"CONSISTENT", "RECOVERED"}), results[
            "cells"
        ]
    assert results["leftovers"] == []
    assert journal.verify(out / "evidence.jsonl").broken_at is None
    assert "<html" in (out / "report.html").read_text()
    return results


def test_the_first_drill_judges_four_cells_and_leaves_nothing_but_its_record(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    out = tmp_path / "out"
    done = drtest("run", SCENARIO, "--target", "lab", "--out", str(out), environment=environment)
    assert done.returncode == 0, done.stderr
    results = assert_as_the_issue_says(out)
    assert str(out / "report.html") in done.stdout
    assert machines(tmp_path / "lab") == []
    for cell in results["cells"]:
        assert cell["assurance"] == "canary"
        assert cell["capture_loss_seconds"] is not None
    roots = [cell for cell in results["cells"] if cell["volume"] == "root"]
    assert all(cell["rto_seconds"] > 0 and cell["phases"]["boot"] > 0 for cell in roots)
    # The running capture was made in the midst of the load: more was acknowledged after it than was asked for.
    seen = [one for one in journal.read(out / "evidence.jsonl") if one.probe == "canary.acknowledged"]
    assert all(one.data["volumes"]["root"]["records"] for one in seen)
    assert changes(tmp_path / "lab" / "lab.log") == allowed_changes()


def changes(log: Path) -> set[str]:
    """The calls that changed something, as the lab recorded them: those that only look are not in its log."""
    return set(re.findall(r"drtest\.lab\.endpoint: (\w+) \(\d+ ms\)", log.read_text()))


def allowed_changes() -> set[str]:
    """The calls that change something and that the IAM policy allows; tags come with the creating calls."""
    names = {action.removeprefix("ec2:") for action in actions(policy(sources=False))}
    return {name for name in names if not name.startswith(("Describe", "Get"))} - {"CreateTags"}


# What the display says when a step is in its middle.
STEPS = (
    r"prepare: make filesystems",
    r"load: running 1",
    r"boot: running 1: copy B",
    r"capture: stop the source",
    r"examine: stopped 1",
    r"clean\b",
)


def killed_at(pattern: str, *words: str, environment: dict[str, str]) -> bool:
    """Start a run and kill it with -9 when it says something; False if it came to its end before."""
    command = [sys.executable, "-m", "drtest.cli", *words]
    runner = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    hung = threading.Timer(LONGEST, runner.kill)
    hung.start()
    try:
        assert runner.stderr is not None
        for line in runner.stderr:
            if re.search(pattern, line):
                runner.send_signal(signal.SIGKILL)
                break
        return runner.wait() == -signal.SIGKILL and hung.is_alive()
    finally:
        hung.cancel()


def test_a_run_that_is_killed_once_in_each_step_ends_with_the_same_verdicts(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    out = tmp_path / "out"
    words = ["run", SCENARIO, "--target", "lab", "--out", str(out)]
    for pattern in STEPS:
        assert killed_at(pattern, *words, environment=environment), pattern
        words = ["run", "--resume", str(out)]
    done = drtest(*words, environment=environment)
    assert done.returncode == 0, done.stderr
    assert_as_the_issue_says(out)
    assert machines(tmp_path / "lab") == []


def test_sweep_lists_what_a_dead_run_left_and_deletes_it_on_yes(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    out = tmp_path / "out"
    words = ["run", SCENARIO, "--target", "lab", "--out", str(out)]
    assert killed_at(r"load: running 1", *words, environment=environment)
    listed = json.loads(drtest("sweep", "--json", environment=environment).stdout)
    assert {"instance", "volume", "security-group"} <= {each["kind"] for each in listed}
    assert len(machines(tmp_path / "lab")) >= 1
    swept = drtest("sweep", "--yes", environment=environment)
    assert swept.returncode == 0, swept.stdout + swept.stderr
    assert machines(tmp_path / "lab") == []


def test_ctrl_c_cleans_up_and_says_so(tmp_path: Path, environment: dict[str, str]) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "drtest.cli", "run", SCENARIO, "--target", "lab", "--out", str(out)]
    runner = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert runner.stderr is not None
    for line in runner.stderr:
        if "load: running 1" in line:
            runner.send_signal(signal.SIGINT)
            break
    _, said = runner.communicate(timeout=LONGEST)
    assert runner.returncode == 130
    assert "clean" in said
    assert set(verdicts(out).values()) == {"INCONCLUSIVE"}
    assert json.loads((out / "results.json").read_text())["leftovers"] == []
    assert machines(tmp_path / "lab") == []
