"""The calls of a drill, by boto3, on real QEMU machines and disks."""

import base64
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import paramiko
import pytest

from drtest.lab import control
from drtest.lab.folder import LabStatus

pytestmark = pytest.mark.lab

BOOT_SECONDS = 240.0
"""Under TCG, beside other tests on two cores; a boot alone takes some 15 s."""


class Drill:
    """A client of the lab, and the guests behind it."""

    def __init__(self, lab: LabStatus) -> None:
        self.lab = lab
        self.ec2: Any = boto3.client(
            "ec2",
            region_name=lab.region,
            endpoint_url=lab.endpoint,
            aws_access_key_id=lab.access_key,
            aws_secret_access_key=lab.secret_key,
        )

    def launch(self, **params: Any) -> str:
        given = {
            "ImageId": self.lab.images["linux"],
            "MinCount": 1,
            "MaxCount": 1,
            "InstanceType": "t3.micro",
            "KeyName": self.lab.key_name,
            "SubnetId": self.lab.subnet,
            **params,
        }
        made = str(self.ec2.run_instances(**given)["Instances"][0]["InstanceId"])
        self.ec2.get_waiter("instance_exists").wait(InstanceIds=[made], WaiterConfig={"Delay": 1})
        return made

    def instance(self, key: str) -> Any:
        return self.ec2.describe_instances(InstanceIds=[key])["Reservations"][0]["Instances"][0]

    def at(self, key: str, device: str) -> str:
        return next(
            str(m["Ebs"]["VolumeId"])
            for m in self.instance(key)["BlockDeviceMappings"]
            if m["DeviceName"] == device
        )

    def volume(self, key: str) -> Any:
        return self.ec2.describe_volumes(VolumeIds=[key])["Volumes"][0]

    def reach(self, key: str, state: str, *, seconds: float = 90.0) -> None:
        wait(lambda: self.instance(key)["State"]["Name"] == state, seconds=seconds)

    def reach_ok(self, key: str) -> None:
        def status() -> str:
            found = self.ec2.describe_instance_status(InstanceIds=[key])["InstanceStatuses"]
            return str(found[0]["InstanceStatus"]["Status"]) if found else ""

        wait(lambda: status() == "ok", seconds=BOOT_SECONDS)

    def run(self, key: str, command: str) -> str:
        """Run a command as root in a guest; its host key is the one on its own console or none at all."""
        with paramiko.SSHClient() as client:
            client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
            client.connect(
                self.instance(key)["PublicIpAddress"],
                port=2222,
                username="admin",
                key_filename=str(self.lab.key_file),
                allow_agent=False,
                look_for_keys=False,
                timeout=60,
                banner_timeout=60,
                auth_timeout=60,
            )
            _, out, err = client.exec_command(f"sudo -n sh -c '{command}'", timeout=60)
            said, wrong = out.read().decode(), err.read().decode()
            assert out.channel.recv_exit_status() == 0, f"{command}: {wrong}"
            return said


def wait(condition: Callable[[], Any], *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.2)


def _qemus(folder: Path) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "qemu-system" in line and str(folder) in line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def drill(folder: Path) -> Iterator[Drill]:
    yield Drill(control.up(folder=folder))
    control.down(folder)
    assert _qemus(folder) == []


