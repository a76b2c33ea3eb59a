"""The values that stand in a scenario file: names, durations, sizes, rates."""

from collections.abc import Callable
from re import fullmatch, sub
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, StrictStr, WithJsonSchema
from pydantic_core import PydanticCustomError

from drtest.scenario import units
from drtest.scenario.spelling import quoted
from drtest.words import ROOT, SET

SLUG_PATTERN = r"^[a-z0-9]+(-[a-z0-9]+)*$"
"""Names go into cell ids, tags and file names: small letters, digits and single dashes."""

LONGEST_NAME = 63
GIB = 2**30
LARGEST_VOLUME = 64 * 2**40
"""64 TiB, the largest gp3 volume."""

_T = TypeVar("_T")


def mistake(message: str) -> PydanticCustomError:
    """A mistake in a value, told in drtest's own words: ``what is wrong; what was meant``."""
    return PydanticCustomError("drtest", "{message}", {"message": message})


def _reader(read: Callable[[object], _T]) -> BeforeValidator:
    def validate(value: object) -> _T:
        try:
            return read(value)
        except units.UnitError as error:
            raise mistake(str(error)) from None

    return BeforeValidator(validate)


def between(low: float, high: float, spelling: Callable[[Any], str]) -> AfterValidator:
    """A check that a number lies in a range; its mistakes spell the range as people write it."""

    def validate(value: float) -> float:
        if not low <= value <= high:
            raise mistake(
                f"{spelling(value)} is out of range; "
                f"write something between {spelling(low)} and {spelling(high)}"
            )
        return value

    return AfterValidator(validate)


def like(pattern: str, example: str) -> AfterValidator:
    """A check that a text matches a pattern whole; its mistakes show an example of one that does."""

    def validate(value: str) -> str:
        if not fullmatch(pattern, value):
            raise mistake(f"{quoted(value)} can't stand here; write it as {example}")
        return value

    return AfterValidator(validate)


def _name(value: str) -> str:
    if len(value) <= LONGEST_NAME and fullmatch(SLUG_PATTERN, value):
        return value
    meant = sub(r"[^a-z0-9]+", "-", value.lower())[:LONGEST_NAME].strip("-")
    raise mistake(
        f"{quoted(value)} can't be a name: small letters, digits and single dashes, "
        f"at most {LONGEST_NAME}; write {meant or 'a name like web-1'}"
    )


def _data_name(value: str) -> str:
    if value in (ROOT, SET):
        why = "the volume that the image brings" if value == ROOT else "all volumes of a server together"
        raise mistake(f"no data volume can be called {value}, which is {why}; write another name, as data")
    return value


def _whole_gib(value: int) -> int:
    if value % GIB or not GIB <= value <= LARGEST_VOLUME:
        meant = min(max(-(-value // GIB) * GIB, GIB), LARGEST_VOLUME)
        raise mistake(
            f"{units.size_text(value)} can't be an EBS volume: whole GiB from 1GiB to 64TiB; "
            f"write {units.size_text(meant)}"
        )
    return value


def _text(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


Name = Annotated[
    StrictStr,
    AfterValidator(_name),
    WithJsonSchema({"type": "string", "pattern": SLUG_PATTERN, "maxLength": LONGEST_NAME}),
]
DataName = Annotated[Name, AfterValidator(_data_name)]
Text = Annotated[StrictStr, Field(min_length=1)]
Seconds = Annotated[
    float,
    _reader(units.duration),
    PlainSerializer(units.duration_text, return_type=str, when_used="json"),
    _text(units.DURATION_PATTERN, "90s"),
]
Bytes = Annotated[
    int,
    _reader(units.size),
    PlainSerializer(units.size_text, return_type=str, when_used="json"),
    _text(units.SIZE_PATTERN, "1GiB"),
]
PerSecond = Annotated[
    float,
    _reader(units.rate),
    PlainSerializer(units.rate_text, return_type=str, when_used="json"),
    _text(units.RATE_PATTERN, "50/s"),
]
Deadline = Annotated[Seconds, between(1, 7 * 86400, units.duration_text)]
Goal = Annotated[Seconds, between(1, 365 * 86400, units.duration_text)]
VolumeSize = Annotated[Bytes, AfterValidator(_whole_gib)]
