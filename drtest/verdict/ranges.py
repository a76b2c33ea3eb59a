"""Sets of whole numbers as inclusive ranges: canary records are counted in these, never one by one."""

from collections.abc import Iterable
from typing import Self

Range = tuple[int, int]


class Ranges:
    """A set of whole numbers, kept as sorted, disjoint, inclusive ranges.

    Its cost is that of the number of ranges, whatever they span: evidence comes from guests, and a range that
    claims 10^18 records must not take the runner down.
    """

    __slots__ = ("spans",)

    def __init__(self, spans: Iterable[Range] = ()) -> None:
        merged: list[Range] = []
        for first, last in sorted(span for span in spans if span[0] <= span[1]):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], last))
            else:
                merged.append((first, last))
        self.spans: tuple[Range, ...] = tuple(merged)

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Self:
        """The set of these numbers."""
        return cls((number, number) for number in numbers)

    @property
    def count(self) -> int:
        """How many numbers it holds (no ``len``, which can't count past 2^63)."""
        return sum(last - first + 1 for first, last in self.spans)

    def __bool__(self) -> bool:
        return bool(self.spans)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self.spans == other.spans

    def __hash__(self) -> int:
        return hash(self.spans)

    def __repr__(self) -> str:
        return f"Ranges({list(self.spans)})"

    def __or__(self, other: "Ranges") -> "Ranges":
        return Ranges((*self.spans, *other.spans))

    def __sub__(self, other: "Ranges") -> "Ranges":
        left: list[Range] = []
        holes = iter(other.spans)
        hole = next(holes, None)
        for first, last in self.spans:
            start = first
            while hole is not None and hole[1] < start:
                hole = next(holes, None)
            while hole is not None and hole[0] <= last:
                left.append((start, hole[0] - 1))  # none at all where the hole begins here: left out below
                start = hole[1] + 1
                if hole[1] > last:
                    break
                hole = next(holes, None)
            if start <= last:
                left.append((start, last))
        return Ranges(left)

    def __and__(self, other: "Ranges") -> "Ranges":
        return self - (self - other)

    @property
    def first(self) -> int | None:
        """The smallest number; None of an empty set."""
        return self.spans[0][0] if self.spans else None

    @property
    def last(self) -> int | None:
        """The largest number; None of an empty set."""
        return self.spans[-1][1] if self.spans else None

    def below(self, end: int) -> "Ranges":
        """Those smaller than ``end``."""
        return Ranges((first, min(last, end - 1)) for first, last in self.spans if first < end)

    def gaps(self) -> "Ranges":
        """What is missing from 0 up to the largest number: empty where the set is a whole beginning."""
        return Ranges() if self.last is None else Ranges([(0, self.last)]) - self

    def words(self, most: int = 4) -> str:
        """As a person writes it: ``480-491, 495``; at most so many ranges, then how many more."""
        shown = [
            str(first) if first == last else f"{first}\N{EN DASH}{last}" for first, last in self.spans[:most]
        ]
        more = len(self.spans) - most
        return ", ".join(shown) + (f" and {more} more range{'s' if more > 1 else ''}" if more > 0 else "")
