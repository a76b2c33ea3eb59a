"""The ways to log in by WinRM: what pywinrm is given for each, what it needs, and when it was refused."""

import re
import ssl
from pathlib import Path
from typing import Any, Literal, TypeAlias

import requests
import spnego.exceptions
import winrm.transport
from winrm.exceptions import AuthenticationError, WinRMTransportError

from drtest.errors import EnvironmentFailedError

Auth: TypeAlias = Literal["ntlm", "certificate", "kerberos", "credssp"]
"""NTLM and certificates are for accounts of the server's own; Kerberos and CredSSP need the domain's controller."""

REMEDIES: dict[Auth, str] = {
    "ntlm": "Check the user name and the password of the target's login settings; a restored server has those that "
    "the source had at the capture.",
    "certificate": "Look at the server: whether it takes certificates (winrm get winrm/config/service/auth), which "
    "ones it maps to an account (winrm enumerate winrm/config/service/certmapping), and whether it trusts the issuer; "
    "a restored server has the mapping that the source had at the capture.",
    "kerberos": "Get a ticket on this machine (kinit), and look whether the domain knows HTTP/ and the server's name, "
    "which is found from its address by reverse DNS.",
    "credssp": "Check the user name and the password of the target's login settings, and whether the server takes "
    "CredSSP (winrm get winrm/config/service/auth).",
}
"""What to do about a login that was refused."""

_PACKAGES: dict[Auth, str] = {"kerberos": "pykerberos", "credssp": "requests-credssp"}
"""What pywinrm needs for it, and can be without; drtest's extras have the same names as the ways."""

_CERTIFICATE_REFUSED = re.compile(r"alert (.* )?(certificate|unknown ca|access denied)\b", re.IGNORECASE)
"""TLS alerts by which a server refuses a client's certificate (RFC 8446, 6.2), as OpenSSL spells them."""


def require(auth: Auth) -> None:
    """Makes sure that what a login needs on this machine is there.

    Raises:
        EnvironmentFailedError: a package is missing.
    """
    if auth in _PACKAGES and not getattr(winrm.transport, f"HAVE_{auth.upper()}"):
        raise EnvironmentFailedError(
            f"A login by {auth} needs the package {_PACKAGES[auth]}, which is not installed.",
            remedy=f"Run: pip install 'drtest[{auth}]'",
        )


def arguments(
    auth: Auth, *, user: str, password: str, certificate: Path | None, certificate_key: Path | None, name: str
) -> dict[str, Any]:
    """What pywinrm's Protocol is given for a login.

    Raises:
        EnvironmentFailedError: a package is missing, or the certificate and its key can't be used.
    """
    require(auth)
    if auth == "certificate":
        return {"transport": auth, **_pair(certificate, certificate_key)}
    if auth == "kerberos":  # by the ticket of kinit
        return {"transport": auth, "username": user, "kerberos_hostname_override": name or None}
    return {"transport": auth, "username": user, "password": password}


def _pair(certificate: Path | None, key: Path | None) -> dict[str, str]:
    try:
        # An encrypted key would be asked for on the terminal: it gets no password instead, and fails.
        ssl.create_default_context().load_cert_chain(certificate or "", key, password=lambda: "")
    except OSError as problem:  # ssl.SSLError is one
        raise EnvironmentFailedError(
            f"The certificate {certificate} and its key can't be used: {problem.strerror or problem}.",
            remedy="Give both as PEM, the key without a password; they have to belong together.",
        ) from None
    return {"cert_pem": str(certificate), "cert_key_pem": str(key)}


def refusal(problem: BaseException, *, auth: Auth) -> str | None:
    """What the server said when it did not let us in; None where an error means something else."""
    if isinstance(problem, requests.exceptions.SSLError):
        alert = _CERTIFICATE_REFUSED.search(str(problem)) if auth == "certificate" else None
        return f"its TLS says {alert[0]}" if alert else None
    if isinstance(problem, WinRMTransportError):
        return "HTTP 403" if problem.args[1:2] == (requests.codes.forbidden,) else None
    # Those of the optional packages can't be named without them.
    known = isinstance(problem, AuthenticationError | PermissionError | spnego.exceptions.SpnegoError)
    optional = type(problem).__module__.startswith(("winrm.vendor.requests_kerberos", "requests_credssp"))
    return str(problem)[:300] if known or optional else None
