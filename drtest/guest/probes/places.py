"""Places that a filesystem can be in: a whole disk, or its partitions, whether or not the kernel knows them."""

import binascii
import os
import struct
import time
import uuid
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from drtest.guest.probes import disks, lvm, prelude

SECTOR = 512
# What blkid makes of an ext4 with odd feature bits, damaged ones among them.
_ALSO_EXT = ("ext4dev", "jbd")
EXT, XFS, BTRFS, NTFS, FAT = "ext4", "xfs", "btrfs", "ntfs", "vfat"
BEYOND = "it begins beyond the end of the disk"
LVM = "lvm"
"""What the use of a place is called that was a physical volume of LVM, before its metadata were damaged."""
WITHOUT_FILESYSTEM = {
    "82": "swap",
    "41": "PReP boot",
    "da": "no filesystem",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "swap",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
    "9e1a2d38-c612-4316-aa26-8b49521e5a8b": "PReP boot",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
    "8da63339-0007-60c0-c436-083ac8230908": "reserved",
}
"""Types of partitions on which no filesystem has to be (fdisk's lists; UEFI 2.10, 5.3.3)."""


class Place(NamedTuple):
    """Where a filesystem is, or could be.

    `device` is a node of its own; `filesystem` is empty where none is recognised; `usage` is what blkid calls it
    (``filesystem``, ``raid``, ``crypto``, ``other``); `note` says what is odd about it; `type` is its partition's: two
    hexadecimal digits in an MBR, a GUID in a GPT; `volume` is the logical volume of LVM that it is, as ``group/name``.
    """

    device: str
    partition: Optional[int]
    size: int
    filesystem: str
    uuid: str
    usage: str
    note: str
    type: str = ""
    volume: str = ""


class Loops:
    """Loop devices that this program made: for image files, and for partitions that the kernel does not know."""

    def __init__(self) -> None:
        self.made: List[str] = []

    def make(self, path: str, offset: int = 0, size: int = 0) -> str:
        """A loop device over a file or a part of a device.

        Raises:
            disks.NotFoundError: there is none to be had.
        """
        part = ["-o", str(offset), "--sizelimit", str(size)] if size else []
        for _attempt in range(5):
            ran = prelude.run(["losetup", "-f", "--show", *part, path], 30)
            if ran.ok or ran.error:
                break
            time.sleep(0.2)  # somebody else took the free one that it had found
        if not ran.ok:
            raise disks.NotFoundError(
                "no loop device over {}: {}{}".format(path, ran.error, ran.output.strip())
            )
        device = ran.output.strip().splitlines()[-1]
        self.made.append(device)
        return device

    def drop(self) -> None:
        """Gives them all back, the last one first."""
        for device in reversed(self.made):
            prelude.run(["losetup", "-d", device], 30)
        self.made = []


class Partition(NamedTuple):
    """One entry of a partition table, in bytes."""

    number: int
    start: int
    size: int
    type: str = ""


def places(disk: disks.Disk, loops: Loops) -> List[Place]:
    """All places on a disk, in order; only the disk itself where it has no partitions with anything on them.

    In place of a physical volume of LVM there are its logical volumes.
    """
    return [inside for place in _partitions(disk, loops) for inside in _logical_volumes(place, loops)]


def _logical_volumes(place: Place, loops: Loops) -> List[Place]:
    member = place.usage == "raid" and disks.probe(place.device).get("TYPE") == lvm.MEMBER
    if not member and (place.usage or place.note or not lvm.labelled(place.device)):
        return [place]
    try:
        volumes = lvm.logical_volumes(place.device)
    except lvm.DamagedError as problem:
        return [place._replace(usage=LVM, note=str(problem))]
    except LookupError as problem:
        return [place._replace(note=str(problem))]
    found = []
    for one in volumes:
        if one.why:
            found.append(place._replace(size=one.size, uuid="", note=one.why, volume=one.name))
        elif one.start + one.size > place.size:
            found.append(place._replace(size=0, usage=LVM, note=BEYOND, volume=one.name))
        else:
            inside = _place(loops.make(place.device, one.start, one.size), place.partition, one.size)
            found.append(inside._replace(volume=one.name))
    return found or [place._replace(note="it is LVM's, and its group has no logical volumes")]


