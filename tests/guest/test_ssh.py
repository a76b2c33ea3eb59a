"""SSH against a real OpenSSH server: answers, deadlines, host keys, logins."""

import hashlib
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from drtest.guest.ssh import SshGuest, connect
from drtest.guest.transport import (
    AnswerError,
    GuestCancelledError,
    GuestDeadlineError,
    HostKeyError,
    LoginError,
    UnreachableError,
)
from tests.guest.sshd import Sshd, free_port

OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK7n3cUHx1c0pYkHk1D0nS1mC7mX9h0oY2R1n5yW4eXa"


def test_a_command_gives_its_exit_code_and_both_outputs(guest: SshGuest) -> None:
    result = guest.run("echo out; echo err >&2; exit 7", deadline=10)
    assert (result.exit, result.stdout, result.stderr) == (7, b"out\n", b"err\n")


def test_large_outputs_on_both_channels_are_drained_together(guest: SshGuest) -> None:
    size = 3_000_000  # more than the window of a channel, on both: who drains one first hangs
    result = guest.run(f"head -c {size} /dev/zero >&2; head -c {size} /dev/zero; exit 3", deadline=30)
    assert (result.exit, len(result.stdout), len(result.stderr)) == (3, size, size)


def test_a_large_input_arrives_whole(guest: SshGuest) -> None:
    data = bytes(range(256)) * 16384  # 4 MB
    result = guest.run("sha256sum", stdin=data, deadline=30)
    assert result.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_a_command_that_does_not_read_its_input_still_gives_its_answer(guest: SshGuest) -> None:
    assert guest.run("echo done", stdin=b"x" * 4_000_000, deadline=20).stdout == b"done\n"


