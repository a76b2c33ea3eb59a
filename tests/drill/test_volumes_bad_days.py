"""Volumes on their bad days: a drill whose helper sees what the real probes see on a real disk."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.drill.kit.world import Ran, World, alone
from tests.guest.images import Images, examine, root, tool, write
from tests.guest.volume_groups import Group

STAGES = ("filesystem.before", "filesystem.replay", "filesystem.check")


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A volume.

    Attributes:
        make: makes the image of it.
        verdict: of its cell.
        says: in the reason.
    """

    make: Callable[[Images], Path]
    verdict: str
    says: str


def blank(images: Images) -> Path:
    return images.blank(64 << 20)


def two_partitions(images: Images, *, damaged: bool = False) -> Path:
    other = images.made("ext4")
    if damaged:
        write(other, 1024, bytes(1024))
    return images.partitioned("gpt", images.made("ext4"), other)


def lvm(images: Images, *, change: Callable[[Group], object] = lambda _: None) -> Path:
    group = Group(images, {"root": 64, "var": 64})
    for volume in ("root", "var"):
        group.fill(volume, images.made("ext4"))
    change(group)
    return group.image


def damaged(group: Group) -> None:
    write(group.image, group.place("var") + 1024, bytes(1024))


def in_pieces(group: Group) -> None:
    group.lvm("lvextend", "-L", "+16M", "vg0/root")


def unknown(images: Images) -> Path:
    image = images.blank(16 << 20)
    tool("mkfs.minix", image)
    return image


def newer(images: Images) -> Path:
    image = images.made("ext4")
    tool("debugfs", "-w", "-R", "feature FEATURE_I20", image)
    return image


def like_the_helper_s_own(images: Images) -> Path:
    own = images.made("ext4")
    uuid = tool("blkid", "-p", "-o", "value", "-s", "UUID", own).strip()
    top = images.folder / "own"
    top.mkdir()
    root("mount", images.loop(own), top)
    images.remember(top)
    return images.made("ext4", "-U", uuid)


VOLUMES = {
    "without-a-filesystem": Volume(
        make=blank, verdict="INCONSISTENT", says="no ext4 is recognised where the source has one"
    ),
    "with-two-partitions": Volume(make=two_partitions, verdict="RECOVERED", says="records intact"),
    "with-two-partitions-of-which-one-is-damaged": Volume(
        make=partial(two_partitions, damaged=True), verdict="INCONSISTENT", says="damaged"
    ),
    "on-lvm": Volume(make=lvm, verdict="RECOVERED", says="records intact"),
    "on-lvm-and-damaged": Volume(make=partial(lvm, change=damaged), verdict="INCONSISTENT", says="damaged"),
    "on-lvm-in-pieces": Volume(
        make=partial(lvm, change=in_pieces),
        verdict="INCONCLUSIVE",
        says="vg0/root: it lies in 2 pieces; activate a restored copy of it on a machine of its own",
    ),
    "with-an-unknown-filesystem": Volume(make=unknown, verdict="INCONCLUSIVE", says="minix is not examined"),
    "with-a-newer-filesystem": Volume(
        make=newer, verdict="INCONCLUSIVE", says="FEATURE_I20.*newer than the tools"
    ),
    "with-the-uuid-of-the-helper-s-root": Volume(
        make=like_the_helper_s_own, verdict="RECOVERED", says="records intact"
    ),
}


@pytest.fixture(scope="module")
def ran(shared: World, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A drill for each volume, whose helper answers with what lies on it."""
    shared.reset()
    for name, volume in VOLUMES.items():
        with Images(tmp_path_factory.mktemp(name[-20:])) as images:
            seen = examine(volume.make(images), filesystem="ext4")
        shared.guests("helper", server=name).says = {
            stage: partial(_instead, seen[stage]) for stage in STAGES
        }
    servers = [{"name": name, "os": "linux", "launch": {"image": "linux"}} for name in VOLUMES]
    ran = shared.run(alone(servers=servers))
    assert shared.left() == []
    return ran


def _instead(real: dict[str, Any], made_up: dict[str, Any]) -> dict[str, Any]:
    """What was really seen, on the volume that the drill has made."""
    return {**real, **{key: made_up[key] for key in ("serial",) if key in made_up}}


@pytest.mark.parametrize("name", VOLUMES)
def test_a_volume(name: str, ran: Ran) -> None:
    cell, volume = f"{name}/root/running/1", VOLUMES[name]
    assert ran.verdicts[cell] == volume.verdict, ran.reason(cell)
    assert re.search(volume.says, ran.reason(cell)), ran.reason(cell)
