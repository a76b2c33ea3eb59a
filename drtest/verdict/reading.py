"""Reads fields of what a probe sent: typed, or a sentence that says what was there instead."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from drtest.verdict.evidence import Observation
from drtest.verdict.ranges import Ranges

MOST_SHOWN = 80
"""Characters of a malformed value that a sentence quotes."""


class MalformedError(Exception):
    """An observation holds something else than its probe's contract says."""


class Reading:
    """One observation's data, read field by field.

    A field that is absent and one that is null are the same: nothing is known. Each method returns None for
    that, save those whose absence means "none": `texts`, `numbers`, `ranges`, `parts`, and `text`, which gives
    "". A value of another type raises `MalformedError`, and the check that asked becomes UNKNOWN.
    """

    def __init__(self, probe: str, data: Mapping[str, Any], *, evidence: str = "") -> None:
        self.probe = probe
        self.data = data
        self.evidence = evidence

    @classmethod
    def of(cls, observation: Observation) -> "Reading":
        """The data of this observation.

        Raises:
            MalformedError: its data is no mapping.
        """
        if not isinstance(observation.data, Mapping):
            raise MalformedError(f"{observation.probe} sent {_shown(observation.data)}, not an object")
        return cls(observation.probe, observation.data, evidence=observation.id)

    def has(self, field: str) -> bool:
        """Whether the field is there and not null."""
        return self.data.get(field) is not None

    def text(self, field: str) -> str:
        """A string; "" where there is none."""
        value = self.data.get(field)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._wrong(field, value, "text")
        return value.strip()

    def flag(self, field: str) -> bool | None:
        """True or false; None where nothing is known."""
        value = self.data.get(field)
        if value is None or isinstance(value, bool):
            return value
        raise self._wrong(field, value, "true or false")

    def whole(self, field: str) -> int | None:
        """A whole number; None where nothing is known."""
        value = self.data.get(field)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(field, value, "a whole number")
        return value

    def number(self, field: str) -> float | None:
        """A finite number; None where nothing is known."""
        value = self.data.get(field)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(field, value, "a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self._wrong(field, value, "a finite number")
        return number

    def moment(self, field: str) -> datetime | None:
        """A time in UTC; None where nothing is known."""
        text = self.text(field)
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        except (ValueError, OverflowError):
            raise self._wrong(field, text, "an ISO 8601 time") from None

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of strings."""
        values = self._list(field)
        if not all(isinstance(value, str) for value in values):
            raise self._wrong(field, values, "a list of texts")
        return tuple(values)

    def numbers(self, field: str) -> Ranges:
        """A list of whole numbers, as a set."""
        values = self._list(field)
        if not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            raise self._wrong(field, values, "a list of whole numbers")
        return Ranges.of(values)

    def ranges(self, field: str) -> Ranges:
        """A list of inclusive ranges ``[first, last]`` of numbers from 0 up."""
        values = self._list(field)
        for value in values:
            pair = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
            if not pair or not all(isinstance(end, int) and not isinstance(end, bool) for end in value):
                raise self._wrong(field, value, "ranges [first, last]")
            if not 0 <= value[0] <= value[1]:
                raise self._wrong(field, value, "ranges [first, last] with 0 <= first <= last")
        return Ranges((first, last) for first, last in values)

    def parts(self, field: str) -> tuple["Reading", ...]:
        """A list of objects."""
        values = self._list(field)
        if not all(isinstance(value, Mapping) for value in values):
            raise self._wrong(field, values, "a list of objects")
        return tuple(Reading(f"{self.probe}.{field}", value, evidence=self.evidence) for value in values)

    def part(self, field: str) -> "Reading | None":
        """An object; None where there is none."""
        value = self.data.get(field)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self._wrong(field, value, "an object")
        return Reading(f"{self.probe}.{field}", value, evidence=self.evidence)

    def _list(self, field: str) -> Sequence[Any]:
        value = self.data.get(field)
        if value is None:
            return ()
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise self._wrong(field, value, "a list")
        return value

    def _wrong(self, field: str, value: object, meant: str) -> MalformedError:
        return MalformedError(f"{self.probe} sent {_shown(value)} as {field}, where {meant} belongs")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python turns into text
        return "a number without end"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
