"""An append-only file of lines: each is on disk when it is added, and one that was torn at the end is dropped."""

import os
from pathlib import Path

from drtest.errors import EnvironmentFailedError


class LinesError(EnvironmentFailedError):
    """The file can't be written, or holds what was never written to it."""


class Lines:
    """The file, open for adding. Not safe for many threads: its owner holds a lock."""

    def __init__(self, path: Path) -> None:
        """Opens it, or makes it; drops what a kill -9 left of a line that was never acknowledged."""
        self.path = path
        new = not path.exists()
        content = b"" if new else path.read_bytes()
        whole = content.rfind(b"\n") + 1
        self.found = tuple(content[:whole].split(b"\n")[:-1])
        self.dropped = content[whole:].decode(errors="replace")
        self._handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        if self.dropped:
            os.ftruncate(self._handle, whole)
            os.fsync(self._handle)
        if new:
            sync_folder(path.parent)

    def add(self, line: str) -> None:
        """Adds a line; it is on disk when this returns.

        Raises:
            LinesError: the disk did not take it; nothing of it is left in the file.
        """
        if self._handle < 0:
            raise LinesError(f"{self.path} is closed")
        size = os.fstat(self._handle).st_size
        try:
            left = memoryview(f"{line}\n".encode())
            while left:
                left = left[os.write(self._handle, left) :]
            os.fsync(self._handle)
        except OSError as error:
            os.ftruncate(self._handle, size)
            raise LinesError(
                f"{self.path} could not be written: {error.strerror}",
                remedy="Free some disk space, then go on with --resume.",
            ) from error

    def close(self) -> None:
        """Closes the file; closing it again changes nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable: a new file's own fsync does not."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, content: bytes) -> None:
    """Puts a file in place of what is there, whole or not at all; it is on disk when this returns.

    Raises:
        LinesError: the disk did not take it; what was there is as it was.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise LinesError(
            f"{path} could not be written: {error.strerror}",
            remedy="Free some disk space, then go on with --resume.",
        ) from error
