"""Damage to structures: superblocks, headers, inodes, folders, logs; and what looks like damage and is none."""

import re
import struct
from pathlib import Path

from drtest.guest.probes import ext
from drtest.words import Verdict
from tests.damage.catalogue import Material, damage, flip, noise, peek
from tests.damage.worlds import Backup
from tests.guest.images import tool, write

BAD, GOOD, REPLAYED, OPEN = (
    Verdict.INCONSISTENT,
    Verdict.CONSISTENT,
    Verdict.RECOVERED,
    Verdict.INCONCLUSIVE,
)
SUPERBLOCK = 1024


def _image(backup: Backup, volume: str) -> Path:
    return backup.images[volume]


# --- none at all


@damage("root", gives=REPLAYED)
def dirty_log_that_replays_well(_: Backup, __: Material) -> None:
    """A journal in mid-transaction, as every running server has it: replayed, it is whole."""


@damage("data", gives=REPLAYED)
def dirty_log_that_replays_well_on_xfs(_: Backup, __: Material) -> None:
    """An XFS log in mid-transaction: replayed, it is whole, though xfs_repair -n calls it corrupt before."""


@damage("more", gives=REPLAYED)
def log_tree_that_replays_well_on_btrfs(_: Backup, __: Material) -> None:
    """A btrfs log tree: replayed, it is whole."""


@damage("set", gives=Verdict.CONSISTENT, stopped=True)
def nothing_at_all(_: Backup, __: Material) -> None:
    """A backup of a server that was shut down, as it is."""


@damage("root", gives=GOOD, stopped=True)
def flipped_bits_in_free_space(backup: Backup, _: Material) -> None:
    """Blocks that belong to nothing hold other bytes than before: nobody will miss them."""
    image = _image(backup, "root")
    size = ext.superblock(str(image)).block_size
    free = re.findall(r"^  Free blocks: .*?(\d+)-(\d+)$", tool("dumpe2fs", image), re.MULTILINE)
    first, last = max(((int(a), int(b)) for a, b in free), key=lambda pair: pair[1] - pair[0])
    write(image, first * size, noise(min(last - first, 64) * size))


@damage("data", gives=GOOD, stopped=True)
def flipped_bits_in_free_space_of_xfs(backup: Backup, _: Material) -> None:
    """Blocks of XFS that belong to nothing hold other bytes than before."""
    image = _image(backup, "data")
    rows = [
        [int(word) for word in line.split()]
        for line in tool("xfs_db", "-r", "-c", "freesp -d", image).splitlines()
        if re.fullmatch(r"\s*\d+\s+\d+\s+\d+\s*", line)
    ]
    group, block, count = max(rows, key=lambda row: row[2])
    write(image, group * _xfs(image, "agblocks") * 4096 + block * 4096, noise(min(count, 64) * 4096))


@damage("root", gives=OPEN, stopped=True)
def feature_of_the_future(backup: Backup, _: Material) -> None:
    """An ext4 with a feature that no tool knows yet: newer is not damaged."""
    tool("debugfs", "-w", "-R", "feature FEATURE_I20", _image(backup, "root"))


@damage("data", gives=OPEN, stopped=True)
def feature_of_the_future_on_xfs(backup: Backup, _: Material) -> None:
    """An XFS with a feature that no tool knows yet."""
    tool("xfs_db", "-x", "-c", "sb 0", "-c", "write -d features_incompat 0x8000000b", _image(backup, "data"))


# --- ext4


@damage("root", gives=BAD, stopped=True)
def superblock_zeroed(backup: Backup, _: Material) -> None:
    """The superblock of ext4 is zeros; its backups are there."""
    write(_image(backup, "root"), SUPERBLOCK, bytes(1024))


@damage("root", gives=BAD, stopped=True)
def superblock_flipped(backup: Backup, _: Material) -> None:
    """One bit of the superblock of ext4 is turned: its checksum tells."""
    flip(_image(backup, "root"), SUPERBLOCK + 0x54, bit=1)


@damage("root", gives=BAD, stopped=True)
def superblock_and_its_backups_zeroed(backup: Backup, _: Material) -> None:
    """All superblocks of ext4 are zeros: nothing tells any more that there was a filesystem."""
    image = _image(backup, "root")
    for place in [SUPERBLOCK, *ext.superblock(str(image)).backups()]:
        write(image, place, bytes(1024))


