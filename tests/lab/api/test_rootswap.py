"""CreateReplaceRootVolumeTask, by boto3."""

from pathlib import Path
from typing import Any

from drtest.lab import recovery

from .conftest import Driver, Site, code_of, open_site, until
from .fake_hardware import FakeHardware


def _task(drive: Driver, task: str) -> Any:
    answer = drive.ec2.describe_replace_root_volume_tasks(ReplaceRootVolumeTaskIds=[task])
    return answer["ReplaceRootVolumeTasks"][0]


def _replace(drive: Driver, instance: str, *, wait: str = "succeeded", **params: Any) -> str:
    answer = drive.ec2.create_replace_root_volume_task(InstanceId=instance, **params)
    task = str(answer["ReplaceRootVolumeTask"]["ReplaceRootVolumeTaskId"])
    if wait:
        until(lambda: _task(drive, task)["TaskState"] == wait)
    return task


def test_the_root_of_a_running_instance_is_replaced_by_a_snapshot_of_it(site: Site, drive: Driver) -> None:
    """API_CreateReplaceRootVolumeTask: "Replaces the EBS-backed root volume for a running instance with a new volume
    that is […] restored to a specific snapshot taken from the original root volume"."""
    instance = drive.run()
    old, address = drive.root(instance), drive.instance(instance)["PublicIpAddress"]
    site.hardware.disks[old] = b"good"
    snapshot = drive.new_snapshot(old)
    site.hardware.disks[old] = b"broken"
    tags = [{"Key": "run", "Value": "r1"}]
    asked = drive.ec2.create_replace_root_volume_task(
        InstanceId=instance,
        SnapshotId=snapshot,
        TagSpecifications=[{"ResourceType": "replace-root-volume-task", "Tags": tags}],
    )["ReplaceRootVolumeTask"]
    assert (asked["TaskState"], asked["SnapshotId"], asked["Tags"]) == ("pending", snapshot, tags)
    assert "CompleteTime" not in asked
    seen: set[str] = set()

    def done() -> bool:
        seen.add(_task(drive, asked["ReplaceRootVolumeTaskId"])["TaskState"])
        return "succeeded" in seen

    until(done)
    assert seen >= {"in-progress", "succeeded"}
    new = drive.root(instance)
    assert new != old
    assert site.hardware.disks[new] == b"good"
    (disk,) = site.hardware.specs[-1].disks
    assert (disk.volume, disk.boot) == (new, True)
    assert drive.instance(instance)["PublicIpAddress"] == address
    assert drive.volume(new)["Attachments"][0]["DeleteOnTermination"] is True
    assert drive.volume(old)["State"] == "available"


def test_without_a_source_the_root_is_as_it_was_launched(site: Site, drive: Driver) -> None:
    """API_CreateReplaceRootVolumeTask: "restored to the original root volume's launch state"."""
    instance = drive.run()
    old = drive.root(instance)
    site.hardware.disks[old] = b"broken"
    _replace(drive, instance, DeleteReplacedRootVolume=True)
    assert site.hardware.disks[drive.root(instance)] == b"boot sector"
    until(lambda: old not in site.hardware.disks)
    assert code_of(drive.ec2.describe_volumes, VolumeIds=[old]) == "InvalidVolume.NotFound"


def test_a_volume_of_one_s_own_or_an_image_can_be_the_root(site: Site, drive: Driver) -> None:
    """API_CreateReplaceRootVolumeTask, VolumeId: "The specified volume must be in the same Availability Zone as the
    instance, must be in the available state"; ImageId: "The ID of the AMI to use to restore the root volume."."""
    instance = drive.run()
    snapshot = drive.new_snapshot(drive.root(instance))
    mine = drive.new_volume(SnapshotId=snapshot)
    _replace(drive, instance, VolumeId=mine)
    assert drive.root(instance) == mine
    _replace(drive, instance, ImageId=site.image)
    assert site.hardware.disks[drive.root(instance)] == b"boot sector"
    assert drive.volume(mine)["State"] == "available"
    elsewhere = drive.new_volume(SnapshotId=snapshot, AvailabilityZone="us-east-1b")
    create = drive.ec2.create_replace_root_volume_task
    assert code_of(create, InstanceId=instance, VolumeId=elsewhere) == "InvalidVolume.ZoneMismatch"
    assert (
        code_of(create, InstanceId=instance, VolumeId=mine, SnapshotId=snapshot)
        == "InvalidParameterCombination"
    )


