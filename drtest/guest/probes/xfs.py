"""XFS: its log is replayed by mounting alone, and xfs_repair -n calls a healthy one with a dirty log corrupt."""

import re
from typing import Any, Dict, List

from drtest.guest.probes import places, prelude

KINDS = ("xfs",)
CHECK = "xfs_repair -n"
MOUNT_OPTIONS = "ro,nouuid"
KERNEL_REPLAY = "nouuid,noatime,nodev,nosuid,noexec"

_STATE = re.compile(r"state: <(CLEAN|DIRTY)>")
_ALERT = "ALERT: The filesystem has valuable metadata changes in a log"
_UNKNOWN = re.compile(r"(?:unknown|unsupported) .*features? *(\(0x[0-9a-fx/]+\))?", re.IGNORECASE)
_IO_ERROR = re.compile(r"Input/output error|read failed: I/O", re.IGNORECASE)
# What xfs_repair says of its own progress; any other line is what it would mend.
_PROGRESS = re.compile(
    r"^(?:Phase \d|        - |No modify flag set|ALERT: |ignored because|which may be resolved|Expect spurious|"
    r"which is being|\.+$|xfs_repair:? ?$|Inode allocation btrees are too corrupted|\[\.\.\. )"
)


def before(place: places.Place) -> Dict[str, Any]:
    """Whether the log is dirty, by xfs_logprint on the raw device."""
    ran = prelude.run(["xfs_logprint", "-t", place.device], 300, until=_STATE)
    state = _STATE.search(ran.output)
    # Over a damaged superblock xfs_logprint finds "a clean log" of its own imagination.
    dirty = None if state is None or place.note else state.group(1) == "DIRTY"
    return {
        "dirty_log": dirty,
        "error_flag": False,
        "unknown_features": [],
        "tools": {"xfs_repair": prelude.version("xfs_repair")},
        "output": ran.output,
        "notes": [place.note] if place.note else [],
        "replayable": not place.note,
        "error": ran.error,
    }


def check(place: places.Place, _found: Dict[str, Any], replayed: Dict[str, Any]) -> Dict[str, Any]:
    """The full check; never with -L."""
    ran = prelude.run(["xfs_repair", "-n", place.device], 3600)
    unknown = [match.group(0).strip() for match in _UNKNOWN.finditer(ran.output)]
    problems = [] if ran.exit == 0 else _problems(ran.output)
    clean: Any = ran.exit == 0
    error = ran.error
    if ran.error:
        clean = None
    elif unknown:
        clean, problems, error = None, [], "xfs_repair does not know this filesystem's features"
    elif _IO_ERROR.search(ran.output):
        clean, error = None, "the device gives I/O errors"
    elif _ALERT in ran.output and not replayed.get("failed"):
        clean, problems, error = None, [], "the log was not replayed, so the check says nothing"
    elif ran.exit not in (0, 1):
        clean, error = (False, "") if problems else (None, "xfs_repair ended with {}".format(ran.exit))
    if clean is False and not problems:
        problems = [line.strip() for line in ran.output.splitlines() if line.strip()][-3:]
    return {
        "tool": CHECK,
        "exit": ran.exit,
        "clean": clean,
        "problems": problems[:50],
        "notes": [],
        "unknown_features": unknown,
        "output": ran.output,
        "error": error,
    }


def _problems(output: str) -> List[str]:
    return [line.strip() for line in output.splitlines() if line.strip() and not _PROGRESS.match(line)]
