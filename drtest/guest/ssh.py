"""SSH to a guest, by paramiko: the only host keys accepted are those given, and no wait is without an end."""

import logging
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import paramiko

from drtest.guest.bounds import POLL, Bounds
from drtest.guest.host_keys import host_keys_from_console as host_keys_from_console
from drtest.guest.host_keys import same_key as same_key
from drtest.guest.session import SshGuest as SshGuest
from drtest.guest.session import translated
from drtest.guest.transport import (
    Cancelled,
    GuestCancelledError,
    GuestDeadlineError,
    GuestError,
    HostKeyError,
    LoginError,
    UnreachableError,
    never,
)

TRY = 30.0
"""Seconds that one try to connect may take: a guest that accepts and says nothing is tried again."""
PAUSE = 0.5
"""Seconds between two tries."""
KEEPALIVE = 15
"""Seconds between signs of life on an idle connection."""
# paramiko logs each failed try as an error: here it is an ordinary thing, told by the exceptions.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

HostKeys = Sequence[str] | Callable[[], Sequence[str]]

# RSA keys sign by SHA-2 (RFC 8332); the SHA-1 signature "ssh-rsa" is gone from paramiko.
_ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}


def connect(
    address: str,
    *,
    port: int,
    user: str,
    key_file: Path,
    host_keys: HostKeys,
    deadline: float,
    cancelled: Cancelled = never,
    login_patience: float = 60.0,
) -> "SshGuest":
    """Connects to a guest, trying again until the deadline: a machine that boots refuses for a while.

    Args:
        address: name or IP address.
        port: of its SSH server.
        user: who to log in as; root, or one that may `sudo` without a password.
        key_file: the private key.
        host_keys: the host keys that are accepted, and no other: those of the source, or those that this instance
            printed on its own console. A function is asked again before each try, and a key that is not among its
            answers is tried again (a console lags); a key that is not in a sequence ends it at once.
        deadline: seconds from now.
        cancelled: polled; kept for all that is done by the guest later.
        login_patience: seconds from the first refused login until it is believed: while a machine boots,
            pam_nologin refuses everybody but root.

    Raises:
        UnreachableError: nothing answered as an SSH server until the deadline.
        HostKeyError: another machine answered.
        LoginError: the login was refused.
        GuestCancelledError: the caller cancelled.
    """
    ends = time.monotonic() + deadline
    place = f"{address}:{port}"
    key = _private_key(key_file)
    last: GuestError = UnreachableError(f"{place} was not tried: its deadline was over")
    believed: float | None = None
    tries = 0
    while True:
        accepted = tuple(host_keys() if callable(host_keys) else host_keys)
        if accepted:
            tries += 1
            guest, problem = _try(place, (address, port), user, key, accepted, ends, cancelled)
            if guest is not None:
                return guest
            last = problem or last
            if isinstance(last, LoginError):
                believed = believed or time.monotonic() + login_patience
                if time.monotonic() >= believed:
                    raise last
            if isinstance(last, HostKeyError) and not callable(host_keys):
                raise last
        else:
            last = UnreachableError(f"no host key of {place} is known yet")
            if not callable(host_keys):
                raise last
        _pause(min(PAUSE, ends - time.monotonic()), place, cancelled)
        if time.monotonic() >= ends:
            raise _at_the_end(last, place, tries, deadline)


def _at_the_end(last: GuestError, place: str, tries: int, deadline: float) -> GuestError:
    if isinstance(last, HostKeyError | LoginError):
        return last
    return UnreachableError(
        f"{place} did not answer by SSH in {deadline:.0f} s ({tries} tries); last: {last.seen}",
        remedy="Look at the instance's console output and screenshot, its security group, and the login settings "
        "of the target (address, port, user).",
    )


def _pause(seconds: float, place: str, cancelled: Cancelled) -> None:
    until = time.monotonic() + seconds
    while (remaining := until - time.monotonic()) > 0:
        if cancelled():
            raise GuestCancelledError(f"connecting to {place} was cancelled")
        time.sleep(min(POLL, remaining))


