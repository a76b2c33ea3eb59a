"""The write pool: what was written to a volume, and acknowledged, but is not on it yet.

It is the fault of the incident as a mechanism. Writes to a pooled volume are acknowledged, flushes included, and wait
in a volatile pool in front of it. They leave it in no order, page by page, and a shutdown drains it. The guest can't
know: it reads its own writes. Whoever copies the volume while the guest runs gets some of them, and not others.
"""

import random
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from drtest.errors import UsageError
from drtest.lab.overlay import CLUSTER
from drtest.lab.resources import Instance, Volume
from drtest.lab.write_log import Write

PAGE = 4096
"""Bytes that leave the pool together."""

LONGEST_WAIT = 65536
"""After so many later writes a page has left for certain: the pool has 256 MiB of pages."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A write pool in front of a volume.

    Attributes:
        strength: the part of the pages that wait at all, 0 to 1.
        seed: what the waiting times are drawn from.
    """

    strength: float
    seed: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the write pools of a lab are set: for as long as it lives.

    Attributes:
        seed: what all waiting times are drawn from.
        strengths: by the names of images, in the place of what these say themselves.
    """

    seed: int = 0
    strengths: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def drawn(cls, strengths: Mapping[str, float], *, seed: int | None) -> "Settings":
        """Settings with a seed of their own, if none is given."""
        return cls(seed=secrets.randbelow(1_000_000) if seed is None else seed, strengths=strengths)


def survivors(writes: Iterable[Write], *, seed: str, strength: float, until: int) -> Iterator[Write]:
    """Say what of some writes has left the pool at a moment: a function of its arguments alone.

    Each page of a write leaves after a number of later writes of its own. A page's older write never comes after a
    newer one: as the pool holds one state of a page, the newer one takes the older one's place. So what is given,
    written one after the other upon the last drained state, is the volume's bytes.

    The draws depend on the seed alone. So more strength lets less survive, and what has left at one moment has left at
    each later one: two snapshots of a machine show one pool.

    Args:
        writes: all writes since the volume was drained, in order.
        seed: what the waiting times are drawn from.
        strength: 0: everything has left at once. 1: everything waits.
        until: how many of the writes had been made at the moment.

    Returns:
        Parts of the writes, in order.
    """
    draw = random.Random(seed).random  # noqa: S311
    for number, write in enumerate(islice(writes, until), start=1):
        for page in pages(write):
            if number + _wait(draw(), strength) <= until:
                yield page


def _wait(chance: float, strength: float) -> int:
    """Turn a number drawn from 0 to 1 into a number of later writes.

    A page waits with the probability ``strength``; if so, as likely for some ten writes as for some hundreds or
    thousands, so that short and long loads suffer alike.
    """
    return int(LONGEST_WAIT ** (1 - chance / strength)) if chance < strength else 0


def pages(write: Write) -> Iterator[Write]:
    """Split a write at the boundaries of pages, and a discard into the clusters that are wholly in it.

    QEMU forgets nothing smaller than a cluster: the rest of a discard stays as it is (qcow2_co_pdiscard).
    """
    end = write.offset + write.length
    if write.place is None:
        first = -(-write.offset // CLUSTER) * CLUSTER
        for offset in range(first, end - CLUSTER + 1, CLUSTER):
            yield Write(offset, CLUSTER, None)
        return
    offset = write.offset
    while offset < end:
        length = min(PAGE - offset % PAGE, end - offset)
        yield Write(offset, length, write.place + offset - write.offset)
        offset += length


def in_front_of(volume: Volume, instance: Instance, *, seed: int) -> Pool | None:
    """Say which pool is in front of a volume of an instance: of its root, if its image has one; None for none.

    This is the one place where that is decided.
    """
    root = volume.attachment is not None and volume.attachment.device == instance.root_device
    return Pool(strength=instance.pool, seed=str(seed)) if root and instance.pool else None


def notice(strength: float, *, seed: int) -> str:
    """Say in plain words that an image's roots have a write pool; empty if they have none."""
    if not strength:
        return ""
    return (
        f"The lab puts a write pool (strength {strength:g}, seed {seed}) in front of its root volumes: what was "
        "acknowledged, flushes included, reaches the volume later and in no order; a shutdown drains it."
    )


def parse(text: str) -> tuple[str, float]:
    """Read ``NAME=STRENGTH``, as the command line has it.

    Raises:
        UsageError: it is none.
    """
    name, _, number = text.partition("=")
    try:
        strength = float(number)
    except ValueError:
        strength = -1.0
    if not name or not 0 <= strength <= 1:
        raise UsageError(
            f"{text!r} is no strength of a write pool.",
            remedy="Name an image and a number from 0 (none) to 1, as --pool windows=0.5",
        )
    return name, strength
