"""A full disk is an error in EC2's words and a sentence, and never a corrupt volume."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from drtest.errors import EnvironmentFailedError
from drtest.lab.disks import GIB, Disks
from drtest.lab.space import Space

from .conftest import ZONE, Driver, until


def test_what_needs_room_is_refused_and_nothing_is_left(drive: Driver) -> None:
    instance = drive.run()
    root = drive.root(instance)
    drive.site.hardware.capacity = 0
    calls = (
        lambda: drive.ec2.create_volume(AvailabilityZone=ZONE, Size=1),
        lambda: drive.run(wait=""),
        lambda: drive.ec2.create_snapshot(VolumeId=root),
        lambda: drive.ec2.create_snapshots(InstanceSpecification={"InstanceId": instance}),
    )
    for call in calls:
        with pytest.raises(ClientError) as caught:
            call()
        error = caught.value.response["Error"]
        assert error["Code"] == "InsufficientVolumeCapacity"
        assert "make room" in error["Message"]
    assert len(drive.ec2.describe_volumes()["Volumes"]) == 1
    assert len(drive.ec2.describe_instances()["Reservations"]) == 1
    assert drive.ec2.describe_snapshots(OwnerIds=["self"], Filters=_NOT_STOCK)["Snapshots"] == []
    assert drive.state(instance) == "running"
    drive.site.hardware.capacity = 10**12
    drive.new_snapshot(root)


_NOT_STOCK = [{"Name": "volume-id", "Values": ["vol-0*"]}]


def test_machines_pause_while_the_disk_is_nearly_full_and_go_on_afterwards(drive: Driver) -> None:
    hardware, space = drive.site.hardware, Space(drive.site.compute)
    first, second = drive.run(), drive.run()
    space.look()
    assert (hardware.paused, space.trouble) == (set(), ())

    hardware.capacity = -2 * 10**9
    space.look()
    assert hardware.paused == {first, second}
    (sentence,) = space.trouble
    assert first in sentence
    assert "paused" in sentence

    # Room, but less than what is to stay free: nothing flutters.
    hardware.capacity = -1
    space.look()
    assert hardware.paused == {first, second}

    hardware.capacity = 1
    space.look()
    assert (hardware.paused, space.trouble) == (set(), ())


def test_a_paused_machine_that_ends_is_forgotten(drive: Driver) -> None:
    hardware, space = drive.site.hardware, Space(drive.site.compute)
    instance = drive.run()
    hardware.capacity = -2 * 10**9
    space.look()
    hardware.end(instance, reason="crashed")
    until(lambda: drive.state(instance) == "stopped")
    assert "paused" not in space.trouble[0]
    hardware.capacity = 10**12
    space.look()
    assert space.trouble == ()


def test_a_machine_that_was_paused_before_a_kill_of_the_lab_goes_on_after_it(drive: Driver) -> None:
    hardware = drive.site.hardware
    instance = drive.run()
    hardware.capacity = -2 * 10**9
    Space(drive.site.compute).look()
    assert hardware.paused == {instance}

    again = Space(drive.site.compute)
    assert instance in again.trouble[0]
    hardware.capacity = 1
    again.look()
    assert (hardware.paused, again.trouble) == (set(), ())


def test_disks_are_refused_before_the_reserve_is_touched(tmp_path: Path) -> None:
    disks = Disks(tmp_path, reserve=10**18)
    with pytest.raises(EnvironmentFailedError, match="must stay free"):
        disks.blank("vol-0aaaaaaaaaaaaaaa1", size=GIB)
    assert disks.volumes() == ()


# In a mount namespace of its own, as the user that it is: a disk of 24 MiB, filled up to the last byte.
_FULL = """
import subprocess, sys
from pathlib import Path
from drtest.errors import EnvironmentFailedError
from drtest.lab.disks import GIB, Disks
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", sys.argv[1]], check=True)
disks = Disks(Path(sys.argv[1]) / "disks", reserve=0)
volume = "vol-0aaaaaaaaaaaaaaa1"
path = disks.blank(volume, size=GIB)

def io(command):
    done = subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, str(path)], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr

code, said = io("write -P 7 0 4M")
assert code == 0, said
code, said = io("write -P 8 4M 64M")
assert code != 0 and "No space left" in said, said
check = subprocess.run(["qemu-img", "check", str(path)], capture_output=True, text=True)
# 3: clusters that were taken and are used by nobody: room is lost, and no byte of the disk.
assert check.returncode in (0, 3), check.stdout + check.stderr
code, said = io("read -P 7 0 4M")
assert code == 0 and "verification failed" not in said, said
try:
    disks.freeze([volume])
except EnvironmentFailedError as error:
    print("refused:", error.seen.splitlines()[0])
subprocess.run(["mount", "-o", "remount,size=48m", sys.argv[1]], check=True)
assert disks.top(volume) == path, "the volume goes on in its old file"
layer = disks.freeze([volume])[volume]
assert layer.path == path
print("whole")
"""


def test_a_disk_that_is_full_to_the_last_byte_leaves_every_volume_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FULL, str(tmp_path)]
    if shutil.which("unshare"):
        command = ["unshare", "--user", "--map-root-user", "--mount", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "whole"
    assert "refused: " in done.stdout
