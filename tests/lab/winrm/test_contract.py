"""One contract for the service, kept with two clients that do not know that it is no Windows: pywinrm and pypsrp."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import certifi
import pytest
import requests
import winrm.exceptions
import winrm.protocol
from pypsrp.exceptions import WSManFaultError
from pypsrp.shell import Process, SignalCode, WinRS
from pypsrp.wsman import WSMan

from drtest.guest import powershell
from drtest.guest.fingerprint import fingerprints_from_console
from drtest.lab.winrm import faults
from drtest.lab.winrm.certificate import Certificate
from drtest.lab.winrm.security import bindings
from drtest.lab.winrm.service import Service
from drtest.lab.winrm.shells import Command
from tests.lab.winrm.stand_in import PASSWORD, PROBES, USER, Answering, certificate, script, serving

NONCE = "0123456789abcdef"


class Answer(NamedTuple):
    exit: int
    stdout: bytes
    stderr: bytes


class FaultSeenError(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class RefusedError(Exception):
    pass


Run = Callable[..., Answer]


def by_pywinrm(service: Service, ca: Path | None, *, user: str = USER, password: str = PASSWORD) -> Run:
    scheme = "https" if service.encrypted else "http"
    protocol = winrm.protocol.Protocol(
        endpoint=f"{scheme}://127.0.0.1:{service.server_port}/wsman",
        transport="ntlm",
        username=user,
        password=password,
        ca_trust_path=str(ca),
        operation_timeout_sec=1,
        read_timeout_sec=5,
        proxy=None,
    )

    def run(command: str, stdin: bytes = b"") -> Answer:
        try:
            shell = protocol.open_shell(codepage=65001)
            try:
                number = protocol.run_command(shell, command, console_mode_stdin=not stdin)
                if stdin:
                    protocol.send_command_input(shell, number, stdin, end=True)
                out, err, code = protocol.get_command_output(shell, number)
                protocol.cleanup_command(shell, number)
            finally:
                protocol.close_shell(shell)
        except winrm.exceptions.InvalidCredentialsError as problem:
            raise RefusedError from problem
        except winrm.exceptions.WSManFaultError as problem:
            raise FaultSeenError(problem.wsman_fault_code or 0, problem.reason) from problem
        return Answer(code, out, err)

    return run


def by_pypsrp(service: Service, ca: Path | None, *, user: str = USER, password: str = PASSWORD) -> Run:
    def run(command: str, stdin: bytes = b"") -> Answer:
        wsman = WSMan(
            "127.0.0.1",
            port=service.server_port,
            ssl=service.encrypted,
            cert_validation=cast(bool, str(ca))
            if service.encrypted
            else True,  # a path is one, says its docstring
            auth="ntlm",
            username=user,
            password=password,
            operation_timeout=1,
            read_timeout=5,
            no_proxy=True,
        )
        try:
            with wsman, WinRS(wsman, codepage=65001) as shell:
                process = Process(shell, command)
                process.begin_invoke()
                if stdin:
                    process.send(stdin, end=True)
                process.end_invoke()
                process.signal(SignalCode.TERMINATE)
                assert process.rc is not None
                return Answer(process.rc, process.stdout, process.stderr)
        except WSManFaultError as problem:
            raise FaultSeenError(problem.code or 0, str(problem)) from problem
        except Exception as problem:
            if type(problem).__name__ == "AuthenticationError":
                raise RefusedError from problem
            raise

    return run


@pytest.fixture(scope="module")
def own() -> Certificate:
    return certificate()


@pytest.fixture(params=["https", "http with message encryption"])
def service(request: pytest.FixtureRequest, tmp_path: Path, own: Certificate) -> Iterator[Service]:
    (tmp_path / "ca.pem").write_bytes(own.certificate)
    with serving(tmp_path, certificate=own if request.param == "https" else None) as service:
        yield service


@pytest.fixture(params=[by_pywinrm, by_pypsrp])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Run]:
    def make(service: Service, **who: Any) -> Run:
        run: Run = request.param(service, tmp_path / "ca.pem", **who)
        return run

    return make


def ask(run: Run, name: str, arguments: dict[str, Any], **changed: Any) -> Answer:
    sent = powershell.packed(script(name, arguments, **changed))
    return run(powershell.command(NONCE), sent)


def answered(answer: Answer) -> Any:
    found = re.fullmatch(
        rf"-----BEGIN DRTEST {NONCE}-----\n(.*)\n-----END DRTEST {NONCE} 0-----\n".encode(),
        answer.stdout,
        re.S,
    )
    assert found, answer
    return json.loads(found[1])["seen"]


def test_a_probe_is_answered_with_its_arguments(service: Service, client: Callable[..., Run]) -> None:
    arguments = {"word": "Größe", "number": 7}
    answer = ask(client(service), "echo", arguments)
    assert answered(answer)[0]["asked"] == arguments
    assert (answer.exit, answer.stderr) == (0, b"")
    assert len(service.shells) == 0


def test_a_megabyte_comes_whole(service: Service, client: Callable[..., Run]) -> None:
    assert len(answered(ask(client(service), "echo", {"letters": 1_000_000}))[0]["letters"]) == 1_000_000


def test_any_other_command_gets_a_fault_that_says_not_windows(
    service: Service, client: Callable[..., Run]
) -> None:
    other = base64.b64encode("Get-Date".encode("utf-16-le")).decode()
    for command in ("ipconfig", f"powershell.exe -EncodedCommand {other}"):
        with pytest.raises(FaultSeenError, match="not Windows") as seen:
            client(service)(command)
        assert seen.value.code == faults.NOT_SUPPORTED
    assert len(service.shells) == 0


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("unknown", {}),
        ("echo", {"code": "function Other { }\n"}),
        (
            "echo",
            {"code": "x\n", "digest": "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac"},
        ),
    ],
    ids=["a probe that it has not", "a hash that is not the code's", "another version"],
)
def test_a_script_that_it_does_not_know_is_not_answered(
    service: Service, client: Callable[..., Run], name: str, changed: dict[str, str]
) -> None:
    answer = ask(client(service), name, {}, **changed)
    assert answer.exit == 1
    assert answer.stdout == b""
    assert b"not Windows" in answer.stderr


def test_a_probe_that_fails_says_why_and_ends_its_answer(
    service: Service, client: Callable[..., Run]
) -> None:
    answer = ask(client(service), "fail", {})
    assert answer.exit == 1
    assert answer.stdout.endswith(f"\n-----END DRTEST {NONCE} 1-----\n".encode())
    assert b"no such disk" in answer.stderr


def test_a_wrong_password_is_refused(service: Service, client: Callable[..., Run]) -> None:
    with pytest.raises(RefusedError):
        client(service, password=PASSWORD + "r")("x")
    with pytest.raises(RefusedError):
        client(service, user="Nobody")("x")


def test_who_is_no_administrator_gets_no_shell(service: Service, client: Callable[..., Run]) -> None:
    with pytest.raises(FaultSeenError, match="denied") as seen:
        client(service, user="Guest")("x")
    assert seen.value.code == faults.ACCESS_DENIED


def test_a_command_longer_than_cmd_takes_is_not_run(service: Service, client: Callable[..., Run]) -> None:
    answer = client(service)("powershell.exe -EncodedCommand " + "A" * 8200)
    assert answer == Answer(1, b"", b"The command line is too long.\r\n")


def test_a_command_that_is_silent_longer_than_the_operation_timeout_is_asked_again(
    tmp_path: Path, own: Certificate, client: Callable[..., Run]
) -> None:
    def slow(command: Command) -> int:
        command.wait(2.5)
        command.write(b"at last")
        return 3

    (tmp_path / "ca.pem").write_bytes(own.certificate)
    with serving(tmp_path, probes=Answering(slow), certificate=own) as service:
        assert client(service)("x") == Answer(3, b"at last", b"")


def test_a_user_has_no_more_shells_than_the_quota(
    tmp_path: Path, own: Certificate, client: Callable[..., Run]
) -> None:
    (tmp_path / "ca.pem").write_bytes(own.certificate)
    with serving(tmp_path, certificate=own, shells=1) as service:
        kept = service.shells.open(USER)
        with pytest.raises(FaultSeenError, match="maximum number") as seen:
            client(service)("x")
        assert seen.value.code == faults.SHELL_QUOTA
        service.shells.close(kept.id)
        assert answered(ask(client(service), "echo", {}))


def test_a_shell_that_is_gone_is_a_fault_of_its_own(service: Service, tmp_path: Path) -> None:
    protocol = winrm.protocol.Protocol(
        endpoint=f"{'https' if service.encrypted else 'http'}://127.0.0.1:{service.server_port}/wsman",
        transport="ntlm",
        username=USER,
        password=PASSWORD,
        ca_trust_path=str(tmp_path / "ca.pem"),
        proxy=None,
    )
    with pytest.raises(winrm.exceptions.WSManFaultError) as seen:
        protocol.run_command("00000000-0000-0000-0000-000000000000", "x")
    assert seen.value.wsman_fault_code == faults.SHELL_NOT_FOUND


def test_one_user_can_not_touch_the_shell_of_another(tmp_path: Path, own: Certificate) -> None:
    with serving(tmp_path, certificate=own) as service:
        shell = service.shells.open("Somebody")
        with pytest.raises(faults.FaultError, match="was not found"):
            service.shells.get(shell.id, owner=USER)


def test_messages_in_the_clear_are_refused_over_http(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        protocol = winrm.protocol.Protocol(
            endpoint=f"http://127.0.0.1:{service.server_port}/wsman",
            transport="ntlm",
            username=USER,
            password=PASSWORD,
            message_encryption="never",
            ca_trust_path=certifi.where(),
            proxy=None,
        )
        with pytest.raises(winrm.exceptions.WinRMTransportError):
            protocol.open_shell()
        assert len(service.shells) == 0


def test_a_login_that_was_meant_for_another_certificate_is_refused(tmp_path: Path, own: Certificate) -> None:
    """Channel binding: a relay between two TLS connections can't use a login that passes through it."""
    with serving(tmp_path, certificate=own) as service:
        service.channel = bindings(certificate().certificate)
        (tmp_path / "ca.pem").write_bytes(own.certificate)
        with pytest.raises(RefusedError):
            by_pywinrm(service, tmp_path / "ca.pem")("x")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {"Authorization": "NTLM not-base64"}),
        (b"<a", {"Authorization": "Negotiate " + base64.b64encode(b"NTLMSSP\0\3" + b"\xff" * 60).decode()}),
        (b"x", {"Authorization": "Basic QWRtaW5pc3RyYXRvcjp4"}),
        (b"x", {"Content-Type": "multipart/encrypted"}),
    ],
)
def test_a_hostile_request_is_refused_and_the_service_lives(
    service: Service, client: Callable[..., Run], tmp_path: Path, body: bytes, headers: dict[str, str]
) -> None:
    url = f"{'https' if service.encrypted else 'http'}://127.0.0.1:{service.server_port}/wsman"
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(url, data=body, headers=headers, verify=str(tmp_path / "ca.pem"), timeout=5)
    assert answer.status_code == 401
    assert answered(ask(client(service), "echo", {}))


def test_the_certificate_on_the_console_is_the_one_that_is_shown(own: Certificate) -> None:
    assert fingerprints_from_console("login:\n" + own.console()) == (own.fingerprint,)


def test_the_probes_of_these_tests_are_known_by_hash() -> None:
    assert set(PROBES.hashes) == {*PROBES.visits, *PROBES.streams}
