"""WinRM to a guest that does not answer as it should: no wait without an end, no half answer taken for one."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from winrm.exceptions import WSManFaultError

from drtest.guest import powershell, transport, winrm, wire
from drtest.guest.transport import (
    AnswerError,
    GuestCancelledError,
    GuestDeadlineError,
    LoginError,
    UnreachableError,
)
from drtest.lab.winrm import envelope, faults, security
from drtest.lab.winrm.probes import Probes
from drtest.lab.winrm.service import Service
from drtest.lab.winrm.shells import Command
from tests.guest.sshd import free_port
from tests.guest.winrm_guest import CERTIFICATE, broken, connect
from tests.lab.winrm.stand_in import PASSWORD, PROBES, USER, Answering, script, serving


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path, certificate=CERTIFICATE) as service:
        yield service


def test_a_port_that_nobody_listens_on_is_tried_until_the_deadline() -> None:
    begun = time.monotonic()
    with pytest.raises(UnreachableError, match=r"in 2 s \(\d tries\).*refused"):
        winrm.connect(
            "127.0.0.1", port=free_port(), user=USER, password=PASSWORD, fingerprint="ab" * 32, deadline=2
        )
    assert 1.5 < time.monotonic() - begun < 4


def test_a_guest_that_comes_up_late_is_reached(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path, certificate=CERTIFICATE) as first:
        late = threading.Timer(1.0, lambda: late_service(tmp_path, port, first, done))
        done = threading.Event()
        late.start()
        try:
            winrm.connect(
                "127.0.0.1",
                port=port,
                user=USER,
                password=PASSWORD,
                fingerprint=CERTIFICATE.fingerprint,
                deadline=15,
            ).close()
        finally:
            done.set()
            late.join()


def late_service(folder: Path, port: int, first: Service, done: threading.Event) -> None:
    with Service(("127.0.0.1", port), probes=first.probes, certificate=CERTIFICATE):
        done.wait(30)


def test_a_server_that_accepts_and_says_nothing_is_given_up_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        with pytest.raises(UnreachableError):
            winrm.connect(
                "127.0.0.1",
                port=silent.getsockname()[1],
                user=USER,
                password=PASSWORD,
                fingerprint="ab" * 32,
                deadline=1.5,
            )
        assert time.monotonic() - begun < 4


def test_cancelling_ends_the_tries_at_once() -> None:
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    begun = time.monotonic()
    with pytest.raises(GuestCancelledError):
        winrm.connect(
            "127.0.0.1",
            port=free_port(),
            user=USER,
            password=PASSWORD,
            fingerprint="ab" * 32,
            deadline=60,
            cancelled=stop.is_set,
        )
    assert time.monotonic() - begun < 3


class CutShort(Service):
    """Sends the head and half the body of each output, then drops the connection or falls silent."""

    silent = False
    released = threading.Event()

    def carry_out(self, request: envelope.Request, user: str) -> bytes:
        data = super().carry_out(request, user)
        return data if request.verb != "Receive" else data[: len(data) // 2] + b"\0CUT"


def cut_handler(service: Service) -> None:
    base = service.RequestHandlerClass

    class Handler(base):  # type: ignore[misc, valid-type]
        def end_headers(self) -> None:
            super().end_headers()

        def _soap(self, body: bytes) -> Any:
            status, data, headers = super()._soap(body)
            if data.endswith(b"\0CUT"):
                self.wfile.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\n"
                    b"Content-Length: 100000\r\n\r\n" + data[:-4]
                )
                self.wfile.flush()
                if service.silent:  # type: ignore[attr-defined]
                    service.released.wait(30)  # type: ignore[attr-defined]
                raise ConnectionAbortedError
            return status, data, headers

    service.RequestHandlerClass = Handler


@pytest.mark.parametrize("silent", [False, True], ids=["the connection is lost", "it falls silent"])
def test_a_server_that_stops_in_mid_answer_is_no_answer(tmp_path: Path, silent: bool) -> None:
    security.install({USER: PASSWORD}, tmp_path / "accounts")
    with CutShort(("127.0.0.1", 0), probes=Answering(lambda command: 0), certificate=CERTIFICATE) as service:
        service.silent, service.released = silent, threading.Event()
        cut_handler(service)
        try:
            with connect(service) as guest:
                begun = time.monotonic()
                with pytest.raises((UnreachableError, AnswerError, GuestDeadlineError)) as seen:
                    guest.run("x", deadline=2)
                assert time.monotonic() - begun < 14
                assert isinstance(seen.value, GuestDeadlineError) == silent
                # Its connection was cut: nothing waits on behind our back, though the server still holds its end.
                workers = [one for one in threading.enumerate() if one.name == "drtest-ssh"]
                for worker in workers:
                    worker.join(8)
                assert not any(worker.is_alive() for worker in workers)
        finally:
            service.released.set()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"The command line is too long.",
        b"-----BEGIN DRTEST 00-----\n{}\n-----END DRTEST 00 0-----\n",
        b'{"seen": []}',
    ],
)
def test_an_answer_without_its_sentinels_is_none_whatever_the_exit_code(tmp_path: Path, said: bytes) -> None:
    def main(command: Command) -> int:
        command.write(said) if said else None
        return 0

    with broken(tmp_path, main) as (_, guest), pytest.raises(AnswerError, match="no answer"):
        guest.run_powershell("1", deadline=5)


def test_half_an_answer_is_none(tmp_path: Path) -> None:
    class Half(Probes):
        def main(self, line: str) -> Callable[[Command], int]:
            whole = super().main(line)

            def half(command: Command) -> int:
                write = command.write
                command.write = lambda data: None if b"END" in data else write(data)  # type: ignore[method-assign]
                return whole(command)

            return half

    probes = Half(visits=PROBES.visits, hashes=PROBES.hashes)
    with (
        serving(tmp_path, probes=probes, certificate=CERTIFICATE) as service,
        connect(service) as guest,
        pytest.raises(AnswerError, match="half of an answer"),
    ):
        guest.run_powershell(script("echo", {}), deadline=5)


def test_ten_megabytes_are_refused_unless_they_are_asked_for(service: Service) -> None:
    with connect(service) as guest:
        with pytest.raises(AnswerError, match=f"more than {transport.LIMIT} bytes"):
            guest.run_powershell(script("echo", {"letters": 10_000_000}), deadline=60)
        assert len(service.shells) == 0
        result = guest.run_powershell(script("echo", {"letters": 10_000_000}), deadline=60, limit=12_000_000)
        assert powershell.document(result, "x")["seen"][0]["letters"] == "x" * 10_000_000


def test_one_response_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def long(command: Command) -> int:
        command.write(b"x" * 90_000)
        return 0

    monkeypatch.setattr(wire, "RESPONSE_LIMIT", 50_000)
    with (
        broken(tmp_path, long) as (_, guest),
        pytest.raises(AnswerError, match="beyond all limits"),
    ):
        guest.run("x", deadline=5)


def test_a_hung_command_is_ended_at_the_deadline_and_its_shell_is_closed(tmp_path: Path) -> None:
    ended = threading.Event()

    def hang(command: Command) -> int:
        if command.wait(60):
            ended.set()
        return 0

    with broken(tmp_path, hang) as (service, guest):
        begun = time.monotonic()
        with pytest.raises(GuestDeadlineError, match="did not end"):
            guest.run("x", deadline=1.5)
        assert time.monotonic() - begun < 4
        assert ended.wait(5)
        assert len(service.shells) == 0
        # The guest can still be asked: what was cut is made anew.
        with pytest.raises(GuestDeadlineError):
            guest.run("x", deadline=0.5)


def test_a_command_that_is_cancelled_is_ended(tmp_path: Path) -> None:
    stop = threading.Event()
    with (
        serving(tmp_path, probes=Answering(lambda c: int(c.wait(60))), certificate=CERTIFICATE) as service,
        connect(service, cancelled=stop.is_set) as guest,
    ):
        threading.Timer(0.5, stop.set).start()
        with pytest.raises(GuestCancelledError):
            guest.run("x", deadline=60)
        assert len(service.shells) == 0


def test_a_shell_is_closed_when_the_command_can_not_be_begun(service: Service) -> None:
    with connect(service) as guest:
        with pytest.raises(AnswerError, match="not Windows"):
            guest.run("ipconfig", deadline=5)
        assert len(service.shells) == 0


def test_a_service_that_is_started_anew_in_mid_command_is_unreachable(tmp_path: Path) -> None:
    with broken(tmp_path, lambda command: int(command.wait(30))) as (service, guest):
        threading.Timer(0.5, service.shells.close_all).start()
        with pytest.raises(UnreachableError, match="started anew"):
            guest.run("x", deadline=20)


def test_quotas_are_tried_again_until_there_is_room(tmp_path: Path) -> None:
    with serving(tmp_path, certificate=CERTIFICATE, shells=1) as service:
        taken = service.shells.open(USER)
        with pytest.raises(UnreachableError, match="no room for another shell"):
            connect(service, deadline=1.5)
        threading.Timer(1.0, lambda: service.shells.close(taken.id)).start()
        connect(service, deadline=15).close()


def test_faults_become_errors_with_windows_own_number() -> None:
    def translated(code: int) -> BaseException:
        fault = WSManFaultError(500, "m", "r", "warum", wsman_fault_code=code)
        return winrm.translated("host:5986", fault)

    assert isinstance(translated(faults.SHELL_NOT_FOUND), UnreachableError)
    assert isinstance(translated(faults.ACCESS_DENIED), LoginError)
    other = translated(12345)
    assert isinstance(other, AnswerError)
    assert "warum" in str(other)
    assert "12345" in str(other)
