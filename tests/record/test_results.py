"""results.json is a stable contract: it fits its schema, and says no more than was judged."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from drtest.record.folder import Run, SelectedCell
from drtest.record.ledger import Resource
from drtest.record.results import NEVER_CAME, ResultsError, exit_code, read, results, schema, write
from drtest.scenario.model import Scenario
from drtest.scenario.plan import Plan, plan
from drtest.verdict.evidence import Finding, FindingClass, Judgement, Phases
from drtest.words import UNUSABLE, Assurance, Capture, Verdict

START = datetime(2026, 11, 24, 17, 51, 21, tzinfo=UTC)
C, R, X = Verdict.CONSISTENT, Verdict.RECOVERED, Verdict.INCONSISTENT


@pytest.fixture
def planned() -> Plan:
    return plan(
        Scenario.model_validate(
            {
                "drill": "first",
                "title": "Does it come back?",
                "servers": [
                    {
                        "name": "lin",
                        "os": "linux",
                        "launch": {"image": "linux", "volumes": {"data": {"size": "1GiB"}}},
                    }
                ],
                "load": {"canary": {"rate": "50/s"}, "for": "10s"},
                "captures": ["running", "stopped"],
                "trials": 2,
                "expect": [{"volume": "root", "capture": "running", "verdict": "unusable"}],
                "objectives": {"rto": "30m"},
            }
        ),
        target="lab",
    )


def judged(planned: Plan, **verdicts: Verdict) -> list[Judgement]:
    made = []
    for cell in planned.cells:
        verdict = verdicts.get(f"{cell.volume}_{cell.capture}", C)
        made.append(
            Judgement(
                cell=cell.id,
                scenario=cell.scenario,
                verdict=verdict,
                assurance=Assurance.CANARY,
                met=verdict in cell.expected.verdicts,
                reason="because",
                findings=(
                    Finding(check="canary", effect=FindingClass.NOTE, sentence="seen", evidence=("e000001",)),
                ),
                capture_loss_seconds=0.3,
                rto_seconds=20.0,
                phases=Phases(restore=3.0, boot=14.0),
                recovery_point="snap-1",
                covariates={"hypervisor": "QEMU"},
            )
        )
    return made


def run_of(planned: Plan, *cells: str) -> Run:
    return Run(
        run="20261124-175121-a1b2",
        target="lab",
        tool_version="0.1.0",
        started=START,
        cells=tuple(SelectedCell(scenario="first", id=cell) for cell in cells),
        notices=("a stand-in",),
    )


def told(planned: Plan, judgements: list[Judgement], *cells: str, **more: Any) -> dict[str, Any]:
    ended = START + timedelta(minutes=4)
    return results(run_of(planned, *cells), plans=[planned], judgements=judgements, ended=ended, **more)


def test_the_results_fit_their_schema_and_name_nothing_that_it_does_not_know(planned: Plan) -> None:
    left = Resource(kind="volume", id="vol-1", region="us-east-1", purpose="copy B", server="lin", at=START)
    entry = told(planned, judged(planned, root_running=X), leftovers=[left])
    jsonschema.validate(entry, strict(schema()), format_checker=jsonschema.FormatChecker())
    assert json.loads(json.dumps(entry)) == entry


def strict(part: Any) -> Any:
    """The schema with no room for keys that it does not name."""
    if isinstance(part, dict):
        closed = {key: strict(value) for key, value in part.items()}
        return {**closed, "additionalProperties": False} if part.get("type") == "object" else closed
    return [strict(one) for one in part] if isinstance(part, list) else part


def test_the_schema_is_a_schema_and_each_key_says_what_it_is() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())

    def described(properties: dict[str, Any]) -> None:
        for key, value in properties.items():
            assert value.get("description"), key
            described(value.get("properties", {}))
            described(value.get("items", {}).get("properties", {}))

    described(schema()["properties"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda entry: entry["cells"][0].update(verdict="consistent"),
        lambda entry: entry["cells"][0].pop("met"),
        lambda entry: entry.update(schema=2),
        lambda entry: entry["groups"][0].update(interval=[0.0, 2.0]),
    ],
)
def test_the_schema_bites(planned: Plan, spoil: Callable[[dict[str, Any]], object]) -> None:
    entry = told(planned, judged(planned))
    spoil(entry)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(entry, schema())


def test_a_cell_is_told_as_it_was_judged(planned: Plan) -> None:
    first = told(planned, judged(planned, root_running=X))["cells"][0]
    assert first == {
        "id": "lin/root/running/1",
        "scenario": "first",
        "server": "lin",
        "os": "linux",
        "volume": "root",
        "capture": "running",
        "trial": 1,
        "recovery_point": "snap-1",
        "verdict": "INCONSISTENT",
        "assurance": "canary",
        "expected": "unusable",
        "met": True,
        "reason": "because",
        "capture_loss_seconds": 0.3,
        "rpo_seconds": None,
        "rto_seconds": 20.0,
        "phases": {"restore": 3.0, "initialise": None, "boot": 14.0, "checks": None},
        "covariates": {"hypervisor": "QEMU"},
        "findings": [{"check": "canary", "class": "note", "sentence": "seen", "evidence": ["e000001"]}],
    }


def test_a_cell_that_was_never_judged_is_inconclusive_and_not_left_out(planned: Plan) -> None:
    entry = told(planned, judged(planned)[:-1])
    assert len(entry["cells"]) == len(planned.cells)
    assert (entry["cells"][-1]["verdict"], entry["cells"][-1]["reason"]) == ("INCONCLUSIVE", NEVER_CAME)
    assert entry["groups"][-1]["undecided"] == 1


def test_only_the_cells_that_were_asked_for_are_told(planned: Plan) -> None:
    asked = "lin/data/stopped/2"
    entry = told(planned, judged(planned), asked)
    assert [cell["id"] for cell in entry["cells"]] == [asked]
    assert [(group["volume"], group["capture"], group["n"]) for group in entry["groups"]] == [
        ("data", "stopped", 1)
    ]


def test_times_are_utc_with_a_z(planned: Plan) -> None:
    entry = told(planned, [])
    assert (entry["started"], entry["ended"]) == ("2026-11-24T17:51:21Z", "2026-11-24T17:55:21Z")
    killed = results(run_of(planned), plans=[planned], judgements=[], ended=None)
    assert killed["ended"] is None


def test_statements_come_with_a_scenario_that_expects_damage(planned: Plan) -> None:
    entry = told(planned, judged(planned, root_running=X))
    assert [one["result"] for one in entry["statements"]] == ["reproduced", "reproduced"]
    assert entry["statements"][0]["p"] == pytest.approx(1 / 6)


def test_what_is_written_is_read_back(planned: Plan, tmp_path: Path) -> None:
    entry = told(planned, judged(planned))
    entry["cells"][0]["reason"] = "\udcff <script> \N{SNOWMAN}"
    write(entry, tmp_path / "results.json")
    assert read(tmp_path / "results.json") == entry


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 2}', "{"])
def test_other_results_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ResultsError):
        read(tmp_path / "results.json")


def one(verdict: Verdict, *, met: bool) -> Judgement:
    return Judgement(cell="c", scenario="s", verdict=verdict, assurance=Assurance.CANARY, met=met, reason="")


@pytest.mark.parametrize(
    ("judgements", "failed", "code"),
    [
        ([], False, 0),
        ([one(C, met=True), one(R, met=True)], False, 0),
        ([one(X, met=True)], False, 0),  # as expected, which is not the same as usable
        ([one(X, met=False)], False, 1),
        ([one(C, met=False)], False, 1),
        ([one(Verdict.INCONCLUSIVE, met=False)], False, 3),
        ([one(Verdict.UNREACHABLE, met=False), one(C, met=True)], False, 3),
        ([one(Verdict.UNREACHABLE, met=False), one(X, met=False)], False, 1),
        ([one(X, met=False)], True, 1),
        ([one(C, met=True)], True, 3),
        ([], True, 3),
    ],
)
def test_the_exit_code_says_what_came_of_it(judgements: list[Judgement], failed: bool, code: int) -> None:
    assert exit_code(judgements, environment_failed=failed) == code


def test_an_expectation_of_damage_is_met_by_damage_alone(planned: Plan) -> None:
    cell = planned.cells[0]
    assert cell.capture is Capture.RUNNING
    assert cell.expected.verdicts == UNUSABLE
    assert not replace(judged(planned)[0], met=C in cell.expected.verdicts).met
