"""Quantities: what people write is read exactly, and what can't be read names the right spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drtest.scenario import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("90s", 90.0), ("30m", 1800.0), ("2h", 7200.0), ("7d", 604800.0), ("1.5h", 5400.0)],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert units.duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"), [("512MiB", 512 * 2**20), ("1GiB", 2**30), ("2TiB", 2**41), ("0.5KiB", 512)]
)
def test_a_size_is_bytes(text: str, count: int) -> None:
    assert units.size(text) == count


@pytest.mark.parametrize(("text", "per_second"), [("50/s", 50.0), ("0.5/s", 0.5)])
def test_a_rate_is_times_per_second(text: str, per_second: float) -> None:
    assert units.rate(text) == per_second


@pytest.mark.parametrize(
    ("read", "value", "message"),
    [
        (units.duration, 90, "90 has no unit; write 90s if that is meant"),
        (units.duration, 1.5, "1.5 has no unit; write 1.5s if that is meant"),
        (units.duration, "90", "'90' is not a duration; write 500ms, 90s, 30m, 2h or 7d"),
        (units.duration, "30 min", "'30 min' is not how a duration is written; write 30m"),
        (units.duration, "2 hours", "'2 hours' is not how a duration is written; write 2h"),
        (units.duration, "10S", "'10S' is not how a duration is written; write 10s"),
        (units.duration, "1,5h", "'1,5h' is not how a duration is written; write 1.5h"),
        (units.duration, "-5s", "'-5s' is not a duration; write 500ms, 90s, 30m, 2h or 7d"),
        (units.duration, "soon", "'soon' is not a duration; write 500ms, 90s, 30m, 2h or 7d"),
        (units.duration, True, "true is not a duration; write 500ms, 90s, 30m, 2h or 7d"),
        (units.size, 1, "1 has no unit; write 1GiB if that is meant"),
        (units.size, "1GB", "'1GB' is in powers of ten, and EBS counts in powers of two; write 1GiB"),
        (units.size, "1G", "'1G' is not how a size is written; write 1GiB"),
        (units.size, "1 gib", "'1 gib' is not how a size is written; write 1GiB"),
        (units.size, "1XB", "'1XB' is not a size; write 512MiB, 1GiB or 2TiB"),
        (units.size, "0.3KiB", "'0.3KiB' is no whole number of bytes; write it in a smaller unit"),
        (units.size, "1" * 16 + "GiB", "'1111111111111111GiB' has too many digits; write 1GiB or the like"),
        (units.rate, 50, "50 has no unit; write 50/s if that is meant"),
        (units.rate, "50 per second", "'50 per second' is not how a rate is written; write 50/s"),
        (units.rate, "50Hz", "'50Hz' is not how a rate is written; write 50/s"),
        (units.rate, "50/m", "'50/m' is not a rate; write 50/s or 0.5/s"),
    ],
)
def test_a_wrong_unit_names_the_right_spelling(read: object, value: object, message: str) -> None:
    assert callable(read)
    with pytest.raises(units.UnitError) as caught:
        read(value)
    assert str(caught.value) == message


@given(st.integers(0, 10**12).map(lambda thousandths: thousandths / 1000))
def test_a_duration_is_written_as_it_is_read(seconds: float) -> None:
    assert units.duration(units.duration_text(seconds)) == seconds


@given(st.integers(0, 10**15 - 1))
def test_a_size_is_written_as_it_is_read(kibibytes: int) -> None:
    assert units.size(units.size_text(kibibytes * 1024)) == kibibytes * 1024


@given(st.integers(0, 10**9).map(lambda thousandths: thousandths / 1000))
def test_a_rate_is_written_as_it_is_read(per_second: float) -> None:
    assert units.rate(units.rate_text(per_second)) == per_second


@given(st.text(max_size=30) | st.integers() | st.floats(allow_nan=True) | st.booleans() | st.none())
def test_whatever_stands_there_is_read_or_refused_in_one_line(value: object) -> None:
    for read in (units.duration, units.size, units.rate):
        try:
            assert read(value) >= 0
        except units.UnitError as error:
            said = str(error)
        else:
            continue
        assert said.isprintable()
        assert "; " in said
