"""The consistency report: one HTML file made of a run's folder alone, without network, scripts or a clock."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from drtest.record.folder import Run, RunFolder
from drtest.record.journal import JournalError, read, verify
from drtest.record.lines import replace_file
from drtest.record.results import read as read_results
from drtest.report.cells import CellView, anchor, cell_view
from drtest.report.matrix import Box, Matrix, Row, matrices, summary, worst_tone
from drtest.report.statements import RESULTS, StatementView, statement_views
from drtest.report.tones import Tone
from drtest.verdict.covariates import NAMES as COVARIATES
from drtest.verdict.evidence import Observation
from drtest.verdict.statistics import percent
from drtest.verdict.wording import counted, duration, listed
from drtest.words import ROOT, SET, Capture, Verdict

BAD_FIRST = (Tone.UNUSABLE, Tone.UNKNOWN, Tone.USABLE)


@dataclass(frozen=True, kw_only=True)
class Section:
    """The trials of one server, volume and capture, one below the other."""

    row: Row
    box: Box
    cells: tuple[CellView, ...]
    circumstances: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class ScenarioView:
    """One scenario of the run."""

    matrix: Matrix
    description: str
    statements: tuple[tuple[str, StatementView], ...]
    objectives: tuple[tuple[str, bool], ...]
    sections: tuple[Section, ...]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The run's evidence: what was observed, and whether it is what was written."""

    observations: tuple[Observation, ...]
    notice: str
    lines: int
    head: str


def write_report(folder: Path) -> Path:
    """Writes ``report.html`` into a run's folder, from what is in it and nothing else.

    Returns:
        Its path.

    Raises:
        DrtestError: it is no run's folder, or it has no results yet.
    """
    opened = RunFolder.open(folder)
    results = read_results(opened.results)
    replace_file(opened.report, render(opened.run, results, folder).encode(errors="replace"))
    return opened.report


