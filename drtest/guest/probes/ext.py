"""ext2, ext3, ext4: read from the superblock, replayed and checked by e2fsck."""

import errno
import re
import struct
from typing import Any, Dict, List, Tuple

from drtest.guest.probes import places, prelude

KINDS = ("ext2", "ext3", "ext4")
REPLAY = "e2fsck -E journal_only -p"
CHECK = "e2fsck -fn"
# A filesystem may ask for a panic when it is found damaged: the helper's kernel must not do it that favour.
MOUNT_OPTIONS = "ro,errors=continue"
KERNEL_REPLAY = "errors=continue,noatime,nodev,nosuid,noexec"

_MAGIC = 0xEF53
_HAS_JOURNAL = 0x4
_NEEDS_RECOVERY = 0x4
_JOURNAL_DEVICE = 0x8
_METADATA_CSUM = 0x400
_SPARSE_SUPER = 0x1
_ORPHAN_PRESENT = 0x10000
_SPARSE_SUPER2 = 0x200
_BIG_BLOCKS = 0x80

# Wrong only in the superblock's own totals: kernels never write them back while mounted and count the groups anew
# at each mount, so a replayed journal leaves them behind (seen: e2fsck -fn says "Fix? no" and exits 0).
_TOTALS = re.compile(r"^Free (?:blocks|inodes) count wrong \(\d+, counted=\d+\)\.")
_FUTURE = re.compile(r"^Superblock last (?:mount|write) time .*")
_QUESTION = re.compile(r"^(?P<said>.*?)\s*(?P<question>[A-Z][^.?!]*\?) +no\s*$")
_HEADING = re.compile(r"^(?:e2fsck \d|Pass \d|Running additional passes)")
_OPTIMISE = "Optimize?"
"""What it asks of an extent tree that is right and could be smaller: kernels leave such trees behind."""
_DAMAGED_SUPERBLOCK = re.compile(
    r"Superblock invalid|Bad magic number|superblock is corrupt|superblock could not be read|checksum does not match"
)
_SPOILED_JOURNAL = re.compile(
    r"^.*(?:corrupt|invalid journal|[Ii]nvalid checksum|checksum error|has been deleted|replay was aborted|"
    r"while recovering journal).*$",
    re.M,
)
_IO_ERROR = re.compile(r"Input/output error|I/O error", re.IGNORECASE)


class Superblock:
    """One superblock, as its 1024 bytes tell it."""

    def __init__(self, data: bytes) -> None:
        self.data = data.ljust(1024, b"\0")
        self.valid = self._u16(0x38) == _MAGIC

    def _u16(self, offset: int) -> int:
        return int(struct.unpack_from("<H", self.data, offset)[0])

    def _u32(self, offset: int) -> int:
        return int(struct.unpack_from("<I", self.data, offset)[0])

    @property
    def features(self) -> Tuple[int, int, int]:
        """Compatible, incompatible and read-only compatible features."""
        return self._u32(0x5C), self._u32(0x60), self._u32(0x64)

    @property
    def needs_recovery(self) -> bool:
        """Whether the journal has something in it; "state: clean" is printed all the same."""
        return bool(self.features[1] & _NEEDS_RECOVERY)

    @property
    def error_flag(self) -> bool:
        """Whether the kernel saw damage while it was mounted."""
        return bool(self._u16(0x3A) & 0x2)

    @property
    def error_count(self) -> int:
        """How many errors the kernel saw since the last full check."""
        return self._u32(0x194)

    @property
    def orphans(self) -> bool:
        """Whether files that were deleted while open wait for the next mount to end them; no log tells of them."""
        return bool(self._u32(0xE8)) or self.orphan_file

    @property
    def orphan_file(self) -> bool:
        """Whether a file lists them, as since Linux 5.15; the flag stays for as long as it is mounted."""
        return bool(self.features[2] & _ORPHAN_PRESENT)

    @property
    def uuid(self) -> bytes:
        """The filesystem's UUID."""
        return self.data[0x68:0x78]

    @property
    def whole(self) -> bool:
        """Whether its checksum is right, and where it has none, whether its numbers are possible."""
        if not self.valid or self._u32(0x4C) > 1 or not self.block_size or self._u32(0x14) > 1:
            return False
        if not self.features[2] & _METADATA_CSUM:
            return True
        return crc32c(self.data[:1020]) == self._u32(1020)

    @property
    def block_size(self) -> int:
        """In bytes; 0 where the number is impossible."""
        log = self._u32(0x18)
        return 1024 << log if log <= 6 else 0

    def backups(self) -> List[int]:
        """Offsets in bytes of its backups, as far as they are on the disk."""
        size, first, per_group = self.block_size, self._u32(0x14), self._u32(0x20)
        blocks = self._u32(0x04) + ((self._u32(0x150) << 32) if self.features[1] & _BIG_BLOCKS else 0)
        if not size or not per_group or not self.valid:
            return []
        groups = (blocks - first + per_group - 1) // per_group
        if self.features[0] & _SPARSE_SUPER2:
            numbers = [self._u32(0x24C), self._u32(0x250)]
        elif self.features[2] & _SPARSE_SUPER:
            numbers = [1] + [base**power for base in (3, 5, 7) for power in range(1, 20)]
        else:
            numbers = list(range(1, min(groups, 64)))
        return [self.group(number) for number in sorted(set(numbers)) if 0 < number < groups]

    def group(self, number: int) -> int:
        """The offset in bytes of a block group."""
        return (self._u32(0x14) + number * self._u32(0x20)) * self.block_size


