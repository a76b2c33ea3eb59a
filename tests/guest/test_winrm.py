"""WinRM to a guest, against a real service on loopback: what it does."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from drtest.guest import powershell, transport
from drtest.guest.transport import (
    AnswerError,
    GuestDeadlineError,
)
from drtest.lab.winrm.service import Service
from drtest.lab.winrm.shells import Command
from tests.guest.winrm_guest import CERTIFICATE, broken, connect
from tests.lab.winrm.stand_in import script, serving


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path, certificate=CERTIFICATE) as service:
        yield service


def test_a_command_gives_its_exit_code_and_both_outputs(tmp_path: Path) -> None:
    def main(command: Command) -> int:
        while (line := command.read_line()) is not None:
            command.write(line.upper())
        command.error(b"careful")
        return 3

    with broken(tmp_path, main) as (service, guest):
        result = guest.run("upper", stdin=b"one\r\ntwo", deadline=5)
        assert result == transport.Result(exit=3, stdout=b"ONETWO", stderr=b"careful")
        assert len(service.shells) == 0


def test_input_of_many_pieces_arrives_whole_and_in_order(tmp_path: Path) -> None:
    sent = b"".join(b"%07d\n" % number for number in range(100_000))

    def main(command: Command) -> int:
        total = 0
        while (line := command.read_line()) is not None:
            assert int(line) == total
            total += 1
        command.write(b"%d" % total)
        return 0

    with broken(tmp_path, main) as (_, guest):
        assert guest.run("count", stdin=sent, deadline=60).stdout == b"100000"


def test_a_script_of_any_length_is_run_and_answered(service: Service) -> None:
    code = "# padding\n" * 20_000
    with connect(service) as guest:
        with pytest.raises(AnswerError, match="another version"):
            guest.run_powershell(script("echo", {}, code=code, digest=_sha(code)), deadline=20)
        result = guest.run_powershell(script("echo", {"word": "ß"}), deadline=20)
    assert result.exit == 0
    assert powershell.document(result, "x")["seen"][0]["asked"] == {"word": "ß"}


def _sha(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def test_a_script_that_throws_is_an_answer_with_another_exit_code(service: Service) -> None:
    with connect(service) as guest:
        result = guest.run_powershell(script("fail", {}), deadline=5)
        assert result.exit == 1
        assert result.stderr == b"RuntimeError: no such disk\r\n"
        with pytest.raises(AnswerError, match="no such disk"):
            powershell.document(result, guest.address)


def test_the_guest_names_the_certificate_that_it_proved_to_have(service: Service) -> None:
    with connect(service) as guest:
        assert guest.host_key == f"x509-sha256 {CERTIFICATE.fingerprint}"


def test_a_command_line_that_windows_would_cut_is_never_sent(service: Service) -> None:
    with connect(service) as guest, pytest.raises(AnswerError, match="8191"):
        guest.run("x" * 8192, deadline=5)


def test_the_bootstraps_fit_into_a_command_line() -> None:
    for line in (powershell.command("f" * 32), powershell.stream_command("f" * 32)):
        assert len(line) < 4000


def test_a_stream_is_told_lines_and_gives_lines_until_it_is_stopped(service: Service) -> None:
    program = powershell.packed_stream(script("count", {}))
    with (
        connect(service) as guest,
        guest.stream(powershell.stream_command("a" * 32), stdin=program, deadline=20) as stream,
    ):
        lines = iter(stream)
        assert next(lines) == b"ready"
        stream.send(b"go 1\n")
        assert next(lines) == b"1 go 1"
        stream.send(b"go 2\n")
        assert next(lines) == b"2 go 2"
        stream.stop()
        assert list(lines) == [b"end 2"]
        assert stream.exit == 0
        stream.stop()
    assert len(service.shells) == 0


def test_a_stream_ends_at_its_deadline(service: Service) -> None:
    program = powershell.packed_stream(script("count", {}))
    with (
        connect(service) as guest,
        guest.stream(powershell.stream_command("a" * 32), stdin=program, deadline=1.5) as stream,
    ):
        lines = iter(stream)
        next(lines)
        with pytest.raises(GuestDeadlineError):
            next(lines)
    assert len(service.shells) == 0
