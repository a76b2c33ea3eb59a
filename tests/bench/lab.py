"""The lab's API and its disks: calls a second with 16 clients, filters, hot-plug, snapshots, volumes from them."""

import multiprocessing
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import paramiko
from botocore.config import Config
from tabulate import tabulate

from drtest.lab import control
from drtest.lab.folder import LabStatus

CLIENTS = 16
PROCESSES = 4
SECONDS = 10.0
SNAPSHOTS = 1000
VOLUMES = 50
RUNS = 5


def client(lab: LabStatus) -> Any:
    """A client without retries: what fails counts."""
    return boto3.client(
        "ec2",
        region_name=lab.region,
        endpoint_url=lab.endpoint,
        aws_access_key_id=lab.access_key,
        aws_secret_access_key=lab.secret_key,
        config=Config(retries={"total_max_attempts": 1}, max_pool_connections=CLIENTS),
    )


def until(condition: Callable[[], Any], *, every: float = 0.005) -> None:
    """Wait until a condition holds."""
    while not condition():
        time.sleep(every)


def mixed(ec2: Any, lab: LabStatus, chance: random.Random, made: list[str]) -> None:
    """Make one call of a drill's mixture: mostly looking, sometimes making, tagging, deleting."""
    what = chance.random()
    if what < 0.12 or not made:
        volume = ec2.create_volume(
            AvailabilityZone=lab.zone,
            Size=1,
            TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "bench", "Value": "yes"}]}],
        )
        made.append(volume["VolumeId"])
        return
    key = chance.choice(made)
    if what < 0.20:
        ec2.create_tags(Resources=[key], Tags=[{"Key": "n", "Value": str(what)}])
    elif what < 0.55:
        ec2.describe_volumes(Filters=[{"Name": "volume-id", "Values": [key]}])
    elif what < 0.75:
        ec2.describe_instances(Filters=[{"Name": "tag:bench", "Values": ["yes"]}])
    elif what < 0.85:
        ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [key]}])
    else:
        ec2.describe_snapshots(
            OwnerIds=["self"], Filters=[{"Name": "tag:number", "Values": [str(int(1000 * what))]}]
        )


