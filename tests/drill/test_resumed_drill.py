"""A run that died in the middle of a drill goes on where it was, on a source that is not ours too."""

from typing import Any

import pytest

from drtest.drill.engine import Engine
from drtest.drill.run import Run
from drtest.drill.site import Progress, Stop
from drtest.record.folder import RunFolder
from drtest.scenario.model import Scenario
from drtest.scenario.plan import plan
from tests.drill.kit.selected import marks, selecting, server
from tests.drill.kit.world import World, alone
from tests.lab.api.conftest import until


class Died(BaseException):
    """What ends a step as a kill -9 does: no more of it is done, and nothing is recorded."""


def die_at(world: World, wanted: dict[str, Any], stage: str) -> RunFolder:
    """Run a scenario until a stage; from there on its process does no more."""
    made = plan(Scenario.model_validate(wanted), target="world")
    folder = world.new_folder(made.cells)
    dead: list[str] = []

    def tell(progress: Progress) -> None:
        if dead or f"{progress.stage}: {progress.detail}".startswith(stage):
            dead.append(progress.stage)
            raise Died

    run = Run([made], target=world.target, folder=folder, tell=tell, judged=lambda *_: None, stop=Stop())
    run.__enter__()
    until(lambda: dead)
    # The end of the process, without the run's own: no clean-up, no results.
    run._open.close()
    folder.journal.close()
    folder.ledger.close()
    return RunFolder.open(folder.path)


@pytest.mark.parametrize("stage", ["boot: running 1", "examine: running 1", "load: running 2"])
def test_a_run_that_died_while_one_point_was_proven_and_the_next_was_made_does_both_anew(
    stage: str, world: World
) -> None:
    wanted = alone(trials=2)
    ran = world.run(wanted, folder=die_at(world, wanted, stage), engine=Engine)
    assert ran.verdicts == {"lin/root/running/1": "RECOVERED", "lin/root/running/2": "RECOVERED"}
    points = {(one.trial, one.attempt) for one in ran.of("canary.acknowledged")}
    assert len([trial for trial, _ in points if trial == 1]) == 1, "what was finished is not done again"
    assert ran.leftovers == set()
    assert world.left() == []


def test_a_run_that_died_while_a_foreign_source_was_stopped_starts_it_and_proves_all(world: World) -> None:
    instance = server(world, "not-ours")
    wanted = alone(servers=[selecting("not-ours")], captures=["stopped"])
    folder = die_at(world, wanted, "capture: stopped 1: snapshot")
    assert world.state(instance) == "stopped"
    ran = world.run(wanted, folder=folder, engine=Engine)
    assert ran.verdicts == {"not-ours/root/stopped/1": "CONSISTENT"}, ran.results["cells"]
    assert ran.code == 0
    assert world.state(instance) == "running"
    assert marks(world, instance) == {}
    assert world.left() == []


def test_a_foreign_source_is_up_again_before_its_snapshots_are_completed(world: World) -> None:
    server(world, "up-again")
    ran = world.run(alone(servers=[selecting("up-again")], captures=["stopped"]))
    assert ran.code == 0, ran.results["cells"]
    calls = [action for action, _ in world.weather.calls]
    after = calls[calls.index("CreateSnapshots") :]
    assert "DescribeSnapshots" not in after[: after.index("StartInstances")]
