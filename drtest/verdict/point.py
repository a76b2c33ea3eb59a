"""The recovery point: was it made as the cell says? If not, the cell is void, whatever else was seen.

A snapshot `stopped` of a server that had not shut down cleanly is no stopped snapshot: unclean-shutdown marks
in the control arm say that the drill went wrong, not the backup (facts/domain.md 0). So these findings void
the cell: INCONCLUSIVE, before anything else is weighed. Acknowledged records that are missing after a clean
stop are no such mark: they are damage.
"""

from drtest.verdict.attempts import attempts_of
from drtest.verdict.case import Case, Step, Steps, finding, note, unknown
from drtest.verdict.checkers import Word, replay_word
from drtest.verdict.events import boot_replays
from drtest.verdict.evidence import FindingClass
from drtest.verdict.identity import strangers
from drtest.verdict.reading import Reading
from drtest.verdict.windows_events import unclean_events
from drtest.verdict.wording import listed, plain
from drtest.words import ROOT, Capture

CHECK = "capture"
DRILL = "drill"

STATE_OF = {
    Capture.STOPPED: "stopped",
    Capture.RUNNING: "running",
    Capture.FROZEN: "running",
    Capture.VSS: "running",
}
"""The state that the source has to be in when its recovery point is made."""

AFTER_THE_FACT = frozenset({"cleanup", "clean"})
"""Stages that come after all evidence is in: what fails there leaves something behind, and proves nothing."""


def skipped(case: Case) -> Steps:
    """Stages of the drill that failed, and checks that could not be run.

    A failed stage tells why evidence is missing; where none is, the judge makes a note of it.
    """
    for seen in case.every("skipped"):
        if seen.volume is not None and seen.volume not in case.judged:
            continue
        reading = Reading.of(seen)
        check, stage = plain(reading.text("check")) or DRILL, plain(reading.text("stage"))
        why = plain(reading.text("error") or reading.text("reason")) or "no reason was given"
        if check != DRILL:
            # A data volume does not need copy B: its verdict comes from copy A.
            told = note if check == "boot" and not case.covers_root and seen.volume is None else unknown
            yield told(check, f"the {check} check was not run: {why}", seen.id)
        elif stage in AFTER_THE_FACT:
            yield note(DRILL, f"the drill failed at {stage}: {why}", seen.id)
        else:
            effect = FindingClass.UNREACHABLE if reading.flag("unreachable") else FindingClass.UNKNOWN
            failed = f"the drill failed{' at ' + stage if stage else ''}: {why}"
            if remedy := plain(reading.text("remedy")):
                failed = f"{failed.rstrip('.')}. {remedy}"
            yield finding(DRILL, effect, failed, seen.id)


def made(case: Case) -> Steps:
    """Whether there is a recovery point."""
    capture = case.latest("capture")
    if capture is None:
        yield unknown(CHECK, f"no recovery point of {case.cell.server} was recorded for this cell")
        return
    error = plain(capture.text("error"))
    if capture.flag("completed") is not True:
        yield unknown(
            CHECK, "the snapshot was not completed" + (f": {error}" if error else ""), capture.evidence
        )
    elif error:
        # A reply that was lost: what the request had made was found by its tag.
        yield note(
            CHECK, f"the snapshot was made, though its request met an error: {error}", capture.evidence
        )
    snapshots = capture.part("snapshots")
    missing = [volume for volume in case.judged if not (snapshots and snapshots.text(volume))]
    if missing:
        yield unknown(CHECK, f"the recovery point has no snapshot of {listed(missing)}", capture.evidence)


def repeated(case: Case) -> Steps:
    """Whether an earlier proof of the recovery point was cut off, as that of a run that was killed and resumed."""
    if case.cut_off:
        yield note(
            DRILL,
            "an earlier proof of this recovery point was cut off; what it saw stays in the evidence",
            case.cut_off[0].id,
        )


def voids(case: Case) -> Steps:
    """What makes the recovery point another than the cell says; nothing where it is as said."""
    capture = case.latest("capture")
    if capture is None:
        return
    wanted = STATE_OF.get(case.cell.capture)
    state = capture.text("source_state_before")
    if wanted and state != wanted:
        yield unknown(
            CHECK,
            f"not a {case.cell.capture} capture: the source was {plain(state) or 'in an unknown state'} "
            "when it was taken",
            capture.evidence,
        )
    if case.cell.capture is Capture.STOPPED:
        for volume in case.judged:
            yield from _unclean(case, volume)


UNCLEAN = "the server had not shut down cleanly, so this is not a stopped capture: the control arm is broken"


def _unclean(case: Case, volume: str) -> Steps:
    name = case.name(volume)
    yield from _dirty(case, volume)
    attempts = attempts_of(case)
    if not attempts or not attempts[-1].answered or any(strangers(case, attempts[-1].reading)):
        return
    # Each try restores the root anew; a blank volume that stood in for the cell's own carries marks of nothing.
    if attempts[-1].blank and volume != ROOT:
        return
    kernel = case.latest("boot.kernel")
    if kernel is not None and boot_replays(case).get(volume):
        yield _mark(
            f"the copy of {name} replayed a log at boot though it was captured stopped: {UNCLEAN}", kernel
        )
    seen = case.latest("boot.events")
    marks = unclean_events(case)
    if seen is not None and marks:
        # Of the server, and so of each volume: those were captured with it.
        yield _mark(
            f"{case.cell.server} logged {listed(marks)}, though it was captured stopped: {UNCLEAN}", seen
        )


def _dirty(case: Case, volume: str) -> Steps:
    name = case.name(volume)
    before = case.latest("filesystem.before", volume)
    replay = case.latest("filesystem.replay", volume)
    if replay is not None and _unreplayable(replay):
        # Garbage looks dirty. A server that was not shut down leaves a log that can be replayed: this is damage.
        return
    if before is not None and before.flag("dirty_log"):
        yield _mark(f"the log of {name} was dirty though it was captured stopped: {UNCLEAN}", before)
    elif replay is not None and replay.flag("replayed"):
        yield _mark(f"the log of {name} was replayed though it was captured stopped: {UNCLEAN}", replay)


def _unreplayable(replay: Reading) -> bool:
    parts = replay.parts("filesystems") or (replay,)
    tried = [one for one in parts if one.text("method") not in ("", "none")]
    return any(
        one.flag("failed") or replay_word(plain(one.text("method")), one.whole("exit")) is Word.DAMAGED
        for one in tried
        if not one.text("error")
    )


def _mark(sentence: str, seen: Reading) -> Step:
    return unknown(CHECK, sentence, seen.evidence)
