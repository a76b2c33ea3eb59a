"""Damage to recovery points: another server's, an older one, half of a set, a disk that is cut off or wiped."""

from dataclasses import replace
from pathlib import Path

from drtest.words import Verdict
from tests.damage.catalogue import Material, damage, noise
from tests.damage.worlds import Backup
from tests.guest.images import tool, write

BAD, OPEN = Verdict.INCONSISTENT, Verdict.INCONCLUSIVE


def _replaced(backup: Backup, volume: str, by: Path) -> Backup:
    image = backup.images[volume]
    image.unlink()
    tool("cp", "--sparse=always", by, image)
    return replace(backup, images={**backup.images, volume: image})


@damage("root", gives=BAD)
def snapshot_of_another_server(backup: Backup, material: Material) -> Backup:
    """The snapshot is of another server, whole and with a canary of its own."""
    return _replaced(backup, "root", material.other.images["root"])


@damage("data", gives=BAD)
def older_snapshot(backup: Backup, _: Material) -> Backup:
    """The snapshot is one of the same volume that was made a moment earlier."""
    assert backup.earlier is not None
    return _replaced(backup, "data", backup.earlier.images["data"])


@damage("more", gives=BAD)
def snapshot_of_an_earlier_drill(backup: Backup, _: Material) -> Backup:
    """The snapshot is one of the same volume from before this load began."""
    earlier = backup.earlier and backup.earlier.earlier
    assert earlier is not None
    return _replaced(backup, "more", earlier.images["more"])


@damage("set", gives=BAD)
def half_of_a_set_older(backup: Backup, _: Material) -> Backup:
    """One volume of the set is of an earlier moment, of which nothing had been acknowledged yet to miss."""
    assert backup.earlier is not None
    told = {**backup.acknowledged, "volumes": backup.earlier.acknowledged["volumes"]}
    return replace(_replaced(backup, "data", backup.earlier.images["data"]), acknowledged=told)


@damage("set", gives=BAD)
def half_of_a_set_blank(backup: Backup, _: Material) -> None:
    """One volume of the set is blank."""
    image = backup.images["more"]
    size = image.stat().st_size
    image.unlink()
    with image.open("wb") as file:
        file.truncate(size)


@damage("set", gives=BAD)
def volumes_swapped(backup: Backup, _: Material) -> Backup:
    """Two volumes of the set have each other's snapshots."""
    images = {**backup.images, "data": backup.images["more"], "more": backup.images["data"]}
    return replace(backup, images=images)


@damage("root", gives=BAD)
def cut_off(backup: Backup, _: Material) -> None:
    """The second half of the volume is missing."""
    image = backup.images["root"]
    with image.open("r+b") as file:
        file.truncate(image.stat().st_size // 2)


@damage("data", gives=BAD)
def first_megabytes_overwritten(backup: Backup, _: Material) -> None:
    """The first four MiB hold other bytes, as after a tool that was given the wrong disk."""
    write(backup.images["data"], 0, noise(4 << 20))


@damage("root", gives=BAD)
def wiped(backup: Backup, _: Material) -> None:
    """The whole volume is noise, where the source has an ext4."""
    image = backup.images["root"]
    write(image, 0, noise(image.stat().st_size))


@damage("root", gives=OPEN, stopped=True)
def encrypted(backup: Backup, _: Material) -> None:
    """The volume is LUKS: it can't be looked into, which proves nothing."""
    head = b"LUKS\xba\xbe\x00\x01" + bytes(160) + b"0f3c2f9e-3a1a-4c58-9d0c-8f3f4a8a5c11\0\0\0\0"
    write(backup.images["root"], 0, head + bytes(4096))
