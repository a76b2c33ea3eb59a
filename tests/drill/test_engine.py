"""A drill is durable: what was finished is not done again, what was not is, and failures are results too."""

import subprocess
import sys
import textwrap
import threading
from functools import partial
from pathlib import Path

import pytest

from drtest.cloud.wait import CancelledError
from drtest.drill.engine import Engine, Part, Step, StepFailedError, together
from drtest.errors import EnvironmentFailedError, UsageError
from tests.drill.test_full_disk import fill, small_disk


def run(state: Path, **drills: object) -> dict[str, object]:
    with Engine(state, run="r1", drills=drills, concurrency=4) as engine:  # type: ignore[arg-type]
        assert engine.wait(deadline=30)
        return dict(engine.outcomes())


def test_drills_run_at_once_and_give_their_outcomes(tmp_path: Path) -> None:
    def drill(name: str) -> object:
        return lambda step: step("one", lambda: name, gives=str)

    assert run(tmp_path / "state.sqlite", a=drill("x"), b=drill("y")) == {"a": "x", "b": "y"}


def test_a_failed_step_is_told_and_recorded(tmp_path: Path) -> None:
    told: list[str] = []

    def fail() -> str:
        raise EnvironmentFailedError("no volume", remedy="look")

    def drill(step: Step) -> list[str]:
        with pytest.raises(StepFailedError) as failed:
            step("restore", fail, gives=str, on_failure=lambda error: told.append(str(error)))
        return [failed.value.step, failed.value.seen, failed.value.remedy, str(failed.value.cancelled)]

    assert run(tmp_path / "state.sqlite", a=drill) == {"a": ["restore", "no volume", "look", "False"]}
    assert told == ["no volume\n  look"]


def test_a_step_that_was_cancelled_says_so(tmp_path: Path) -> None:
    def cancel() -> str:
        raise CancelledError("stopped")

    def drill(step: Step) -> bool:
        with pytest.raises(StepFailedError) as failed:
            step("wait", cancel, gives=str)
        return failed.value.cancelled

    assert run(tmp_path / "state.sqlite", a=drill) == {"a": True}


def test_parts_of_a_step_are_done_at_once_and_one_that_fails_takes_no_other_down(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def meet(word: str) -> str:
        both.wait(10)
        if word == "bad":
            raise EnvironmentFailedError("no volume")
        return word

    def drill(step: Step) -> list[str]:
        told: list[str] = []
        parts = [
            Part(
                name=word,
                function=partial(meet, word),
                gives=str,
                on_failure=lambda error: told.append(error.seen),
            )
            for word in ("good", "bad")
        ]
        good, bad = together(step, parts)
        with pytest.raises(StepFailedError) as failed:
            bad()
        return [good(), failed.value.step, failed.value.seen, *told]

    assert run(tmp_path / "state.sqlite", a=drill) == {"a": ["good", "bad", "no volume", "no volume"]}


def test_a_drill_whose_state_finds_no_room_comes_to_an_end_all_the_same(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk") as disk:

        def drill(step: Step) -> int:
            fill(disk)
            return step("one", lambda: 1, gives=int)

        outcome = run(disk / "state.sqlite", a=drill)
    assert "The disk of this machine is full" in str(outcome["a"])
    assert "Make room on it" in str(outcome["a"])
    assert "Traceback" not in capfd.readouterr().err


def test_a_run_is_at_work_once(tmp_path: Path) -> None:
    state = tmp_path / "state.sqlite"
    with (
        Engine(state, run="r1", drills={}, concurrency=1),
        pytest.raises(UsageError, match="at work already"),
    ):
        Engine(state, run="r1", drills={}, concurrency=1).__enter__()


PROGRAM = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    from drtest.drill.engine import Engine

    folder = Path(sys.argv[1])

    def note(word):
        with open(folder / "log", "a") as log:
            log.write(word + "\\n")
        return word

    def die_once():
        note("two")
        if not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "two"

    def drill(step):
        one = step("one", lambda: note("one"), gives=str)
        two = step("two", die_once, gives=str)
        three = step("three", lambda: note("three"), gives=str)
        return [one, two, three]

    with Engine(folder / "state.sqlite", run="r1", drills={"d": drill}, concurrency=1) as engine:
        assert engine.wait(deadline=30)
        print(engine.outcomes()["d"])
    """
)


def test_a_run_killed_with_minus_9_goes_on_after_the_last_finished_step(tmp_path: Path) -> None:
    first = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], check=False, timeout=60)
    assert first.returncode == -9
    again = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], check=True, timeout=60, capture_output=True, text=True
    )
    assert again.stdout.strip() == "['one', 'two', 'three']"
    assert (tmp_path / "log").read_text().split() == ["one", "two", "two", "three"]


def test_the_state_is_for_its_owner_alone(tmp_path: Path) -> None:
    state = tmp_path / "state.sqlite"
    run(state, a=lambda step: step("one", lambda: 1, gives=int))
    assert state.stat().st_mode & 0o077 == 0
