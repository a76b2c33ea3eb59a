"""What a user has accepted before is found in OpenSSH's own file, plain or hashed."""

import subprocess
from pathlib import Path

import paramiko
import pytest

from drtest.guest.ssh import known_hosts


@pytest.fixture
def key() -> str:
    made = paramiko.ECDSAKey.generate()
    return f"{made.get_name()} {made.get_base64()}"


def test_an_entry_is_found_by_its_address_and_port(tmp_path: Path, key: str) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"10.0.0.1 {key}\n[10.0.0.2]:2222 {key}\n")
    assert known_hosts("10.0.0.1", port=22, file=file) == (key,)
    assert known_hosts("10.0.0.2", port=2222, file=file) == (key,)
    assert known_hosts("10.0.0.2", port=22, file=file) == ()


def test_a_hashed_entry_is_found_too(tmp_path: Path, key: str) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"10.0.0.1 {key}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert "10.0.0.1" not in file.read_text()
    assert known_hosts("10.0.0.1", port=22, file=file) == (key,)


def test_no_file_is_no_key(tmp_path: Path) -> None:
    assert known_hosts("10.0.0.1", port=22, file=tmp_path / "none") == ()
