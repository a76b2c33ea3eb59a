"""What the READMEs say holds: commands exist, links lead somewhere, and CI runs the test command as it is written."""

import re
from pathlib import Path

import pytest

from drtest.cli import COMMANDS

TOP = Path(__file__).parent.parent
READMES = sorted(
    path for path in TOP.rglob("README.md") if ".venv" not in path.parts and "node_modules" not in path.parts
)


def shown_commands(text: str) -> list[str]:
    """The indented lines of code that start a program of ours."""
    return [
        line.strip() for line in text.splitlines() if re.match(r"    (sh \.setup|\.venv/bin/|drtest )", line)
    ]


def test_ci_runs_the_test_command_as_the_front_page_has_it() -> None:
    (command,) = [line for line in shown_commands((TOP / "README.md").read_text()) if "pytest" in line]
    steps = [step.strip() for step in command.split("&&")]
    lines = (TOP / ".ci" / "run").read_text().splitlines()
    assert [line for line in lines if line in steps] == steps


def test_the_first_command_sets_up_and_runs_a_drill_that_is_there() -> None:
    first = shown_commands((TOP / "README.md").read_text())[0]
    assert first.startswith("sh .setup && .venv/bin/drtest run ")
    scenario = next(word for word in first.split() if word.endswith(".drill.yaml"))
    assert (TOP / scenario).is_file()


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(TOP)))
def test_every_drtest_command_that_is_shown_exists(readme: Path) -> None:
    for command in re.findall(r"(?:`|    |/bin/)drtest ([a-z][a-z-]*)", readme.read_text()):
        assert command in COMMANDS, command


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(TOP)))
def test_every_link_leads_to_a_file(readme: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", readme.read_text()):
        if "://" not in link:
            assert (readme.parent / link).exists(), link


def test_the_front_page_has_a_line_for_each_folder_of_the_house() -> None:
    text = (TOP / "README.md").read_text()
    for folder in (TOP / "drtest").iterdir():
        if folder.is_dir() and not folder.name.startswith("__"):
            assert f"drtest/{folder.name}" in text, folder.name
