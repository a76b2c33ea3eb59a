"""The write pool: its log, what survives of it, and the snapshots that follow from both."""

import base64
import hashlib
import subprocess
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from drtest.errors import EnvironmentFailedError, UsageError
from drtest.lab.overlay import CLUSTER, write_overlay
from drtest.lab.pool import PAGE, Pool, notice, parse, survivors
from drtest.lab.qcow2 import Chain
from drtest.lab.rebuilt import Moment, rebuild
from drtest.lab.write_log import FIRST, SECTOR, Write, open_log

GOLDEN = zlib.decompress(
    base64.b64decode(
        "eNrt2aENgEAQBMCHIAgoWqAFeiIECQJL6QhQXwI7Y87f5lfcH9t5redemvIavlnaQoC+mmSZAAAAgN8bnfuizUCsug"
        "8alRhN/lnuKvjOSiL/f717QA/InRwL0fQA8s/1AMx7AeQ="
    )
)
"""A log that QEMU 7.2.22 (Debian 12) wrote, by qemu-io on ``driver=blklogwrites`` above a qcow2 file of 1 MiB.

write -P 0x11 4096 4096, write -P 0x22 5632 1024, flush, discard 65536 131072, write -z 4096 512, write -P 0x33 0 512.
"""

TRUE_BYTES = "1667fe4e690a324d32e29cac7e011573335ca110d12635b6a6039c7f7e36b4c7"
"""The SHA-256 of the disk's bytes after that, as ``qemu-img convert`` gave them."""

MIB = 1024 * 1024
SEED = "7"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "golden.log"
    path.write_bytes(GOLDEN)
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.qcow2"
    write_overlay(path, size=MIB, backing=None)
    return path


def read(log: Path, **part: int) -> list[Write]:
    with open_log(log) as opened:
        return list(opened.writes(**{"until": log.stat().st_size, **part}))


def some_writes(count: int = 2000) -> list[Write]:
    """Writes of two pages each, over some few hundred pages again and again."""
    return [Write(number * 37 % 400 * PAGE, 2 * PAGE, number * 2 * PAGE) for number in range(count)]


def survived(writes: Sequence[Write], *, strength: float, until: int | None = None) -> set[Write]:
    return set(survivors(writes, seed=SEED, strength=strength, until=until or len(writes)))


def test_a_log_that_qemu_wrote_is_read_as_it_was_written(log: Path) -> None:
    writes = read(log)
    assert [(write.offset, write.length) for write in writes] == [
        (4096, 4096),
        (5632, 1024),
        (65536, 131072),
        (4096, 512),
        (0, 512),
    ]
    with open_log(log) as opened:
        found = [None if w.place is None else opened.bytes_of(w.place, w.length) for w in writes]
    assert found == [b"\x11" * 4096, b"\x22" * 1024, None, bytes(512), b"\x33" * 512]


def test_a_log_is_read_up_to_a_moment_though_it_went_on(log: Path) -> None:
    assert [write.offset for write in read(log, until=FIRST + 1)] == [4096]
    assert read(log, until=FIRST) == []


def test_a_log_can_be_read_from_any_entry_on(log: Path) -> None:
    with open_log(log) as opened:
        # In the middle of the first write's bytes: the next entry begins behind them.
        second = opened.boundary(until=FIRST + 2 * SECTOR)
    assert second == FIRST + SECTOR + 4096
    assert [write.offset for write in read(log, start=second)] == [5632, 65536, 4096, 0]


