"""Every kind of mistake in a scenario file is told at its line and column, with what was meant, all at once."""

from pathlib import Path
from typing import Any

import pytest

from drtest.scenario.load import ScenarioError, load_scenario
from drtest.words import Capture, Filesystem
from tests.scenario.scenario_texts import GOOD, mistakes, scenario

LIN = "{name: lin, os: linux, launch: {image: linux, volumes: {data: {size: 1GiB}}}}"
WIN = "{name: win, os: windows, launch: {image: windows}}"


def with_servers(*servers: str, rest: str = "captures: [running]\n") -> str:
    listed = "".join(f"  - {server}\n" for server in servers)
    return f"drill: good\ntitle: A question?\nservers:\n{listed}{rest}"


def corpus() -> list[Any]:
    """The cases in mistakes.txt: a scenario's text, and the mistakes in it."""
    blocks = (Path(__file__).parent / "mistakes.txt").read_text().split("\n=== ")[1:]
    cases = (block.partition("\n") for block in blocks)
    parts = ((title, *body.partition("\n---\n")) for title, _, body in cases)
    return [pytest.param(f"{text}\n", said.splitlines(), id=title) for title, text, _, said in parts]


def test_a_right_file_is_read() -> None:
    read = scenario(GOOD + "load: {canary: {rate: 50/s}, for: 10s}\nobjectives: {rto: 30m}\n")
    server = read.servers[0]
    assert read.drill == "good"
    assert read.captures == (Capture.RUNNING, Capture.STOPPED)
    assert read.load is not None
    assert (read.load.canary.rate, read.load.for_) == (50.0, 10.0)
    assert server.launch is not None
    assert server.launch.volumes["data"].size == 2**30
    assert server.launch.volumes["data"].filesystem is Filesystem.EXT4
    assert server.launch.volumes["data"].mount == "/mnt/data"
    assert (server.may_stop, server.may_write) == (True, True)
    assert read.objectives is not None
    assert (read.objectives.rto, read.objectives.rpo) == (1800.0, None)
    assert read.deadlines.snapshot == 4 * 3600


def test_a_windows_volume_is_ntfs_without_saying_so() -> None:
    win = "{name: win, os: windows, launch: {image: windows, volumes: {data: {size: 1GiB}}}}"
    launch = scenario(with_servers(win)).servers[0].launch
    assert launch is not None
    assert (launch.volumes["data"].filesystem, launch.volumes["data"].mount) == (Filesystem.NTFS, "")


def test_an_expectation_knows_its_line() -> None:
    read = scenario(GOOD + "expect:\n  - {capture: stopped, verdict: CONSISTENT}\n\n  - {verdict: usable}\n")
    assert [entry.line for entry in read.expect] == [7, 9]


def test_yaml_1_2_reads_yes_and_1_30_as_text() -> None:
    read = scenario(
        with_servers("{name: lin, os: linux, launch: {image: yes}}", rest="captures: [running]\n")
    )
    assert read.servers[0].launch is not None
    assert read.servers[0].launch.image == "yes"
    assert scenario(GOOD.replace("A question?", "1:30")).title == "1:30"


def test_permission_is_enough_for_a_selected_server() -> None:
    server = "{name: web, os: linux, select: {tags: {Name: web}}, may_stop: true, may_write: true}"
    load = "captures: [stopped]\nload: {canary: {rate: 1/s}, for: 10s}\n"
    assert scenario(with_servers(server, rest=load)).servers[0].may_stop


def test_a_volume_that_only_some_servers_have_is_fine() -> None:
    read = scenario(with_servers(LIN, WIN, rest="captures: [running]\nvolumes: [root, data, set]\n"))
    assert [read.volumes_of(server) for server in read.servers] == [("root", "data", "set"), ("root",)]


@pytest.mark.parametrize(("text", "expected"), corpus())
def test_a_wrong_file_is_told_all_its_mistakes_at_their_places(text: str, expected: list[str]) -> None:
    assert mistakes(text) == expected


def test_too_many_cells_are_refused() -> None:
    servers = (LIN.replace("lin,", f"s-{number},") for number in range(60))
    assert mistakes(with_servers(*servers, rest="captures: [running, stopped]\ntrials: 100\n")) == [
        "65:9: that makes 24000 cells, and 10000 is the most; split the scenario"
    ]


def test_an_expectation_of_a_volume_that_its_server_has_not_matches_no_cell() -> None:
    text = with_servers(LIN, WIN) + "expect:\n  - {server: win, volume: data, verdict: usable}\n"
    assert mistakes(text) == ["8:5: this expectation matches no cell; mend it, or take it out"]


def test_an_unknown_target_names_the_nearest() -> None:
    text = GOOD + "target: porduction\n"
    assert mistakes(text, targets=("lab", "production")) == [
        "6:9: unknown target 'porduction'; did you mean production?"
    ]
    assert scenario(text).target == "porduction"


def test_all_mistakes_of_a_file_are_told_at_once_in_its_order() -> None:
    text = """\
    drill: good
    titel: A question?
    servers:
      - {name: lin, os: linux, lauch: {image: linux, volumes: {data: {size: 1GB}}}}
      - {name: web, os: linux, select: {tags: {Name: web}}, may_stopp: false}
    captures: [running, stoped, stopped]
    trials: 3.5
    expect:
      - {server: lin, volume: data, verdict: INCONCLUSIVE}
      - {server: wbe, verdict: usable}
      - {volume: dat, verdict: usable}
    objectives: {rto: 30}
    """
    assert [mistake.split(";")[0] for mistake in mistakes(text)] == [
        "2:1: unknown key 'titel'",
        "4:28: unknown key 'lauch'",
        "4:73: size: '1GB' is in powers of ten, and EBS counts in powers of two",
        "5:5: captures has stopped, and server web may not be stopped",
        "5:57: unknown key 'may_stopp'",
        "6:21: captures: unknown word 'stoped'",
        "7:9: trials: 3.5 where a whole number is meant",
        "9:42: verdict: INCONCLUSIVE can't be expected, since it says that nothing is known",
        "10:14: no server is called 'wbe'",
        "11:14: no volume 'dat' is judged",
        "12:19: rto: 30 has no unit",
    ]


def test_a_mistake_names_its_file(tmp_path: Path) -> None:
    file = tmp_path / "a.drill.yaml"
    file.write_text(GOOD + "trials: 0\n")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(file)
    assert str(caught.value) == f"{file}:6:9: trials: 0 is too small; 1 is the least"
    (mistake,) = caught.value.mistakes
    assert (mistake.file, mistake.line, mistake.column) == (str(file), 6, 9)
