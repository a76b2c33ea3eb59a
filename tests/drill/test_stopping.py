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
from drtest.guest.transport import GuestError, UnreachableError
from tests.drill.kit.faults import Fault
from tests.drill.kit.plain import PlainEngine
from tests.drill.kit.selected import marks, selecting, server
from tests.drill.kit.world import World, alone

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
    assert sweep("world", config=world.config, runs=[ran.folder.run.run], delete=True) == ()
    assert world.state(instance) == "running"
    assert marks(world, instance) == {}
    assert world.left() == []


# A full disk under the runner, met by one of its files; see test_full_disk.py for one that all of them meet


def no_room(patch: pytest.MonkeyPatch, call: str, folder: str) -> None:
    """Let a call of ``os`` find no room for files whose path has this in it; an empty one: for none at all."""
    well: Callable[..., Any] = getattr(os, call)

    def try_to(handle: int, *data: Any) -> Any:
        if folder in str(Path(f"/proc/self/fd/{handle}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return well(handle, *data)

    patch.setattr(os, call, try_to)


@pytest.mark.parametrize("stage", ["restore", "clean"])
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


# What is not to be trusted any more


def once(error: GuestError) -> Callable[[], bytes | None]:
    """A visit that fails the first time."""
    fails = iter([True])

    def visit() -> bytes | None:
        if next(fails, False):
            raise error
        return None

    return visit


def test_what_failed_in_one_trial_is_replaced_for_the_next(world: World) -> None:
    oopses = iter([True])

    def kernel(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "tainted": 128, "oops": True} if next(oopses, False) else data

    world.guests("helper", server="helper-oopses").says["helper.kernel"] = kernel
    world.guests("helper", server="helper-hangs").visits["offline"] = once(GuestError("it hangs"))
    world.guests("copy", server="copy-is-lost").visits["booted"] = once(UnreachableError("it was lost"))
    names = ("helper-oopses", "helper-hangs", "copy-is-lost")
    servers = [{"name": name, "os": "linux", "launch": {"image": "linux"}} for name in names]
    ran = world.run(alone(servers=servers, trials=2))
    firsts = ("INCONCLUSIVE", "INCONCLUSIVE", "UNREACHABLE")
    for name, first in zip(names, firsts, strict=True):
        cells = [ran.verdicts[f"{name}/root/running/{trial}"] for trial in (1, 2)]
        assert cells == [first, "RECOVERED"], ran.results["cells"]
    helpers = {one.data["instance"] for one in ran.of("helper.ready") if one.server == "helper-oopses"}
    assert len(helpers) == 2, "the one that oopsed examined nothing more"
    assert world.left() == []
