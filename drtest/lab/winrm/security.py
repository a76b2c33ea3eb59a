"""NTLM over HTTP, and its message encryption (MS-WSMV 2.2.9.1), for one connection; and the accounts behind it."""

import base64
import hashlib
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import spnego
import spnego.channel_bindings
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

BOUNDARY = b"--Encrypted Boundary"
PROTOCOL = b"application/HTTP-SPNEGO-session-encrypted"
CONTENT_TYPE = f'multipart/encrypted;protocol="{PROTOCOL.decode()}";boundary="Encrypted Boundary"'
_OCTETS = b"\tContent-Type: application/octet-stream\r\n"


def install(accounts: Mapping[str, str], file: Path) -> None:
    """Makes accounts known to NTLM: pyspnego takes them from the file that NTLM_USER_FILE names, and no other way.

    Args:
        accounts: password by user name, as ``Administrator``; each is good with no domain or host before it.
        file: is written, for this user's eyes only.

    Raises:
        ValueError: a name or a password has a character that the file's format gives a meaning.
    """
    for word in (*accounts, *accounts.values()):
        if set(word) & {":", "\n", "\r"}:
            raise ValueError("names and passwords have neither colons nor line ends here")
    lines = [f":{user}:{password}\n" for user, password in accounts.items()]
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.writelines(lines)
    os.environ["NTLM_USER_FILE"] = str(file)


def bindings(certificate: bytes) -> spnego.channel_bindings.GssChannelBindings:
    """What ties a login to the TLS connection that it came over (RFC 5929, tls-server-end-point).

    Args:
        certificate: the server's, in PEM.
    """
    parsed = x509.load_pem_x509_certificate(certificate)
    kind = parsed.signature_hash_algorithm
    name = "sha256" if kind is None or kind.name in ("md5", "sha1") else kind.name
    digest = hashlib.new(name, parsed.public_bytes(Encoding.DER)).digest()
    return spnego.channel_bindings.GssChannelBindings(application_data=b"tls-server-end-point:" + digest)


class RefusedError(Exception):
    """The login is refused; the client is asked again."""


class Login:
    """The login of one connection: NTLM logs in connections, not requests.

    Attributes:
        user: who it is; "" as long as nobody is logged in.
    """

    def __init__(self, channel: spnego.channel_bindings.GssChannelBindings | None) -> None:
        self._channel = channel
        self._context: spnego.ContextProxy | None = None
        self.user = ""

    def step(self, header: str) -> str:
        """One step, from the client's Authorization to our WWW-Authenticate; "" once it is logged in.

        Raises:
            RefusedError: the password is wrong, there is no such user, or the login came over another connection.
        """
        scheme, _, token = header.partition(" ")
        if scheme.lower() not in ("ntlm", "negotiate"):
            raise RefusedError(f"no login by {scheme}")
        if self._context is None or self._context.complete:
            protocol = "ntlm" if scheme.lower() == "ntlm" else "negotiate"
            self._context = spnego.server(protocol=protocol, channel_bindings=self._channel)
            self.user = ""
        try:
            out = self._context.step(base64.b64decode(token))
        except Exception as problem:  # pyspnego has a dozen kinds, and a hostile token any other
            self._context = None
            raise RefusedError(str(problem)) from problem
        if not self._context.complete:
            return f"{scheme} {base64.b64encode(out or b'').decode()}"
        self.user = (self._context.client_principal or "").rpartition("\\")[2]
        return ""

    def decrypt(self, body: bytes) -> bytes:
        """The message inside an encrypted body.

        Raises:
            RefusedError: it is none, or nobody is logged in.
        """
        try:
            part = body.split(_OCTETS, 1)[1]
            part = part[: -len(BOUNDARY + b"--\r\n")]
            length = struct.unpack("<I", part[:4])[0]
            assert self._context is not None  # noqa: S101 for the type: an AssertionError is refused as well
            return self._context.unwrap_winrm(part[4 : 4 + length], part[4 + length :])
        except Exception as problem:  # a body of any kind
            raise RefusedError(f"the body can't be decrypted: {problem}") from problem

    def encrypt(self, message: bytes) -> bytes:
        """A message as an encrypted body."""
        assert self._context is not None  # noqa: S101 only what came encrypted is answered so
        header, data, _ = self._context.wrap_winrm(message)
        return (
            BOUNDARY
            + b"\r\n\tContent-Type: "
            + PROTOCOL
            + b"\r\n\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=%d\r\n" % len(message)
            + BOUNDARY
            + b"\r\n"
            + _OCTETS
            + struct.pack("<I", len(header))
            + header
            + data
            + BOUNDARY
            + b"--\r\n"
        )