def test_a_snapshot_of_another_server_is_refused(drive: Driver) -> None:
    """API_CreateReplaceRootVolumeTask, SnapshotId: "The specified snapshot must be a snapshot that you previously
    created from the original root volume."."""
    instance, other = drive.run(), drive.run()
    create = drive.ec2.create_replace_root_volume_task
    foreign = drive.new_snapshot(drive.root(other))
    assert code_of(create, InstanceId=instance, SnapshotId=foreign) == "InvalidParameterValue"
    first = drive.new_snapshot(drive.root(instance))
    _replace(drive, instance)
    # The original root's snapshot is still of its lineage after a replacement.
    _replace(drive, instance, SnapshotId=first)


def test_only_a_running_instance_s_root_is_replaced_and_once_at_a_time(drive: Driver) -> None:
    instance = drive.run()
    create = drive.ec2.create_replace_root_volume_task
    assert code_of(create, InstanceId=instance, DryRun=True) == "DryRunOperation"
    once = _replace(drive, instance, wait="", ClientToken="t")
    assert _replace(drive, instance, wait="", ClientToken="t") == once
    assert code_of(create, InstanceId=instance) == "IncorrectInstanceState"
    until(lambda: _task(drive, once)["TaskState"] == "succeeded")
    drive.stop(instance)
    assert code_of(create, InstanceId=instance) == "IncorrectInstanceState"
    found = drive.ec2.describe_replace_root_volume_tasks(
        Filters=[{"Name": "instance-id", "Values": [instance]}]
    )["ReplaceRootVolumeTasks"]
    assert [t["ReplaceRootVolumeTaskId"] for t in found] == [once]
    gone = "replacevol-0123456789abcdef0"
    shown = drive.ec2.describe_replace_root_volume_tasks
    assert code_of(shown, ReplaceRootVolumeTaskIds=[gone]) == "InvalidReplaceRootVolumeTaskId.NotFound"


def test_a_guest_that_ignores_the_power_button_gets_its_new_root_by_force(site: Site, drive: Driver) -> None:
    site.hardware.obeys = False
    instance = drive.run()
    old = drive.root(instance)
    _replace(drive, instance)
    assert drive.root(instance) != old


def test_an_instance_that_goes_away_meanwhile_leaves_a_failed_task_and_no_volume(
    site: Site, drive: Driver
) -> None:
    """API_ReplaceRootVolumeTask, TaskState: "failed - the replacement task has failed"."""
    instance = drive.run()
    site.hardware.obeys = False
    task = _replace(drive, instance, wait="in-progress")
    drive.ec2.terminate_instances(InstanceIds=[instance])
    until(lambda: _task(drive, task)["TaskState"] == "failed")
    until(lambda: drive.ec2.describe_volumes()["Volumes"] == [])


def test_a_task_that_was_cut_off_is_settled_when_the_lab_comes_back(tmp_path: Path) -> None:
    hardware = FakeHardware(tmp_path)
    with open_site(tmp_path, hardware=hardware) as site:
        drive = Driver(site, site.client())
        instance = drive.run()
        old = drive.root(instance)
        site.hardware.obeys = False
        task = _replace(drive, instance, wait="in-progress")
        site.compute.work.stop()
        account = site.account
    hardware.obeys = True
    with open_site(tmp_path, account=account, hardware=hardware) as again:
        recovery.take_up(again.compute)
        drive = Driver(again, again.client())
        assert _task(drive, task)["TaskState"] == "failed"
        until(lambda: drive.state(instance) == "running")
        assert drive.root(instance) == old
        until(lambda: len(drive.ec2.describe_volumes()["Volumes"]) == 1)
        until(lambda: len(hardware.specs) == 2)
        hardware.stop()
