"""A lab without machines, its endpoint on a real port, and boto3 clients of it."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from drtest.lab.addresses import Addresses
from drtest.lab.books import Books
from drtest.lab.compute import Compute, Timings, new_id, now
from drtest.lab.endpoint import Endpoint, serve
from drtest.lab.neighbours import Neighbours
from drtest.lab.network import Network
from drtest.lab.resources import Device, Image, Snapshot

from .fake_hardware import FakeHardware

REGION = "us-east-1"
ZONE = "us-east-1a"
UNVERIFIED = "any secret"
"""The lab does not verify signatures."""
QUICK = Timings(
    volume=0.05,
    snapshot=0.2,
    attach=0.05,
    detach=0.05,
    modify=0.1,
    stop=0.6,
    force_stop=0.2,
    terminate=0.3,
    impaired=0.4,
    probe=0.05,
    recheck=0.1,
    unseen=0.0,
)


@dataclass
class Site:
    """A lab under test."""

    compute: Compute
    hardware: FakeHardware
    neighbours: Neighbours
    endpoint: Endpoint
    port: int
    account: str
    access_key: str
    image: str

    def client(
        self, service: str = "ec2", *, access_key: str = "", region: str = REGION, token: str | None = None
    ) -> Any:
        """Make a boto3 client of the lab, without retries."""
        return boto3.client(  # type: ignore[call-overload]
            service,
            region_name=region,
            aws_session_token=token,
            endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id=access_key or self.access_key,
            aws_secret_access_key=UNVERIFIED,
            config=Config(retries={"max_attempts": 0}),
        )


@contextmanager
def open_site(
    folder: Path, *, timings: Timings = QUICK, account: str = "", hardware: FakeHardware | None = None
) -> Iterator[Site]:
    """Open a lab.

    Args:
        folder: with the books of an earlier lab in it, these are taken up.
        timings: how long things take.
        account: whose image it has.
        hardware: what an earlier lab left running; it is not stopped at the end then.
    """
    account = account or str(secrets.randbelow(9 * 10**11) + 10**11)
    access_key = "AKIA" + "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(16))
    books = Books(folder / "books.sqlite")
    neighbours = Neighbours(books)
    machines = hardware or FakeHardware(folder)
    compute = Compute(
        books=books,
        hardware=machines,
        network=Network(neighbours),
        addresses=Addresses(),
        timings=timings,
    )
    image = stock_image(compute, account)
    endpoint = Endpoint(compute, neighbours=neighbours, accounts={access_key: account})
    server = serve(endpoint)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Site(compute, machines, neighbours, endpoint, server.port, account, access_key, image)
    server.shutdown()
    server.server_close()
    thread.join(timeout=5)
    compute.work.stop()
    if hardware is None:
        machines.stop()
    books.close()


def stock_image(compute: Compute, account: str, *, os: str = "linux") -> str:
    """Enter an image of 2 GiB, as the lab does with its own."""
    hardware = compute.hardware
    assert isinstance(hardware, FakeHardware)
    hardware.layer_bytes["stock"] = b"boot sector"
    with compute.books.open():
        common = {"owner": account, "region": REGION, "created": now()}
        snapshot = Snapshot(
            id=new_id("snap"),
            number=compute.books.next_number(),
            state="completed",
            progress=100,
            volume="vol-ffffffff",
            size=2,
            layer="stock",
            kept=True,
            os=os,
            **common,  # type: ignore[arg-type]
        )
        image = Image(
            id=new_id("ami"),
            number=compute.books.next_number(),
            state="available",
            name=f"drtest {os}",
            os=os,
            root_device="/dev/xvda",
            devices=(Device(name="/dev/xvda", snapshot=snapshot.id, size=2),),
            tags={"Name": os},
            **common,  # type: ignore[arg-type]
        )
        compute.books.put(snapshot)
        compute.books.put(image)
    return image.id


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path) as opened:
        yield opened


@pytest.fixture
def ec2(site: Site) -> Any:
    # Any, and not boto3-stubs' client: half of these calls are wrong on purpose.
    return site.client()


def code_of(call: Callable[..., Any], **params: Any) -> str:
    """Say with which error code a call is refused."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    return caught.value.response["Error"]["Code"]


def until(condition: Callable[[], Any], *, seconds: float = 10.0) -> Any:
    """Wait until a condition holds, and give what it gave."""
    end = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.01)


@dataclass
class Driver:
    """Says in one word what the tests do all the time."""

    site: Site
    ec2: Any

    def instance(self, instance_id: str) -> Any:
        return self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

    def state(self, instance_id: str) -> str:
        return str(self.instance(instance_id)["State"]["Name"])

    def volume(self, volume_id: str) -> Any:
        return self.ec2.describe_volumes(VolumeIds=[volume_id])["Volumes"][0]

    def snapshot(self, snapshot_id: str) -> Any:
        return self.ec2.describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"][0]

    def root(self, instance_id: str) -> str:
        mappings = self.instance(instance_id)["BlockDeviceMappings"]
        return str(next(m["Ebs"]["VolumeId"] for m in mappings if m["DeviceName"] == "/dev/xvda"))

    def run(self, *, wait: str = "running", **params: Any) -> str:
        given = {
            "ImageId": self.site.image,
            "MinCount": 1,
            "MaxCount": 1,
            "InstanceType": "t3.micro",
            **params,
        }
        key = str(self.ec2.run_instances(**given)["Instances"][0]["InstanceId"])
        if wait:
            self.reach(key, wait)
        return key

    def reach(self, instance_id: str, state: str) -> None:
        until(lambda: self.state(instance_id) == state)

    def stop(self, instance_id: str) -> None:
        self.ec2.stop_instances(InstanceIds=[instance_id])
        self.reach(instance_id, "stopped")

    def new_volume(self, *, wait: str = "available", **params: Any) -> str:
        given: dict[str, Any] = {"AvailabilityZone": ZONE, **params}
        if "SnapshotId" not in given:
            given.setdefault("Size", 1)
        key = str(self.ec2.create_volume(**given)["VolumeId"])
        if wait:
            until(lambda: self.volume(key)["State"] == wait)
        return key

    def new_snapshot(self, volume_id: str, *, wait: str = "completed", **params: Any) -> str:
        key = str(self.ec2.create_snapshot(VolumeId=volume_id, **params)["SnapshotId"])
        if wait:
            until(lambda: self.snapshot(key)["State"] == wait)
        return key


@pytest.fixture
def drive(site: Site, ec2: Any) -> Driver:
    return Driver(site, ec2)
