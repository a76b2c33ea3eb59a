"""The certificate of WinRM, kept on C: so that a restored copy shows its source's."""

import time
from datetime import UTC, datetime

from drtest.lab.standin.storage import PAGE, Storage
from drtest.lab.winrm.certificate import Certificate, make

_DAYS = 3650
_END = b"-----END CERTIFICATE-----\n"


def kept(file: Storage, *, hostname: str) -> Certificate:
    """The certificate that is on C:; it is made if there is none, or none that can be used.

    Args:
        file: a page that it is kept in.
        hostname: whom a new one is for.
    """
    data = file.read(0, PAGE).rstrip(b"\0")
    head, end, key = data.partition(_END)
    if end and _is_usable(head + end, key):
        return Certificate(certificate=head + end, key=key)
    made = make(hostname, now=datetime.fromtimestamp(time.time(), UTC), days=_DAYS)
    file.write(0, (made.certificate + made.key).ljust(PAGE, b"\0"))
    file.flush()
    return made


def _is_usable(certificate: bytes, key: bytes) -> bool:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    try:
        # As bytes: keys of the cryptography in the guest (38) can't be compared.
        publics = (
            load_pem_private_key(key, password=None).public_key(),
            x509.load_pem_x509_certificate(certificate).public_key(),
        )
        one, other = (
            public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for public in publics
        )
        return one == other
    except (ValueError, TypeError):
        return False