@damage("root", gives=BAD, stopped=True)
def backups_of_the_superblock_damaged(backup: Backup, _: Material) -> None:
    """The superblock is whole, and what should replace it one day is not; e2fsck says nothing."""
    image = _image(backup, "root")
    for place in ext.superblock(str(image)).backups():
        write(image, place + 0x20, noise(64))


@damage("root", gives=BAD, stopped=True)
def group_descriptors_zeroed(backup: Backup, _: Material) -> None:
    """The table that says where inodes and bitmaps are is zeros."""
    image = _image(backup, "root")
    size = ext.superblock(str(image)).block_size
    write(image, 2 * size if size == 1024 else size, bytes(size))


@damage("root", gives=BAD, stopped=True)
def inode_table_zeroed(backup: Backup, _: Material) -> None:
    """The first inodes, the root folder's among them, are zeros."""
    write(_image(backup, "root"), _ext_place(_image(backup, "root"), "Inode table at"), bytes(8192))


@damage("root", gives=BAD, stopped=True)
def inode_of_the_records_flipped(backup: Backup, _: Material) -> None:
    """One bit in the inode of the records' file is turned."""
    image = _image(backup, "root")
    found = re.search(
        r"at block (\d+), offset (0x[0-9a-f]+)", _ask(image, "imap /.drtest-canary/records.bin")
    )
    assert found
    flip(image, int(found[1]) * ext.superblock(str(image)).block_size + int(found[2], 16) + 44, bit=2)


@damage("root", gives=BAD, stopped=True)
def block_bitmap_wrong(backup: Backup, _: Material) -> None:
    """The bitmap of used blocks is of another time: new files would overwrite old ones."""
    image = _image(backup, "root")
    write(image, _ext_place(image, "Block bitmap at"), bytes(512))


@damage("root", gives=BAD, stopped=True)
def folder_block_garbled(backup: Backup, _: Material) -> None:
    """The block of a folder holds other bytes."""
    image = _image(backup, "root")
    size = ext.superblock(str(image)).block_size
    block = int(_ask(image, "blocks /.drtest-canary/meta").split()[0])
    write(image, block * size, noise(size))


@damage("root", gives=BAD, stopped=True)
def error_flag_set(backup: Backup, _: Material) -> None:
    """The server's own kernel had seen damage and left its mark."""
    tool("debugfs", "-w", "-R", "set_super_value state 2", _image(backup, "root"))


@damage("root", gives=BAD)
def journal_superblock_garbled(backup: Backup, _: Material) -> None:
    """The head of a journal that has to be replayed holds other bytes."""
    write(_image(backup, "root"), _journal(_image(backup, "root")), noise(1024))


@damage("root", gives=BAD)
def journal_zeroed(backup: Backup, _: Material) -> None:
    """All of a journal that has to be replayed is zeros but its head: it looks as if it had ended."""
    image = _image(backup, "root")
    size = ext.superblock(str(image)).block_size
    for block in _journal_blocks(image)[1:]:
        write(image, block * size, bytes(size))


@damage("root", gives=BAD)
def journal_flipped(backup: Backup, _: Material) -> None:
    """In each descriptor of the journal some bytes are others: replay ends before the first of them."""
    image = _image(backup, "root")
    size = ext.superblock(str(image)).block_size
    for block in _journal_blocks(image)[1:]:
        if peek(image, block * size, 8) == struct.pack(">II", 0xC03B3998, 1):
            write(image, block * size + 16, noise(8, block))


def _ask(image: Path, request: str) -> str:
    return tool("debugfs", "-R", request, image)


def _ext_place(image: Path, what: str) -> int:
    found = re.search(rf"{what} (\d+)", tool("dumpe2fs", image))
    assert found
    return int(found[1]) * ext.superblock(str(image)).block_size


def _journal_blocks(image: Path) -> list[int]:
    return [int(word) for word in _ask(image, "blocks <8>").split()]


def _journal(image: Path) -> int:
    return _journal_blocks(image)[0] * ext.superblock(str(image)).block_size


# --- XFS


@damage("data", gives=BAD, stopped=True)
def superblock_of_xfs_zeroed(backup: Backup, _: Material) -> None:
    """The superblock of XFS is zeros; its secondary ones are there."""
    write(_image(backup, "data"), 0, bytes(4096))


