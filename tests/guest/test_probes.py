"""The parts of the programs, called as ordinary modules."""

import os
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drtest.guest.probes import btrfs, combine, disks, ext, kernel, mounting, offline, places, prelude, xfs


@pytest.fixture(autouse=True)
def _budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prelude, "_folder", str(tmp_path))
    prelude.begin(60)


def test_a_command_gives_its_output_in_the_c_locale_and_its_exit_code() -> None:
    ran = prelude.run(["sh", "-c", "echo $LC_ALL; echo err >&2; exit 3"], 10)
    assert (ran.exit, ran.output, ran.error) == (3, "C\nerr\n", "")


def test_a_command_that_hangs_is_ended_with_its_children() -> None:
    begun = time.monotonic()
    ran = prelude.run(["sh", "-c", "echo before; sleep 30 & wait"], 0.5)
    assert (ran.exit, ran.output) == (None, "before\n")
    assert "did not end in time" in ran.error
    assert time.monotonic() - begun < 5


def test_a_command_that_is_not_there_says_so() -> None:
    assert prelude.run(["no-such-tool"], 5).error == "no-such-tool is not installed"


def test_a_command_ended_by_a_signal_says_so() -> None:
    ran = prelude.run(["sh", "-c", "kill -9 $$"], 5)
    assert (ran.exit, ran.error) == (None, "sh was ended by signal 9")


def test_output_of_any_length_is_cut_to_its_beginning_and_end() -> None:
    ran = prelude.run(["sh", "-c", "echo first; head -c 5000000 /dev/zero | tr '\\0' x; echo last"], 20)
    assert len(ran.output) < 20_000
    assert ran.output.startswith("first")
    assert ran.output.endswith("last\n")
    assert "bytes left out" in ran.output


def test_a_command_is_ended_once_it_has_said_enough() -> None:
    ran = prelude.run(["sh", "-c", "echo state: found; sleep 30"], 20, until=re.compile("state: f"))
    assert (ran.exit, ran.error) == (None, "")


def test_no_command_is_begun_when_the_budget_is_over() -> None:
    prelude.begin(0)
    assert "no time was left" in prelude.run(["echo"], 5).error


def test_a_child_that_hangs_costs_only_what_it_had_not_yet_said() -> None:
    def hang(hand_over: Callable[[dict[str, Any]], None]) -> None:
        hand_over({"probe": "first"})
        time.sleep(60)

    begun = time.monotonic()
    done = prelude.isolated(hang, 1.0)
    assert (done.documents, done.error) == ([{"probe": "first"}], "it did not end in time")
    assert time.monotonic() - begun < 5


def test_a_command_of_a_child_ends_early_enough_for_the_child_to_say_so() -> None:
    def work(hand_over: Callable[[dict[str, Any]], None]) -> None:
        hand_over({"error": prelude.run(["sleep", "60"], 60).error})

    done = prelude.isolated(work, 5.0)
    assert done == prelude.Isolated([{"error": "sleep did not end in time"}], "")


def test_a_child_that_fails_says_how_after_what_it_saw() -> None:
    def fail(hand_over: Callable[[dict[str, Any]], None]) -> None:
        hand_over({"probe": "first"})
        raise ValueError("broken inside")

    done = prelude.isolated(fail, 5.0)
    assert done.documents == [{"probe": "first"}]
    assert "broken inside" in done.error


def test_a_child_that_is_killed_says_so() -> None:
    assert "from outside" in prelude.isolated(lambda _: os._exit(9), 5.0).error


