"""Snapshots, by boto3."""

import threading
from datetime import UTC, datetime, timedelta

from drtest.errors import EnvironmentFailedError

from .conftest import ZONE, Driver, Site, code_of, until


def test_a_snapshot_is_pending_with_progress_and_completes_later(site: Site, drive: Driver) -> None:
    """API_CreateSnapshot: "While it is completing, … the snapshot has a status of pending"."""
    volume = drive.new_volume(Size=3)
    before = datetime.now(UTC)
    answer = drive.ec2.create_snapshot(VolumeId=volume, Description="d")
    assert (answer["State"], answer["Progress"], answer["VolumeSize"]) == ("pending", "0%", 3)
    assert abs(answer["StartTime"] - before) < timedelta(seconds=5)
    until(lambda: drive.snapshot(answer["SnapshotId"])["State"] == "completed")
    done = drive.snapshot(answer["SnapshotId"])
    assert (done["Progress"], done["VolumeId"], done["Description"]) == ("100%", volume, "d")
    assert done["OwnerId"] == site.account
    assert done["CompletionTime"] >= done["StartTime"]


def test_what_is_written_after_the_call_is_not_in_the_snapshot(site: Site, drive: Driver) -> None:
    """API_CreateSnapshot: "the snapshot only captures data … at the time the command is issued"; still `pending`
    then."""
    volume = drive.new_volume()
    site.hardware.disks[volume] = b"before"
    snapshot = drive.new_snapshot(volume, wait="")
    site.hardware.disks[volume] = b"after"
    until(lambda: drive.snapshot(snapshot)["State"] == "completed")
    assert site.hardware.disks[drive.new_volume(SnapshotId=snapshot)] == b"before"


def test_a_running_machine_is_frozen_live_and_a_stopped_one_as_it_lies(site: Site, drive: Driver) -> None:
    instance = drive.run()
    root = drive.root(instance)
    drive.new_snapshot(root)
    drive.stop(instance)
    drive.new_snapshot(root)
    assert site.hardware.freezes == [(frozenset({root}), instance), (frozenset({root}), None)]


def test_a_snapshot_in_the_moment_of_the_machine_s_end_is_taken_of_the_disk_at_rest(
    site: Site, drive: Driver
) -> None:
    instance = drive.run()
    root = drive.root(instance)
    freeze = site.hardware.freeze

    def ends_first(volumes: list[str], *, instance: str | None) -> dict[str, str]:
        if instance is not None:
            site.hardware.end(instance)
        return freeze(volumes, instance=instance)

    site.hardware.freeze = ends_first  # type: ignore[method-assign,assignment]
    drive.new_snapshot(root)
    assert site.hardware.freezes[-1] == (frozenset({root}), None)


def test_the_size_of_a_snapshot_is_fixed_at_its_creation(drive: Driver) -> None:
    """API_Snapshot, VolumeSize: "The size of the volume" that it was taken of: later volumes do not change it."""
    snapshot = drive.new_snapshot(drive.new_volume(Size=2))
    drive.new_volume(SnapshotId=snapshot, Size=7)
    assert drive.snapshot(snapshot)["VolumeSize"] == 2


def test_tags_and_an_unknown_volume(drive: Driver) -> None:
    tags = [{"Key": "a", "Value": "b"}]
    snapshot = drive.new_snapshot(
        drive.new_volume(), TagSpecifications=[{"ResourceType": "snapshot", "Tags": tags}]
    )
    assert drive.snapshot(snapshot)["Tags"] == tags
    take = drive.ec2.create_snapshot
    assert code_of(take, VolumeId="vol-0123456789abcdef0") == "InvalidVolume.NotFound"
    assert code_of(take, VolumeId=drive.new_volume(wait="")) == "IncorrectState"
    wrong = [{"ResourceType": "volume", "Tags": tags}]
    assert code_of(take, VolumeId=drive.new_volume(), TagSpecifications=wrong) == "InvalidParameterValue"