def crc32c(data: bytes, crc: int = 0xFFFFFFFF) -> int:
    """CRC-32C (Castagnoli) as ext4 keeps it: not inverted at the end."""
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc


def _table() -> List[int]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = (number >> 1) ^ 0x82F63B78 if number & 1 else number >> 1
        table.append(number)
    return table


_TABLE = _table()


def superblock(device: str, offset: int = 1024) -> Superblock:
    """The superblock at an offset of a device; an invalid one where the device has ended before."""
    try:
        with open(device, "rb") as file:
            file.seek(offset)
            return Superblock(file.read(1024))
    except OSError as problem:
        if problem.errno != errno.EINVAL:  # what block devices say to an offset beyond their end
            raise
        return Superblock(b"")


def whole(device: str) -> Superblock:
    """The superblock of a device, made invalid where it can't be believed.

    Bytes that turned the checksum feature off have no checksum to be wrong. The backup in group 1 is written once and
    then left alone: it knows whether there should be one, and which features there were.
    """
    block = superblock(device)
    if block.whole and not block.features[2] & _METADATA_CSUM:
        backup = superblock(device, block.group(1))
        if backup.whole:
            changed = sum(bin(one ^ other).count("1") for one, other in zip(block.features, backup.features))
            # A kernel turns a few on by itself (large_file, needs_recovery); noise turns a third of them.
            if backup.uuid != block.uuid or backup.features[2] & _METADATA_CSUM or changed > 4:
                block.valid = False
    return block


def before(place: places.Place) -> Dict[str, Any]:
    """What lies on the device, before anything could repair it."""
    block = whole(place.device)
    dump = prelude.run(["dumpe2fs", "-h", "-f", place.device], 60)
    unknown = _unknown_features(block, dump.output)
    notes = [place.note] if place.note else []
    if block.whole and block.features[1] & _JOURNAL_DEVICE:
        return {"error": "it is the external journal of another filesystem"}
    if block.valid and not block.features[0] & _HAS_JOURNAL and not block._u16(0x3A) & 0x1:
        notes.append("it has no journal and was not unmounted")
    if block.whole and block.orphans:
        notes.append("files that were deleted while open wait for the next mount to end them")
    return {
        "dirty_log": block.needs_recovery if block.whole else None,
        "error_flag": block.whole and (block.error_flag or block.error_count > 0),
        "unknown_features": unknown,
        "tools": {"e2fsck": prelude.version("e2fsck")},
        "output": dump.output,
        "notes": notes,
        "replayable": block.whole,
        "orphans": block.whole and block.orphans,
        # e2fsck 1.47 ends those that a file lists, and leaves the list: only a kernel ends both.
        "kernel_replays": block.whole and block.orphan_file,
        "error": "",
    }


def _unknown_features(block: Superblock, output: str) -> List[str]:
    # Features of a superblock that is not whole are noise, not news. Those of the journal's are the checker's to weigh:
    # a journal's new feature comes with one of the filesystem's, and its superblock may be another block's bytes.
    own = re.search(r"^Filesystem features:.*$", output, re.M)
    return sorted(set(re.findall(r"FEATURE_[A-Z]\d+", own.group(0)))) if own and block.whole else []


