"""The stand-in's formats against other readers of them: a registry library, the probes themselves, sfdisk."""

import contextlib
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path
from typing import Any

import pytest
import regipy.recovery
import regipy.registry
from hypothesis import given, settings
from hypothesis import strategies as st

from drtest.guest.probes import found, record
from drtest.lab.standin import canary, hashes, hive, ntfs, regf, registry, table
from drtest.lab.standin.marvin import marvin32
from tests.guest import ntfs_bytes
from tests.lab.standin import write_hashes
from tests.lab.standin.power_cuts import Write, cuts, written
from tests.lab.standin.test_hive_cuts import FILES, HIVE, LOG, SEEN, STEPS, loaded, states

SERIES, VOLUME = "0123456789abcdef" * 2, "vol-0123456789abcdef0"


def test_the_hashes_are_those_of_the_probes_as_they_are() -> None:
    assert write_hashes.FILE.read_text() == write_hashes.text(), (
        "run python -m tests.lab.standin.write_hashes"
    )
    assert set(hashes.HASHES) == {f"windows_{name}" for name in write_hashes.NAMES}


@pytest.mark.parametrize("name", registry.NAMES)
def test_a_registry_library_reads_the_hives(name: str, tmp_path: Path) -> None:
    registry.install(tmp_path, now=1_800_000_000.0)
    library: Any = regipy.registry
    opened = library.RegistryHive(str(tmp_path / registry.FOLDER / name))
    keys = {key.path for key in opened.recurse_subkeys(as_json=True)}
    expected = {"SYSTEM": "\\ControlSet001\\Services\\WinRM", "SOFTWARE": "\\Microsoft\\Cryptography"}
    assert expected.get(name, "\\") in keys
    assert opened.header.primary_sequence_num == opened.header.secondary_sequence_num


def test_a_registry_library_recovers_from_the_log_what_we_recover(tmp_path: Path) -> None:
    sure = next(sure for _, sure, _ in cuts(FILES, STEPS) if loaded(sure).recovered)
    for name in (HIVE, LOG):
        (tmp_path / name).write_bytes(sure[name])
    library: Any = regipy.recovery
    restored, pages = library.apply_transaction_logs(
        str(tmp_path / HIVE), str(tmp_path / LOG), restored_hive_path=str(tmp_path / "restored")
    )
    assert pages == 2
    assert states(regf.decode(Path(restored).read_bytes()[regf.BASE :])) == states(loaded(sure).root)


@pytest.mark.parametrize(
    ("data", "expected"),
    [("", 0x30ED35C100CD3C7D), ("AF", 0x48E73FC77D75DDC1), ("8642DC59", 0x7008F2E87E9CF556),
     ("AB427EA8D10FC7", 0xE11847E4F0678C41)],
)  # fmt: skip
def test_marvin32_gives_what_its_authors_publish(data: str, expected: int) -> None:
    """Of the test vectors in .NET's sources (MarvinTests)."""
    assert marvin32(bytes.fromhex(data), seed=0x004FB61A001BDBCC) == expected


def test_an_entry_of_the_log_that_is_older_than_the_hive_is_not_applied() -> None:
    """The log of the write before: its entry is whole, and would take the hive back."""
    states_ = [(sure, loaded(sure)) for _, sure, _ in cuts(FILES, STEPS) if loaded(sure).recovered]
    (early, _), (late, _) = states_[0], states_[-1]
    with pytest.raises(regf.HiveError, match="its log is not of that time"):
        loaded({HIVE: late[HIVE], LOG: early[LOG]})


def test_a_record_is_byte_for_byte_that_of_the_probes() -> None:
    ours = canary.Record(place=5, n=11, time_ns=1_795_550_000_123_456_789, series=SERIES, volume=VOLUME)
    theirs = record.Record(record.IN_PLACE, 5, 11, 1_795_550_000_123_456_789, SERIES, VOLUME)
    assert ours.encode() == record.encode(theirs)
    assert canary.decode(record.encode(theirs)) == ours


def test_a_canary_is_found_as_the_probes_find_it(tmp_path: Path) -> None:
    """Whole, torn, of another volume, at another place, of another load, and never written."""

    def one(at: int, **how: Any) -> bytes:
        given = {"place": at, "n": 2 * at, "time_ns": 1000 + at, "series": SERIES, "volume": VOLUME}
        return canary.Record(**{**given, **how}).encode()

    sectors = [one(0), one(1), one(2)[:256] + bytes(256), one(3, volume="vol-0other"), one(4, place=9),
               one(5, series="f" * 32), bytes(512), one(7)]  # fmt: skip
    folder = tmp_path / ".drtest-canary"
    folder.mkdir()
    (folder / canary.FILE).write_bytes(b"".join(sectors))
    theirs = found.look(str(tmp_path), "/.drtest-canary", VOLUME, SERIES)
    for inside, volume, series in (("/.drtest-canary", VOLUME, SERIES), ("", "", "")):
        ours = canary.find(tmp_path, inside=inside, volume=volume, series=series)
        flat = {"records", "stale"}
        for name in (
            "present",
            "torn",
            "torn_count",
            "foreign",
            "foreign_count",
            "last_time_ns",
            "capacity",
            "series",
        ):
            assert ours[name] == theirs[name], name
        for name in flat:
            assert ours[name] == [number for pair in theirs[name] for number in pair], name
        assert (ours["records"], ours["torn"], ours["foreign"], ours["stale"]) == (
            [0, 1, 7, 7],
            [2],
            [3, 4],
            [5, 5],
        )


