"""How to talk to a guest: one verb, one plain result, and a stream for what goes on for a while."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from drtest.errors import DeadlineError, EnvironmentFailedError

LIMIT = 8 * 1024 * 1024
"""Bytes of output that a command may give; no answer of a probe comes near."""

LINE_LIMIT = 64 * 1024
"""Bytes that one line of a stream may have."""


class GuestError(EnvironmentFailedError):
    """A guest could not be asked, or its answer could not be used."""


class UnreachableError(GuestError):
    """It was never reached, or the connection was lost in the middle of an answer."""


class HostKeyError(GuestError):
    """Another machine answered: its host key is none of those accepted.

    Attributes:
        presented: the key that it showed, as ``ssh-ed25519 AAAA…``.
    """

    def __init__(self, seen: str, *, presented: str, remedy: str = "") -> None:
        super().__init__(seen, remedy=remedy)
        self.presented = presented


class LoginError(GuestError):
    """It was reached and did not let us in, or did not let us become root."""


class AnswerError(GuestError):
    """What came is no answer: half of one, garbage, or far too much."""


class GuestDeadlineError(GuestError, DeadlineError):
    """It was reached, and did not finish in time."""


class GuestCancelledError(GuestError):
    """The caller no longer wants to know."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one command.

    Attributes:
        exit: its exit code; None where none came (it was ended by a signal, or the guest did not say).
        stdout, stderr: all that it printed.
    """

    exit: int | None
    stdout: bytes
    stderr: bytes

    def tail(self, length: int = 400) -> str:
        """The end of what it printed, errors last: for a message."""
        text = b"\n".join(part.strip() for part in (self.stdout, self.stderr) if part.strip())
        return text.decode("utf-8", "replace")[-length:].strip()


class Stream(Protocol):
    """A program that prints lines while it runs. Iterate in one thread; stop it from any."""

    def __iter__(self) -> Iterator[bytes]:
        """Its lines, without their ends, until it ends.

        Raises:
            GuestDeadlineError: the stream's deadline is over.
            UnreachableError: the connection was lost.
            AnswerError: a line is too long.
        """
        ...

    def send(self, data: bytes) -> None:
        """Writes to its input."""
        ...

    def stop(self) -> None:
        """Closes its input, which asks it to end; iterate on until it has."""
        ...

    @property
    def exit(self) -> int | None:
        """Its exit code, once the lines have ended."""
        ...

    @property
    def stderr(self) -> bytes:
        """The end of what it printed as errors."""
        ...


class Guest(Protocol):
    """A machine that commands can be run on.

    Deadlines are in seconds from the call, and hard: whatever the guest does, the call is over by then.
    """

    @property
    def address(self) -> str:
        """Where it is, for messages."""
        ...

    @property
    def host_key(self) -> str:
        """The host key that it proved to have; empty where there is no such thing."""
        ...

    def run(self, command: str, *, stdin: bytes = b"", deadline: float, limit: int = LIMIT) -> Result:
        """Runs one command by the guest's shell and waits for its end.

        Args:
            command: for the guest's shell.
            stdin: what it gets to read, and then end of file.
            deadline: seconds from now.
            limit: bytes of output that are borne.

        Raises:
            UnreachableError: the connection was lost.
            GuestDeadlineError: it did not end in time.
            GuestCancelledError: the caller cancelled.
            AnswerError: it printed more than `limit`.
        """
        ...

    def stream(self, command: str, *, stdin: bytes = b"", deadline: float) -> AbstractContextManager[Stream]:
        """Runs a program whose lines are wanted as they come; `stdin` is sent first, and its input stays open."""
        ...

    def close(self) -> None:
        """Ends the connection; never raises."""
        ...


Cancelled = Callable[[], bool]
"""Asked twice a second or more whether the caller still wants to know."""


def never() -> bool:
    """The `Cancelled` of a caller that never cancels."""
    return False
