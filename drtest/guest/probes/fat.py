"""FAT: has no log; its dirty bit says that it was mounted, which is no damage."""

import re
from typing import Any, Dict, List

from drtest.guest.probes import fat_tables, places, prelude

KINDS = ("vfat",)
CHECK = "fsck.fat -n"
OWN_CHECK = "fat_tables"
MOUNT_OPTIONS = ""
KERNEL_REPLAY = ""

_NO_DAMAGE = re.compile(
    r"^fsck\.fat |^Dirty bit is set|^ Automatically removing dirty bit|^Leaving filesystem unchanged|"
    r"\d+ files, \d+/\d+ clusters|^ +Auto|^There are differences between boot sector and its backup|"
    r"^This is mostly harmless|^  \d+:\w\w/\w\w|^  Not automatically fixing|^\[\.\.\. |"
    # Windows renames a volume in its root folder alone, other tools in the boot sector alone.
    r"^Volume label '.*' stored in root directory and label|^Label in boot sector is '|"
    r"^There is no label in boot sector|"
    # A hint that is written at the end of a mount, and that nobody may rely on (the specification, FSI_Free_Count).
    r"^Free cluster summary"
)


def before(place: places.Place) -> Dict[str, Any]:
    """Whether it was mounted, from the dirty bit (FAT16: byte 37, FAT32: byte 65 of the boot sector)."""
    notes = [place.note] if place.note else []
    with open(place.device, "rb") as file:
        sector = file.read(512)
    fat32 = sector[22:24] == b"\0\0"
    if sector[65 if fat32 else 37] & 0x1:
        notes.append("it was mounted when it was captured (dirty bit)")
    return {
        "dirty_log": False,
        "error_flag": False,
        "unknown_features": [],
        "tools": {"fsck.fat": prelude.version("fsck.fat", "-n", "/dev/null")},
        "output": "",
        "notes": notes,
        "error": "",
    }


def check(place: places.Place, _found: Dict[str, Any], _replayed: Dict[str, Any]) -> Dict[str, Any]:
    """The full check, by fsck.fat or without it."""
    ran = prelude.run(["fsck.fat", "-n", place.device], 600)
    if "not installed" in ran.error:
        return _own_check(place, ran.error)
    problems = _problems(ran.output)
    clean: Any = None
    if not ran.error:
        clean = not problems if ran.exit in (0, 1) else False
        if clean is False and not problems:
            problems = ["fsck.fat ended with {}".format(ran.exit)]
    return {
        "tool": CHECK,
        "exit": ran.exit,
        "clean": clean,
        "problems": problems[:50],
        "notes": [],
        "unknown_features": [],
        "output": ran.output,
        "error": ran.error,
    }


def _problems(output: str) -> List[str]:
    """What fsck.fat names: a line with a file's path, or two, and what is wrong with it on the next, indented."""
    problems: List[str] = []
    path = ""
    for line in output.splitlines():
        if not line.strip() or _NO_DAMAGE.search(line):
            continue
        if line.startswith("/"):
            path = "{} {}".format(path, line.strip()).strip()
        elif path:
            problems.append("{}: {}".format(path, line.strip()))
            path = ""
        elif not line.startswith(" ") or not problems:
            problems.append(line.strip())
    return problems + ([path] if path else [])


def _own_check(place: places.Place, why: str) -> Dict[str, Any]:
    found = {
        "tool": OWN_CHECK,
        "exit": None,
        "clean": None,
        "problems": [],
        "notes": [why],
        "unknown_features": [],
        "output": "",
        "error": "",
    }
    try:
        problems = fat_tables.check(place.device, place.size)
    except OverflowError as problem:
        return dict(found, error="{}, and without it this is too large: {}".format(why, problem))
    return dict(found, exit=int(bool(problems)), clean=not problems, problems=problems[:50])
