"""Windows' event log since copy B's start: what each event says of a backup, by provider and number alone.

Never by its text: the server may speak German. Which of them are marks of an unclean shutdown is told here too:
a running capture leaves them, and after a stopped one they void the cell (`drtest.verdict.point`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from drtest.verdict.case import Case, Shown, Steps, finding, note, unknown
from drtest.verdict.evidence import FindingClass
from drtest.verdict.mounts import owners_of
from drtest.verdict.reading import Reading
from drtest.verdict.wording import counted, plain
from drtest.words import ROOT, Capture

CHECK = "events"

Event = tuple[str, int]
"""Provider in small letters, without ``microsoft-windows-``, and id."""

UNCLEAN: Mapping[Event, str] = {
    ("kernel-power", 41): "the system was not shut down cleanly",
    ("eventlog", 6008): "the previous shutdown was unexpected",
}
"""Windows' marks of an unclean shutdown (facts/domain.md C; learn.microsoft.com, troubleshoot-event-id-41-restart)."""

SLOW = "on a volume that is loaded lazily this can be latency"

MEANINGS: Mapping[Event, tuple[FindingClass, str]] = {
    ("ntfs", 7): (FindingClass.UNKNOWN, "a torn write was detected"),
    ("ntfs", 55): (FindingClass.INCONSISTENT, "the structure of a file system is corrupt"),
    ("ntfs", 130): (FindingClass.UNKNOWN, "the structure of a file system was repaired"),
    ("ntfs", 137): (FindingClass.UNKNOWN, "the transaction resource manager met an error"),
    ("ntfs", 140): (FindingClass.UNKNOWN, "data could not be flushed to the transaction log"),
    ("disk", 7): (FindingClass.UNKNOWN, "a disk has a bad block"),
    ("disk", 9): (FindingClass.NOTE, f"a disk did not answer in time: {SLOW}"),
    ("disk", 11): (FindingClass.UNKNOWN, "a disk's controller met an error"),
    ("disk", 51): (FindingClass.NOTE, f"paging met an error: {SLOW}"),
    ("disk", 153): (FindingClass.NOTE, f"a request to a disk was tried again: {SLOW}"),
    ("stornvme", 11): (FindingClass.UNKNOWN, "a disk's controller met an error"),
    ("stornvme", 129): (FindingClass.NOTE, f"a disk was reset: {SLOW}"),
    ("nvme", 11): (FindingClass.UNKNOWN, "a disk's controller met an error"),
    ("nvme", 129): (FindingClass.NOTE, f"a disk was reset: {SLOW}"),
    ("volsnap", 8): (FindingClass.NOTE, "holding writes for a shadow copy timed out"),
    ("volsnap", 9): (FindingClass.NOTE, "cleaning the file system for a shadow copy timed out"),
    ("volsnap", 14): (FindingClass.UNKNOWN, "shadow copies were given up after an I/O error"),
    ("volsnap", 21): (FindingClass.NOTE, "holding writes for a shadow copy failed for want of memory"),
    ("volsnap", 25): (FindingClass.NOTE, "shadow copies were deleted for want of room"),
    ("kernel-general", 5): (FindingClass.RECOVERED, "a registry hive was damaged and recovered from its log"),
    ("wininit", 1001): (FindingClass.RECOVERED, "a disk was checked at the start"),
    **{event: (FindingClass.RECOVERED, says) for event, says in UNCLEAN.items()},
}
"""What an event does to the verdict; any other is a note.

NTFS, disk, Wininit: facts/domain.md C (ids 9, 130, 137 and 153 unverified there). volsnap 8, 9, 21: technet dd364896;
25: support.microsoft.com/kb/826936; shadow copies of the copy are no part of the backup. What a bad disk below the
copy does is no word about the backup: it makes a cell INCONCLUSIVE, not INCONSISTENT.
"""


@dataclass(frozen=True, kw_only=True)
class _Volumes:
    """Which volume an event is about: NTFS names the drive, and what the copy has mounted there tells whose it is.

    Attributes:
        owners: the volume by drive, as ``E:``.
        several: whether there is more than one NTFS that an event without a drive may be about.
    """

    owners: Mapping[str, str]
    several: bool

    @classmethod
    def of(cls, case: Case) -> "_Volumes":
        claims, owners, known = owners_of(case), {}, set()
        # The source's first: where a volume has lost its letter or its UUID in the copy, it had them there.
        for probe in ("baseline.system", "boot.mounts"):
            seen = case.latest(probe)
            for mount in seen.parts("mounts") if seen else ():
                if mount.text("fstype") != "ntfs":
                    continue
                top, uuid = mount.text("target") == "/", mount.text("uuid").lower()
                known.add(uuid or mount.text("target"))
                owner = ROOT if top else claims.get(uuid)
                if owner is not None:
                    owners[_drive(mount.text("path") or mount.text("target"))] = owner
        return cls(owners=owners, several=len(known) > 1)

    def owner(self, event: Reading) -> str | None:
        """The volume's name; the root's for all that is of the whole system, None where it can't be told."""
        if _key(event)[0] != "ntfs":
            return ROOT
        drive = _drive(event.text("drive"))
        return self.owners.get(drive) or (ROOT if not drive and not self.several else None)


