"""Guest images: built without root from Debian's packages, and cached by a hash of their recipe."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

import platformdirs

from drtest.errors import DeadlineError, DrtestError, EnvironmentFailedError, UsageError
from drtest.lab import debian
from drtest.lab.tools import remove

Progress = Callable[[str, float], None]
"""Called with a stage, for people, and how much of the whole is done: 0 to 1."""

BUILDER = 1
"""Counted up when this module or ``debian`` builds other bytes from the same recipe."""

LOCK_SECONDS = 3600.0
"""How long one builder waits for another one that builds the same image."""


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
    """

    name: str
    os: str
    layer: Path
    root_device: str
    size: int
    version: str
    notice: str = ""


def recipe_hash(name: str) -> str:
    """Say which version of a recipe this is: 16 hexadecimal digits that change with any of its files.

    Raises:
        UsageError: there is no recipe of that name.
    """
    fixed = (BUILDER, debian.SUITE, debian.PACKAGES, debian.EXCLUDED, debian.DISK_BYTES, debian.FEATURES)
    digest = hashlib.sha256(repr(fixed).encode())
    for file in sorted(_recipe(name).iterdir(), key=lambda entry: entry.name):
        if file.is_file():
            digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def cached(name: str) -> Image | None:
    """Find an image that was built before from today's recipe; None if there is none."""
    return _load(_folder(name))


def build(name: str, *, progress: Progress | None = None, deadline: float = 3600.0) -> Image:
    """Build an image, or find it in the cache. Safe to call from several processes at once.

    A build that is interrupted, in whatever way, leaves nothing that looks finished.

    Args:
        name: the recipe, as ``linux``.
        progress: is told the stage and the fraction done, from the calling thread.
        deadline: seconds that the build itself may take.

    Raises:
        UsageError: there is no recipe of that name.
        EnvironmentFailedError: the build failed; the end of its log and the log's path are in the message.
    """
    tell = progress or (lambda _stage, _fraction: None)
    folder = _folder(name)
    image = _load(folder)
    if image is not None:
        return image
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".lock"), tell):
            return _load(folder) or _build(name, folder, tell, deadline)
    except OSError as error:
        raise EnvironmentFailedError(
            f"the image {name!r} could not be built in {folder.parent}: {error}",
            remedy="Make room there, or have XDG_CACHE_HOME name a folder that can be written.",
        ) from error


def _build(name: str, folder: Path, tell: Progress, deadline: float) -> Image:
    for left in folder.parent.glob(f".{folder.name}.*"):
        remove(left)  # what a killed build left: nobody else can be at it, we hold its lock
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    failed_log = folder.with_suffix(".failed.log")
    try:
        with as_file(_recipe(name)) as recipe:
            packages = debian.build(
                recipe,
                staging / "disk.qcow2",
                name=folder.name,
                work=staging / "work",
                log=staging / "build.log",
                tell=tell,
                deadline=deadline,
            )
        about = {
            "name": name,
            "os": "linux",
            "root_device": "/dev/xvda",
            "size": debian.DISK_BYTES,
            "notice": "",
            "built": datetime.now(UTC).isoformat(timespec="seconds"),
            "packages": packages,
        }
        (staging / "image.json").write_text(json.dumps(about, indent=1) + "\n")
        (staging / "disk.qcow2").chmod(0o444)
        remove(staging / "work")
        staging.chmod(0o755)
        os.sync()
        staging.rename(folder)
    except BaseException as error:
        log = staging / "build.log"
        tail = _tail(log)
        if tail:
            shutil.copyfile(log, failed_log)
        remove(staging)
        if isinstance(error, DrtestError) and tail:
            raise type(error)(
                f"{error.seen}\n{tail}", remedy=f"{error.remedy} The whole log is {failed_log}.".strip()
            ) from error
        raise
    failed_log.unlink(missing_ok=True)
    tell("done", 1.0)
    image = _load(folder)
    if image is None:
        raise EnvironmentFailedError(f"the image in {folder} was removed while it was being built")
    return image


def _recipe(name: str) -> Traversable:
    recipes = files("drtest.lab.recipes")
    known = sorted(entry.name for entry in recipes.iterdir() if (entry / "customize.sh").is_file())
    if name not in known:
        raise UsageError(f"the lab has no image {name!r}", remedy=f"It can build: {', '.join(known)}.")
    return recipes / name


def _folder(name: str) -> Path:
    return Path(platformdirs.user_cache_dir("drtest")) / "images" / f"{name}-{recipe_hash(name)}"


def _load(folder: Path) -> Image | None:
    try:
        about = json.loads((folder / "image.json").read_text())
    except FileNotFoundError:
        return None
    layer = folder / "disk.qcow2"
    if not layer.is_file():
        return None
    return Image(
        name=about["name"],
        os=about["os"],
        layer=layer,
        root_device=about["root_device"],
        size=about["size"],
        version=folder.name.rpartition("-")[2],
        notice=about["notice"],
    )


@contextmanager
def _locked(path: Path, tell: Progress) -> Iterator[None]:
    """Hold the lock of one image; the kernel drops it with the process, whatever becomes of that."""
    with path.open("w") as file:
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise DeadlineError(
                        f"another process has been building the image for {LOCK_SECONDS:.0f} s (lock: {path})",
                        remedy="Look for a hanging 'drtest' or 'mmdebstrap', and end it.",
                    ) from None
                tell("another drtest is building this image", 0.0)
                time.sleep(0.5)
        yield


def _tail(log: Path, lines: int = 25) -> str:
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(re.sub(r"[^\t\x20-\x7e]", "?", line)[:300] for line in text.splitlines()[-lines:])
