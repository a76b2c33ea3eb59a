"""ModifyVolume, and the status and attribute of volumes, by boto3."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from drtest.errors import EnvironmentFailedError
from drtest.lab import recovery
from drtest.lab.resources import Volume
from drtest.lab.sizes import GIB

from .conftest import Driver, Site, code_of, open_site, until


def _modification(drive: Driver, volume: str) -> Any:
    (found,) = drive.ec2.describe_volumes_modifications(VolumeIds=[volume])["VolumesModifications"]
    return found


def _done(drive: Driver, volume: str) -> None:
    until(lambda: _modification(drive, volume)["ModificationState"] == "completed")


def test_a_volume_grows_by_modifying_optimizing_and_completed(site: Site, drive: Driver) -> None:
    """API_ModifyVolume: "You can modify several parameters of an existing EBS volume, including volume size"; the disk
    below is as large as the API says from `optimizing` on."""
    volume = drive.new_volume(Size=1)
    answer = drive.ec2.modify_volume(VolumeId=volume, Size=3, VolumeType="gp3")["VolumeModification"]
    assert (answer["ModificationState"], answer["Progress"]) == ("modifying", 0)
    assert (answer["OriginalSize"], answer["TargetSize"]) == (1, 3)
    assert (answer["OriginalVolumeType"], answer["TargetVolumeType"]) == ("gp2", "gp3")
    assert (answer["TargetIops"], answer["TargetThroughput"]) == (3000, 125)
    assert drive.volume(volume)["Size"] == 1
    until(lambda: _modification(drive, volume)["ModificationState"] == "optimizing")
    assert drive.volume(volume)["Size"] == 3
    assert site.hardware.sizes[volume] == 3 * GIB
    _done(drive, volume)
    done = _modification(drive, volume)
    assert done["Progress"] == 100
    assert done["EndTime"] >= done["StartTime"]
    assert (drive.volume(volume)["VolumeType"], drive.volume(volume)["State"]) == ("gp3", "available")


def test_a_volume_grows_under_a_running_machine_and_under_a_stopped_one(site: Site, drive: Driver) -> None:
    instance = drive.run()
    root = drive.root(instance)
    drive.ec2.modify_volume(VolumeId=root, Size=4)
    _done(drive, root)
    drive.stop(instance)
    drive.ec2.modify_volume(VolumeId=root, Size=5)
    _done(drive, root)
    assert site.hardware.grown == [(root, instance), (root, None)]


def test_a_snapshot_keeps_the_size_that_its_volume_had(drive: Driver) -> None:
    """API_Snapshot, VolumeSize: "The size of the volume, in GiB": of the volume that it is a copy of, at its time."""
    volume = drive.new_volume(Size=1)
    before = drive.new_snapshot(volume)
    drive.ec2.modify_volume(VolumeId=volume, Size=2)
    _done(drive, volume)
    after = drive.new_snapshot(volume)
    assert [drive.snapshot(s)["VolumeSize"] for s in (before, after)] == [1, 2]


def test_modifications_wait_for_each_other_and_are_four_a_day(site: Site, drive: Driver) -> None:
    """API_ModifyVolume: "After you initiate a volume modification, you must wait for that modification to reach the
    completed state before you can initiate another modification for the same volume. You can modify a volume up to
    four times within a rolling 24-hour period"."""
    volume = drive.new_volume(Size=1)
    modify = drive.ec2.modify_volume
    modify(VolumeId=volume, Size=2)
    assert code_of(modify, VolumeId=volume, Size=3) == "IncorrectModificationState"
    for size in (3, 4, 5):
        _done(drive, volume)
        modify(VolumeId=volume, Size=size)
    _done(drive, volume)
    assert code_of(modify, VolumeId=volume, Size=6) == "VolumeModificationRateExceeded"
    with site.compute.books.open():
        found = site.compute.books.find(Volume, volume)
        assert found is not None
        assert found.modification is not None
        change = found.modification
        aged = replace(change, earlier=(change.earlier[0] - timedelta(days=1), *change.earlier[1:]))
        site.compute.books.put(replace(found, modification=aged))
    modify(VolumeId=volume, Size=6)