def test_a_canary_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    there = canary.find(tmp_path, inside="/.drtest-canary", volume=VOLUME, series=SERIES)
    assert (there["present"], there["reason"]) == (False, "records.bin is not there")


@pytest.mark.parametrize(
    ("how", "flags", "clean"),
    [({"log": ntfs_bytes.IN_USE}, 0, False), ({"log": ntfs_bytes.CLOSED}, 0, True), ({"blank_log": True}, 0, True),
     ({"flags": 1}, 1, True), ({"log": ntfs_bytes.IN_USE, "clients": 0xFFFF}, 0, True)],
)  # fmt: skip
def test_the_bytes_of_a_volume_say_whether_it_is_open(
    how: dict[str, Any], flags: int, clean: bool, tmp_path: Path
) -> None:
    path = tmp_path / "volume"
    path.write_bytes(ntfs_bytes.volume(**how))
    look = ntfs.look(str(path))
    assert look is not None
    assert (look.serial, look.flags, look.log_clean) == (f"{ntfs_bytes.SERIAL:016X}", flags, clean)


def test_a_torn_structure_is_told_and_nothing_else_said(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    path.write_bytes(ntfs_bytes.volume(torn=True))
    look = ntfs.look(str(path))
    assert look is not None
    assert (look.flags, look.log_clean, look.problem) == (None, None, "a structure of it is torn")


@given(
    places=st.lists(
        st.tuples(st.integers(0, ntfs_bytes.SIZE - 4), st.binary(min_size=4, max_size=4)), max_size=6
    )
)
@settings(max_examples=300, deadline=None)
def test_whatever_lies_on_a_volume_looking_at_it_does_no_harm(places: list[tuple[int, bytes]]) -> None:
    data = bytearray(ntfs_bytes.volume())
    for place, spoiled in places:
        # Most of it is zeros: what is read lies in the first 24 KiB and in the log.
        place %= 24 * 1024
        data[place : place + 4] = spoiled
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        look = ntfs.look(file.name)
        assert look is None or look.problem or look.log_clean in (True, False, None)
        with contextlib.suppress(ntfs.NtfsError):
            ntfs.open_log(file.name)


def test_no_ntfs_is_none(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    path.write_bytes(bytes(65536))
    assert ntfs.look(str(path)) is None


def test_the_table_of_a_blank_disk_is_one_that_sfdisk_reads(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    made = table.write(str(disk))
    assert disk.stat().st_size == 64 << 20
    told = subprocess.run(["sfdisk", "--dump", str(disk)], check=True, capture_output=True, text=True).stdout
    checked = subprocess.run(["sfdisk", "--verify", str(disk)], check=False, capture_output=True, text=True)
    read = table.read(str(disk))
    assert "label: gpt" in told
    assert f"label-id: {read.guid}".lower() in told.lower()
    assert str(table.BASIC_DATA).upper() in told
    assert (read.style, read.partitions) == (table.GPT, (made,))
    assert checked.returncode == 0, checked.stderr


def test_a_hive_that_grows_too_large_says_so_and_stays_as_it_was() -> None:
    one = loaded(FILES)
    one.root.values["Large"] = (regf.BINARY, bytes(3000))
    with pytest.raises(regf.HiveError, match="full"):
        one.flush(now=9)
    assert one.base.primary == one.base.secondary


def test_a_base_block_with_a_wrong_checksum_is_none() -> None:
    data = bytearray(FILES[HIVE])
    data[12] ^= 1
    with pytest.raises(regf.HiveError, match="checksum"):
        loaded({**FILES, HIVE: bytes(data)})
    assert zlib.crc32(FILES[HIVE]) != zlib.crc32(data)


def test_all_states_of_a_hive_have_their_cells_elsewhere() -> None:
    """What a mixture of two of them is known by."""
    layouts = set()
    for _, sure, unsure in cuts(FILES, STEPS):
        state = written(sure, [one for one in unsure if isinstance(one, Write)])
        if not loaded(state).recovered:
            place = struct.unpack_from("<i", state[HIVE], regf.BASE + regf.ROOT)[0]
            layouts.add(struct.unpack_from("<i", state[HIVE], regf.BASE + regf.ROOT - place)[0])
    assert len(layouts) == len(SEEN)
    assert hive.GAPS > 50
