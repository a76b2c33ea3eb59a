"""The traps of offline examination: what looks like damage and is none, and what hides it."""

import hashlib
import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drtest.guest import canary, linux
from drtest.guest.local import LocalGuest
from drtest.guest.probes import fat_tables
from drtest.words import Filesystem
from tests.guest.images import Captured, Images, examine, root, tool, write

NOISE = hashlib.shake_256(b"noise").digest(4096)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Captured]:
    """An ext4 volume with a canary, unmounted: tests damage copies of it."""
    with Images(tmp_path_factory.mktemp("stopped")) as images:
        yield images.captured(Filesystem.EXT4, "stopped")


def _ext_feature(image: Path) -> None:
    tool("debugfs", "-w", "-R", "feature FEATURE_I20", image)


def _xfs_feature(image: Path) -> None:
    tool("xfs_db", "-x", "-c", "sb 0", "-c", "write -d features_incompat 0x8000000b", image)


def _btrfs_feature(image: Path) -> None:
    block = bytearray(image.read_bytes()[65536 : 65536 + 4096])
    struct.pack_into("<Q", block, 0xBC, struct.unpack_from("<Q", block, 0xBC)[0] | 1 << 40)
    from drtest.guest.probes.ext import crc32c

    struct.pack_into("<I", block, 0, crc32c(bytes(block[32:])) ^ 0xFFFFFFFF)
    write(image, 65536, bytes(block))


@pytest.mark.parametrize(
    ("kind", "change"), [("ext4", _ext_feature), ("xfs", _xfs_feature), ("btrfs", _btrfs_feature)]
)
def test_a_feature_that_the_tools_do_not_know_is_no_damage(
    images: Images, kind: str, change: Callable[[Path], None]
) -> None:
    image = images.made(kind)
    change(image)
    check = examine(image, filesystem=kind)["filesystem.check"]
    assert check["clean"] is None
    assert check["unknown_features"]
    assert "does not know" in check["error"]


def test_a_volume_on_which_the_source_s_filesystem_is_gone_is_damaged(images: Images) -> None:
    seen = examine(images.blank(8 << 20), filesystem="ext4")
    assert seen["filesystem.check"]["clean"] is False
    assert "no ext4 is recognised" in seen["filesystem.check"]["problems"][0]


def test_a_volume_that_may_never_have_had_a_filesystem_says_nothing(images: Images) -> None:
    seen = examine(images.blank(8 << 20))
    assert seen["filesystem.before"]["error"] == "no filesystem is recognised on it"
    assert seen["filesystem.check"]["clean"] is None


@pytest.mark.parametrize("seed", range(6))
def test_an_ext4_superblock_whose_features_are_noise_is_damaged_and_not_of_the_future(
    images: Images, seed: int
) -> None:
    image = images.made("ext4")
    write(image, 1024 + 0x5C, hashlib.shake_256(bytes([seed])).digest(100))
    seen = examine(image, filesystem="ext4")
    assert (seen["filesystem.check"]["clean"], seen["filesystem.check"]["error"]) == (False, "")


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_all_filesystems_of_a_partitioned_volume_are_examined_and_the_canary_is_found_in_its_own(
    stopped: Captured, images: Images, label: str
) -> None:
    disk = images.partitioned(label, images.made("vfat"), stopped.image)
    seen = examine(disk, filesystem="ext4", uuid=stopped.place.uuid, canary=stopped.expected)
    assert seen["filesystem.before"]["filesystem"] == "ext4"
    assert [one["filesystem"] for one in seen["filesystem.check"]["filesystems"]] == ["ext4", "vfat"]
    assert seen["filesystem.check"]["clean"] is True
    assert seen["canary.found"]["records"][0][0] == 0


