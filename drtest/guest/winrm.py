"""WinRM to a guest, by pywinrm over HTTPS: to the pinned certificate only, and no wait is without an end."""

import logging
import re
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import certifi
import requests
from winrm.exceptions import (
    WinRMError,
    WinRMOperationTimeoutError,
    WinRMTransportError,
    WSManFaultError,
)
from winrm.protocol import Protocol

from drtest.guest import fingerprint as fingerprints
from drtest.guest.bounds import POLL
from drtest.guest.transport import (
    AnswerError,
    Cancelled,
    GuestCancelledError,
    GuestDeadlineError,
    GuestError,
    HostKeyError,
    LoginError,
    UnreachableError,
    never,
)
from drtest.guest.winrm_auth import REMEDIES, Auth, arguments, refusal
from drtest.guest.winrm_shells import Link, WinrmGuest
from drtest.guest.wire import TooLargeError, Wire

TRY = 90.0
"""Seconds that one try to log in may take: the first shell of a fresh host takes more than 20 (pywinrm #123)."""
PAUSE = 1.0
"""Seconds between two tries."""
OPERATION = 20
"""Seconds that the server may hold one request open (OperationTimeout); what takes longer is asked again."""
READ = 30
"""Seconds that it may be silent on the wire: more than `OPERATION`."""
LOGIN_TRIES = 3
"""Refused logins until one is believed: an account is locked after ten (Windows Server 2025's default)."""

# urllib3 logs each connection that was dropped: here that is an ordinary thing, told by the exceptions.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)

_ACCESS_DENIED = frozenset({5, 2147942405})
_SHELL_GONE = frozenset({995, 2150858843, 2150858844})
_QUOTAS = frozenset({2150859173, 2150859174, 2150859175, 2150859176, 2150859177, 2147943860})


class CertificateError(HostKeyError):
    """Another machine answered, or nobody stands for the one that did: its certificate is not the one accepted.

    Attributes:
        presented: the SHA-256 fingerprint of the certificate that it shows; empty where it could not be asked.
    """


def connect(
    address: str,
    *,
    port: int,
    user: str,
    password: str = "",
    auth: Auth = "ntlm",
    certificate: Path | None = None,
    certificate_key: Path | None = None,
    ca: Path | None = None,
    fingerprint: str | None = None,
    name: str = "",
    deadline: float,
    cancelled: Cancelled = never,
) -> WinrmGuest:
    r"""Logs in to a guest, trying again until the deadline: a machine that boots refuses for a while.

    Args:
        address: name or IP address.
        port: of its HTTPS listener, 5986 by default of Windows.
        user: an administrator, as ``Administrator`` or ``HOST\Administrator``; with Kerberos a principal, whose ticket
            this machine has; with a certificate the server knows whose it is.
        password: of the user, with NTLM and CredSSP.
        auth: the way to log in.
        certificate: a file (PEM) with the certificate to log in by.
        certificate_key: a file (PEM) with its key.
        ca: a file of certificates (PEM) that stand for the guest's; None: those that this machine trusts, or, with a
            `fingerprint`, none.
        fingerprint: of the only certificate that is accepted, see `drtest.guest.fingerprint.parse`; None: any that
            the CA stands for, for this address and this day.
        name: the name that the certificate is for, where it is not the address (with a CA).
        deadline: seconds from now.
        cancelled: polled; kept for all that is done by the guest later.

    Raises:
        UnreachableError: nothing answered as WinRM until the deadline.
        CertificateError: another machine answered, or its certificate has run out (with a CA).
        LoginError: the login was refused, or may not open a shell.
        GuestCancelledError: the caller cancelled.
        EnvironmentFailedError: this machine can't log in that way: a package is missing, or the certificate is no good.
        ValueError: the fingerprint is none.
    """
    login = arguments(
        auth,
        user=user,
        password=password,
        certificate=certificate,
        certificate_key=certificate_key,
        name=name,
    )
    ends = time.monotonic() + deadline
    pinned = fingerprints.parse(fingerprint) if fingerprint else ""

    def link() -> Link:
        return _link(address, port=port, login=login, ca=ca, pinned=pinned, name=name)

    place = f"{address}:{port}"
    translate = partial(translated, auth=auth)
    last: GuestError = UnreachableError(f"{place} was not tried: its deadline was over")
    tries = refused = 0
    while time.monotonic() < ends:
        tries += 1
        guest = WinrmGuest(place, link=link, translate=translate, cancelled=cancelled)
        try:
            guest.prove(deadline=min(TRY, ends - time.monotonic()))
        except CertificateError as problem:
            guest.close()
            shown = fingerprints.presented(
                address, port=port, deadline=max(0.1, min(3.0, ends - time.monotonic()))
            )
            raise CertificateError(
                f"{problem.seen}; it shows {shown or 'none'}", presented=shown, remedy=problem.remedy
            ) from problem
        except GuestCancelledError:
            guest.close()
            raise
        except GuestError as problem:
            guest.close()
            last = problem
            refused += isinstance(problem, LoginError)
            if refused >= LOGIN_TRIES:
                raise
        else:
            return guest
        _pause(min(PAUSE, ends - time.monotonic()), place, cancelled)
    if isinstance(last, LoginError):
        raise last
    raise UnreachableError(
        f"{place} did not answer by WinRM in {deadline:.0f} s ({tries} tries); last: {last.seen}",
        remedy="Look at the instance's screenshot, its security group, its HTTPS listener (winrm enumerate "
        "winrm/config/listener), and the login settings of the target (address, port, user).",
    )


