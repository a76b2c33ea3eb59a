"""What is built once and found again: folders in the user's cache, each there as a whole or not at all."""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from drtest.errors import DeadlineError, DrtestError, EnvironmentFailedError
from drtest.lab.tools import remove

Tell = Callable[[str, float], None]
"""Called with a stage, for people, and how much of the whole is done: 0 to 1."""

LOCK_SECONDS = 3600.0
"""How long one builder waits for another one that builds the same."""

DONE = "image.json"
"""The file that a folder ends with: it says what is in it."""


def folder(name: str, version: str) -> Path:
    """Say where a version of something is kept."""
    return Path(platformdirs.user_cache_dir("drtest")) / "images" / f"{name}-{version}"


def is_kept(place: Path) -> bool:
    """Say whether a folder was built, to its end."""
    return (place / DONE).is_file()


def build(place: Path, make: Callable[[Path, Path], None], *, tell: Tell) -> None:
    """Build a folder, or find it. Safe to call from several processes at once.

    A build that is interrupted, in whatever way, leaves nothing that looks finished.

    Args:
        place: the folder, as `folder` says.
        make: is given the folder to build in, whose name will be another, and the file to log to, in there. Its
            folder ``work`` is removed at the end.
        tell: is told that another process is at it.

    Raises:
        EnvironmentFailedError: the build failed; the end of its log and the log's path are in the message.
        DeadlineError: another process has been building it for an hour.
    """
    if is_kept(place):
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place.with_suffix(".lock"), tell):
            if not is_kept(place):
                _build(place, make)
    except OSError as error:
        raise EnvironmentFailedError(
            f"the image {place.name.rpartition('-')[0]!r} could not be built in {place.parent}: {error}",
            remedy="Make room there, or have XDG_CACHE_HOME name a folder that can be written.",
        ) from error


def _build(place: Path, make: Callable[[Path, Path], None]) -> None:
    for left in place.parent.glob(f".{place.name}.*"):
        remove(left)  # what a killed build left: nobody else can be at it, we hold its lock
    staging = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    log, failed_log = staging / "build.log", place.with_suffix(".failed.log")
    try:
        make(staging, log)
        remove(staging / "work")
        staging.chmod(0o755)
        os.sync()
        staging.rename(place)
    except BaseException as error:
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


@contextmanager
def _locked(path: Path, tell: Tell) -> Iterator[None]:
    """Hold the lock of one build; the kernel drops it with the process, whatever becomes of that."""
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
