"""What opens the lab's guests, its key pair and its Windows password: made for each lab, never fixed ones."""

import base64
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from drtest.lab.neighbours import Neighbours

KEY_NAME = "drtest-lab"


def make_key(file: Path) -> str:
    """Make an ed25519 key, or take the one that is there.

    Args:
        file: where the private key is, in OpenSSH's format, readable by its owner only.

    Returns:
        The public key, as a line of ``authorized_keys``.
    """
    if file.exists():
        key = serialization.load_ssh_private_key(file.read_bytes(), password=None)
    else:
        key = Ed25519PrivateKey.generate()
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(text)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{public.decode()} {KEY_NAME}"


def make_password(file: Path) -> str:
    """Make the password of the Windows guests' Administrator, or take the one that is there.

    Args:
        file: where it is, readable by its owner only.
    """
    if not file.exists():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            # Of all four kinds of characters, as Windows wants them, for a real Windows that is given it.
            out.write(f"{secrets.token_urlsafe(18)}-aA1")
    return file.read_text()


def enter_key(neighbours: Neighbours, public: str, *, owner: str, region: str) -> None:
    """Import a public key into moto's key pairs as the lab's, if it is not there yet."""
    with neighbours.ec2(owner, region) as ec2:
        if KEY_NAME in ec2.key_pairs:
            return
    form = {
        "Action": "ImportKeyPair",
        "KeyName": KEY_NAME,
        "PublicKeyMaterial": base64.b64encode(public.encode()).decode(),
    }
    neighbours.ask(owner, region, form)
