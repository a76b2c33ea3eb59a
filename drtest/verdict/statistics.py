"""Repeated trials: failures of n with their interval, and what they say of a scenario's statements.

A running capture fails by chance, so the unit of proof is the repeated trial, never one cell. Trials whose
verdict is UNREACHABLE or INCONCLUSIVE are in no n: nothing is known of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import comb, sqrt

from drtest.scenario.plan import Cell
from drtest.verdict.evidence import Judgement
from drtest.verdict.wording import counted, listed
from drtest.words import UNUSABLE, Capture

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
        text: the statement itself, as ``win/root: snapshots taken running are unusable``.
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


def _pooled(cells: Sequence[Cell], judgements: Sequence[Judgement]) -> tuple[int, int, int]:
    several = groups(cells, judgements)
    return (
        sum(group.failures for group in several),
        sum(group.n for group in several),
        sum(group.undecided for group in several),
    )


def _statement(
    arm: Sequence[Cell], control: Sequence[Cell], judgements: Sequence[Judgement], *, affected: bool
) -> Statement:
    failures, n, undecided = _pooled(arm, judgements)
    control_failures, control_n, control_undecided = _pooled(control, judgements)
    interval = wilson(failures, n)
    taken = listed(list(dict.fromkeys(str(cell.capture) for cell in arm)))
    against = listed(list(dict.fromkeys(str(cell.capture) for cell in control)))
    missing = undecided + control_undecided
    seen = _seen(failures, n, interval, taken, affected=affected)
    if missing:
        result, why = Result.INCONCLUSIVE, f"{counted(missing, 'trial')} came to no verdict"
    elif control_failures:
        result, why = (
            Result.INCONCLUSIVE,
            f"the control arm ({against}) fails too: {control_failures} of {control_n}",
        )
    elif affected and not control_n:
        result, why = Result.INCONCLUSIVE, "there is no control arm to compare with"
    elif affected:
        result = Result.REPRODUCED if failures else Result.NOT_REPRODUCED
        why = f"{control_failures} of {control_n} {against} ones unusable"
    else:
        result = Result.NOT_REPRODUCED if failures else Result.REPRODUCED
        why = f"{control_failures} of {control_n} {against} ones unusable" if control_n else ""
    p = (
        fisher_exact(failures=failures, n=n, control_failures=control_failures, control_n=control_n)
        if affected and n and control_n
        else None
    )
    name = f"{arm[0].server}/{arm[0].volume}"
    claim = "unusable" if affected else "not affected"
    return Statement(
        scenario=arm[0].scenario,
        server=arm[0].server,
        volume=arm[0].volume,
        text=f"{name}: snapshots taken {taken} are {claim}",
        result=result,
        sentence=seen
        + (f"; {why}" if why else "")
        + (f" (Fisher's exact p = {p:.2g}, one-sided)" if p is not None else ""),
        p=p,
        cells=tuple(cell.id for cell in (*arm, *control)),
        n=n,
        failures=failures,
        interval=interval,
    )


def _seen(failures: int, n: int, interval: tuple[float, float], taken: str, *, affected: bool) -> str:
    if not n:
        return f"no {taken} capture came to a verdict"
    if not failures:
        claim = f"no failure in {counted(n, f'{taken} capture')}, rate below {percent(interval[1])}"
        return f"the finding was not reproduced: {claim}" if affected else claim
    low, high = interval
    return (
        f"{failures} of {counted(n, f'{taken} capture')} unusable "
        f"(95 % interval {percent(low)} to {percent(high)})"
    )


def percent(rate: float) -> str:
    """``56 %``: a rate as a person reads it."""
    return f"{rate * 100:.0f} %"
