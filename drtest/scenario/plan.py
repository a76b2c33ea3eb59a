"""The plan: the cells that a scenario asks for, drill by drill, before anything is touched."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from drtest.errors import UsageError
from drtest.scenario.model import Scenario, Server
from drtest.scenario.rules import problems
from drtest.scenario.sketch import Sketch
from drtest.scenario.spelling import meant
from drtest.words import ROOT, SET, USABLE, Capture, Os, Verdict

CAPTURE_ORDER = (Capture.EXISTING, Capture.RUNNING, Capture.FROZEN, Capture.VSS, Capture.STOPPED)
"""The order in which a server's recovery points are made: running ones before it is stopped."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a cell is expected to come to.

    Attributes:
        text: as the scenario says it: ``usable``, ``unusable`` or a verdict.
        verdicts: the verdicts that meet it.
        line: the scenario's line that says so, None where it is the default.
    """

    text: str
    verdicts: frozenset[Verdict]
    line: int | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One server, capture, volume and trial: the unit that gets a verdict, and one pytest item.

    Attributes:
        id: ``server/volume/capture/trial``, as ``lin/root/running/1``; unique within its scenario.
        scenario: the scenario's name (its ``drill:``).
        server: the server's name in the scenario.
        os: its operating system.
        volume: ``root``, a data volume's name, or ``set``.
        capture: how the recovery point is made.
        trial: 1 and up.
        expected: what it is expected to come to.
    """

    id: str
    scenario: str
    server: str
    os: Os
    volume: str
    capture: Capture
    trial: int
    expected: Expected


@dataclass(frozen=True, kw_only=True)
class DrillPlan:
    """All cells of one server: one durable workflow."""

    scenario: str
    server: Server
    cells: tuple[Cell, ...]

    @property
    def points(self) -> tuple[tuple[Capture, int], ...]:
        """The recovery points that the cells need, (capture, trial), in the order of making."""
        needed = {(cell.capture, cell.trial) for cell in self.cells}
        return tuple(sorted(needed, key=lambda point: (CAPTURE_ORDER.index(point[0]), point[1])))

    @property
    def boots(self) -> bool:
        """Whether the recovery points are booted (copy B): where root, or all volumes together, is judged."""
        return any(cell.volume in (ROOT, SET) for cell in self.cells)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run of one scenario does."""

    scenario: Scenario
    target: str
    drills: tuple[DrillPlan, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, in the order of the report."""
        return tuple(cell for drill in self.drills for cell in drill.cells)


def plan(scenario: Scenario, *, target: str, only: Collection[str] | None = None) -> Plan:
    """The cells that a scenario asks for, a drill a server.

    A server's running captures come before its stopped ones, whatever their order in the file.

    Args:
        scenario: what to prove.
        target: where.
        only: ids of the cells to keep; None keeps all.

    Raises:
        UsageError: the scenario contradicts itself (one that was loaded from a file does not), or `only`
            names a cell that it hasn't.
    """
    for problem in problems(Sketch.of(scenario)):
        at = ".".join(str(part) for part in problem.path)
        raise UsageError(f"scenario {scenario.drill}: {at}: {problem.message}")
    drills = tuple(
        DrillPlan(scenario=scenario.drill, server=server, cells=_cells(scenario, server))
        for server in scenario.servers
    )
    whole = Plan(scenario=scenario, target=target, drills=tuple(drill for drill in drills if drill.cells))
    return whole if only is None else restrict(whole, only)


def restrict(whole: Plan, cells: Collection[str]) -> Plan:
    """The same plan with only some of its cells, and without the drills that have none left.

    Raises:
        UsageError: an id is not one of the plan's.
    """
    known = {cell.id for cell in whole.cells}
    for cell in sorted(set(cells) - known):
        raise UsageError(
            f"scenario {whole.scenario.drill} has no cell {cell}; {meant(cell, sorted(known))}",
            remedy="drtest plan FILE lists the cells.",
        )
    wanted = frozenset(cells)
    kept = (
        replace(drill, cells=tuple(cell for cell in drill.cells if cell.id in wanted))
        for drill in whole.drills
    )
    return replace(whole, drills=tuple(drill for drill in kept if drill.cells))


def _cells(scenario: Scenario, server: Server) -> tuple[Cell, ...]:
    return tuple(
        Cell(
            id=f"{server.name}/{volume}/{capture}/{trial}",
            scenario=scenario.drill,
            server=server.name,
            os=server.os,
            volume=volume,
            capture=capture,
            trial=trial,
            expected=_expected(scenario, server=server.name, volume=volume, capture=capture, trial=trial),
        )
        for volume in scenario.volumes_of(server)
        for capture in CAPTURE_ORDER
        if capture in scenario.captures
        for trial in range(1, scenario.trials + 1)
    )


def _expected(scenario: Scenario, *, server: str, volume: str, capture: Capture, trial: int) -> Expected:
    for entry in scenario.expect:
        if entry.matches(server=server, volume=volume, capture=capture, trial=trial):
            return Expected(text=entry.verdict, verdicts=entry.verdicts, line=entry.line)
    return Expected(text="usable", verdicts=USABLE)
