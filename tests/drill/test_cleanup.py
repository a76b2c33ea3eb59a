"""Cleaning starts a stopped source first, deletes all that a run created, goes on past failures, and says what stays.

The API is moto's in this process: nothing here needs a machine.
"""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from drtest.cloud.ec2 import Created, Ec2
from drtest.cloud.guard import Guard
from drtest.cloud.resources import Instance, Snapshot, Volume
from drtest.cloud.tags import CLAIMED_BY, STOPPED_BY, Ownership
from drtest.cloud.wait import Poller
from drtest.drill.cleanup import Broom, runs_left


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    with mock_aws():
        yield boto3.Session(region_name="us-east-1").client("ec2")


class World:
    """A region with one run's resources in it, as a drill makes them."""

    def __init__(self, client: Any, *, run: str = "r1") -> None:
        self.client = client
        self.guard = Guard(run=run)
        self.guard.watch(client.meta.events)
        self.created: list[Created] = []
        self.ec2 = Ec2(client, unretried=client, guard=self.guard, on_created=self.created.append)
        self.run = run

    def own(self, key: str) -> Ownership:
        return Ownership(run=self.run, key=f"first/{key}", purpose="test")

    def fill(self) -> None:
        vpc = self.client.describe_vpcs()["Vpcs"][0]["VpcId"]
        group = self.ec2.create_security_group(
            self.own("lin/isolation"), vpc=vpc, ports=[22], source="10.0.0.0/8"
        )
        machine = self.ec2.launch(
            self.own("lin/source"), ImageId="ami-12c6146b", InstanceType="t3.small", SecurityGroupIds=[group]
        )
        self.ec2.create_snapshots(self.own("lin/running/1/a/snapshot"), instance=machine.id, description="x")
        self.ec2.create_volume(
            self.own("lin/running/1/a/b/A/root"), AvailabilityZone="us-east-1a", Size=1, VolumeType="gp3"
        )

    def broom(self, prefix: str = "first/lin/") -> Broom:
        return Broom(
            ec2=self.ec2,
            poller=Poller(self.ec2, interval=0.01),
            run=self.run,
            prefix=prefix,
            deadline=5,
            start_deadline=5,
        )


def test_all_that_a_run_created_is_gone_after_it(client: Any) -> None:
    world = World(client)
    world.fill()
    assert {each.kind for each in world.broom().found()} == {
        "instance",
        "volume",
        "snapshot",
        "security-group",
    }
    assert world.broom().sweep() == ()
    assert world.broom().found() == ()
    assert runs_left(world.ec2) == ()


def test_what_is_not_under_the_prefix_or_of_another_run_stays(client: Any) -> None:
    # Made before the guard stands in front of the client.
    ids = [
        client.create_volume(
            AvailabilityZone="us-east-1a", Size=1, TagSpecifications=ownership.specification("volume")
        )
        for ownership in (
            Ownership(run="r1", key="first/win/x", purpose="test"),
            Ownership(run="r2", key="first/lin/x", purpose="test"),
        )
    ]
    world = World(client)
    assert world.broom().sweep() == ()
    assert {volume.id for volume in world.ec2.owned(Volume)} == {each["VolumeId"] for each in ids}
    assert runs_left(world.ec2) == ("r1", "r2")


def test_a_failure_is_a_leftover_with_its_reason_and_the_rest_is_deleted(client: Any) -> None:
    world = World(client)
    world.fill()

    def refuse(**_: Any) -> None:
        raise RuntimeError("the API said no")

    client.meta.events.register("before-call.ec2.DeleteVolume", refuse)
    left = world.broom().sweep()
    assert [(each.kind, each.reason) for each in left] == [("volume", "the API said no")]
    assert world.ec2.owned(Snapshot, run="r1") == []
    assert all(item.state == "terminated" for item in world.ec2.owned(Instance, run="r1"))


def test_a_stopped_source_is_started_first_and_its_marks_are_taken_off(client: Any) -> None:
    source = client.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"][0][
        "InstanceId"
    ]
    client.stop_instances(InstanceIds=[source])
    mark = [{"Key": tag, "Value": "r1 first/lin/source"} for tag in (STOPPED_BY, CLAIMED_BY)]
    client.create_tags(Resources=[source], Tags=mark)
    world = World(client)
    world.fill()
    order: list[str] = []
    client.meta.events.register("before-call.ec2", lambda model, **_: order.append(model.name))
    assert world.broom().sweep() == ()
    assert order.index("StartInstances") < order.index("TerminateInstances")
    after = world.ec2.instance(source)
    assert after.state == "running"
    assert not {STOPPED_BY, CLAIMED_BY} & set(after.tags)


def test_the_source_of_another_run_is_left_alone(client: Any) -> None:
    source = client.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"][0][
        "InstanceId"
    ]
    client.stop_instances(InstanceIds=[source])
    client.create_tags(Resources=[source], Tags=[{"Key": STOPPED_BY, "Value": "r9 first/lin/source"}])
    world = World(client)
    assert world.broom().sweep() == ()
    assert world.ec2.instance(source).state == "stopped"
    assert runs_left(world.ec2) == ("r9",)


def test_a_repeated_call_finds_what_the_first_one_made(client: Any) -> None:
    world = World(client)
    world.fill()
    before = {each.id for each in world.created}
    again = World(client)
    again.fill()
    instances = [each.id for each in again.created if each.kind == "instance"]
    assert set(instances) <= before
    assert len(again.ec2.owned(Instance, run="r1")) == 1


def test_cleaning_twice_is_the_same_as_once(client: Any) -> None:
    world = World(client)
    world.fill()
    assert world.broom().sweep() == ()
    assert World(client).broom().sweep() == ()
