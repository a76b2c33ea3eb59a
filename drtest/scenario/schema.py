"""The JSON Schema of a scenario file as people write it, for editors and for other tools."""

import json
from typing import Any

from drtest.scenario.model import Scenario
from drtest.scenario.units import duration_text

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_text() -> str:
    """The schema as pretty JSON, the same for the same version of drtest; kept in `schema.json` beside this."""
    schema: dict[str, Any] = Scenario.model_json_schema(by_alias=True, mode="validation")
    schema["properties"]["volumes"]["minItems"] = 1  # inside, an empty tuple stands for one that was left out
    whole = {
        "$schema": DIALECT,
        **schema,
        "title": "drtest scenario",
        "description": "One drill: which servers' backups are put to the test, and how.",
    }
    return json.dumps(_plain(whole), indent=2, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    """The schema without what only Python has: null for keys left out, and titles made from attribute names."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    nullable = [option for option in value.get("anyOf", ()) if option != {"type": "null"}]
    if len(nullable) == 1:
        value = {**nullable[0], **{key: other for key, other in value.items() if key != "anyOf"}}
    if "patternProperties" in value:
        value = {**value, "additionalProperties": False}
    if value.get("type") == "string" and isinstance(value.get("default"), float):
        value = {**value, "default": duration_text(value["default"])}
    left_out = {"title"} if isinstance(value.get("title"), str) and "$schema" not in value else set()
    if value.get("default", ...) in (None, "", []) or isinstance(value.get("default"), dict):
        left_out.add("default")
    return {key: _plain(item) for key, item in value.items() if key not in left_out}