def replay(place: places.Place, found: Dict[str, Any]) -> Dict[str, Any]:
    """Replays the journal in user space: a damaged filesystem never meets the helper's kernel."""
    ran = prelude.run(["e2fsck", "-E", "journal_only", "-p", place.device], 1800, environment=_no_clock())
    block = whole(place.device)
    spoiled = _SPOILED_JOURNAL.findall(ran.output)
    # 1 is "corrected" (e2fsck.8), and -p "corrects" a damaged journal by dropping it: seen with exit 0 and 1.
    refused = ran.exit is not None and (bool(ran.exit & ~1) or bool(spoiled))
    told = bool(_IO_ERROR.search(ran.output)) or (block.whole and "unsupported feature" in ran.output)
    return {
        "method": REPLAY,
        "exit": ran.exit,
        "replayed": bool(found.get("dirty_log")) and block.valid and not block.needs_recovery,
        "output": ran.output,
        "error": ran.error or (_last_line(ran.output) if refused and told else ""),
        "failed": refused and not told,
        "why": spoiled[0] if spoiled else _last_line(ran.output),
        "kernel_next": block.valid and block.orphans,
    }


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def check(place: places.Place, _found: Dict[str, Any], replayed: Dict[str, Any]) -> Dict[str, Any]:
    """The full check, and the backups of the superblock, which e2fsck does not look at."""
    ran = prelude.run(["e2fsck", "-f", "-n", place.device], 3600, environment=_no_clock())
    problems, notes = _problems(ran.output, after_replay=bool(replayed.get("replayed")))
    unknown = re.findall(r"FEATURE_[A-Z]\d+", ran.output) if "unsupported feature" in ran.output else []
    clean, error = _decide(ran, problems, unknown, whole(place.device).whole)
    if clean is not False and not unknown:
        spoiled = _spoiled_backups(place)
        if spoiled:
            clean, problems = False, problems + spoiled
    if clean is False and not problems and not whole(place.device).whole:
        problems = ["its superblock is damaged"]
    elif clean is False and not problems:
        problems = [line for line in ran.output.splitlines() if line.strip()][-3:]
    return {
        "tool": CHECK,
        "exit": ran.exit,
        "clean": clean,
        "problems": problems[:50],
        "notes": notes,
        "unknown_features": unknown,
        "output": ran.output,
        "error": error,
    }


def _decide(ran: prelude.Ran, problems: List[str], unknown: List[str], whole: bool) -> Tuple[Any, str]:
    if "skipping journal recovery" in ran.output:
        return None, "the journal was not replayed, so the check says nothing"
    if ran.exit is None:  # what it would have mended it had found, whatever ended it
        return (False, "") if problems else (None, ran.error or "e2fsck printed without an end")
    if unknown and whole:
        return None, "e2fsck does not know {}".format(", ".join(unknown))
    if _IO_ERROR.search(ran.output):
        return None, "the device gives I/O errors"
    if problems or ran.exit & 4:
        return False, ""
    if ran.exit & 8 and (not whole or _DAMAGED_SUPERBLOCK.search(ran.output)):
        return False, ""
    if ran.exit in (0, 4):
        return True, ""
    return None, "e2fsck ended with {}".format(ran.exit)


def _problems(output: str, after_replay: bool) -> Tuple[List[str], List[str]]:
    """What e2fsck would have mended, and what of it is no damage."""
    problems: List[str] = []
    notes: List[str] = []
    said: List[str] = []  # since the last question: some take several lines
    for line in output.splitlines():
        asked = _QUESTION.match(line)
        if not asked:
            said = [] if _HEADING.match(line) else [*said, line.strip()]
            continue
        own = asked.group("said").strip()
        text = own or " ".join(filter(None, said))[:500] or line.strip()
        harmless = (
            asked.group("question") == _OPTIMISE
            or (after_replay and _TOTALS.match(text))
            or _FUTURE.match(text)
        )
        (notes if harmless else problems).append(text)
        said = []
    return problems, notes


def _spoiled_backups(place: places.Place) -> List[str]:
    primary = superblock(place.device)
    spoiled = []
    for offset in primary.backups():
        backup = superblock(place.device, offset)
        if not backup.whole or backup.uuid != primary.uuid:
            spoiled.append("the backup of the superblock at byte {} is damaged".format(offset))
    return spoiled


def _no_clock() -> Dict[str, str]:
    """e2fsck believes its own clock, and calls the filesystem of a server whose clock is ahead damaged; not so."""
    path = prelude.scratch("e2fsck.conf")
    with open(path, "w") as file:
        file.write("[options]\nbroken_system_clock = true\n")
    return {"E2FSCK_CONFIG": path}