@damage("data", gives=BAD, stopped=True)
def secondary_superblock_of_xfs_garbled(backup: Backup, _: Material) -> None:
    """A secondary superblock of XFS holds other bytes; the first one is whole."""
    image = _image(backup, "data")
    write(image, _xfs(image, "agblocks") * 4096 + 16, noise(200))


@damage("data", gives=BAD, stopped=True)
def inode_header_of_xfs_zeroed(backup: Backup, _: Material) -> None:
    """The header of a group's inodes is zeros."""
    write(_image(backup, "data"), 1024, bytes(512))


@damage("data", gives=BAD, stopped=True)
def free_space_header_of_xfs_flipped(backup: Backup, _: Material) -> None:
    """One bit of a group's free space header is turned."""
    flip(_image(backup, "data"), 512 + 0x34, bit=5)


@damage("data", gives=BAD, stopped=True)
def inodes_of_xfs_garbled(backup: Backup, _: Material) -> None:
    """The first inodes, the root folder's among them, hold other bytes."""
    image = _image(backup, "data")
    place = image.read_bytes().find(b"IN\x41\xed")
    write(image, place, noise(2048))


@damage("data", gives=BAD)
def log_of_xfs_zeroed(backup: Backup, _: Material) -> None:
    """The log of XFS, which has to be replayed, is zeros: it looks as if there was nothing to replay."""
    image = _image(backup, "data")
    place, size = _xfs_log(image)
    write(image, place, bytes(size))


@damage("data", gives=BAD)
def log_of_xfs_flipped(backup: Backup, _: Material) -> None:
    """Each record of the log of XFS has some other bytes in its body."""
    image = _image(backup, "data")
    place, size = _xfs_log(image)
    content = peek(image, place, size)
    at = content.find(b"\xfe\xed\xba\xbe")
    while at >= 0:
        write(image, place + at + 512 + 60, noise(64, at))
        at = content.find(b"\xfe\xed\xba\xbe", at + 512)


def _xfs(image: Path, field: str) -> int:
    return int(tool("xfs_db", "-r", "-c", "sb 0", "-c", f"print {field}", image).split("=")[1])


def _xfs_log(image: Path) -> tuple[int, int]:
    start = _xfs(image, "logstart")
    group = start >> _xfs(image, "agblklog")
    block = start & ((1 << _xfs(image, "agblklog")) - 1)
    return (group * _xfs(image, "agblocks") + block) * 4096, _xfs(image, "logblocks") * 4096


# --- btrfs


@damage("more", gives=BAD, stopped=True)
def superblock_of_btrfs_zeroed(backup: Backup, _: Material) -> None:
    """The superblock of btrfs is zeros; its mirror is there."""
    write(_image(backup, "more"), 65536, bytes(4096))


@damage("more", gives=BAD, stopped=True)
def superblock_of_btrfs_flipped(backup: Backup, _: Material) -> None:
    """Some bytes of the superblock of btrfs are others: its checksum tells."""
    write(_image(backup, "more"), 65536 + 0x48, noise(8))


@damage("more", gives=BAD, stopped=True)
def mirror_of_the_superblock_of_btrfs_garbled(backup: Backup, _: Material) -> None:
    """The superblock of btrfs is whole, and its mirror is not; btrfs check says nothing."""
    write(_image(backup, "more"), (64 << 20) + 100, noise(200))


@damage("more", gives=BAD, stopped=True)
def trees_of_btrfs_garbled(backup: Backup, _: Material) -> None:
    """Every block of btrfs's trees, in both of its copies, has some other bytes."""
    image = _image(backup, "more")
    for place in _btrfs_blocks(image):
        write(image, place + 0x80, noise(64, place))


@damage("more", gives=BAD)
def log_tree_of_btrfs_garbled(backup: Backup, _: Material) -> None:
    """The log tree of btrfs, which has to be replayed, has some other bytes."""
    image = _image(backup, "more")
    owner = struct.pack("<q", -6)  # BTRFS_TREE_LOG_OBJECTID
    for place in _btrfs_blocks(image):
        if peek(image, place + 0x58, 8) == owner:
            write(image, place + 0x80, noise(64, place))


def _btrfs_blocks(image: Path) -> list[int]:
    content = image.read_bytes()
    fsid = content[65536 + 0x20 : 65536 + 0x30]
    found, place = [], 0
    while (place := content.find(fsid, place + 1)) >= 0:
        header = place - 0x20
        if header % 4096 == 0 and content[header + 0x40 : header + 0x48] != b"_BHRfS_M":
            found.append(header)
    return found
