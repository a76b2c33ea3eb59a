"""An OpenSSH server on loopback, with its own configuration, keys and port, for one test session."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONFIG = """
ListenAddress 127.0.0.1
Port {port}
PidFile {folder}/pid
HostKey {folder}/host_ed25519
HostKey {folder}/host_rsa
AuthorizedKeysFile {folder}/authorized
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PrintMotd no
MaxStartups 100
"""


@dataclass(frozen=True, kw_only=True)
class Sshd:
    """The server: where it is, its host keys (ed25519 first, then RSA), and a user that it lets in."""

    port: int
    host_keys: tuple[str, ...]
    user: str
    user_key: Path

    @classmethod
    @contextlib.contextmanager
    def start(cls, folder: Path) -> Iterator["Sshd"]:
        keys = {}
        for name, kind in (
            ("host_ed25519", "ed25519"),
            ("host_rsa", "rsa"),
            ("user", "ed25519"),
            ("other", "ed25519"),
        ):
            path = folder / name
            subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", name, "-f", path], check=True)
            keys[name] = " ".join(path.with_suffix(".pub").read_text().split()[:2])
        (folder / "authorized").write_text(keys["user"] + "\n")
        port = free_port()
        (folder / "config").write_text(CONFIG.format(port=port, folder=folder))
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        program = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/local/sbin:/usr/bin")
        assert program, "these tests need OpenSSH's server: apt-get install openssh-server"
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [program, "-D", "-e", "-f", folder / "config"], stderr=log, stdin=subprocess.DEVNULL
            )
        try:
            wait_for_port(port, server, folder / "log")
            yield cls(
                port=port,
                host_keys=(keys["host_ed25519"], keys["host_rsa"]),
                user=getpass.getuser(),
                user_key=folder / "user",
            )
        finally:
            server.terminate()
            server.wait(10)


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    """Waits until the server listens."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError(f"sshd did not listen: {log.read_text()}")
