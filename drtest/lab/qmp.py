"""The control socket of a QEMU machine: QMP, spoken in one background thread, called from any other."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import ConnectError, EventListener, ExecuteError, QMPClient, QMPError, Runstate

from drtest.errors import DeadlineError, EnvironmentFailedError

T = TypeVar("T")

SOCKET = "qmp.sock"
"""The socket's name in a machine's folder."""


class CommandError(EnvironmentFailedError):
    """QEMU refused a command.

    Attributes:
        kind: QMP's class of the error, as ``DeviceNotFound``.
    """

    def __init__(self, seen: str, *, kind: str) -> None:
        super().__init__(seen)
        self.kind = kind


class Monitor:
    """The control socket of one machine. Safe to call from several threads; all waits have a deadline."""

    def __init__(self, name: str, client: QMPClient, endings: EventListener) -> None:
        self._name = name
        self._client = client
        self._endings = endings

    @classmethod
    def connect(cls, name: str, folder: Path, *, deadline: float, alive: Callable[[], bool]) -> "Monitor":
        """Connect to the machine whose folder this is, as soon as it listens.

        Args:
            name: what messages call the machine.
            folder: where its socket is. The path may be longer than a socket's address can be.
            deadline: seconds that this may take.
            alive: whether it still makes sense to wait.

        Raises:
            DeadlineError: it did not listen, or answer, in time.
            EnvironmentFailedError: it ended, or what answers doesn't speak QMP.
        """
        end = time.monotonic() + deadline
        while True:
            ended = not alive()
            try:
                connection = dial(folder, SOCKET)
                break
            except OSError as error:
                if ended:
                    raise EnvironmentFailedError(
                        f"the machine {name} ended before it could be controlled"
                    ) from error
                if time.monotonic() > end:
                    raise DeadlineError(
                        f"the machine {name} could not be controlled within {deadline:.0f} s ({SOCKET}: {error})"
                    ) from error
                time.sleep(0.02)
        client = QMPClient(name)
        endings = EventListener("SHUTDOWN")
        client.register_listener(endings)
        monitor = cls(name, client, endings)
        try:
            monitor._await(client.connect(connection), max(0.1, end - time.monotonic()), "greet")
        except BaseException:
            connection.close()
            raise
        return monitor

    def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, deadline: float = 10.0
    ) -> Any:
        """Run one command and give what it returns.

        Raises:
            CommandError: QEMU refused.
            DeadlineError: QEMU did not answer in ``deadline`` seconds.
            EnvironmentFailedError: the machine is gone.
        """
        return self._await(self._client.execute(command, arguments), deadline, command)

    def execute_until(
        self,
        command: str,
        arguments: Mapping[str, object],
        *,
        event: str,
        about: Callable[[Mapping[str, Any]], bool],
        deadline: float,
    ) -> None:
        """Run a command and wait for the event that says that it is carried out.

        Args:
            command: the command.
            arguments: its arguments.
            event: the event's name.
            about: picks the right one among several, by their data.
            deadline: seconds that both may take.

        Raises:
            CommandError: QEMU refused.
            DeadlineError: the event did not come.
            EnvironmentFailedError: the machine is gone.
        """

        async def both() -> None:
            with self._client.listener(event, lambda message: about(_data(message))) as listener:
                await self._client.execute(command, arguments)
                waiting = asyncio.ensure_future(listener.get())
                gone = asyncio.ensure_future(self._disconnected())
                done, pending = await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
                for task in pending:
                    task.cancel()
                if waiting not in done:
                    raise EnvironmentFailedError(f"the machine {self._name} ended during {command}")

        self._await(both(), deadline, f"{command}, then {event}")

    def ending(self, *, deadline: float = 2.0) -> str:
        """Close the connection of a machine that has ended, and say what QEMU gave as the reason.

        Returns:
            QMP's ShutdownCause, as ``guest-shutdown`` or ``host-signal``; empty if it gave none.
        """

        async def last_words() -> str:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._disconnected(), deadline)
            reasons = [str(_data(message).get("reason", "")) for message in self._endings.clear()]
            await self._hang_up()
            return reasons[-1] if reasons else ""

        try:
            return self._await(last_words(), deadline + 2, "close")
        except EnvironmentFailedError:
            return ""

    def close(self) -> None:
        """Close the connection; the machine goes on."""
        try:
            self._await(self._hang_up(), 5, "close")
        except EnvironmentFailedError:
            return  # it was closed from the other end

    async def _disconnected(self) -> None:
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()

    async def _hang_up(self) -> None:
        try:
            await self._client.disconnect()
        except (QMPError, OSError, EOFError):
            return  # how a connection ends matters to nobody once the machine is gone

    def _await(self, work: Coroutine[Any, Any, T], deadline: float, what: str) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, deadline), _loop())
        try:
            return future.result(deadline + 5)
        except ExecuteError as error:
            raise CommandError(
                f"QEMU refused {what} for the machine {self._name}: {error}",
                kind=error.error_class,
            ) from error
        except TimeoutError as error:
            future.cancel()
            raise DeadlineError(
                f"the machine {self._name} did not answer to {what} within {deadline:g} s"
            ) from error
        except (QMPError, ConnectError, OSError, EOFError) as error:
            raise EnvironmentFailedError(
                f"the machine {self._name} can't be controlled any more ({what}): {error}"
            ) from error


def dial(folder: Path, name: str) -> socket.socket:
    """Connect to a socket in a folder, by the folder's descriptor: an address has 107 bytes at most.

    Raises:
        OSError: nobody listens there.
    """
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(f"/proc/self/fd/{descriptor}/{name}")
        except OSError:
            connection.close()
            raise
        return connection
    finally:
        os.close(descriptor)


def _data(message: Mapping[str, Any]) -> Mapping[str, Any]:
    data = message.get("data", {})
    return data if isinstance(data, Mapping) else {}


_starting = threading.Lock()
_running: list[asyncio.AbstractEventLoop] = []


def _loop() -> asyncio.AbstractEventLoop:
    """Give the event loop of the background thread that all monitors share."""
    with _starting:
        if not _running:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="qmp", daemon=True).start()
            _running.append(loop)
        return _running[0]