def test_one_volume_that_hangs_leaves_the_others_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def examine(volume: dict[str, Any], hand_over: Callable[[dict[str, Any]], None]) -> None:
        hand_over(prelude.seen("filesystem.before", "", {"error": ""}, volume["name"]))
        if volume["name"] == "a":
            time.sleep(60)
        for stage in offline.STAGES[1:]:
            hand_over(prelude.seen(stage, "", {"error": ""}, volume["name"]))

    monkeypatch.setattr(offline, "examine", examine)
    prelude.begin(4)
    seen = offline.main(
        {"volumes": [{"name": "a", "canary": {"inside": "x"}}, {"name": "b", "canary": {"inside": "x"}}]}
    )
    errors = {(one["volume"], one["probe"]): one["data"]["error"] for one in seen}
    assert errors["a", "filesystem.before"] == ""
    assert (
        errors["a", "filesystem.check"]
        == errors["a", "canary.found"]
        == "not reached: it did not end in time"
    )
    assert [errors["b", stage] for stage in offline.STAGES] == [""] * 4
    assert "helper.kernel" in {one["probe"] for one in seen}


def _table(path: Path, *entries: tuple[int, int, int], at: int = 0) -> None:
    with path.open("r+b") as file:
        for number, (kind, start, size) in enumerate(entries):
            file.seek(at * 512 + 446 + 16 * number)
            file.write(struct.pack("<B3sB3sII", 0, b"", kind, b"", start, size))
        file.seek(at * 512 + 510)
        file.write(b"\x55\xaa")


def test_logical_partitions_are_found_in_their_chain(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(512 * 20000))
    _table(disk, (0x83, 2048, 1000), (0x05, 4096, 10000))
    _table(disk, (0x83, 100, 500), (0x05, 2000, 3000), at=4096)
    _table(disk, (0x83, 100, 700), at=4096 + 2000)
    found = places.table(str(disk), disk.stat().st_size)
    assert found == [
        places.Partition(1, 2048 * 512, 1000 * 512, "83"),
        places.Partition(5, (4096 + 100) * 512, 500 * 512, "83"),
        places.Partition(6, (4096 + 2000 + 100) * 512, 700 * 512, "83"),
    ]


def test_a_chain_of_partitions_that_bites_its_tail_ends(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(512 * 20000))
    _table(disk, (0x05, 4096, 10000))
    _table(disk, (0x83, 100, 500), (0x05, 1, 3000), at=4096)
    _table(disk, (0x83, 100, 500), (0x05, 1, 3000), at=4097)
    assert len(places.table(str(disk), disk.stat().st_size)) <= 60


