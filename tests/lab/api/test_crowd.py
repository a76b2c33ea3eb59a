"""Many clients at once lose nothing, and many machines at once are not taken for broken ones."""

import random
import threading
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from drtest.errors import DeadlineError
from drtest.lab.pace import Pace

from .conftest import QUICK, ZONE, Driver, Site, until

CLIENTS = 16
CALLS = 40


class Client:
    """Makes mixed calls, and keeps its own accounts of what it made and deleted."""

    def __init__(self, site: Site, number: int) -> None:
        self.ec2: Any = site.client()
        self._chance = random.Random(number)
        self._name = f"client-{number}"
        self.volumes: dict[str, dict[str, str]] = {}
        self.snapshots: dict[str, str] = {}
        self.calls = 0
        self.failure: BaseException | None = None

    def run(self, image: str) -> None:
        try:
            for number in range(CALLS):
                self._one(number)
            answer = self.ec2.run_instances(
                ImageId=image,
                InstanceType="t3.micro",
                MinCount=2,
                MaxCount=2,
                ClientToken=self._name,
                TagSpecifications=self._tags("instance"),
            )
            self.instances = {one["InstanceId"] for one in answer["Instances"]}
        except BaseException as error:
            # The test's own thread tells it.
            self.failure = error

    def _tags(self, kind: str) -> list[dict[str, Any]]:
        return [{"ResourceType": kind, "Tags": [{"Key": "by", "Value": self._name}]}]

    def _one(self, number: int) -> None:
        what = self._chance.choice(["make", "make", "tag", "snapshot", "delete", "look", "unmake"])
        self.calls += 1
        if what == "make" or not self.volumes:
            made = self.ec2.create_volume(
                AvailabilityZone=ZONE, Size=1, TagSpecifications=self._tags("volume")
            )
            self.volumes[made["VolumeId"]] = {"by": self._name}
            return
        key = self._chance.choice(sorted(self.volumes))
        if what == "tag":
            self.ec2.create_tags(Resources=[key], Tags=[{"Key": f"n{number}", "Value": "x"}])
            self.volumes[key][f"n{number}"] = "x"
        elif what == "snapshot":
            self._when_available(key)
            made = self.ec2.create_snapshot(VolumeId=key, TagSpecifications=self._tags("snapshot"))
            self.snapshots[made["SnapshotId"]] = key
        elif what == "delete":
            self._when_available(key)
            self.ec2.delete_volume(VolumeId=key)
            del self.volumes[key]
        elif what == "unmake" and self.snapshots:
            snapshot = self._chance.choice(sorted(self.snapshots))
            self.ec2.delete_snapshot(SnapshotId=snapshot)
            del self.snapshots[snapshot]
        else:
            wanted = [{"Name": "tag:by", "Values": [self._name]}]
            found = self.ec2.describe_volumes(Filters=wanted)["Volumes"]
            alive = {v["VolumeId"] for v in found if v["State"] != "deleting"}
            assert alive == set(self.volumes)

    def _when_available(self, key: str) -> None:
        def available() -> bool:
            return bool(self.ec2.describe_volumes(VolumeIds=[key])["Volumes"][0]["State"] == "available")

        until(available)


