"""A source that is not ours: worked on by one run alone, and running again whatever fails after its stop."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from drtest.cloud.ec2 import Ec2
from drtest.cloud.resources import Instance
from drtest.cloud.tags import CLAIMED_BY, STOPPED_BY, Ownership
from drtest.doors import sweep
from drtest.drill.preflight import preflight
from drtest.errors import UsageError
from drtest.guest.transport import UnreachableError
from drtest.scenario.model import Server
from tests.drill.kit.disks import Manners
from tests.drill.kit.faults import Fault
from tests.drill.kit.selected import marks, selecting, server, volume
from tests.drill.kit.world import Ran, World, alone
from tests.lab.api.conftest import until

# Started again, whatever fails


@dataclass(frozen=True, kw_only=True)
class After:
    """What fails after the source was stopped.

    Attributes:
        arrange: makes it fail, for a server of this name.
        verdict: of its cell.
        says: in its reason.
    """

    arrange: Callable[[World, str], object]
    verdict: str = "INCONCLUSIVE"
    says: str = ""


def refused(action: str) -> Callable[[World, str], object]:
    return lambda world, name: world.weather.fault(action, Fault.INTERNAL, server=name, forever=True)


def helper_is_lost(world: World, name: str) -> None:
    def offline() -> bytes:
        raise UnreachableError("the connection was lost")

    world.machines.manners[name, "helper"] = Manners(visits={"offline": offline})


AFTER = {
    "snapshots-refused": After(arrange=refused("CreateSnapshots"), says="refused CreateSnapshots"),
    "volumes-refused": After(arrange=refused("CreateVolume"), says="refused CreateVolume"),
    "attach-refused": After(arrange=refused("AttachVolume"), says="refused AttachVolume"),
    "detach-refused": After(arrange=refused("DetachVolume"), says="refused DetachVolume"),
    "terminate-refused": After(arrange=refused("TerminateInstances"), verdict="CONSISTENT"),
    "helper-is-lost": After(arrange=helper_is_lost, verdict="UNREACHABLE", says="the connection was lost"),
}


@pytest.fixture(scope="module")
def selected(shared: World) -> Ran:
    shared.reset()
    sources = {name: server(shared, name) for name in (*AFTER, "start-refused", "well")}
    for name, after in AFTER.items():
        after.arrange(shared, name)
    refused("StartInstances")(shared, "start-refused")
    ran = shared.run(alone(servers=[selecting(name) for name in sources], captures=["stopped"]))
    shared.weather.rules.clear()
    for name, instance in sources.items():
        if name != "start-refused":
            assert shared.state(instance) == "running", name
            assert marks(shared, instance) == {}, name
    return ran


@pytest.mark.parametrize("name", AFTER)
def test_a_source_that_was_stopped_runs_again_whatever_fails(name: str, selected: Ran) -> None:
    cell = f"{name}/root/stopped/1"
    assert selected.verdicts[cell] == AFTER[name].verdict, selected.reason(cell)
    assert re.search(AFTER[name].says, selected.reason(cell)), selected.reason(cell)
    assert "source" not in {left["kind"] for left in selected.results["leftovers"] if left["server"] == name}


def test_a_source_that_can_not_be_started_is_a_leftover_until_a_sweep_starts_it(
    shared: World, selected: Ran
) -> None:
    left = [one for one in selected.results["leftovers"] if one["kind"] == "source"]
    assert [one["server"] for one in left] == ["start-refused"]
    assert shared.state(left[0]["id"]) == "stopped"
    assert set(marks(shared, left[0]["id"])) == {CLAIMED_BY, STOPPED_BY}
    assert sweep("world", config=shared.config, runs=[selected.folder.run.run], delete=True) == ()
    assert shared.state(left[0]["id"]) == "running"
    assert marks(shared, left[0]["id"]) == {}
    assert shared.left() == []


# One run alone


def test_a_second_run_on_a_source_is_refused_by_name_and_the_first_is_not_disturbed(world: World) -> None:
    instance = server(world, "shared-one")
    wanted = alone(servers=[selecting("shared-one")])
    second: list[Ran] = []
    world.when("load", lambda: second.append(world.run(wanted)))
    first = world.run(wanted)
    assert first.verdicts == {"shared-one/root/running/1": "RECOVERED"}, first.results["cells"]
    cell = "shared-one/root/running/1"
    assert second[0].code == 3
    assert f"is being worked on by run {first.folder.run.run}" in second[0].reason(cell)
    assert f"drtest sweep --target world --run {first.folder.run.run}" in second[0].reason(cell)
    assert marks(world, instance) == {}
    assert world.left() == []
    assert world.run(wanted).code == 0, "the claim was released"


def test_of_two_runs_that_claim_a_source_at_once_the_first_lets_go(world: World) -> None:
    instance = server(world, "raced")

    def claim() -> None:
        tags = [{"Key": CLAIMED_BY, "Value": "another-run bad-days/raced/source"}]
        world.client.create_tags(Resources=[instance], Tags=tags)

    world.when("capture: running 1: drop", claim)
    ran = world.run(alone(servers=[selecting("raced")], captures=["running", "stopped"]))
    assert ran.code == 3
    assert "is being worked on by run another-run" in ran.reason("raced/root/stopped/1")
    assert world.state(instance) == "running"
    assert marks(world, instance) == {CLAIMED_BY: "another-run bad-days/raced/source"}
    assert ran.leftovers == set()
    world.client.delete_tags(Resources=[instance], Tags=[{"Key": CLAIMED_BY}])


def test_a_source_that_somebody_terminates_while_it_is_stopped_leaves_nothing_to_put_right(
    world: World,
) -> None:
    instance = server(world, "doomed")

    def terminate() -> None:
        world.client.terminate_instances(InstanceIds=[instance])
        until(lambda: world.state(instance) == "terminated")

    world.when("capture: stopped 1: snapshot", terminate)
    ran = world.run(alone(servers=[selecting("doomed")], captures=["stopped"]))
    assert ran.code == 3
    assert "terminated in the middle of the drill" in ran.reason("doomed/root/stopped/1")
    assert ran.leftovers == set()
    assert world.left() == []


# What is refused before anything is done

SOURCE = Instance(
    id="i-0123456789abcdef0",
    state="running",
    reason="",
    image="ami-1",
    type="t3.small",
    zone="us-east-1a",
    subnet="subnet-1",
    vpc="vpc-1",
    public_address="",
    private_address="10.0.0.4",
    root_device="/dev/xvda",
    root_device_type="ebs",
)


class Asked:
    """An EC2 that says what it is told to say."""

    def __init__(self, *, behaviour: str = "stop", elastic: bool = False) -> None:
        self._behaviour, self._elastic = behaviour, elastic

    def attribute(self, instance: str, *, name: str) -> str:
        return self._behaviour

    def has_elastic_address(self, instance: str) -> bool:
        return self._elastic


def asked(
    source: Instance = SOURCE, *, stops: bool = True, may_stop: bool = True, **ec2: Any
) -> tuple[str, ...]:
    about = Server.model_validate(selecting("web", may_stop=may_stop))
    return preflight(source, stops=stops, server=about, ec2=cast(Ec2, Asked(**ec2)))


@pytest.mark.parametrize(
    ("source", "more", "says"),
    [
        ({"tags": {"aws:autoscaling:groupName": "web"}}, {}, "Auto Scaling group web"),
        ({"root_device_type": "instance-store"}, {}, "instance store"),
        ({}, {"behaviour": "terminate"}, "InstanceInitiatedShutdownBehavior is terminate"),
        ({}, {"may_stop": False}, "may_stop: true"),
        ({"hibernation": True}, {}, "hibernation"),
        ({"hibernation": True}, {"stops": False}, "hibernation"),
        ({"state": "stopped"}, {"stops": False}, "is stopped: a drill begins with a running server"),
    ],
)
def test_what_would_not_come_back_as_it_was_is_refused(
    source: dict[str, Any], more: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says) as refusal:
        asked(replace(SOURCE, **source), **more)
    assert refusal.value.remedy


def test_a_source_that_is_not_stopped_may_be_what_could_not_be_stopped() -> None:
    assert asked(replace(SOURCE, root_device_type="instance-store"), stops=False, may_stop=False) == ()


def test_an_address_that_a_stop_takes_away_is_named() -> None:
    assert "is not an Elastic IP" in asked(replace(SOURCE, public_address="203.0.113.7"))[0]
    assert asked(replace(SOURCE, public_address="203.0.113.7"), elastic=True) == ()


def test_refused_sources_are_as_they_were_and_nothing_is_left(world: World) -> None:
    twins = {server(world, "twin"), server(world, "twin")}
    instance = server(world, "ends-at-shutdown", InstanceInitiatedShutdownBehavior="terminate")
    ran = world.run(alone(servers=[selecting("ends-at-shutdown"), selecting("twin")], captures=["stopped"]))
    assert ran.code == 3
    assert "InstanceInitiatedShutdownBehavior is terminate" in ran.reason("ends-at-shutdown/root/stopped/1")
    assert all(twin in ran.reason("twin/root/stopped/1") for twin in twins)
    assert "StopInstances" not in world.weather.actions()
    for one in (instance, *twins):
        assert world.state(one) == "running"
        assert marks(world, one) == {}
    assert world.left() == []


# The guard


def test_the_guard_keeps_a_drill_from_starting_what_it_may_not_stop(world: World) -> None:
    instance = server(world, "kept")

    def stop() -> None:
        world.client.stop_instances(InstanceIds=[instance])
        until(lambda: world.state(instance) == "stopped")

    # Somebody stops it between two recovery points.
    world.when("restore", stop)
    ran = world.run(alone(servers=[selecting("kept", may_write=True)], trials=2))
    assert ran.verdicts["kept/root/running/1"] == "RECOVERED"
    assert ran.verdicts["kept/root/running/2"] == "INCONCLUSIVE"
    assert f"The guard refused StartInstances on {instance}" in ran.reason("kept/root/running/2")
    assert "may_stop: true" in ran.reason("kept/root/running/2")
    assert ran.code == 3
    assert world.state(instance) == "stopped"
    assert world.left() == []


# Recovery points that somebody else made


def test_existing_snapshots_are_proven_and_stay_and_a_volume_without_one_is_told(world: World) -> None:
    instance = server(world, "backed-up")
    server(world, "never-backed-up")
    made = [
        world.client.create_snapshot(VolumeId=volume(world, instance, device))["SnapshotId"]
        for device in ("/dev/xvda", "/dev/sdf")
    ]

    def there() -> list[Any]:
        filters = [{"Name": "snapshot-id", "Values": made}, {"Name": "status", "Values": ["completed"]}]
        return list(world.client.describe_snapshots(Filters=filters)["Snapshots"])

    until(lambda: len(there()) == 2)
    servers = [selecting(name, may_write=False) for name in ("backed-up", "never-backed-up")]
    # Newer, but no backup: a drill that was killed left it.
    root = volume(world, instance, "/dev/xvda")
    tags = Ownership(run="killed", key="bad-days/backed-up/running/1", purpose="").specification("snapshot")
    drills = world.client.create_snapshot(VolumeId=root, TagSpecifications=tags)["SnapshotId"]
    world.client.get_waiter("snapshot_completed").wait(SnapshotIds=[drills], WaiterConfig={"Delay": 1})
    wanted = alone(servers=servers, captures=["existing"], volumes=["root", "data"], trials=2)
    del wanted["load"]
    ran = world.run(wanted)
    world.client.delete_snapshot(SnapshotId=drills)
    proven = [cell for cell in ran.results["cells"] if cell["server"] == "backed-up" and cell["trial"] == 1]
    assert {cell["verdict"] for cell in proven} == {"RECOVERED"}, proven
    assert {cell["recovery_point"] for cell in proven} == set(made)
    second = ran.reason("backed-up/root/existing/2")
    assert re.search("1 completed snapshot.*none for trial 2.*`trials: 1`", second, re.DOTALL), second
    reason = ran.reason("never-backed-up/root/existing/1")
    assert re.search("has no completed snapshot.* see its backup plan", reason), reason
    assert ran.code == 3
    assert world.left() == []
    assert len(there()) == 2
    assert "CreateSnapshots" not in world.weather.actions()
