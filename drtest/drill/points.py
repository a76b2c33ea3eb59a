"""What the steps of a drill hand on: the source, and the recovery points that were made of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from drtest.guest.linux import CanaryPlace
from drtest.words import Capture


@dataclass(frozen=True, kw_only=True)
class Source:
    """The server whose backup is proven, as it was found before any capture.

    Attributes:
        instance: its id.
        ours: whether it was launched for the drill.
        type: its instance type; scratch instances are made like it.
        volumes: volume id by name, root first, then as in the scenario: the canary's order.
        devices: EC2's device name by volume name.
        places: where each volume's canary lies; empty where none is written.
        host_keys: its SSH host keys, as ``ssh-ed25519 AAAA…``; of Windows the fingerprint of its WinRM certificate,
            as ``x509-sha256 0123…``.
        boot_id: of the boot in which it was found.
        zone: the availability zone of the instances that volumes are restored onto.
    """

    instance: str
    ours: bool
    type: str
    volumes: Mapping[str, str]
    devices: Mapping[str, str]
    places: Mapping[str, CanaryPlace]
    host_keys: tuple[str, ...]
    boot_id: str
    zone: str


@dataclass(frozen=True, kw_only=True)
class Point:
    """A recovery point.

    Attributes:
        capture, trial: which of the plan's it is.
        attempt: which making of it; a repeated step makes another.
        series: of the canary that was written meanwhile; empty where none was.
        snapshots: snapshot id by volume name; empty while it is being made.
    """

    capture: Capture
    trial: int
    attempt: str = ""
    series: str = ""
    snapshots: Mapping[str, str]

    @property
    def name(self) -> str:
        """As ``running 1``, for people."""
        return f"{self.capture} {self.trial}"

    @property
    def key(self) -> str:
        """As ``running/1``, for tags."""
        return f"{self.capture}/{self.trial}"
