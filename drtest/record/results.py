"""The results of a run for machines: ``results.json``, a stable contract with a JSON Schema beside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from drtest.errors import EnvironmentFailedError
from drtest.record.folder import Run
from drtest.record.ledger import Resource
from drtest.record.lines import replace_file
from drtest.scenario.plan import Cell, Plan
from drtest.verdict.evidence import Finding, Judgement
from drtest.verdict.judge import not_judged
from drtest.verdict.statistics import Group, Statement, groups, statements

SCHEMA = 1
"""The version of the contract: a key may be added within it, none may go or change its meaning."""

NEVER_CAME = "the run ended before this cell was judged"

AS_EXPECTED, NOT_AS_EXPECTED, UNDECIDED = 0, 1, 3


class ResultsError(EnvironmentFailedError):
    """The results of a run can't be read."""


def results(
    run: Run,
    *,
    plans: Sequence[Plan],
    judgements: Sequence[Judgement],
    ended: datetime | None,
    leftovers: Sequence[Resource] = (),
) -> dict[str, Any]:
    """The results as JSON values.

    Args:
        run: the run; its cells are those that it was asked for (none: all of the plans).
        plans: what was planned, a plan a scenario.
        judgements: what was judged, in any order; a cell without one becomes INCONCLUSIVE.
        ended: when the run ended, in UTC.
        leftovers: what it created and could not take away again.
    """
    asked = {(one.scenario, one.id) for one in run.cells}
    cells = [cell for plan in plans for cell in plan.cells if not asked or (cell.scenario, cell.id) in asked]
    judged = {(one.scenario, one.cell): one for one in judgements}
    all_judged = [
        judged.get((cell.scenario, cell.id)) or not_judged(cell, reason=NEVER_CAME) for cell in cells
    ]
    return {
        "schema": SCHEMA,
        "tool": {"version": run.tool_version},
        "run": run.run,
        "target": run.target,
        "started": _time(run.started),
        "ended": _time(ended),
        "notices": list(run.notices),
        "scenarios": [_scenario(run, plan) for plan in plans],
        "cells": [cell_entry(cell, one) for cell, one in zip(cells, all_judged, strict=True)],
        "groups": [_group(group) for group in groups(cells, all_judged)],
        "statements": [_statement(one) for one in statements(cells, all_judged)],
        "leftovers": [{**asdict(one), "at": _time(one.at)} for one in leftovers],
    }


def cell_entry(cell: Cell, judgement: Judgement) -> dict[str, Any]:
    """One entry of ``cells``."""
    return {
        "id": cell.id,
        "scenario": cell.scenario,
        "server": cell.server,
        "os": str(cell.os),
        "volume": cell.volume,
        "capture": str(cell.capture),
        "trial": cell.trial,
        "recovery_point": judgement.recovery_point,
        "verdict": str(judgement.verdict),
        "assurance": str(judgement.assurance),
        "expected": cell.expected.text,
        "met": judgement.met,
        "reason": judgement.reason,
        "capture_loss_seconds": judgement.capture_loss_seconds,
        "rpo_seconds": judgement.rpo_seconds,
        "rto_seconds": judgement.rto_seconds,
        "phases": asdict(judgement.phases),
        "covariates": dict(judgement.covariates),
        "findings": [_finding(finding) for finding in judgement.findings],
    }


def write(entry: Mapping[str, Any], path: Path) -> None:
    """Writes ``results.json``, whole or not at all; it is on disk when this returns."""
    replace_file(path, (json.dumps(entry, indent=2, ensure_ascii=True) + "\n").encode())


def read(path: Path) -> dict[str, Any]:
    """The results of a run.

    Raises:
        ResultsError: there are none, or of another version.
    """
    try:
        entry = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} can't be read: {error}") from error
    if not isinstance(entry, dict) or entry.get("schema") != SCHEMA:
        raise ResultsError(f"{path} is not of schema {SCHEMA}", remedy="Use the drtest that wrote it.")
    return entry


def schema() -> dict[str, Any]:
    """The JSON Schema of ``results.json``."""
    text = files("drtest.record").joinpath("results.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def exit_code(judgements: Sequence[Judgement], *, environment_failed: bool = False) -> int:
    """The exit code of a run.

    Returns:
        1 where a cell was judged and is not as expected; else 3 where one is UNREACHABLE or INCONCLUSIVE, or
        the environment failed; else 0.
    """
    if any(one.verdict.decided and not one.met for one in judgements):
        return NOT_AS_EXPECTED
    if environment_failed or not all(one.verdict.decided for one in judgements):
        return UNDECIDED
    return AS_EXPECTED


def _scenario(run: Run, plan: Plan) -> dict[str, Any]:
    scenario = plan.scenario
    known = next((one for one in run.scenarios if one.name == scenario.drill), None)
    goals = scenario.objectives
    return {
        "name": scenario.drill,
        "title": scenario.title,
        "description": scenario.description,
        "file": known.file if known else None,
        "sha256": known.sha256 if known else None,
        "checks": list(scenario.checks),
        "trials": scenario.trials,
        "objectives": {"rto": goals.rto if goals else None, "rpo": goals.rpo if goals else None},
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "class": str(finding.effect),
        "sentence": finding.sentence,
        "evidence": list(finding.evidence),
    }


def _group(group: Group) -> dict[str, Any]:
    return {**asdict(group), "capture": str(group.capture), "interval": list(group.interval)}


def _statement(statement: Statement) -> dict[str, Any]:
    return {
        **asdict(statement),
        "result": str(statement.result),
        "cells": list(statement.cells),
        "interval": list(statement.interval),
    }


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