def _pause(seconds: float, place: str, cancelled: Cancelled) -> None:
    # Nothing tells when a machine has booted: the wait is for the next try alone.
    waiting = threading.Event()
    until = time.monotonic() + seconds
    while (remaining := until - time.monotonic()) > 0:
        if cancelled():
            raise GuestCancelledError(f"connecting to {place} was cancelled")
        waiting.wait(min(POLL, remaining))


def _link(
    address: str, *, port: int, login: Mapping[str, Any], ca: Path | None, pinned: str, name: str
) -> Link:
    host = f"[{address}]" if ":" in address else address
    protocol = Protocol(
        endpoint=f"https://{host}:{port}/wsman",
        **login,
        server_cert_validation="validate",
        ca_trust_path=str(ca) if ca else certifi.where(),
        operation_timeout_sec=OPERATION,
        read_timeout_sec=READ,
        proxy=None,
    )
    wire = Wire(fingerprint=pinned, validate=ca is not None or not pinned, name=name)
    session = protocol.transport.build_session()
    session.trust_env = False
    session.max_redirects = 0  # a listener that sends us elsewhere is none
    session.mount("https://", wire)
    session.mount("http://", wire)
    return Link(protocol=protocol, wire=wire)


def translated(place: str, problem: BaseException, *, auth: Auth = "ntlm") -> BaseException:
    """An error of pywinrm's, or of what it stands on, as one of ours."""
    if isinstance(problem, GuestError):
        return problem
    if (said := refusal(problem, auth=auth)) is not None:
        return LoginError(f"{place} refused the login: {said}", remedy=REMEDIES[auth])
    for kinds, translate in _TRANSLATIONS:
        if isinstance(problem, kinds):
            return translate(place, problem)
    return problem


def _fault(place: str, problem: BaseException) -> GuestError:
    code = getattr(problem, "wsman_fault_code", None)
    reason = str(getattr(problem, "reason", problem)).strip()[:300]
    said = f"{place}: {reason} (WSMan fault {code})"
    if code in _ACCESS_DENIED:
        return LoginError(
            f"{place} let us in and refused a shell: {said}",
            remedy="Log in as a local administrator: WinRM opens shells to administrators.",
        )
    if code in _SHELL_GONE:
        return UnreachableError(f"{said}: its WinRM service was started anew, or the shell was taken away")
    if code in _QUOTAS:
        return UnreachableError(
            f"{said}: it has no room for another shell",
            remedy="Look at winrm/config/winrs (MaxShellsPerUser, MaxConcurrentUsers), and at who else is logged in.",
        )
    return AnswerError(said)


def _http(place: str, problem: BaseException) -> GuestError:
    code = problem.args[1] if len(problem.args) > 1 else "?"
    return UnreachableError(f"{place} answered HTTP {code}, which is no word of a WinRM service that runs")


def _certificate(place: str, problem: BaseException) -> GuestError:
    text = str(problem)
    if not re.search(r"certificate|fingerprint|hostname", text, re.IGNORECASE):
        return UnreachableError(f"{place}: TLS failed: {text[:300]}")
    why = re.search(
        r"certificate verify failed: [^(']+|Fingerprints did not match|hostname '[^']*' doesn't match|"
        r"IP address mismatch[^(']*",
        text,
    )
    return CertificateError(
        f"the certificate at {place} is not accepted: {(why[0] if why else text[:300]).strip()}",
        presented="",
        remedy="Compare the fingerprint with the source's own; if it is the source's, give it as the pin.",
    )


def _unreachable(place: str, problem: BaseException) -> GuestError:
    return UnreachableError(f"{place}: {type(problem).__name__}: {str(problem)[:300]}")


def _garbage(place: str, problem: BaseException) -> GuestError:
    return AnswerError(f"{place} does not speak WinRM: {type(problem).__name__}: {str(problem)[:200]}")


def _too_large(place: str, _problem: BaseException) -> GuestError:
    return AnswerError(f"{place} sent one answer beyond all limits: this is none of drtest's")


def _slow(place: str, _problem: BaseException) -> GuestError:
    return GuestDeadlineError(f"{place} did not carry out one request in {OPERATION} s")


# The first that fits: SSLError is a ConnectionError of requests', WSManFaultError a WinRMError.
_TRANSLATIONS: tuple[
    tuple[tuple[type[BaseException], ...], Callable[[str, BaseException], GuestError]], ...
] = (
    ((requests.exceptions.SSLError,), _certificate),
    ((WinRMOperationTimeoutError,), _slow),
    ((WSManFaultError,), _fault),
    ((WinRMTransportError,), _http),
    ((TooLargeError,), _too_large),
    ((requests.exceptions.RequestException, OSError, EOFError), _unreachable),
    (
        (WinRMError, ET.ParseError, KeyError, StopIteration, ValueError, AssertionError, AttributeError),
        _garbage,
    ),
)