def test_fifty_megabytes_are_an_error_and_take_no_memory(guest: SshGuest) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(AnswerError, match="1000000 bytes"):
            guest.run("head -c 50000000 /dev/zero", deadline=30, limit=1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16_000_000


def test_the_connection_is_still_good_after_an_answer_that_was_too_large(guest: SshGuest) -> None:
    with pytest.raises(AnswerError):
        guest.run("head -c 50000000 /dev/zero", deadline=30, limit=1000)
    assert guest.run("echo still here", deadline=10).stdout == b"still here\n"


def test_a_command_that_does_not_end_is_over_at_its_deadline_and_the_connection_lives(
    guest: SshGuest,
) -> None:
    begun = time.monotonic()
    with pytest.raises(GuestDeadlineError):
        guest.run("sleep 60", deadline=1)
    assert time.monotonic() - begun < 3
    assert guest.run("echo on", deadline=10).stdout == b"on\n"


def test_a_command_that_prints_a_little_for_ever_is_over_at_its_deadline(guest: SshGuest) -> None:
    begun = time.monotonic()  # paramiko's own timeout is per read: each of these would begin it anew
    with pytest.raises(GuestDeadlineError):
        guest.run("while :; do echo x; sleep 0.1; done", deadline=1)
    assert time.monotonic() - begun < 3


def test_a_command_killed_by_a_signal_has_no_exit_code(guest: SshGuest) -> None:
    assert guest.run("echo before; kill -9 $$", deadline=10).exit is None


def test_a_child_that_holds_the_output_open_does_not_hold_the_caller(guest: SshGuest) -> None:
    begun = time.monotonic()
    result = guest.run("echo parent; sleep 40 & exit 5", deadline=30)
    assert (result.exit, result.stdout) == (5, b"parent\n")
    assert time.monotonic() - begun < 10


def test_a_connection_lost_in_mid_answer_is_unreachable(guest: SshGuest) -> None:
    with pytest.raises(UnreachableError, match="lost"):
        guest.run("echo half; kill -9 $PPID; sleep 5", deadline=20)


def test_a_cancel_ends_a_command_within_half_a_second(sshd: Sshd) -> None:
    wish = threading.Event()
    with connect(
        "127.0.0.1",
        port=sshd.port,
        user=sshd.user,
        key_file=sshd.user_key,
        host_keys=sshd.host_keys,
        deadline=20,
        cancelled=wish.is_set,
    ) as guest:
        threading.Timer(0.5, wish.set).start()
        begun = time.monotonic()
        with pytest.raises(GuestCancelledError):
            guest.run("sleep 30", deadline=30)
        assert time.monotonic() - begun < 2


def test_the_key_that_answered_is_recorded(sshd: Sshd, guest: SshGuest) -> None:
    assert guest.host_key == sshd.host_keys[0]


def test_a_key_is_found_among_several_whatever_its_type_and_comment(sshd: Sshd) -> None:
    accepted = [OTHER_KEY, sshd.host_keys[1] + " root@source"]  # its ed25519 key is not known, its RSA key is
    with connect(
        "127.0.0.1", port=sshd.port, user=sshd.user, key_file=sshd.user_key, host_keys=accepted, deadline=20
    ) as guest:
        assert guest.host_key == sshd.host_keys[1]


def test_another_machine_is_named_at_once_by_its_key(sshd: Sshd) -> None:
    begun = time.monotonic()
    with pytest.raises(HostKeyError, match="another machine") as error:
        connect(
            "127.0.0.1",
            port=sshd.port,
            user=sshd.user,
            key_file=sshd.user_key,
            host_keys=[OTHER_KEY],
            deadline=30,
        )
    assert error.value.presented == sshd.host_keys[0]
    assert time.monotonic() - begun < 10


def test_host_keys_that_a_console_shows_later_are_waited_for(sshd: Sshd) -> None:
    answers = iter([(), (OTHER_KEY,)])
    with connect(
        "127.0.0.1",
        port=sshd.port,
        user=sshd.user,
        key_file=sshd.user_key,
        host_keys=lambda: next(answers, sshd.host_keys),
        deadline=30,
    ) as guest:
        assert guest.host_key == sshd.host_keys[0]


def test_a_console_that_never_shows_the_right_key_ends_as_another_machine(sshd: Sshd) -> None:
    with pytest.raises(HostKeyError):
        connect(
            "127.0.0.1",
            port=sshd.port,
            user=sshd.user,
            key_file=sshd.user_key,
            host_keys=lambda: [OTHER_KEY],
            deadline=2,
        )


def test_a_refused_key_is_believed_after_a_while(sshd: Sshd) -> None:
    begun = time.monotonic()
    with pytest.raises(LoginError, match="refused the login"):
        connect(
            "127.0.0.1",
            port=sshd.port,
            user=sshd.user,
            key_file=sshd.user_key.with_name("other"),
            host_keys=sshd.host_keys,
            deadline=60,
            login_patience=1,
        )
    assert 1 <= time.monotonic() - begun < 15


def test_no_key_of_the_runner_s_own_is_ever_tried(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_ed25519").write_bytes(sshd.user_key.read_bytes())
    monkeypatch.setenv("HOME", str(home))
    with pytest.raises(LoginError):
        connect(
            "127.0.0.1",
            port=sshd.port,
            user=sshd.user,
            key_file=sshd.user_key.with_name("other"),
            host_keys=sshd.host_keys,
            deadline=5,
            login_patience=0,
        )


@pytest.mark.parametrize("content", [None, "no key at all", ""])
def test_a_key_file_that_can_t_be_used_is_a_login_error_that_names_it(
    sshd: Sshd, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)
    with pytest.raises(LoginError, match=str(path)):
        connect(
            "127.0.0.1", port=sshd.port, user=sshd.user, key_file=path, host_keys=sshd.host_keys, deadline=5
        )


def test_where_nothing_listens_the_error_says_what_was_seen_last(sshd: Sshd) -> None:
    begun = time.monotonic()
    with pytest.raises(UnreachableError, match=r"did not answer by SSH in 2 s .*last: .*refused"):
        connect(
            "127.0.0.1",
            port=free_port(),
            user=sshd.user,
            key_file=sshd.user_key,
            host_keys=sshd.host_keys,
            deadline=2,
        )
    assert 2 <= time.monotonic() - begun < 5


def test_a_stream_gives_lines_as_they_come_and_ends_when_it_is_stopped(guest: SshGuest) -> None:
    with guest.stream("echo first; cat; echo last; exit 4", deadline=20) as stream:
        lines = iter(stream)
        assert next(lines) == b"first"
        stream.send(b"one\ntwo\n")
        assert [next(lines), next(lines)] == [b"one", b"two"]
        stream.stop()
        assert list(lines) == [b"last"]
        assert stream.exit == 4


def test_a_stream_can_be_stopped_from_another_thread(guest: SshGuest) -> None:
    with guest.stream("cat; echo over", deadline=20) as stream:
        threading.Timer(0.3, stream.stop).start()
        assert list(stream) == [b"over"]


def test_a_stream_that_goes_on_for_ever_is_over_at_its_deadline(guest: SshGuest) -> None:
    with (
        guest.stream("while :; do echo x; sleep 0.05; done", deadline=1) as stream,
        pytest.raises(GuestDeadlineError),
    ):
        for _ in stream:
            pass


def test_a_stream_without_line_ends_is_no_answer(guest: SshGuest) -> None:
    with (
        guest.stream("head -c 10000000 /dev/zero", deadline=20) as stream,
        pytest.raises(AnswerError, match="line"),
    ):
        list(stream)


def test_a_stream_whose_connection_is_lost_is_unreachable(guest: SshGuest) -> None:
    with guest.stream("echo one; sleep 0.5; kill -9 $PPID; sleep 5", deadline=20) as stream:
        lines = iter(stream)
        assert next(lines) == b"one"
        with pytest.raises(UnreachableError):
            list(lines)
