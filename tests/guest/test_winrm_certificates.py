"""Who answers by WinRM: the machine with the accepted certificate, and nobody else."""

import datetime
import hashlib
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drtest.guest import fingerprint, wire
from drtest.guest.transport import (
    LoginError,
)
from drtest.guest.winrm import CertificateError
from drtest.lab.winrm.certificate import Certificate, make
from drtest.lab.winrm.service import Service
from tests.guest.winrm_guest import CERTIFICATE, connect
from tests.lab.winrm.stand_in import PASSWORD, certificate, now, serving


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path, certificate=CERTIFICATE) as service:
        yield service


def test_a_wrong_password_is_a_refused_login_after_few_tries(service: Service) -> None:
    begun = time.monotonic()
    with pytest.raises(LoginError, match="refused the login"):
        connect(service, password=PASSWORD + "r", deadline=60)
    assert time.monotonic() - begun < 20


def test_a_user_without_a_shell_is_told_what_is_missing(service: Service) -> None:
    with pytest.raises(LoginError, match="refused a shell") as seen:
        connect(service, user="Guest", deadline=3)
    assert "administrator" in seen.value.remedy


def test_another_certificate_than_the_pinned_one_is_another_machine(service: Service) -> None:
    with pytest.raises(CertificateError, match="Fingerprints did not match") as seen:
        connect(service, fingerprint="ab" * 32)
    assert seen.value.presented == CERTIFICATE.fingerprint


def test_a_certificate_that_nobody_stands_for_is_not_accepted(service: Service) -> None:
    with pytest.raises(CertificateError, match="self-signed"):
        connect(service, fingerprint=None)


def ca_and_own(folder: Path, **how: Any) -> tuple[Path, Certificate]:
    authority = make("drtest test authority", now=now(), authority=True)
    (folder / "ca.pem").write_bytes(authority.certificate)
    return folder / "ca.pem", certificate(issuer=authority, **how)


def test_a_certificate_that_the_given_ca_stands_for_is_accepted(tmp_path: Path) -> None:
    ca, own = ca_and_own(tmp_path)
    with (
        serving(tmp_path, certificate=own) as service,
        connect(service, fingerprint=None, ca=ca) as guest,
    ):
        assert guest.host_key.endswith(own.fingerprint)


def test_an_expired_certificate_is_not_accepted_of_a_ca(tmp_path: Path) -> None:
    ca, own = ca_and_own(tmp_path, now=now() - datetime.timedelta(days=30), days=10)
    with (
        serving(tmp_path, certificate=own) as service,
        pytest.raises(CertificateError, match="expired") as seen,
    ):
        connect(service, fingerprint=None, ca=ca)
    assert seen.value.presented == own.fingerprint


def test_an_expired_certificate_that_is_pinned_is_the_right_machine(tmp_path: Path) -> None:
    """A server restored from last year's backup has last year's certificate."""
    old = certificate(now=now() - datetime.timedelta(days=400), days=365)
    with serving(tmp_path, certificate=old) as service:
        connect(service, fingerprint=old.fingerprint).close()


def test_a_certificate_for_another_name_is_not_accepted_of_a_ca(tmp_path: Path) -> None:
    ca, own = ca_and_own(tmp_path, addresses=("127.9.9.9",))
    with serving(tmp_path, certificate=own) as service:
        with pytest.raises(CertificateError, match="not accepted"):
            connect(service, fingerprint=None, ca=ca)
        connect(service, fingerprint=None, ca=ca, name="win-host").close()
        with pytest.raises(CertificateError):
            connect(service, fingerprint=None, ca=ca, name="other-host")


def test_with_a_pin_and_a_ca_both_must_hold(tmp_path: Path) -> None:
    ca, own = ca_and_own(tmp_path)
    with serving(tmp_path, certificate=own) as service:
        connect(service, ca=ca, fingerprint=own.fingerprint).close()
        with pytest.raises(CertificateError):
            connect(service, ca=ca, fingerprint=CERTIFICATE.fingerprint)
    with serving(tmp_path, certificate=CERTIFICATE) as service, pytest.raises(CertificateError):
        connect(service, ca=ca, fingerprint=CERTIFICATE.fingerprint)


def test_a_connection_without_any_proof_can_not_be_made() -> None:
    with pytest.raises(ValueError, match="always proven"):
        wire.Wire(fingerprint="", validate=False)


@pytest.mark.parametrize("text", ["", "zz" * 32, "ab" * 16, "MD5:" + "ab" * 16])
def test_what_is_no_fingerprint_is_refused_before_anything_is_sent(text: str) -> None:
    with pytest.raises(ValueError, match="no fingerprint"):
        fingerprint.parse(text)


def test_a_windows_thumbprint_is_a_pin_too(service: Service) -> None:
    der = ssl.PEM_cert_to_DER_cert(CERTIFICATE.certificate.decode())
    thumbprint = hashlib.sha1(der).hexdigest().upper()  # noqa: S324 as Windows shows it
    connect(service, fingerprint=thumbprint).close()
    with pytest.raises(CertificateError):
        connect(service, fingerprint=thumbprint[:-1] + ("0" if thumbprint[-1] != "0" else "1"))


def test_proxies_and_cas_of_the_environment_are_not_asked(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    connect(service).close()
