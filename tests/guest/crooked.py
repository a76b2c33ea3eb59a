"""An SSH server that misbehaves as it is told to, for what a good one can't be made to do."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import paramiko

Behaviour = Callable[[paramiko.Channel, paramiko.Transport], None]


class Crooked(paramiko.ServerInterface):
    """A server on loopback that lets everybody in and answers each command by `behaviour`."""

    def __init__(self, folder: Path, behaviour: Behaviour, *, port: int = 0) -> None:
        self._behaviour = behaviour
        self._key = paramiko.ECDSAKey.generate()
        self.user_key = folder / "crooked-user"
        paramiko.ECDSAKey.generate().write_private_key_file(str(self.user_key))
        self.host_keys = (f"{self._key.get_name()} {self._key.get_base64()}",)
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self._socket.listen(10)
        self.port = int(self._socket.getsockname()[1])
        self._transports: list[paramiko.Transport] = []
        self._ended = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for transport in self._transports:
            transport.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(self._key)
            self._transports.append(transport)
            with contextlib.suppress(paramiko.SSHException, EOFError):
                transport.start_server(event=threading.Event(), server=self)

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.common.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        def work() -> None:
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                self._behaviour(channel, channel.get_transport())

        # The reply to this request goes out after this returns, and nothing tells when: no server answers before it.
        later = threading.Timer(0.2, work)
        later.daemon = True
        later.start()
        return True


@contextlib.contextmanager
def mute() -> Iterator[int]:
    """A port that accepts connections and never says a word, as a forwarded port of a dead machine does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield int(listener.getsockname()[1])