def render(run: Run, results: Mapping[str, Any], folder: Path) -> str:
    """The report as HTML."""
    evidence = _evidence(folder)
    scenarios = tuple(_scenario(one, results, folder, evidence.observations) for one in matrices(results))
    return (
        environment()
        .get_template("report.html")
        .render(
            style=stylesheet(),
            run=run,
            results=results,
            title=" · ".join(one.matrix.title for one in scenarios) or run.run,
            summary=summary(results),
            worst=worst_tone(results),
            scenarios=scenarios,
            notices=[*([evidence.notice] if evidence.notice else []), *results["notices"]],
            evidence=evidence,
            tested=_tested(results),
            took=_took(results),
            files=_files(folder),
        )
    )


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates; whatever is put into them is escaped."""
    made = Environment(
        loader=PackageLoader("drtest.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["percent"] = percent
    made.filters["moment"] = moment
    made.globals["anchor"] = anchor
    made.globals["results_mean"] = RESULTS
    return made


@lru_cache(maxsize=1)
def stylesheet() -> str:
    """The stylesheet of all that the report makes."""
    return files("drtest.report").joinpath("templates/style.css").read_text(encoding="utf-8")


def moment(text: str | datetime | None) -> str:
    """A time as people read it: ``24 Nov 2026, 17:51:21 UTC``."""
    if text is None:
        return "not ended"
    at = datetime.fromisoformat(text) if isinstance(text, str) else text
    return f"{at.day} {at:%b %Y, %H:%M:%S} UTC"


def _scenario(
    one: Matrix, results: Mapping[str, Any], folder: Path, observations: Sequence[Observation]
) -> ScenarioView:
    entry = next(scenario for scenario in results["scenarios"] if scenario["name"] == one.scenario)
    by_id = {cell["id"]: cell for cell in results["cells"] if cell["scenario"] == one.scenario}
    volumes = {
        row.server: _volumes([cell for cell in by_id.values() if cell["server"] == row.server], observations)
        for row in one.rows
    }
    sections = tuple(
        Section(
            row=row,
            box=box,
            cells=tuple(
                cell_view(by_id[cell], folder=folder, observations=observations, volumes=volumes[row.server])
                for cell in box.cells
            ),
            circumstances=_circumstances([by_id[cell] for cell in box.cells]),
        )
        # What was lost comes first.
        for row, box in sorted(one.boxes, key=lambda pair: BAD_FIRST.index(pair[1].tone))
    )
    return ScenarioView(
        matrix=one,
        description=entry["description"],
        statements=tuple((one.scenario, view) for view in statement_views(results, one.scenario)),
        objectives=_objectives(entry["objectives"], list(by_id.values())),
        sections=sections,
    )


def _circumstances(cells: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """What could explain a difference to other groups: each covariate, and all values that its trials had."""
    told = []
    for key, name in COVARIATES.items():
        values = [value for cell in cells if (value := cell.get("covariates", {}).get(key))]
        if values:
            told.append((name, listed(list(dict.fromkeys(values)), most=4)))
    return tuple(told)


def _volumes(cells: Sequence[Mapping[str, Any]], observations: Sequence[Observation]) -> tuple[str, ...]:
    """All volumes of a server, root first: those that have cells, and those that were captured with them."""
    named = [cell["volume"] for cell in cells if cell["volume"] != SET]
    for seen in observations:
        snapshots = seen.data.get("snapshots") if isinstance(seen.data, Mapping) else None
        if seen.probe == "capture" and seen.server == cells[0]["server"] and isinstance(snapshots, Mapping):
            named += [str(name) for name in snapshots]
    return tuple(sorted(dict.fromkeys(named), key=lambda name: name != "root"))


def _objectives(
    goals: Mapping[str, float | None], cells: Sequence[Mapping[str, Any]]
) -> tuple[tuple[str, bool], ...]:
    """What was asked of recovery and what it took, at worst; the flag is whether that was met."""
    told = []
    roots = [cell for cell in cells if cell["volume"] in (ROOT, SET)] or list(cells)
    lost = sum(cell["verdict"] == Verdict.UNBOOTABLE for cell in roots)
    for name, what in (("rto", "Recovery time"), ("rpo", "Age of the recovery point")):
        goal = goals.get(name)
        measured = [cell[f"{name}_seconds"] for cell in cells if cell[f"{name}_seconds"] is not None]
        if goal is None:
            continue
        if name == "rpo" and not any(cell["capture"] == Capture.EXISTING for cell in cells):
            # The age of a snapshot that was made a minute ago says nothing of the backups' schedule.
            told.append((f"{what}: not judged, as the drill made its snapshots itself", True))
            continue
        if not measured:
            told.append((f"{what}: the objective is {duration(goal)}; nothing was measured", False))
            continue
        met = max(measured) <= goal
        word = "met" if met else "missed"
        text = f"{what}: {duration(max(measured))} at worst; the objective of {duration(goal)} is {word}"
        if name == "rto" and lost:
            # Who never comes up takes longer than any objective.
            met, text = (
                False,
                f"{text} where the system came up, and missed in {counted(lost, 'trial')} where it never did",
            )
        told.append((text, met))
    return tuple(told)


def _tested(results: Mapping[str, Any]) -> str:
    """``2 servers, 4 volumes, captured running and stopped, 24 backups judged``."""
    cells = results["cells"]
    servers = {(cell["scenario"], cell["server"]) for cell in cells}
    volumes = {(cell["scenario"], cell["server"], cell["volume"]) for cell in cells if cell["volume"] != SET}
    captures = list(dict.fromkeys(cell["capture"] for cell in cells))
    return (
        f"{counted(len(servers), 'server')}, {counted(len(volumes), 'volume')}, "
        f"captured {' and '.join(captures) or 'never'}, {counted(len(cells), 'backup')} judged"
    )


def _took(results: Mapping[str, Any]) -> str:
    if not results["ended"]:
        return ""
    started, ended = (datetime.fromisoformat(results[name]) for name in ("started", "ended"))
    return duration(max((ended - started).total_seconds(), 0.0))


def _evidence(folder: Path) -> Evidence:
    path = folder / "evidence.jsonl"
    try:
        chain = verify(path)
    except JournalError:
        notice = (
            "The evidence of this run is not in its folder: findings can't be traced to what was observed."
        )
        return Evidence(observations=(), notice=notice, lines=0, head="")
    if chain.broken_at is not None:
        notice = (
            f"The evidence of this run was changed after it was written: line {chain.broken_at} of evidence.jsonl "
            f"does not fit ({chain.why}). What follows from it proves nothing."
        )
        return Evidence(observations=(), notice=notice, lines=chain.lines, head=chain.head)
    return Evidence(observations=read(path), notice="", lines=chain.lines, head=chain.head)


def _files(folder: Path) -> tuple[tuple[str, str], ...]:
    """The files that the report was made of, with their SHA-256."""
    names = [
        "results.json",
        "evidence.jsonl",
        *sorted(f"scenarios/{p.name}" for p in folder.glob("scenarios/*.yaml")),
    ]
    return tuple(
        (name, hashlib.sha256((folder / name).read_bytes()).hexdigest())
        for name in names
        if (folder / name).is_file()
    )
