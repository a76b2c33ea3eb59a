"""btrfs: its log tree is replayed by mounting; several devices with one UUID must never meet in one kernel."""

import re
from typing import Any, Dict, List

from drtest.guest.probes import places, prelude

KINDS = ("btrfs",)
CHECK = "btrfs check --readonly"
MOUNT_OPTIONS = "ro,subvolid=5"
KERNEL_REPLAY = "noatime,nodev,nosuid,noexec"

_ERROR_FLAG = 0x4  # BTRFS_SUPER_FLAG_ERROR
_IO_ERROR = re.compile(r"Input/output error", re.IGNORECASE)
# What it calls an input/output error as well, though the device gave what it has.
_READ = re.compile(r"csum|checksum verify failed|bytenr mismatch|parent transid verify failed")
_UNKNOWN = re.compile(r"unsupported option features \(\w+\)")
_WHOLE_TREE = re.compile(
    r"^\[\d+/\d+\]|^Opening filesystem|^Checking filesystem|^UUID:|^\s*referenced|: \d+$"
)


def before(place: places.Place) -> Dict[str, Any]:
    """Whether there is a log tree, from the superblock."""
    dump = prelude.run(["btrfs", "inspect-internal", "dump-super", "-f", place.device], 60)
    output = dump.output
    whole = "[match]" in _line(output, "csum") and "[match]" in _line(output, "magic")
    several = _number(_line(output, "num_devices"))
    notes = [place.note] if place.note else []
    if not whole:
        notes.append("its superblock is damaged")
    return {
        "dirty_log": _number(_line(output, "log_root")) != 0 if whole else None,
        "error_flag": whole and bool(_number(_line(output, "flags")) & _ERROR_FLAG),
        "unknown_features": sorted(set(re.findall(r"unknown flag: (0x[0-9a-f]+)", output))) if whole else [],
        "tools": {"btrfs": prelude.version("btrfs", "--version")},
        "output": output,
        "notes": notes,
        "replayable": whole,
        "error": dump.error
        or ("it is one of {} devices of a btrfs".format(several) if whole and several > 1 else ""),
    }


def check(place: places.Place, found: Dict[str, Any], _replayed: Dict[str, Any]) -> Dict[str, Any]:
    """The full check of the structure, and the mirror of the superblock."""
    ran = prelude.run(["btrfs", "check", "--readonly", place.device], 3600)
    unknown = _UNKNOWN.findall(ran.output)
    problems = [] if ran.exit == 0 else _problems(ran.output)
    clean: Any = ran.exit == 0
    error = ran.error
    if ran.error:
        clean = None
    elif found.get("unknown_features") or (unknown and found.get("dirty_log") is not None):
        clean, problems = None, []
        error = "btrfs does not know this filesystem's features"
    elif _IO_ERROR.search(ran.output) and ran.exit != 0 and not _READ.search(ran.output):
        clean, error = None, "the device gives I/O errors"
    elif clean:
        problems = _spoiled_mirrors(place)
        clean = not problems
    if clean is False and not problems:
        problems = [line.strip() for line in ran.output.splitlines() if line.strip()][-3:]
    return {
        "tool": CHECK,
        "exit": ran.exit,
        "clean": clean,
        "problems": problems[:50],
        "notes": [],
        "unknown_features": unknown if clean is None else [],
        "output": ran.output,
        "error": error,
    }


def contents(place: places.Place) -> Dict[str, Any]:
    """Every block of every file against its checksum: it reads all that is in use."""
    ran = prelude.run(["btrfs", "check", "--readonly", "--check-data-csum", place.device], 6 * 3600)
    wrong = re.findall(r"^mirror \d+ bytenr \d+ csum .*", ran.output, re.M)
    if ran.exit and not wrong:
        wrong = _problems(ran.output)[:3] or ["btrfs check --check-data-csum ended with {}".format(ran.exit)]
    return {
        "problems": ["the contents of files do not match their checksums: " + line for line in wrong[:20]],
        "error": ran.error,
    }


def forget() -> None:
    """Makes the kernel forget every btrfs device that is not mounted: copies of one server have one UUID."""
    prelude.run(["btrfs", "device", "scan", "--forget"], 30)


def _spoiled_mirrors(place: places.Place) -> List[str]:
    spoiled = []
    for number, offset in ((1, 64 << 20), (2, 256 << 30)):
        if offset + 4096 > place.size:
            break
        dump = prelude.run(
            ["btrfs", "inspect-internal", "dump-super", "-F", "-s", str(number), place.device], 60
        )
        if not dump.error and "[match]" not in _line(dump.output, "csum"):
            spoiled.append("the mirror of the superblock at byte {} is damaged".format(offset))
    return spoiled


def _problems(output: str) -> List[str]:
    return [line.strip() for line in output.splitlines() if line.strip() and not _WHOLE_TREE.search(line)]


def _line(output: str, name: str) -> str:
    for line in output.splitlines():
        if line.split("\t")[0].strip() == name:
            return line[len(name) :].strip()
    return ""


def _number(text: str) -> int:
    found = re.match(r"0x[0-9a-f]+|\d+", text)
    return int(found.group(0), 0) if found else 0
