"""Numbers and a guest's words as sentences have them."""

import pytest

from drtest.verdict.kernel import named, names_of, volume_of
from drtest.verdict.wording import MOST_QUOTED, counted, duration, listed, plain, quoted


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0.00 s"),
        (0.314, "0.31 s"),
        (2.5, "2.5 s"),
        (14.2, "14 s"),
        (119.4, "119 s"),
        (125.0, "2 min 5 s"),
        (1800.0, "30 min"),
        (12_000.0, "3 h 20 min"),
        (86_400.0, "24 h"),
        (40 * 86_400.0, "40.0 days"),
    ],
)
def test_a_length_of_time_reads_well_at_any_length(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_things_are_counted() -> None:
    assert [counted(n, "record") for n in (0, 1, 2)] == ["0 records", "1 record", "2 records"]
    assert counted(2, "log replay", "log replays") == "2 log replays"


def test_a_long_list_is_cut() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_a_guests_words_become_one_tame_line() -> None:
    assert plain("one\r\n\ttwo\x1b[31m \u202ethree\x00") == "one two [31m three"
    assert plain("x" * 10**6) == "x" * MOST_QUOTED + "…"
    assert quoted("say") == "\N{LEFT DOUBLE QUOTATION MARK}say\N{RIGHT DOUBLE QUOTATION MARK}"


@pytest.mark.parametrize(
    ("device", "names"),
    [
        ("/dev/nvme1n1p2", ("nvme1n1p2", "nvme1n1")),
        ("/dev/nvme1n1", ("nvme1n1",)),
        ("/dev/xvda1", ("xvda1", "xvda")),
        ("/dev/sdf", ("sdf",)),
        ("/dev/nvme1n1[/subvolume]", ("nvme1n1",)),
        ("", ()),
    ],
)
def test_the_kernel_knows_a_device_by_its_own_and_its_disks_name(device: str, names: tuple[str, ...]) -> None:
    assert names_of(device) == names


def test_a_line_belongs_to_the_device_that_it_names_and_not_to_one_alike() -> None:
    assert named("EXT4-fs (nvme1n1p2): recovery complete", "/dev/nvme1n1p2")
    assert not named("EXT4-fs (nvme1n1p21): recovery complete", "/dev/nvme1n1p2")
    assert not named("EXT4-fs (nvme1n10): recovery complete", "/dev/nvme1n1")
    devices = {"/dev/nvme0n1p2": "root", "/dev/nvme1n1": "data"}
    assert volume_of("XFS (nvme1n1): Ending recovery", devices=devices, otherwise="root") == "data"
    assert volume_of("something else", devices=devices, otherwise="root") == "root"
