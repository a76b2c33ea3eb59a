"""What only Windows tells of copy B: its volumes while they are online, due disk checks, VSS writers, services.

The structure of a volume is judged by copy A (`drtest.verdict.filesystem`): what an online volume says adds doubt,
and never proves that it is whole.
"""

from drtest.verdict.case import Case, Steps, note, unknown
from drtest.verdict.mounts import owners_of
from drtest.verdict.reading import Reading
from drtest.verdict.wording import counted, listed, plain, quoted
from drtest.words import ROOT

CHECK = "boot"

NOT_SCANNED = frozenset(
    {1, 3, 5, 40001, 43001, 43006, 43008, 43009, 43010, 43011, 43012, 43013, 43014},
)
"""Answers of Repair-Volume that say that it did not scan (learn.microsoft.com, MSFT_Volume.Repair)."""

STABLE, WAITING = 1, frozenset({2, 3, 4, 5})
"""VSS_WRITER_STATE: any other is a failure, or unknown (learn.microsoft.com, ne-vss-vss_writer_state)."""


def check(case: Case, *, blank: bool) -> Steps:
    """What copy B's own tools say of the cell's volumes, and of the system where the cell covers the root.

    Args:
        case: the cell's case.
        blank: whether blank volumes stood in for the data volumes.
    """
    seen = case.latest("boot.volumes")
    if seen is None or seen.text("error"):
        why = f": {plain(seen.text('error'))}" if seen else ""
        yield note(CHECK, f"the online volumes of the copy were not looked at{why}")
    else:
        owners = owners_of(case)
        for volume in seen.parts("volumes"):
            name = owners.get(volume.text("uuid").lower(), ROOT)
            if name in case.judged and (name == ROOT or not blank):
                yield from _online(case, name, volume)
        if case.covers_root:
            yield from _due(case, seen)
    if case.covers_root:
        yield from _writers(case)
        yield from _services(case)


def _online(case: Case, name: str, volume: Reading) -> Steps:
    target, code = plain(volume.text("target")), volume.whole("scan")
    if volume.flag("dirty"):
        # Set while changes are outstanding too (windows-commands/fsutil-dirty.md).
        yield note(CHECK, f"{case.name(name)} ({target}) is marked dirty while it is online", volume.evidence)
    if code is None:
        why = plain(volume.text("error"))
        yield note(
            CHECK,
            f"{case.name(name)} ({target}) was not scanned while online{': ' + why if why else ''}",
            volume.evidence,
        )
    elif code in NOT_SCANNED:
        yield note(
            CHECK, f"{case.name(name)} ({target}) could not be scanned while online ({code})", volume.evidence
        )
    elif code:
        yield unknown(
            CHECK,
            f"a scan of {case.name(name)} ({target}) while it was online ended with {code}, which is no success",
            volume.evidence,
        )


def _due(case: Case, seen: Reading) -> Steps:
    """What is to run at the next start, besides what always does."""
    pending = seen.texts("pending")
    checks = [one for one in pending if "autochk" in one.lower()]
    others = [one for one in pending if one not in checks]
    if checks:
        yield unknown(
            CHECK,
            f"{case.name(ROOT)} has a disk check due at its next start: {quoted(checks[0])}",
            seen.evidence,
        )
    if others:
        yield note(CHECK, f"{case.name(ROOT)} runs at each start besides: {listed(others)}", seen.evidence)


def _writers(case: Case) -> Steps:
    """VSS writers of the copy: they say whether a later capture through VSS would work, not whether this one did."""
    seen = case.latest("boot.vss")
    if seen is None or seen.text("error"):
        why = f": {plain(seen.text('error'))}" if seen else ""
        yield note(CHECK, f"the VSS writers of the copy are not known{why}", seen.evidence if seen else "")
        return
    states = [(writer.text("id"), writer.whole("state")) for writer in seen.parts("writers")]
    failed = [f"{id_} ({state})" for id_, state in states if state != STABLE and state not in WAITING]
    waiting = [id_ for id_, state in states if state in WAITING]
    if failed:
        yield unknown(
            CHECK, f"VSS writers of the copy are in a failed state: {listed(failed)}", seen.evidence
        )
    if waiting:
        yield note(CHECK, f"VSS writers of the copy are waiting: {listed(waiting)}", seen.evidence)
    if states and not failed and not waiting:
        yield note(CHECK, f"all {counted(len(states), 'VSS writer')} of the copy are stable", seen.evidence)


def _services(case: Case) -> Steps:
    """Automatic services that run on the source and not in the copy, without having failed."""
    system, baseline = case.latest("boot.system"), case.latest("baseline.system")
    if system is None or baseline is None:
        return
    at_rest = {*baseline.texts("stopped_units"), *baseline.texts("failed_units")}
    new = [unit for unit in system.texts("stopped_units") if unit not in at_rest]
    if new:
        yield note(
            CHECK,
            f"run on the source and not in the copy, without having failed: {listed(new)} "
            "(delayed or triggered services may come later)",
            system.evidence,
            baseline.evidence,
        )
