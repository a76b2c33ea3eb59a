"""The JSON Schema in the tree is current, and says of a file what drtest itself says."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from drtest.scenario.schema import schema_text
from tests.scenario.scenario_texts import GOOD

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads(schema_text())
SCENARIOS = sorted((ROOT / "scenarios").glob("*.drill.yaml"))


def errors(text: str) -> list[Any]:
    return list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(YAML(typ="safe", pure=True).load(text)))


def test_the_schema_in_the_tree_is_current() -> None:
    kept = (ROOT / "drtest" / "scenario" / "schema.json").read_text()
    assert kept == schema_text(), "write it anew: drtest schema > drtest/scenario/schema.json"


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.name)
def test_a_scenario_of_ours_fits_the_schema(file: Path) -> None:
    assert errors(file.read_text()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        GOOD + "zzz: 1\n",
        GOOD + "trials: 0\n",
        GOOD + "trials: '3'\n",
        GOOD + "load: {canary: {rate: 50}, for: 10s}\n",
        GOOD + "load: {canary: {rate: 50/s}, for_: 10s}\n",
        GOOD + "expect: [{verdict: INCONCLUSIVE}]\n",
        GOOD + "volumes: []\n",
        GOOD.replace("1GiB", "1GB"),
        GOOD.replace("data:", "Da_ta:"),
        GOOD.replace("[running, stopped]", "[running, running]"),
        GOOD.replace("[running, stopped]", "[]"),
        GOOD.replace("launch: {image: linux", "launch: {image: linux}, select: {tags: {a: b}"),
        GOOD.replace("drill: good", "drill: Not Good"),
    ],
)
def test_what_drtest_refuses_in_a_value_the_schema_refuses_too(wrong: str) -> None:
    assert errors(GOOD) == []
    assert errors(wrong)


def test_defaults_are_spelled_as_people_write_them() -> None:
    assert SCHEMA["$defs"]["Deadlines"]["properties"]["snapshot"]["default"] == "4h"
