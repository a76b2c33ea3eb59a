"""What the damage catalogue found the examination to get wrong, each held where it is cheapest."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from drtest.guest.probes import ext, ntfs_log, places, prelude, record
from drtest.words import Filesystem
from tests.damage.catalogue import noise
from tests.guest.images import Captured, Images, examine, root, tool, write


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Captured]:
    with Images(tmp_path_factory.mktemp("captured")) as images:
        yield images.captured(Filesystem.BTRFS, "stopped")


def test_a_block_that_can_t_be_read_is_torn_and_what_lies_behind_it_is_not_lost(
    captured: Captured, images: Images
) -> None:
    copy = images.copy(captured.image)
    content = copy.read_bytes()
    place = -1
    while (place := content.find(b"DRTCNRY1\x01\x00\x00\x00", place + 1)) >= 0:
        decoded = record.decode(content[place : place + 512])
        if decoded is not None and decoded.place == 20:
            write(copy, place + 300, bytes([content[place + 300] ^ 1]))
    found = examine(copy, filesystem="btrfs", canary=captured.expected)["canary.found"]
    assert found["torn"] == list(range(16, 24))
    assert found["records"] == [[0, 15], [24, captured.records[-1][1]]]
    assert found["error"] == ""


def test_a_file_of_an_earlier_load_is_neither_there_nor_torn(images: Images) -> None:
    image = images.captured(Filesystem.EXT4, "stopped")
    copy = images.copy(image.image)
    with images.mounted(copy) as top:
        path = top / ".drtest-canary/meta/3"
        decoded = record.decode(path.read_bytes())
        assert decoded is not None
        older = images.folder / "older"
        older.write_bytes(record.encode(decoded._replace(series="ab" * 16, volume_id="vol-0another")))
        root("cp", older, path)
    found = examine(copy, filesystem="ext4", canary=image.expected)["canary.found"]
    assert found["metadata_torn"] == []
    assert found["metadata"][0] == [0, 2]


def test_a_canary_of_which_nothing_is_known_is_found_by_its_newest_record(images: Images) -> None:
    image = images.captured(Filesystem.EXT4, "stopped")
    unknown = type(image.expected)(volume_id="", inside="")
    found = examine(images.copy(image.image), filesystem="ext4", canary=unknown)["canary.found"]
    assert found["series"] == image.series
    assert found["records"] == [list(one) for one in image.records]
    assert found["foreign"] == []


def test_a_journal_whose_head_is_another_block_s_bytes_has_no_features_of_the_future(images: Images) -> None:
    image = images.made("ext4")
    found = re.search(r"\(0(?:-\d+)?\):(\d+)", tool("debugfs", "-R", "stat <8>", image))
    assert found
    # A head that is still one, with features that are noise.
    write(image, int(found.group(1)) * 1024 + 0x24, noise(12))
    seen = examine(image, filesystem="ext4")
    assert seen["filesystem.before"]["unknown_features"] == []
    assert seen["filesystem.check"]["clean"] is False


@pytest.mark.parametrize("size", [16 << 20, 64 << 20])
def test_an_ext4_of_one_group_and_without_checksums_is_looked_at(images: Images, size: int) -> None:
    image = images.blank(size)
    tool("mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "^metadata_csum,^64bit", image)
    seen = examine(image, filesystem="ext4")
    assert (seen["filesystem.before"]["error"], seen["filesystem.check"]["clean"]) == ("", True)
    assert not ext.superblock(str(image), 1 << 40).valid


def test_what_is_odd_about_a_superblock_is_the_first_problem_that_is_told(images: Images) -> None:
    image = images.made("xfs")
    write(image, 0, bytes(4096))
    problems = examine(image, filesystem="xfs")["filesystem.check"]["problems"]
    assert problems[0] == "its superblock is gone, a secondary one is there"


def _ntfs(images: Images) -> Path:
    image = images.blank(32 << 20)
    tool("mkfs.ntfs", "-q", "-F", image)
    return image


def test_the_log_of_a_new_ntfs_is_clean_and_that_of_none_is_not_known(images: Images) -> None:
    image = _ntfs(images)
    assert ntfs_log.dirty(str(image)) is False
    write(image, image.read_bytes().find(b"\xff" * 65536), noise(65536))
    assert ntfs_log.dirty(str(image)) is None
    assert ntfs_log.dirty(str(images.made("ext4"))) is None


@pytest.mark.parametrize("place", [0, 4096 * 4, 4096 * 4 + 5 * 1024])
def test_an_ntfs_that_blkid_does_not_know_any_more_is_damaged_and_not_unknown(
    images: Images, place: int
) -> None:
    image = _ntfs(images)
    write(image, place, bytes(1024 if place else 512))
    seen = examine(image)
    assert seen["filesystem.before"]["filesystem"] == "ntfs"
    assert seen["filesystem.check"]["clean"] is False


def test_the_boot_sector_of_a_disk_that_needs_none_is_not_missed(images: Images) -> None:
    dos = images.partitioned("dos", images.made("vfat"))
    gpt = images.partitioned("gpt", images.made("vfat"))
    assert places.boot_code(str(dos)) is False
    assert places.boot_code(str(gpt)) is None
    assert places.boot_code(str(images.made("ext4"))) is None
    assert places.boot_code(str(images.made("vfat"))) is None
    write(dos, 0, b"\xfa\x33\xc0")
    assert places.boot_code(str(dos)) is True
    assert examine(dos)["filesystem.before"]["boot_code"] is True


def test_a_checker_that_prints_without_an_end_is_ended_and_what_it_said_stands() -> None:
    prelude.begin(60)
    ran = prelude.run(["yes", "Inode 12 is wrong.  Fix? no"], 60)
    assert (ran.exit, ran.error) == (None, "")
    assert ran.output.startswith("Inode 12 is wrong.  Fix? no\n")
    clean, error = ext._decide(ran, ["Inode 12 is wrong."], [], True)
    assert (clean, error) == (False, "")
