"""Order across volumes: are a server's snapshots of one moment? Judged in the ``set`` cell only.

One writer goes round the volumes: record n lies on volume n mod k at index n div k, flushed before record n + 1
is written. So in snapshots of one moment, the records found on all volumes are a whole beginning of the one
sequence. Only CreateSnapshots in one call promises that.
"""

from drtest.verdict.case import Case, Shown, Steps, inconsistent, note, unknown
from drtest.verdict.ranges import Ranges
from drtest.verdict.reading import Reading
from drtest.verdict.wording import counted

CHECK = "canary"

FAR_OFF = 86400.0
"""Seconds from which on a guest's clock is taken to be wrong, not its records to be old."""


def check(case: Case, acknowledged: Reading) -> Steps:
    """Whether no record is missing that was flushed before one that is there, on whatever volume."""
    capture = case.latest("capture")
    if capture is None:
        return
    if not capture.flag("atomic"):
        yield note(
            CHECK,
            "the volumes were not captured by one call, which promises no order across them: it was not judged",
            capture.evidence,
        )
        return
    places = _places(case, acknowledged)
    if places is None:
        yield unknown(
            CHECK,
            "order across the volumes can't be judged: how the records went round them is not known",
            acknowledged.evidence,
        )
        return
    stride = len(case.volumes)
    found: dict[str, Ranges] = {}
    for volume in case.volumes:
        seen = case.latest("canary.found", volume)
        if seen is None or seen.text("error"):
            yield unknown(CHECK, f"order across the volumes can't be judged without {case.name(volume)}")
            return
        found[volume] = seen.ranges("records") - seen.numbers("torn") - seen.numbers("foreign")
    newest = {
        volume: records.last * stride + places[volume]
        for volume, records in found.items()
        if records.last is not None
    }
    if not newest:
        yield unknown(CHECK, "order across the volumes can't be judged: no record is there")
        return
    latest = max(newest, key=lambda volume: newest[volume])
    ids = [acknowledged.evidence, capture.evidence]
    broken = False
    for volume, records in found.items():
        last_due = (newest[latest] - 1 - places[volume]) // stride
        missing = Ranges([(0, last_due)]) - records if last_due >= 0 else Ranges()
        first = missing.first
        if first is None or volume == latest:
            continue
        broken = True
        yield inconsistent(
            CHECK,
            f"the snapshots are not of one moment: {counted(missing.count, 'record')} of {case.name(volume)} "
            f"from record {first * stride + places[volume]} (index {first}) on "
            f"{'is' if missing.count == 1 else 'are'} missing, though record {newest[latest]} of "
            f"{case.name(latest)}, written and flushed after, is there",
            *ids,
        )
    if not broken:
        yield Shown(
            check=CHECK,
            phrase="in order across volumes",
            sentence=f"order across the volumes held up to record {newest[latest]}",
            evidence=tuple(one for one in ids if one),
        )


def _places(case: Case, acknowledged: Reading) -> dict[str, int] | None:
    """Each volume's turn in the round of the records; None where that is not known."""
    written = acknowledged.part("volumes")
    if written is None or acknowledged.whole("stride") not in (None, len(case.volumes)):
        return None
    places = {}
    for turn, volume in enumerate(case.volumes):
        own = written.part(volume)
        if own is None:
            return None
        told = own.whole("position")
        places[volume] = turn if told is None else told
    return places if sorted(places.values()) == list(range(len(case.volumes))) else None
