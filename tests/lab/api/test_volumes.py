"""Volumes and their attachments, by boto3."""

from dataclasses import replace
from pathlib import Path

from drtest.errors import EnvironmentFailedError

from .conftest import QUICK, ZONE, Driver, Site, code_of, open_site, until


def test_a_new_volume_is_creating_first(drive: Driver) -> None:
    """API_CreateVolume's answer has the state `creating`."""
    answer = drive.ec2.create_volume(AvailabilityZone=ZONE, Size=1, VolumeType="gp3")
    assert (answer["State"], answer["Size"], answer["VolumeType"]) == ("creating", 1, "gp3")
    until(lambda: drive.volume(answer["VolumeId"])["State"] == "available")


def test_the_default_type_is_gp2(drive: Driver) -> None:
    """API_CreateVolume, VolumeType: "Default: gp2"."""
    assert drive.volume(drive.new_volume())["VolumeType"] == "gp2"


def test_a_volume_from_a_snapshot_has_its_bytes_and_at_least_its_size(site: Site, drive: Driver) -> None:
    """API_CreateVolume, Size: "You can specify a volume size that is equal to or larger than the snapshot size"."""
    first = drive.new_volume(Size=3)
    site.hardware.disks[first] = b"written"
    snapshot = drive.new_snapshot(first)
    second = drive.new_volume(SnapshotId=snapshot)
    larger = drive.new_volume(SnapshotId=snapshot, Size=4)
    assert site.hardware.disks[second] == b"written"
    assert (drive.volume(second)["Size"], drive.volume(larger)["Size"]) == (3, 4)
    assert drive.volume(second)["SnapshotId"] == snapshot
    make = drive.ec2.create_volume
    assert code_of(make, AvailabilityZone=ZONE, SnapshotId=snapshot, Size=2) == "InvalidParameterValue"


def test_a_pending_snapshot_makes_no_volume(drive: Driver) -> None:
    """https://docs.aws.amazon.com/ebs/latest/userguide/ebs-creating-volume.html: from a completed snapshot."""
    snapshot = drive.new_snapshot(drive.new_volume(), wait="")
    assert code_of(drive.ec2.create_volume, AvailabilityZone=ZONE, SnapshotId=snapshot) == "IncorrectState"


def test_what_can_not_be_made_is_refused(site: Site, drive: Driver) -> None:
    make = drive.ec2.create_volume
    assert code_of(make, AvailabilityZone="us-east-1q", Size=1) == "InvalidZone.NotFound"
    assert code_of(make, AvailabilityZone=ZONE) == "MissingParameter"
    assert code_of(make, Size=1) == "MissingParameter"
    assert code_of(make, AvailabilityZone=ZONE, Size=0) == "InvalidParameterValue"
    assert code_of(make, AvailabilityZone=ZONE, Size=20000) == "InvalidParameterValue"
    assert code_of(make, AvailabilityZone=ZONE, Size=1, VolumeType="st1") == "InvalidParameterValue"
    assert code_of(make, AvailabilityZone=ZONE, Size=4, VolumeType="io1") == "MissingParameter"
    assert code_of(make, AvailabilityZone=ZONE, Size=4, VolumeType="tape") == "UnknownVolumeType"
    assert (
        code_of(make, AvailabilityZone=ZONE, SnapshotId="snap-0123456789abcdef0")
        == "InvalidSnapshot.NotFound"
    )
    assert code_of(make, AvailabilityZone=ZONE, SnapshotId="snap-xyz") == "InvalidSnapshotID.Malformed"
    assert code_of(make, AvailabilityZone=ZONE, Size=1, KmsKeyId="k") == "InvalidParameterDependency"
    assert code_of(make, AvailabilityZone=ZONE, Size=1, DryRun=True) == "DryRunOperation"
    site.hardware.capacity = 0
    assert code_of(make, AvailabilityZone=ZONE, Size=1) == "InsufficientVolumeCapacity"
    assert drive.ec2.describe_volumes()["Volumes"] == []


def test_a_zone_can_be_given_by_its_id(drive: Driver) -> None:
    zones = drive.ec2.describe_availability_zones()["AvailabilityZones"]
    zone = next(z for z in zones if z["ZoneName"] == ZONE)
    made = drive.ec2.create_volume(AvailabilityZoneId=zone["ZoneId"], Size=1)
    assert made["AvailabilityZone"] == ZONE


