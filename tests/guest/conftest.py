"""Fixtures of the guest tests: a real sshd of the test's own, and block devices of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from drtest.guest.ssh import SshGuest, connect
from tests.guest.images import Images
from tests.guest.sshd import Sshd


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd.start(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def guest(sshd: Sshd) -> Iterator[SshGuest]:
    with connect(
        "127.0.0.1",
        port=sshd.port,
        user=sshd.user,
        key_file=sshd.user_key,
        host_keys=sshd.host_keys,
        deadline=20,
    ) as guest:
        yield guest


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    with Images(tmp_path) as images:
        yield images