def test_sixteen_clients_at_once_lose_nothing(drive: Driver) -> None:
    site = drive.site
    clients = [Client(site, number) for number in range(CLIENTS)]
    threads = [threading.Thread(target=client.run, args=[site.image]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [client.failure for client in clients] == [None] * CLIENTS

    made = {key: tags for client in clients for key, tags in client.volumes.items()}
    until(lambda: _volumes(drive) == made)
    snapshots = {key: volume for client in clients for key, volume in client.snapshots.items()}
    found = drive.ec2.describe_snapshots(Filters=[{"Name": "tag-key", "Values": ["by"]}])["Snapshots"]
    assert {s["SnapshotId"]: s["VolumeId"] for s in found} == snapshots
    instances = {key for client in clients for key in client.instances}
    assert len(instances) == 2 * CLIENTS
    for key in instances:
        drive.reach(key, "running")

    # Machines and disks agree with the books: one each, no address twice.
    hardware = site.hardware
    assert set(hardware.machines) == instances
    addresses = [machine.spec.address for machine in hardware.machines.values()]
    assert len(set(addresses)) == len(addresses)
    roots = {drive.root(key) for key in instances}
    until(lambda: set(hardware.disks) == set(made) | roots)

    # And nothing is lost when the books are read again from their file.
    drive.ec2.terminate_instances(InstanceIds=sorted(instances))
    for key in instances:
        drive.reach(key, "terminated")
    until(lambda: set(hardware.disks) == set(made))
    assert hardware.machines == {}


def _volumes(drive: Driver) -> dict[str, dict[str, str]]:
    found = drive.ec2.describe_volumes(Filters=[{"Name": "tag-key", "Values": ["by"]}])["Volumes"]
    return {v["VolumeId"]: {tag["Key"]: tag["Value"] for tag in v["Tags"]} for v in found}


def test_two_who_attach_one_volume_at_once_are_one_and_a_refusal(drive: Driver) -> None:
    first, second, volume = drive.run(), drive.run(), drive.new_volume()
    codes: list[str] = []

    def attach(instance: str) -> None:
        try:
            drive.site.client().attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
            codes.append("")
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=attach, args=[key]) for key in (first, second) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [""] + ["VolumeInUse"] * 7


def test_a_deadline_is_what_it_is_while_guests_are_quick() -> None:
    assert Pace(fastest=8.0, cores=2).stretch(120, boots=10, crowd=1) == 120


def test_a_deadline_stretches_with_a_slow_machine_and_with_a_crowd() -> None:
    assert Pace(fastest=60.0, cores=2).stretch(120, boots=10, crowd=1) == 600
    assert Pace(fastest=12.0, cores=2).stretch(120, boots=10, crowd=8) == 480
    assert Pace(cores=2).stretch(120, boots=10, crowd=8) == 480


def test_the_fastest_boot_counts(drive: Driver) -> None:
    pace = Pace()
    assert [pace.note(seconds) for seconds in (30.0, 12.0, 50.0)] == [True, True, False]
    assert pace.fastest == 12.0
    # Four times the processors' share: alone it would have taken 10 s.
    assert Pace(cores=2).note(40.0, crowd=8)
    crowded = Pace(fastest=12.0, cores=2)
    assert crowded.note(40.0, crowd=8)
    assert crowded.fastest == 10.0
    instance = drive.run()
    status = drive.ec2.describe_instance_status
    until(lambda: status(InstanceIds=[instance])["InstanceStatuses"][0]["InstanceStatus"]["Status"] == "ok")
    measured = drive.site.compute.pace.fastest
    assert measured is not None
    kept = drive.site.compute.books.fact("boot-seconds")
    assert kept is not None
    assert float(kept) == pytest.approx(measured)


def test_a_slow_machine_is_given_the_time_that_its_boots_take(drive: Driver) -> None:
    # Its fastest boot took 30 s: after 0.4 s of silence, the least, it is not impaired yet.
    drive.site.compute.pace.fastest = 30.0
    drive.site.hardware.greets = False
    instance = drive.run()
    assert drive.site.compute.stretched(0.4, boots=20) >= 600
    found = drive.ec2.describe_instance_status(InstanceIds=[instance])["InstanceStatuses"][0]
    assert found["InstanceStatus"]["Status"] == "initializing"


def test_a_busy_disk_is_waited_for_as_long_as_boots_take_here(drive: Driver) -> None:
    lab = replace(drive.site.compute, timings=replace(QUICK, lanes=0.05))
    answers: list[str] = []

    def take() -> threading.Thread:
        def run() -> None:
            try:
                with lab.lanes("vol-1"):
                    answers.append("got it")
            except DeadlineError:
                answers.append("gave up")

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    with lab.work.lanes("vol-1"):
        take().join()
        lab.pace.fastest = 30.0
        waiting = take()
        waiting.join(0.2)  # it would have given up by now
    waiting.join()
    assert answers == ["gave up", "got it"]
