"""What scenarios/README.md shows is true: every snippet loads, and the mistakes are those that drtest tells."""

import re
from pathlib import Path
from textwrap import dedent

import pytest

from drtest.scenario.load import load_scenario, scenario_from_text
from drtest.scenario.model import Deadlines, Scenario
from drtest.scenario.plan import plan
from tests.scenario.scenario_texts import GOOD, mistakes
from tests.scenario.test_schema import errors

FOLDER = Path(__file__).parents[2] / "scenarios"
README = (FOLDER / "README.md").read_text()
SNIPPETS = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def completed(snippet: str) -> str:
    """A snippet, with the keys of a right file that it leaves out."""
    own = set(re.findall(r"^(\w+):", snippet, re.MULTILINE))
    blocks = re.split(r"^(?=\w)", GOOD, flags=re.MULTILINE)
    return "".join(block for block in blocks if block.partition(":")[0] not in own) + snippet


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.partition("\n")[0])
def test_a_snippet_loads_and_fits_the_schema(snippet: str) -> None:
    text = completed(snippet)
    assert plan(scenario_from_text(text, file="README.md"), target="lab").cells
    assert errors(text) == []


def test_every_key_has_a_section() -> None:
    titles = {word for line in re.findall(r"^## (.*)$", README, re.MULTILINE) for word in line.split(", ")}
    assert set(Scenario.model_fields) <= titles


def test_the_deadlines_shown_are_the_defaults() -> None:
    snippet = next(snippet for snippet in SNIPPETS if snippet.startswith("deadlines:"))
    assert scenario_from_text(GOOD + snippet, file="README.md").deadlines == Deadlines()
    assert all(f"\n  {name}: " in snippet for name in Deadlines.model_fields)


def test_the_mistakes_shown_are_what_drtest_says() -> None:
    shown = re.findall(r"^    nightly\.drill\.yaml:\d+:\d+: (.*)$", README, re.MULTILINE)
    said = mistakes(GOOD.replace("1GiB", "1GB") + "objektives: {rto: 30m}\n")
    assert [mistake.split(": ", 1)[1] for mistake in said] == shown


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.drill.yaml")), ids=lambda file: file.name)
def test_a_scenario_of_ours_loads_and_names_its_schema(file: Path) -> None:
    assert load_scenario(file, targets=("lab",)).drill == file.name.removesuffix(".drill.yaml")
    assert file.read_text().startswith(
        dedent("# yaml-language-server: $schema=../drtest/scenario/schema.json\n")
    )
