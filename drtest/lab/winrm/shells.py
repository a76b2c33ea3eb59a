"""Shells and the commands in them: what a client opens, feeds, reads and ends."""

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from drtest.lab.winrm.faults import SHELL_QUOTA, FaultError, aborted, shell_not_found, too_many_shells

MOST_SHELLS = 30
"""MaxShellsPerUser, Windows' default (MS-WSMV 2.2.4.42)."""
MOST_COMMANDS = 25
"""MaxProcessesPerShell."""
IDLE = 7200.0
"""Seconds after which a shell that nobody asks of is closed: IdleTimeout."""
PIECE = 96 * 1024
"""Bytes of output in one answer: in base64 they fit into a MaxEnvelopeSize of 153,600."""
PIPE = 1024 * 1024
"""Bytes of output that wait for a reader; then the command waits, as at a full pipe."""


class EndedError(Exception):
    """The client has ended the command: it has nobody to talk to any more."""


class Command:
    """One command: its input as it comes, its output as it is read. `main` runs in a thread and gives the exit code."""

    def __init__(self, main: Callable[["Command"], int]) -> None:
        self.id = str(uuid.uuid4()).upper()
        self._changed = threading.Condition()
        self._input = bytearray()
        self._input_ended = False
        self._output = {"stdout": bytearray(), "stderr": bytearray()}
        self._exit: int | None = None
        self._cancelled = False
        threading.Thread(target=self._run, args=(main,), daemon=True, name="winrm-command").start()

    def _run(self, main: Callable[["Command"], int]) -> None:
        code = 1
        try:
            code = main(self)
        except EndedError:
            code = 0xC000013A  # STATUS_CONTROL_C_EXIT, as a process that was ended has it
        except Exception as problem:  # a probe's fault is the command's, and no end of the service
            self._put("stderr", f"{type(problem).__name__}: {problem}\r\n".encode())
        finally:
            with self._changed:
                self._exit = code
                self._changed.notify_all()

    @property
    def cancelled(self) -> bool:
        """Whether the client has ended it."""
        return self._cancelled

    def read_line(self) -> bytes | None:
        """The next line of its input, without its end; None once the input has ended.

        Raises:
            EndedError: the client has ended the command.
        """
        with self._changed:
            while b"\n" not in self._input and not self._input_ended and not self._cancelled:
                self._changed.wait()
            if self._cancelled:
                raise EndedError
            if not self._input:
                return None
            line, _, rest = bytes(self._input).partition(b"\n")
            self._input = bytearray(rest)
            return line.rstrip(b"\r")

    def wait(self, seconds: float) -> bool:
        """Waits that long, or until the client has ended the command: then True."""
        until = time.monotonic() + seconds
        with self._changed:
            while not self._cancelled and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._cancelled

    def write(self, data: bytes) -> None:
        """Puts out; waits while nobody reads.

        Raises:
            EndedError: the client has ended the command.
        """
        self._put("stdout", data)

    def error(self, data: bytes) -> None:
        """Puts out on the error stream."""
        self._put("stderr", data)

    def _put(self, stream: str, data: bytes) -> None:
        for place in range(0, len(data), PIECE):
            with self._changed:
                while len(self._output[stream]) >= PIPE and not self._cancelled:
                    self._changed.wait()
                if self._cancelled:
                    raise EndedError
                self._output[stream] += data[place : place + PIECE]
                self._changed.notify_all()

    def feed(self, data: bytes, *, end: bool) -> None:
        """Gives it input.

        Raises:
            FaultError: it has ended, or its input has.
        """
        with self._changed:
            if self._exit is not None or self._input_ended:
                raise FaultError(2147942632, "w:InternalError", "The pipe is being closed.")
            self._input += data
            self._input_ended = end
            self._changed.notify_all()

    def receive(self, timeout: float) -> tuple[dict[str, bytes], int | None] | None:
        """What there is of output, with the exit code if that was all; None if nothing came in time.

        Raises:
            FaultError: it was ended.
        """
        until = time.monotonic() + timeout
        with self._changed:
            while not any(self._output.values()) and self._exit is None and not self._cancelled:
                left = until - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)
            if self._cancelled:
                raise aborted()
            pieces: dict[str, bytes] = {}
            room = PIECE
            for name, buffer in self._output.items():
                pieces[name] = bytes(buffer[:room])
                room -= len(pieces[name])
                del buffer[: len(pieces[name])]
            self._changed.notify_all()
            return pieces, None if any(self._output.values()) else self._exit

    def end(self) -> None:
        """Ends it, whatever it does."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()


@dataclass(kw_only=True)
class Shell:
    """One shell of one user."""

    id: str
    owner: str
    used: float
    commands: dict[str, Command] = field(default_factory=dict)

    def command(self, ident: str) -> Command:
        """The command of that id.

        Raises:
            FaultError: there is none.
        """
        try:
            return self.commands[ident]
        except KeyError:
            raise shell_not_found(f"{self.id}, command {ident}") from None

    def start(self, main: Callable[[Command], int]) -> Command:
        """Starts a command in it.

        Raises:
            FaultError: it has too many.
        """
        if len(self.commands) >= MOST_COMMANDS:
            raise FaultError(SHELL_QUOTA + 2, "w:QuotaLimit", f"A shell may have {MOST_COMMANDS} processes.")
        command = Command(main)
        self.commands[command.id] = command
        return command

    def drop(self, ident: str) -> None:
        """Ends a command and forgets it."""
        command = self.commands.pop(ident, None)
        if command is not None:
            command.end()


class Shells:
    """All shells."""

    def __init__(self, *, most: int = MOST_SHELLS, idle: float = IDLE) -> None:
        self._most = most
        self._idle = idle
        self._shells: dict[str, Shell] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._shells)

    def open(self, owner: str) -> Shell:
        """A new shell.

        Raises:
            FaultError: the user has too many.
        """
        with self._lock:
            now = time.monotonic()
            for old in [one for one in self._shells.values() if now - one.used > self._idle]:
                self._close(old.id)
            if sum(one.owner == owner for one in self._shells.values()) >= self._most:
                raise too_many_shells(self._most)
            shell = Shell(id=str(uuid.uuid4()).upper(), owner=owner, used=now)
            self._shells[shell.id] = shell
            return shell

    def get(self, ident: str, *, owner: str) -> Shell:
        """A shell of this user.

        Raises:
            FaultError: there is none.
        """
        with self._lock:
            shell = self._shells.get(ident)
            if shell is None or shell.owner != owner:
                raise shell_not_found(ident)
            shell.used = time.monotonic()
            return shell

    def close(self, ident: str) -> None:
        """Ends a shell with all that runs in it."""
        with self._lock:
            self._close(ident)

    def close_all(self) -> None:
        """Ends all of them."""
        with self._lock:
            for ident in list(self._shells):
                self._close(ident)

    def _close(self, ident: str) -> None:
        for command in self._shells.pop(ident).commands.values():
            command.end()
