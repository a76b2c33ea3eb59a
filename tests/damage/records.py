"""Damage to data: records and files that were acknowledged, and are not as they were written."""

from drtest.guest.probes import record
from drtest.words import Verdict
from tests.damage.catalogue import Material, damage, flip, noise, peek
from tests.damage.store import rebuilt
from tests.damage.worlds import Backup, mounted_at, places_of
from tests.guest.images import root, write

BAD, GOOD, REPLAYED = Verdict.INCONSISTENT, Verdict.CONSISTENT, Verdict.RECOVERED


def _nth(backup: Backup, volume: str, part: float) -> int:
    """An acknowledged record: 0.0 is the first, 1.0 the last."""
    records = backup.records(volume)
    return records[round((len(records) - 1) * part)]


def _put(backup: Backup, volume: str, index: int, data: bytes, at: int = 0) -> None:
    for place in places_of(backup.images[volume], backup, volume, index):
        write(backup.images[volume], place + at, data)


def _get(backup: Backup, volume: str, index: int) -> bytes:
    place = places_of(backup.images[volume], backup, volume, index)[0]
    return peek(backup.images[volume], place, record.RECORD_BYTES)


@damage("root", gives=BAD)
def lost_record(backup: Backup, _: Material) -> None:
    """One acknowledged record in the middle is zeros: its write never arrived."""
    _put(backup, "root", _nth(backup, "root", 0.5), bytes(512))


@damage("root", gives=BAD)
def lost_last_record(backup: Backup, _: Material) -> None:
    """The newest acknowledged record is zeros: no later one tells that it is missing."""
    for index in range(_nth(backup, "root", 1), _nth(backup, "root", 1) + 50):
        try:
            _put(backup, "root", index, bytes(512))
        except AssertionError:
            break


@damage("data", gives=BAD)
def lost_block_of_records_on_xfs(backup: Backup, _: Material) -> None:
    """A block of eight records is zeros."""
    first = _nth(backup, "data", 0.5) // 8 * 8
    write(backup.images["data"], places_of(backup.images["data"], backup, "data", first)[0], bytes(4096))


@damage("root", gives=BAD)
def torn_record(backup: Backup, _: Material) -> None:
    """The second half of a record was not written: the sector is torn."""
    _put(backup, "root", _nth(backup, "root", 0.3), bytes(256), at=256)


@damage("data", gives=BAD)
def torn_record_on_xfs(backup: Backup, _: Material) -> None:
    """The end of a record is that of another write."""
    _put(backup, "data", _nth(backup, "data", 1), noise(100), at=412)


@damage("root", gives=BAD)
def flipped_bit_in_a_record(backup: Backup, _: Material) -> None:
    """One bit of an acknowledged record is turned."""
    image = backup.images["root"]
    flip(image, places_of(image, backup, "root", _nth(backup, "root", 0.7))[0] + 300, bit=3)


@damage("more", gives=BAD)
def flipped_bit_in_a_record_on_btrfs(backup: Backup, _: Material) -> None:
    """One bit of an acknowledged record is turned: btrfs refuses the whole block by its checksum."""
    image = backup.images["more"]
    for place in places_of(image, backup, "more", _nth(backup, "more", 0.7)):
        flip(image, place + 300, bit=3)


@damage("root", gives=BAD)
def swapped_records(backup: Backup, _: Material) -> None:
    """Two records lie in each other's place."""
    image = backup.images["root"]
    one, other = (places_of(image, backup, "root", _nth(backup, "root", part))[0] for part in (0.2, 0.6))
    first, second = peek(image, one, 512), peek(image, other, 512)
    write(image, one, second)
    write(image, other, first)


@damage("root", gives=BAD)
def misdirected_record(backup: Backup, _: Material) -> None:
    """In a record's place is the one of another volume: a write went to the wrong disk."""
    _put(backup, "root", _nth(backup, "root", 0.4), _get(backup, "data", _nth(backup, "data", 0.4)))


@damage("root", gives=BAD)
def stale_record(backup: Backup, _: Material) -> None:
    """In a record's place is the one that an earlier load had written there."""
    earlier = backup.earlier and backup.earlier.earlier
    assert earlier is not None
    index = earlier.records("root")[3]
    _put(backup, "root", index, _get(earlier, "root", index))


