"""The loopback addresses of the instances: each has its own, where its ports are forwarded from."""

import secrets
import socket
from collections.abc import Collection

from drtest.errors import EnvironmentFailedError

FORWARDS = ((2222, 22), (5986, 5986))
"""Ports of an instance's address, and the guest's ports behind them: an ordinary user can't bind port 22."""


class Addresses:
    """Picks loopback addresses that nothing listens on.

    All of 127.0.0.0/8 belongs to this machine. Each lab starts somewhere else in 127.77.0.0/16, so that two
    labs do not meet; whether an address is free is tried, not assumed.
    """

    def __init__(self) -> None:
        self._next = secrets.randbelow(250 * 250)

    def pick(self, taken: Collection[str]) -> str:
        """Find an address whose ports can be bound.

        Args:
            taken: the addresses that other instances have, running or about to.

        Raises:
            EnvironmentFailedError: nothing can be bound on any of them.
        """
        for _ in range(2000):
            self._next = (self._next + 1) % (250 * 250)
            address = f"127.77.{self._next // 250 + 1}.{self._next % 250 + 1}"
            if address not in taken and _bindable(address):
                return address
        raise EnvironmentFailedError(
            "No loopback address with free ports was found in 127.77.0.0/16.",
            remedy="See which processes listen there: ss -ltn",
        )


def _bindable(address: str) -> bool:
    for port, _ in FORWARDS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True
