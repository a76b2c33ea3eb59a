"""The filesystem check: is the structure of copy A whole, once its own log is replayed?

The order is that of the probes: `filesystem.before` looks at the volume as it lies, `filesystem.replay` lets
the filesystem's own log run, `filesystem.check` asks the full checker (see `drtest.verdict.checkers` for what
its answer is worth).
"""

from collections.abc import Sequence

from drtest.verdict.case import Case, Shown, Step, Steps, finding, inconsistent, note, unknown
from drtest.verdict.checkers import UNREPLAYED, Word, checker_word, replay_word
from drtest.verdict.disks import changed_mark
from drtest.verdict.evidence import Finding, FindingClass
from drtest.verdict.kernel import Kind, kind, named
from drtest.verdict.reading import Reading
from drtest.verdict.serials import serial_of
from drtest.verdict.wording import counted, listed, plain, quoted
from drtest.words import ROOT, Capture

CHECK = "filesystem"

KNOWN = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "ntfs", "vfat"})
"""Filesystems that the examination recognises: one of these that isn't recognised any more is damage."""


def check(case: Case) -> Steps:
    """Whether the structure of each of the cell's volumes is whole."""
    for volume in case.judged:
        yield from _volume(case, volume)


def _volume(case: Case, volume: str) -> Steps:
    name = case.name(volume)
    before = case.latest("filesystem.before", volume)
    if before is None:
        yield unknown(CHECK, f"{name} was not examined offline: nothing is known of its filesystem")
        return
    if before.text("error"):
        yield unknown(CHECK, f"{name} could not be looked at: {plain(before.text('error'))}", before.evidence)
        # Part of it may have been: damage that was seen there is damage.
        seen = _checked(case, volume, plain(before.text("filesystem")), replayed=False)
        if isinstance(seen, Finding) and seen.effect is FindingClass.INCONSISTENT:
            yield seen
        return
    if sources_own(case, volume, before):
        yield unknown(
            CHECK,
            f"not the volume that was restored: the helper looked at {name}'s own {plain(before.text('serial'))}",
            before.evidence,
        )
        return
    has = plain(before.text("filesystem"))
    if not has:
        yield _unrecognised(case, volume, before)
        return
    newer = before.texts("unknown_features")
    if newer:
        yield unknown(
            CHECK,
            f"{name} has {has} features that the helper's tools don't know ({listed(newer)}): "
            "newer than the tools is not damage",
            before.evidence,
        )
        return
    if before.flag("error_flag"):
        yield inconsistent(
            CHECK,
            f"the {has} of {name} carries its own error flag: its kernel had found damage",
            before.evidence,
        )
    yield from changed_mark(case, volume, before)
    yield from _helper_kernel(case, volume, before)
    yield from _examined(case, volume, before, has)


def sources_own(case: Case, volume: str, before: Reading) -> bool:
    """Whether the helper was looking at the source's own volume instead of a copy."""
    capture = case.latest("capture")
    sources = capture.part("volumes") if capture else None
    own = sources.text(volume) if sources else ""
    return bool(own) and serial_of(own) == serial_of(before.text("serial"))


def _unrecognised(case: Case, volume: str, before: Reading) -> Step:
    name = case.name(volume)
    acknowledged = case.latest("canary.acknowledged")
    written = acknowledged.part("volumes") if acknowledged else None
    own = written.part(volume) if written else None
    records = own.ranges("records").count if own else 0
    if records:
        return inconsistent(
            CHECK,
            f"no filesystem is recognised on {name}, where {counted(records, 'record')} had been acknowledged",
            before.evidence,
            acknowledged.evidence if acknowledged else "",
        )
    baseline = case.latest("baseline.system")
    mounts = baseline.parts("mounts") if baseline else ()
    root = next((mount for mount in mounts if mount.text("target") == "/"), None)
    if volume == ROOT and root is not None and root.text("fstype") in KNOWN:
        return inconsistent(
            CHECK,
            f"no filesystem is recognised on {name}, where the source has {root.text('fstype')}",
            before.evidence,
            root.evidence,
        )
    return unknown(CHECK, f"no filesystem that the helper knows is on {name}", before.evidence)


def _helper_kernel(case: Case, volume: str, before: Reading) -> Steps:
    """What the helper's kernel said: it adds damage and doubt, and its silence proves nothing."""
    kernel = case.latest("helper.kernel")
    if kernel is None:
        return
    lines = [line for line in kernel.texts("messages") if named(line, before.text("device"))]
    damage = [line for line in lines if kind(line) is Kind.DAMAGE]
    trouble = [line for line in lines if kind(line) is Kind.DISK]
    slow = [line for line in lines if kind(line) is Kind.SLOW]
    if slow:
        yield note(CHECK, f"the disk of {case.name(volume)} was slow: {quoted(slow[0])}", kernel.evidence)
    if damage:
        yield inconsistent(
            CHECK, f"the helper's kernel says of {case.name(volume)}: {quoted(damage[0])}", kernel.evidence
        )
    elif trouble:
        yield unknown(
            CHECK,
            f"reading {case.name(volume)} failed below the filesystem: {quoted(trouble[0])}",
            kernel.evidence,
        )
    if kernel.flag("oops"):
        yield unknown(
            CHECK,
            "the helper's kernel crashed during the examination: what it said from then on proves nothing",
            kernel.evidence,
        )


