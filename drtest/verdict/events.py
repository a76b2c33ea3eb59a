"""The events check: what the system of copy B logged since it started.

Windows by provider and id, never by its localized text; Linux by the kernel's log, which the boot check reads
too. Marks of an unclean shutdown are what a running capture leaves (RECOVERED); after a stopped one they void
the cell (`drtest.verdict.point`).
"""

from collections.abc import Mapping

from drtest.verdict.attempts import attempts_of
from drtest.verdict.case import Case, Shown, Steps, finding, inconsistent, note, unknown
from drtest.verdict.evidence import FindingClass
from drtest.verdict.identity import strangers
from drtest.verdict.kernel import Kind, kind, volume_of
from drtest.verdict.mounts import owners_of
from drtest.verdict.reading import Reading
from drtest.verdict.wording import counted, plain, quoted
from drtest.words import ROOT, Capture, Os

CHECK = "events"

UNCLEAN = {
    ("microsoft-windows-kernel-power", 41): "the system was not shut down cleanly",
    ("eventlog", 6008): "the previous shutdown was unexpected",
}
"""Windows' marks of an unclean shutdown (facts/domain.md C)."""

EFFECTS: Mapping[tuple[str, int], tuple[FindingClass, str]] = {
    ("ntfs", 55): (FindingClass.INCONSISTENT, "the structure of the file system is corrupt"),
    ("ntfs", 137): (FindingClass.UNKNOWN, "the transaction resource manager met an error"),
    ("ntfs", 140): (FindingClass.UNKNOWN, "data could not be flushed to the transaction log"),
    ("disk", 7): (FindingClass.UNKNOWN, "the disk has a bad block"),
    ("disk", 11): (FindingClass.UNKNOWN, "the disk's controller met an error"),
    ("disk", 51): (FindingClass.NOTE, "an error in paging: on a lazily loaded volume this can be latency"),
    ("disk", 153): (
        FindingClass.NOTE,
        "a read was tried again: on a lazily loaded volume this can be latency",
    ),
    ("wininit", 1001): (FindingClass.RECOVERED, "the disk was checked at boot"),
    **{key: (FindingClass.RECOVERED, says) for key, says in UNCLEAN.items()},
}
"""What an event does to the verdict, by provider and id (facts/domain.md C); any other is a note."""


def check(case: Case) -> Steps:
    """What copy B's logs say of this boot."""
    attempts = attempts_of(case)
    if not attempts or not attempts[-1].answered:
        told = unknown if case.covers_root else note
        yield told(CHECK, "the logs of copy B are not known: it did not answer")
        return
    wrong = tuple(strangers(case, attempts[-1].reading))
    yield from wrong
    if wrong:
        return
    if case.cell.os is Os.WINDOWS:
        if case.covers_root:
            yield from _windows(case)
        return
    yield from kernel_log(case, check=CHECK, blank=attempts[-1].blank)


def _windows(case: Case) -> Steps:
    seen = case.latest("boot.events")
    if seen is None or seen.text("error"):
        why = f": {plain(seen.text('error'))}" if seen else ""
        yield unknown(
            CHECK, f"the event log of {case.name(ROOT)} is not known{why}", seen.evidence if seen else ""
        )
        return
    events = seen.parts("events")
    told = False
    for event in events:
        provider, number = event.text("provider"), event.whole("id")
        short = provider.lower().removeprefix("microsoft-windows-")
        key = (provider.lower(), number or 0)
        effect, says = EFFECTS.get(key) or EFFECTS.get((short, number or 0)) or (FindingClass.NOTE, "")
        if (short, number) == ("ntfs", 98):
            effect, says = _volume_state(event)
        if effect is FindingClass.RECOVERED and case.cell.capture is Capture.STOPPED:
            effect = FindingClass.NOTE
        told = told or effect not in (FindingClass.NOTE, FindingClass.RECOVERED)
        times = counted(event.whole("count") or 1, "time")
        what = f"{plain(provider)} {number}, {times}" + (f": {says}" if says else "")
        yield finding(CHECK, effect, f"{case.name(ROOT)} logged {what}", seen.evidence)
    if not told:
        yield Shown(
            check=CHECK,
            volume=ROOT,
            phrase="no error in the event log",
            sentence=f"the event log of {case.name(ROOT)} names no damage since its start",
            evidence=(seen.evidence,) if seen.evidence else (),
        )


