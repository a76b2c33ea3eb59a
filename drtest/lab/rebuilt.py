"""What a snapshot of a pooled volume holds: the last drained state, and what had left the pool by then."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from drtest.lab.overlay import CLUSTER, write_overlay
from drtest.lab.pool import Pool, survivors
from drtest.lab.qcow2 import Chain
from drtest.lab.write_log import Write, WriteLog, open_log


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A pooled volume at a moment: with the log of its writes, all that its bytes follow from.

    Attributes:
        size: bytes of the volume.
        base: the last drained state: a frozen file.
        start: where the log's first entry is that is not in it.
        until: how long the log was: entries that begin later were written later.
        pool: what is in front of the volume.
    """

    size: int
    base: Path
    start: int
    until: int
    pool: Pool

    def to_json(self) -> str:
        """Write it down, for whoever takes the lab up."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "Moment":
        """Read what ``to_json`` wrote."""
        plain = json.loads(text)
        return cls(**plain | {"base": Path(plain["base"]), "pool": Pool(**plain["pool"])})


def rebuild(path: Path, moment: Moment, *, log: Path) -> None:
    """Write a volume's bytes at a moment: the same moment and log give the same file.

    Args:
        path: the new file, built on the drained state.
        moment: which.
        log: the log of the volume's writes; it may have grown since.

    Raises:
        EnvironmentFailedError: the log or the drained state can't be read.
        OSError: there is no room.
    """
    with open_log(log) as writes, Chain(moment.base) as drained:
        made = list(writes.writes(start=moment.start, until=moment.until))
        there = survivors(made, seed=moment.pool.seed, strength=moment.pool.strength, until=len(made))
        parts: dict[int, list[Write]] = {}
        for part in there:  # each lies within one cluster
            parts.setdefault(part.offset // CLUSTER, []).append(part)
        write_overlay(
            path,
            size=moment.size,
            backing=moment.base,
            clusters=(
                (number, _cluster(drained.read(number * CLUSTER, CLUSTER), parts[number], writes))
                for number in sorted(parts)
            ),
        )


def _cluster(drained: bytes, parts: list[Write], log: WriteLog) -> bytes:
    """Put the parts of a cluster on what it was, in order."""
    data = bytearray(drained)
    for part in parts:
        at = part.offset % CLUSTER
        data[at : at + part.length] = (
            bytes(part.length) if part.place is None else log.bytes_of(part.place, part.length)
        )
    return bytes(data)
