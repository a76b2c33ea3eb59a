"""SSH against servers that misbehave: silence, garbage, lost connections, all within the deadline."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import paramiko
import pytest

from drtest.guest import linux
from drtest.guest.ssh import SshGuest, connect
from drtest.guest.transport import (
    AnswerError,
    GuestCancelledError,
    GuestDeadlineError,
    GuestError,
    UnreachableError,
)
from tests.guest.crooked import Crooked, mute
from tests.guest.sshd import free_port


def _connect(server: Crooked, **options: float) -> SshGuest:
    return connect(
        "127.0.0.1",
        port=server.port,
        user="admin",
        key_file=server.user_key,
        host_keys=server.host_keys,
        deadline=options.get("deadline", 20),
    )


def _hang(channel: paramiko.Channel, transport: paramiko.Transport) -> None:
    del channel, transport


def _garbage(channel: paramiko.Channel, transport: paramiko.Transport) -> None:
    channel.sendall(os.urandom(100_000))
    channel.sendall_stderr(b"\xff\xfe\x00 nonsense")
    channel.send_exit_status(0)
    channel.close()


def _flood(channel: paramiko.Channel, transport: paramiko.Transport) -> None:
    for _ in range(5000):
        channel.sendall(b"\0" * 10_000)
    channel.send_exit_status(0)
    channel.close()


def _half(channel: paramiko.Channel, transport: paramiko.Transport) -> None:
    channel.sendall(b'-----BEGIN DRTEST 0123-----\n{"seen":[')
    transport.close()


def _cut(channel: paramiko.Channel, transport: paramiko.Transport) -> None:
    transport.sock.close()


def _no_status(channel: paramiko.Channel, transport: paramiko.Transport) -> None:
    channel.sendall(b"that was all\n")
    channel.close()


def _drip(channel: paramiko.Channel, transport: paramiko.Transport) -> None:
    while transport.is_active():
        channel.sendall(b".")
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (_hang, GuestDeadlineError),
        (_drip, GuestDeadlineError),
        (_garbage, AnswerError),
        (_flood, AnswerError),
        (_half, UnreachableError),
        (_cut, UnreachableError),
        (_no_status, AnswerError),
    ],
)
def test_a_visit_to_a_guest_that_misbehaves_ends_in_time_with_the_right_error(
    tmp_path: Path, behaviour: Callable[[paramiko.Channel, paramiko.Transport], None], error: type[GuestError]
) -> None:
    with Crooked(tmp_path, behaviour) as server, _connect(server) as guest:
        begun = time.monotonic()
        with pytest.raises(error):
            linux.booted(guest, deadline=3)
        assert time.monotonic() - begun < 8


def test_an_answer_without_an_exit_status_has_none(tmp_path: Path) -> None:
    with Crooked(tmp_path, _no_status) as server, _connect(server) as guest:
        result = guest.run("anything", deadline=10)
    assert (result.exit, result.stdout) == (None, b"that was all\n")


def test_a_port_that_accepts_and_says_nothing_is_unreachable_at_the_deadline(tmp_path: Path) -> None:
    with mute() as port, Crooked(tmp_path, _hang) as server:
        begun = time.monotonic()
        with pytest.raises(UnreachableError, match="greeting"):
            connect(
                "127.0.0.1",
                port=port,
                user="admin",
                key_file=server.user_key,
                host_keys=server.host_keys,
                deadline=2,
            )
        assert time.monotonic() - begun < 5


def test_connecting_is_cancelled_within_half_a_second_even_in_mid_greeting(tmp_path: Path) -> None:
    wish = threading.Event()
    with mute() as port, Crooked(tmp_path, _hang) as server:
        threading.Timer(0.5, wish.set).start()
        begun = time.monotonic()
        with pytest.raises(GuestCancelledError):
            connect(
                "127.0.0.1",
                port=port,
                user="admin",
                key_file=server.user_key,
                host_keys=server.host_keys,
                deadline=30,
                cancelled=wish.is_set,
            )
        assert time.monotonic() - begun < 2


def test_a_machine_that_is_still_booting_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    made: list[Crooked] = []
    keys = threading.Event()

    def boot() -> None:
        made.append(Crooked(tmp_path, _no_status, port=port))
        keys.set()

    threading.Timer(1.0, boot).start()
    stand_in = Crooked(tmp_path, _hang)
    with (
        stand_in,
        connect(
            "127.0.0.1",
            port=port,
            user="admin",
            key_file=stand_in.user_key,
            host_keys=lambda: made[0].host_keys if keys.is_set() else stand_in.host_keys,
            deadline=20,
        ) as guest,
    ):
        assert guest.run("anything", deadline=10).stdout == b"that was all\n"
    made[0].__exit__(None, None, None)