def test_a_dry_run_takes_no_snapshot(site: Site, drive: Driver) -> None:
    volume = drive.new_volume()
    assert code_of(drive.ec2.create_snapshot, VolumeId=volume, DryRun=True) == "DryRunOperation"
    assert site.hardware.freezes == []
    assert code_of(drive.ec2.describe_snapshots, DryRun=True) == "DryRunOperation"


def test_five_snapshots_of_a_volume_may_be_pending(site: Site, drive: Driver) -> None:
    """https://docs.aws.amazon.com/ebs/latest/userguide/ebs-creating-snapshot.html: ConcurrentSnapshotLimitExceeded."""
    volume = drive.new_volume()
    site.compute.work.stop()
    for _ in range(5):
        drive.new_snapshot(volume, wait="")
    assert code_of(drive.ec2.create_snapshot, VolumeId=volume) == "ConcurrentSnapshotLimitExceeded"


def _with_data(drive: Driver) -> tuple[str, str, str, str]:
    instance = drive.run(
        BlockDeviceMappings=[
            {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}},
            {"DeviceName": "/dev/sdg", "Ebs": {"VolumeSize": 1}},
        ]
    )
    at = {m["DeviceName"]: m["Ebs"]["VolumeId"] for m in drive.instance(instance)["BlockDeviceMappings"]}
    return instance, at["/dev/xvda"], at["/dev/sdf"], at["/dev/sdg"]


def test_the_volumes_of_an_instance_are_frozen_in_one_moment(site: Site, drive: Driver) -> None:
    """API_CreateSnapshots: "Each volume attached … will produce one snapshot that is crash-consistent across the
    instance"."""
    instance, *volumes = _with_data(drive)
    answer = drive.ec2.create_snapshots(InstanceSpecification={"InstanceId": instance}, Description="set")
    assert {s["VolumeId"] for s in answer["Snapshots"]} == set(volumes)
    assert len({s["StartTime"] for s in answer["Snapshots"]}) == 1
    assert {s["State"] for s in answer["Snapshots"]} == {"pending"}
    assert site.hardware.freezes == [(frozenset(volumes), instance)]


def test_root_and_data_volumes_can_be_left_out(drive: Driver) -> None:
    instance, root, first, second = _with_data(drive)

    def taken(**choice: object) -> set[str]:
        spec = {"InstanceId": instance, **choice}
        return {s["VolumeId"] for s in drive.ec2.create_snapshots(InstanceSpecification=spec)["Snapshots"]}

    assert taken(ExcludeBootVolume=True) == {first, second}
    assert taken(ExcludeDataVolumeIds=[first]) == {root, second}

    def refused(**choice: object) -> str:
        return code_of(drive.ec2.create_snapshots, InstanceSpecification={"InstanceId": instance, **choice})

    # "If you specify the ID of the root volume, the request fails."
    assert refused(ExcludeDataVolumeIds=[root]) == "InvalidParameterValue"
    assert refused(ExcludeDataVolumeIds=["vol-0123456789abcdef0"]) == "InvalidParameterValue"


def test_tags_are_copied_from_the_volumes(drive: Driver) -> None:
    """API_CreateSnapshots, CopyTagsFromSource: "Copies the tags from the specified volume to corresponding
    snapshot"."""
    instance, root, first, _ = _with_data(drive)
    drive.ec2.create_tags(Resources=[first], Tags=[{"Key": "role", "Value": "data"}])
    answer = drive.ec2.create_snapshots(
        InstanceSpecification={"InstanceId": instance},
        CopyTagsFromSource="volume",
        TagSpecifications=[{"ResourceType": "snapshot", "Tags": [{"Key": "run", "Value": "1"}]}],
    )
    tags = {s["VolumeId"]: {t["Key"]: t["Value"] for t in s["Tags"]} for s in answer["Snapshots"]}
    assert tags[first] == {"role": "data", "run": "1"}
    assert tags[root] == {"run": "1"}


