"""Running commands in guests, over SSH with the lab's own key: what an SSM agent would do, were there one."""

import contextlib
import shlex
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import paramiko

from drtest.errors import DeadlineError, EnvironmentFailedError

LOGIN_SECONDS = 60.0
"""How long one try to log in may take: a guest that boots under TCG is slow."""

KEPT_BYTES = 256 * 1024
"""How much of each of stdout and stderr is kept; the rest is read and dropped."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What became of a script.

    Attributes:
        code: its exit code; None if it was killed at its deadline.
        output: what it wrote to stdout.
        errors: what it wrote to stderr.
    """

    code: int | None
    output: bytes
    errors: bytes


class Session(Protocol):
    """A login in a guest."""

    def run(self, script: str, *, folder: str, deadline: float) -> Ran:
        """Run a shell script as root, for so many seconds at most."""

    def close(self) -> None:
        """Log out."""


class Shell(Protocol):
    """Logs in to guests; tests give one that has none."""

    @property
    def public_key(self) -> str:
        """The key that a guest has to accept."""

    def log_in(self, address: str, *, deadline: float) -> Session:
        """Log in, trying again until a deadline in seconds.

        Raises:
            DeadlineError: nobody let us in.
        """


class SshShell:
    """Logs in as ``admin`` with the lab's key.

    The host's key is not compared: behind the address is the lab's own machine, whatever its disk holds.

    Args:
        key_file: the private key; read when it is needed first.
    """

    def __init__(self, key_file: Path) -> None:
        self._key_file = key_file

    @cached_property
    def _key(self) -> paramiko.PKey:
        return paramiko.Ed25519Key.from_private_key_file(str(self._key_file))

    @cached_property
    def public_key(self) -> str:
        """The key that a guest has to accept, as ``authorized_keys`` has it, without a comment."""
        return f"{self._key.get_name()} {self._key.get_base64()}"

    def log_in(self, address: str, *, deadline: float) -> "SshSession":
        """Log in, trying again until a deadline.

        Raises:
            DeadlineError: nobody let us in.
        """
        until = time.monotonic() + deadline
        while True:
            left = max(1.0, min(LOGIN_SECONDS, until - time.monotonic()))
            client = paramiko.SSHClient()
            client.set_missing_host_key_policy(_AnyHost())
            try:
                client.connect(
                    address,
                    port=2222,
                    username="admin",
                    pkey=self._key,
                    allow_agent=False,
                    look_for_keys=False,
                    timeout=left,
                    banner_timeout=left,
                    auth_timeout=left,
                )
                return SshSession(client)
            except (OSError, EOFError, paramiko.SSHException) as error:
                client.close()
                if time.monotonic() + 1 > until:
                    raise DeadlineError(f"No login at {address} within {deadline:.0f} s: {error}") from error
                time.sleep(1)


class _AnyHost(paramiko.MissingHostKeyPolicy):
    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Accept the key."""


class SshSession:
    """A login over SSH."""

    def __init__(self, client: paramiko.SSHClient) -> None:
        self._client = client

    def run(self, script: str, *, folder: str, deadline: float) -> Ran:
        """Run a shell script as root, for ``deadline`` seconds at most.

        Raises:
            EnvironmentFailedError: the connection broke.
        """
        inside = f"cd {shlex.quote(folder)} && exec sh -c {shlex.quote(script)}" if folder else script
        limit = f"timeout -k 5 {max(1, round(deadline))} sh -c {shlex.quote(inside)}"
        started = time.monotonic()
        try:
            _, out, _ = self._client.exec_command(f"sudo -n {limit} </dev/null", timeout=LOGIN_SECONDS)
            channel = out.channel
            kept = {"output": bytearray(), "errors": bytearray()}
            ended = False
            while not ended and time.monotonic() - started < deadline + 30:
                # What was written can come after the exit code, so the end of the stream counts.
                over = bool(channel.eof_received or channel.closed)
                ended = over and channel.exit_status_ready() and not _waits(channel)
                _drain(channel, kept)
                channel.status_event.wait(0.0 if ended else 0.05)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise EnvironmentFailedError(f"The connection to the guest broke: {error!r}") from error
        code = channel.recv_exit_status() if channel.exit_status_ready() else -1
        if code < 0:
            raise EnvironmentFailedError("The connection to the guest broke, or it did not answer any more.")
        late = code in {124, 137} and time.monotonic() - started >= deadline
        return Ran(code=None if late else code, output=bytes(kept["output"]), errors=bytes(kept["errors"]))

    def close(self) -> None:
        """Log out."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._client.close()


def _waits(channel: paramiko.Channel) -> bool:
    return channel.recv_ready() or channel.recv_stderr_ready()


def _drain(channel: paramiko.Channel, kept: dict[str, bytearray]) -> None:
    while channel.recv_ready():
        part = channel.recv(65536)
        kept["output"] += part[: max(0, KEPT_BYTES - len(kept["output"]))]
    while channel.recv_stderr_ready():
        part = channel.recv_stderr(65536)
        kept["errors"] += part[: max(0, KEPT_BYTES - len(kept["errors"]))]
