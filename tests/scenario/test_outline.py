"""The outline tells what a run makes, stops and waits for, before anything is touched."""

import json
import subprocess
import sys
from pathlib import Path

from drtest.scenario.load import load_scenario
from drtest.scenario.outline import Outline, describe, outline_text
from drtest.scenario.plan import plan, restrict
from tests.scenario.scenario_texts import scenario

ROOT = Path(__file__).parents[2]
FIRST = ROOT / "scenarios" / "first.drill.yaml"


def first() -> Outline:
    return describe(plan(load_scenario(FIRST), target="lab"))


def made(outline: Outline) -> dict[str, int]:
    """How many of each kind are made in all."""
    kinds = {one.kind for one in outline.created}
    return {kind: sum(one.count for one in outline.created if one.kind == kind) for kind in kinds}


def test_the_first_scenario_makes_a_server_two_helpers_and_two_copies_of_each_snapshot() -> None:
    # source, helper, scratch; 2 volumes at 2 recovery points; its data volume, and copies A and B of each snapshot
    assert made(first()) == {"security group": 1, "instance": 3, "snapshot": 4, "volume": 1 + 2 * 4}


def test_cells_come_with_what_is_expected_and_where_it_says_so() -> None:
    lines = FIRST.read_text().splitlines()
    cells = first().cells
    assert [(cell.id, cell.expected) for cell in cells] == [
        ("lin/root/running/1", "usable"),
        ("lin/root/stopped/1", "CONSISTENT"),
        ("lin/data/running/1", "usable"),
        ("lin/data/stopped/1", "CONSISTENT"),
    ]
    assert all(cell.line and cell.expected in lines[cell.line - 1] for cell in cells)


def test_both_copies_are_explained_once_and_captures_come_in_their_order() -> None:
    steps = [step.text for step in first().steps]
    running = next(n for n, step in enumerate(steps) if step.startswith("running, trial 1"))
    assert "Copy A" in steps[running]
    assert "helper" in steps[running]
    assert "Copy B, root swap" in steps[running]
    assert steps[running + 1].startswith("stopped, trial 1")
    assert "stop it, and snapshot root and data in one call" in steps[running + 1]
    assert sum("root swap" in step for step in steps) == 1


def test_trials_are_told_together() -> None:
    text = FIRST.read_text() + "trials: 3\n"
    outline = describe(plan(scenario(text), target="lab"))
    assert len(outline.steps) == len(first().steps)
    assert any(step.text.startswith("stopped, 3 trials, each") for step in outline.steps)
    assert made(outline)["snapshot"] == 12


def test_a_server_that_is_yours_is_said_to_be_stopped_and_started_again() -> None:
    text = """\
    drill: yours
    title: Mine?
    servers:
      - {name: web, os: linux, select: {tags: {Name: web}, volumes: {data: {device: /dev/sdf}}}, may_stop: true}
    captures: [stopped]
    trials: 2
    """
    outline = describe(plan(scenario(text), target="prod"))
    (stop,) = outline.stopped
    assert (stop.server, stop.times, stop.ours) == ("web", 2, False)
    assert "Stopped: web, 2 times, and started again each time; its may_stop allows it." in outline_text(
        outline
    )
    assert outline.steps[-1].text.startswith("see that it runs")
    assert not any("from image" in one.why for one in outline.created)


def test_existing_snapshots_are_picked_and_none_is_made_or_waited_for() -> None:
    text = """\
    drill: nightly
    title: Mine?
    servers:
      - {name: web, os: linux, select: {tags: {Name: web}}}
    captures: [existing]
    """
    outline = describe(plan(scenario(text), target="prod"))
    assert "snapshot" not in made(outline)
    assert "snapshot" not in {wait.what for wait in outline.waits}
    assert "Stopped: no server." in outline_text(outline)


def test_every_wait_has_its_deadline_and_all_together_have_a_bound() -> None:
    outline = describe(
        plan(scenario(FIRST.read_text() + "deadlines: {boot: 7m, snapshot: 2h}\n"), target="lab")
    )
    waits = {wait.what: wait for wait in outline.waits}
    assert waits["boot"].deadline_seconds == 420
    assert waits["snapshot"].times == 2
    assert outline.longest_wait_seconds == 7200
    assert outline.bound_seconds == sum(wait.deadline_seconds * wait.times for wait in outline.waits)
    assert "No single wait is longer than 2 h;" in outline_text(outline)


def test_what_is_left_of_a_restricted_plan_is_all_that_is_told() -> None:
    whole = plan(load_scenario(FIRST), target="lab")
    outline = describe(restrict(whole, ["lin/root/running/1"]))
    assert made(outline)["snapshot"] == 2
    assert outline.stopped == ()
    assert describe(restrict(whole, [])).created == ()


def test_the_json_has_every_field_and_the_bounds() -> None:
    told = json.loads(json.dumps(first().to_json()))
    assert set(told) == {
        *("scenario", "title", "target", "cells", "created", "steps", "stopped", "waits"),
        *("longest_wait_seconds", "bound_seconds"),
    }
    assert told["cells"][0] == {
        "id": "lin/root/running/1",
        "expected": "usable",
        "line": told["cells"][0]["line"],
    }
    assert told["longest_wait_seconds"] == 4 * 3600


def test_the_text_fits_a_terminal() -> None:
    assert max(map(len, outline_text(first()).splitlines())) <= 110


def test_planning_loads_no_cloud_and_no_guest() -> None:
    program = (
        "import sys; from drtest.scenario.load import load_scenario; from drtest.scenario.plan import plan\n"
        "from drtest.scenario.outline import describe, outline_text\n"
        f"outline_text(describe(plan(load_scenario({str(FIRST)!r}), target='lab')))\n"
        "print([name for name in ('boto3', 'botocore', 'paramiko', 'moto', 'dbos', 'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
