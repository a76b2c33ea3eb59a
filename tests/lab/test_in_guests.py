"""What the API says of volumes, roots, blocks and commands, seen from inside real guests."""

import base64
import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

from drtest.lab import control
from drtest.lab.folder import LabStatus

pytestmark = pytest.mark.lab

BOOT_SECONDS = 240.0
BLOCK = 524_288


def wait(condition: Callable[[], Any], *, seconds: float = BOOT_SECONDS) -> Any:
    end = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.2)


class Site:
    """A lab with one instance, which the tests share; commands go to it by SSM."""

    def __init__(self, lab: LabStatus) -> None:
        self.lab = lab
        self.ec2, self.ssm, self.ebs = (self.client(name) for name in ("ec2", "ssm", "ebs"))
        mapping = [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}]
        self.instance = self.ec2.run_instances(
            ImageId=lab.images["linux"],
            MinCount=1,
            MaxCount=1,
            InstanceType="t3.micro",
            KeyName=lab.key_name,
            SubnetId=lab.subnet,
            UserData="hello",
            BlockDeviceMappings=mapping,
        )["Instances"][0]["InstanceId"]
        wait(self.online)

    def client(self, service: str) -> Any:
        return boto3.client(  # type: ignore[call-overload]
            service,
            region_name=self.lab.region,
            endpoint_url=self.lab.endpoint,
            aws_access_key_id=self.lab.access_key,
            aws_secret_access_key=self.lab.secret_key,
        )

    def online(self) -> bool:
        nodes = self.ssm.describe_instance_information()["InstanceInformationList"]
        return [(n["InstanceId"], n["PingStatus"]) for n in nodes] == [(self.instance, "Online")]

    def at(self, device: str) -> str:
        found = self.ec2.describe_instances(InstanceIds=[self.instance])
        mappings = found["Reservations"][0]["Instances"][0]["BlockDeviceMappings"]
        return next(str(m["Ebs"]["VolumeId"]) for m in mappings if m["DeviceName"] == device)

    def send(self, *commands: str, seconds: int = 100) -> Any:
        command = self.ssm.send_command(
            InstanceIds=[self.instance],
            DocumentName="AWS-RunShellScript",
            Parameters={"commands": list(commands), "executionTimeout": [str(seconds)]},
        )["Command"]["CommandId"]

        def done() -> Any:
            listed = self.ssm.list_command_invocations(CommandId=command)["CommandInvocations"]
            return listed and listed[0]["Status"] not in {"Pending", "InProgress"}

        wait(done)
        return self.ssm.get_command_invocation(CommandId=command, InstanceId=self.instance)

    def run(self, *commands: str) -> str:
        done = self.send(*commands)
        assert done["Status"] == "Success", done
        return str(done["StandardOutputContent"]).strip()

    def snapshot(self, volume: str) -> str:
        key = str(self.ec2.create_snapshot(VolumeId=volume)["SnapshotId"])
        # A new snapshot is not found by its id for a moment; a filter finds none meanwhile.
        completed = [{"Name": "snapshot-id", "Values": [key]}, {"Name": "status", "Values": ["completed"]}]
        wait(lambda: self.ec2.describe_snapshots(Filters=completed)["Snapshots"], seconds=60)
        return key


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("lab")
    try:
        yield Site(control.up(folder=folder))
    finally:
        control.down(folder)


def test_commands_run_as_root_in_the_guest(site: Site) -> None:
    """API_SendCommand: "Runs commands on one or more managed nodes."."""
    done = site.send(
        "id -un", "cat /sys/class/dmi/id/board_asset_tag", "echo 'it''s \"quoted\"' >&2", "exit 3"
    )
    assert done["StandardOutputContent"].split() == ["root", site.instance]
    assert done["StandardErrorContent"] == 'its "quoted"\n'
    assert (done["Status"], done["ResponseCode"]) == ("Failed", 3)
    late = site.send("echo begun; sleep 60", seconds=3)
    assert (late["Status"], late["StatusDetails"]) == ("TimedOut", "ExecutionTimedOut")
    assert late["StandardOutputContent"] == "begun\n"
    assert len(site.send("head -c 100000 /dev/zero | tr '\\0' x")["StandardOutputContent"]) == 24_000


def test_the_blocks_of_a_snapshot_of_a_running_guest_are_what_it_wrote(site: Site) -> None:
    """API_GetSnapshotBlock, over a disk that a machine has open."""
    device = f"/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_{site.at('/dev/sdf').replace('-', '')}"
    write = (
        f"head -c {BLOCK} /dev/urandom >/tmp/b; dd if=/tmp/b of={device} bs={BLOCK} seek=%d conv=fsync 2>&1"
    )
    sums = {}
    site.run(write % 3)
    sums[3] = site.run("sha256sum /tmp/b").split()[0]
    first = site.snapshot(site.at("/dev/sdf"))
    site.run(write % 9)
    sums[9] = site.run("sha256sum /tmp/b").split()[0]
    second = site.snapshot(site.at("/dev/sdf"))
    changed = site.ebs.list_changed_blocks(FirstSnapshotId=first, SecondSnapshotId=second)["ChangedBlocks"]
    assert [block["BlockIndex"] for block in changed] == [9]
    listed = site.ebs.list_snapshot_blocks(SnapshotId=second)["Blocks"]
    assert [block["BlockIndex"] for block in listed] == [3, 9]
    for block in listed:
        got = site.ebs.get_snapshot_block(SnapshotId=second, **block)
        data = got["BlockData"].read()
        assert hashlib.sha256(data).hexdigest() == sums[block["BlockIndex"]]
        assert base64.b64decode(got["Checksum"]).hex() == sums[block["BlockIndex"]]


