"""Things that go wrong for good in the middle of a drill: the API, a snapshot, a volume, somebody else's hand."""

import re
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from drtest.cloud.tags import KEY
from drtest.doors import sweep
from drtest.lab.resources import Snapshot
from tests.drill.kit.faults import Fault
from tests.drill.kit.world import Ran, World, alone
from tests.lab.api.conftest import until

SHORT: dict[str, Any] = {
    "deadlines": {
        **dict.fromkeys(("snapshot", "launch", "boot"), "2s"),
        **dict.fromkeys(("volume", "attach", "stop", "status", "clean"), "1s"),
    }
}


MIDDLE = {
    "DescribeInstances": 3,
    "DescribeVolumes": 3,
    # The rest is known without them: from the ledger, or it is nothing that a verdict rests on.
    "DescribeSnapshots": 0,
    "DescribeSecurityGroups": 0,
    "DescribeInstanceStatus": 0,
}
"""The exit code by the action that fails from the middle on; the other reading calls are not made any more there."""


def assert_named_and_swept(world: World, ran: Ran) -> None:
    """What is left was named; and what was named is what there is, or is gone already."""
    world.weather.rules.clear()
    ids = {id_ for _, id_ in ran.leftovers}
    until(lambda: not [one for one in world.left() if one not in ids and one.startswith("i-")])
    assert [one for one in world.left() if one not in ids and not one.startswith("vol-")] == []
    assert sweep("world", config=world.config, runs=[ran.folder.run.run], delete=True) == ()
    assert world.left() == []


@pytest.mark.parametrize(("action", "code"), MIDDLE.items())
def test_a_reading_call_that_fails_from_the_middle_on_leaves_nothing_unsaid(
    action: str, code: int, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drtest.drill.cleanup._ONE_LOOK", 0.1)
    world.when("restore", lambda: world.weather.fault(action, Fault.UNAVAILABLE, forever=True))
    ran = world.run(alone(**SHORT))
    assert ran.code == code, ran.results
    if code == 0:
        assert ran.leftovers == set()
    assert_named_and_swept(world, ran)


def test_an_api_that_is_gone_in_the_middle_is_exit_3_and_all_that_is_left_is_named(world: World) -> None:
    world.when("restore", lambda: world.weather.fault("*", Fault.DROPPED, forever=True))
    ran = world.run(alone(**SHORT))
    assert ran.code == 3
    assert "can be reached" in ran.reason()
    assert {kind for kind, _ in ran.leftovers} == {"instance", "snapshot", "security-group"}
    assert_named_and_swept(world, ran)


@pytest.mark.parametrize(("action", "after"), [("*", "CreateVolume"), ("DescribeVolumes", "AttachVolume")])
def test_credentials_that_expire_in_the_middle_are_told_at_once_and_not_at_a_deadline(
    action: str, after: str, world: World
) -> None:
    world.weather.at[after] = lambda: world.weather.fault(action, Fault.EXPIRED, forever=True)
    # All waits but that of the clean-up may last a minute here.
    begun = time.monotonic()
    ran = world.run(alone(deadlines={"clean": "1s"}))
    assert time.monotonic() - begun < 50
    assert ran.code == 3
    assert "Log in to AWS again" in ran.reason()
    assert_named_and_swept(world, ran)


def test_a_snapshot_that_ends_in_error_is_told_and_deleted(world: World) -> None:
    def spoil() -> None:
        with world.compute.books.open():
            for one in world.compute.books.all(Snapshot):
                if KEY in one.tags:
                    world.compute.books.put(replace(one, state="error"))

    world.when("capture: running 1: wait", spoil)
    ran = world.run(alone())
    assert ran.code == 3
    assert "ended in error" in ran.reason()
    assert "KMS key" in ran.reason()
    assert ran.leftovers == set()
    assert world.left() == []


def test_a_volume_that_ends_in_error_is_told_and_deleted(world: World) -> None:
    world.machines.no_copies = True
    ran = world.run(alone())
    assert ran.code == 3
    assert "ended in error" in ran.reason()
    assert "KMS key" in ran.reason()
    assert ran.leftovers == set()
    assert world.left() == []


# Somebody else's hand


@dataclass(frozen=True, kw_only=True)
class Hand:
    """Whose end somebody brings about, and at which stage of the drill."""

    role: str
    stage: str
    says: str


HANDS = {
    "before-it-answers": Hand(
        role="source", stage="prepare: wait for the source", says="was terminated .*CloudTrail"
    ),
    "before-the-load": Hand(role="source", stage="load", says="was terminated .*CloudTrail"),
    "during-the-load": Hand(
        role="source", stage="capture: running 1: snapshot", says="terminated in the middle of the drill"
    ),
    "the-helper": Hand(role="helper", stage="examine", says="refused AttachVolume|connection was lost"),
    "the-scratch": Hand(role="scratch", stage="boot", says="terminated instead of running"),
}


@pytest.fixture(scope="module")
def terminated(shared: World) -> Ran:
    shared.reset()

    def terminate(role: str, server: str) -> None:
        instance = shared.instance(role, server=server)
        shared.client.terminate_instances(InstanceIds=[instance])
        until(lambda: shared.state(instance) == "terminated")

    for name, hand in HANDS.items():
        shared.when(hand.stage, partial(terminate, hand.role, name), server=name)
    servers = [{"name": name, "os": "linux", "launch": {"image": "linux"}} for name in HANDS]
    ran = shared.run(alone(servers=servers, captures=["running", "stopped"]))
    assert shared.left() == []
    return ran


@pytest.mark.parametrize("name", HANDS)
def test_an_instance_that_somebody_terminates_is_told_and_another_takes_its_place(
    name: str, terminated: Ran
) -> None:
    first, second = f"{name}/root/running/1", f"{name}/root/stopped/1"
    assert terminated.verdicts[first] == "INCONCLUSIVE", terminated.reason(first)
    assert re.search(HANDS[name].says, terminated.reason(first)), terminated.reason(first)
    if HANDS[name].role == "source":
        assert "CloudTrail" in terminated.reason(second)
    else:
        assert terminated.verdicts[second] == "CONSISTENT", terminated.reason(second)
    assert not [left for left in terminated.results["leftovers"] if left["server"] == name]