def _examined(case: Case, volume: str, before: Reading, has: str) -> Steps:
    name = case.name(volume)
    dirty = before.flag("dirty_log")
    replay = case.latest("filesystem.replay", volume)
    if dirty is None:
        said = f"whether the log of {name} was dirty could not be told"
        yield (unknown if case.cell.capture is Capture.STOPPED else note)(CHECK, said, before.evidence)
    if dirty and replay is None:
        yield unknown(CHECK, f"the log of {name} was dirty, and nothing replayed it", before.evidence)
        return
    replayed = False
    if replay is not None:
        went_wrong = _replay(name, replay, dirty=dirty)
        if went_wrong is not None:
            yield went_wrong
            return
        replayed = replay.flag("replayed") or False
    if replayed and replay is not None:
        yield finding(
            CHECK,
            FindingClass.RECOVERED,
            f"the {has} log of {name} was dirty and was replayed by {plain(replay.text('method'))}",
            before.evidence,
            replay.evidence,
        )
    yield _checked(case, volume, has, replayed=replayed)
    yield from _noted(case, volume)


def _noted(case: Case, volume: str) -> Steps:
    """What the checkers remarked that is no damage, as a registry hive that was recovered from its log."""
    seen = case.latest("filesystem.check", volume)
    parts = (seen.parts("filesystems") or (seen,)) if seen else ()
    for said in dict.fromkeys(said for part in parts for said in part.texts("notes")):
        yield note(CHECK, f"{case.name(volume)}: {plain(said)}", seen.evidence if seen else "")


def _replay(name: str, replay: Reading, *, dirty: bool | None) -> Step | None:
    """What is wrong with the replay; None where the log is replayed, or had nothing to replay."""
    if replay.text("error"):
        return unknown(
            CHECK, f"the log of {name} was not replayed: {plain(replay.text('error'))}", replay.evidence
        )
    done = [
        one for one in (replay.parts("filesystems") or (replay,)) if one.text("method") not in ("", "none")
    ]
    for one in done:
        method, code = plain(one.text("method")), one.whole("exit")
        word = replay_word(method, code)
        if word is Word.DAMAGED:
            what = "its log can't be replayed" if dirty else "it can't be mounted"
            said = one.text("why") or replay.text("output")
            return inconsistent(
                CHECK,
                f"{name}: {what}: {method} ended with {code}" + (f", {quoted(said)}" if said else ""),
                replay.evidence,
            )
        if word is Word.UNKNOWN:
            return unknown(
                CHECK, f"the log of {name}: {method} ended with {code}, which says nothing", replay.evidence
            )
    if dirty and not done:
        return unknown(CHECK, f"the log of {name} was dirty, and nothing replayed it", replay.evidence)
    if dirty and not replay.flag("replayed"):
        return unknown(
            CHECK,
            f"the log of {name} was dirty, and its replay ended well without replaying it",
            replay.evidence,
        )
    return None


def _named(problems: Sequence[str]) -> str:
    """The first of the problems that a checker names, and how many there are."""
    if not problems:
        return ""
    several = f"{counted(len(problems), 'problem')}, the first " if len(problems) > 1 else ""
    return f": {several}{quoted(problems[0])}"


def _checked(case: Case, volume: str, has: str, *, replayed: bool) -> Step:
    """What the full check says: of several filesystems on a volume, the worst."""
    name = case.name(volume)
    seen = case.latest("filesystem.check", volume)
    if seen is None:
        return unknown(CHECK, f"no checker ran over the {has} of {name}")
    tool = plain(seen.text("tool")) or "the checker"
    if seen.text("error"):
        return unknown(CHECK, f"{tool} could not check {name}: {plain(seen.text('error'))}", seen.evidence)
    if UNREPLAYED.search(seen.text("output")):
        return unknown(
            CHECK,
            f"{tool} looked past a log of {name} that had yet to be replayed: it says nothing",
            seen.evidence,
        )
    doubt: Step | None = None
    for one in seen.parts("filesystems") or (seen,):
        code, problems = one.whole("exit"), one.texts("problems")
        own = plain(one.text("tool")) or tool
        word, why = checker_word(
            own,
            code=code,
            clean=one.flag("clean"),
            problems=problems,
            output=seen.text("output"),
            replayed=replayed,
            notes=one.texts("notes"),
        )
        if word is Word.DAMAGED:
            return inconsistent(
                CHECK, f"{own} found {name} damaged (exit {code}){_named(problems) or why}", seen.evidence
            )
        if word is Word.UNKNOWN:
            doubt = doubt or unknown(CHECK, f"{own} says nothing of {name} (exit {code}){why}", seen.evidence)
    if seen.texts("problems") or seen.flag("clean") is False:
        said = f": {quoted(seen.texts('problems')[0])}" if seen.texts("problems") else ""
        return inconsistent(CHECK, f"{name} was found damaged{said}", seen.evidence)
    if doubt is None and not seen.flag("clean"):
        doubt = unknown(CHECK, f"whether {tool} found {name} whole could not be told", seen.evidence)
    if doubt is not None:
        return doubt
    after = "after log replay" if replayed else "with nothing to replay"
    return Shown(
        check=CHECK,
        volume=volume,
        phrase=f"{has} whole {after}",
        sentence=f"{tool} found the {has} of {name} whole {after} (exit {seen.whole('exit')})",
        evidence=(seen.evidence,) if seen.evidence else (),
        amount=int(replayed),
    )
