"""A plan has each cell once, in the order of the drill, and the first matching expectation wins."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drtest.errors import UsageError
from drtest.scenario.load import ScenarioError, scenario_from_text
from drtest.scenario.model import CanaryLoad, DataVolume, Launch, Load, Scenario, Server
from drtest.scenario.plan import Plan, plan, restrict
from drtest.words import UNUSABLE, USABLE, Capture, Os, Verdict
from tests.scenario.scenario_texts import scenario

TWO_SERVERS = """\
drill: two
title: Both?
servers:
  - {name: lin, os: linux, launch: {image: linux, volumes: {data: {size: 1GiB}}}}
  - {name: win, os: windows, launch: {image: windows}}
captures: [stopped, running]
trials: 2
"""


def planned(text: str = TWO_SERVERS) -> Plan:
    return plan(scenario(text), target="lab")


def test_each_cell_is_there_once_in_the_order_of_the_report() -> None:
    assert [cell.id for cell in planned().cells] == [
        *(f"lin/{v}/{c}/{t}" for v in ("root", "data") for c in ("running", "stopped") for t in (1, 2)),
        *(f"win/root/{c}/{t}" for c in ("running", "stopped") for t in (1, 2)),
    ]


def test_one_source_serves_all_captures_of_its_server_the_running_ones_first() -> None:
    drills = planned().drills
    assert [drill.server.name for drill in drills] == ["lin", "win"]
    assert drills[0].points == (
        (Capture.RUNNING, 1),
        (Capture.RUNNING, 2),
        (Capture.STOPPED, 1),
        (Capture.STOPPED, 2),
    )


def test_running_comes_before_stopped_whichever_cells_are_left() -> None:
    left = restrict(planned(), ["lin/root/stopped/1", "lin/data/running/2"])
    assert left.drills[0].points == ((Capture.RUNNING, 2), (Capture.STOPPED, 1))


def test_a_restricted_plan_has_no_drill_without_cells() -> None:
    left = restrict(planned(), ["win/root/running/2"])
    assert [cell.id for cell in left.cells] == ["win/root/running/2"]
    assert [drill.server.name for drill in left.drills] == ["win"]
    assert plan(scenario(TWO_SERVERS), target="lab", only=["win/root/running/2"]) == left
    assert restrict(planned(), []).drills == ()


def test_an_unknown_cell_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no cell lin/rot/running/1; did you mean lin/root/running/1\?"):
        restrict(planned(), ["lin/rot/running/1"])


def test_without_an_expectation_every_cell_is_expected_to_be_usable() -> None:
    assert {(cell.expected.text, cell.expected.verdicts, cell.expected.line) for cell in planned().cells} == {
        ("usable", USABLE, None)
    }


def test_an_expectation_is_met_by_its_verdicts_and_known_by_its_line() -> None:
    expect = "expect:\n  - {server: win, capture: running, verdict: unusable}\n  - {trial: 2, verdict: CONSISTENT}\n"
    found = {cell.id: cell.expected for cell in planned(TWO_SERVERS + expect).cells}
    assert found["win/root/running/2"].verdicts == UNUSABLE
    assert found["win/root/running/2"].line == 9
    assert found["lin/data/stopped/2"].verdicts == {Verdict.CONSISTENT}
    assert found["lin/data/stopped/2"].line == 10
    assert found["lin/data/stopped/1"].line is None


def test_a_scenario_made_by_a_program_is_held_to_the_same_rules() -> None:
    server = Server(name="lin", os=Os.LINUX, launch=Launch(image="linux"))
    made = Scenario(drill="a", title="b", servers=(server,), captures=(Capture.VSS,))
    with pytest.raises(UsageError, match=r"scenario a: captures\.0: vss can't be done on lin"):
        plan(made, target="lab")


def test_a_scenario_survives_being_written_as_json() -> None:
    data = DataVolume(size="3GiB", filesystem="xfs")
    server = Server(name="lin", os=Os.LINUX, launch=Launch(image="linux", volumes={"data": data}))
    load = Load(canary=CanaryLoad(rate="0.5/s"), for_="90s")
    made = Scenario(drill="a", title="b", servers=(server,), captures=(Capture.RUNNING,), load=load)
    assert Scenario.model_validate_json(made.model_dump_json()) == made
    assert '"for":"90s"' in made.model_dump_json()


KEYS: dict[str, list[Any]] = {
    "server": [None, "lin", "win"],
    "volume": [None, "root", "data"],
    "capture": [None, "running", "stopped"],
    "trial": [None, 1, 2],
    "verdict": ["usable", "unusable", "CONSISTENT", "RECOVERED"],
}


@given(
    st.lists(
        st.fixed_dictionaries({key: st.sampled_from(values) for key, values in KEYS.items()}), max_size=6
    )
)
def test_the_first_match_wins_and_an_entry_without_a_cell_of_its_own_is_refused(
    entries: list[dict[str, Any]],
) -> None:
    cells = [
        *product(["lin"], ["root", "data"], ["running", "stopped"], [1, 2]),
        *product(["win"], ["root"], ["running", "stopped"], [1, 2]),
    ]
    winners = {
        cell: next((n for n, entry in enumerate(entries) if matches(entry, cell)), None) for cell in cells
    }
    lines = [
        "  - {" + ", ".join(f"{k}: {v}" for k, v in entry.items() if v is not None) + "}" for entry in entries
    ]
    text = TWO_SERVERS + ("expect:\n" + "\n".join(lines) if lines else "")
    if set(winners.values()) - {None} != set(range(len(entries))):
        with pytest.raises(ScenarioError, match=r"never reached|matches no cell"):
            scenario_from_text(text, file="x")
        return
    found = {cell.id: cell.expected for cell in planned(text).cells}
    for cell, winner in winners.items():
        wanted = "usable" if winner is None else entries[winner]["verdict"]
        assert found["/".join(map(str, cell))].text == wanted


def matches(entry: dict[str, Any], cell: tuple[Any, ...]) -> bool:
    return all(entry[key] in (None, part) for key, part in zip(KEYS, cell, strict=False))