def test_snapshots_are_all_taken_or_none(site: Site, drive: Driver) -> None:
    instance, *_ = _with_data(drive)

    def full(*_: object, **__: object) -> dict[str, str]:
        raise EnvironmentFailedError("there is no room for the new layers")

    site.hardware.freeze = full  # type: ignore[method-assign]
    assert (
        code_of(drive.ec2.create_snapshots, InstanceSpecification={"InstanceId": instance}) == "InternalError"
    )
    assert (
        drive.ec2.describe_snapshots(OwnerIds=["self"], Filters=[{"Name": "status", "Values": ["pending"]}])[
            "Snapshots"
        ]
        == []
    )


def test_a_deleted_snapshot_leaves_the_volumes_made_from_it(site: Site, drive: Driver) -> None:
    """API_DeleteSnapshot: "When you delete a snapshot, only the data not needed for any other snapshot is removed"."""
    volume = drive.new_volume()
    site.hardware.disks[volume] = b"bytes"
    snapshot = drive.new_snapshot(volume)
    made = drive.new_volume(SnapshotId=snapshot, wait="")
    drive.ec2.delete_snapshot(SnapshotId=snapshot)
    until(lambda: drive.volume(made)["State"] == "available")
    assert site.hardware.disks[made] == b"bytes"
    assert code_of(drive.ec2.delete_snapshot, SnapshotId=snapshot) == "InvalidSnapshot.NotFound"
    until(lambda: list(site.hardware.layer_bytes) == ["stock"])


def test_a_snapshot_of_an_image_is_in_use(drive: Driver) -> None:
    """API_DeleteSnapshot: "You cannot delete a snapshot of the root device of an EBS volume used by a registered
    AMI"."""
    snapshot = drive.new_snapshot(drive.root(drive.run()))
    image = drive.ec2.register_image(
        Name="mine",
        Architecture="x86_64",
        VirtualizationType="hvm",
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
    )["ImageId"]
    assert code_of(drive.ec2.delete_snapshot, SnapshotId=snapshot) == "InvalidSnapshot.InUse"
    drive.ec2.deregister_image(ImageId=image)
    drive.ec2.delete_snapshot(SnapshotId=snapshot)


def test_owners_and_restorable_by_choose(site: Site, drive: Driver) -> None:
    """API_DescribeSnapshots, OwnerIds: "a combination of AWS account IDs, self, and amazon"."""
    snapshot = drive.new_snapshot(drive.new_volume())

    def found(**choice: object) -> set[str]:
        return {s["SnapshotId"] for s in drive.ec2.describe_snapshots(**choice)["Snapshots"]}

    assert snapshot in found(OwnerIds=["self"]) & found(OwnerIds=[site.account]) & found(
        RestorableByUserIds=["self"]
    )
    assert found(OwnerIds=["amazon"]) == set() == found(OwnerIds=["123456789012"])
    assert found(RestorableByUserIds=["all"]) == set()
    drive.ec2.modify_snapshot_attribute(
        SnapshotId=snapshot,
        Attribute="createVolumePermission",
        CreateVolumePermission={"Add": [{"Group": "all"}, {"UserId": "123456789012"}]},
    )
    assert found(RestorableByUserIds=["all"]) == {snapshot} == found(RestorableByUserIds=["123456789012"])
    shown = drive.ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
    assert shown["CreateVolumePermissions"] == [{"Group": "all"}, {"UserId": "123456789012"}]


def test_sixteen_clients_at_once_lose_nothing(site: Site, drive: Driver) -> None:
    volumes = [drive.new_volume(wait="") for _ in range(16)]
    until(lambda: {drive.volume(v)["State"] for v in volumes} == {"available"})
    made: list[str] = []

    def client(volume: str) -> None:
        ec2 = site.client()
        for _ in range(5):
            made.append(ec2.create_snapshot(VolumeId=volume)["SnapshotId"])
            ec2.create_volume(AvailabilityZone=ZONE, Size=1)
            ec2.create_tags(Resources=[volume], Tags=[{"Key": "k", "Value": "v"}])

    threads = [threading.Thread(target=client, args=(volume,)) for volume in volumes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shown = {s["SnapshotId"] for s in drive.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}
    assert len(made) == 80
    assert set(made) <= shown
    assert len(drive.ec2.describe_volumes()["Volumes"]) == 16 + 80
