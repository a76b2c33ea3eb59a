"""A run that is stopped cleans up, at whatever stage it is; one that is left at once says what stays."""

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from drtest.cloud.tags import CLAIMED_BY, STOPPED_BY
from drtest.doors import sweep
from drtest.drill.site import Stop
from drtest.guest.transport import GuestError
from drtest.record.lines import LinesError
from tests.drill.kit.faults import Fault
from tests.drill.kit.plain import PlainEngine
from tests.drill.kit.selected import marks, selecting, server
from tests.drill.kit.world import World, alone
from tests.lab.api.conftest import until

STAGES = (
    "prepare: launch the source",
    "prepare: wait for the source to answer",
    "load",
    "capture: stop the source",
    "capture: stopped 1: wait",
    "restore",
    "boot",
    "clean",
)


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_is_stopped_at_a_stage_cleans_up(stage: str, world: World) -> None:
    stop = Stop()
    world.when(stage, stop.asked.set)
    ran = world.run(alone(captures=["stopped"]), stop=stop)
    # What was proven before it was stopped stays proven.
    assert ran.verdicts["lin/root/stopped/1"] == ("CONSISTENT" if stage == "clean" else "INCONCLUSIVE")
    if stage != "clean":
        assert ran.reason("lin/root/stopped/1") == "The run was stopped before this cell was proven."
    assert ran.leftovers == set()
    assert world.left() == []


def test_a_stopped_run_starts_the_source_again(world: World) -> None:
    instance = server(world, "stopped-in-the-middle")
    stop = Stop()
    world.when("capture: stopped 1: snapshot", stop.asked.set)
    ran = world.run(alone(servers=[selecting("stopped-in-the-middle")], captures=["stopped"]), stop=stop)
    assert ran.leftovers == set()
    assert world.state(instance) == "running"
    assert marks(world, instance) == {}
    assert world.left() == []


def test_a_run_that_is_left_at_once_says_what_stays_the_stopped_source_first_of_all(world: World) -> None:
    instance = server(world, "left-at-once")
    stop = Stop()
    engines: list[PlainEngine] = []

    def engine(*args: Any, **more: Any) -> PlainEngine:
        engines.append(PlainEngine(*args, **more))
        return engines[-1]

    def leave() -> None:
        stop.asked.set()
        stop.insisted.set()
        # From here on the API refuses everything: as if the process had ended.
        world.weather.fault("*", Fault.DENIED, forever=True)

    world.when("capture: stopped 1: snapshot", leave)
    wanted = alone(servers=[selecting("left-at-once")], captures=["stopped"])
    ran = world.run(wanted, stop=stop, engine=engine)
    engines[0].join()
    assert ran.code == 3
    assert ("source", instance) in ran.leftovers
    assert {"instance", "security-group"} <= {kind for kind, _ in ran.leftovers}
    world.weather.rules.clear()
    assert world.state(instance) == "stopped"
    assert set(marks(world, instance)) == {CLAIMED_BY, STOPPED_BY}
    assert sweep("world", config=world.config, run=ran.folder.run.run, delete=True) == ()
    assert world.state(instance) == "running"
    assert marks(world, instance) == {}
    assert world.left() == []


# A full disk under the runner


def no_room(patch: pytest.MonkeyPatch, call: str, folder: str) -> None:
    """Let a call of ``os`` find no room for files whose path has this in it; an empty one: for none at all."""
    well: Callable[..., Any] = getattr(os, call)

    def try_to(handle: int, *data: Any) -> Any:
        if folder in str(Path(f"/proc/self/fd/{handle}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return well(handle, *data)

    patch.setattr(os, call, try_to)


@pytest.mark.parametrize("stage", ["prepare: make filesystems", "restore", "clean"])
def test_evidence_that_finds_no_room_ends_the_drill_with_all_clean(
    stage: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.when(stage, partial(no_room, monkeypatch, "write", "evidence.jsonl"))
    ran = world.run(alone())
    assert world.left() == []
    assert ran.leftovers == set()
    assert ran.code == (0 if stage == "clean" else 3)


def test_a_ledger_that_finds_no_room_keeps_nothing_from_being_cleaned_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.when("restore", partial(no_room, monkeypatch, "write", "ledger.jsonl"))
    ran = world.run(alone())
    assert ran.code == 3
    assert "could not be written: No space left on device. Free some disk space" in ran.reason()
    assert world.left() == []


def test_acknowledgements_that_find_no_room_end_the_load_with_a_sentence(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.when("load", partial(no_room, monkeypatch, "fsync", "/acks/"))
    ran = world.run(alone())
    assert ran.code == 3
    assert "Make room" in ran.reason()
    assert ran.leftovers == set()
    assert world.left() == []


def test_a_disk_without_any_room_leaves_nothing_in_the_cloud_and_says_what_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.when("restore", partial(no_room, monkeypatch, "fsync", str(world.folder)))
    with pytest.raises(LinesError, match=r"No space left on device\n.*Free some disk space"):
        world.run(alone())
    monkeypatch.undo()
    assert world.left() == []


# A helper that is not to be trusted any more


def test_a_helper_whose_kernel_oopsed_is_thrown_away_and_the_next_examines(world: World) -> None:
    oopses = iter([True, False])

    def kernel(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "tainted": 128, "oops": True} if next(oopses) else data

    world.guests("helper").says["helper.kernel"] = kernel
    ran = world.run(alone(trials=2))
    assert ran.verdicts == {"lin/root/running/1": "INCONCLUSIVE", "lin/root/running/2": "RECOVERED"}
    helpers = {one.data["instance"] for one in ran.of("helper.ready")}
    assert len(helpers) == 2, "the one that oopsed examined nothing more"
    assert world.left() == []


def test_a_helper_that_fails_is_thrown_away_and_the_next_examines(world: World) -> None:
    fails = iter([True, False])

    def offline() -> bytes | None:
        if next(fails):
            raise GuestError("it hangs", remedy="look at it")
        return None

    world.guests("helper").visits["offline"] = offline
    ran = world.run(alone(trials=2))
    assert ran.verdicts == {"lin/root/running/1": "INCONCLUSIVE", "lin/root/running/2": "RECOVERED"}
    assert world.left() == []


def test_a_run_goes_on_after_the_scratch_instance_lost_its_connection(world: World) -> None:
    until(lambda: world.left() == [])
    fails = iter([True, False])

    def booted() -> bytes | None:
        if next(fails):
            raise GuestError("it answered with half a sentence")
        return None

    world.guests("copy").visits["booted"] = booted
    ran = world.run(alone(trials=2))
    assert ran.verdicts == {"lin/root/running/1": "INCONCLUSIVE", "lin/root/running/2": "RECOVERED"}
    assert world.left() == []
