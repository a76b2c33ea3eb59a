"""One SSH connection: commands and streams over its channels, none of them without an end."""

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import paramiko

from drtest.guest.bounds import POLL, Bounds
from drtest.guest.lines import Lines
from drtest.guest.transport import (
    LIMIT,
    AnswerError,
    Cancelled,
    LoginError,
    Result,
    Stream,
    UnreachableError,
    never,
)

GRACE = 3.0
"""Seconds that output may still take after the exit code: a child that holds it open must not hold us."""
STDERR_KEPT = 64 * 1024


def translated(place: str, problem: BaseException) -> BaseException:
    """An error of paramiko's as one of ours."""
    if isinstance(problem, paramiko.AuthenticationException):
        return LoginError(
            f"{place} refused the login: {problem}",
            remedy="Check the user name and the key of the target's login settings.",
        )
    if isinstance(problem, paramiko.SSHException | EOFError | OSError):
        return UnreachableError(f"{place}: {type(problem).__name__}: {problem}")
    return problem


class SshGuest:
    """A guest that is connected. `host_key` is the accepted one that it proved to have."""

    def __init__(
        self,
        place: str,
        transport: paramiko.Transport,
        connection: socket.socket,
        host_key: str,
        cancelled: Cancelled,
    ) -> None:
        self.address = place
        self.host_key = host_key
        self._transport = transport
        self._connection = connection
        self._cancelled = cancelled

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; never raises."""
        bounds = self._bounds(time.monotonic() + 2.0, never)
        with contextlib.suppress(Exception):
            bounds.do(self._transport.close, "it did not close")
        bounds.abort()

    def run(self, command: str, *, stdin: bytes = b"", deadline: float, limit: int = LIMIT) -> Result:
        """Runs one command; see `drtest.guest.transport.Guest.run`."""
        bounds = self._bounds(time.monotonic() + deadline, self._cancelled)
        stdout, stderr = bytearray(), bytearray()
        with self._channel(command, bounds) as channel:
            for out, err in _exchange(channel, bounds, _Input(stdin, then_close=True)):
                stdout += out
                stderr += err
                if len(stdout) + len(stderr) > limit:
                    raise AnswerError(
                        f"{self.address} sent more than {limit} bytes: this is no answer of drtest's"
                    )
            return Result(exit=_exit(channel, bounds), stdout=bytes(stdout), stderr=bytes(stderr))

    @contextlib.contextmanager
    def stream(self, command: str, *, stdin: bytes = b"", deadline: float) -> Iterator[Stream]:
        """Runs a program whose lines are wanted as they come."""
        bounds = self._bounds(time.monotonic() + deadline, self._cancelled)
        with self._channel(command, bounds) as channel:
            yield _SshStream(channel, bounds, stdin)

    def _bounds(self, ends: float, cancelled: Cancelled) -> Bounds:
        return Bounds(
            place=self.address,
            ends=ends,
            cancelled=cancelled,
            connection=self._connection,
            translate=translated,
        )

    @contextlib.contextmanager
    def _channel(self, command: str, bounds: Bounds) -> Iterator[paramiko.Channel]:
        bounds.check("no command was begun")

        def begin() -> paramiko.Channel:
            channel = self._transport.open_session(timeout=max(0.1, bounds.ends - time.monotonic()))
            channel.exec_command(command)
            channel.setblocking(False)
            return channel

        channel = bounds.do(begin, "it did not begin a command")
        try:
            yield channel
        finally:
            closing = self._bounds(time.monotonic() + 2.0, never)
            with contextlib.suppress(Exception):
                closing.do(channel.close, "it did not close")


class _Input:
    """What a program gets to read: some now, more later, an end."""

    def __init__(self, data: bytes, *, then_close: bool) -> None:
        self._data = data
        self._place = 0
        self._closed = then_close
        self._done = False
        self._lock = threading.Lock()

    def add(self, data: bytes) -> None:
        with self._lock:
            self._data, self._place = self._data[self._place :] + data, 0

    def close(self) -> None:
        with self._lock:
            self._closed = True

    @property
    def waiting(self) -> bool:
        """Whether there is anything to send, its end included."""
        with self._lock:
            return self._place < len(self._data) or (self._closed and not self._done)

    def pump(self, channel: paramiko.Channel) -> None:
        """Sends as much as the channel takes now."""
        with self._lock:
            while self._place < len(self._data) and channel.send_ready():
                try:
                    self._place += channel.send(self._data[self._place : self._place + 32768])
                except TimeoutError:
                    return
                except OSError:  # it does not read any more: its output tells why
                    self._place = len(self._data)
            if self._closed and not self._done and self._place >= len(self._data):
                self._done = True
                with contextlib.suppress(OSError, EOFError):
                    channel.shutdown_write()


def _exchange(channel: paramiko.Channel, bounds: Bounds, feed: _Input) -> Iterator[tuple[bytes, bytes]]:
    """Pieces of both outputs as they come, drained together, until both have ended.

    An exit code without an end of output means that a child still holds it: then it ends after `GRACE`.
    """
    quiet_since: float | None = None
    while True:
        bounds.check("the command did not end")
        if feed.waiting:
            bounds.do(lambda: feed.pump(channel), "it did not take its input")
        ended = channel.eof_received or channel.closed  # asked before reading: what came before it is read
        out = channel.recv(65536) if channel.recv_ready() else b""
        err = channel.recv_stderr(65536) if channel.recv_stderr_ready() else b""
        if out or err:
            quiet_since = None
            yield out, err
            continue
        if ended:
            return
        if channel.exit_status_ready():
            quiet_since = quiet_since or time.monotonic()
            if time.monotonic() - quiet_since > GRACE:
                return
        _wait(channel, feed)


def _wait(channel: paramiko.Channel, feed: _Input) -> None:
    try:
        select.select([channel], [], [], 0.05 if feed.waiting else POLL)
    except (OSError, ValueError):
        time.sleep(0.05)


def _exit(channel: paramiko.Channel, bounds: Bounds) -> int | None:
    """The exit code, which may come a moment after the output's end; -1 is paramiko's word for none."""
    until = time.monotonic() + GRACE
    while not channel.exit_status_ready() and not channel.closed and time.monotonic() < until:
        channel.status_event.wait(0.1)
    if channel.exit_status >= 0:
        return channel.exit_status
    transport = channel.get_transport()
    if transport is None or not transport.is_active():
        raise UnreachableError(f"{bounds.place}: the connection was lost in the middle of an answer")
    return None


class _SshStream:
    """The lines of one program over one channel."""

    def __init__(self, channel: paramiko.Channel, bounds: Bounds, stdin: bytes) -> None:
        self._channel = channel
        self._bounds = bounds
        self._feed = _Input(stdin, then_close=False)
        self._stderr = b""
        self._exit: int | None = None

    def __iter__(self) -> Iterator[bytes]:
        lines = Lines()
        for out, err in _exchange(self._channel, self._bounds, self._feed):
            self._stderr = (self._stderr + err)[-STDERR_KEPT:]
            yield from lines.add(out)
        yield from lines.end()
        self._exit = _exit(self._channel, self._bounds)

    def send(self, data: bytes) -> None:
        self._feed.add(data)

    def stop(self) -> None:
        self._feed.close()

    @property
    def exit(self) -> int | None:
        return self._exit

    @property
    def stderr(self) -> bytes:
        return self._stderr
