"""How numbers, times and a guest's own words are said in a sentence."""

import unicodedata

MOST_QUOTED = 160
"""Characters of a guest's line that a sentence quotes."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 record``, ``497 records``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """A length of time: ``0.31 s``, ``14 s``, ``2 min 5 s``, ``3 h 20 min``."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    return f"{seconds / 86400:.1f} days"


def listed(items: tuple[str, ...] | list[str], most: int = 3) -> str:
    """``a, b, c and 4 more``; the items come from guests, so each is made `plain`."""
    shown = ", ".join(plain(item) for item in items[:most])
    more = len(items) - most
    return f"{shown} and {more} more" if more > 0 else shown


def plain(text: str) -> str:
    """A guest's words in one line, without control characters, cut where they get long."""
    words = " ".join("".join(c if unicodedata.category(c)[0] != "C" else " " for c in text[:4096]).split())
    return words if len(words) <= MOST_QUOTED else f"{words[:MOST_QUOTED]}…"


def quoted(text: str) -> str:
    """A guest's words as a quotation."""
    return f"\N{LEFT DOUBLE QUOTATION MARK}{plain(text)}\N{RIGHT DOUBLE QUOTATION MARK}"