def test_damage_of_the_boot_partition_is_damage_of_the_volume(stopped: Captured, images: Images) -> None:
    boot = images.made("vfat")
    write(boot, 512 * 5, NOISE[:512])  # in the first copy of its table
    seen = examine(images.partitioned("dos", boot, stopped.image), filesystem="ext4", canary=stopped.expected)
    assert seen["filesystem.check"]["clean"] is False
    assert any("FAT" in problem for problem in seen["filesystem.check"]["problems"])
    assert seen["canary.found"]["records"][0][0] == 0


def test_a_boot_partition_that_was_mounted_is_no_damage(images: Images) -> None:
    boot = images.made("vfat")
    write(boot, 37, b"\x01")
    seen = examine(boot)
    assert seen["filesystem.check"]["clean"] is True
    assert "dirty bit" in seen["filesystem.before"]["notes"][0]


@pytest.mark.parametrize("size", [4 << 20, 16 << 20, 300 << 20], ids=["FAT12", "FAT16", "FAT32"])
def test_a_helper_without_fsck_fat_checks_it_all_the_same(images: Images, size: int) -> None:
    image = images.blank(size)
    tool("mkfs.vfat", image)
    tool("mmd", "-i", image, "::/folder")
    content = images.folder / "content"
    content.write_bytes(NOISE * 50)
    for name in ("A.TXT", "folder/long name of a file.bin", "folder/empty"):
        source = content if "empty" not in name else Path(os.devnull)
        tool("mcopy", "-i", image, source, f"::/{name}")
    assert fat_tables.check(str(image), size) == []
    bits = fat_tables._Geometry(image.read_bytes()[:512], size)
    first, second = bits.table, bits.table + bits.table_bytes
    raw = image.read_bytes()[first:second]
    cut, lost = images.copy(image), images.copy(image)
    write(images.copy(image), first, raw)
    broken = {
        "copies": (image, [(first + 8, b"\x05\x06\x07")]),
        "chain": (cut, [(place + 5, b"\xf7\xff\x0f\x03") for place in (first, second)]),
        "boot sector": (lost, [(11, b"\xff\xff")]),
    }
    for name, (damaged, changes) in broken.items():
        for place, data in changes:
            write(damaged, place, data)
        assert fat_tables.check(str(damaged), size) != [], name


def test_one_partition_can_be_asked_for(stopped: Captured, images: Images) -> None:
    disk = images.partitioned("dos", images.made("vfat"), stopped.image)
    seen = examine(disk, partition=1)
    assert seen["filesystem.before"]["filesystem"] == "vfat"
    assert examine(disk, partition=7)["filesystem.before"]["error"] == "it has no partition 7"


def test_a_partition_table_that_was_wiped_is_damage(stopped: Captured, images: Images) -> None:
    disk = images.partitioned("dos", images.made("vfat"), stopped.image)
    write(disk, 0, bytes(512))
    assert examine(disk, filesystem="ext4")["filesystem.check"]["clean"] is False


def test_a_gpt_whose_first_copy_is_damaged_is_read_from_its_backup(stopped: Captured, images: Images) -> None:
    disk = images.partitioned("gpt", images.made("vfat"), stopped.image)
    write(disk, 512, bytes(512))
    assert examine(disk, filesystem="ext4", canary=stopped.expected)["canary.found"]["records"][0][0] == 0


def _luks(image: Path) -> None:
    write(image, 0, b"LUKS\xba\xbe\x00\x01" + bytes(160) + b"0f3c2f9e-3a1a-4c58-9d0c-8f3f4a8a5c11\0\0\0\0")


def _lvm(image: Path) -> None:
    label = bytearray(512)
    label[0:8] = b"LABELONE"
    struct.pack_into("<Q", label, 8, 1)
    struct.pack_into("<I", label, 20, 32)
    label[24:32] = b"LVM2 001"
    label[32:64] = b"abcdefghijklmnopqrstuvwxyzABCDEF"
    crc = 0xF597A6CF  # format_text/layout.h: CRC-32 of all behind the checksum, with this start and no inversion
    for byte in label[20:]:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xEDB88320 if crc & 1 else 0)
    struct.pack_into("<I", label, 16, crc)
    write(image, 512, bytes(label))


