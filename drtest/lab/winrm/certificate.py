"""The stand-in's own certificate, and how it shows it on its console."""

import datetime
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate and its key, both in PEM."""

    certificate: bytes
    key: bytes

    @property
    def fingerprint(self) -> str:
        """Its SHA-256, as hex digits."""
        return x509.load_pem_x509_certificate(self.certificate).fingerprint(hashes.SHA256()).hex()

    def console(self) -> str:
        """The lines by which an instance shows it on its own console."""
        return (
            "-----BEGIN WINRM CERTIFICATE FINGERPRINTS-----\n"
            f"{self.fingerprint} (SHA256)\n"
            "-----END WINRM CERTIFICATE FINGERPRINTS-----\n"
        )


def make(
    name: str,
    *,
    now: datetime.datetime,
    days: int = 365,
    addresses: tuple[str, ...] = (),
    issuer: Certificate | None = None,
    authority: bool = False,
) -> Certificate:
    """A new certificate, signed by itself or by an issuer.

    Args:
        name: the host's name.
        now: the day from which it is good, in UTC; an hour earlier, for clocks that go wrong.
        days: how long it is good.
        addresses: IP addresses that it is for, too.
        issuer: who signs it; None: it does.
        authority: whether it signs others.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer_key, signer = key, subject
    if issuer is not None:
        loaded = serialization.load_pem_private_key(issuer.key, password=None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise TypeError("issuers are made by this module")
        signer_key, signer = loaded, x509.load_pem_x509_certificate(issuer.certificate).subject
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    names += [x509.IPAddress(ipaddress.ip_address(one)) for one in addresses]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(signer_key, hashes.SHA256())
    )
    return Certificate(
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