def test_a_client_token_makes_one_volume(drive: Driver) -> None:
    once = {"AvailabilityZone": ZONE, "Size": 1, "ClientToken": "t"}
    assert drive.ec2.create_volume(**once)["VolumeId"] == drive.ec2.create_volume(**once)["VolumeId"]
    assert code_of(drive.ec2.create_volume, **{**once, "Size": 2}) == "IdempotentParameterMismatch"


def test_a_deleted_volume_is_gone_and_its_disk_too(site: Site, drive: Driver) -> None:
    volume = drive.new_volume()
    drive.ec2.delete_volume(VolumeId=volume)
    until(lambda: drive.ec2.describe_volumes()["Volumes"] == [])
    assert code_of(drive.ec2.describe_volumes, VolumeIds=[volume]) == "InvalidVolume.NotFound"
    assert volume not in site.hardware.disks


def test_ids_that_are_none_have_their_own_codes(drive: Driver) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html"""
    describe = drive.ec2.describe_volumes
    assert code_of(describe, VolumeIds=["vol-0123456789abcdef0"]) == "InvalidVolume.NotFound"
    assert code_of(describe, VolumeIds=["vol-xyz"]) == "InvalidVolumeID.Malformed"
    assert code_of(describe, VolumeIds=["standard"]) == "InvalidParameterValue"


def test_hot_plug_goes_by_attaching_to_attached(site: Site, drive: Driver) -> None:
    instance, volume = drive.run(), drive.new_volume()
    answer = drive.ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
    assert (answer["State"], answer["Device"]) == ("attaching", "/dev/sdf")
    until(lambda: drive.volume(volume)["Attachments"][0]["State"] == "attached")
    assert volume in site.hardware.plugged(instance)
    assert drive.volume(volume)["State"] == "in-use"
    assert drive.volume(volume)["Attachments"][0]["DeleteOnTermination"] is False
    gone = drive.ec2.detach_volume(VolumeId=volume)
    assert gone["State"] == "detaching"
    until(lambda: drive.volume(volume)["State"] == "available")
    assert volume not in site.hardware.plugged(instance)


def test_a_volume_is_attached_once(drive: Driver) -> None:
    """Errors: "VolumeInUse: The specified Amazon EBS volume is attached to an instance."."""
    first, second, volume = drive.run(), drive.run(), drive.new_volume()
    drive.ec2.attach_volume(VolumeId=volume, InstanceId=first, Device="/dev/sdf")
    attach = drive.ec2.attach_volume
    assert code_of(attach, VolumeId=volume, InstanceId=second, Device="/dev/sdf") == "VolumeInUse"
    assert code_of(drive.ec2.delete_volume, VolumeId=volume) == "VolumeInUse"


def test_a_device_holds_one_volume_whatever_it_is_called(drive: Driver) -> None:
    instance, first, second = drive.run(), drive.new_volume(), drive.new_volume()
    drive.ec2.attach_volume(VolumeId=first, InstanceId=instance, Device="/dev/sdf")
    for device in ("/dev/sdf", "/dev/xvdf", "sdf", "/dev/xvda"):
        refused = code_of(drive.ec2.attach_volume, VolumeId=second, InstanceId=instance, Device=device)
        assert refused == "InvalidParameterValue"
    assert drive.volume(second)["State"] == "available"


def test_a_volume_that_is_still_being_created_is_not_attached(tmp_path: Path) -> None:
    with open_site(tmp_path, timings=replace(QUICK, volume=3600.0)) as site:
        drive = Driver(site, site.client())
        there = {"VolumeId": drive.new_volume(wait=""), "InstanceId": drive.run()}
        assert code_of(drive.ec2.attach_volume, **there, Device="/dev/sdf") == "IncorrectState"


def test_attaching_what_can_not_be_attached_is_refused(site: Site, drive: Driver) -> None:
    instance, volume = drive.run(), drive.new_volume()
    there = {"VolumeId": volume, "InstanceId": instance}
    attach = drive.ec2.attach_volume
    assert code_of(attach, **there, Device="/dev/../etc") == "InvalidParameterValue"
    elsewhere = drive.new_volume(AvailabilityZone="us-east-1b")
    assert (
        code_of(attach, VolumeId=elsewhere, InstanceId=instance, Device="/dev/sdf")
        == "InvalidVolume.ZoneMismatch"
    )
    assert code_of(attach, **there, Device="/dev/sdf", DryRun=True) == "DryRunOperation"
    site.hardware.obeys = False
    drive.ec2.stop_instances(InstanceIds=[instance])
    assert code_of(attach, **there, Device="/dev/sdf") == "IncorrectState"
    drive.ec2.terminate_instances(InstanceIds=[instance])
    drive.reach(instance, "terminated")
    assert code_of(attach, **there, Device="/dev/sdf") == "IncorrectState"


def test_the_root_of_a_running_instance_stays(drive: Driver) -> None:
    """API_DetachVolume: "If an EBS volume is the root device of an instance, it can't be detached while the
    instance is running."."""
    instance = drive.run()
    root = drive.root(instance)
    assert code_of(drive.ec2.detach_volume, VolumeId=root) == "OperationNotPermitted"
    assert code_of(drive.ec2.detach_volume, VolumeId=root, Force=True) == "OperationNotPermitted"
    drive.stop(instance)
    drive.ec2.detach_volume(VolumeId=root)
    until(lambda: drive.volume(root)["State"] == "available")


