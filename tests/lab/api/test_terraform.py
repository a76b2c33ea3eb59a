"""What Terraform's AWS provider calls in the life of a volume, its attachment and its snapshots, in its order.

https://github.com/hashicorp/terraform-provider-aws, internal/service/ec2: ebs_volume.go, ebs_volume_attachment.go,
ebs_snapshot.go, ebs_snapshot_copy.go. It describes each thing after each change until that is what it wanted.
"""

from typing import Any

from .conftest import ZONE, Driver, code_of, until


def _state(drive: Driver, volume: str) -> str:
    return str(drive.volume(volume)["State"])


def test_a_volume_is_made_changed_in_place_and_destroyed(drive: Driver) -> None:
    ec2 = drive.ec2
    made = ec2.create_volume(
        AvailabilityZone=ZONE,
        ClientToken="terraform-20260101000000000000000002",
        Encrypted=False,
        Size=1,
        VolumeType="gp3",
        TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "tf"}]}],
    )["VolumeId"]
    until(lambda: _state(drive, made) == "available")
    found = drive.volume(made)
    assert (found["Iops"], found["Throughput"], found["MultiAttachEnabled"]) == (3000, 125, False)

    ec2.modify_volume(VolumeId=made, Size=2, Iops=4000, Throughput=250, VolumeType="gp3")

    def modified() -> bool:
        (shown,) = ec2.describe_volumes_modifications(VolumeIds=[made])["VolumesModifications"]
        return shown["ModificationState"] in {"optimizing", "completed"}

    until(modified)
    found = drive.volume(made)
    assert (found["Size"], found["Iops"], found["Throughput"]) == (2, 4000, 250)
    ec2.delete_tags(Resources=[made], Tags=[{"Key": "Name"}])
    ec2.create_tags(Resources=[made], Tags=[{"Key": "Owner", "Value": "ops"}])
    assert drive.volume(made)["Tags"] == [{"Key": "Owner", "Value": "ops"}]

    ec2.delete_volume(VolumeId=made)
    until(lambda: code_of_volume(drive, made) == "InvalidVolume.NotFound")


def code_of_volume(drive: Driver, volume: str) -> str:
    """Ask for a volume as the provider does after its deletion: gone, or still on its way."""
    left = drive.ec2.describe_volumes(Filters=[{"Name": "volume-id", "Values": [volume]}])["Volumes"]
    return "" if left else code_of(drive.ec2.describe_volumes, VolumeIds=[volume])


def test_an_attachment_is_found_by_volume_instance_and_device(drive: Driver) -> None:
    ec2, instance, volume = drive.ec2, drive.run(), drive.new_volume()

    def attachments(**more: Any) -> list[Any]:
        filters = [
            {"Name": "attachment.device", "Values": ["/dev/sdh"]},
            {"Name": "attachment.instance-id", "Values": [instance]},
        ]
        found = ec2.describe_volumes(VolumeIds=[volume], Filters=filters, **more)["Volumes"]
        return [one["Attachments"][0] for one in found]

    assert attachments() == []
    ec2.attach_volume(Device="/dev/sdh", InstanceId=instance, VolumeId=volume)
    until(lambda: [one["State"] for one in attachments()] == ["attached"])
    assert attachments()[0]["DeleteOnTermination"] is False

    # stop_instance_before_detaching
    drive.stop(instance)
    ec2.detach_volume(Device="/dev/sdh", Force=False, InstanceId=instance, VolumeId=volume)
    until(lambda: attachments() == [])
    assert (
        code_of(ec2.detach_volume, Device="/dev/sdh", InstanceId=instance, VolumeId=volume)
        == "IncorrectState"
    )
    until(lambda: _state(drive, volume) == "available")


def test_a_snapshot_is_made_copied_shared_and_destroyed(drive: Driver) -> None:
    ec2, volume = drive.ec2, drive.new_volume()
    tags = [{"ResourceType": "snapshot", "Tags": [{"Key": "Name", "Value": "tf"}]}]
    made = ec2.create_snapshot(VolumeId=volume, Description="tf", TagSpecifications=tags)["SnapshotId"]
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[made], WaiterConfig={"Delay": 1})
    (found,) = ec2.describe_snapshots(SnapshotIds=[made])["Snapshots"]
    assert (found["StorageTier"], found["VolumeId"], found["Encrypted"]) == ("standard", volume, False)

    # data "aws_ebs_snapshot"
    by_name = [{"Name": "tag:Name", "Values": ["tf"]}, {"Name": "status", "Values": ["completed"]}]
    (again,) = ec2.describe_snapshots(OwnerIds=["self"], Filters=by_name)["Snapshots"]
    assert again["SnapshotId"] == made

    # aws_ebs_snapshot_copy, aws_snapshot_create_volume_permission
    copy = ec2.copy_snapshot(SourceSnapshotId=made, SourceRegion="us-east-1", TagSpecifications=tags)[
        "SnapshotId"
    ]
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[copy], WaiterConfig={"Delay": 1})
    ec2.modify_snapshot_attribute(
        SnapshotId=copy,
        Attribute="createVolumePermission",
        CreateVolumePermission={"Add": [{"UserId": "210987654321"}]},
    )
    shown = ec2.describe_snapshot_attribute(SnapshotId=copy, Attribute="createVolumePermission")
    assert shown["CreateVolumePermissions"] == [{"UserId": "210987654321"}]

    for key in (copy, made):
        ec2.delete_snapshot(SnapshotId=key)
        assert code_of(ec2.describe_snapshots, SnapshotIds=[key]) == "InvalidSnapshot.NotFound"