def _volume_state(event: Reading) -> tuple[FindingClass, str]:
    """Ntfs 98 is logged of healthy volumes too: only its CorruptionActionState decides."""
    data = event.part("data")
    state = data.whole("CorruptionActionState") if data else None
    if state is None:
        return FindingClass.UNKNOWN, "the state of a volume, without saying which"
    if state:
        return FindingClass.INCONSISTENT, f"a volume needs repair (CorruptionActionState {state})"
    return FindingClass.NOTE, "a volume is healthy"


def unclean_events(case: Case) -> tuple[str, ...]:
    """Windows' marks of an unclean shutdown, as sentences."""
    seen = case.latest("boot.events")
    marks = []
    for event in seen.parts("events") if seen else ():
        says = UNCLEAN.get((event.text("provider").lower(), event.whole("id") or 0))
        if says:
            marks.append(f"{plain(event.text('provider'))} {event.whole('id')}: {says}")
    return tuple(marks)


def kernel_log(case: Case, *, check: str, blank: bool) -> Steps:
    """What copy B's Linux kernel says of the cell's volumes.

    Args:
        case: the cell's case.
        check: the check that asks.
        blank: whether blank volumes stood in for the data volumes: what is said of them says nothing then.
    """
    if case.cell.os is not Os.LINUX:
        return
    judged = [volume for volume in case.judged if volume == ROOT or not blank]
    kernel = case.latest("boot.kernel")
    if not judged:
        return
    if kernel is None or kernel.text("error"):
        why = f": {plain(kernel.text('error'))}" if kernel else ""
        told = unknown if case.covers_root else note
        yield told(check, f"the kernel log of copy B is not known{why}", kernel.evidence if kernel else "")
        return
    said: dict[str, list[str]] = {}
    devices = _devices(case)
    for message in kernel.parts("messages"):
        pattern, line = message.text("pattern"), message.text("line")
        text = line if pattern.lower() in line.lower() else f"{pattern}: {line}"
        said.setdefault(volume_of(text, devices=devices, otherwise=ROOT), []).append(text)
    replays = boot_replays(case)
    for volume in judged:
        yield from _kernel_of(
            case, volume, said.get(volume, []), replays.get(volume, []), check, kernel.evidence
        )


def _kernel_of(
    case: Case, volume: str, lines: list[str], replays: list[str], check: str, evidence: str
) -> Steps:
    name = case.name(volume)
    kinds = {line: kind(line) for line in lines}
    damage = [line for line in lines if kinds[line] is Kind.DAMAGE]
    slow = [line for line in lines if kinds[line] is Kind.SLOW]
    trouble = [line for line in lines if kinds[line] in (Kind.DISK, Kind.OTHER)]
    if damage:
        yield inconsistent(check, f"the kernel of the copy says of {name}: {quoted(damage[0])}", evidence)
    if trouble:
        below = ", below the filesystem" if kinds[trouble[0]] is Kind.DISK else ""
        yield unknown(
            check, f"the kernel of the copy met trouble with {name}{below}: {quoted(trouble[0])}", evidence
        )
    if slow:
        yield note(
            check, f"the copy was slow, which a volume that is loaded lazily is: {quoted(slow[0])}", evidence
        )
    if replays and case.cell.capture is not Capture.STOPPED:
        yield finding(
            check,
            FindingClass.RECOVERED,
            f"{name} came up after a log replay in the copy: {quoted(replays[0])}",
            evidence,
        )
    if not damage and not trouble:
        yield Shown(
            check=check,
            volume=volume,
            phrase="",
            sentence=f"the kernel of the copy names no damage on {name}",
            evidence=(evidence,) if evidence else (),
        )


def boot_replays(case: Case) -> dict[str, list[str]]:
    """Lines of copy B's kernel that tell of a replayed log, by volume."""
    kernel = case.latest("boot.kernel")
    devices = _devices(case)
    replays: dict[str, list[str]] = {}
    for line in kernel.texts("replays") if kernel else ():
        replays.setdefault(volume_of(line, devices=devices, otherwise=ROOT), []).append(line)
    return replays


def _devices(case: Case) -> dict[str, str]:
    """From a device of copy B to the volume that is mounted from it."""
    seen, owners = case.latest("boot.mounts"), owners_of(case)
    return {
        mount.text("source").split("[")[0]: owners.get(mount.text("uuid").lower(), ROOT)
        for mount in (seen.parts("mounts") if seen else ())
        if mount.text("source").startswith("/dev/")
    }
