"""How mistakes show what was written, and guess at what was meant."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

_LONGEST_QUOTE = 40


def quoted(value: object) -> str:
    """A value as an error message shows it: quoted, on one line, cut where it is long."""
    text = repr(value) if isinstance(value, str) else str(value)
    if isinstance(value, bool):
        text = str(value).lower()
    return text if len(text) <= _LONGEST_QUOTE else f"{text[: _LONGEST_QUOTE - 1]}…"


def printable(text: str) -> str:
    """A text on one line, without characters that do something to a terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def nearest(word: str, options: Iterable[str]) -> str | None:
    """The option that was probably meant, whatever its case; None if none is near."""
    by_lower = {option.lower(): option for option in options}
    close = get_close_matches(word[:100].lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def meant(word: str, options: Collection[str]) -> str:
    """The second half of a mistake about an unknown word: the nearest right one, or all there are."""
    if near := nearest(word, options):
        return f"did you mean {near}?"
    return f"write one of: {', '.join(options)}" if options else "leave it out"
