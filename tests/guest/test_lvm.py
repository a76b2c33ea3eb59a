"""LVM: what is on a group's logical volumes is examined, and nothing is activated for it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drtest.guest.probes import lvm
from tests.guest.images import Images, examine, find, tool, write
from tests.guest.volume_groups import MIB, Group


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    with Images(tmp_path) as images:
        yield images


def test_all_logical_volumes_of_a_group_are_examined(images: Images) -> None:
    group = Group(images, {"root": 64, "swap": 8, "small": 64})
    group.fill("root", images.made("ext4"))
    swap = images.blank(8 * MIB)
    tool("mkswap", "-q", swap)
    group.fill("swap", swap)
    group.fill("small", images.made("ext4", "-b", "1024"))
    seen = examine(group.image)
    assert [(one["volume"], one["filesystem"]) for one in seen["filesystem.before"]["places"]] == [
        ("vg0/root", "ext4"),
        ("vg0/small", "ext4"),
        ("vg0/swap", None),
    ]
    assert seen["filesystem.check"]["clean"] is True
    write(group.image, group.place("small") + 1024, bytes(1024))
    seen = examine(group.image)
    assert [one["clean"] for one in seen["filesystem.check"]["filesystems"]] == [True, False]


def test_two_copies_of_one_group_are_examined_at_once_and_its_name_is_nobody_s_business(
    images: Images,
) -> None:
    group = Group(images, {"root": 64})
    group.fill("root", images.made("ext4"))
    other = images.copy(group.image)
    write(other, group.place("root") + 1024, bytes(1024))
    assert examine(group.image)["filesystem.check"]["clean"] is True
    assert examine(other)["filesystem.check"]["clean"] is False


def test_a_group_in_a_partition_is_found_beside_other_partitions(images: Images) -> None:
    group = Group(images, {"root": 64})
    group.fill("root", images.made("ext4"))
    seen = examine(images.partitioned("gpt", images.made("vfat"), group.image))
    places = [
        (one["partition"], one["volume"], one["filesystem"]) for one in seen["filesystem.before"]["places"]
    ]
    assert places == [(1, "", "vfat"), (2, "vg0/root", "ext4")]
    assert seen["filesystem.check"]["clean"] is True


def _in_pieces(group: Group) -> None:
    group.lvm("lvextend", "-L", "+16M", "vg0/root")


def _striped(group: Group) -> None:
    group.extend()
    group.create("striped", "-i", "2", "-L", "16M")


def _elsewhere(group: Group) -> None:
    group.create("far", "-L", "16M", group.extend())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_in_pieces, "vg0/root: it lies in 2 pieces"),
        (_striped, "vg0/striped: it is no linear volume, but of the type striped"),
        (_elsewhere, "vg0/far: it lies on another physical volume"),
    ],
)
def test_a_logical_volume_that_is_no_stretch_of_the_disk_is_not_judged(
    images: Images, change: Callable[[Group], None], says: str
) -> None:
    group = Group(images, {"root": 64, "data": 64})
    group.fill("data", images.made("ext4"))
    change(group)
    seen = examine(group.image)
    assert says in seen["filesystem.check"]["error"]
    assert seen["filesystem.check"]["clean"] is None
    assert [
        one["filesystem"] for one in seen["filesystem.before"]["places"] if one["volume"] == "vg0/data"
    ] == ["ext4"]


def test_a_logical_volume_without_a_filesystem_is_not_passed_over(images: Images) -> None:
    group = Group(images, {"root": 64, "empty": 16})
    group.fill("root", images.made("ext4"))
    seen = examine(group.image)
    assert "no filesystem is recognised on the logical volume vg0/empty" in seen["filesystem.check"]["error"]
    assert seen["filesystem.check"]["clean"] is None


def _label(image: Path) -> None:
    write(image, find(image, b"LABELONE") + 60, b"\xff" * 8)


def _metadata(image: Path) -> None:
    text = image.read_bytes()
    place = text.rfind(b"logical_volumes {", 0, MIB)
    write(image, place, b"logical_volumeX {")


def _cut(image: Path) -> None:
    with image.open("r+b") as file:
        file.truncate(48 * MIB)


@pytest.mark.parametrize("spoil", [_label, _metadata, _cut])
def test_a_group_whose_metadata_or_disk_is_damaged_is_damaged(
    images: Images, spoil: Callable[[Path], None]
) -> None:
    group = Group(images, {"root": 64})
    group.fill("root", images.made("ext4"))
    spoil(group.image)
    assert examine(group.image)["filesystem.check"]["clean"] is False


def test_metadata_that_go_round_in_their_area_are_read(images: Images) -> None:
    group = Group(images, {"root": 64})
    place = group.place("root")
    for number in range(50):
        if _goes_round(group.image):
            break
        tags = [word for tag in "abcdefghijklmnop" for word in ("--addtag", f"{tag * 1000}{number}")]
        group.lvm("lvchange", *tags, "vg0/root")
    assert _goes_round(group.image)
    assert lvm.logical_volumes(group.device) == [lvm.Logical("vg0/root", place, 64 * MIB, "")]


def _goes_round(image: Path) -> bool:
    with image.open("rb") as file:
        header = file.read(MIB)
    place = header.find(b" LVM2 x[5A%r0N*>") - 4
    size = int.from_bytes(header[place + 32 : place + 40], "little")
    offset, length = (int.from_bytes(header[place + at : place + at + 8], "little") for at in (40, 48))
    return offset + length > size
