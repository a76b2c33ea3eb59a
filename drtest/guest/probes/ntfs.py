"""NTFS, as far as a Linux helper can tell: a Windows helper is the one that judges it.

Three tools look at it, each at something else: ntfsfix at boot sectors, the MFT's mirror and the log, ntfsresize at
every record of the MFT and at the bitmap, ntfsls at every folder and the records of what is in it. None of them reads
what the table of capital letters ($UpCase) holds, or whether a name in a folder is its file's own: chkdsk does.
"""

import re
from typing import Any, Dict, List

from drtest.guest.probes import ntfs_log, places, prelude

KINDS = ("ntfs",)
CHECK = "ntfsfix -n, ntfsresize -i, ntfsls -lR"
MOUNT_OPTIONS = ""
KERNEL_REPLAY = ""

_FLAGS = re.compile(r"Volume Flags: *(0x[0-9a-fA-F]+)")
_DIRTY = 0x1
_WRONG = re.compile(
    r"FAILED|ERROR|[Cc]orrupt|[Ii]nconsisten|_fixup|Failed to|[Ii]nvalid|no FILE magic|does not match"
)
# That something is wrong, without what: the other tools and lines say it better.
_VAGUE = re.compile(r"FAILED$|NTFS is inconsistent|Remount failed|as NTFS failed")


def before(place: places.Place) -> Dict[str, Any]:
    """Whether its log has to be replayed, or its dirty flag is set."""
    ran = prelude.run(["ntfsinfo", "-m", "-f", place.device], 60)
    flags = _FLAGS.search(ran.output)
    marked = bool(int(flags.group(1), 16) & _DIRTY) if flags else None
    log = ntfs_log.dirty(place.device)
    return {
        "dirty_log": True if marked or log else None if marked is None or log is None else False,
        "error_flag": False,
        "unknown_features": [],
        "tools": {"ntfsfix": prelude.version("ntfsfix", "--version")},
        "output": ran.output,
        "notes": [place.note] if place.note else [],
        "error": ran.error,
    }


def check(place: places.Place, _found: Dict[str, Any], _replayed: Dict[str, Any]) -> Dict[str, Any]:
    """What the three tools say; nothing is written."""
    looks = (
        prelude.run(["ntfsfix", "-n", place.device], 600),
        prelude.run(["ntfsresize", "-i", "-f", "-P", place.device], 3600),
        # The names themselves are of no interest, and there may be millions.
        prelude.run(["sh", "-c", 'exec ntfsls -f -R -a -s -l "$0" 2>&1 >/dev/null', place.device], 3600),
    )
    problems: List[str] = []
    for name, ran in zip(("ntfsfix", "ntfsresize", "ntfsls"), looks):
        said = [line.strip() for line in ran.output.splitlines() if line.strip() and _WRONG.search(line)]
        said = [line.replace("Mounting volume... ", "", 1) for line in sorted(said, key=_is_vague)]
        # Without an exit it was ended, having said too much.
        if ran.exit or (ran.exit is None and not ran.error) or (name == "ntfsls" and said):
            problems += ["{}: {}".format(name, line) for line in said[:10]] or [
                "{} ended with {}".format(name, ran.exit)
            ]
    exits = [ran.exit for ran in looks]
    missing = next((ran.error for ran in looks if ran.error), "")
    return {
        "tool": CHECK,
        "exit": None if None in exits else max(code for code in exits if code is not None),
        "clean": False if problems else None if missing else True,
        "problems": problems[:50],
        "notes": [],
        "unknown_features": [],
        "output": "\n".join(ran.output for ran in looks),
        "error": "" if problems else missing,
    }


def _is_vague(line: str) -> bool:
    return bool(_VAGUE.search(line))
