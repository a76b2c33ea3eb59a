"""Images, by boto3."""

import re

import pytest

from .conftest import REGION, Driver, Site, code_of, until


def _register(drive: Driver, snapshot: str, name: str = "mine", **params: object) -> str:
    given = {
        "Name": name,
        "Architecture": "x86_64",
        "VirtualizationType": "hvm",
        "RootDeviceName": "/dev/sda1",
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot}}],
        **params,
    }
    return str(drive.ec2.register_image(**given)["ImageId"])


def _root_snapshot(drive: Driver) -> str:
    return drive.new_snapshot(drive.root(drive.run()))


def test_an_image_of_a_snapshot_launches_with_its_bytes(site: Site, drive: Driver) -> None:
    """API_RegisterImage keeps the mapping and the root device name that it was given."""
    instance = drive.run()
    site.hardware.disks[drive.root(instance)] = b"restored"
    snapshot = drive.new_snapshot(drive.root(instance))
    image = _register(
        drive, snapshot, TagSpecifications=[{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "b"}]}]
    )
    shown = drive.ec2.describe_images(ImageIds=[image])["Images"][0]
    assert shown["RootDeviceName"] == "/dev/sda1"
    assert shown["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"] == snapshot
    assert shown["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 2
    assert shown["PlatformDetails"] == "Linux/UNIX"
    assert shown["Tags"] == [{"Key": "a", "Value": "b"}]
    launched = drive.run(ImageId=image)
    (mapping,) = drive.instance(launched)["BlockDeviceMappings"]
    assert mapping["DeviceName"] == drive.instance(launched)["RootDeviceName"] == "/dev/sda1"
    assert site.hardware.disks[mapping["Ebs"]["VolumeId"]] == b"restored"


def test_the_defaults_of_register_image_are_the_documented_ones(drive: Driver) -> None:
    """API_RegisterImage: "Default: For Amazon EBS-backed AMIs, i386" and "Default: paravirtual"."""
    image = drive.ec2.register_image(
        Name="plain",
        RootDeviceName="/dev/sda1",
        BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": _root_snapshot(drive)}}],
    )["ImageId"]
    shown = drive.ec2.describe_images(ImageIds=[image])["Images"][0]
    assert (shown["Architecture"], shown["VirtualizationType"]) == ("i386", "paravirtual")


def test_names_are_used_once_and_have_a_form(drive: Driver) -> None:
    """Errors: InvalidAMIName.Duplicate, InvalidAMIName.Malformed."""
    snapshot = _root_snapshot(drive)
    first = _register(drive, snapshot)

    def refused(name: str) -> str:
        mapping = [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot}}]
        return code_of(
            drive.ec2.register_image, Name=name, RootDeviceName="/dev/sda1", BlockDeviceMappings=mapping
        )

    assert refused("mine") == "InvalidAMIName.Duplicate"
    assert refused("what?!") == "InvalidAMIName.Malformed"
    drive.ec2.deregister_image(ImageId=first)
    assert re.match("ami-", _register(drive, snapshot))