def test_an_empty_log_has_no_writes(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    assert read(tmp_path / "log") == []


def test_what_is_no_log_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\x01" * 4096)
    with pytest.raises(EnvironmentFailedError, match="no log of writes"):
        read(tmp_path / "log")


def test_a_log_that_breaks_off_is_not_taken_for_a_shorter_one(log: Path) -> None:
    log.write_bytes(GOLDEN[: FIRST + SECTOR + 4096 + 100])
    with pytest.raises(EnvironmentFailedError, match="breaks off"):
        read(log)
    log.write_bytes(GOLDEN[: FIRST + SECTOR + 4096] + bytes(4096))
    with pytest.raises(EnvironmentFailedError, match="no entry"):
        read(log)


def test_with_strength_0_all_has_left(log: Path, base: Path, tmp_path: Path) -> None:
    moment = Moment(size=MIB, base=base, start=FIRST, until=len(GOLDEN), pool=Pool(strength=0.0, seed=SEED))
    rebuild(tmp_path / "rebuilt.qcow2", moment, log=log)
    with Chain(tmp_path / "rebuilt.qcow2") as chain:
        assert hashlib.sha256(chain.read(0, MIB)).hexdigest() == TRUE_BYTES


def test_a_discard_counts_as_a_write(tmp_path: Path, log: Path) -> None:
    full = tmp_path / "full.qcow2"
    write_overlay(full, size=MIB, backing=None, clusters=[(n, b"\xaa" * CLUSTER) for n in range(16)])
    moment = Moment(size=MIB, base=full, start=FIRST, until=len(GOLDEN), pool=Pool(strength=0.0, seed=SEED))
    rebuild(tmp_path / "rebuilt.qcow2", moment, log=log)
    with Chain(tmp_path / "rebuilt.qcow2") as chain:
        assert chain.read(0, 4 * CLUSTER)[CLUSTER:] == bytes(2 * CLUSTER) + b"\xaa" * CLUSTER


def test_of_a_discard_only_whole_clusters_are_forgotten() -> None:
    discard = Write(CLUSTER - 4096, 3 * CLUSTER, None)
    assert list(survivors([discard], seed=SEED, strength=0.0, until=1)) == [
        Write(CLUSTER, CLUSTER, None),
        Write(2 * CLUSTER, CLUSTER, None),
    ]


def test_the_same_log_and_seed_give_the_same_file(log: Path, base: Path, tmp_path: Path) -> None:
    files = []
    for name in ("first", "second"):
        moment = Moment(
            size=MIB, base=base, start=FIRST, until=len(GOLDEN), pool=Pool(strength=0.7, seed=SEED)
        )
        rebuild(tmp_path / name, moment, log=log)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


def test_another_seed_lets_other_pages_survive() -> None:
    writes = some_writes()
    one, other = (set(survivors(writes, seed=seed, strength=0.5, until=len(writes))) for seed in ("7", "8"))
    assert one != other
    assert abs(len(one) - len(other)) < len(writes) / 10


def test_what_survives_are_whole_pages_of_the_writes_in_their_order() -> None:
    writes = [Write(PAGE - 512, 2 * PAGE, 1000)]
    assert list(survivors(writes, seed=SEED, strength=0.0, until=1)) == [
        Write(PAGE - 512, 512, 1000),
        Write(PAGE, PAGE, 1512),
        Write(2 * PAGE, PAGE - 512, 1512 + PAGE),
    ]
    pages = {(w.offset + at, w.place + at) for w in some_writes() for at in (0, PAGE) if w.place is not None}
    some = list(survivors(some_writes(), seed=SEED, strength=0.6, until=2000))
    assert {(part.offset, part.place) for part in some} < pages
    assert [part.place for part in some] == sorted(part.place or 0 for part in some)


def test_more_strength_lets_less_survive() -> None:
    writes = some_writes()
    before = survived(writes, strength=0.0)
    assert len(before) == 2 * len(writes)
    for strength in (0.05, 0.3, 0.6, 0.9, 1.0):
        now = survived(writes, strength=strength)
        assert now < before
        before = now


def test_what_has_left_once_has_left_at_each_later_snapshot() -> None:
    writes = some_writes()
    before: set[Write] = set()
    for until in (1, 10, 100, 500, 1999, 2000):
        now = survived(writes, strength=0.9, until=until)
        assert before <= now
        before = now


def test_writes_after_the_moment_do_not_matter() -> None:
    writes = some_writes()
    assert survived(writes[:700], strength=0.8) == survived(writes, strength=0.8, until=700)


def test_with_strength_1_the_last_write_never_survives_and_earlier_ones_by_chance() -> None:
    writes = some_writes()
    there = survived(writes, strength=1.0)
    last = writes[-1]
    assert not {part for part in there if (part.place or 0) >= (last.place or 0)}
    for seed in range(200):
        assert list(survivors(writes[:1], seed=str(seed), strength=1.0, until=1)) == []
    recent = writes[-500:]
    lost = sum(Write(w.offset, PAGE, w.place) not in there for w in recent) / len(recent)
    assert 0.3 < lost < 0.8, "some of a short load has to be there, and some must not"


def test_a_weak_pool_still_loses_some_of_a_short_load() -> None:
    # 10 s at 50 records a second, eight of which share a page: the last state of each page is what counts.
    writes = [Write(number // 8 * PAGE, PAGE, number * PAGE) for number in range(500)]
    for seed in range(50):
        there = {w.place for w in survivors(writes, seed=str(seed), strength=0.3, until=len(writes))}
        assert any(write.place not in there for write in writes[7::8]), seed


def test_a_written_overlay_is_one_that_qemu_takes(tmp_path: Path, base: Path) -> None:
    path = tmp_path / "overlay.qcow2"
    clusters = {1: b"\x01" * CLUSTER, 3: bytes(CLUSTER), 20000: b"\x02" * CLUSTER}
    write_overlay(path, size=2048 * MIB, backing=base, clusters=clusters.items())
    checked = subprocess.run(["qemu-img", "check", str(path)], capture_output=True, text=True, check=False)
    assert "No errors were found" in checked.stdout, checked
    for number in (1, 3, 20000):
        pattern = f"read -P {clusters[number][0]} {number * CLUSTER} {CLUSTER}"
        done = subprocess.run(
            ["qemu-io", "-r", "-c", pattern, str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
        assert "Pattern verification failed" not in done.stdout


def test_a_strength_is_read_as_it_was_meant_or_refused() -> None:
    assert parse("windows=0.9") == ("windows", 0.9)
    for wrong in ("windows", "windows=", "=1", "windows=1.5", "windows=-1", "windows=nan", "windows=much"):
        with pytest.raises(UsageError, match="no strength"):
            parse(wrong)


def test_the_notice_tells_strength_and_seed_and_is_silent_without_a_pool() -> None:
    assert "strength 0.9, seed 7" in notice(0.9, seed=7)
    assert notice(0.0, seed=7) == ""
