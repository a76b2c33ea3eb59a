"""Windows' disks: in the copies as on the source, by the signature or GUID that each carries.

A disk's serial is its volume's id, so no copy has the source's; the signature (MBR) or GUID (GPT) is on the disk
itself and comes along. Windows keeps a disk offline whose signature another one has, and a new disk offline where
its SAN policy says so (facts/domain.md B): neither is damage.
"""

from collections.abc import Iterator, Mapping

from drtest.verdict.case import Case, Steps, inconsistent, note, unknown
from drtest.verdict.evidence import Finding
from drtest.verdict.reading import Reading
from drtest.verdict.serials import serial_of
from drtest.verdict.wording import plain
from drtest.words import ROOT

CHECK = "boot"

REASONS: Mapping[int, str] = {
    1: "by its SAN policy, to which a restored disk is new",
    2: "as it has the path of another disk",
    3: "as it is a shadow copy of another disk",
    4: "as another disk has its signature",
    5: "for want of resources",
    6: "as writing to it failed",
    7: "until its data are scanned",
    8: "as its data did not persist",
}
"""Why Windows keeps a disk offline (Get-Disk's OfflineReason; vds.h, VDS_DISK_OFFLINE_REASON)."""


def mark_of(disk: Reading) -> str:
    """What a disk carries on itself: its GUID, else its signature in hexadecimal; "" where it has neither."""
    if guid := disk.text("guid").strip("{}").lower():
        return guid
    signature = disk.whole("signature")
    return f"{signature & 0xFFFFFFFF:08x}" if signature else ""


def check(case: Case, *, blank: bool) -> Steps:
    """Whether copy B has each volume's disk online, writable and under its own mark.

    Args:
        case: the cell's case.
        blank: whether blank volumes stood in for the data volumes: they carry other marks.
    """
    seen = case.latest("boot.disks")
    if seen is None or seen.text("error"):
        why = f": {plain(seen.text('error'))}" if seen else ""
        yield note(CHECK, f"how the disks of the copy are is not known{why}", seen.evidence if seen else "")
        return
    for volume in case.judged:
        if volume == ROOT or not blank:
            yield from _disk(case, volume, seen)


def offline(case: Case) -> frozenset[str]:
    """The volumes whose disks copy B keeps offline: what is not mounted of these is not lost."""
    seen = case.latest("boot.disks")
    if seen is None or seen.text("error"):
        return frozenset()
    copies = ((volume, _copy(case, volume, seen)) for volume in case.volumes)
    return frozenset(volume for volume, disk in copies if disk is not None and disk.flag("offline"))


def changed_mark(case: Case, volume: str, before: Reading) -> Iterator[Finding]:
    """Whether copy A carries the mark of the source's disk, as it lies; nothing where either is not known."""
    source = _source(case, volume)
    wanted, found = mark_of(source) if source else "", mark_of(before)
    if source is None or not wanted or not found or wanted == found:
        return
    told = inconsistent if case.drills_own else note
    yield told(
        "filesystem",
        f"the disk of {case.name(volume)} carries the signature {found}, the source's {wanted}",
        before.evidence,
        source.evidence,
    )


def _source(case: Case, volume: str) -> Reading | None:
    """The disk of the source that a volume lies on."""
    baseline, capture = case.latest("baseline.system"), case.latest("capture")
    volumes = capture.part("volumes") if capture else None
    serial = serial_of(volumes.text(volume)) if volumes else ""
    disks = baseline.parts("disks") if baseline and serial else ()
    return next((disk for disk in disks if serial_of(disk.text("serial")) == serial), None)


def _copy(case: Case, volume: str, seen: Reading) -> Reading | None:
    """The disk of copy B that a volume lies on: the root's by its serial, any by the mark that it carries."""
    disks = seen.parts("disks")
    if volume == ROOT:
        identity = case.latest("boot.identity")
        root = serial_of(identity.text("root_volume")) if identity else ""
        if found := next((disk for disk in disks if root and serial_of(disk.text("serial")) == root), None):
            return found
    source = _source(case, volume)
    wanted = mark_of(source) if source else ""
    return next((disk for disk in disks if wanted and mark_of(disk) == wanted), None)


def _disk(case: Case, volume: str, seen: Reading) -> Steps:
    name, source = case.name(volume), _source(case, volume)
    if source is None:
        return
    disk, wanted = _copy(case, volume, seen), mark_of(source)
    if disk is None:
        if wanted:
            yield unknown(
                CHECK, f"no disk of the copy carries the signature {wanted} of {name}", seen.evidence
            )
        return
    if disk.flag("offline") and not source.flag("offline"):
        why = REASONS.get(disk.whole("offline_reason") or 0, "without a reason")
        yield unknown(
            CHECK, f"the copy keeps the disk of {name} offline, {why}: that is no damage", seen.evidence
        )
    elif disk.flag("readonly") and not source.flag("readonly"):
        yield inconsistent(
            CHECK,
            f"the disk of {name} is read-only in the copy, writable on the source",
            seen.evidence,
            source.evidence,
        )
    if wanted and mark_of(disk) not in ("", wanted):
        # As copy A lies it was still the source's, or `changed_mark` has said so: starting it has changed it.
        yield unknown(
            CHECK,
            f"the disk of {name} carries the signature {mark_of(disk)} in the copy, {wanted} on the source",
            seen.evidence,
            source.evidence,
        )
