"""Which volumes have a write pool in front of them, and what becomes of their snapshots, without machines."""

from dataclasses import replace
from pathlib import Path

import pytest

from drtest.errors import EnvironmentFailedError
from drtest.lab import stock
from drtest.lab.images import Image as Guest
from drtest.lab.pool import Pool, Settings
from drtest.lab.resources import Image

from .conftest import REGION, Driver, Site, until

STRENGTH = 0.7


@pytest.fixture
def pooled(site: Site) -> Site:
    """A lab whose image has a write pool."""
    with site.compute.books.open():
        image = site.compute.books.find(Image, site.image)
        assert image is not None
        site.compute.books.put(replace(image, pool=STRENGTH))
    return site


def pools(site: Site) -> dict[str, Pool | None]:
    """Say which pool each disk of the machine that was started last has."""
    return {disk.device: disk.pool for disk in site.hardware.specs[-1].disks}


def test_the_root_of_an_instance_has_the_pool_of_its_image_and_no_other_volume_has(
    pooled: Site, drive: Driver
) -> None:
    drive.run(BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}])
    assert pools(pooled) == {"/dev/xvda": Pool(strength=STRENGTH, seed="0"), "/dev/sdf": None}


def test_an_image_without_one_has_none(site: Site, drive: Driver) -> None:
    drive.run()
    assert pools(site) == {"/dev/xvda": None}


def test_an_image_that_is_made_of_an_instance_has_its_pool(pooled: Site, drive: Driver) -> None:
    made = drive.ec2.create_image(InstanceId=drive.run(), Name="made", NoReboot=True)["ImageId"]
    until(lambda: drive.ec2.describe_images(ImageIds=[made])["Images"][0]["State"] == "available")
    drive.run(ImageId=made)
    assert pools(pooled) == {"/dev/xvda": Pool(strength=STRENGTH, seed="0")}


def test_a_snapshot_is_completed_when_its_bytes_are_put_together(site: Site, drive: Driver) -> None:
    snapshot = drive.new_snapshot(drive.root(drive.run()))
    assert drive.snapshot(snapshot)["State"] == "completed"
    assert len(site.hardware.finished) == 1


def test_a_snapshot_whose_bytes_can_t_be_put_together_ends_in_error_and_says_why(
    site: Site, drive: Driver
) -> None:
    def fail(layer: str) -> None:
        raise EnvironmentFailedError("the log of writes breaks off")

    site.hardware.finish = fail  # type: ignore[method-assign]
    snapshot = drive.new_snapshot(drive.root(drive.run()), wait="error")
    assert drive.snapshot(snapshot)["StateMessage"] == "the log of writes breaks off"


@pytest.mark.parametrize(
    ("settings", "strength"),
    [
        (Settings(seed=7), 0.9),
        (Settings(seed=7, strengths={"windows": 0.0}), 0.0),
        (Settings(seed=7, strengths={"windows": 0.4, "linux": 1.0}), 0.4),
    ],
)
def test_an_image_is_entered_with_its_pool_or_what_the_lab_sets(
    settings: Settings, strength: float, site: Site, tmp_path: Path
) -> None:
    guest = Guest(
        name="windows",
        os="windows",
        layer=tmp_path / "disk.qcow2",
        root_device="/dev/sda1",
        size=2**30,
        version="0123456789abcdef",
        notice="A stand-in.",
        pool=0.9,
    )
    ids = stock.enter(site.compute, [guest], owner=site.account, region=REGION, pools=settings)
    image = site.compute.books.find(Image, ids["windows"])
    assert image is not None
    assert image.pool == strength
    notice = image.tags[stock.NOTICE]
    assert notice.startswith("A stand-in.")
    assert (f"strength {strength:g}, seed 7" in notice) is bool(strength)
