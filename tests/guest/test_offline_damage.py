"""The offline examination of damage: of records, of files, of filesystems, of what holds them."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drtest.guest.probes import record
from drtest.words import Filesystem
from tests.guest.images import Captured, Images, examine, record_at, root, tool, write

NOISE = hashlib.shake_256(b"noise").digest(4096)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Captured]:
    """An ext4 volume with a canary, unmounted: tests damage copies of it."""
    with Images(tmp_path_factory.mktemp("stopped")) as images:
        yield images.captured(Filesystem.EXT4, "stopped")


def _found(image: Path, captured: Captured) -> dict[str, Any]:
    return examine(image, filesystem="ext4", canary=captured.expected)["canary.found"]


def test_a_record_that_became_zeros_is_missing_and_nothing_else_is(stopped: Captured, images: Images) -> None:
    copy = images.copy(stopped.image)
    place, _ = record_at(copy, stopped, 7)
    write(copy, place, bytes(512))
    found = _found(copy, stopped)
    assert found["records"][:2] == [[0, 6], [8, found["records"][1][1]]]
    assert found["torn"] == []


@pytest.mark.parametrize("part", [(0, 1), (15, 8), (100, 4), (256, 256), (475, 1), (511, 1)])
def test_a_record_that_is_wrong_in_any_part_is_torn(
    stopped: Captured, images: Images, part: tuple[int, int]
) -> None:
    copy = images.copy(stopped.image)
    place, data = record_at(copy, stopped, 5)
    first, length = part
    write(copy, place + first, bytes(byte ^ 0xFF for byte in data[first : first + length]))
    found = _found(copy, stopped)
    assert found["torn"] == [5]
    assert found["records"][0] == [0, 4]


def test_records_in_each_other_s_place_are_foreign(stopped: Captured, images: Images) -> None:
    copy = images.copy(stopped.image)
    (one, first), (other, second) = record_at(copy, stopped, 3), record_at(copy, stopped, 9)
    write(copy, one, second)
    write(copy, other, first)
    found = _found(copy, stopped)
    assert found["foreign"] == [3, 9]
    assert found["records"][0] == [0, 2]


def test_a_record_of_another_volume_is_foreign(stopped: Captured, images: Images) -> None:
    copy = images.copy(stopped.image)
    place, data = record_at(copy, stopped, 3)
    decoded = record.decode(data)
    assert decoded is not None
    write(copy, place, record.encode(decoded._replace(volume_id="vol-0ffffffffffffffff")))
    assert _found(copy, stopped)["foreign"] == [3]


def test_a_record_of_an_earlier_load_counts_for_nothing(stopped: Captured, images: Images) -> None:
    copy = images.copy(stopped.image)
    place, data = record_at(copy, stopped, 3)
    decoded = record.decode(data)
    assert decoded is not None
    write(copy, place, record.encode(decoded._replace(series="ab" * 16)))
    found = _found(copy, stopped)
    assert (found["stale"], found["foreign"], found["torn"]) == ([[3, 3]], [], [])
    assert found["records"][0] == [0, 2]


def test_a_lost_a_renamed_and_an_emptied_file_of_the_metadata_arm_are_told_apart(
    stopped: Captured, images: Images
) -> None:
    copy = images.copy(stopped.image)
    with images.mounted(copy) as top:
        folder = top / ".drtest-canary" / "meta"
        root("rm", folder / "2")
        root("truncate", "-s", "0", folder / "4")
        root("mv", folder / "6", folder / "8")
    found = _found(copy, stopped)
    there = {number for first, last in found["metadata"] for number in range(first, last + 1)}
    assert {2, 4, 6, 8}.isdisjoint(there)
    assert {0, 1, 3, 5, 7, 9} <= there
    assert found["metadata_torn"] == [4, 8]


@pytest.mark.parametrize("lost", [".drtest-canary", ".drtest-canary/records.bin"])
def test_a_canary_that_is_gone_has_no_records_and_is_no_failure_to_look(
    stopped: Captured, images: Images, lost: str
) -> None:
    copy = images.copy(stopped.image)
    with images.mounted(copy) as top:
        root("rm", "-r", top / lost)
    found = _found(copy, stopped)
    assert (found["present"], found["records"], found["error"]) == (False, [], "")


def test_a_link_in_place_of_the_canary_is_not_followed_out_of_the_copy(
    stopped: Captured, images: Images, tmp_path: Path
) -> None:
    copy = images.copy(stopped.image)
    with images.mounted(copy) as top:
        root("mv", top / ".drtest-canary", top / "elsewhere")
        root("ln", "-s", tmp_path, top / ".drtest-canary")
    assert _found(copy, stopped)["present"] is False


def _zero_inode_table(image: Path) -> None:
    for line in tool("dumpe2fs", image).splitlines():
        if "Inode table at" in line:
            block = int(line.split("Inode table at ")[1].split("-")[0])
            write(image, block * 1024 + 1024, bytes(8192))
            return


def _drop_root_entry(image: Path) -> None:
    tool("debugfs", "-w", "-R", "clri <2>", image)


def _wrong_bitmap(image: Path) -> None:
    tool("debugfs", "-w", "-R", "freei <12>", image)


def _ext_superblock(image: Path) -> None:
    write(image, 1024, bytes(1024))


def _ext_superblock_garbled(image: Path) -> None:
    write(image, 1024 + 0x4C, NOISE[:300])


def _ext_superblock_features(image: Path) -> None:
    write(image, 1024 + 0x5C, NOISE[:100])


def _ext_backup(image: Path) -> None:
    write(image, 8193 * 1024 + 0x20, b"\xff" * 64)


def _xfs_header(image: Path) -> None:
    write(image, 512, bytes(512))  # the free space header of the first group


def _xfs_inodes(image: Path) -> None:
    place = image.read_bytes().find(b"IN\x41\xed")
    write(image, place, b"XX")


def _xfs_superblock(image: Path) -> None:
    write(image, 0, bytes(4096))


def _btrfs_superblock(image: Path) -> None:
    write(image, 65536 + 100, NOISE[:200])


def _btrfs_superblock_gone(image: Path) -> None:
    write(image, 65536, bytes(4096))


def _btrfs_trees(image: Path) -> None:
    content = image.read_bytes()
    fsid = content[65536 + 0x20 : 65536 + 0x30]
    place = 0x400000
    while (
        place := content.find(fsid, place)
    ) >= 0:  # each header of a tree block carries the filesystem's id
        if place % 4096 == 0x20:
            write(image, place + 0x60, NOISE[:64])
        place += 16


DAMAGE: list[tuple[str, Callable[[Path], None]]] = [
    ("ext4", _zero_inode_table),
    ("ext4", _drop_root_entry),
    ("ext4", _wrong_bitmap),
    ("ext4", _ext_superblock),
    ("ext4", _ext_superblock_garbled),
    ("ext4", _ext_superblock_features),
    ("ext4", _ext_backup),
    ("xfs", _xfs_header),
    ("xfs", _xfs_inodes),
    ("xfs", _xfs_superblock),
    ("btrfs", _btrfs_superblock),
    ("btrfs", _btrfs_superblock_gone),
    ("btrfs", _btrfs_trees),
]


@pytest.mark.parametrize(
    ("kind", "damage"), DAMAGE, ids=[f"{kind}{damage.__name__}" for kind, damage in DAMAGE]
)
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_structural_damage_is_found_and_never_taken_for_something_unknown(
    images: Images, kind: str, damage: Callable[[Path], None], known: bool
) -> None:
    image = images.made(kind)
    with images.mounted(image) as top:
        for number in range(30):
            root("sh", "-c", f"echo {number} > {top}/file{number}")
    damage(image)
    seen = examine(image, filesystem=kind if known else "")
    check = seen["filesystem.check"]
    assert (check["clean"], check["error"]) == (False, ""), seen
    assert check["problems"]
    assert seen["filesystem.before"]["unknown_features"] == []
