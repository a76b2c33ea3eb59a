"""The matrix: a run on one glance, servers and volumes down, captures across, for the terminal and for pages.

Whether a backup is usable and whether that was expected are two things, and never share a sign: a finding that
was reproduced is still a backup that can't be used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from drtest.report.statements import terminal_statements
from drtest.report.tones import COLOURS, HEADLINES, PLAIN, SIGNS, Tone, tone_of
from drtest.verdict.statistics import percent
from drtest.verdict.wording import counted, plain
from drtest.words import Verdict

WORST_FIRST = (
    Verdict.UNBOOTABLE,
    Verdict.INCONSISTENT,
    Verdict.UNREACHABLE,
    Verdict.INCONCLUSIVE,
    Verdict.RECOVERED,
    Verdict.CONSISTENT,
)


@dataclass(frozen=True, kw_only=True)
class Box:
    """All trials of one server, volume and capture.

    Attributes:
        tone: unusable where one trial is; else not known where one is; else usable.
        verdict: the worst one.
        n, failures, undecided: trials that were decided, that are unusable, that came to nothing.
        interval: Wilson's 95 % interval of the failure rate.
        expected: as the scenario says it.
        met: whether all trials are as expected.
        cells: ids of its cells.
    """

    capture: str
    tone: Tone
    verdict: Verdict
    n: int
    failures: int
    undecided: int
    interval: tuple[float, float]
    expected: str
    met: bool
    cells: tuple[str, ...]

    @property
    def headline(self) -> str:
        """In words that need no legend."""
        return HEADLINES[self.tone]

    @property
    def sign(self) -> str:
        """For who can't tell the colours."""
        return SIGNS[self.tone]

    @property
    def trials(self) -> str:
        """``3 of 3 trials failed``; for a single trial nothing that its verdict does not say."""
        told = []
        if self.n + self.undecided > 1:
            told.append(f"{self.failures} of {self.n} {'trial' if self.n == 1 else 'trials'} failed")
        if self.undecided and self.n + self.undecided > 1:
            told.append(f"{self.undecided} came to no verdict")
        return ", ".join(told)

    @property
    def rate(self) -> str:
        """The interval in words; "" for a single trial, of which there is nothing to say."""
        if self.n < 2:
            return ""
        low, high = self.interval
        if not self.failures:
            return f"failure rate below {percent(high)}"
        return f"failure rate {percent(low)} to {percent(high)}"

    @property
    def expectation(self) -> str:
        """``as expected`` where damage was expected, ``not as expected`` where not met; else nothing to say."""
        if self.tone is Tone.UNKNOWN and not self.met:
            return ""
        if not self.met:
            return f"not as expected (expected: {self.expected})"
        return "" if self.tone is Tone.USABLE else "as expected"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One volume of one server."""

    server: str
    os: str
    volume: str
    boxes: tuple[Box | None, ...]


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """All cells of one scenario; a box is None where the scenario has no such cell."""

    scenario: str
    title: str
    captures: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def boxes(self) -> tuple[tuple[Row, Box], ...]:
        """All boxes that there are, each with its row."""
        return tuple((row, box) for row in self.rows for box in row.boxes if box)


def matrix(results: Mapping[str, Any], scenario: str) -> Matrix:
    """The matrix of one scenario of a run."""
    cells = [cell for cell in results["cells"] if cell["scenario"] == scenario]
    captures = tuple(dict.fromkeys(cell["capture"] for cell in cells))
    title = next((one["title"] for one in results["scenarios"] if one["name"] == scenario), scenario)
    groups = {
        (group["server"], group["volume"], group["capture"]): group
        for group in results["groups"]
        if group["scenario"] == scenario
    }
    rows = []
    for server, os, volume in dict.fromkeys((cell["server"], cell["os"], cell["volume"]) for cell in cells):
        boxes = []
        for capture in captures:
            own = [
                cell
                for cell in cells
                if (cell["server"], cell["volume"], cell["capture"]) == (server, volume, capture)
            ]
            boxes.append(_box(capture, own, groups[server, volume, capture]) if own else None)
        rows.append(Row(server=server, os=os, volume=volume, boxes=tuple(boxes)))
    return Matrix(scenario=scenario, title=title, captures=captures, rows=tuple(rows))


def matrices(results: Mapping[str, Any]) -> tuple[Matrix, ...]:
    """The matrices of all scenarios of a run that have cells."""
    every = (matrix(results, one["name"]) for one in results["scenarios"])
    return tuple(one for one in every if one.rows)


def _box(capture: str, cells: Sequence[Mapping[str, Any]], group: Mapping[str, Any]) -> Box:
    verdicts = {Verdict(cell["verdict"]) for cell in cells}
    worst = next(verdict for verdict in WORST_FIRST if verdict in verdicts)
    return Box(
        capture=capture,
        tone=tone_of(worst),
        verdict=worst,
        n=group["n"],
        failures=group["failures"],
        undecided=group["undecided"],
        interval=(group["interval"][0], group["interval"][1]),
        expected=" or ".join(dict.fromkeys(cell["expected"] for cell in cells)),
        met=all(cell["met"] for cell in cells),
        cells=tuple(cell["id"] for cell in cells),
    )


def terminal(results: Mapping[str, Any], *, colour: bool = False) -> str:
    """The matrix as a table for the terminal, the statements above it, a line below that tells how to read it.

    Args:
        results: what ``results.json`` holds.
        colour: whether the terminal understands colours.
    """
    tables = []
    several = len(results["scenarios"]) > 1
    for one in matrices(results):
        rows = [
            [plain(row.server), plain(row.volume), *(_text(box, colour=colour) for box in row.boxes)]
            for row in one.rows
        ]
        heading = f"{plain(one.scenario)}\n" if several else ""
        tables.append(
            heading + tabulate(rows, headers=["server", "volume", *one.captures], tablefmt="simple")
        )
    if not tables:
        return "no cell was judged"
    legend = "CONSISTENT and RECOVERED can be used, INCONSISTENT and UNBOOTABLE can't; of the others nothing is known"
    trials = (
        "\nn/m: n of m trials failed"
        if any(box.n > 1 for one in matrices(results) for _, box in one.boxes)
        else ""
    )
    statements = terminal_statements(results)
    above = f"{statements}\n\n" if statements else ""
    return above + "\n\n".join(tables) + f"\n\n{legend}{trials}"


def _text(box: Box | None, *, colour: bool) -> str:
    if box is None:
        return ""
    text = f"{box.sign} {box.verdict}"
    if box.n + box.undecided > 1:
        text += f" {box.failures}/{box.n}"
        text += f" +{box.undecided} not known" if box.undecided else ""
    if colour:
        text = f"{COLOURS[box.tone]}{text}{PLAIN}"
    if box.expectation:
        text += " (as expected)" if box.met else " (not as expected)"
    return text


def summary(results: Mapping[str, Any]) -> str:
    """The whole run in a sentence or two: what can be recovered first, what was expected second."""
    every = [(one, row, box) for one in matrices(results) for row, box in one.boxes]
    if not every:
        return "No backup was tested."
    by_tone = {tone: [entry for entry in every if entry[2].tone is tone] for tone in Tone}
    good, bad, unknown = by_tone[Tone.USABLE], by_tone[Tone.UNUSABLE], by_tone[Tone.UNKNOWN]
    kinds = counted(len(every), "kind") + " of backup"
    if len(good) == len(every):
        told = f"{'All' if len(every) > 1 else 'The'} {kinds} tested {'were' if len(every) > 1 else 'was'} recoverable."
    else:
        told = f"Of {kinds} tested, {_were(len(good))} recoverable"
        if bad:
            names = "; ".join(_named(row, box) for _, row, box in bad)
            told += (
                f" and {_were(len(bad))} not: {names}" if not unknown else f", {_were(len(bad))} not: {names}"
            )
        if unknown:
            names = "; ".join(_named(row, box) for _, row, box in unknown)
            told += f"{',' if bad else ''} and of {len(unknown)} nothing is known: {names}"
        told += "."
    return f"{told} {_expectation(every)}".strip()


def worst_tone(results: Mapping[str, Any]) -> Tone:
    """What the whole run says: unusable where one backup is, else not known where one is, else usable."""
    tones = {box.tone for one in matrices(results) for _, box in one.boxes}
    return next((tone for tone in (Tone.UNUSABLE, Tone.UNKNOWN, Tone.USABLE) if tone in tones), Tone.UNKNOWN)


def _were(number: int) -> str:
    return f"{number or 'none'} {'was' if number == 1 else 'were'}"


def _named(row: Row, box: Box) -> str:
    name = f"{plain(row.server)}/{plain(row.volume)} taken {box.capture}"
    if box.n + box.undecided < 2:
        return name
    if box.tone is Tone.UNKNOWN:
        return f"{name} ({counted(box.undecided, 'trial')} without a verdict)"
    return f"{name} ({box.failures} of {counted(box.n, 'trial')} failed)"


def _expectation(every: Sequence[tuple[Matrix, Row, Box]]) -> str:
    unmet = [(row, box) for _, row, box in every if not box.met and box.tone is not Tone.UNKNOWN]
    bad = [(row, box) for _, row, box in every if box.tone is Tone.UNUSABLE]
    if unmet and unmet == bad:
        return (
            "The scenario had expected all of them to be usable."
            if len(bad) > 1
            else "That was not expected."
        )
    if unmet:
        return "Not as the scenario expects: " + "; ".join(_named(row, box) for row, box in unmet) + "."
    return "The scenario had expected the damage; the backups are unusable all the same." if bad else ""
