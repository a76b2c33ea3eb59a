"""Captures under load that nothing has happened to: each must be called usable, or the alarm is worth nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drtest.verdict.evidence import Judgement
from drtest.words import SET
from tests.damage.examination import examined, judged
from tests.damage.material import VOLUMES
from tests.damage.worlds import Backup, World

CAPTURES = 50
RATE = 400.0
"""Records a second over the three volumes, all the while."""
AS_A_SET = 10
"""Every so many captures all volumes are judged together as well."""
FROZEN = 5
"""Every so many captures the filesystems are frozen for it."""


@dataclass(frozen=True, kw_only=True)
class Clean:
    """One capture in mid-load, and what the examination made of one of its volumes."""

    number: int
    volume: str
    judgement: Judgement

    @property
    def alarm(self) -> bool:
        """Whether it was called anything but usable."""
        return not self.judgement.verdict.usable


def captures(folder: Path, *, count: int = CAPTURES) -> Iterator[Clean]:
    """Captures one server over and over while it is written to; volumes take turns, as do their filesystems."""
    names = list(VOLUMES)
    backups: list[Backup] = []
    with World(folder / "clean", VOLUMES) as world:
        with world.loaded(rate=RATE) as load:
            load.wait(20)
            for number in range(1, count + 1):
                load.wait(2)
                only = names if number % AS_A_SET == 0 else [names[number % len(names)]]
                backups.append(load.captured(frozen=number % FROZEN == 0, only=only))
        for number, backup in enumerate(backups, start=1):
            observations = examined(backup)
            for volume in [*backup.images, SET] if len(backup.images) > 1 else backup.images:
                yield Clean(number=number, volume=volume, judgement=judged(backup, observations, volume))
