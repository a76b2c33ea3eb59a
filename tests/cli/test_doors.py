"""The shell's door: what it says, and its exit codes, before anything is created."""

import json
from pathlib import Path

import pytest

from drtest.cli import COMMANDS, main
from drtest.cloud.targets import load_targets


def test_help_names_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(command in said for command in COMMANDS)
    assert "3 a cell is UNREACHABLE" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert f"drtest {command}" in capsys.readouterr().out.partition("example")[2]


def test_a_wrong_scenario_gives_every_mistake_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wrong.drill.yaml"
    file.write_text(
        "drill: x\ntitel: y\nservers:\n  - {name: a, os: linux, launch: {image: l}}\ncaptures: [vss]\n"
    )
    assert main(["run", str(file), "--target", "lab", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert f"{file}:2:1" in said
    assert "title" in said
    assert f"{file}:5:" in said
    assert not (tmp_path / "out").exists()


def test_an_unknown_target_is_exit_2_and_names_those_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path("scenarios/first.drill.yaml").resolve()
    monkeypatch.chdir(tmp_path)
    assert main(["plan", str(file), "--target", "labb"]) == 2
    assert "lab" in capsys.readouterr().err


def test_a_run_without_a_file_says_what_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 2
    assert "drtest run scenarios/first.drill.yaml" in capsys.readouterr().err


def test_a_selection_that_matches_no_cell_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["run", "scenarios/first.drill.yaml", "--target", "lab", "-k", "nothing", "--out", str(out)]
    assert main(words) == 2
    assert "no cell matches" in capsys.readouterr().err


def test_init_writes_what_plan_takes_and_nothing_over_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path)]) == 0
    assert set(load_targets(tmp_path / "drtest.toml")) == {"production"}
    assert main(["plan", str(tmp_path / "first.drill.yaml"), "--target", "lab"]) == 0
    assert "web/data/stopped/1" in capsys.readouterr().out
    assert main(["init", str(tmp_path)]) == 2


def test_plan_for_machines_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "scenarios/first.drill.yaml", "--target", "lab", "--json"]) == 0
    outline = json.loads(capsys.readouterr().out)
    assert {cell["id"] for cell in outline["cells"]} >= {"lin/root/running/1", "lin/data/stopped/1"}


def test_resume_of_what_is_no_run_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--resume", str(tmp_path)]) == 2
    assert "run.json" in capsys.readouterr().err
