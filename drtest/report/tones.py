"""The three things that can be said of a backup, each with its words, sign and colour.

Whether a backup is usable and whether that was expected are two things, and never share a sign.
"""

from enum import StrEnum

from drtest.words import UNUSABLE, USABLE, Verdict


class Tone(StrEnum):
    """What a box says of its backups."""

    USABLE = "usable"
    UNUSABLE = "unusable"
    UNKNOWN = "unknown"


HEADLINES = {Tone.USABLE: "Recoverable", Tone.UNUSABLE: "Not recoverable", Tone.UNKNOWN: "Not known"}
SIGNS = {Tone.USABLE: "✓", Tone.UNUSABLE: "✕", Tone.UNKNOWN: "?"}
COLOURS = {Tone.USABLE: "\x1b[32m", Tone.UNUSABLE: "\x1b[1;31m", Tone.UNKNOWN: "\x1b[33m"}
PLAIN = "\x1b[0m"


def tone_of(verdict: Verdict) -> Tone:
    """What one verdict says of its backup."""
    if verdict in USABLE:
        return Tone.USABLE
    return Tone.UNUSABLE if verdict in UNUSABLE else Tone.UNKNOWN
