"""Calls that block, made to end at a deadline or when the caller cancels: the connection is cut under them."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from drtest.guest.transport import Cancelled, GuestCancelledError, GuestDeadlineError, GuestError

POLL = 0.25
"""Seconds between two looks at the deadline and at the caller's wish; a cancel is seen within half a second."""

T = TypeVar("T")


class Bounds:
    """A deadline, the caller's wish, and the connection that is cut when either is over.

    Args:
        place: what is talked to, for messages.
        ends: the deadline, by `time.monotonic`.
        cancelled: see `drtest.guest.transport.Cancelled`.
        connection: the socket below all calls.
        translate: makes an error of the library one of ours.
    """

    def __init__(
        self,
        *,
        place: str,
        ends: float,
        cancelled: Cancelled,
        connection: socket.socket,
        translate: Callable[[str, BaseException], BaseException],
    ) -> None:
        self.place = place
        self.ends = ends
        self.cancelled = cancelled
        self.connection = connection
        self._translate = translate

    def abort(self) -> None:
        """Cuts the connection, which ends whatever waits for it."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self.connection.close()

    def check(self, what: str) -> None:
        """Raises where time is over or the caller has cancelled."""
        if self.cancelled():
            raise GuestCancelledError(f"{self.place}: cancelled")
        if time.monotonic() >= self.ends:
            raise GuestDeadlineError(f"{self.place}: {what} in time")

    def do(self, call: Callable[[], T], what: str) -> T:
        """The call's result; it runs in a thread of its own, which ends with the connection at the latest."""
        results: list[T] = []
        problems: list[BaseException] = []

        def work() -> None:
            try:
                results.append(call())
            except BaseException as problem:  # it is raised again below, in the caller's thread
                problems.append(problem)

        worker = threading.Thread(target=work, daemon=True, name="drtest-ssh")
        worker.start()
        while worker.is_alive():
            worker.join(max(0.01, min(POLL, self.ends - time.monotonic())))
            if worker.is_alive():
                try:
                    self.check(what)
                except GuestError:
                    self.abort()
                    raise
        if problems:
            raise self._translate(self.place, problems[0]) from problems[0]
        return results[0]
