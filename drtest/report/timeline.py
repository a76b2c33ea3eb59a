"""The canary on a line: where among the records the missing and torn ones are."""

from dataclasses import dataclass
from itertools import pairwise

from drtest.verdict.canary import Found
from drtest.verdict.case import Case
from drtest.verdict.ranges import Ranges
from drtest.verdict.reading import MalformedError

MOST_BINS = 240
"""Slices that a line is cut into: wide enough each to be seen."""

WORST_FIRST = ("torn", "missing", "intact", "later")


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A stretch of the line with one state.

    Attributes:
        state: intact, missing, torn, or later: written after the capture was asked for.
        start, width: in per mille of the line.
    """

    state: str
    start: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The records of one volume in the order in which they were written.

    Attributes:
        name: the volume's, as ``lin/root``.
        acknowledged, missing, torn: how many.
        last_acknowledged: the index of the last one that had been acknowledged before the capture.
        cut: where the capture was asked for, in per mille of the line.
        where: the ranges of what is missing or torn, in words.
    """

    name: str
    slices: tuple[Slice, ...]
    acknowledged: int
    missing: int
    torn: int
    last_acknowledged: int
    cut: float
    where: str


def timelines(case: Case) -> tuple[Timeline, ...]:
    """A line for each volume of the cell that lost records; none where nothing was lost or nothing is known."""
    lines = []
    for volume in case.judged:
        try:
            line = _timeline(case, volume)
        except MalformedError:
            continue
        if line is not None and (line.missing or line.torn):
            lines.append(line)
    return tuple(lines)


def _timeline(case: Case, volume: str) -> Timeline | None:
    acknowledged, seen = case.latest("canary.acknowledged"), case.latest("canary.found", volume)
    written = acknowledged.part("volumes") if acknowledged else None
    own = written.part(volume) if written else None
    if own is None or seen is None or seen.text("error"):
        return None
    records, found = own.ranges("records"), Found.of(seen)
    if records.last is None:
        return None
    torn = (found.torn | found.foreign) & Ranges([(0, max(records.last, found.records.last or 0))])
    missing = (records - found.records - torn) | (found.records.gaps() - torn)
    end = max(records.last, found.records.last or 0, torn.last or 0) + 1
    states = {
        "torn": torn,
        "missing": missing,
        "intact": found.records & records,
        "later": found.records - records,
    }
    return Timeline(
        name=case.name(volume),
        slices=_slices(states, end),
        acknowledged=records.count,
        missing=missing.count,
        torn=torn.count,
        last_acknowledged=records.last,
        cut=1000 * (records.last + 1) / end,
        where=(missing | torn).words(8),
    )


def _slices(states: dict[str, Ranges], end: int) -> tuple[Slice, ...]:
    """Cuts the line into bins, each of the worst state in it, and joins neighbours of one state."""
    bins = min(end, MOST_BINS)
    edges = [end * n // bins for n in range(bins + 1)]
    worst = [_worst(states, Ranges([(first, last - 1)])) for first, last in pairwise(edges)]
    joined: list[Slice] = []
    for place, state in enumerate(worst):
        width = 1000 / bins
        if joined and joined[-1].state == state:
            before = joined.pop()
            joined.append(Slice(state=state, start=before.start, width=before.width + width))
        elif state:
            joined.append(Slice(state=state, start=place * width, width=width))
    return tuple(joined)


def _worst(states: dict[str, Ranges], part: Ranges) -> str:
    return next((state for state in WORST_FIRST if states[state] & part), "")
