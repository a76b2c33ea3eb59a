"""The guest's kernel: what it said, since when, and whether it still can be trusted."""

import json
import os
import re
from typing import Any, Dict, List, NamedTuple, Optional

from drtest.guest.probes import prelude

# Text of the kernel and of the filesystem checkers, which no locale translates.
PATTERNS = {
    "Kernel panic - not syncing": r"Kernel panic - not syncing",
    "EXT4-fs error": r"EXT[234]-fs error|EXT[234]-fs \([^)]*\): (?:failed|error loading journal|get root inode failed)",
    "XFS corruption": r"XFS \([^)]*\): .*(?:[Cc]orruption|[Mm]etadata I/O error|log mount.* failed|run xfs_repair)",
    "BTRFS error": r"BTRFS(?:: | )(?:error|critical)",
    "JBD2 error": r"JBD2: .*(?:[Ee]rror|recovery failed|IO error)",
    "NTFS error": r"ntfs3?: .*(?:error|corrupt)",
    "Buffer I/O error": r"Buffer I/O error|critical (?:medium|target) error|Input/output error",
    "I/O error on a device": r"(?:blk_update_request: |: )?I/O error, dev ",
    "remounted read-only": r"[Rr]emounting filesystem read-only|forced readonly",
    "VFS could not mount": r"VFS: (?:Unable to mount root fs|Cannot open root device)",
    "oops": r"Oops(?::| )|BUG: |kernel BUG at|general protection fault|Unable to handle kernel",
    "hung task": r"blocked for more than \d+ seconds|soft lockup|rcu.*detected stalls?",
    "UNEXPECTED INCONSISTENCY": r"UNEXPECTED INCONSISTENCY",
}
_COMPILED = {name: re.compile(pattern) for name, pattern in PATTERNS.items()}
OOPS = re.compile(r"\bOops(?::| )|\bBUG: |kernel BUG at|general protection fault|Unable to handle kernel")
REPLAYS = re.compile(
    r"recovery complete|recovering journal|Starting recovery|Ending recovery|start tree-log replay|"
    r"recovery required|[Oo]rphan.* (?:inodes? )?(?:deleted|cleanup)|Clearing orphaned inode"
)
# A filesystem that this kernel is too old for: nothing is known of it, least of all that it is damaged.
UNKNOWN = re.compile(
    r"unsupported optional features|unknown (?:in)?compat\w* features|unknown incompatible features|"
    r"unsupported option features|[Uu]nsupported .*(?:feature|blocksize|block size)|"
    r"cannot be safely mounted by this kernel|not (?:yet )?supported (?:by|for)|cannot be mounted without|"
    r"bad block size \d+|Only pagesize"
)
LINES = 60


class Line(NamedTuple):
    """One message of the kernel: its number since boot and its text."""

    number: int
    text: str


class Log:
    """What the kernel says from the moment that this was made (or since boot)."""

    def __init__(self, since_boot: bool = False) -> None:
        self.error = ""
        self._file: Optional[int] = None
        try:
            self._file = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
            os.lseek(self._file, 0, os.SEEK_SET if since_boot else os.SEEK_END)
        except OSError as problem:
            self.error = "the kernel's log can't be read: {}".format(problem)

    def read(self) -> List[Line]:
        """All messages since the last call."""
        lines: List[Line] = []
        while self._file is not None:
            try:
                raw = os.read(self._file, 8192).decode("utf-8", "replace")
            except BlockingIOError:
                break
            except (
                BrokenPipeError
            ):  # messages were overwritten before they were read: go on with the next one
                continue
            except OSError:
                break
            head, _, text = raw.partition(";")
            fields = head.split(",")
            if len(fields) > 1 and fields[1].isdigit():
                lines.append(Line(int(fields[1]), text.split("\n", 1)[0]))
        return lines

    def close(self) -> None:
        """Gives the log back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def tainted() -> int:
    """The kernel's taint bits; 128 is an oops (Documentation/admin-guide/tainted-kernels)."""
    return int(prelude.read("/proc/sys/kernel/tainted") or 0)


def matches(texts: List[str]) -> List[Dict[str, str]]:
    """The lines that tell of damage, each with the name of the pattern that it matched."""
    found = []
    for text in texts:
        for name, pattern in _COMPILED.items():
            if pattern.search(text):
                found.append({"pattern": name, "line": text[:500]})
                break
    return found


def of_this_boot() -> List[str]:
    """The kernel's messages of this boot: from its own buffer, or the journal where that has run over.

    Raises:
        OSError: neither can be read.
    """
    log = Log(since_boot=True)
    lines = log.read()
    log.close()
    if lines and lines[0].number == 0:
        return [line.text for line in lines]
    journal = _journal(["-k", "-b"])
    if len(journal) >= len(lines) and journal:
        return journal
    if not lines:
        raise OSError(log.error or "the kernel's log is empty")
    return [line.text for line in lines]


def of_checkers() -> List[str]:
    """What the filesystem checkers of this boot said (systemd-fsck), from the journal."""
    return _journal(["-b", "-t", "systemd-fsck"])


def _journal(selection: List[str]) -> List[str]:
    # The output can be long, and a command's is cut: a file takes it whole.
    path = prelude.scratch("journal")
    script = 'exec journalctl "$@" -o json --no-pager -q >"$0"'
    ran = prelude.run(["sh", "-c", script, path, *selection], 60)
    texts = []
    try:
        with open(path, "rb") as file:
            for raw in file if not ran.error else ():
                texts.append(_message(raw))
    except OSError:
        pass
    finally:
        if os.path.exists(path):
            os.unlink(path)
    return [text for text in texts if text]


def _message(raw: bytes) -> str:
    try:
        message: Any = json.loads(raw.decode("utf-8", "replace")).get("MESSAGE")
    except ValueError:
        return ""
    if isinstance(message, list):  # bytes that are no UTF-8 come as numbers
        return bytes(message).decode("utf-8", "replace")
    return message if isinstance(message, str) else ""