@pytest.mark.parametrize(("content", "word"), [(_luks, "encrypted"), (_lvm, "LVM")])
def test_what_can_t_be_looked_into_is_an_error_and_not_damage(
    images: Images, content: Callable[[Path], None], word: str
) -> None:
    image = images.blank(16 << 20)
    content(image)
    seen = examine(image)
    assert word in seen["filesystem.before"]["error"]
    assert seen["filesystem.check"]["clean"] is None


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_copy_with_the_uuid_of_a_mounted_filesystem_is_examined_itself(images: Images, kind: str) -> None:
    original = images.made(kind)
    with images.mounted(original) as top:
        root("sh", "-c", f"cd {top}; for n in $(seq 50); do echo $n > f$n; done")
        root("xfs_io", "-x", "-c", "shutdown -f", top)
    copy = images.copy(original)
    with images.mounted(original):  # replays the original's log, and claims its UUID
        seen = examine(copy, filesystem=kind)
    assert seen["filesystem.replay"]["replayed"] is True
    assert (seen["filesystem.check"]["clean"], seen["filesystem.check"]["error"]) == (True, "")


def test_two_copies_of_one_btrfs_are_examined_one_after_the_other(images: Images) -> None:
    original = images.made("btrfs")
    volumes = {
        name: linux.VolumeToExamine(device=str(images.copy(original)), filesystem="btrfs")
        for name in ("a", "b")
    }
    seen = linux.offline(LocalGuest(), volumes=volumes, deadline=60)
    clean = {one.volume: one.data["clean"] for one in seen if one.probe == "filesystem.check"}
    assert clean == {"a": True, "b": True}


def test_a_device_in_use_is_left_alone(images: Images) -> None:
    image = images.made("ext4")
    device = images.loop(image)
    top = images.folder / "held"
    top.mkdir()
    root("mount", device, top)
    try:
        seen = linux.offline(
            LocalGuest(), volumes={"data": linux.VolumeToExamine(device=device)}, deadline=30
        )
        errors = [one.data["error"] for one in seen if one.probe == "filesystem.before"]
        assert "in use" in errors[0]
        assert str(top) in errors[0]
        assert root("blockdev", "--getro", device).strip() == "0"
    finally:
        root("umount", top)


def test_a_disk_that_never_appears_says_which_ones_did(tmp_path: Path) -> None:
    volume = linux.VolumeToExamine(
        volume_id="vol-0aaaaaaaaaaaaaaaa", canary=linux.CanaryToFind(volume_id="v", inside="/c")
    )
    seen = linux.offline(LocalGuest(), volumes={"data": volume}, deadline=30, wait=0.5)
    errors = {one.probe: one.data["error"] for one in seen if one.volume}
    assert set(errors) == {"filesystem.before", "filesystem.replay", "filesystem.check", "canary.found"}
    assert all("no disk has the serial vol0aaaaaaaaaaaaaaaa" in error for error in errors.values())


def test_a_filesystem_of_a_server_whose_clock_is_ahead_is_whole(images: Images) -> None:
    image = images.made("ext4")
    tool("debugfs", "-w", "-R", "set_super_value mtime 209901010000", image)
    tool("debugfs", "-w", "-R", "set_super_value wtime 209901010000", image)
    assert examine(image, filesystem="ext4")["filesystem.check"]["clean"] is True


def test_a_filesystem_that_is_cut_off_by_the_end_of_the_volume_is_damaged(images: Images) -> None:
    image = images.made("ext4")
    with image.open("r+b") as file:
        file.truncate(40 << 20)
    assert examine(image, filesystem="ext4")["filesystem.check"]["clean"] is False


def _journal(image: Path) -> int:
    """Where an ext4 image with blocks of 1 KiB has its journal, in bytes."""
    found = re.search(r"\(0(?:-\d+)?\):(\d+)", tool("debugfs", "-R", "stat <8>", image))
    assert found
    return int(found.group(1)) * 1024


