"""The canary check: is every record that was acknowledged before the capture there, intact and in order?

fsck says 0 over zero-length files (EXP); the canary decides. A record counts as acknowledged if that was on the
runner's disk before the snapshot was requested. One writer writes them one after the other, each flushed
before the next: so on a volume that kept its promises the records found are a whole beginning of the sequence,
and a hole in it is damage even where nobody had been told of the missing record yet.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from drtest.verdict import order
from drtest.verdict.case import Case, Shown, Steps, inconsistent, note, unknown
from drtest.verdict.evidence import Finding
from drtest.verdict.ranges import Ranges
from drtest.verdict.reading import Reading
from drtest.verdict.wording import counted, duration, plain
from drtest.words import SET

CHECK = "canary"


@dataclass(frozen=True, kw_only=True)
class Found:
    """The records of one volume, as copy A has them."""

    reading: Reading
    records: Ranges
    torn: Ranges
    foreign: Ranges
    metadata: Ranges
    metadata_torn: Ranges

    @classmethod
    def of(cls, reading: Reading) -> "Found":
        """One `canary.found`."""
        torn, foreign = reading.numbers("torn"), reading.numbers("foreign")
        return cls(
            reading=reading,
            # A record that is named torn or foreign too is not intact, whatever else is said of it.
            records=reading.ranges("records") - torn - foreign,
            torn=torn,
            foreign=foreign,
            metadata=reading.ranges("metadata") - reading.numbers("metadata_torn"),
            metadata_torn=reading.numbers("metadata_torn"),
        )


def check(case: Case) -> Steps:
    """Whether the acknowledged records of each of the cell's volumes are there."""
    if not case.drills_own:
        for volume in case.judged:
            yield from _standing(case, volume)
        return
    if not case.loaded:
        yield note(
            CHECK, "no load was asked for, so no canary was written: the verdict rests on structure alone"
        )
        return
    acknowledged = case.latest("canary.acknowledged")
    if acknowledged is None:
        yield unknown(CHECK, "which records had been acknowledged is not known")
        return
    if acknowledged.text("error"):
        yield unknown(
            CHECK,
            f"which records had been acknowledged is not known: {plain(acknowledged.text('error'))}",
            acknowledged.evidence,
        )
        return
    for volume in case.judged:
        yield from _volume(case, volume, acknowledged)
    if case.cell.volume == SET:
        yield from order.check(case, acknowledged)


def _volume(case: Case, volume: str, acknowledged: Reading) -> Steps:
    name = case.name(volume)
    written = acknowledged.part("volumes")
    own = written.part(volume) if written else None
    if own is None:
        yield unknown(CHECK, f"no canary was written to {name}", acknowledged.evidence)
        return
    records = own.ranges("records")
    if not records:
        yield unknown(
            CHECK,
            f"no record of {name} was acknowledged before the capture: nothing is proven",
            acknowledged.evidence,
        )
        return
    seen = case.latest("canary.found", volume)
    if seen is None:
        yield unknown(CHECK, f"the records of {name} were not read", acknowledged.evidence)
        return
    if seen.text("error"):
        yield unknown(
            CHECK, f"the records of {name} could not be read: {plain(seen.text('error'))}", seen.evidence
        )
        return
    found = Found.of(seen)
    sound = True
    for step in _compared(name, records, own.ranges("metadata"), found, acknowledged):
        sound = False
        yield step
    unasked = (found.torn - records).count
    if unasked and sound:
        yield note(
            CHECK,
            f"{counted(unasked, 'record')} at the end of {name} {'is' if unasked == 1 else 'are'} half written and "
            "had not been acknowledged: that is normal",
            seen.evidence,
        )
    if sound:
        metadata = own.ranges("metadata").count
        also = f" and {counted(metadata, 'acknowledged file operation')}" if metadata else ""
        yield Shown(
            check=CHECK,
            volume=volume,
            phrase=intact(records.count),
            sentence=f"all {counted(records.count, 'acknowledged record')}{also} of {name} are there, "
            f"intact and in order{_newest(found, acknowledged)}",
            evidence=tuple(one for one in (seen.evidence, acknowledged.evidence) if one),
            amount=records.count,
        )


def intact(count: int) -> str:
    """``all 497 acknowledged records intact``."""
    return (
        f"all {counted(count, 'acknowledged record')} intact"
        if count != 1
        else "the acknowledged record intact"
    )


