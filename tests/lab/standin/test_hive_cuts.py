"""A hive survives any power cut, and is refused after a disk that only said that it had flushed."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drtest.lab.standin import hive, regf
from drtest.lab.standin.regf import HiveError, Key
from tests.lab.standin.power_cuts import Files, Recorded, Step, Write, cuts, pooled, subsets, written

SIZE, ITEMS = 8192, 90
HIVE, LOG = "SYSTEM", "SYSTEM.LOG1"


def content() -> Key:
    root = Key()
    root.at("Select").values["Current"] = regf.number(1)
    values = root.at("ControlSet001\\Services\\bam").values
    for item in range(ITEMS):
        values[f"Item{item:02}"] = (regf.BINARY, struct.pack("<QQQ", 0, 0, item))
    return root


def change(root: Key, time: int) -> None:
    root.at("ControlSet001\\Services\\bam").values[f"Item{time % ITEMS:02}"] = (
        regf.BINARY,
        struct.pack("<Q", time) * 3,
    )


def states(root: Key) -> object:
    """A key as something that can be compared and kept."""
    return (tuple(root.values.items()), tuple((name, states(key)) for name, key in sorted(root.keys.items())))


def recorded(times: int) -> tuple[Files, list[Step], list[object]]:
    """A hive written so many times: the files before, all steps, and what was in it at each time."""
    files = {
        HIVE: hive.new("SYSTEM", content(), size=SIZE, written=1),
        LOG: bytes(hive.log_size(SIZE)),
    }
    steps: list[Step] = []
    one = hive.load(Recorded(HIVE, files[HIVE], steps), Recorded(LOG, files[LOG], steps))
    seen = [states(one.root)]
    for time in range(1, times + 1):
        change(one.root, time)
        one.flush(now=time)
        seen.append(states(one.root))
    return files, steps, seen


def loaded(files: Files, steps: list[Step] | None = None) -> hive.Hive:
    steps = [] if steps is None else steps
    return hive.load(Recorded(HIVE, files[HIVE], steps), Recorded(LOG, files[LOG], steps))


FILES, STEPS, SEEN = recorded(3)
WRITES = [step for step in STEPS if isinstance(step, Write)]


def finished(moment: int) -> int:
    """How many times the hive had been written to its end by then."""
    return sum(
        1
        for number in range(len(STEPS))
        if number < moment and number % (len(STEPS) // 3) == len(STEPS) // 3 - 1
    )


def test_a_power_cut_at_any_moment_leaves_the_state_before_or_after() -> None:
    """Every prefix of the steps, and every part of what was not flushed yet, page by page."""
    tried = 0
    for moment, sure, unsure in cuts(FILES, STEPS):
        done = finished(moment)
        for part in subsets(unsure):
            found = states(loaded(written(sure, part)).root)
            assert found in SEEN[done : done + 2], (moment, part)
            tried += 1
    assert tried > 60


@given(moment=st.integers(0, len(STEPS)), chosen=st.sets(st.integers(0, 63)))
@settings(max_examples=300, deadline=None)
def test_sectors_that_are_there_by_themselves_do_no_harm_either(moment: int, chosen: set[int]) -> None:
    _, sure, unsure = list(cuts(FILES, STEPS))[moment]
    pieces = [piece for one in unsure for piece in one.pieces(512)]
    part = [piece for number, piece in enumerate(pieces) if number in chosen]
    assert states(loaded(written(sure, part)).root) in SEEN[finished(moment) : finished(moment) + 2]


def test_a_recovery_that_is_cut_short_itself_can_be_done_again() -> None:
    dirty = [(sure, unsure) for _, sure, unsure in cuts(FILES, STEPS) if loaded(sure).recovered]
    assert dirty
    for sure, unsure in dirty:
        for part in subsets(unsure):
            state = written(sure, part)
            steps: list[Step] = []
            whole = states(loaded(state, steps).root)
            for _, again, rest in cuts(state, steps):
                for piece in subsets(rest):
                    assert states(loaded(written(again, piece)).root) == whole


def test_a_recovered_hive_is_clean_on_the_disk() -> None:
    sure = next(sure for _, sure, _ in cuts(FILES, STEPS) if loaded(sure).recovered)
    steps: list[Step] = []
    first = loaded(sure, steps)
    after = written(sure, [step for step in steps if isinstance(step, Write)])
    again = loaded(after)
    assert (first.recovered, again.recovered) == (True, False)
    assert states(again.root) == states(first.root)
    assert again.base.primary == again.base.secondary == first.base.primary


LONG_FILES, LONG_STEPS, LONG_SEEN = recorded(50)


def test_a_disk_that_only_says_that_it_flushed_leaves_a_hive_that_is_refused_or_an_old_one() -> None:
    """Most are refused; what is taken is a state that the hive once had, never a mixture."""
    refused = old = 0
    for seed in range(300):
        state = pooled(LONG_FILES, LONG_STEPS, seed=seed, longest=200)
        try:
            found = states(loaded(state).root)
        except HiveError:
            refused += 1
            continue
        assert found in LONG_SEEN
        old += found != LONG_SEEN[-1]
    assert refused > 200, (refused, old)


@pytest.mark.parametrize("name", [HIVE, LOG])
@pytest.mark.parametrize("place", [0, 4, 508, 512, 520, 4096, 4100, 4200, 9000])
def test_a_flipped_byte_is_never_taken_for_what_was_written(name: str, place: int) -> None:
    """In a hive that is dirty, so that its log counts as well."""
    sure = next(sure for _, sure, _ in cuts(FILES, STEPS) if loaded(sure).recovered)
    data = bytearray(sure[name])
    data[place] ^= 0x40
    try:
        found = loaded({**sure, name: bytes(data)})
    except HiveError:
        return
    assert states(found.root) in SEEN


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_lies_there_it_is_a_hive_or_refused(data: st.DataObject) -> None:
    """Pages of any time, bytes of any kind: nothing but a refusal comes of it."""
    state = pooled(LONG_FILES, LONG_STEPS, seed=data.draw(st.integers(0, 9999)), longest=40)
    for name in (HIVE, LOG):
        spoiled = bytearray(state[name])
        for place in data.draw(st.lists(st.integers(0, len(spoiled) - 4), max_size=3)):
            spoiled[place : place + 4] = data.draw(st.binary(min_size=4, max_size=4))
        state = {**state, name: bytes(spoiled)}
    try:
        loaded(state)
    except HiveError:
        return
