"""Repeated trials: failures of n with their interval, and what they say of a scenario's statements.

A running capture fails by chance, so the unit of proof is the repeated trial, never one cell. Trials whose
verdict is UNREACHABLE or INCONCLUSIVE are in no n: nothing is known of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import comb, sqrt

from drtest.scenario.plan import Cell
from drtest.verdict.evidence import Judgement
from drtest.verdict.wording import counted
from drtest.words import ROOT, SET, UNUSABLE, Capture

Z = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""


def wilson(failures: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a failure rate; (0, 1) where nothing was tried.

    Unlike the textbook's interval it says something at 0 of n, which is where most arms of a drill are:
    0 of 3 is compatible with a rate of up to 56 %. (E. B. Wilson, JASA 22, 1927.)

    Raises:
        ValueError: failures is not within 0..n.
    """
    if not 0 <= failures <= n:
        raise ValueError(f"{failures} failures of {n} trials")
    if n == 0:
        return 0.0, 1.0
    rate = failures / n
    middle = (rate + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * sqrt(rate * (1 - rate) / n + Z * Z / (4 * n * n))
    # At the ends the formula gives 0 and 1 up to a rounding error.
    low = 0.0 if failures == 0 else max(middle - half, 0.0)
    high = 1.0 if failures == n else min(middle + half, 1.0)
    return low, high


def fisher_exact(*, failures: int, n: int, control_failures: int, control_n: int) -> float:
    """Fisher's exact p, one-sided: how likely at least so many of the failures fall into the arm by chance.

    One-sided since the statement under test names the direction ("is unusable when it runs"); the two-sided p is
    at least as large. 3 of 3 against 0 of 3 gives 0.05.

    Raises:
        ValueError: failures are not within 0..n.
    """
    if not (0 <= failures <= n and 0 <= control_failures <= control_n):
        raise ValueError(f"{failures} failures of {n} against {control_failures} of {control_n}")
    total, failed = n + control_n, failures + control_failures
    ways = comb(total, failed)
    most = min(n, failed)
    return sum(comb(n, k) * comb(control_n, failed - k) for k in range(failures, most + 1)) / ways


@dataclass(frozen=True, kw_only=True)
class Group:
    """The trials of one server, volume and capture.

    Attributes:
        n: trials with a decided verdict.
        failures: those of them that are INCONSISTENT or UNBOOTABLE.
        undecided: trials that are UNREACHABLE, INCONCLUSIVE or were not judged.
        interval: Wilson's 95 % interval of the failure rate.
    """

    scenario: str
    server: str
    volume: str
    capture: Capture
    n: int
    failures: int
    undecided: int
    interval: tuple[float, float]


def groups(cells: Sequence[Cell], judgements: Sequence[Judgement]) -> tuple[Group, ...]:
    """The trials of each server, volume and capture, in the order of the cells."""
    by_cell = {(judgement.scenario, judgement.cell): judgement for judgement in judgements}
    arms: dict[tuple[str, str, str, Capture], list[Judgement | None]] = {}
    for cell in cells:
        arm = (cell.scenario, cell.server, cell.volume, cell.capture)
        arms.setdefault(arm, []).append(by_cell.get((cell.scenario, cell.id)))
    return tuple(
        _group(scenario, server, volume, capture, trials)
        for (scenario, server, volume, capture), trials in arms.items()
    )


def _group(
    scenario: str, server: str, volume: str, capture: Capture, trials: Sequence[Judgement | None]
) -> Group:
    verdicts = [judgement.verdict for judgement in trials if judgement and judgement.verdict.decided]
    failures = sum(verdict in UNUSABLE for verdict in verdicts)
    return Group(
        scenario=scenario,
        server=server,
        volume=volume,
        capture=capture,
        n=len(verdicts),
        failures=failures,
        undecided=len(trials) - len(verdicts),
        interval=wilson(failures, len(verdicts)),
    )


class Result(StrEnum):
    """What the trials say of a statement."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement of a finding that a scenario puts to the test, and what came of it.

    Attributes:
        text: the statement itself, as ``Windows root volume (win/root): snapshots taken while the server runs are
            unusable``.
        sentence: what was seen, with the numbers.
        p: Fisher's exact p against the control arm, one-sided; None where there is no such comparison.
        cells: ids of the cells that it rests on, control included.
        n, failures, interval: of the arm that the statement is about.
    """

    scenario: str
    server: str
    volume: str
    text: str
    result: Result
    sentence: str
    p: float | None
    cells: tuple[str, ...]
    n: int
    failures: int
    interval: tuple[float, float]


def statements(cells: Sequence[Cell], judgements: Sequence[Judgement]) -> tuple[Statement, ...]:
    """The statements of each scenario that expects something to be unusable; none of any other.

    For a volume that is expected to be unusable under some captures, those are the arm, and its other captures
    the control. For each other volume of that scenario the statement is that the same captures leave it whole.
    """
    made: list[Statement] = []
    for scenario in dict.fromkeys(cell.scenario for cell in cells):
        own = [cell for cell in cells if cell.scenario == scenario]
        affected = {
            (cell.server, cell.volume, cell.capture) for cell in own if cell.expected.verdicts <= UNUSABLE
        }
        captures = {capture for _, _, capture in affected}
        if not affected:
            continue
        for server, volume in dict.fromkeys((cell.server, cell.volume) for cell in own):
            mine = [cell for cell in own if (cell.server, cell.volume) == (server, volume)]
            claimed = {capture for capture in captures if (server, volume, capture) in affected}
            arm = [cell for cell in mine if cell.capture in (claimed or captures)]
            control = [cell for cell in mine if cell not in arm]
            if arm:
                made.append(_statement(arm, control, judgements, affected=bool(claimed)))
    return tuple(made)


TAKEN: Mapping[Capture, str] = {
    Capture.RUNNING: "while the server runs",
    Capture.STOPPED: "while the server is stopped",
    Capture.FROZEN: "while its filesystems are frozen",
    Capture.VSS: "through VSS",
    Capture.EXISTING: "before the drill",
}
"""How a capture reads in a statement, after ``snapshots taken``."""


@dataclass(frozen=True, kw_only=True)
class _Arm:
    """The trials of a statement's arm, or of its control."""

    taken: str
    captures: str
    n: int
    failures: int
    undecided: int

    @classmethod
    def of(cls, cells: Sequence[Cell], judgements: Sequence[Judgement]) -> "_Arm":
        several = groups(cells, judgements)
        captures = list(dict.fromkeys(cell.capture for cell in cells))
        return cls(
            taken=" or ".join(TAKEN[capture] for capture in captures),
            captures=" or ".join(captures),
            n=sum(group.n for group in several),
            failures=sum(group.failures for group in several),
            undecided=sum(group.undecided for group in several),
        )


def _statement(
    arm_cells: Sequence[Cell],
    control_cells: Sequence[Cell],
    judgements: Sequence[Judgement],
    *,
    affected: bool,
) -> Statement:
    arm, control = _Arm.of(arm_cells, judgements), _Arm.of(control_cells, judgements)
    interval = wilson(arm.failures, arm.n)
    result, why = _result(arm, control, affected=affected)
    p = (
        fisher_exact(failures=arm.failures, n=arm.n, control_failures=control.failures, control_n=control.n)
        if affected and arm.n and control.n
        else None
    )
    first = arm_cells[0]
    claim = "are unusable" if affected else "are not affected"
    told = [_seen(arm, interval, affected=affected)]
    if control.n:
        told.append(f"of those taken {control.captures}, {control.failures} of {control.n}")
    if why:
        told.append(why)
    return Statement(
        scenario=first.scenario,
        server=first.server,
        volume=first.volume,
        text=f"{_subject(first)}: snapshots taken {arm.taken} {claim}",
        result=result,
        sentence="; ".join(told) + (f" (Fisher's exact p = {p:.2g}, one-sided)" if p is not None else ""),
        p=p,
        cells=tuple(cell.id for cell in (*arm_cells, *control_cells)),
        n=arm.n,
        failures=arm.failures,
        interval=interval,
    )


def _result(arm: _Arm, control: _Arm, *, affected: bool) -> tuple[Result, str]:
    """What the trials come to (DESIGN, decision 7), and why where they come to nothing."""
    missing = arm.undecided + control.undecided
    if missing:
        return Result.INCONCLUSIVE, f"{counted(missing, 'trial')} came to no verdict"
    if control.failures:
        return Result.INCONCLUSIVE, f"the control ({control.captures}) must not fail, and does"
    if affected and not control.n:
        return Result.INCONCLUSIVE, "there is no control to compare with"
    return (Result.REPRODUCED if bool(arm.failures) is affected else Result.NOT_REPRODUCED), ""


def _subject(cell: Cell) -> str:
    """``Windows root volume (win/root)``."""
    kinds = {ROOT: "root volume", SET: "volumes taken together"}
    return f"{cell.os.title()} {kinds.get(cell.volume, 'data volume')} ({cell.server}/{cell.volume})"


def _seen(arm: _Arm, interval: tuple[float, float], *, affected: bool) -> str:
    if not arm.n:
        return f"no snapshot taken {arm.captures} came to a verdict"
    snapshots = f"{counted(arm.n, 'snapshot')} taken {arm.captures}"
    low, high = interval
    if not arm.failures:
        claim = f"no failure in {snapshots}, rate below {percent(high)}"
        return f"the finding was not reproduced: {claim}" if affected else claim
    were = "was" if arm.n == 1 else "were"
    return f"{arm.failures} of {snapshots} {were} unusable (rate {percent(low)} to {percent(high)})"


def percent(rate: float) -> str:
    """``56 %``: a rate as a person reads it."""
    return f"{rate * 100:.0f} %"
