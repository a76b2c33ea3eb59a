"""This machine as a guest: the same verbs without a network, for `drtest check fs` and for tests."""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Self

from drtest.guest.lines import Lines
from drtest.guest.transport import (
    LIMIT,
    AnswerError,
    Cancelled,
    GuestCancelledError,
    GuestDeadlineError,
    Result,
    Stream,
    never,
)

POLL = 0.25
STDERR_KEPT = 64 * 1024


class LocalGuest:
    """Runs commands by this machine's ``sh``; becomes root by ``sudo -n`` where it is not, as on any guest."""

    address = "this machine"
    host_key = ""

    def __init__(self, *, cancelled: Cancelled = never) -> None:
        self._cancelled = cancelled

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is held open."""

    def run(self, command: str, *, stdin: bytes = b"", deadline: float, limit: int = LIMIT) -> Result:
        """Runs one command; see `drtest.guest.transport.Guest.run`."""
        stdout, stderr = bytearray(), bytearray()
        with self._process(command, deadline) as running:
            running.send(stdin)
            running.stop()
            for out, err in running.pieces():
                stdout += out
                stderr += err
                if len(stdout) + len(stderr) > limit:
                    raise AnswerError(
                        f"a command printed more than {limit} bytes: this is no answer of drtest's"
                    )
        return Result(exit=running.exit, stdout=bytes(stdout), stderr=bytes(stderr))

    @contextlib.contextmanager
    def stream(self, command: str, *, stdin: bytes = b"", deadline: float) -> Iterator[Stream]:
        """Runs a program whose lines are wanted as they come."""
        with self._process(command, deadline) as running:
            running.send(stdin)
            yield running

    @contextlib.contextmanager
    def _process(self, command: str, deadline: float) -> Iterator["_Running"]:
        process = subprocess.Popen(
            ["sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        try:
            yield _Running(process, time.monotonic() + deadline, self._cancelled)
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


class _Running:
    """One process: its input is fed and its outputs are drained together."""

    def __init__(self, process: "subprocess.Popen[bytes]", ends: float, cancelled: Cancelled) -> None:
        self._process = process
        self._ends = ends
        self._cancelled = cancelled
        self._input = b""
        self._close = False
        self._stderr = b""

    def send(self, data: bytes) -> None:
        self._input += data

    def stop(self) -> None:
        self._close = True

    @property
    def exit(self) -> int | None:
        code = self._process.poll()
        return code if code is not None and code >= 0 else None

    @property
    def stderr(self) -> bytes:
        return self._stderr

    def __iter__(self) -> Iterator[bytes]:
        lines = Lines()
        for out, err in self.pieces():
            self._stderr = (self._stderr + err)[-STDERR_KEPT:]
            yield from lines.add(out)
        yield from lines.end()

    def pieces(self) -> Iterator[tuple[bytes, bytes]]:
        """Pieces of both outputs as they come, until both have ended and the process too."""
        process = self._process
        if process.stdin is None or process.stdout is None or process.stderr is None:
            return
        os.set_blocking(process.stdin.fileno(), False)
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(process.stderr, selectors.EVENT_READ)
            while selector.get_map():
                self._check()
                self._feed(process.stdin)
                for key, _ in selector.select(0.02 if self._input else POLL):
                    piece = os.read(key.fd, 65536)
                    if not piece:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is process.stdout:
                        yield piece, b""
                    else:
                        yield b"", piece
        while process.poll() is None:
            self._check()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL)

    def _check(self) -> None:
        if self._cancelled():
            raise GuestCancelledError("a command on this machine was cancelled")
        if time.monotonic() >= self._ends:
            raise GuestDeadlineError("a command on this machine did not end in time")

    def _feed(self, pipe: IO[bytes]) -> None:
        try:
            while self._input:
                written = os.write(pipe.fileno(), self._input[:65536])
                self._input = self._input[written:]
        except BlockingIOError:
            return
        except OSError:  # it does not read any more: its output tells why
            self._input = b""
        if self._close and not pipe.closed:
            pipe.close()
