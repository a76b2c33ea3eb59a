"""Damage to NTFS that Linux' tools together see, each of them a part of it."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drtest.guest.probes import ntfs_log
from tests.guest.images import Images, examine, root, tool, write

RECORD = 1024


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An NTFS with some folders full of files."""
    image = tmp_path_factory.mktemp("ntfs") / "whole.img"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    tool("mkfs.ntfs", "-q", "-F", image)
    top = image.with_suffix(".mnt")
    top.mkdir()
    root("ntfs-3g", image, top)
    for folder in range(3):
        (top / f"folder {folder}").mkdir()
        for number in range(60):
            (top / f"folder {folder}" / f"file number {number}").write_text("something " * number * 20)
    root("umount", top)
    return image


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    with Images(tmp_path) as images:
        yield images


class Ntfs:
    """Where things are on an NTFS, by its boot sector."""

    def __init__(self, image: Path) -> None:
        self.image = image
        self.content = image.read_bytes()
        sector, per_cluster = struct.unpack_from("<HB", self.content, 11)
        self.cluster = int(sector * per_cluster)
        sectors, mft, mirror = struct.unpack_from("<QQQ", self.content, 40)
        self.backup = int(sectors * sector)
        self.mft, self.mirror = int(mft * self.cluster), int(mirror * self.cluster)

    def record(self, number: int) -> int:
        """Where a file's record is."""
        return self.mft + number * RECORD

    def data(self, number: int) -> int:
        """Where a file's data begin."""
        place = self.record(number)
        first = ntfs_log._first_cluster(self.content[place : place + RECORD])
        assert first is not None
        return int(first * self.cluster)


def backup_boot_sector(ntfs: Ntfs) -> None:
    write(ntfs.image, ntfs.backup, bytes(512))


def boot_sector(ntfs: Ntfs) -> None:
    write(ntfs.image, 0, bytes(512))


def place_of_the_mft(ntfs: Ntfs) -> None:
    write(ntfs.image, 48, struct.pack("<Q", 7))


def mirror_of_the_mft(ntfs: Ntfs) -> None:
    write(ntfs.image, ntfs.mirror + 3 * RECORD + 100, b"\xff")


def record_of_the_root_folder(ntfs: Ntfs) -> None:
    write(ntfs.image, ntfs.record(5), bytes(RECORD))


def record_of_a_file(ntfs: Ntfs) -> None:
    write(ntfs.image, ntfs.record(80), bytes(RECORD))


def half_a_record(ntfs: Ntfs) -> None:
    write(ntfs.image, ntfs.record(80) + 512, bytes(range(256)) * 2)


def bitmap(ntfs: Ntfs) -> None:
    write(ntfs.image, ntfs.data(6) + 900, b"\x01")


def block_of_a_folder(ntfs: Ntfs) -> None:
    write(ntfs.image, ntfs.content.rfind(b"INDX"), bytes(4096))


DAMAGE = (
    backup_boot_sector,
    boot_sector,
    place_of_the_mft,
    mirror_of_the_mft,
    record_of_the_root_folder,
    record_of_a_file,
    half_a_record,
    bitmap,
    block_of_a_folder,
)


def test_an_ntfs_with_files_is_whole(whole: Path, images: Images) -> None:
    seen = examine(images.copy(whole), filesystem="ntfs")
    assert (seen["filesystem.check"]["clean"], seen["filesystem.check"]["problems"]) == (True, [])


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__.replace("_", "-"))
def test_damage_to_an_ntfs_is_seen(damage: Callable[[Ntfs], None], whole: Path, images: Images) -> None:
    image = images.copy(whole)
    damage(Ntfs(image))
    seen = examine(image, filesystem="ntfs")
    assert seen["filesystem.check"]["clean"] is False
    assert seen["filesystem.check"]["problems"]
