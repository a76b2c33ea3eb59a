"""The order of a drill: a recovery point is proven while the next is made, and neither takes the other down."""

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from drtest.drill.engine import StepFailedError
from drtest.drill.procedure import drill
from drtest.guest.transport import UnreachableError
from drtest.scenario.model import Scenario
from drtest.scenario.plan import plan
from tests.drill.kit.faults import Fault
from tests.drill.kit.world import World, alone


def test_a_point_is_proven_while_the_next_is_made(world: World) -> None:
    # The proof of the first waits for the second's snapshots, and they for it: one after the other would hang.
    captured, booting = threading.Event(), threading.Event()

    def look() -> None:
        booting.set()
        assert captured.wait(20)

    def capture() -> None:
        assert booting.wait(20)
        captured.set()

    world.when("boot: running 1", look)
    world.when("capture: running 2: snapshot", capture)
    ran = world.run(alone(trials=2))
    assert set(ran.verdicts.values()) == {"RECOVERED"}, ran.results["cells"]
    assert world.left() == []


def test_a_capture_that_fails_beside_a_proof_leaves_that_its_verdict_and_the_next_its_turn(
    world: World,
) -> None:
    world.when(
        "capture: running 2: snapshot",
        lambda: world.weather.fault("CreateSnapshots", Fault.DENIED, again=False),
    )
    ran = world.run(alone(trials=3))
    assert ran.verdicts == {
        "lin/root/running/1": "RECOVERED",
        "lin/root/running/2": "INCONCLUSIVE",
        "lin/root/running/3": "RECOVERED",
    }, ran.results["cells"]
    assert "Grant ec2:CreateSnapshots" in ran.reason("lin/root/running/2")
    assert world.left() == []


def test_a_proof_that_fails_beside_a_capture_leaves_that_to_be_proven(world: World) -> None:
    lost = iter([True])

    def offline() -> bytes | None:
        if next(lost, False):
            raise UnreachableError("the connection was lost")
        return None

    world.guests("helper").visits = {"offline": offline}
    ran = world.run(alone(trials=2))
    assert ran.verdicts == {"lin/root/running/1": "UNREACHABLE", "lin/root/running/2": "RECOVERED"}
    assert world.left() == []


@pytest.mark.parametrize("capture", ["running", "stopped"])
def test_a_source_is_stopped_and_runs_again_for_the_next_trial_while_its_copies_are_proven(
    capture: str, world: World
) -> None:
    ran = world.run(alone(captures=[capture], trials=2))
    assert len(set(ran.verdicts.values())) == 1, ran.results["cells"]
    states = [(one.data["source_state_before"], one.data["completed"]) for one in ran.of("capture")]
    assert states == [(capture, False), (capture, True)] * 2


def test_a_step_that_can_not_be_run_at_all_takes_no_earlier_failure_with_it() -> None:
    steps: list[str] = []

    def step(name: str, *_: object, **__: object) -> Any:
        steps.append(name)
        if name == "capture running 1":
            return [{"failed": {"seen": "no room in EC2", "remedy": "wait", "cancelled": False}}]
        if name == "capture running 2":
            raise StepFailedError("no thread could be started", step=name, cancelled=False)
        return ()

    site = cast("Any", SimpleNamespace(settled=lambda *_: None))
    (one,) = plan(Scenario.model_validate(alone(trials=2)), target="world").drills
    outcome = drill(one, site=site, step=cast("Any", step))
    assert [failed.seen for failed in outcome.failures] == ["no room in EC2", "no thread could be started"]
    assert steps[-1] == "clean"