def test_noise_is_no_partition_table(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\x9d" * 510 + b"\x55\xaa" + bytes(1 << 20))
    assert places.table(str(disk), disk.stat().st_size) == []


E2FSCK = """e2fsck 1.47.0 (5-Feb-2023)
Pass 1: Checking inodes, blocks, and sizes
Inode 12, i_blocks is 8, should be 16.  Fix? no

Superblock last mount time (Tue Jan  1 00:00:00 2030,
\tnow = Tue Nov 24 18:00:34 2026) is in the future.
Fix? no

Free blocks count wrong (189215, counted=185975).
Fix? no

Free blocks count wrong for group #0 (1, counted=2).
Fix? no

Abort? no
"""


def test_what_e2fsck_would_have_mended_is_read_from_its_questions() -> None:
    problems, notes = ext._problems(E2FSCK, after_replay=True)
    assert problems[0] == "Inode 12, i_blocks is 8, should be 16."
    assert "Free blocks count wrong for group #0 (1, counted=2)." in problems
    assert "Free blocks count wrong (189215, counted=185975)." in notes
    assert "Free blocks count wrong (189215, counted=185975)." in ext._problems(E2FSCK, after_replay=False)[0]


def _place(kind: str) -> places.Place:
    return places.Place("/dev/null", None, 1, kind, "", "filesystem", "")


@pytest.mark.parametrize(("driver", "kind"), [(xfs, "xfs"), (btrfs, "btrfs"), (ext, "ext4")])
@pytest.mark.parametrize(
    "ran",
    [
        prelude.Ran("tool", None, "", "tool is not installed"),
        prelude.Ran("tool", None, "half", "tool did not end in time"),
        prelude.Ran("tool", None, "", "tool was ended by signal 9"),
    ],
)
def test_a_checker_that_could_not_run_says_nothing(
    monkeypatch: pytest.MonkeyPatch, driver: Any, kind: str, ran: prelude.Ran
) -> None:
    monkeypatch.setattr(prelude, "run", lambda *_, **__: ran)
    checked = driver.check(_place(kind), {}, {})
    assert (checked["clean"], checked["error"]) == (None, ran.error)


def test_a_device_that_gives_i_o_errors_says_nothing_of_the_filesystem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = "Error reading block 5 (Input/output error).  Ignore error? no\n"
    monkeypatch.setattr(prelude, "run", lambda *_, **__: prelude.Ran("e2fsck", 4, said, ""))
    checked = ext.check(_place("ext4"), {}, {})
    assert checked["clean"] is None
    assert "I/O errors" in checked["error"]


def test_e2fsck_that_skipped_the_journal_says_nothing_though_it_said_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = "Warning: skipping journal recovery because doing a read-only filesystem check.\nFix? no\n"
    monkeypatch.setattr(prelude, "run", lambda *_, **__: prelude.Ran("e2fsck", 0, said, ""))
    assert ext.check(_place("ext4"), {}, {})["clean"] is None


def test_xfs_repair_over_a_dirty_log_says_nothing_though_it_said_one(monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "Phase 2\nALERT: The filesystem has valuable metadata changes in a log which is being\nwould fix it\n"
    )
    monkeypatch.setattr(prelude, "run", lambda *_, **__: prelude.Ran("xfs_repair", 1, said, ""))
    assert xfs.check(_place("xfs"), {}, {})["clean"] is None


def _one(clean: bool | None, error: str = "") -> dict[str, Any]:
    return {
        "tool": "t",
        "exit": 0,
        "clean": clean,
        "problems": [] if clean is not False else ["p"],
        "error": error,
    }


@pytest.mark.parametrize(
    ("several", "clean"),
    [
        ([True, True], True),
        ([True, False], False),
        ([None, False], False),
        ([True, None], None),
        ([], None),
    ],
)
def test_several_filesystems_are_never_better_than_the_worst(
    several: list[bool | None], clean: bool | None
) -> None:
    chosen = offline.Chosen()
    chosen.examined = [_place("ext4")._replace(device=str(number)) for number in range(len(several))]
    each = {str(number): _one(one) for number, one in enumerate(several)}
    assert combine.check(chosen, each)["clean"] is clean


def test_a_part_that_could_not_be_looked_at_keeps_the_rest_from_being_clean() -> None:
    chosen = offline.Chosen()
    chosen.examined = [_place("ext4")]
    chosen.errors = ["/dev/x2 belongs to LVM"]
    result = combine.check(chosen, {"/dev/null": _one(True)})
    assert (result["clean"], result["error"]) == (None, "/dev/x2 belongs to LVM")


@pytest.mark.parametrize(
    "line",
    [
        "EXT4-fs error (device nvme1n1p2): ext4_lookup:1855: inode #2: comm ls: deleted inode referenced: 12",
        "EXT4-fs (nvme0n1p1): Remounting filesystem read-only",
        "XFS (nvme1n1): Metadata corruption detected at xfs_agi_verify+0x1a4/0x1f0 [xfs], xfs_agi block 0x2",
        "XFS (nvme1n1): Corruption of in-memory data detected.  Shutting down filesystem",
        "BTRFS error (device nvme1n1): bad tree block start, want 30408704 have 0",
        "Buffer I/O error on dev nvme1n1, logical block 0, async page read",
        "blk_update_request: I/O error, dev nvme1n1, sector 2048 op 0x0:(READ)",
        "critical medium error, dev nvme1n1, sector 2048",
        "BUG: unable to handle page fault for address: ffff8880",
        "VFS: Unable to mount root fs on unknown-block(259,2)",
        "INFO: task mount:812 blocked for more than 120 seconds.",
    ],
)
def test_a_line_that_tells_of_damage_is_found(line: str) -> None:
    assert [match["line"] for match in kernel.matches([line])] == [line]


@pytest.mark.parametrize(
    "line",
    [
        "EXT4-fs (nvme0n1p2): recovery complete",
        "EXT4-fs (nvme0n1p2): mounted filesystem with ordered data mode. Quota mode: none.",
        "XFS (nvme1n1): Starting recovery (logdev: internal)",
        "XFS (nvme1n1): Ending recovery (logdev: internal)",
        "BTRFS info (device nvme1n1): start tree-log replay",
        "BTRFS: device fsid 672ce81a-4112-42b5-af80-c241b1be15a7 devid 1 transid 6 /dev/nvme1n1",
        "RAS: Correctable Errors collector initialized.",
        "EXT4-fs (nvme0n1p2): re-mounted. Opts: errors=remount-ro",
        "ERST: Error Record Serialization Table (ERST) support is initialized.",
        "random: crng init done",
    ],
)
def test_an_ordinary_line_is_no_damage(line: str) -> None:
    assert kernel.matches([line]) == []


@pytest.mark.parametrize(
    ("said", "lines", "damaged", "unknown"),
    [
        ("wrong fs type", ["XFS (x9): log mount/recovery failed: error -117"], True, False),
        ("wrong fs type", ["EXT4-fs (x9): error loading journal"], True, False),
        (
            "wrong fs type",
            ["XFS (x9): Superblock has unknown incompatible features (0x80000000) enabled."],
            False,
            True,
        ),
        (
            "wrong fs type",
            ["EXT4-fs (x9): Couldn't mount because of unsupported optional features (100000)"],
            False,
            True,
        ),
        (
            "wrong fs type",
            ["BTRFS error (device x9): cannot mount because of unknown incompat features (0x1)"],
            False,
            True,
        ),
        ("can't read superblock", ["I/O error, dev x9, sector 0 op 0x0:(READ)"], False, False),
        ("mount: unknown filesystem type 'xfs'.", [], False, True),
        ("wrong fs type", ["XFS (other): log mount/recovery failed: error -117"], True, False),
    ],
)
def test_a_mount_that_is_refused_tells_damage_from_what_the_kernel_does_not_know(
    monkeypatch: pytest.MonkeyPatch, said: str, lines: list[str], damaged: bool, unknown: bool
) -> None:
    monkeypatch.setattr(prelude, "run", lambda *_, **__: prelude.Ran("mount", 32, said, ""))
    monkeypatch.setattr(
        kernel.Log, "read", lambda _: [kernel.Line(number, text) for number, text in enumerate(lines)]
    )
    with mounting.Mounted("/dev/x9", "xfs", "ro") as mounted:
        assert (mounted.top, mounted.damaged, mounted.unknown) == ("", damaged, unknown)
    assert mounted.why in (*lines, said)


def test_a_disk_s_serial_is_the_volume_s_id_without_its_dash() -> None:
    assert disks.serial_of("vol-0123456789ABCDEF0") == "vol0123456789abcdef0"


def test_mounts_have_the_options_of_the_mount_and_of_the_filesystem(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/root ro,errors=remount-ro\n"
        "30 22 0:25 / /dev/shm rw - tmpfs tmpfs rw\n"
        "31 22 7:1 / /with\\040space rw,noatime - xfs /dev/loop1 rw,attr2\n"
    )
    monkeypatch.setattr(prelude, "read", lambda path, *_: lines if path.endswith("mountinfo") else "")
    found = disks.mounts()
    assert [(mount.target, mount.options) for mount in found] == [
        ("/", "ro,relatime,errors=remount-ro"),
        ("/with space", "rw,noatime,attr2"),
    ]
