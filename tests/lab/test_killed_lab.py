"""A lab that is killed at a bad moment, with a real machine: nothing is lost, or it is said what was."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from drtest.lab import control
from drtest.lab.board import PID_FILE

from .test_drill_calls import Drill, control_pid, wait

pytestmark = pytest.mark.lab

ROUNDS = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def drill(folder: Path) -> Iterator[Drill]:
    yield Drill(control.up(folder=folder))
    control.down(folder)


@pytest.fixture(scope="module")
def instance(drill: Drill) -> str:
    key = drill.launch()
    drill.reach(key, "running")
    drill.reach_ok(key)
    return key


def _kill_during(folder: Path, call: Callable[[], object], *, after: float) -> tuple[str, ...]:
    """Kill the lab's process some seconds after a call has begun, and bring the lab up again."""
    pid = control_pid(folder)

    def try_it() -> None:
        try:
            call()
        except (BotoCoreError, ClientError):
            return  # it was in the middle of it

    thread = threading.Thread(target=try_it)
    thread.start()
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    thread.join()
    wait(lambda: control.status(folder) is None, seconds=10)
    return control.up(folder=folder).lost


def _checked(folder: Path) -> None:
    """Let QEMU look at every disk of the lab: a chain that can't be opened, or is damaged, fails."""
    # os.walk, not glob: what was deleted is going away meanwhile.
    found = [Path(top, name) for top, _, names in os.walk(folder / "disks") for name in names]
    for path in (one for one in found if one.suffix == ".qcow2"):
        done = subprocess.run(
            ["qemu-img", "check", "-U", str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode in {0, 3} or not path.exists(), f"{path}: {done.stdout}{done.stderr}"


def test_killed_in_mid_snapshot_the_machine_and_its_volume_go_on(
    drill: Drill, folder: Path, instance: str
) -> None:
    boot_id = drill.run(instance, "cat /proc/sys/kernel/random/boot_id")
    root = drill.at(instance, "/dev/xvda")
    chance = random.Random(4)
    for number in range(ROUNDS):
        drill.run(instance, f"echo {number} > /root/round; sync")
        lost = _kill_during(
            folder,
            lambda: drill.ec2.create_snapshot(VolumeId=root, Description="mid"),
            after=chance.uniform(0.0, 0.12),
        )
        assert lost == ()
        assert drill.run(instance, "cat /proc/sys/kernel/random/boot_id") == boot_id
        assert drill.run(instance, "cat /root/round").strip() == str(number)

    # Each snapshot that is there is whole: it can be completed and be made a volume.
    mine = [{"Name": "description", "Values": ["mid"]}]

    def states() -> set[str]:
        return {s["State"] for s in drill.ec2.describe_snapshots(Filters=mine)["Snapshots"]}

    wait(lambda: states() <= {"completed"}, seconds=30)
    for one in drill.ec2.describe_snapshots(Filters=mine)["Snapshots"]:
        made = drill.ec2.create_volume(SnapshotId=one["SnapshotId"], AvailabilityZone=drill.lab.zone)
        wait(lambda key=made["VolumeId"]: drill.volume(key)["State"] == "available", seconds=30)  # type: ignore[misc]
        drill.ec2.delete_volume(VolumeId=made["VolumeId"])
        drill.ec2.delete_snapshot(SnapshotId=one["SnapshotId"])
    drill.run(instance, "dd if=/dev/urandom of=/root/after bs=1M count=8 conv=fsync; sync")
    taken = drill.ec2.create_snapshot(VolumeId=root)["SnapshotId"]
    drill.ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[taken], WaiterConfig={"Delay": 1})
    _checked(folder)


def test_killed_in_mid_attach_the_volume_is_attached_or_free(
    drill: Drill, folder: Path, instance: str
) -> None:
    chance = random.Random(5)
    for _ in range(ROUNDS):
        volume = drill.ec2.create_volume(AvailabilityZone=drill.lab.zone, Size=1)["VolumeId"]
        wait(lambda key=volume: drill.volume(key)["State"] == "available", seconds=30)  # type: ignore[misc]
        lost = _kill_during(
            folder,
            lambda key=volume: drill.ec2.attach_volume(  # type: ignore[misc]
                VolumeId=key, InstanceId=instance, Device="/dev/sdf"
            ),
            after=chance.uniform(0.0, 0.06),
        )
        assert lost == ()

        def settled(key: str = volume) -> bool:
            found = drill.volume(key)
            return bool(found["State"] == "available" or found["Attachments"][0]["State"] == "attached")

        wait(settled, seconds=60)
        serial = volume.replace("-", "")
        if drill.volume(volume)["State"] == "in-use":
            wait(lambda s=serial: s in drill.run(instance, "lsblk -dno SERIAL"), seconds=60)  # type: ignore[misc]
            drill.ec2.detach_volume(VolumeId=volume)
            wait(lambda key=volume: drill.volume(key)["State"] == "available", seconds=90)  # type: ignore[misc]
        assert serial not in drill.run(instance, "lsblk -dno SERIAL")
        drill.ec2.delete_volume(VolumeId=volume)
    _checked(folder)


def test_a_machine_that_died_meanwhile_is_named_and_starts_again(
    drill: Drill, folder: Path, instance: str
) -> None:
    drill.run(instance, "echo kept > /root/kept; sync")
    machine = int((folder / "machines" / instance / PID_FILE).read_text())
    os.kill(control_pid(folder), signal.SIGKILL)
    wait(lambda: control.status(folder) is None, seconds=10)
    os.kill(machine, signal.SIGKILL)
    wait(lambda: not Path(f"/proc/{machine}").exists() or _zombie(machine), seconds=30)
    again = control.up(folder=folder)
    (sentence,) = again.lost
    assert instance in sentence
    found = drill.instance(instance)
    assert (found["State"]["Name"], found["StateReason"]["Code"]) == ("stopped", "Server.InternalError")
    drill.ec2.start_instances(InstanceIds=[instance])
    drill.reach(instance, "running")
    drill.reach_ok(instance)
    assert drill.run(instance, "cat /root/kept").strip() == "kept"


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
