"""Guest images by name: the lab's own, built from recipes and cached by a hash of them, and the user's."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path

from drtest.errors import EnvironmentFailedError, UsageError
from drtest.lab import cache, debian, own_images, windows

Progress = Callable[[str, float], None]
"""Called with a stage, for people, and how much of the whole is done: 0 to 1."""

BUILDER = 1
"""Counted up when this module or ``debian`` builds other bytes from the same recipe."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """A guest image that machines can be started from.

    Attributes:
        name: what scenarios call it, as ``linux``.
        os: ``linux`` or ``windows``.
        layer: its disk, a qcow2 file in the cache that is never written again.
        root_device: the name that EC2 has for its root device.
        size: its disk's size in bytes, in whole GiB as EBS has them.
        version: the hash of the recipe that it was built by.
        notice: what has to be said wherever results from it are shown; empty if there is nothing.
        pool: how strong the write pool of its root volume is, 0 to 1; 0 for none.
    """

    name: str
    os: str
    layer: Path
    root_device: str
    size: int
    version: str
    notice: str = ""
    pool: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """How an image is made; the attributes that it shares with `Image` are the image's.

    Attributes:
        folder: the recipe's folder.
        version: says what goes into it, in bytes that change with any of it.
        build: makes the disk, and names the packages in it.
    """

    folder: str
    os: str
    root_device: str
    size: int
    version: Callable[[Path], bytes]
    build: Callable[..., dict[str, str]]
    notice: str = ""
    pool: float = 0.0


def _linux_version(recipe: Path) -> bytes:
    fixed = (BUILDER, debian.SUITE, debian.PACKAGES, debian.EXCLUDED, debian.DISK_BYTES, debian.FEATURES)
    digest = hashlib.sha256(repr(fixed).encode())
    for file in sorted(recipe.iterdir(), key=lambda entry: entry.name):
        if file.is_file():
            digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
    return digest.digest()


_WINDOWS = _Recipe(
    folder="windows",
    os="windows",
    root_device="/dev/sda1",
    size=windows.DISK_BYTES,
    version=windows.version,
    build=windows.build,
    notice=windows.NOTICE,
)

_RECIPES = {
    "linux": _Recipe(
        folder="linux",
        os="linux",
        root_device="/dev/xvda",
        size=debian.DISK_BYTES,
        version=_linux_version,
        build=debian.build,
    ),
    "windows": replace(_WINDOWS, pool=windows.POOL),
    # What is attached to a helper came from ``windows``: the same disk signature twice would take it offline.
    "windows-helper": _WINDOWS,
}


def recipe_hash(name: str) -> str:
    """Say which version of a recipe this is: 16 hexadecimal digits that change with any of its files.

    Raises:
        UsageError: there is no recipe of that name.
    """
    recipe = _recipe(name)
    with as_file(files("drtest.lab.recipes") / recipe.folder) as folder:
        return recipe.version(folder).hex()[:16]


def cached(name: str) -> Image | None:
    """Find the user's image of that name, or one that was built before from today's recipe; None if there is none."""
    brought = own_images.found(name)
    if brought is not None:
        layer, about = brought
        return Image(
            name=name,
            os=about["os"],
            layer=layer,
            root_device=about["root_device"],
            size=about["size"],
            version=about["version"],
            pool=about["pool"],
        )
    return _kept(name, recipe_hash(name))


def _kept(name: str, version: str) -> Image | None:
    recipe, place = _recipe(name), cache.folder(name, version)
    layer = place / "disk.qcow2"
    if not cache.is_kept(place) or not layer.is_file():
        return None
    return Image(
        name=name,
        os=recipe.os,
        layer=layer,
        root_device=recipe.root_device,
        size=recipe.size,
        version=version,
        notice=recipe.notice,
        pool=recipe.pool,
    )


def build(name: str, *, progress: Progress | None = None, deadline: float = 3600.0) -> Image:
    """Find an image, or build it if it is one of the lab's own. Safe to call from several processes at once.

    A build that is interrupted, in whatever way, leaves nothing that looks finished.

    Args:
        name: the image, as ``linux``.
        progress: is told the stage and the fraction done, from the calling thread.
        deadline: seconds that the build itself may take.

    Raises:
        UsageError: there is no image of that name.
        EnvironmentFailedError: the build failed; the end of its log and the log's path are in the message.
    """
    tell = progress or (lambda _stage, _fraction: None)
    image = cached(name)
    if image is not None:
        return image
    recipe, version = _recipe(name), recipe_hash(name)
    place = cache.folder(name, version)

    def make(staging: Path, log: Path) -> None:
        disk = staging / "disk.qcow2"
        with as_file(files("drtest.lab.recipes") / recipe.folder) as folder:
            packages = recipe.build(
                folder,
                disk,
                name=place.name,
                work=staging / "work",
                log=log,
                tell=tell,
                deadline=deadline,
            )
        about = {
            "name": name,
            "os": recipe.os,
            "notice": recipe.notice,
            "built": datetime.now(UTC).isoformat(timespec="seconds"),
            "packages": packages,
        }
        (staging / cache.DONE).write_text(json.dumps(about, indent=1) + "\n")
        disk.chmod(0o444)

    cache.build(place, make, tell=tell)
    tell("done", 1.0)
    image = _kept(name, version)
    if image is None:
        raise EnvironmentFailedError(f"the image in {place} was removed while it was being built")
    return image


def _recipe(name: str) -> _Recipe:
    if name not in _RECIPES:
        raise UsageError(
            f"the lab has no image {name!r}",
            remedy=f"It can build: {', '.join(_RECIPES)}. `drtest lab image add` takes one of yours.",
        )
    return _RECIPES[name]