def test_what_can_not_be_modified_is_refused(drive: Driver) -> None:
    """API_ModifyVolume, Size: "The target volume size must be greater than or equal to the existing size"; Iops: "valid
    only for gp3, io1, and io2 volumes"; Throughput: "valid only for gp3 volumes"."""
    volume = drive.new_volume(Size=4)

    def refused(**params: object) -> str:
        return code_of(drive.ec2.modify_volume, VolumeId=volume, **params)

    assert refused(Size=3) == "InvalidParameterValue"
    assert refused(Size=20000) == "InvalidParameterValue"
    assert refused(Iops=5000) == "InvalidParameterValue"
    assert refused(Throughput=250) == "InvalidParameterValue"
    assert refused(VolumeType="tape") == "UnknownVolumeType"
    assert refused(VolumeType="st1") == "InvalidParameterValue"
    assert refused(Size=5, DryRun=True) == "DryRunOperation"
    assert refused(MultiAttachEnabled=True) == "UnsupportedOperation"
    shown = drive.ec2.describe_volumes_modifications
    assert shown()["VolumesModifications"] == []
    assert code_of(shown, VolumeIds=[volume]) == "InvalidVolumeModification.NotFound"


def test_a_disk_that_can_not_grow_ends_failed_and_says_why(site: Site, drive: Driver) -> None:
    """API_VolumeModification, StatusMessage: "A status message about the modification progress or failure."."""
    volume = drive.new_volume(Size=1)

    def full(*_: object, **__: object) -> None:
        raise EnvironmentFailedError("the disk is full")

    site.hardware.grow = full  # type: ignore[method-assign]
    drive.ec2.modify_volume(VolumeId=volume, Size=2)
    until(lambda: _modification(drive, volume)["ModificationState"] == "failed")
    assert "the disk is full" in _modification(drive, volume)["StatusMessage"]
    assert drive.volume(volume)["Size"] == 1


def test_modifications_are_found_by_their_state(drive: Driver) -> None:
    volume, _ = drive.new_volume(), drive.new_volume()
    drive.ec2.modify_volume(VolumeId=volume, Size=2)
    _done(drive, volume)

    def found(name: str, value: str) -> list[str]:
        answer = drive.ec2.describe_volumes_modifications(Filters=[{"Name": name, "Values": [value]}])
        return [change["VolumeId"] for change in answer["VolumesModifications"]]

    assert found("modification-state", "completed") == [volume] == found("target-size", "2")
    assert found("modification-state", "failed") == []


def test_a_modification_that_was_cut_off_goes_on_when_the_lab_comes_back(tmp_path: Path) -> None:
    with open_site(tmp_path) as site:
        drive = Driver(site, site.client())
        volume = drive.new_volume(Size=1)
        site.compute.work.stop()
        drive.ec2.modify_volume(VolumeId=volume, Size=2)
        account, hardware = site.account, site.hardware
    with open_site(tmp_path, account=account, hardware=hardware) as again:
        assert recovery.take_up(again.compute) == ()
        drive = Driver(again, again.client())
        _done(drive, volume)
        assert drive.volume(volume)["Size"] == 2


def test_the_status_of_a_volume_tells_its_attachment(drive: Driver) -> None:
    """API_DescribeVolumeStatus: "Describes the status of the specified volumes. Volume status provides the result of
    the checks performed on your volumes"."""
    instance = drive.run()
    root = drive.root(instance)
    (status,) = drive.ec2.describe_volume_status(VolumeIds=[root])["VolumeStatuses"]
    assert (status["VolumeStatus"]["Status"], status["Actions"], status["Events"]) == ("ok", [], [])
    assert [a["InstanceId"] for a in status["AttachmentStatuses"]] == [instance]
    ok = [{"Name": "volume-status.status", "Values": ["ok"]}]
    assert [s["VolumeId"] for s in drive.ec2.describe_volume_status(Filters=ok)["VolumeStatuses"]] == [root]


def test_the_attribute_of_a_volume_is_shown_and_changed(drive: Driver) -> None:
    """API_DescribeVolumeAttribute: "You can specify only one attribute at a time."."""
    volume = drive.new_volume()

    def shown() -> Any:
        answer = drive.ec2.describe_volume_attribute(VolumeId=volume, Attribute="autoEnableIO")
        return answer["AutoEnableIO"]["Value"]

    assert shown() is False
    drive.ec2.modify_volume_attribute(VolumeId=volume, AutoEnableIO={"Value": True})
    assert shown() is True
    assert code_of(drive.ec2.modify_volume_attribute, VolumeId=volume) == "MissingParameter"
