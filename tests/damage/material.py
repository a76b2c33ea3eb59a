"""The backups that the catalogue works on, made once; and one piece of damage from bytes to verdict."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from drtest.verdict.evidence import Judgement
from drtest.words import Filesystem
from tests.damage import points, records, structures
from tests.damage.catalogue import CATALOGUE, Damage, Material
from tests.damage.examination import examined, judged
from tests.damage.worlds import World

__all__ = ["CATALOGUE", "PARTS", "made", "suffer"]

PARTS = (records, structures, points)
"""The modules that enter their damage into the catalogue when they are imported."""

VOLUMES = {"root": Filesystem.EXT4, "data": Filesystem.XFS, "more": Filesystem.BTRFS}


@contextmanager
def made(folder: Path) -> Iterator[Material]:
    """Two servers, loaded and captured."""
    with World(folder / "lin", VOLUMES) as world:
        with world.loaded() as load:
            load.wait(30)
            before = load.captured()
        with world.loaded() as load:
            load.wait(75)
            earlier = replace(load.captured(), earlier=before)
            load.wait(75)
            running = replace(load.captured(writes=True), earlier=earlier)
            stopped = replace(load.stopped(), earlier=earlier)
    with World(folder / "other", {"root": Filesystem.EXT4}) as world, world.loaded() as load:
        load.wait(50)
        other = load.captured()
    yield Material(running=running, stopped=stopped, other=other)


def suffer(damage: Damage, material: Material, folder: Path) -> Judgement:
    """Does one piece of damage to a copy of a backup, examines that as a drill does, and judges it."""
    shutil.rmtree(folder, ignore_errors=True)
    backup = damage.of(material).copied(folder)
    damaged = damage.apply(backup, material) or backup
    only = None if damage.volume == "set" else [damage.volume]
    return judged(damaged, examined(damaged, only=only), damage.volume)
