"""Arithmetic on ranges of record numbers: a canary of any length in a few numbers."""

from collections.abc import Iterable

from drtest.guest.probes import record

Ranges = tuple[tuple[int, int], ...]
"""Inclusive ranges of numbers, ascending, that neither touch nor overlap."""


def to_ranges(numbers: Iterable[int]) -> Ranges:
    """Numbers in any order, as ranges.

    >>> to_ranges([3, 1, 2, 7])
    ((1, 3), (7, 7))
    """
    return tuple(record.to_ranges(numbers))


def subtract(ranges: Ranges, others: Ranges) -> Ranges:
    """What is in `ranges` and not in `others`.

    >>> subtract(((0, 9),), ((3, 4), (8, 20)))
    ((0, 2), (5, 7))
    """
    left: list[tuple[int, int]] = []
    for first, last in ranges:
        begin = first
        for cut_first, cut_last in others:
            if cut_last < begin or cut_first > last:
                continue
            if cut_first > begin:
                left.append((begin, cut_first - 1))
            begin = max(begin, cut_last + 1)
        if begin <= last:
            left.append((begin, last))
    return tuple(left)


def count(ranges: Ranges) -> int:
    """How many numbers there are in them."""
    return sum(last - first + 1 for first, last in ranges)


def as_lists(ranges: Ranges) -> list[list[int]]:
    """As JSON has them."""
    return [[first, last] for first, last in ranges]