@pytest.mark.parametrize(
    ("mapping", "code"),
    [
        (
            {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": "snap-0123456789abcdef0"}},
            "InvalidSnapshot.NotFound",
        ),
        ({"DeviceName": "/dev/sdb", "Ebs": {"VolumeSize": 1}}, "InvalidBlockDeviceMapping"),
        ({"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 1}}, "InvalidBlockDeviceMapping"),
        ({"DeviceName": "tape", "Ebs": {"VolumeSize": 1}}, "InvalidParameterValue"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(drive: Driver, mapping: object, code: str) -> None:
    register = drive.ec2.register_image
    assert code_of(register, Name="mine", RootDeviceName="/dev/sda1", BlockDeviceMappings=[mapping]) == code


def test_an_image_of_an_instance_reboots_it_and_holds_all_its_volumes(site: Site, drive: Driver) -> None:
    """API_CreateImage, NoReboot: "the instance is shut down" first, unless it is set."""
    instance = drive.run(BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}])
    image = drive.ec2.create_image(InstanceId=instance, Name="taken")["ImageId"]
    until(lambda: drive.ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "available")
    until(lambda: len(site.hardware.specs) == 2)
    assert drive.state(instance) == "running"
    assert site.hardware.freezes[-1][1] is None
    shown = drive.ec2.describe_images(ImageIds=[image])["Images"][0]
    assert [m["DeviceName"] for m in shown["BlockDeviceMappings"]] == ["/dev/xvda", "/dev/sdf"]
    assert shown["SourceInstanceId"] == instance
    copy = drive.run(ImageId=image)
    assert len(drive.instance(copy)["BlockDeviceMappings"]) == 2


def test_an_image_without_reboot_is_taken_of_the_running_machine(site: Site, drive: Driver) -> None:
    instance = drive.run()
    image = drive.ec2.create_image(InstanceId=instance, Name="live", NoReboot=True)["ImageId"]
    assert drive.ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "pending"
    assert site.hardware.freezes[-1] == (frozenset({drive.root(instance)}), instance)
    assert (
        code_of(drive.ec2.run_instances, ImageId=image, MinCount=1, MaxCount=1) == "InvalidAMIID.Unavailable"
    )
    until(lambda: drive.ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "available")
    assert len(site.hardware.specs) == 1


def test_deregistering_can_take_the_snapshots_along(drive: Driver) -> None:
    """API_DeregisterImage, DeleteAssociatedSnapshots: not those that "are associated with multiple AMIs"."""
    alone, shared = _root_snapshot(drive), _root_snapshot(drive)
    first = _register(drive, alone)
    second, third = _register(drive, shared, "second"), _register(drive, shared, "third")
    results = drive.ec2.deregister_image(ImageId=first, DeleteAssociatedSnapshots=True)[
        "DeleteSnapshotResults"
    ]
    assert results == [{"SnapshotId": alone, "ReturnCode": "success"}]
    results = drive.ec2.deregister_image(ImageId=second, DeleteAssociatedSnapshots=True)[
        "DeleteSnapshotResults"
    ]
    assert results == [{"SnapshotId": shared, "ReturnCode": "skipped"}]
    assert code_of(drive.ec2.describe_images, ImageIds=[first]) == "InvalidAMIID.NotFound"
    assert drive.ec2.describe_images(ImageIds=[third])["Images"]


def test_images_are_chosen_by_owner_name_and_snapshot(site: Site, drive: Driver) -> None:
    snapshot = _root_snapshot(drive)
    image = _register(drive, snapshot, "nightly-1")

    def found(**choice: object) -> set[str]:
        return {i["ImageId"] for i in drive.ec2.describe_images(**choice)["Images"]}

    assert found(Owners=["self"]) == {image, site.image}
    assert found(Owners=["amazon"]) == set()
    assert found(Filters=[{"Name": "name", "Values": ["nightly-*"]}]) == {image}
    assert found(Filters=[{"Name": "block-device-mapping.snapshot-id", "Values": [snapshot]}]) == {image}


def test_a_second_account_sees_what_is_shared_with_it_without_its_tags(site: Site, drive: Driver) -> None:
    """API_ModifyImageAttribute and API_ModifySnapshotAttribute share; tags are their owner's."""
    snapshot = drive.new_snapshot(
        drive.new_volume(),
        TagSpecifications=[{"ResourceType": "snapshot", "Tags": [{"Key": "a", "Value": "b"}]}],
    )
    site.endpoint.accounts["AKIAOTHEROTHEROTHER0"] = "210987654321"
    other = site.client(access_key="AKIAOTHEROTHEROTHER0")
    assert other.describe_snapshots()["Snapshots"] == []
    make = other.create_volume
    assert code_of(make, AvailabilityZone=f"{REGION}a", SnapshotId=snapshot) == "InvalidSnapshot.NotFound"
    drive.ec2.modify_snapshot_attribute(
        SnapshotId=snapshot, Attribute="createVolumePermission", OperationType="add", UserIds=["210987654321"]
    )
    (seen,) = other.describe_snapshots()["Snapshots"]
    assert seen["SnapshotId"] == snapshot
    assert "Tags" not in seen
    assert make(AvailabilityZone=f"{REGION}a", SnapshotId=snapshot)["Size"] == 1
    assert code_of(other.delete_snapshot, SnapshotId=snapshot) == "AuthFailure"
    assert (
        code_of(other.create_tags, Resources=[snapshot], Tags=[{"Key": "x", "Value": "y"}]) == "AuthFailure"
    )
    drive.ec2.modify_image_attribute(
        ImageId=site.image, LaunchPermission={"Add": [{"UserId": "210987654321"}]}
    )
    assert [i["ImageId"] for i in other.describe_images()["Images"]] == [site.image]
    permissions = drive.ec2.describe_image_attribute(ImageId=site.image, Attribute="launchPermission")
    assert permissions["LaunchPermissions"] == [{"UserId": "210987654321"}]
