"""The other ways to log in by WinRM: by a certificate against a real service, by Kerberos and CredSSP up to pywinrm."""

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import winrm.transport
from winrm.exceptions import WinRMTransportError
from winrm.protocol import Protocol

from drtest.errors import EnvironmentFailedError
from drtest.guest import powershell, winrm_auth
from drtest.guest import winrm as by_winrm
from drtest.guest.transport import GuestError, LoginError, UnreachableError
from drtest.guest.winrm import CertificateError
from drtest.lab.winrm import security
from drtest.lab.winrm.certificate import Certificate, make
from drtest.lab.winrm.service import Service
from tests.guest.winrm_guest import CERTIFICATE, connect
from tests.lab.winrm.stand_in import PROBES, USER, now, script

MUTUAL = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
"""A login by the certificate of the connection (DSP0226, C.3.9)."""


class MutualService(Service):
    """A service that logs in by certificates: of the issuers that it trusts, those that it maps to a user."""

    def __init__(self, *, trusted: Certificate, mapped: Mapping[bytes, str]) -> None:
        super().__init__(("127.0.0.1", 0), probes=PROBES, certificate=CERTIFICATE)
        assert self._tls is not None
        self._tls.verify_mode = ssl.CERT_OPTIONAL
        self._tls.load_verify_locations(cadata=trusted.certificate.decode())
        base = self.RequestHandlerClass

        class Handler(base):  # type: ignore[misc, valid-type]
            def _answer(self) -> Iterator[Any]:
                if self.headers.get("Authorization") == MUTUAL:
                    shown = self.request.getpeercert(binary_form=True)
                    self.login.user = mapped.get(shown, "")
                    del self.headers["Authorization"]
                return super()._answer()  # type: ignore[no-any-return]

        self.RequestHandlerClass = Handler


AUTHORITY = make("drtest test authority", now=now(), authority=True)
MINE = make(USER, now=now(), issuer=AUTHORITY)


@pytest.fixture
def service() -> Iterator[Service]:
    der = ssl.PEM_cert_to_DER_cert(MINE.certificate.decode())
    with MutualService(trusted=AUTHORITY, mapped={der: USER}) as service:
        yield service


def files(folder: Path, one: Certificate) -> dict[str, Any]:
    (folder / "me.pem").write_bytes(one.certificate)
    (folder / "me.key").write_bytes(one.key)
    return {
        "auth": "certificate",
        "user": "",
        "password": "",
        "certificate": folder / "me.pem",
        "certificate_key": folder / "me.key",
    }


def test_a_certificate_logs_in_and_scripts_are_answered(service: Service, tmp_path: Path) -> None:
    with connect(service, **files(tmp_path, MINE)) as guest:
        result = guest.run_powershell(script("echo", {"word": "Größe"}), deadline=10)
        assert powershell.document(result, "x")["seen"][0]["asked"] == {"word": "Größe"}
        assert guest.host_key == f"x509-sha256 {CERTIFICATE.fingerprint}"
    assert len(service.shells) == 0


@pytest.mark.parametrize(
    "wrong",
    [make(USER, now=now(), issuer=AUTHORITY), make(USER, now=now())],
    ids=["not mapped to an account", "of an issuer that the server does not trust"],
)
def test_a_wrong_certificate_is_a_refused_login_that_says_where_to_look(
    service: Service, tmp_path: Path, wrong: Certificate
) -> None:
    with pytest.raises(LoginError, match="refused the login") as seen:
        connect(service, **files(tmp_path, wrong), deadline=60)
    assert "certmapping" in seen.value.remedy
    assert "trusts the issuer" in seen.value.remedy


def test_the_server_has_to_prove_itself_to_a_certificate_too(service: Service, tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="Fingerprints did not match"):
        connect(service, **files(tmp_path, MINE), fingerprint="ab" * 32)


def test_a_server_that_takes_no_certificates_refuses_the_login(tmp_path: Path) -> None:
    security.install({}, tmp_path / "accounts")
    with (
        Service(("127.0.0.1", 0), probes=PROBES, certificate=CERTIFICATE) as service,
        pytest.raises(LoginError, match="refused the login"),
    ):
        connect(service, **files(tmp_path, MINE))


