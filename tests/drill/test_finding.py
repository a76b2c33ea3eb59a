"""The finding on real machines: it is reproduced where the mechanism acts, and by no other rule."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from drtest.record import journal
from tests.drill.kit.runs import drtest, lab_of_its_own, machines, verdicts

pytestmark = pytest.mark.lab

SCENARIO = "scenarios/windows-root-volume.drill.yaml"
UNUSABLE = {"INCONSISTENT", "UNBOOTABLE"}
USABLE = {"CONSISTENT", "RECOVERED"}

EXCHANGED = """\
drill: exchanged
title: Does the verdict follow the mechanism, or the name of the operating system?
servers:
  - {name: win, os: windows, launch: {image: windows}}
  - {name: lin, os: linux, launch: {image: linux}}
load: {canary: {rate: 50/s}, for: 5s}
captures: [running, stopped]
volumes: [root]
deadlines: {boot: 4m} # of a root that runs read-only, nobody is let in for as long as it is waited for
expect:
  - {server: lin, volume: root, capture: running, verdict: unusable}
  - {verdict: usable}
"""


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A lab of the test's own."""
    with lab_of_its_own(tmp_path / "lab") as environment:
        yield environment


def test_all_four_statements_of_the_finding_are_found_as_they_were(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    out = tmp_path / "out"
    done = drtest("run", SCENARIO, "--target", "lab", "--out", str(out), environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((out / "results.json").read_text())
    assert len(results["cells"]) == 24
    for cell in results["cells"]:
        affected = (cell["server"], cell["volume"], cell["capture"]) == ("win", "root", "running")
        assert cell["verdict"] in (UNUSABLE if affected else USABLE), cell
        assert cell["met"], cell
    assert [(one["n"], one["failures"]) for one in results["statements"]] == [(3, 3), (3, 0), (3, 0), (3, 0)]
    assert {one["result"] for one in results["statements"]} == {"reproduced"}
    assert done.stdout.count("REPRODUCED") == 4
    # Nobody takes the stand-in for Windows, or the pool for an accident.
    notices = " ".join(results["notices"])
    assert "not Windows" in notices
    assert "write pool" in notices
    assert all(notice in (out / "report.html").read_text() for notice in ("not Windows", "write pool"))
    assert results["leftovers"] == []
    assert journal.verify(out / "evidence.jsonl").broken_at is None
    assert machines(tmp_path / "lab") == []


def test_the_verdict_follows_the_mechanism_and_not_the_name_of_the_system(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    scenario = tmp_path / "exchanged.drill.yaml"
    scenario.write_text(EXCHANGED)
    pools = ("--pool", "windows=0", "--pool", "linux=1", "--seed", "11")
    up = drtest("lab", "up", "--image", "windows-helper", *pools, environment=environment)
    assert up.returncode == 0, up.stdout + up.stderr
    out = tmp_path / "out"
    done = drtest("run", str(scenario), "--target", "lab", "--out", str(out), environment=environment)
    seen = verdicts(out)
    assert seen["win/root/running/1"] in USABLE, seen
    assert seen["lin/root/running/1"] in UNUSABLE, seen
    assert seen["win/root/stopped/1"] == seen["lin/root/stopped/1"] == "CONSISTENT", seen
    assert done.returncode == 0, done.stdout + done.stderr