def _process(lab: LabStatus, number: int, results: Any) -> None:
    done, errors = [0], [0]
    ready = [client(lab) for _ in range(CLIENTS // PROCESSES)]
    end = time.monotonic() + SECONDS

    def work(index: int) -> None:
        made: list[Any] = []
        chance = random.Random(100 * number + index)
        while time.monotonic() < end:
            try:
                mixed(ready[index], lab, chance, made)
                done[0] += 1
            except Exception as error:
                errors[0] += 1
                print(f"a call failed: {error!r}")

    threads = [threading.Thread(target=work, args=[index]) for index in range(len(ready))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((done[0], errors[0]))


def calls_a_second(lab: LabStatus) -> tuple[float, int]:
    """Let clients in several processes make mixed calls, and count."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_process, args=(lab, n, results)) for n in range(PROCESSES)]
    for worker in workers:
        worker.start()
    counted = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    return sum(done for done, _ in counted) / SECONDS, sum(errors for _, errors in counted)


def processor(pid: int) -> float:
    """Processor seconds that a process has used: these don't grow when others use the machine, too."""
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def make_snapshots(ec2: Any, lab: LabStatus) -> float:
    """Take many snapshots of free volumes; gives the seconds that one takes."""
    made = [ec2.create_volume(AvailabilityZone=lab.zone, Size=1)["VolumeId"] for _ in range(VOLUMES)]
    wanted = [{"Name": "status", "Values": ["available"]}]
    until(lambda: len(ec2.describe_volumes(Filters=wanted)["Volumes"]) >= VOLUMES)
    begun = time.perf_counter()
    for number in range(SNAPSHOTS):
        tags = [{"Key": "number", "Value": str(number)}]
        ec2.create_snapshot(
            VolumeId=made[number % VOLUMES], TagSpecifications=[{"ResourceType": "snapshot", "Tags": tags}]
        )
    return (time.perf_counter() - begun) / SNAPSHOTS


def median(work: Callable[[], object], *, times: int = 20) -> float:
    """The median seconds of some work."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def machine(ec2: Any, lab: LabStatus) -> dict[str, float]:
    """Measure a running machine: hot-plug, snapshots of small and large volumes, volumes from these."""
    mapping = [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1000, "DeleteOnTermination": True}}]
    key = ec2.run_instances(
        ImageId=lab.images["linux"],
        MinCount=1,
        MaxCount=1,
        InstanceType="t3.micro",
        KeyName=lab.key_name,
        SubnetId=lab.subnet,
        BlockDeviceMappings=mapping,
    )["Instances"][0]["InstanceId"]
    ec2.get_waiter("instance_status_ok").wait(
        InstanceIds=[key], WaiterConfig={"Delay": 1, "MaxAttempts": 600}
    )
    found = ec2.describe_instances(InstanceIds=[key])["Reservations"][0]["Instances"][0]
    volumes = {m["DeviceName"]: m["Ebs"]["VolumeId"] for m in found["BlockDeviceMappings"]}
    taken: dict[str, list[float]] = {}

    def note(what: str, begun: float) -> None:
        taken.setdefault(what, []).append(time.perf_counter() - begun)

    with paramiko.SSHClient() as guest:
        guest.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        guest.connect(
            found["PublicIpAddress"],
            port=2222,
            username="admin",
            key_filename=str(lab.key_file),
            allow_agent=False,
            look_for_keys=False,
        )
        for _ in range(RUNS):
            for device, size in (("/dev/xvda", 2), ("/dev/sdf", 1000)):
                begun = time.perf_counter()
                snapshot = ec2.create_snapshot(VolumeId=volumes[device])["SnapshotId"]
                note(f"snapshot of a running machine's {size} GiB", begun)
                ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig={"Delay": 1})
                begun = time.perf_counter()
                volume = ec2.create_volume(SnapshotId=snapshot, AvailabilityZone=lab.zone)["VolumeId"]
                until(lambda v=volume: _state(ec2, v) == "available")  # type: ignore[misc]
                note(f"volume from that, {size} GiB, until available", begun)
            seen = f"/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_{volume.replace('-', '')}"
            _, out, _ = guest.exec_command(f"until test -b {seen}; do sleep 0.02; done")
            begun = time.perf_counter()
            ec2.attach_volume(VolumeId=volume, InstanceId=key, Device="/dev/sdg")
            out.channel.recv_exit_status()
            note("AttachVolume until the guest sees it", begun)
            ec2.detach_volume(VolumeId=volume)
            until(lambda v=volume: _state(ec2, v) == "available")  # type: ignore[misc]
    ec2.terminate_instances(InstanceIds=[key])
    return {what: statistics.median(all_) for what, all_ in taken.items()}


def _state(ec2: Any, volume: str) -> str:
    return str(ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"])


def main() -> None:
    """Measure it all in a lab of its own, and print the table."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "lab"
        lab = control.up(folder=folder)
        try:
            ec2 = client(lab)
            one = make_snapshots(ec2, lab)
            # 1,000 more in the books: what belongs to others must not slow a filter down.
            wanted = [{"Name": "tag:number", "Values": ["777"]}]
            by_tag = median(lambda: ec2.describe_snapshots(OwnerIds=["self"], Filters=wanted))
            empty = median(lambda: ec2.describe_regions(RegionNames=[lab.region]))
            before = processor(lab.pid)
            rate, errors = calls_a_second(lab)
            spent = (processor(lab.pid) - before) / max(1.0, rate * SECONDS)
            rows = [
                (f"mixed calls/s, {CLIENTS} clients, {errors} errors", f"{rate:.0f}", "at least 200"),
                ("   the lab's processor time for each", f"{1000 * spent:.1f} ms", ""),
                (f"a tag filter over {SNAPSHOTS} snapshots", f"{1000 * by_tag:.0f} ms", "below 50 ms"),
                ("   × DescribeRegions, which moto answers", f"{by_tag / empty:.1f}", ""),
                ("snapshot of a free volume", f"{1000 * one:.0f} ms", ""),
            ]
            limits = {"Att": "below 3 s", "sna": "below 100 ms", "vol": "below 100 ms"}
            for what, seconds in machine(ec2, lab).items():
                rows.append((what, f"{1000 * seconds:.0f} ms", limits[what[:3]]))
        finally:
            control.down(folder)
    print(tabulate(rows, headers=("lab", "measured", "wanted")))
    print(f"{lab.accelerator}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
