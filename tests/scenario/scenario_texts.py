"""Scenario texts for tests, and what loading them says."""

from textwrap import dedent

import pytest

from drtest.scenario.load import ScenarioError, scenario_from_text
from drtest.scenario.model import Scenario

GOOD = """\
drill: good
title: A question?
servers:
  - {name: lin, os: linux, launch: {image: linux, volumes: {data: {size: 1GiB}}}}
captures: [running, stopped]
"""


def scenario(text: str) -> Scenario:
    """The scenario in a text."""
    return scenario_from_text(dedent(text), file="x")


def mistakes(text: str, *, targets: tuple[str, ...] | None = None) -> list[str]:
    """All mistakes in a text, each as ``line:column: message``."""
    with pytest.raises(ScenarioError) as caught:
        scenario_from_text(dedent(text), file="x", targets=targets)
    assert str(caught.value).splitlines() == [str(mistake) for mistake in caught.value.mistakes]
    return [str(mistake).removeprefix("x:") for mistake in caught.value.mistakes]
