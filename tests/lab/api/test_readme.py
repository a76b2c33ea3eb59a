"""The tables of drtest/lab/README.md are the code's."""

import re
from pathlib import Path

from drtest.lab.actions import ACTIONS, tag_actions
from drtest.lab.blocks import ROUTES
from drtest.lab.commands import ACTIONS as COMMANDS
from drtest.lab.neighbours import SERVED

from .conftest import Site

README = Path(__file__).parents[3] / "drtest" / "lab" / "README.md"


def _row(start: str) -> set[str]:
    (line,) = [line for line in README.read_text().splitlines() if line.startswith(f"| {start}")]
    return set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+\b", line.split("|")[2].partition(";")[0]))


def test_the_table_of_actions_is_the_code_s(site: Site) -> None:
    assert _row("carried out") == set(ACTIONS) | set(tag_actions(site.neighbours))
    assert _row("served by moto") == set(SERVED)
    other = "".join(
        line for line in README.read_text().splitlines() if line.startswith("| of other services")
    )
    carried_out = {name for name, _ in ROUTES.values()} | set(COMMANDS)
    assert set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+\b", other)) == carried_out


def test_the_modules_that_the_readme_names_are_there() -> None:
    folder = README.parent
    block = README.read_text().partition("## How it is made")[2].partition("Of the two ways")[0]
    for name in re.findall(r"\b([a-z]+)\.py\b", block):
        assert (folder / f"{name}.py").exists(), name