def test_a_volume_grows_under_the_running_guest_and_its_bytes_stay(site: Site) -> None:
    """API_ModifyVolume. QEMU's NVMe disk keeps its size until it is plugged in anew: README, "Where it differs"."""
    volume = site.at("/dev/sdf")
    device = f"/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_{volume.replace('-', '')}"
    before = site.run(f"dd if={device} bs={BLOCK} skip=3 count=1 2>/dev/null | sha256sum")
    site.ec2.modify_volume(VolumeId=volume, Size=2)

    def state() -> str:
        found = site.ec2.describe_volumes_modifications(VolumeIds=[volume])
        return str(found["VolumesModifications"][0]["ModificationState"])

    wait(lambda: state() == "completed", seconds=30)
    site.run(f"dd if=/dev/zero of={device} bs={BLOCK} seek=20 count=1 conv=fsync 2>&1")
    assert site.run(f"blockdev --getsize64 {device}") == str(1024**3)
    site.ec2.detach_volume(VolumeId=volume)
    site.ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig={"Delay": 1})
    site.ec2.attach_volume(VolumeId=volume, InstanceId=site.instance, Device="/dev/sdf")
    wait(lambda: site.send(f"test -b {device}")["Status"] == "Success", seconds=60)
    assert site.run(f"blockdev --getsize64 {device}") == str(2 * 1024**3)
    assert site.run(f"dd if={device} bs={BLOCK} skip=3 count=1 2>/dev/null | sha256sum") == before


def test_the_root_of_the_running_guest_is_replaced_by_an_earlier_one(site: Site) -> None:
    """API_CreateReplaceRootVolumeTask: "restored to a specific snapshot taken from the original root volume"."""
    boot = site.run("echo before >/root/state; sync; cat /proc/sys/kernel/random/boot_id")
    old = site.at("/dev/xvda")
    snapshot = site.snapshot(old)
    site.run("echo after >/root/state; sync")
    task = site.ec2.create_replace_root_volume_task(InstanceId=site.instance, SnapshotId=snapshot)
    key = task["ReplaceRootVolumeTask"]["ReplaceRootVolumeTaskId"]

    def state() -> str:
        found = site.ec2.describe_replace_root_volume_tasks(ReplaceRootVolumeTaskIds=[key])
        return str(found["ReplaceRootVolumeTasks"][0]["TaskState"])

    wait(lambda: state() == "succeeded")
    wait(site.online)
    assert site.run("cat /root/state") == "before"
    assert site.run("cat /proc/sys/kernel/random/boot_id") != boot
    new = site.at("/dev/xvda")
    assert new != old
    assert new.replace("-", "") in site.run("lsblk -dno SERIAL").split()
    assert site.ec2.describe_volumes(VolumeIds=[old])["Volumes"][0]["State"] == "available"


ASK = """
import sys, urllib.request
def ask(path, method="GET", **headers):
    headers = {"X-aws-ec2-metadata-" + k.replace("_", "-"): v for k, v in headers.items()}
    url = "http://169.254.169.254" + path
    asked = urllib.request.Request(url, method=method, headers=headers)
    try:
        return urllib.request.urlopen(asked, timeout=20).read().decode()
    except urllib.error.HTTPError as error:
        return str(error.code)
token = ask("/latest/api/token", "PUT", token_ttl_seconds="60")
for path in sys.argv[1:]:
    print(ask("/latest/" + path, token=token))
print(ask("/latest/meta-data/instance-id", token="made up"))
"""


def test_the_guest_asks_its_metadata_service_also_after_the_lab_was_killed(site: Site) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html"""
    paths = "meta-data/instance-id meta-data/local-ipv4 meta-data/placement/region user-data"
    ask = f"cat >/tmp/ask.py <<'END'\n{ASK}\nEND\npython3 /tmp/ask.py {paths}"
    found = site.ec2.describe_instances(InstanceIds=[site.instance])["Reservations"][0]["Instances"][0]
    expected = [site.instance, found["PrivateIpAddress"], site.lab.region, "hello", "401"]
    assert site.run(ask).split() == expected
    os.kill(site.lab.pid, signal.SIGKILL)
    wait(lambda: control.status(site.lab.folder) is None, seconds=10)
    again = control.up(folder=site.lab.folder)
    assert (again.endpoint, again.lost) == (site.lab.endpoint, ())
    site.lab = again
    wait(site.online)
    assert site.run(ask).split() == expected


def test_the_metadata_service_is_all_that_the_guest_reaches(site: Site) -> None:
    knock = (
        "import socket, sys\n"
        "for address in sys.argv[1:]:\n"
        "    for port in (22, 53, 80, 2222):\n"
        "        with socket.socket() as probe:\n"
        "            probe.settimeout(1)\n"
        "            if probe.connect_ex((address, port)) == 0: print(address, port)\n"
    )
    addresses = "169.254.169.254 169.254.169.253 172.31.0.1 172.31.0.2 172.31.0.5 160.0.0.1 8.8.8.8"
    assert site.run(f"cat >/tmp/knock.py <<'END'\n{knock}\nEND\npython3 /tmp/knock.py {addresses}") == (
        "169.254.169.254 80"
    )
