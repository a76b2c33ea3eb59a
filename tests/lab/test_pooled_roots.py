"""The write pool in a real lab: what snapshots of a pooled root hold, and that nothing else is touched by it."""

import os
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from drtest.errors import UsageError
from drtest.lab import control

from .test_drill_calls import Drill, control_pid, wait

pytestmark = pytest.mark.lab

SEED = 7
FILES = 200
WRITE = f"mkdir -p /root/kept; for n in $(seq {FILES}); do echo $n > /root/kept/$n; sync /root/kept/$n; done; sync"


@dataclass(frozen=True)
class Copy:
    """What a snapshot holds: a root filesystem, its journal replayed."""

    path: Path

    @property
    def whole(self) -> bool:
        """Whether e2fsck finds nothing wrong."""
        return _run("e2fsck", "-fn", str(self.path)).returncode == 0

    @property
    def kept(self) -> int:
        """How many files hold what was written to them and synced."""
        names = range(1, FILES + 1)
        read = _run(
            "debugfs", "-f", "-", str(self.path), stdin="".join(f"cat /root/kept/{n}\n" for n in names)
        )
        return len({line for line in read.stdout.splitlines() if line.isdigit()})


def _run(*words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    path = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
    return subprocess.run(
        words, input=stdin, capture_output=True, text=True, check=False, timeout=120, env=path
    )


@dataclass(frozen=True)
class Lab:
    """A lab with one instance that runs, and what it takes to look into its snapshots."""

    folder: Path
    drill: Drill
    instance: str

    def snapshot(self) -> str:
        root = self.drill.at(self.instance, "/dev/xvda")
        return str(self.drill.ec2.create_snapshot(VolumeId=root)["SnapshotId"])

    def copy(self, snapshot: str) -> Copy:
        """Take the root filesystem out of a snapshot, by a volume that is made of it."""
        waiter = self.drill.ec2.get_waiter("snapshot_completed")
        waiter.wait(SnapshotIds=[snapshot], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        made = self.drill.ec2.create_volume(SnapshotId=snapshot, AvailabilityZone=self.drill.lab.zone)
        volume = str(made["VolumeId"])
        wait(lambda: self.drill.volume(volume)["State"] == "available", seconds=30)
        disk = self.folder / "disks" / volume / "1.qcow2"
        checked = _run("qemu-img", "check", "-U", str(disk))
        assert checked.returncode == 0, checked.stderr
        raw, part = self.folder / "disk.raw", self.folder / f"{snapshot}.ext4"
        assert _run("qemu-img", "convert", "-U", "-O", "raw", str(disk), str(raw)).returncode == 0
        with raw.open("rb") as file:
            (start,) = struct.unpack_from("<I", file.read(512), 446 + 16 + 8)
        cut = ("bs=1M", f"skip={start * 512}", "iflag=skip_bytes", "conv=sparse")
        assert _run("dd", f"if={raw}", f"of={part}", *cut).returncode == 0
        _run("e2fsck", "-E", "journal_only", "-p", str(part))
        return Copy(part)


@contextmanager
def up(folder: Path, *, strength: float, image: str = "linux") -> Iterator[Lab]:
    drill = Drill(control.up(folder=folder, pool={image: strength}, seed=SEED))
    try:
        instance = drill.launch(ImageId=drill.lab.images[image])
        drill.reach(instance, "running")
        drill.reach_ok(instance)
        yield Lab(folder, drill, instance)
    finally:
        control.down(folder)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with up(tmp_path_factory.mktemp("pooled"), strength=1.0) as lab:
        yield lab


def test_the_lab_says_that_a_pool_acts_and_how(pooled: Lab) -> None:
    status = control.status(pooled.folder)
    assert status is not None
    assert (status.pool, status.seed) == ({"linux": 1.0}, SEED)
    (image,) = pooled.drill.ec2.describe_images(ImageIds=[status.images["linux"]])["Images"]
    (notice,) = (tag["Value"] for tag in image["Tags"] if tag["Key"] == "drtest:notice")
    assert "write pool (strength 1, seed 7)" in notice
    with pytest.raises(UsageError, match="other write pools") as refused:
        control.up(folder=pooled.folder, pool={"linux": 0.0})
    assert "drtest lab down" in refused.value.remedy
    assert control.up(folder=pooled.folder, pool={"linux": 1.0}, seed=SEED).pid == status.pid


def test_a_running_snapshot_misses_what_was_synced_and_the_guest_does_not_know(pooled: Lab) -> None:
    pooled.drill.run(pooled.instance, WRITE)
    first = pooled.copy(pooled.snapshot())
    assert first.kept < FILES
    assert pooled.drill.run(pooled.instance, "cat /root/kept/* | sort -n | tail -1").strip() == str(FILES)
    assert pooled.drill.run(pooled.instance, "ls /root/kept | wc -l").strip() == str(FILES)
    assert "rror" not in pooled.drill.run(pooled.instance, "dmesg | grep -i ext4 || true")


def test_killed_with_a_snapshot_pending_the_lab_completes_it_and_goes_on_with_the_pool(pooled: Lab) -> None:
    boot_id = pooled.drill.run(pooled.instance, "cat /proc/sys/kernel/random/boot_id")
    pending = pooled.snapshot()
    os.kill(control_pid(pooled.folder), signal.SIGKILL)
    wait(lambda: control.status(pooled.folder) is None, seconds=10)
    with pytest.raises(UsageError, match="other write pools"):
        control.up(folder=pooled.folder, seed=SEED + 1)
    again = control.up(folder=pooled.folder)
    assert (again.lost, again.pool, again.seed) == ((), {"linux": 1.0}, SEED)
    assert pooled.copy(pending).kept < FILES
    assert pooled.drill.run(pooled.instance, "cat /proc/sys/kernel/random/boot_id") == boot_id
    pooled.drill.run(pooled.instance, f"rm -r /root/kept; sync; {WRITE}")
    assert pooled.copy(pooled.snapshot()).kept < FILES
    assert pooled.drill.run(pooled.instance, "ls /root/kept | wc -l").strip() == str(FILES)


def test_stopped_it_is_whole_and_so_is_it_when_it_runs_again(pooled: Lab) -> None:
    pooled.drill.run(pooled.instance, WRITE)
    pooled.drill.ec2.stop_instances(InstanceIds=[pooled.instance])
    pooled.drill.reach(pooled.instance, "stopped")
    copy = pooled.copy(pooled.snapshot())
    assert copy.whole
    assert copy.kept == FILES
    assert not list((pooled.folder / "machines" / pooled.instance).glob("*.writes"))

    pooled.drill.ec2.start_instances(InstanceIds=[pooled.instance])
    pooled.drill.reach(pooled.instance, "running")
    pooled.drill.reach_ok(pooled.instance)
    # What was written before the last stop has left the pool for good.
    copy = pooled.copy(pooled.snapshot())
    assert copy.path.stat().st_size
    assert pooled.drill.run(pooled.instance, "ls /root/kept | wc -l").strip() == str(FILES)