def _drive(path: str) -> str:
    return path.rstrip("\\").upper()


def check(case: Case, *, blank: bool = False) -> Steps:
    """What the event log of a Windows copy B says of the cell's volumes.

    Args:
        case: the cell's case.
        blank: whether blank volumes stood in for the data volumes: what is said of them says nothing then.
    """
    seen = case.latest("boot.events")
    if seen is None or seen.text("error"):
        if not case.covers_root:
            return
        why = f": {plain(seen.text('error'))}" if seen else ""
        yield unknown(
            CHECK, f"the event log of {case.name(ROOT)} is not known{why}", seen.evidence if seen else ""
        )
        return
    told, volumes = False, _Volumes.of(case)
    for event in seen.parts("events"):
        owner, (effect, says) = volumes.owner(event), _meaning(event)
        if owner is None and not case.covers_root:
            continue
        if owner is not None and (owner not in case.judged or (blank and owner != ROOT)):
            continue
        if owner is None and effect is FindingClass.INCONSISTENT:
            effect = FindingClass.UNKNOWN
            says += ", and which of its volumes is meant can't be told"
        told = told or effect not in (FindingClass.NOTE, FindingClass.RECOVERED)
        yield finding(
            CHECK, effect, f"{case.name(ROOT)} logged {_what(case, event, owner, says)}", seen.evidence
        )
    if not case.covers_root:
        return
    if case.cell.capture in (Capture.RUNNING, Capture.FROZEN, Capture.VSS) and not unclean_events(case):
        yield note(
            CHECK,
            f"{case.name(ROOT)} logged no mark of an unclean shutdown (Kernel-Power 41, EventLog 6008), "
            f"which a {case.cell.capture} capture leaves",
            seen.evidence,
        )
    if not told:
        yield Shown(
            check=CHECK,
            volume=ROOT,
            phrase="no error in the event log",
            sentence=f"the event log of {case.name(ROOT)} names no damage since its start",
            evidence=(seen.evidence,) if seen.evidence else (),
        )


def _what(case: Case, event: Reading, owner: str | None, says: str) -> str:
    """``Ntfs 55 of E: (win/data), 2 times: the structure of a file system is corrupt``."""
    drive = plain(event.text("drive"))
    whose = f" of {drive}" + (f" ({case.name(owner)})" if owner else "") if drive else ""
    times = counted(event.whole("count") or 1, "time")
    return f"{plain(event.text('provider'))} {event.whole('id')}{whose}, {times}" + (
        f": {says}" if says else ""
    )


def unclean_events(case: Case) -> tuple[str, ...]:
    """The marks of an unclean shutdown that copy B logged, each as a sentence."""
    seen = case.latest("boot.events")
    return tuple(_marks(seen)) if seen else ()


def _marks(seen: Reading) -> Iterator[str]:
    for event in seen.parts("events"):
        if says := UNCLEAN.get(_key(event)):
            yield f"{plain(event.text('provider'))} {event.whole('id')} ({says})"


def _key(event: Reading) -> Event:
    return event.text("provider").lower().removeprefix("microsoft-windows-"), event.whole("id") or 0


def _meaning(event: Reading) -> tuple[FindingClass, str]:
    key, data = _key(event), event.part("data")
    if key == ("ntfs", 98):
        return _volume_state(data.whole("CorruptionActionState") if data else None)
    stopped_by = data.whole("BugcheckCode") if data else None
    if key == ("kernel-power", 41) and stopped_by:
        # 0 is a power cut, which a capture looks like. Any other is a STOP screen that came before this start.
        return FindingClass.UNKNOWN, f"the start before this one ended with STOP 0x{stopped_by:08X}"
    return MEANINGS.get(key, (FindingClass.NOTE, ""))


def _volume_state(state: int | None) -> tuple[FindingClass, str]:
    """Ntfs 98 is logged of healthy volumes too: only its CorruptionActionState decides."""
    if state is None:
        return FindingClass.UNKNOWN, "the state of a volume, without saying which"
    if state:
        return FindingClass.INCONSISTENT, f"a volume needs repair (CorruptionActionState {state})"
    return FindingClass.NOTE, "a volume is healthy"