def _newest(found: Found, acknowledged: Reading) -> str:
    cut, last = acknowledged.moment("cut"), found.reading.moment("last_at")
    if cut is None or last is None or not 0 <= (cut - last).total_seconds() <= order.FAR_OFF:
        return ""
    return f"; the newest was written {duration((cut - last).total_seconds())} before the snapshot"


def _compared(
    name: str, records: Ranges, metadata: Ranges, found: Found, acknowledged: Reading
) -> Iterator[Finding]:
    ids = (found.reading.evidence, acknowledged.evidence)
    missing = records - found.records - found.torn - found.foreign
    of = counted(records.count, "acknowledged record")
    if missing:
        newest = _newest(found, acknowledged).replace("the newest", "the newest intact one")
        yield inconsistent(
            CHECK,
            f"{missing.count} of {of} {_are(missing)} missing from {name}: {indices(missing)}{newest}",
            *ids,
        )
    torn = records & found.torn
    if torn:
        yield inconsistent(CHECK, f"{torn.count} of {of} {_are(torn)} torn on {name}: {indices(torn)}", *ids)
    if found.foreign:
        yield inconsistent(
            CHECK,
            f"{counted(found.foreign.count, 'record')} on {name} {_are(found.foreign)} another volume's or another "
            f"place's: {indices(found.foreign)}",
            *ids,
        )
    holes = found.records.gaps() - records - found.foreign
    if holes:
        yield inconsistent(
            CHECK,
            f"{counted(holes.count, 'record')} not yet acknowledged {_are(holes)} missing from {name} "
            f"({indices(holes)}), though later ones, written and flushed after, are there",
            *ids,
        )
    lost = metadata - found.metadata
    if lost:
        torn_files = (lost & found.metadata_torn).count
        also = f", {torn_files} of them torn" if torn_files else ""
        yield inconsistent(
            CHECK,
            f"{lost.count} of {counted(metadata.count, 'acknowledged file operation')} (create, fsync, rename) "
            f"{_are(lost)} lost on {name}: {indices(lost)}{also}",
            *ids,
        )


def _due(found: Found) -> Ranges:
    """The file operations that must be there by the records that are: one follows every so many records at once."""
    every, last = found.reading.whole("metadata_every"), found.records.last
    if not every or every < 0 or last is None or last < every:
        return Ranges()
    return Ranges([(0, last // every - 1)])


def _are(several: Ranges) -> str:
    return "is" if several.count == 1 else "are"


def indices(several: Ranges) -> str:
    """``index 480``, ``indices 480-491``."""
    return f"{'index' if several.count == 1 else 'indices'} {several.words()}"


def _standing(case: Case, volume: str) -> Steps:
    """A recovery point that somebody else made: what a standing canary on it shows, without acknowledgements."""
    name = case.name(volume)
    seen = case.latest("canary.found", volume)
    if seen is None:
        yield note(CHECK, f"no canary is known on {name}: the verdict rests on structure alone")
        return
    if seen.text("error"):
        yield unknown(
            CHECK, f"the records of {name} could not be read: {plain(seen.text('error'))}", seen.evidence
        )
        return
    found = Found.of(seen)
    bad = found.foreign | found.records.gaps()
    if bad:
        yield inconsistent(
            CHECK,
            f"{counted(bad.count, 'record')} of the standing canary on {name} {_are(bad)} missing, torn or another "
            f"volume's, though later ones are there: {indices(bad)}",
            seen.evidence,
        )
    files = found.metadata_torn | (_due(found) - found.metadata)
    if files:
        yield inconsistent(
            CHECK,
            f"{counted(files.count, 'file operation')} of the standing canary on {name} {_are(files)} lost or torn, "
            f"though later records are there: {indices(files)}",
            seen.evidence,
        )
    if bad or files:
        return
    if found.records:
        yield Shown(
            check=CHECK,
            volume=volume,
            phrase=f"{counted(found.records.count, 'record')} of the standing canary in order",
            sentence=f"{counted(found.records.count, 'record')} of the standing canary on {name} are intact and "
            "in order",
            evidence=(seen.evidence,) if seen.evidence else (),
            amount=found.records.count,
        )
    else:
        yield note(CHECK, f"the standing canary on {name} holds no record yet", seen.evidence)