@pytest.mark.parametrize("broken", ["the key of another", "no key", "no PEM", "not there"])
def test_a_certificate_that_can_not_be_used_is_told_before_anything_is_sent(
    service: Service, tmp_path: Path, broken: str
) -> None:
    how = files(tmp_path, MINE)
    match broken:
        case "the key of another":
            (tmp_path / "me.key").write_bytes(AUTHORITY.key)
        case "no key":
            (tmp_path / "me.key").write_bytes(MINE.certificate)
        case "no PEM":
            (tmp_path / "me.pem").write_bytes(b"\x30\x82")
        case _:
            (tmp_path / "me.pem").unlink()
    with pytest.raises(EnvironmentFailedError, match=r"me\.pem and its key can't be used") as seen:
        connect(service, **how)
    assert not isinstance(seen.value, GuestError)
    assert "belong together" in seen.value.remedy


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)", LoginError),
        ("[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] sslv3 alert certificate expired (_ssl.c:1)", LoginError),
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:1)", LoginError),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1)",
            CertificateError,
        ),
        ("[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure (_ssl.c:1)", UnreachableError),
    ],
)
def test_whose_certificate_was_not_accepted_is_told_apart(text: str, kind: type[GuestError]) -> None:
    problem = requests.exceptions.SSLError(text)
    assert type(by_winrm.translated("host:5986", problem, auth="certificate")) is kind


def test_a_server_that_forbids_is_one_that_refuses() -> None:
    problem = by_winrm.translated("host:5986", WinRMTransportError("http", 403, ""), auth="certificate")
    assert isinstance(problem, LoginError)
    busy = by_winrm.translated("host:5986", WinRMTransportError("http", 503, ""), auth="certificate")
    assert isinstance(busy, UnreachableError)


# Kerberos and CredSSP need a domain controller: what is tested is what pywinrm gets, and what comes of its errors.


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ("kerberos", {"transport": "kerberos", "username": "a@EXAMPLE.COM", "password": None}),
        ("credssp", {"transport": "credssp", "username": "a@EXAMPLE.COM", "password": "secret"}),
        ("ntlm", {"transport": "ntlm", "username": "a@EXAMPLE.COM", "password": "secret"}),
    ],
)
def test_pywinrm_is_told_who_logs_in_and_how_over_https_alone(
    auth: winrm_auth.Auth, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {}

    class ToldError(Exception):
        pass

    def listen(self: Protocol, **how: Any) -> None:
        told.update(how)
        raise ToldError

    monkeypatch.setattr(winrm.transport, "HAVE_KERBEROS", True)
    monkeypatch.setattr(winrm.transport, "HAVE_CREDSSP", True)
    monkeypatch.setattr(Protocol, "__init__", listen)
    with pytest.raises(ToldError):
        by_winrm.connect(
            "10.0.0.5", port=5986, user="a@EXAMPLE.COM", password="secret", auth=auth, deadline=1
        )
    assert {key: told.get(key) for key in expected} == expected
    assert told["endpoint"] == "https://10.0.0.5:5986/wsman"
    assert told["server_cert_validation"] == "validate"


@pytest.mark.parametrize(("auth", "package"), [("kerberos", "pykerberos"), ("credssp", "requests-credssp")])
def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(
    auth: winrm_auth.Auth, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winrm.transport, f"HAVE_{auth.upper()}", False)
    with pytest.raises(EnvironmentFailedError, match=f"needs the package {package}") as seen:
        by_winrm.connect("10.0.0.5", port=5986, user="a@B", password="x", auth=auth, deadline=1)
    assert seen.value.remedy == f"Run: pip install 'drtest[{auth}]'"
    assert not isinstance(seen.value, GuestError)


@pytest.mark.parametrize(
    ("auth", "module", "advice"),
    [
        ("kerberos", "winrm.vendor.requests_kerberos.exceptions", "kinit"),
        ("credssp", "requests_credssp.exceptions", "CredSSP"),
    ],
)
def test_an_error_of_an_optional_package_is_a_refused_login(
    auth: winrm_auth.Auth, module: str, advice: str
) -> None:
    kind = type("AuthenticationException", (Exception,), {"__module__": module})
    problem = by_winrm.translated("host:5986", kind("no credentials cache"), auth=auth)
    assert isinstance(problem, LoginError)
    assert "no credentials cache" in problem.seen
    assert advice in problem.remedy
