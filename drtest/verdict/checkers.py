"""What a filesystem checker's answer is worth: its exit code alone is not its word.

Measured (facts/domain.md D): ``e2fsck -fn`` says 0 over a dirty journal, ``xfs_repair -n`` says 1 over a
healthy volume whose log is dirty. So a checker that looked past an unreplayed log has said nothing, whatever
it ended with, and damage that it names counts even where it ended with 0.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import PurePosixPath


class Word(Enum):
    """What a tool's answer comes to."""

    WHOLE = "whole"
    DAMAGED = "damaged"
    UNKNOWN = "unknown"


UNREPLAYED = re.compile(
    r"skipping journal recovery|valuable metadata changes in a log|log needs recovery|recovery required", re.I
)
"""A checker's own word that it looked past a log that had yet to be replayed (EXP)."""

QUESTION = re.compile(r"^(?P<said>.*?)\s*[A-Z][^.?!]*\? +no\s*$")
"""``e2fsck -n`` asks about each piece of damage and answers itself: ``… Fix? no`` (EXP)."""

OPTIMISE = re.compile(r"\bOptimize\? +no\s*$")
"""Of an extent tree that is right and could be smaller: kernels leave such trees behind (e2fsck, pass 1E)."""

TOTALS = re.compile(r"^Free (?:blocks|inodes) count wrong \(\d+, counted=\d+\)\.")
"""The superblock's own totals, which no kernel writes back while mounted: a replayed journal leaves them behind."""

OF_THE_CLOCK = re.compile(r"^Superblock last (?:mount|write) time ")

LAST_OWN_CODE = 125
"""Above it a shell says that the tool was not found or was killed: no word of the tool's."""


def _e2fsck(code: int) -> Word:
    """A bitmask: 1 corrected, 2 reboot, 4 uncorrected, 8 and more: the tool itself failed (e2fsck.8)."""
    if code & 4:
        return Word.DAMAGED
    if code & ~3:
        return Word.UNKNOWN
    return Word.DAMAGED if code else Word.WHOLE


def _xfs_repair(code: int) -> Word:
    """With -n: 1 is damage, 0 none, 2 a dirty log (xfs_repair.8)."""
    return {0: Word.WHOLE, 1: Word.DAMAGED}.get(code, Word.UNKNOWN)


def _fsck_fat(code: int) -> Word:
    """1 is damage, or a dirty bit, which is none: its output decides (fsck.fat.8)."""
    return Word.WHOLE if code in (0, 1) else Word.UNKNOWN


def _chkdsk(code: int) -> Word:
    """0 none, 1 found and fixed, 2 cleanup was due, 3 could not check or fix (windows-commands/chkdsk.md)."""
    return {0: Word.WHOLE, 1: Word.DAMAGED, 2: Word.WHOLE}.get(code, Word.UNKNOWN)


def _fails_on_damage(code: int) -> Word:
    """0 is whole, anything else of its own is damage (btrfs-check, ntfsfix, ntfsresize)."""
    if code == 0:
        return Word.WHOLE
    return Word.DAMAGED if 0 < code <= LAST_OWN_CODE else Word.UNKNOWN


def _unfamiliar(code: int) -> Word:
    return Word.WHOLE if code == 0 else Word.UNKNOWN


CHECKERS: dict[str, Callable[[int], Word]] = {
    "e2fsck": _e2fsck,
    "xfs_repair": _xfs_repair,
    "btrfs": _fails_on_damage,
    "ntfsresize": _fails_on_damage,
    "ntfsfix": _fails_on_damage,
    "fsck.fat": _fsck_fat,
    "chkdsk": _chkdsk,
}
"""What each checker's exit code means, by its name."""


def tool_name(command: str) -> str:
    """``/sbin/e2fsck -fn`` is ``e2fsck``, ``CHKDSK.EXE X:`` is ``chkdsk``."""
    words = command.split()
    return PurePosixPath(words[0]).name.lower().removesuffix(".exe") if words else ""


def questions(output: str, *, replayed: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What ``e2fsck -n`` would have mended: the damage, and what is none.

    Args:
        output: its words.
        replayed: whether the journal had just been replayed, which leaves the superblock's totals behind.
    """
    damage: list[str] = []
    harmless: list[str] = []
    for said in _asked(output):
        none = OF_THE_CLOCK.match(said) or (replayed and TOTALS.match(said))
        (harmless if none else damage).append(said)
    return tuple(damage), tuple(harmless)


def _asked(output: str) -> Iterator[str]:
    previous = ""
    for line in output.splitlines():
        asked = QUESTION.match(line)
        if asked and not OPTIMISE.search(line):
            yield asked["said"].strip() or previous or line.strip()
        if line.strip():
            previous = line.strip()


def checker_word(
    tool: str,
    *,
    code: int | None,
    clean: bool | None,
    problems: Sequence[str],
    output: str,
    replayed: bool = False,
    notes: Sequence[str] = (),
) -> tuple[Word, str]:
    """What a full check comes to, and why where its exit code does not say it.

    Damage needs one witness: the problems that it names, its questions, its exit code or what the probe read.
    Wholeness needs all of them to agree.

    Args:
        tool: the command, as ``e2fsck -fn``.
        code: what it ended with; None if it never ended.
        clean: what the probe read from its output; None where the probe could not tell.
        problems: the damage that it named.
        output: its own words.
        replayed: whether the log had just been replayed.
        notes: what it would have mended and is no damage, as the probe read it.
    """
    if problems:
        return Word.DAMAGED, ""
    if code is None:
        return Word.UNKNOWN, ": it never ended"
    name = tool_name(tool)
    damage, harmless = questions(output, replayed=replayed) if name == "e2fsck" else ((), ())
    if damage:
        return Word.DAMAGED, f": it would have mended “{damage[0][:120]}”"
    word = CHECKERS.get(name, _unfamiliar)(code)
    if name == "e2fsck" and code == 4 and (harmless or notes):
        word = Word.WHOLE
    if word is Word.DAMAGED or clean is False:
        return Word.DAMAGED, ""
    if word is Word.UNKNOWN or clean is None:
        return Word.UNKNOWN, ""
    return Word.WHOLE, ""


def replay_word(method: str, code: int | None) -> Word:
    """What replaying a log came to, by how it was done and what that ended with."""
    if code is None or code > LAST_OWN_CODE or code < 0:
        return Word.UNKNOWN
    if tool_name(method) == "e2fsck":
        # -p ends with 1 where it corrected what it may correct unasked: replaying is that.
        return Word.WHOLE if code in (0, 1) else Word.DAMAGED
    return Word.WHOLE if code == 0 else Word.DAMAGED
