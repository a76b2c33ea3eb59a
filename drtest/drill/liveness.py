"""Which runs of this machine are alive: each holds a lock that the kernel lets go of when its process ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_state_path


def _lock(run: str) -> Path:
    return user_state_path("drtest") / "runs" / f"{run}.lock"


@contextmanager
def alive(run: str) -> Iterator[None]:
    """Hold the lock of a run for as long as it is at work."""
    path = _lock(run)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def at_work(run: str) -> bool:
    """Whether a process of this machine is at work on a run; of other machines nothing is known."""
    try:
        handle = os.open(_lock(run), os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        # Its process was killed: the file says nothing any more.
        _lock(run).unlink(missing_ok=True)
        return False
    finally:
        os.close(handle)
