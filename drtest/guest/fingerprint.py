"""Fingerprints of TLS certificates: how a guest's certificate is pinned, shown, and read from a console."""

import hashlib
import re
import socket
import ssl

_CONSOLE_BEGIN = "-----BEGIN WINRM CERTIFICATE FINGERPRINTS-----"
_CONSOLE_END = "-----END WINRM CERTIFICATE FINGERPRINTS-----"
# What EC2Launch prints on the first boot (EC2 User Guide, EC2Launch v2: "RDPCERTIFICATE-THUMBPRINT"): a SHA-1.
_EC2LAUNCH = re.compile(r"RDPCERTIFICATE-THUMBPRINT:\s*([0-9A-Fa-f]{40})\b")
_ALGORITHMS = {40: "sha1", 64: "sha256"}


def parse(text: str) -> str:
    """A fingerprint as hex digits in small letters.

    SHA-256, or SHA-1 as Windows shows a certificate's thumbprint everywhere: a pin needs a hash that nobody finds a
    second certificate for, and for that SHA-1 still serves.

    >>> parse("SHA256:" + "AB:" * 31 + "AB") == "ab" * 32
    True

    Raises:
        ValueError: it is neither.
    """
    name, colon, rest = text.strip().partition(":")
    if colon and name.lower().replace("-", "") in _ALGORITHMS.values():
        text = rest
    digits = re.sub(r"[\s:]", "", text).lower()
    if len(digits) not in _ALGORITHMS or re.fullmatch(r"[0-9a-f]+", digits) is None:
        raise ValueError(f"{text!r} is no fingerprint: 64 hex digits (SHA-256) or 40 (a Windows thumbprint)")
    return digits


def of_certificate(der: bytes) -> str:
    """The SHA-256 fingerprint of a certificate in DER."""
    return hashlib.sha256(der).hexdigest()


def matches(der: bytes, fingerprint: str) -> bool:
    """Whether a certificate in DER is the one with this fingerprint, as `parse` gives it."""
    return hashlib.new(_ALGORITHMS[len(fingerprint)], der).hexdigest() == fingerprint


def presented(address: str, *, port: int, deadline: float) -> str:
    """The SHA-256 fingerprint of the certificate that a server shows now; empty where it shows none.

    For a message, or for a person to compare: nothing is sent over the connection, and nothing is proven by it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address, port), timeout=max(0.1, deadline)) as plain,
            context.wrap_socket(plain, server_hostname=address) as connection,
        ):
            der = connection.getpeercert(binary_form=True)
    except (OSError, ValueError):
        return ""
    return of_certificate(der) if der else ""


def fingerprints_from_console(text: str) -> tuple[str, ...]:
    r"""The fingerprints that an instance printed on its own console, the newest last.

    A block of their own is printed by the lab's Windows stand-in, and by user data that makes the listener's
    certificate; a listener that uses the certificate of Remote Desktop shows EC2Launch's thumbprint.

    >>> fingerprints_from_console("x\nRDPCERTIFICATE-THUMBPRINT: " + "AB" * 20) == ("ab" * 20,)
    True
    """
    found = [match[1].lower() for match in _EC2LAUNCH.finditer(text)]
    for part in text.split(_CONSOLE_BEGIN)[1:]:
        body, end, _ = part.partition(_CONSOLE_END)
        if end:
            found += [word.lower() for word in re.findall(r"\b[0-9A-Fa-f]{64}\b", body)]
    return tuple(dict.fromkeys(found))
