"""The table of README.md: what moto gets wrong, held to its tests and to the API Reference; and the rows' own tests."""

import ast
import html
import re
import threading
from functools import cache
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from botocore.loaders import Loader

from .conftest import Driver, Site, code_of, until

HERE = Path(__file__).parent


def _rows() -> list[tuple[str, str, str]]:
    lines = [line for line in (HERE / "README.md").read_text().splitlines() if line.startswith("| ")]
    rows = []
    for line in lines[2:]:
        moto, _, rest = line.strip("| ").partition(" | ")
        source, _, test = rest.rpartition(" | ")
        rows.append((moto, source, test))
    return rows


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text)))


@cache
def _reference() -> dict[str, str]:
    """Read what botocore has of the API Reference, by the names of its pages."""
    pages: dict[str, str] = {}
    for service in ("ec2", "ebs", "ssm"):
        model = Loader().load_service_model(service, "service-2")
        shapes = model["shapes"]

        def text(shape: str, shapes: dict[str, dict[str, object]] = shapes) -> str:
            members = shapes[shape].get("members", {})
            assert isinstance(members, dict)
            own = str(shapes[shape].get("documentation", ""))
            return own + " ".join(str(member.get("documentation", "")) for member in members.values())

        for name in shapes:
            pages[name] = pages.get(name, "") + " " + _plain(text(name))
        for name, operation in model["operations"].items():
            page = str(operation.get("documentation", ""))
            page += "".join(
                " " + text(operation[way]["shape"]) for way in ("input", "output") if way in operation
            )
            pages[name] = pages.get(name, "") + _plain(page)
    return pages


def test_the_table_is_read_whole() -> None:
    assert len(_rows()) > 55
    assert all(moto and source and test for moto, source, test in _rows())


@pytest.mark.parametrize(("moto", "source", "test"), _rows(), ids=[moto[:60] for moto, _, _ in _rows()])
def test_each_row_has_its_source_and_its_test(moto: str, source: str, test: str) -> None:
    for page, quote in re.findall(r'API_(\w+): "([^"]*)"', source):
        assert _plain(quote) in _reference()[page], f"API_{page} does not say so"
    assert (
        "API_" in source or "https://docs.aws.amazon.com/" in source or "here:" in source or "own:" in source
    )
    module, _, name = test.partition("::")
    tree = ast.parse((HERE / f"{module}.py").read_text())
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not name or name in names


def test_a_mapping_of_data_disks_alone_keeps_the_image_s_root(drive: Driver) -> None:
    """API_Instance, RootDeviceName: "The device name of the root device volume (for example, /dev/sda1 )."."""
    data = [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}]
    instance = drive.instance(drive.run(BlockDeviceMappings=data))
    devices = [mapping["DeviceName"] for mapping in instance["BlockDeviceMappings"]]
    assert devices == ["/dev/xvda", "/dev/sdf"]
    assert (instance["RootDeviceName"], instance["RootDeviceType"]) == ("/dev/xvda", "ebs")
    assert drive.volume(drive.root(instance["InstanceId"]))["SnapshotId"].startswith("snap-")


def test_an_instance_terminates_after_attachments_that_were_refused(drive: Driver) -> None:
    """API_TerminateInstances: "Terminates (deletes) the specified instances."."""
    instance, other, first, second = drive.run(), drive.run(), drive.new_volume(), drive.new_volume()
    attach = drive.ec2.attach_volume
    attach(VolumeId=first, InstanceId=instance, Device="/dev/sdf")
    assert code_of(attach, VolumeId=first, InstanceId=other, Device="/dev/sdf") == "VolumeInUse"
    clash = {"VolumeId": second, "InstanceId": instance, "Device": "/dev/sdf"}
    assert code_of(attach, **clash) == "InvalidParameterValue"
    drive.ec2.terminate_instances(InstanceIds=[instance, other])
    drive.reach(instance, "terminated")
    drive.reach(other, "terminated")
    until(lambda: drive.volume(first)["State"] == "available")
    assert drive.volume(second)["State"] == "available"


def test_of_sixteen_who_attach_a_volume_at_once_one_gets_it(site: Site, drive: Driver) -> None:
    """API_AttachVolume: "Attaches an Amazon EBS volume to a running or stopped instance, and exposes it to the
    instance with the specified device name."."""
    instances = [drive.run() for _ in range(2)]
    volume = drive.new_volume()
    results: list[str] = []

    def attach(number: int) -> None:
        device = f"/dev/sd{chr(ord('f') + number % 8)}"
        try:
            site.client().attach_volume(VolumeId=volume, InstanceId=instances[number % 2], Device=device)
        except ClientError as error:
            results.append(error.response["Error"]["Code"])
        else:
            results.append(instances[number % 2])

    threads = [threading.Thread(target=attach, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [result for result in results if result.startswith("i-")]
    assert sorted(set(results) - {winner}) == ["VolumeInUse"]
    until(lambda: drive.volume(volume)["Attachments"][0]["State"] == "attached")
    assert drive.volume(volume)["Attachments"][0]["InstanceId"] == winner
    assert [key for key in instances if volume in site.hardware.plugged(key)] == [winner]


def test_the_launch_time_is_that_of_the_last_start(drive: Driver) -> None:
    """API_Instance, LaunchTime: "The time that the instance was last launched."."""
    instance = drive.run()
    first = drive.instance(instance)["LaunchTime"]
    drive.stop(instance)
    drive.ec2.start_instances(InstanceIds=[instance])
    assert drive.instance(instance)["LaunchTime"] > first


def test_an_error_says_which_snapshot_there_is_not(drive: Driver) -> None:
    gone = "snap-0123456789abcdef0"
    with pytest.raises(ClientError, match=f"InvalidSnapshot.NotFound.*'{gone}' does not exist"):
        drive.ec2.describe_snapshots(SnapshotIds=[gone])


def test_what_no_drill_uses_is_refused_in_words_that_a_client_can_read(site: Site, drive: Driver) -> None:
    ec2, instance = drive.ec2, "i-0123456789abcdef0"
    zones = {"AvailabilityZones": ["us-east-1a"], "SourceSnapshotIds": ["snap-0123456789abcdef0"]}
    for refused in (
        code_of(ec2.enable_fast_snapshot_restores, **zones),
        code_of(ec2.describe_fast_snapshot_restores),
        code_of(ec2.list_snapshots_in_recycle_bin),
        code_of(ec2.restore_snapshot_from_recycle_bin, SnapshotId="snap-0123456789abcdef0"),
        code_of(ec2.create_restore_image_task, Bucket="b", ObjectKey="k"),
        code_of(ec2.get_password_data, InstanceId=instance),
        code_of(site.client("ssm").start_automation_execution, DocumentName="AWS-CreateImage"),
        code_of(site.client("backup").list_backup_vaults),
        code_of(site.client("scheduler").list_schedules),
        code_of(site.client("events").list_rules),
        code_of(site.client("rbin").list_rules, ResourceType="EBS_SNAPSHOT"),
    ):
        assert refused == "UnsupportedOperation"


def test_there_are_no_images_that_can_not_be_launched(site: Site, drive: Driver) -> None:
    """API_DescribeImages: "all of the images available to you"."""
    assert [image["ImageId"] for image in drive.ec2.describe_images()["Images"]] == [site.image]
