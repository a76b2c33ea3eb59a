"""A registry hive on its volume: written in place behind its log, and recovered from that where it was cut short.

The order of each write (regf specification, "Types of files"; facts of the format in `drtest.lab.standin.regf`):

1. what is to change goes to the log, and is flushed;
2. the first sequence number of the hive goes up, and is flushed: from now on it is dirty;
3. the pages themselves are written, and flushed;
4. the second sequence number follows, and is flushed: it is clean again, and the log is of no use any more.

A power cut at any moment leaves a hive that is clean, or dirty with a whole log. A disk that flushes in name only can
leave any mixture: pages of several times under equal numbers, or a dirty hive with a log of another time.
"""

from dataclasses import replace

from drtest.lab.standin import hive_log, regf
from drtest.lab.standin.regf import BASE, HiveError
from drtest.lab.standin.storage import PAGE, Storage

GAPS = 61
"""Places that a hive's cells wander between: a prime, so that few states of it have them alike."""


def new(name: str, root: regf.Key, *, size: int, written: int) -> bytes:
    """A new hive's bytes.

    Args:
        name: the end of its path.
        root: what is in it.
        size: bytes of its bins.
        written: the time, as FILETIME.
    """
    base = regf.Base(primary=1, secondary=1, written=written, size=size, name=name)
    return base.encode().ljust(BASE, b"\0") + regf.encode(root, size=size, written=written, gap=1)


def log_size(size: int) -> int:
    """Bytes that the log of a hive needs, whose bins have that size."""
    return size + 2 * PAGE


def load(file: Storage, log: Storage) -> "Hive":
    """A hive as a kernel loads it: recovered from its log if it is dirty, and checked.

    Raises:
        HiveError: it can't be recovered, or is not whole.
        OSError: it can't be read.
    """
    base = regf.base(file.read(0, regf.SECTOR))
    bins = bytearray(file.read(BASE, base.size))
    if len(bins) < base.size:
        raise HiveError("it ends before its bins do")
    recovered = base.primary != base.secondary
    if recovered:
        base = _recover(file, log, base, bins)
    return Hive(file, log, base=base, bins=bytes(bins), root=regf.decode(bytes(bins)), recovered=recovered)


def _recover(file: Storage, log: Storage, base: regf.Base, bins: bytearray) -> regf.Base:
    entries = list(hive_log.after(log.read(0, log_size(base.size)), base=base))
    if not entries:
        raise HiveError(
            f"it was being written ({base.primary} after {base.secondary}), and its log is not of that time"
        )
    pages = {place: data for entry in entries for place, data in entry.pages.items()}
    for place, data in pages.items():
        bins[place : place + len(data)] = data
    regf.decode(bytes(bins))  # nothing is written to a hive that stays broken
    for place, data in pages.items():
        file.write(BASE + place, data)
    file.flush()
    base = replace(base, primary=entries[-1].sequence, secondary=entries[-1].sequence)
    file.write(0, base.encode())
    file.flush()
    return base


def is_dirty(file: Storage) -> tuple[bool, bool]:
    """Whether there is a base block at all, and whether its sequence numbers differ; nothing is checked."""
    head = file.read(0, 12)
    return head[:4] == b"regf", head[4:8] != head[8:12]


class Hive:
    """A hive that is loaded. What is changed in `root` is on the disk after `flush`.

    Attributes:
        root: its root key.
        base: its base block, as on the disk.
        recovered: whether it had to be recovered from its log.
    """

    def __init__(
        self, file: Storage, log: Storage, *, base: regf.Base, bins: bytes, root: regf.Key, recovered: bool
    ) -> None:
        self._file = file
        self._log = log
        self._bins = bins
        self.base = base
        self.root = root
        self.recovered = recovered

    def flush(self, *, now: int) -> None:
        """Writes what has changed.

        Args:
            now: the time, as FILETIME.

        Raises:
            HiveError: it does not fit any more.
            OSError: a write failed.
        """
        sequence = (self.base.primary + 1) & 0xFFFFFFFF
        bins = regf.encode(self.root, size=self.base.size, written=now, gap=1 + sequence % GAPS)
        pages = {
            place: bins[place : place + PAGE]
            for place in range(0, len(bins), PAGE)
            if bins[place : place + PAGE] != self._bins[place : place + PAGE]
        }
        entry = hive_log.Entry(sequence=sequence, size=self.base.size, pages=pages)
        self._log.write(0, hive_log.encode(self.base, entry))
        self._log.flush()
        self.base = replace(self.base, primary=sequence, written=now)
        self._write_base()
        for place, data in pages.items():
            self._file.write(BASE + place, data)
        self._file.flush()
        self.base = replace(self.base, secondary=sequence)
        self._write_base()
        self._bins = bins

    def close(self) -> None:
        """Gives its files back."""
        self._file.close()
        self._log.close()

    def _write_base(self) -> None:
        self._file.write(0, self.base.encode())
        self._file.flush()