@damage("data", gives=BAD)
def stale_block_on_xfs(backup: Backup, _: Material) -> None:
    """A block of the records' file is as it was a moment earlier, without its newest records."""
    earlier = backup.earlier
    assert earlier is not None
    last = _nth(earlier, "data", 1)
    first = last // 8 * 8
    place = places_of(backup.images["data"], backup, "data", first)[0]
    old = peek(earlier.images["data"], place, 4096)
    assert old != peek(backup.images["data"], place, 4096)
    write(backup.images["data"], place, old)


@damage("root", gives=BAD)
def foreign_bytes_in_the_records(backup: Backup, _: Material) -> None:
    """Four sectors of the records' file hold bytes of something else."""
    for number in range(4):
        _put(backup, "root", _nth(backup, "root", 0.5) + number, noise(512, number))


@damage("root", gives=BAD)
def file_lost(backup: Backup, _: Material) -> None:
    """A file that was made, flushed, renamed and acknowledged is gone; fsck has nothing to say."""
    with mounted_at(backup.images["root"]) as top:
        root("rm", top / ".drtest-canary/meta" / _slot(backup, "root"))


@damage("data", gives=BAD)
def file_of_no_length_on_xfs(backup: Backup, _: Material) -> None:
    """An acknowledged file is there, and empty."""
    with mounted_at(backup.images["data"]) as top:
        root("truncate", "-s", "0", top / ".drtest-canary/meta" / _slot(backup, "data"))


@damage("more", gives=BAD)
def files_swapped_on_btrfs(backup: Backup, _: Material) -> None:
    """Two acknowledged files have each other's names."""
    with mounted_at(backup.images["more"]) as top:
        folder = top / ".drtest-canary/meta"
        root("mv", folder / "2", folder / "aside")
        root("mv", folder / "3", folder / "2")
        root("mv", folder / "aside", folder / "3")


@damage("more", gives=BAD)
def folder_gone_on_btrfs(backup: Backup, _: Material) -> None:
    """The folder with all that was acknowledged is gone, and the filesystem is whole."""
    with mounted_at(backup.images["more"]) as top:
        root("rm", "-r", top / ".drtest-canary")


@damage("data", gives=BAD)
def hole_in_the_file_on_xfs(backup: Backup, _: Material) -> None:
    """A part of the records' file is no longer allocated, and reads as zeros."""
    with mounted_at(backup.images["data"]) as top:
        path = top / ".drtest-canary/records.bin"
        root("fallocate", "--punch-hole", "--offset", "8192", "--length", "4096", path)


def _slot(backup: Backup, volume: str) -> str:
    return str(backup.operations(volume)[-1] % record.METADATA_SLOTS)


def _size(backup: Backup, volume: str) -> int:
    return backup.images[volume].stat().st_size


@damage("root", gives=BAD)
def last_writes_lost(backup: Backup, _: Material) -> None:
    """The last thirty writes that the disk had acknowledged are lost, flushes notwithstanding."""
    writes = backup.writes["root"]
    rebuilt(writes[:-30], size=_size(backup, "root"), path=backup.images["root"])


@damage("data", gives=BAD)
def last_writes_lost_on_xfs(backup: Backup, _: Material) -> None:
    """The last thirty writes that the disk had acknowledged are lost, flushes notwithstanding."""
    rebuilt(backup.writes["data"][:-30], size=_size(backup, "data"), path=backup.images["data"])


@damage("more", gives=BAD)
def last_writes_lost_on_btrfs(backup: Backup, _: Material) -> None:
    """The last sixty writes that the disk had acknowledged are lost, flushes notwithstanding."""
    rebuilt(backup.writes["more"][:-60], size=_size(backup, "more"), path=backup.images["more"])


@damage("root", gives=REPLAYED)
def half_a_record_after_the_last(backup: Backup, _: Material) -> None:
    """A record that was being written when the capture came is half there; nobody had been told of it: no damage."""
    last = _nth(backup, "root", 1)
    after = last + 1
    try:
        while True:
            place = places_of(backup.images["root"], backup, "root", after)[0]
            after += 1
    except AssertionError:
        place = places_of(backup.images["root"], backup, "root", after - 1)[0] + 512
    write(backup.images["root"], place, noise(200))