def _private_key(path: Path) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(path)
    except Exception as problem:  # paramiko has half a dozen kinds, and cryptography its own
        raise LoginError(
            f"the private key {path} can't be used: {problem or type(problem).__name__}",
            remedy="Give the path of an unencrypted OpenSSH private key.",
        ) from problem


def _try(
    place: str,
    where: tuple[str, int],
    user: str,
    key: paramiko.PKey,
    accepted: Sequence[str],
    ends: float,
    cancelled: Cancelled,
) -> tuple["SshGuest | None", GuestError | None]:
    """One try: for each type of key that is accepted, since a server shows one of its keys at a time."""
    problem: GuestError | None = None
    types = list(dict.fromkeys(line.split()[0] for line in accepted if len(line.split()) >= 2))
    while types:
        ends_here = min(ends, time.monotonic() + TRY)
        try:
            return _open(place, where, user, key, accepted, types, ends_here, cancelled), None
        except HostKeyError as other:
            problem = other
            shown = other.presented.split()[0]
            types = [one for one in types if one != shown] if shown in types else []
        except (UnreachableError, LoginError, GuestDeadlineError) as other:
            return None, other
        if time.monotonic() >= ends:
            break
    return None, problem or UnreachableError(f"none of the host keys given for {place} can be read")


def _open(
    place: str,
    where: tuple[str, int],
    user: str,
    key: paramiko.PKey,
    accepted: Sequence[str],
    types: Sequence[str],
    ends: float,
    cancelled: Cancelled,
) -> "SshGuest":
    try:
        connection = socket.create_connection(where, timeout=max(0.1, min(10.0, ends - time.monotonic())))
    except OSError as problem:
        raise UnreachableError(f"connecting to {place}: {problem}") from problem
    _detect_death(connection)
    bounds = Bounds(place=place, ends=ends, cancelled=cancelled, connection=connection, translate=translated)
    try:
        transport = paramiko.Transport(connection)
        transport.banner_timeout = TRY
        transport.auth_timeout = TRY
        # A server shows the first of its keys that we ask for: those that we can compare come first.
        options = transport.get_security_options()
        wanted = [name for one in types for name in _ALGORITHMS.get(one, (one,)) if name in options.key_types]
        options.key_types = tuple(wanted + [name for name in options.key_types if name not in wanted])

        def greet() -> paramiko.PKey:
            transport.start_client(timeout=TRY)
            return transport.get_remote_server_key()

        shown = bounds.do(greet, "its SSH server did not finish the greeting")
        presented = f"{shown.get_name()} {shown.get_base64()}"
        _accept(presented, accepted, place)
        bounds.do(lambda: transport.auth_publickey(user, key), "the login got no answer")
    except BaseException:
        bounds.abort()
        raise
    transport.set_keepalive(KEEPALIVE)
    return SshGuest(place, transport, connection, presented, cancelled)


def _accept(presented: str, accepted: Sequence[str], place: str) -> None:
    if not any(same_key(presented, one) for one in accepted):
        raise HostKeyError(
            f"another machine answers at {place}: its host key {presented} is none of the {len(accepted)} accepted",
            presented=presented,
            remedy="A restored machine shows the source's key, or a new one on its own console: look at the "
            "console, and at who has this address.",
        )


def _detect_death(connection: socket.socket) -> None:
    """Lets the kernel end a connection whose other side has been silent for a minute."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)


def known_hosts(address: str, *, port: int, file: Path | None = None) -> tuple[str, ...]:
    """The host keys that this user has accepted before for an address: OpenSSH's known_hosts (sshd(8)).

    Args:
        address: name or IP address.
        port: of its SSH server.
        file: by default ``~/.ssh/known_hosts``.

    Returns:
        The keys, as ``ssh-ed25519 AAAA…``; none where there is no such file or no entry.
    """
    keys = paramiko.HostKeys()
    try:
        keys.load(str(file or Path.home() / ".ssh" / "known_hosts"))
    except OSError:
        return ()
    entry = keys.lookup(address if port == 22 else f"[{address}]:{port}")
    return tuple(f"{kind} {key.get_base64()}" for kind, key in (entry or {}).items())