def _partitions(disk: disks.Disk, loops: Loops) -> List[Place]:
    whole = _place(disk.device, None, disk.size)
    known = _known_partitions(disk)
    if not known and whole.filesystem and not whole.note:
        return [whole]
    # Where only damaged bytes tell of a filesystem on the whole disk, a table with something on it knows better.
    found = []
    listed = table(disk.device, disk.size)
    types = {partition.number: partition.type for partition in listed}
    for partition in known or listed:
        node = "" if not known else _node(disk, partition.number)
        size = min(partition.size, disk.size - partition.start)
        if size <= 0:
            found.append(Place(disk.device, partition.number, 0, "", "", "", BEYOND))
            continue
        note = "" if size == partition.size else "it is cut off by the end of the disk"
        place = _place(node or loops.make(disk.device, partition.start, size), partition.number, size)
        found.append(place._replace(note=place.note or note, type=types.get(partition.number, "")))
    if whole.filesystem and not any(place.filesystem or place.usage for place in found):
        return [whole]
    return found or [whole]


def _known_partitions(disk: disks.Disk) -> List[Partition]:
    found = []
    top = "/sys/class/block/{}/".format(disk.name)
    for name in sorted(os.listdir(top)) if os.path.isdir(top) else []:
        number = prelude.read(top + name + "/partition")
        if number:
            start = int(prelude.read(top + name + "/start") or 0) * SECTOR
            found.append(Partition(int(number), start, int(prelude.read(top + name + "/size") or 0) * SECTOR))
    return sorted(found)


def _node(disk: disks.Disk, number: int) -> str:
    top = "/sys/class/block/{}/".format(disk.name)
    for name in os.listdir(top):
        if prelude.read(top + name + "/partition") == str(number) and os.path.exists("/dev/" + name):
            return "/dev/" + name
    return ""


def table(device: str, size: int) -> List[Partition]:
    """The partitions that a disk's own table names: GPT (its backup where the first is damaged), else MBR."""
    with open(device, "rb") as file:
        mbr = file.read(SECTOR)
        if mbr[510:512] != b"\x55\xaa":
            return _gpt(file, size)
        entries = [mbr[446 + 16 * i : 462 + 16 * i] for i in range(4)]
        if any(entry[4] == 0xEE for entry in entries):
            return _gpt(file, size)
        found = []
        for number, entry in enumerate(entries, 1):
            start, length = struct.unpack("<II", entry[8:16])
            if entry[0] not in (0, 0x80):
                return []  # a boot sector of a filesystem, not a table
            if entry[4] in (0x05, 0x0F, 0x85):
                found.extend(_logical(file, start))
            elif entry[4] and length:
                found.append(Partition(number, start * SECTOR, length * SECTOR, "{:02x}".format(entry[4])))
    return sorted(found)


def boot_code(device: str) -> Optional[bool]:
    """Whether a disk's boot sector has code in it; None where a disk needs none: without an MBR, or with UEFI's."""
    with open(device, "rb") as file:
        mbr = file.read(SECTOR)
    kinds = [mbr[446 + 16 * i + 4] for i in range(4)] if len(mbr) == SECTOR else []
    flags = [mbr[446 + 16 * i] for i in range(4)] if len(mbr) == SECTOR else [1]
    if mbr[510:512] != b"\x55\xaa" or not any(kinds) or any(flag not in (0, 0x80) for flag in flags):
        return None
    if 0xEE in kinds or 0xEF in kinds:
        return None
    return any(mbr[:440])


def _logical(file: Any, extended: int) -> List[Partition]:
    found: List[Partition] = []
    place = extended
    while len(found) < 60:
        file.seek(place * SECTOR)
        sector = file.read(SECTOR)
        if sector[510:512] != b"\x55\xaa":
            break
        first, second = sector[446:462], sector[462:478]
        start, length = struct.unpack("<II", first[8:16])
        if first[4] and length:
            kind = "{:02x}".format(first[4])
            found.append(Partition(5 + len(found), (place + start) * SECTOR, length * SECTOR, kind))
        following = struct.unpack("<I", second[8:12])[0]
        if not second[4] or not following:
            break
        place = extended + following
    return found


