"""The case: what one cell's judgement may rest on, picked from all that was observed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from drtest.scenario.plan import Cell
from drtest.verdict.evidence import Copy, Finding, FindingClass, Observation
from drtest.verdict.reading import Reading
from drtest.words import ROOT, SET, Capture

PROOF = "proof"
"""The runner's mark that a recovery point's copies are made anew: what is seen of them comes behind it."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a check has shown to be fine: without one, nothing is CONSISTENT.

    Attributes:
        check: the check that showed it.
        volume: the volume that it is about; "" for the whole server.
        phrase: for the verdict's reason, as ``all 497 acknowledged records intact``.
        sentence: for the findings, with the numbers in it.
        evidence: ids of the observations that it rests on.
        amount: what the phrase counts, where the set cell adds up.
    """

    check: str
    volume: str = ""
    phrase: str
    sentence: str
    evidence: tuple[str, ...] = ()
    amount: int = 0

    @property
    def finding(self) -> Finding:
        """The same as a note."""
        return Finding(
            check=self.check, effect=FindingClass.NOTE, sentence=self.sentence, evidence=self.evidence
        )


Step = Finding | Shown
"""What a check yields, one after the other: what it found wrong, unknown or worth a note, and what is fine."""

Steps = Iterator[Step]


class Case:
    """One cell and the observations that count for it.

    Of a recovery point that was made more than once (a retry), only the last making counts: observations whose
    attempt is that of the latest `capture`. Of a proof that was made more than once (a run that was killed and
    resumed), only the last counts: what was seen of the copies before the last `proof` was of others, that are
    gone. Of repeated probes the latest counts. What belongs to no recovery point (the source's baseline) counts
    for all.

    Attributes:
        cut_off: what an earlier proof saw, which does not count.
    """

    def __init__(
        self,
        cell: Cell,
        observations: Sequence[Observation],
        *,
        volumes: Sequence[str],
        loaded: bool,
    ) -> None:
        self.cell = cell
        self.volumes = tuple(volumes)
        self.loaded = loaded
        self.observations, self.cut_off = _last_proof(_counting(cell, observations))

    @property
    def judged(self) -> tuple[str, ...]:
        """The volumes that the cell is about: one, or for ``set`` all."""
        return self.volumes if self.cell.volume == SET else (self.cell.volume,)

    @property
    def covers_root(self) -> bool:
        """Whether the cell speaks of the root volume: only then can it be UNBOOTABLE."""
        return self.cell.volume in (ROOT, SET)

    @property
    def drills_own(self) -> bool:
        """Whether the drill made the recovery point itself."""
        return self.cell.capture is not Capture.EXISTING

    def name(self, volume: str) -> str:
        """``lin/root``: a volume as sentences call it."""
        return f"{self.cell.server}/{volume}"

    def every(self, probe: str) -> tuple[Observation, ...]:
        """All observations of a probe, in the order of the evidence."""
        return tuple(seen for seen in self.observations if seen.probe == probe)

    def latest(self, probe: str, volume: str | None = None) -> Reading | None:
        """The last thing that a probe said of a volume (None: of the whole guest); None if it never spoke."""
        seen = [one for one in self.every(probe) if one.volume == volume]
        return Reading.of(seen[-1]) if seen else None


def _counting(cell: Cell, observations: Sequence[Observation]) -> tuple[Observation, ...]:
    point = (cell.capture, cell.trial)
    own = [seen for seen in observations if seen.server == cell.server]
    captures = [n for n, seen in enumerate(own) if seen.probe == "capture" and _point(seen) == point]
    last = captures[-1] if captures else -1
    attempt = own[last].attempt if captures else None
    counting = []
    for place, seen in enumerate(own):
        if _point(seen) == (None, None):
            counting.append(seen)
        elif _point(seen) == point:
            # A stage that failed before it had an attempt is past once a capture was made after it.
            untold = seen.probe == "skipped" and not seen.attempt and place > last
            if attempt is None or seen.attempt == attempt or untold:
                counting.append(seen)
    return tuple(counting)


def _last_proof(
    counting: Sequence[Observation],
) -> tuple[tuple[Observation, ...], tuple[Observation, ...]]:
    """What counts, and what an earlier proof saw; of older runs, which marked no proof, all of it counts."""
    last = max((place for place, seen in enumerate(counting) if seen.probe == PROOF), default=0)
    gone = [place < last and _of_copies(seen) for place, seen in enumerate(counting)]
    return (
        tuple(seen for seen, past in zip(counting, gone, strict=True) if not past),
        tuple(seen for seen, past in zip(counting, gone, strict=True) if past),
    )


def _of_copies(seen: Observation) -> bool:
    return seen.copy in (Copy.A, Copy.B) or seen.probe in (PROOF, "boot.attempt")


def _point(seen: Observation) -> tuple[Capture | None, int | None]:
    return seen.capture, seen.trial


def note(check: str, sentence: str, *evidence: str) -> Finding:
    """Worth knowing; changes nothing."""
    return _finding(check, FindingClass.NOTE, sentence, evidence)


def unknown(check: str, sentence: str, *evidence: str) -> Finding:
    """A check did not run or could not tell."""
    return _finding(check, FindingClass.UNKNOWN, sentence, evidence)


def inconsistent(check: str, sentence: str, *evidence: str) -> Finding:
    """The filesystem or its data is not whole."""
    return _finding(check, FindingClass.INCONSISTENT, sentence, evidence)


def finding(check: str, effect: FindingClass, sentence: str, *evidence: str) -> Finding:
    """A finding of any class."""
    return _finding(check, effect, sentence, evidence)


def _finding(check: str, effect: FindingClass, sentence: str, evidence: tuple[str, ...]) -> Finding:
    told = tuple(dict.fromkeys(one for one in evidence if one))
    return Finding(check=check, effect=effect, sentence=sentence, evidence=told)
