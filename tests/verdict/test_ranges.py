"""Ranges behave as the sets that they stand for, at the cost of their number and not of their span."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from drtest.verdict.ranges import Ranges

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12)


def members(ranges: Ranges) -> set[int]:
    return {number for first, last in ranges.spans for number in range(first, last + 1)}


@given(SPANS, SPANS, st.integers(-2, 62))
def test_they_are_sets(one: list[tuple[int, int]], other: list[tuple[int, int]], end: int) -> None:
    a, b = Ranges(one), Ranges(other)
    assert members(a - b) == members(a) - members(b)
    assert members(a | b) == members(a) | members(b)
    assert members(a & b) == members(a) & members(b)
    assert a.count == len(members(a))
    assert Ranges.of(members(a)) == a
    assert bool(a) == bool(members(a))
    if members(a):
        assert (a.first, a.last) == (min(members(a)), max(members(a)))
        assert members(a.gaps()) == set(range(max(members(a)))) - members(a)


@given(SPANS)
def test_they_are_kept_sorted_and_disjoint(spans: list[tuple[int, int]]) -> None:
    kept = Ranges(spans).spans
    assert all(first <= last for first, last in kept)
    assert all(one[1] + 1 < two[0] for one, two in pairwise(kept))


def test_they_are_written_as_a_person_writes_them() -> None:
    assert Ranges([(480, 491), (495, 495)]).words() == "480\N{EN DASH}491, 495"
    assert Ranges.of(range(0, 20, 2)).words() == "0, 2, 4, 6 and 6 more ranges"
    assert (Ranges().words(), Ranges().first, Ranges().last, Ranges().gaps()) == ("", None, None, Ranges())


def test_a_range_without_end_costs_nothing() -> None:
    huge = Ranges([(0, 10**40)])
    assert (huge - Ranges([(5, 5)])).count == 10**40