def test_the_root_can_be_swapped_while_the_instance_is_stopped(site: Site, drive: Driver) -> None:
    instance = drive.run()
    old = drive.root(instance)
    site.hardware.disks[old] = b"restored"
    new = drive.new_volume(SnapshotId=drive.new_snapshot(old))
    drive.stop(instance)
    drive.ec2.detach_volume(VolumeId=old)
    until(lambda: drive.volume(old)["State"] == "available")
    assert code_of(drive.ec2.start_instances, InstanceIds=[instance]) == "InvalidParameterValue"
    drive.ec2.attach_volume(VolumeId=new, InstanceId=instance, Device="/dev/xvda")
    until(lambda: drive.volume(new)["Attachments"][0]["State"] == "attached")
    drive.ec2.start_instances(InstanceIds=[instance])
    drive.reach(instance, "running")
    (disk,) = site.hardware.specs[-1].disks
    assert (disk.volume, disk.boot) == (new, True)


def test_detaching_says_what_is_not_so(drive: Driver) -> None:
    instance, other, volume = drive.run(), drive.run(), drive.new_volume()
    assert code_of(drive.ec2.detach_volume, VolumeId=volume) == "IncorrectState"
    drive.ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
    until(lambda: drive.volume(volume)["Attachments"][0]["State"] == "attached")
    wrong = {"VolumeId": volume, "InstanceId": other}
    assert code_of(drive.ec2.detach_volume, **wrong) == "InvalidAttachment.NotFound"
    assert (
        code_of(drive.ec2.detach_volume, VolumeId=volume, Device="/dev/sdg") == "InvalidAttachment.NotFound"
    )


def test_a_guest_that_does_not_let_go_leaves_the_volume_busy(site: Site, drive: Driver) -> None:
    """API_DetachVolume: "the volume becoming stuck in the busy state while detaching"."""
    instance, volume = drive.run(), drive.new_volume()
    drive.ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
    until(lambda: drive.volume(volume)["Attachments"][0]["State"] == "attached")
    site.hardware.lets_go = False
    drive.ec2.detach_volume(VolumeId=volume)
    until(lambda: drive.volume(volume)["Attachments"][0]["State"] == "busy")
    drive.stop(instance)
    assert drive.volume(volume)["State"] == "available"


def test_volumes_of_a_stopped_instance_are_there_when_it_starts(site: Site, drive: Driver) -> None:
    instance, volume = drive.run(), drive.new_volume()
    drive.stop(instance)
    drive.ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
    drive.ec2.start_instances(InstanceIds=[instance])
    drive.reach(instance, "running")
    assert {disk.volume for disk in site.hardware.specs[-1].disks} == {drive.root(instance), volume}
    assert drive.volume(volume)["Attachments"][0]["State"] == "attached"


def test_the_status_of_volumes_is_told(drive: Driver) -> None:
    """API_DescribeVolumeStatus"""
    volume = drive.new_volume()
    (status,) = drive.ec2.describe_volume_status(VolumeIds=[volume])["VolumeStatuses"]
    assert status["VolumeStatus"] == {"Status": "ok", "Details": [{"Name": "io-enabled", "Status": "passed"}]}
    impaired = [{"Name": "volume-status.status", "Values": ["impaired"]}]
    assert drive.ec2.describe_volume_status(Filters=impaired)["VolumeStatuses"] == []


def test_a_disk_that_can_not_be_made_leaves_a_volume_in_error(site: Site, drive: Driver) -> None:
    volume = drive.new_volume()
    snapshot = drive.new_snapshot(volume)

    def full(*_: object, **__: object) -> None:
        raise EnvironmentFailedError("the disk is full")

    site.hardware.overlay = full  # type: ignore[method-assign]
    failed = drive.new_volume(SnapshotId=snapshot, wait="error")
    drive.ec2.delete_volume(VolumeId=failed)
