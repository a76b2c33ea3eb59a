"""A run's folder is private, whole after a kill, and never taken for another run's."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from drtest.errors import UsageError
from drtest.record.folder import FolderError, Run, RunFolder, SelectedCell, new_run_id, scenario_file

UNIQUE = "a1b2"
START = datetime(2026, 11, 24, 17, 51, 21, tzinfo=UTC)


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "first.drill.yaml"
    path.write_text("drill: first\ntitle: Does it come back?\n")
    return path


def run_of(scenario: Path) -> Run:
    return Run(
        run=new_run_id(START, token=UNIQUE),
        target="lab",
        tool_version="0.1.0",
        started=START,
        scenarios=(scenario_file(scenario, name="first", title="Does it come back?"),),
        cells=(SelectedCell(scenario="first", id="lin/root/running/1"),),
        notices=("the windows image is a stand-in",),
        environment={"accelerator": "tcg"},
    )


def test_a_run_is_known_again_from_its_folder(tmp_path: Path, scenario: Path) -> None:
    run = run_of(scenario)
    folder = RunFolder.create(tmp_path / "out", run=run, files={"first": scenario})
    assert RunFolder.open(tmp_path / "out").run == run
    assert folder.scenario_file("first").read_bytes() == scenario.read_bytes()


def test_a_run_id_sorts_by_time() -> None:
    first = new_run_id(START, token="f" * 4)
    assert first == "20261124-175121-ffff"
    assert first < new_run_id(START + timedelta(seconds=1), token="0" * 4)


def test_what_changes_is_kept_and_the_rest_stays(tmp_path: Path, scenario: Path) -> None:
    folder = RunFolder.create(tmp_path / "out", run=run_of(scenario))
    folder.update(ended=START + timedelta(minutes=4), notices=())
    again = RunFolder.open(tmp_path / "out").run
    assert again == replace(run_of(scenario), ended=START + timedelta(minutes=4), notices=())


def test_nobody_else_can_look_in(tmp_path: Path, scenario: Path) -> None:
    folder = RunFolder.create(tmp_path / "out", run=run_of(scenario), files={"first": scenario})
    folder.keep("console/lin.txt", b"login:")
    for path in (folder.path, *folder.path.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path, scenario: Path) -> None:
    RunFolder.create(tmp_path / "out", run=run_of(scenario))
    with pytest.raises(UsageError, match="holds a run already") as caught:
        RunFolder.create(tmp_path / "out", run=run_of(scenario))
    assert "--resume" in caught.value.remedy


def test_an_existing_empty_folder_will_do(tmp_path: Path, scenario: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o755)
    RunFolder.create(tmp_path / "out", run=run_of(scenario))
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_holds_other_things_keeps_its_mode(tmp_path: Path, scenario: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o755)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    RunFolder.create(tmp_path / "out", run=run_of(scenario))
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out" / "run.json").stat().st_mode & 0o777 == 0o600


def test_a_place_that_cannot_be_made_is_a_usage_error(tmp_path: Path, scenario: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be made"):
        RunFolder.create(tmp_path / "file" / "out", run=run_of(scenario))


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run's folder"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"run": 1}'])
def test_a_run_json_that_says_nothing_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(FolderError, match=r"run\.json"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../b", ".hidden", "a//b", "", "a/", "a\0b", "a b"]
)
def test_a_name_cannot_lead_out_of_the_folder(tmp_path: Path, scenario: Path, name: str) -> None:
    folder = RunFolder.create(tmp_path / "out", run=run_of(scenario))
    with pytest.raises(FolderError, match="no name for a file"):
        folder.keep(name, b"")


def test_a_kept_file_is_whole_and_can_be_kept_again(tmp_path: Path, scenario: Path) -> None:
    folder = RunFolder.create(tmp_path / "out", run=run_of(scenario))
    for content in (b"one", b"two, longer"):
        assert folder.keep("console/lin-running-1.txt", content) == "console/lin-running-1.txt"
        assert folder.file("console/lin-running-1.txt").read_bytes() == content
    assert [path.name for path in (folder.path / "console").iterdir()] == ["lin-running-1.txt"]


def test_evidence_and_ledger_are_the_folders_own(tmp_path: Path, scenario: Path) -> None:
    folder = RunFolder.create(tmp_path / "out", run=run_of(scenario))
    assert folder.journal is folder.journal
    assert folder.journal.path == folder.path / "evidence.jsonl"
    assert folder.ledger.path == folder.path / "ledger.jsonl"