def _journal_blocks(image: Path, kind: int) -> list[int]:
    """Places of the journal's descriptor (1) and commit (2) blocks."""
    content, start = image.read_bytes(), _journal(image)
    head = struct.pack(">II", 0xC03B3998, kind)
    return [place for place in range(start, start + (4 << 20), 1024) if content[place : place + 8] == head]


def _journal_superblock(image: Path) -> None:
    write(image, _journal(image), hashlib.sha512(b"noise").digest() * 16)


def _journal_superblock_checksum(image: Path) -> None:
    write(image, _journal(image) + 0x1C, b"\x07")


def _journal_data(image: Path) -> None:
    for place in _journal_blocks(image, 1)[:1]:
        for number in range(1, 10):
            write(image, place + number * 1024 + 500, b"\xff" * 40)


def _journal_commit(image: Path) -> None:
    write(image, _journal_blocks(image, 2)[0] + 16, b"\xff" * 8)


@pytest.mark.parametrize(
    "damage", [_journal_superblock, _journal_superblock_checksum, _journal_data, _journal_commit]
)
def test_a_damaged_journal_is_damage_though_e2fsck_drops_it_without_a_word_in_its_exit_code(
    images: Images, damage: Callable[[Path], None]
) -> None:
    image = images.made("ext4")
    with images.mounted(image) as top:
        root("sh", "-c", f"cd {top}; for n in $(seq 200); do echo $n > f$n; done")
        root("xfs_io", "-x", "-c", "shutdown -f", top)
    damage(image)
    seen = examine(image, filesystem="ext4")
    assert seen["filesystem.before"]["dirty_log"] is True
    assert seen["filesystem.replay"]["exit"] in (0, 1)
    assert seen["filesystem.check"]["clean"] is False
    assert "can't be replayed" in seen["filesystem.check"]["problems"][0]


def _lose_ext4_log(image: Path) -> None:
    for place in _journal_blocks(image, 1):
        write(image, place + 100, b"\xff" * 40)


def _lose_xfs_log(image: Path) -> None:
    content = image.read_bytes()
    place = content.find(b"\xfe\xed\xba\xbe")  # the header of a record of the log
    while place >= 0:
        write(image, place + 512, hashlib.sha512(b"noise").digest() * 8)
        place = content.find(b"\xfe\xed\xba\xbe", place + 512)


@pytest.mark.parametrize(
    ("kind", "lose"), [(Filesystem.EXT4, _lose_ext4_log), (Filesystem.XFS, _lose_xfs_log)]
)
def test_a_log_whose_loss_looks_like_its_end_is_found_by_the_canary(
    images: Images, kind: Filesystem, lose: Callable[[Path], None]
) -> None:
    captured = images.captured(kind, "running")
    lose(captured.image)
    seen = examine(captured.image, filesystem=kind.value, canary=captured.expected)
    found = tuple((first, last) for first, last in seen["canary.found"]["metadata"])
    lost = canary.subtract(captured.metadata, found)
    assert lost or seen["filesystem.check"]["clean"] is False


def test_an_image_that_is_damaged_leaves_no_loop_device_and_no_mount_behind(images: Images) -> None:
    image = images.made("ext4")
    write(image, 1024, bytes(1024))
    examine(image)
    disk = images.partitioned("dos", images.made("vfat"), images.made("ext4"))
    examine(disk)
    assert str(images.folder) not in root("losetup", "-l", "-n", "-O", "BACK-FILE")
    assert str(images.folder) not in root("cat", "/proc/self/mountinfo")
    assert "/run/drtest-" not in root("cat", "/proc/self/mountinfo")


def test_a_device_that_was_examined_can_be_written_to_again(images: Images) -> None:
    device = images.loop(images.made("ext4"))
    linux.offline(LocalGuest(), volumes={"data": linux.VolumeToExamine(device=device)}, deadline=60)
    assert root("blockdev", "--getro", device).strip() == "0"
