"""Quantities as people write them: durations ``90s``, sizes ``1GiB``, rates ``50/s``."""

import re
from decimal import Decimal
from typing import NamedTuple

from drtest.scenario.spelling import quoted

SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
"""Seconds in each unit of a duration."""

BYTES = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
"""Bytes in each unit of a size: binary only, as EBS counts volumes in GiB."""

NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
DURATION_PATTERN = rf"^{NUMBER}(?:ms|s|m|h|d)$"
SIZE_PATTERN = rf"^{NUMBER}(?:KiB|MiB|GiB|TiB)$"
RATE_PATTERN = rf"^{NUMBER}/s$"

_PARTS = re.compile(r"\s*([0-9]+(?:[.,][0-9]+)?)\s*(.*?)\s*", re.DOTALL)
_DURATION_WORDS = {
    "s": ("sec", "secs", "second", "seconds"),
    "m": ("min", "mins", "minute", "minutes"),
    "h": ("hr", "hrs", "hour", "hours"),
    "d": ("day", "days"),
    "ms": ("msec", "millisecond", "milliseconds"),
}


class UnitError(ValueError):
    """A quantity that can't be read; its message says what is wrong and how it is written."""


class _Kind(NamedTuple):
    noun: str
    unit: str
    example: str
    spellings: str


_DURATION = _Kind("a duration", "s", "90s", "500ms, 90s, 30m, 2h or 7d")
_SIZE = _Kind("a size", "GiB", "1GiB", "512MiB, 1GiB or 2TiB")
_RATE = _Kind("a rate", "/s", "50/s", "50/s or 0.5/s")


def duration(value: object) -> float:
    """Seconds from ``500ms``, ``90s``, ``30m``, ``2h`` or ``7d``.

    Raises:
        UnitError: it is written in another way.
    """
    text = _text(value, _DURATION)
    if re.fullmatch(DURATION_PATTERN, text):
        number, unit = _split(text)
        return float(Decimal(number) * SECONDS[unit])
    number, unit = _split(text)
    meant = next((right for right, words in _DURATION_WORDS.items() if unit.lower() in (right, *words)), None)
    raise _wrong(text, _DURATION, number, meant)


def size(value: object) -> int:
    """Bytes from ``512MiB``, ``1GiB`` or ``2TiB``.

    Decimal units are refused: EBS counts volumes in GiB, and a ``GB`` that means one in one tool and the
    other in the next has cost people disks.

    Raises:
        UnitError: it is written in another way, or is no whole number of bytes.
    """
    text = _text(value, _SIZE)
    number, unit = _split(text)
    if re.fullmatch(SIZE_PATTERN, text):
        count = Decimal(number) * BYTES[unit]
        if count != int(count):
            raise UnitError(f"{quoted(text)} is no whole number of bytes; write it in a smaller unit")
        return int(count)
    letter = unit[:1].upper()
    meant = f"{letter}iB" if letter and letter in "KMGT" and unit.upper() in _size_words(letter) else None
    if unit.upper() == f"{letter}B" and meant:
        raise UnitError(
            f"{quoted(text)} is in powers of ten, and EBS counts in powers of two; write {number}{meant}"
        )
    raise _wrong(text, _SIZE, number, meant)


def rate(value: object) -> float:
    """Times per second from ``50/s``.

    Raises:
        UnitError: it is written in another way.
    """
    text = _text(value, _RATE)
    number, unit = _split(text)
    if re.fullmatch(RATE_PATTERN, text):
        return float(Decimal(number))
    per_second = unit.lower().replace(" ", "") in ("/s", "ps", "/sec", "/second", "persecond", "hz", "s")
    raise _wrong(text, _RATE, number, "/s" if per_second else None)


def duration_text(seconds: float) -> str:
    """The spelling of a duration that `duration` reads back to the same number."""
    exact = Decimal(repr(float(seconds)))
    for unit in ("d", "h", "m"):
        if exact and exact % SECONDS[unit] == 0:
            return f"{int(exact / SECONDS[unit])}{unit}"
    return f"{_plain(exact)}s"


def size_text(count: int) -> str:
    """The spelling of a size that `size` reads back to the same number."""
    for unit in ("TiB", "GiB", "MiB"):
        if count and count % BYTES[unit] == 0:
            return f"{count // BYTES[unit]}{unit}"
    return f"{_plain(Decimal(count) / BYTES['KiB'])}KiB"


def rate_text(per_second: float) -> str:
    """The spelling of a rate that `rate` reads back to the same number."""
    return f"{_plain(Decimal(repr(float(per_second))))}/s"


def _text(value: object, kind: _Kind) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise UnitError(f"{quoted(value)} has no unit; write {quoted(value)}{kind.unit} if that is meant")
    raise UnitError(f"{quoted(value)} is not {kind.noun}; write {kind.spellings}")


def _split(text: str) -> tuple[str, str]:
    match = _PARTS.fullmatch(text)
    return (match[1].replace(",", "."), match[2]) if match else ("", text)


def _wrong(text: str, kind: _Kind, number: str, unit: str | None) -> UnitError:
    if unit and f"{number}{unit}" == text:
        return UnitError(f"{quoted(text)} has too many digits; write {kind.example} or the like")
    if number and unit:
        return UnitError(f"{quoted(text)} is not how {kind.noun} is written; write {number}{unit}")
    return UnitError(f"{quoted(text)} is not {kind.noun}; write {kind.spellings}")


def _size_words(letter: str) -> tuple[str, ...]:
    return (letter, f"{letter}B", f"{letter}IB", f"{letter}I")


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
