"""Mistakes in a scenario's values, told in plain words in place of pydantic's."""

import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from drtest.scenario.model import Scenario
from drtest.scenario.positions import Path
from drtest.scenario.spelling import meant, quoted
from drtest.words import Verdict

_EXAMPLES = {
    "drill": "drill: my-first-drill",
    "title": "title: Can web-1 be restored?",
    "servers": "servers: [{name: web-1, os: linux, launch: {image: linux}}]",
    "captures": "captures: [running, stopped]",
    "name": "name: web-1",
    "os": "os: linux",
    "image": "image: linux",
    "size": "size: 1GiB",
    "canary": "canary: {rate: 50/s}",
    "rate": "rate: 50/s",
    "for": "for: 10s",
    "verdict": "verdict: usable",
    "launch": "launch: {image: linux}",
    "select": "select: {tags: {Name: web-1}}",
    "load": "load: {canary: {rate: 50/s}, for: 10s}",
    "expect": "expect: [{verdict: usable}]",
    "objectives": "objectives: {rto: 30m, rpo: 24h}",
    "deadlines": "deadlines: {boot: 20m}",
    "tags": "tags: {Name: web-1}",
    "volumes": "volumes: [root, data]",
    "checks": "checks: [boot, filesystem, canary]",
}
_UNDECIDED = frozenset({Verdict.UNREACHABLE, Verdict.INCONCLUSIVE})


def words(
    error: Mapping[str, Any], *, model: type[BaseModel] = Scenario, examples: Mapping[str, str] = _EXAMPLES
) -> str:
    """``what is wrong; what was meant`` for one of pydantic's errors.

    Args:
        error: an entry of `pydantic.ValidationError.errors`.
        model: what was read when it happened.
        examples: how keys are written in the file that was read.
    """
    path: Path = tuple(error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {quoted(str(path[-1]))}; {meant(str(path[-1]), keys_at(path[:-1], model=model))}"
    if error["type"] in _MAPPINGS:
        return _mapping(path, error["input"], keys_at(path, model=model), examples)
    if error["type"] == "missing":
        return f"{path[-1]} is missing; write {examples.get(str(path[-1]), f'{path[-1]}: …')}"
    message = _MESSAGES.get(error["type"], _other)(path, error["input"], error.get("ctx", {}))
    key = next((part for part in reversed(path) if isinstance(part, str) and part != "[key]"), "")
    of_a_whole = error["type"] == "drtest" and isinstance(path[-1], int)
    named = of_a_whole or not key or path[-1] == "[key]"
    return message if named else f"{key}: {message}"


def _word(path: Path, value: Any, context: Mapping[str, Any]) -> str:
    options = re.findall(r"'([^']*)'", str(context.get("expected", "")))
    if path[-1] == "verdict" and isinstance(value, str) and value.upper() in _UNDECIDED:
        return (
            f"{value} can't be expected, since it says that nothing is known; write usable, unusable, "
            "or the verdict that is to be shown"
        )
    if not isinstance(value, str):
        return f"{_kind(value)} is none of the words that can stand here; write one of: {', '.join(options)}"
    return f"unknown word {quoted(value)}; {meant(value, options)}"


def _text(_path: Path, value: Any, _context: Mapping[str, Any]) -> str:
    hint = f'write "{quoted(value)}" in quotes if it is meant' if _scalar(value) else "write a text"
    return f"{_kind(value)} where a text is meant; {hint}"


def _whole(_path: Path, value: Any, _context: Mapping[str, Any]) -> str:
    hint = value if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value) else "a number as 3"
    return f"{_kind(value)} where a whole number is meant; write {hint}"


def _boolean(_path: Path, value: Any, _context: Mapping[str, Any]) -> str:
    yes = str(value).lower() in ("yes", "on", "y", "true", "1")
    hint = "true" if yes else "true or false"
    return (
        f"{_kind(value)} where true or false is meant (yes and no are plain text in YAML 1.2); write {hint}"
    )


def _mapping(path: Path, value: Any, keys: tuple[str, ...], examples: Mapping[str, str]) -> str:
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    example = examples.get(key, f"keys as {', '.join(keys[:4])}" if keys else "name: value")
    return f"{key and f'{key}: '}{_kind(value)} where keys with values are meant; write {example}"


def _list(path: Path, value: Any, _context: Mapping[str, Any]) -> str:
    if isinstance(value, str) and len(value) < 40:
        return f"{_kind(value)} where a list is meant; write [{value}]"
    return f"{_kind(value)} where a list is meant; write {_EXAMPLES.get(str(path[-1]), '[…]')}"


def _too_few(path: Path, _value: Any, _context: Mapping[str, Any]) -> str:
    return f"nothing is listed; write {_EXAMPLES.get(str(path[-1]), 'at least one')}"


def _too_many(_path: Path, _value: Any, context: Mapping[str, Any]) -> str:
    return f"more than {context.get('max_length')} are listed; split the scenario"


def _low(_path: Path, value: Any, context: Mapping[str, Any]) -> str:
    return f"{quoted(value)} is too small; {context.get('ge')} is the least"


def _high(_path: Path, value: Any, context: Mapping[str, Any]) -> str:
    return f"{quoted(value)} is too large; {context.get('le')} is the most"


def _empty_text(_path: Path, _value: Any, _context: Mapping[str, Any]) -> str:
    return "an empty text; write one, or leave the key out"


def _pattern(_path: Path, value: Any, _context: Mapping[str, Any]) -> str:
    return f"{quoted(value)} is no instance id; write one as i-0123456789abcdef0"


def _own(_path: Path, _value: Any, context: Mapping[str, Any]) -> str:
    return str(context["message"])


def _other(_path: Path, value: Any, _context: Mapping[str, Any]) -> str:
    return f"{_kind(value)} can't stand here; see drtest schema"


_MESSAGES: Mapping[str, Callable[[Path, Any, Mapping[str, Any]], str]] = {
    "enum": _word,
    "literal_error": _word,
    "string_type": _text,
    "int_type": _whole,
    "bool_type": _boolean,
    "tuple_type": _list,
    "too_short": _too_few,
    "too_long": _too_many,
    "greater_than_equal": _low,
    "less_than_equal": _high,
    "string_too_short": _empty_text,
    "string_pattern_mismatch": _pattern,
    "drtest": _own,
}
_MAPPINGS = frozenset({"model_type", "model_attributes_type", "mapping_type", "dict_type"})


def keys_at(path: Path, *, model: type[BaseModel] = Scenario) -> tuple[str, ...]:
    """The keys that can stand at a place of a file; none where the names are the user's own."""
    place: Any = model
    for part in path:
        if isinstance(place, type) and issubclass(place, BaseModel):
            fields = {field.alias or name: field.annotation for name, field in place.model_fields.items()}
            place = fields.get(str(part))
        else:
            place = _inside(place)
        place = _bare(place)
    if isinstance(place, type) and issubclass(place, BaseModel):
        return tuple(field.alias or name for name, field in place.model_fields.items())
    return ()


def _bare(annotation: Any) -> Any:
    """An annotation without its ``| None``."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return parts[0] if type(None) in get_args(annotation) and len(parts) == 1 else annotation


def _inside(annotation: Any) -> Any:
    """What a list's items or a mapping's values are."""
    parts = [part for part in get_args(annotation) if part is not Ellipsis]
    return parts[-1] if parts else None


def _scalar(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "keys with values"
    if isinstance(value, list):
        return "a list"
    return f"the text {quoted(value)}" if isinstance(value, str) else quoted(value)
