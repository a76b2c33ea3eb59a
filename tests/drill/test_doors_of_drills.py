"""Both doors with drills behind them: only what is selected is run, and the exit codes say what came of it."""

import _thread
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from drtest.cli import main
from drtest.drill.engine import STATE_VERSION
from drtest.drill.run import Run
from drtest.guest.transport import GuestError
from tests.drill.kit.faults import Fault
from tests.drill.kit.plain import PlainEngine
from tests.drill.kit.world import World

TEXT = """\
drill: doors
title: What do the doors show?
servers:
  - {name: one, os: linux, launch: {image: linux}}
  - {name: two, os: linux, launch: {image: linux}}
load: {canary: {rate: 40/s}, for: 1s}
captures: [running]
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without DBOS: its start and its end take seconds."""
    monkeypatch.setitem(Run.__init__.__kwdefaults__ or {}, "engine", PlainEngine)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "doors.drill.yaml"
    path.write_text(TEXT)
    return path


def run(world: World, file: Path, *words: str) -> int:
    where = ["--target", "world", "--config", str(world.config), "--out", str(out(file))]
    return main(["run", *where, *words, str(file)])


def out(file: Path) -> Path:
    return file.parent / "out"


def results(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out(file) / "results.json").read_text())
    return found


def verdicts(file: Path) -> dict[str, str]:
    return {cell["id"]: cell["verdict"] for cell in results(file)["cells"]}


def sources(world: World) -> int:
    """How many sources have been launched."""
    return sum(
        action == "RunInstances" and any(value.endswith("/source") for value in form.values())
        for action, form in world.weather.calls
    )


# The shell's door


