"""A guest that is reached by WinRM: each command in a shell of its own, which is closed whatever happens."""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from winrm.exceptions import WinRMOperationTimeoutError, WSManFaultError
from winrm.protocol import Protocol

from drtest.guest import clixml, fingerprint, powershell
from drtest.guest.bounds import Bounds
from drtest.guest.lines import Lines
from drtest.guest.transport import (
    LIMIT,
    AnswerError,
    Cancelled,
    GuestError,
    Result,
    Stream,
    never,
)
from drtest.guest.wire import Wire

UTF8 = 65001
"""The code page of a shell; pywinrm's default is 437."""
PIECE = 64 * 1024
"""Bytes of input in one request: in base64 twice (pywinrm's and ours) it stays below MaxEnvelopeSize, 153,600."""
TIDY = 3.0
"""Seconds that ending a command, and then closing its shell, may take beyond a deadline: shells are counted."""
STDERR_KEPT = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Link:
    """pywinrm's protocol, and the connections below it."""

    protocol: Protocol
    wire: Wire


Translate = Callable[[str, BaseException], BaseException]


class _Bounds(Bounds):
    """A deadline over requests: when it is over, the connections below them are cut."""

    def __init__(
        self, *, place: str, ends: float, cancelled: Cancelled, link: Link, translate: Translate
    ) -> None:
        self.place = place
        self.ends = ends
        self.cancelled = cancelled
        self._wire = link.wire
        self._translate = translate

    def abort(self) -> None:
        """Cuts the connections."""
        self._wire.cut()


class WinrmGuest:
    """A guest that has let us in.

    Args:
        place: where it is, for messages.
        link: makes a link of its own for each command, so that none waits for another.
        translate: makes an error of pywinrm's one of ours.
        cancelled: see `drtest.guest.transport.Cancelled`.
    """

    def __init__(
        self, place: str, *, link: Callable[[], Link], translate: Translate, cancelled: Cancelled
    ) -> None:
        self.address = place
        self._make_link = link
        self._link = link()
        self._translate = translate
        self._cancelled = cancelled

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def host_key(self) -> str:
        """The SHA-256 fingerprint of the certificate that it proved to have, as ``x509-sha256 ab12…``."""
        certificate = self._link.wire.certificate
        return f"x509-sha256 {fingerprint.of_certificate(certificate)}" if certificate else ""

    def close(self) -> None:
        """Ends the connections; never raises."""
        with contextlib.suppress(Exception):
            self._link.protocol.transport.close_session()
        self._link.wire.cut()

    def prove(self, *, deadline: float) -> None:
        """Opens a shell and closes it again: the login is good, and may do what is wanted of it."""
        bounds = self._bounds(self._link, time.monotonic() + deadline, self._cancelled)
        with self._shell(self._link, bounds):
            pass

    def run(self, command: str, *, stdin: bytes = b"", deadline: float, limit: int = LIMIT) -> Result:
        """Runs one command line by cmd.exe; see `drtest.guest.transport.Guest.run`.

        Raises:
            AnswerError: it is longer than the 8,191 characters that cmd.exe takes; or it printed more than `limit`.
        """
        bounds = self._bounds(self._link, time.monotonic() + deadline, self._cancelled)
        stdout, stderr = bytearray(), bytearray()
        with self._command(self._link, command, bounds, piped=bool(stdin)) as running:
            running.feed(stdin, end=True)
            for out, err in running.pieces():
                stdout += out
                stderr += err
                if len(stdout) + len(stderr) > limit:
                    raise AnswerError(
                        f"{self.address} sent more than {limit} bytes: this is no answer of drtest's"
                    )
        return Result(exit=running.exit, stdout=bytes(stdout), stderr=bytes(stderr))

    def run_powershell(self, script: str, *, deadline: float, limit: int = LIMIT) -> Result:
        """Runs one script of any length by Windows PowerShell, and gives what it put out.

        The script ends by running to its end or by `throw`, never by `exit`. Each object that it puts out becomes one
        line; for data of more than words it puts out JSON.

        Raises:
            AnswerError: its answer has no beginning or no end: it is none.
        """
        nonce = secrets.token_hex(16)
        result = self.run(
            powershell.command(nonce), stdin=powershell.packed(script), deadline=deadline, limit=limit
        )
        return powershell.unwrap(result, nonce, self.address)

    @contextlib.contextmanager
    def stream(self, command: str, *, stdin: bytes = b"", deadline: float) -> Iterator[Stream]:
        """Runs a program whose lines are wanted as they come; `stdin` is sent first, and its input stays open."""
        link = self._make_link()
        bounds = self._bounds(link, time.monotonic() + deadline, self._cancelled)
        try:
            with self._command(link, command, bounds, piped=True) as running:
                running.feed(stdin, end=False)
                # What is said while an answer is waited for goes over another connection.
                teller = self._make_link()
                try:
                    telling = self._bounds(teller, bounds.ends, self._cancelled)
                    yield _WinrmStream(running, running.beside(teller, telling))
                finally:
                    teller.wire.cut()
        finally:
            link.wire.cut()

    def _bounds(self, link: Link, ends: float, cancelled: Cancelled) -> Bounds:
        return _Bounds(
            place=self.address, ends=ends, cancelled=cancelled, link=link, translate=self._translate
        )

    @contextlib.contextmanager
    def _shell(self, link: Link, bounds: Bounds) -> Iterator[str]:
        bounds.check("no shell was opened")
        shell = bounds.do(lambda: link.protocol.open_shell(codepage=UTF8), "it opened no shell")
        try:
            yield shell
        finally:
            tidy = self._bounds(link, time.monotonic() + TIDY, never)
            with contextlib.suppress(Exception):
                tidy.do(
                    lambda: link.protocol.close_shell(shell, close_session=False), "its shell did not close"
                )

    @contextlib.contextmanager
    def _command(self, link: Link, command: str, bounds: Bounds, *, piped: bool) -> Iterator["_Running"]:
        if len(command) > powershell.COMMAND_LINE:
            raise AnswerError(
                f"a command line of {len(command)} characters is more than the {powershell.COMMAND_LINE} that "
                f"{self.address} takes",
                remedy="Send it as a script.",
            )
        with self._shell(link, bounds) as shell:
            number = bounds.do(
                lambda: link.protocol.run_command(shell, command, console_mode_stdin=not piped),
                "it did not begin a command",
            )
            try:
                yield _Running(link, shell, number, bounds)
            finally:
                tidy = self._bounds(link, time.monotonic() + TIDY, never)
                with contextlib.suppress(Exception):
                    tidy.do(lambda: link.protocol.cleanup_command(shell, number), "its command did not end")


