"""Times as Windows has them, and as evidence has them."""

from datetime import UTC, datetime

_EPOCH = 116_444_736_000_000_000
"""1970, as FILETIME: units of 100 ns since 1601 (MS-DTYP 2.3.3)."""


def filetime(seconds: float) -> int:
    """A time in seconds since 1970, as FILETIME."""
    return _EPOCH + int(seconds * 10_000_000)


def iso(seconds: float) -> str:
    """A time in seconds since 1970, as evidence has it: UTC, microseconds, Z.

    >>> iso(0.5)
    '1970-01-01T00:00:00.500000Z'
    """
    at = datetime.fromtimestamp(seconds, UTC)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
