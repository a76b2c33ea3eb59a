"""Images of a running machine, and images registered from snapshots: real machines boot from them."""

from collections.abc import Iterator

import pytest

from drtest.lab import control

from .test_drill_calls import Drill, wait

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    folder = tmp_path_factory.mktemp("lab")
    yield Drill(control.up(folder=folder))
    control.down(folder)


@pytest.fixture(scope="module")
def source(drill: Drill) -> str:
    key = drill.launch()
    drill.reach(key, "running")
    drill.reach_ok(key)
    return key


def _booted(drill: Drill, key: str) -> str:
    return drill.run(key, "cat /proc/sys/kernel/random/boot_id")


def _launched_from(drill: Drill, image: str) -> str:
    drill.ec2.get_waiter("image_available").wait(ImageIds=[image], WaiterConfig={"Delay": 1})
    key = drill.launch(ImageId=image)
    drill.reach(key, "running")
    drill.reach_ok(key)
    return key


def test_a_reboot_keeps_the_instance_its_address_and_its_bytes(drill: Drill, source: str) -> None:
    """API_RebootInstances: "Requests a reboot of the specified instances. This operation is asynchronous"."""
    before, address = _booted(drill, source), drill.instance(source)["PublicIpAddress"]
    drill.run(source, "echo kept > /root/kept")
    drill.ec2.reboot_instances(InstanceIds=[source])
    wait(lambda: _has_rebooted(drill, source, before), seconds=300)
    assert drill.instance(source)["PublicIpAddress"] == address
    assert drill.run(source, "cat /root/kept").strip() == "kept"


def _has_rebooted(drill: Drill, key: str, before: str) -> bool:
    try:
        return _booted(drill, key) != before
    except Exception:  # whatever a guest on its way down or up says
        return False


def test_an_image_of_an_instance_boots_with_its_bytes_as_another_instance(drill: Drill, source: str) -> None:
    """API_CreateImage: "Creates an Amazon EBS-backed AMI from an Amazon EBS-backed instance"."""
    drill.run(source, "echo of-the-image > /root/marker; sync")
    image = drill.ec2.create_image(InstanceId=source, Name="of a running machine", NoReboot=True)["ImageId"]
    other = _launched_from(drill, image)
    assert drill.run(other, "cat /root/marker").strip() == "of-the-image"
    assert drill.run(other, "cat /sys/class/dmi/id/board_asset_tag").strip() == other
    drill.ec2.terminate_instances(InstanceIds=[other])
    drill.reach(other, "terminated")


def test_an_image_registered_from_a_copied_snapshot_boots(drill: Drill, source: str) -> None:
    """API_RegisterImage: "you can create an Amazon EBS-backed Linux AMI from a snapshot of a root device volume"."""
    drill.run(source, "echo of-the-snapshot > /root/marker; sync")
    ec2 = drill.ec2
    taken = ec2.create_snapshot(VolumeId=drill.at(source, "/dev/xvda"))["SnapshotId"]
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[taken], WaiterConfig={"Delay": 1})
    copy = ec2.copy_snapshot(SourceSnapshotId=taken, SourceRegion=drill.lab.region, Encrypted=True)[
        "SnapshotId"
    ]
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[copy], WaiterConfig={"Delay": 1})
    ec2.delete_snapshot(SnapshotId=taken)
    image = ec2.register_image(
        Name="of a snapshot",
        Architecture="x86_64",
        VirtualizationType="hvm",
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": copy}}],
    )["ImageId"]
    other = _launched_from(drill, image)
    assert drill.run(other, "cat /root/marker").strip() == "of-the-snapshot"
    assert drill.volume(drill.at(other, "/dev/xvda"))["Encrypted"] is True
    drill.ec2.terminate_instances(InstanceIds=[other])
    drill.reach(other, "terminated")