def test_a_root_is_snapshotted_live_swapped_onto_its_instance_and_booted(drill: Drill) -> None:
    ec2 = drill.ec2
    key = drill.launch(BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}])
    drill.reach(key, "running")
    drill.reach_ok(key)
    root, data = drill.at(key, "/dev/xvda"), drill.at(key, "/dev/sdf")

    # The right machine: the board asset tag and the NVMe serials, as on Nitro.
    assert drill.run(key, "cat /sys/class/dmi/id/board_asset_tag").strip() == key
    serials = drill.run(key, "lsblk -dno SERIAL").split()
    assert set(serials) == {root.replace("-", ""), data.replace("-", "")}
    boot_id = drill.run(key, "echo before > /root/canary; sync; cat /proc/sys/kernel/random/boot_id")
    assert "BEGIN SSH HOST KEY KEYS" in ec2.get_console_output(InstanceId=key, Latest=True)["Output"]
    picture = base64.b64decode(ec2.get_console_screenshot(InstanceId=key)["ImageData"])
    assert picture.startswith(b"\xff\xd8\xff")

    # Both volumes in one moment, while the machine runs; what is written later is not in them.
    taken = ec2.create_snapshots(InstanceSpecification={"InstanceId": key})["Snapshots"]
    drill.run(key, "echo after > /root/canary; sync")
    snapshot = next(s["SnapshotId"] for s in taken if s["VolumeId"] == root)
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig={"Delay": 1})
    copy = ec2.create_volume(SnapshotId=snapshot, AvailabilityZone=drill.lab.zone)["VolumeId"]
    ec2.get_waiter("volume_available").wait(VolumeIds=[copy], WaiterConfig={"Delay": 1})

    # Hot-plug: the running guest sees it, and lets go of it.
    ec2.attach_volume(VolumeId=copy, InstanceId=key, Device="/dev/sdg")
    wait(lambda: copy.replace("-", "") in drill.run(key, "lsblk -dno SERIAL"), seconds=60)
    assert drill.volume(copy)["Attachments"][0]["State"] == "attached"
    ec2.detach_volume(VolumeId=copy)
    wait(lambda: drill.volume(copy)["State"] == "available", seconds=60)
    assert copy.replace("-", "") not in drill.run(key, "lsblk -dno SERIAL")

    # The way of every restored root: stop, swap, start.
    started = time.monotonic()
    ec2.stop_instances(InstanceIds=[key])
    drill.reach(key, "stopped")
    assert time.monotonic() - started < 100, "it did not go down by its power button, but by force"
    ec2.detach_volume(VolumeId=root)
    wait(lambda: drill.volume(root)["State"] == "available", seconds=30)
    ec2.attach_volume(VolumeId=copy, InstanceId=key, Device="/dev/xvda")
    wait(lambda: drill.volume(copy)["Attachments"][0]["State"] == "attached", seconds=30)
    ec2.start_instances(InstanceIds=[key])
    drill.reach(key, "running")
    drill.reach_ok(key)
    assert drill.run(key, "cat /root/canary").strip() == "before"
    assert drill.run(key, "cat /proc/sys/kernel/random/boot_id") != boot_id
    assert copy.replace("-", "") in drill.run(key, "lsblk -dno SERIAL").split()

    ec2.terminate_instances(InstanceIds=[key])
    drill.reach(key, "terminated")
    wait(lambda: not _qemus(drill.lab.folder), seconds=30)


def test_a_machine_outlives_the_lab_s_process_and_powers_itself_off(drill: Drill, folder: Path) -> None:
    key = drill.launch()
    drill.reach(key, "running")
    drill.reach_ok(key)
    boot_id = drill.run(key, "cat /proc/sys/kernel/random/boot_id")
    os.kill(control_pid(folder), signal.SIGKILL)
    wait(lambda: control.status(folder) is None, seconds=10)
    again = control.up(folder=folder)
    assert again.lost == ()
    assert [machine.instance for machine in again.machines] == [key]
    assert drill.run(key, "cat /proc/sys/kernel/random/boot_id") == boot_id

    root = drill.at(key, "/dev/xvda")
    drill.ec2.create_snapshot(VolumeId=root)
    drill.run(key, "systemctl poweroff")
    drill.reach(key, "stopped")
    assert drill.instance(key)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"

    # It starts once more, so that the lab has a machine to take down with it.
    drill.ec2.start_instances(InstanceIds=[key])
    drill.reach(key, "running")
    stopped = control.down(folder)
    assert any(key in sentence for sentence in stopped)
    assert _qemus(folder) == []


def control_pid(folder: Path) -> int:
    found = control.status(folder)
    assert found is not None
    return found.pid