class _Running:
    """One command in one shell.

    Attributes:
        exit: its exit code, once `pieces` has ended.
    """

    def __init__(self, link: Link, shell: str, number: str, bounds: Bounds) -> None:
        self._link = link
        self._shell = shell
        self._number = number
        self._bounds = bounds
        self.exit: int | None = None

    def beside(self, link: Link, bounds: Bounds) -> "_Running":
        """The same command over another link."""
        return _Running(link, self._shell, self._number, bounds)

    def feed(self, data: bytes, *, end: bool) -> None:
        """Sends input, in pieces; one that reads no more has its reasons, which its output tells."""
        pieces = [data[place : place + PIECE] for place in range(0, len(data), PIECE)]
        with contextlib.suppress(_GoneError):
            for place, piece in enumerate(pieces):
                self._send(piece, end=end and place == len(pieces) - 1)

    def finish(self) -> None:
        """Ends its input."""
        with contextlib.suppress(_GoneError):
            self._send(b"", end=True)

    def _send(self, piece: bytes, *, end: bool) -> None:
        def send() -> None:
            try:
                self._link.protocol.send_command_input(self._shell, self._number, piece, end=end)
            except WSManFaultError as problem:
                raise _GoneError(str(problem)) from problem

        self._bounds.check("the command was not fed")
        self._bounds.do(send, "it did not take its input")

    def pieces(self) -> Iterator[tuple[bytes, bytes]]:
        """Pieces of both outputs as they come, until the command has ended."""
        done = False
        while not done:
            self._bounds.check("the command did not end")
            out, err, code, done = self._bounds.do(self._receive, "the command did not end")
            if out or err:
                yield out, err
            if done:
                self.exit = code

    def _receive(self) -> tuple[bytes, bytes, int, bool]:
        try:
            return self._link.protocol.get_command_output_raw(self._shell, self._number)
        except WinRMOperationTimeoutError:  # it has nothing to say yet
            return b"", b"", 0, False


class _GoneError(GuestError):
    """The command takes no input any more."""


class _WinrmStream:
    """The lines of one program, told things over a connection of their own."""

    def __init__(self, running: _Running, telling: _Running) -> None:
        self._running = running
        self._telling = telling
        self._stderr = b""
        self._lock = threading.Lock()
        self._stopped = False

    def __iter__(self) -> Iterator[bytes]:
        lines = Lines()
        for out, err in self._running.pieces():
            self._stderr = (self._stderr + err)[-STDERR_KEPT:]
            for line in lines.add(out):
                yield line.rstrip(b"\r")
        yield from lines.end()

    def send(self, data: bytes) -> None:
        with self._lock:
            self._telling.feed(data, end=False)

    def stop(self) -> None:
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            # It may be gone already, and its lines tell why.
            with contextlib.suppress(GuestError):
                self._telling.finish()

    @property
    def exit(self) -> int | None:
        return self._running.exit

    @property
    def stderr(self) -> bytes:
        return clixml.plain(self._stderr)
