"""The statements that a scenario puts to the test: each with its result, its trials and its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

from drtest.report.tones import SIGNS, Tone, tone_of
from drtest.verdict.statistics import percent
from drtest.verdict.wording import plain
from drtest.words import Verdict

WIDTH = 100
"""Characters of a line on the terminal."""

RESULTS = {
    "reproduced": "the trials bear the statement out",
    "not reproduced": "the trials speak against the statement, or show nothing of it",
    "inconclusive": "the trials do not allow a comparison",
}
"""What each result means, in the order in which a legend tells it."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial of an arm, as a sign that leads to its cell."""

    cell: str
    sign: str
    tone: Tone


@dataclass(frozen=True, kw_only=True)
class Arm:
    """The trials of a statement that were captured in one way.

    Attributes:
        failed: ``3 of 3 failed``.
        rate: ``44 % to 100 %``, or ``below 56 %``; "" where nothing is known.
        low, high: the interval's ends, in percent.
    """

    capture: str
    trials: tuple[Trial, ...]
    failed: str
    rate: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class StatementView:
    """One statement for people."""

    result: str
    text: str
    sentence: str
    arms: tuple[Arm, ...]


def statement_views(results: Mapping[str, Any], scenario: str) -> tuple[StatementView, ...]:
    """The statements of one scenario of a run; none where it makes none."""
    cells = {cell["id"]: cell for cell in results["cells"] if cell["scenario"] == scenario}
    return tuple(
        StatementView(
            result=one["result"],
            text=one["text"],
            sentence=one["sentence"],
            arms=_arms(one, cells, results["groups"]),
        )
        for one in results["statements"]
        if one["scenario"] == scenario
    )


def _arms(
    statement: Mapping[str, Any],
    cells: Mapping[str, Mapping[str, Any]],
    groups: Sequence[Mapping[str, Any]],
) -> tuple[Arm, ...]:
    by_capture: dict[str, list[Mapping[str, Any]]] = {}
    for cell in (cells[id_] for id_ in statement["cells"] if id_ in cells):
        by_capture.setdefault(cell["capture"], []).append(cell)
    arms = []
    for capture, several in by_capture.items():
        wanted = {**{key: statement[key] for key in ("scenario", "server", "volume")}, "capture": capture}
        group = next(one for one in groups if all(one[key] == value for key, value in wanted.items()))
        low, high = group["interval"]
        arms.append(
            Arm(
                capture=capture,
                trials=tuple(_trial(cell) for cell in several),
                failed=f"{group['failures']} of {group['n']} failed" if group["n"] else "no verdict",
                rate=_rate(low, high, failures=group["failures"]) if group["n"] else "",
                low=100 * low,
                high=100 * high,
            )
        )
    return tuple(arms)


def _trial(cell: Mapping[str, Any]) -> Trial:
    tone = tone_of(Verdict(cell["verdict"]))
    return Trial(cell=cell["id"], sign=SIGNS[tone], tone=tone)


def _rate(low: float, high: float, *, failures: int) -> str:
    return f"{percent(low)} to {percent(high)}" if failures else f"below {percent(high)}"


def terminal_statements(results: Mapping[str, Any]) -> str:
    """The statements of a run for the terminal, the result of each in front; "" where there are none."""
    told = []
    for one in results["statements"]:
        result = one["result"].upper()
        indent = " " * (max(len(name) for name in RESULTS) + 2)
        lines = [
            fill(
                f"{result:<{len(indent)}}{plain(one['text'])}",
                width=WIDTH,
                subsequent_indent=indent,
                break_on_hyphens=False,
            ),
            fill(plain(one["sentence"]), width=WIDTH, initial_indent=indent, subsequent_indent=indent),
        ]
        told.append("\n".join(lines))
    return "\n".join(told)