def _gpt(file: Any, size: int) -> List[Partition]:
    for place in (SECTOR, size // SECTOR * SECTOR - SECTOR):
        file.seek(place)
        header = file.read(92)
        if header[:8] != b"EFI PART":
            continue
        crc = struct.unpack("<I", header[16:20])[0]
        if binascii.crc32(header[:16] + b"\0\0\0\0" + header[20:92]) & 0xFFFFFFFF != crc:
            continue
        entries, count, length = struct.unpack("<QII", header[72:88])
        if length < 128 or count > 1024:
            continue
        file.seek(entries * SECTOR)
        data = file.read(count * length)
        found = []
        for number in range(count):
            entry = data[number * length : number * length + 128]
            if len(entry) == 128 and entry[:16] != bytes(16):
                first, last = struct.unpack("<QQ", entry[32:48])
                kind = str(uuid.UUID(bytes_le=entry[:16]))
                found.append(Partition(number + 1, first * SECTOR, (last - first + 1) * SECTOR, kind))
        return found
    return []


def _place(device: str, partition: Optional[int], size: int) -> Place:
    tags = disks.probe(device)
    if "AMBIVALENT" in tags:
        return Place(device, partition, size, "", "", "", "two kinds of content: " + tags["AMBIVALENT"])
    kind, usage = tags.get("TYPE", ""), tags.get("USAGE", "")
    if kind in _ALSO_EXT:
        kind, usage = EXT, "filesystem"
    if not kind:
        kind, note = by_magic(device, size, boot_sectors_only="PTTYPE" in tags and bool(table(device, size)))
        return Place(device, partition, size, kind, "", "filesystem" if kind else "", note)
    return Place(
        device, partition, size, kind if usage == "filesystem" else "", tags.get("UUID", ""), usage, ""
    )


def by_magic(device: str, size: int, boot_sectors_only: bool = False) -> Tuple[str, str]:
    """The filesystem that damaged bytes still tell of, with what is damaged; blkid accepts whole ones only.

    A boot sector of NTFS or FAT has the mark of a partition table: what else lies below a table is an earlier life's.
    """
    with open(device, "rb") as file:

        def at(offset: int, length: int) -> bytes:
            if offset + length > size:
                return b""
            file.seek(offset)
            return file.read(length)

        for kind, offset, magic in (
            (NTFS, 3, b"NTFS    "),
            (FAT, 54, b"FAT1"),
            (FAT, 82, b"FAT32"),
        ):
            if at(offset, len(magic)) == magic:
                return kind, "its structure is damaged"
        if boot_sectors_only:
            return "", ""
        for kind, offset, magic in (
            (EXT, 0x438, b"\x53\xef"),
            (XFS, 0, b"XFSB"),
            (BTRFS, 0x10040, b"_BHRfS_M"),
        ):
            if at(offset, len(magic)) == magic:
                return kind, "its superblock is damaged"
        for log, block in enumerate((1024, 2048, 4096)):
            backup = at(block * (block * 8 + (block == 1024)), 0x5C)
            # Two bytes of magic alone are too little: the block size and the group must be right as well, which
            # the first revision did not write down.
            group = b"\x01\0" if backup[0x4C:0x50] != bytes(4) else bytes(2)
            if backup[0x38:0x3A] == b"\x53\xef" and backup[0x18] == log and backup[0x5A:0x5C] == group:
                return EXT, "its superblock is gone, a backup is there"
        if at(0x4000040, 8) == b"_BHRfS_M":
            return BTRFS, "its superblock is gone, a mirror is there"
        if at(size // SECTOR * SECTOR - SECTOR + 3, 8) == b"NTFS    ":
            return NTFS, "its boot sector is gone, the backup is there"
        if at(6 * SECTOR + 82, 5) == b"FAT32":
            return FAT, "its boot sector is gone, the backup is there"
        quarter = size // 4 // 4096 * 4096
        window = at(max(0, quarter - 65536), 131072)
        for offset in range(0, len(window), SECTOR):
            if window[offset : offset + 4] == b"XFSB":
                return XFS, "its superblock is gone, a secondary one is there"
    return "", ""


def describe(place: Place) -> Dict[str, Any]:
    """One place as evidence."""
    return {
        "device": place.device,
        "partition": place.partition,
        "size": place.size,
        "filesystem": place.filesystem or None,
        "uuid": place.uuid,
        "usage": place.usage,
        "note": place.note,
        "type": place.type,
        "volume": place.volume,
    }
