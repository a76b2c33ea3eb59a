"""The catalogue: what can happen to a backup, each piece with its name, a sentence, and the verdict it must give."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drtest.words import Verdict
from tests.damage.worlds import Backup
from tests.guest.images import write


@dataclass(frozen=True, kw_only=True)
class Material:
    """The backups that damage is done to: whole ones, each under the same load.

    Attributes:
        running: made in mid-load, its logs dirty; ``earlier`` of the same load, and that one's of a load before.
        stopped: of the same server, shut down.
        other: of another server's root volume.
    """

    running: Backup
    stopped: Backup
    other: Backup


Apply = Callable[[Backup, Material], Backup | None]
"""Damages a backup's images, or gives another backup in its place."""


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One piece of damage.

    Attributes:
        name: a few words.
        sentence: what has happened.
        volume: whose verdict it is about: ``root`` is ext4, ``data`` is XFS, ``more`` is btrfs; or ``set``.
        stopped: whether it happens to a backup of a server that was shut down, instead of one under load.
        gives: the verdict.
        apply: does it.
    """

    name: str
    sentence: str
    volume: str
    stopped: bool
    gives: Verdict
    apply: Apply

    def of(self, material: Material) -> Backup:
        """The backup that it happens to."""
        return material.stopped if self.stopped else material.running


CATALOGUE: list[Damage] = []


def damage(volume: str, *, gives: Verdict, stopped: bool = False) -> Callable[[Apply], Apply]:
    """Enters a function: its name is the damage's, the first line of its docstring the sentence."""

    def enter(apply: Apply) -> Apply:
        name = getattr(apply, "__name__", "").replace("_", " ").strip()
        sentence = (apply.__doc__ or "").strip().splitlines()[0]
        CATALOGUE.append(
            Damage(name=name, sentence=sentence, volume=volume, stopped=stopped, gives=gives, apply=apply)
        )
        return apply

    return enter


def noise(length: int, seed: int | str = 0) -> bytes:
    """The same bytes each time, of no meaning."""
    return hashlib.shake_256(f"noise {seed}".encode()).digest(length)


def peek(image: Path, offset: int, length: int) -> bytes:
    """Bytes of an image."""
    with image.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def flip(image: Path, offset: int, bit: int = 0) -> None:
    """Turns one bit."""
    write(image, offset, bytes([peek(image, offset, 1)[0] ^ (1 << bit)]))
