"""A guest behind a WinRM service of the test's own: whole, or broken in a way that the test says."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from drtest.guest import winrm
from drtest.guest.winrm_shells import WinrmGuest
from drtest.lab.winrm.service import Service
from drtest.lab.winrm.shells import Command
from tests.lab.winrm.stand_in import PASSWORD, USER, Answering, certificate, serving

CERTIFICATE = certificate()


def connect(service: Service, **how: Any) -> WinrmGuest:
    given: dict[str, Any] = {
        "port": service.server_port,
        "user": USER,
        "password": PASSWORD,
        "fingerprint": CERTIFICATE.fingerprint,
        "deadline": 10,
    }
    return winrm.connect("127.0.0.1", **{**given, **how})


@contextlib.contextmanager
def broken(folder: Path, main: Callable[[Command], int]) -> Iterator[tuple[Service, WinrmGuest]]:
    """A guest whose every command runs `main`."""
    with (
        serving(folder, probes=Answering(main), certificate=CERTIFICATE) as service,
        connect(service) as guest,
    ):
        yield service, guest