@pytest.mark.usefixtures("quick")
def test_all_as_expected_is_0_with_every_page_and_nothing_left(
    world: World, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(world, file, "-k", "one") == 0
    assert verdicts(file) == {"one/root/running/1": "RECOVERED"}
    assert sources(world) == 1, "what was not selected creates nothing"
    said = capsys.readouterr().out
    assert "RECOVERED" in said
    assert str(out(file) / "report.html") in said
    junit = (out(file) / "junit.xml").read_text()
    assert 'name="one/root/running/1"' in junit
    assert '<property name="verdict" value="RECOVERED"' in junit
    assert "two/" not in junit
    page = (out(file) / "pytest.html").read_text()
    assert '<th scope="row">one / root' in page
    assert "all 40 acknowledged records" in page
    assert "one / root, taken running" in (out(file) / "report.html").read_text()
    assert world.left() == []


@pytest.mark.usefixtures("quick")
def test_a_cell_that_is_not_as_expected_is_1_and_minus_x_stops_the_others_with_all_clean(
    world: World, file: Path
) -> None:
    # One is judged damaged while two still waits for its source.
    says = {"filesystem.check": lambda data: {**data, "clean": False, "exit": 4, "problems": ["inode 12"]}}
    world.guests("helper", server="one").says = says
    world.guests("source", server="two").answers = False
    assert run(world, file, "-x") == 1
    assert verdicts(file) == {"one/root/running/1": "INCONSISTENT", "two/root/running/1": "INCONCLUSIVE"}
    assert "was stopped before" in results(file)["cells"][1]["reason"]
    assert results(file)["leftovers"] == []
    assert world.left() == []


@pytest.mark.usefixtures("quick")
def test_a_cell_of_which_nothing_is_known_is_3_and_the_reason_says_what_to_do(
    world: World, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.weather.fault("RunInstances", Fault.CAPACITY, server="one", forever=True)
    assert run(world, file) == 3
    assert verdicts(file) == {"one/root/running/1": "INCONCLUSIVE", "two/root/running/1": "RECOVERED"}
    assert "name another instance type" in capsys.readouterr().err
    assert world.left() == []


@pytest.mark.usefixtures("quick")
def test_what_stays_is_3_though_all_cells_are_usable_and_sweep_takes_it_away(
    world: World, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.weather.fault("DeleteSnapshot", Fault.DENIED, forever=True)
    assert run(world, file, "-k", "one") == 3
    assert verdicts(file) == {"one/root/running/1": "RECOVERED"}
    left = [one["id"] for one in results(file)["leftovers"]]
    said = capsys.readouterr().out
    assert left
    assert all(id_ in said for id_ in left)
    assert "drtest sweep" in said
    world.weather.rules.clear()
    sweep = ["sweep", "--target", "world", "--config", str(world.config)]
    assert main([*sweep, "--json"]) == 0
    assert [one["id"] for one in json.loads(capsys.readouterr().out)] == left
    run_id = results(file)["run"]
    assert main([*sweep, "--yes"]) == 2, "in an account, another machine may be at work"
    assert f"`drtest sweep --target world --run {run_id} --yes`" in capsys.readouterr().err
    assert main(sweep) == 0
    assert "`drtest sweep --target world --run ID --yes`" in capsys.readouterr().out
    assert world.left() != []
    assert main([*sweep, "--run", run_id, "--run", "20260101-000000-dead", "--yes"]) == 0
    assert world.left() == []
    assert main([*sweep, "--yes"]) == 0, "there is nothing that could be taken from anybody"


@pytest.mark.usefixtures("quick")
def test_in_the_lab_a_sweep_takes_what_every_dead_run_left(
    world: World, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.weather.fault("DeleteSnapshot", Fault.DENIED, forever=True)
    assert run(world, file, "-k", "one") == 3
    world.weather.rules.clear()
    assert world.left() != []
    monkeypatch.setattr("drtest.lab.control.status", lambda: "up")
    monkeypatch.setattr("drtest.doors.open_target", lambda *_, **__: nullcontext(world.target))
    assert main(["sweep", "--yes"]) == 0
    assert world.left() == []


@pytest.mark.usefixtures("quick")
def test_a_run_of_a_drtest_with_other_steps_is_not_resumed_but_told_how_it_is_cleaned_up(
    world: World, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(world, file, "-k", "one") == 0
    record = out(file) / "run.json"
    now = json.loads(record.read_text())
    assert now["state_version"] == STATE_VERSION
    # As a run's before there were versions in it.
    record.write_text(json.dumps({key: value for key, value in now.items() if key != "state_version"}))
    calls = len(world.weather.calls)
    assert main(["run", "--resume", str(out(file)), "--config", str(world.config)]) == 2
    said = capsys.readouterr().err
    assert "began it with other steps" in said
    assert f"`drtest sweep --target world --run {now['run']} --yes`" in said
    assert len(world.weather.calls) == calls


def test_credentials_that_are_refused_are_3_before_anything_is_created(
    world: World, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.weather.fault("*", Fault.EXPIRED, forever=True)
    assert run(world, file) == 3
    said = capsys.readouterr().err
    assert "Log in to AWS again" in said
    assert "Traceback" not in said
    assert world.weather.actions() == {"DescribeImages"}


@pytest.mark.usefixtures("quick")
def test_ctrl_c_is_130_and_cleans_up(world: World, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world.weather.at["CreateSnapshots"] = _thread.interrupt_main
    assert run(world, file) == 130
    assert set(verdicts(file).values()) == {"INCONCLUSIVE"}
    assert results(file)["leftovers"] == []
    assert "all was cleaned up" in capsys.readouterr().err
    assert world.left() == []


@pytest.mark.usefixtures("quick")
def test_a_first_ctrl_c_while_all_is_cleaned_up_in_any_case_lets_it_end(world: World, file: Path) -> None:
    world.weather.at["DeleteSecurityGroup"] = _thread.interrupt_main
    assert run(world, file, "-k", "one") == 0
    assert verdicts(file) == {"one/root/running/1": "RECOVERED"}
    assert results(file)["leftovers"] == []
    assert world.left() == []


INSISTING = """
import _thread, sys, threading, time
from pathlib import Path
import pytest
from drtest.cli import main
from tests.drill.kit.opening import open_world, patched

folder = Path(sys.argv[1])
patch, opened = pytest.MonkeyPatch(), open_world(folder)
world = opened.__enter__()
patched(patch, world)

def hang():
    "Nothing can hurry this guest."
    threading.Thread(target=press, daemon=True).start()
    time.sleep(600)

def press():
    _thread.interrupt_main()
    time.sleep(0.3)
    print("pressed again", flush=True)
    _thread.interrupt_main()

world.guests("copy").visits["booted"] = hang
words = ["--target", "world", "--config", str(world.config), "--out", str(folder / "out"), "-k", "one"]
main(["run", sys.argv[2], *words])
print("the process lives on")
"""


def test_a_second_ctrl_c_leaves_at_once_and_says_what_stays(tmp_path: Path, file: Path) -> None:
    words = [sys.executable, "-c", INSISTING, str(tmp_path), str(file)]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 130, done.stderr
    assert "pressed again" in done.stdout
    assert "the process lives on" not in done.stdout
    assert "Traceback" not in done.stderr
    left = {one["kind"] for one in results(file)["leftovers"]}
    assert {"instance", "volume", "snapshot", "security-group"} <= left
    assert done.stdout.count("left over:") == len(results(file)["leftovers"])
    assert "drtest run --resume" in done.stderr
    assert "drtest sweep --target world --run" in done.stderr


def test_two_files_with_a_server_of_one_name_are_refused(
    world: World, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = file.with_name("other.drill.yaml")
    other.write_text(TEXT.replace("drill: doors", "drill: other"))
    assert run(world, file, str(other)) == 2
    assert "Two servers of one run are called one, two" in capsys.readouterr().err
    assert world.weather.calls == []


# pytest's door


@pytest.fixture
def door(pytester: pytest.Pytester, world: World) -> Iterator[list[str]]:
    pytester.makefile(".drill.yaml", doors=TEXT)
    yield [f"--drill-config={world.config}", "--target=world", "--drill-out=out", "-p", "no:cacheprovider"]
    assert world.left() == []


def test_without_a_target_scenario_files_are_not_collected(
    pytester: pytest.Pytester, door: list[str]
) -> None:
    pytester.makepyfile("def test_something_else() -> None: pass")
    pytester.runpytest().assert_outcomes(passed=1)


def test_cells_are_listed_without_touching_anything(
    pytester: pytest.Pytester, door: list[str], world: World
) -> None:
    listed = pytester.runpytest(*door, "--collect-only", "-q")
    listed.stdout.fnmatch_lines(["*one/root/running/1", "*two/root/running/1"])
    assert world.weather.calls == []


@pytest.mark.usefixtures("quick")
def test_cells_run_beside_other_tests_and_a_failed_one_shows_its_reason_and_no_traceback(
    pytester: pytest.Pytester, door: list[str], world: World
) -> None:
    pytester.makepyfile("def test_something_else() -> None: pass")
    world.guests("copy", server="two").visits["booted"] = _refuse
    ran = pytester.runpytest(*door)
    ran.assert_outcomes(passed=2, failed=1)
    ran.stdout.fnmatch_lines(["*two/root/running/1 is INCONCLUSIVE, expected usable*half a sentence*"])
    ran.stdout.no_fnmatch_line("*Traceback*")
    ran.stdout.fnmatch_lines(["*drills*", "*report.html"])
    assert ran.ret == pytest.ExitCode.TESTS_FAILED


def _refuse() -> bytes:
    raise GuestError("it answered with half a sentence")


def test_xdist_is_refused_with_a_sentence(pytester: pytest.Pytester, door: list[str], world: World) -> None:
    pytester.makeconftest(
        "def pytest_addoption(parser): parser.addoption('--numprocesses', dest='numprocesses', type=int)"
    )
    refused = pytester.runpytest(*door, "--numprocesses=2")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["*drtest and pytest-xdist don't go together*Leave -n away*"])
    assert world.weather.calls == []


def test_a_mistake_in_a_scenario_is_an_error_of_its_collection_and_nothing_runs(
    pytester: pytest.Pytester, door: list[str], world: World
) -> None:
    pytester.makefile(
        ".drill.yaml", wrong=TEXT.replace("title:", "titel:").replace("drill: doors", "drill: wrong")
    )
    refused = pytester.runpytest(*door)
    assert refused.ret == pytest.ExitCode.INTERRUPTED
    refused.assert_outcomes(errors=1)
    refused.stdout.fnmatch_lines(["*wrong.drill.yaml:2:1: *titel*title*"])
    assert world.weather.calls == []
