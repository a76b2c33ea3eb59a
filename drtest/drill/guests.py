"""Linux and Windows from a drill's side: the same questions to both; here, and nowhere else, is chosen which."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from drtest.guest import linux, windows
from drtest.guest.fingerprint import fingerprints_from_console
from drtest.guest.host_keys import host_keys_from_console
from drtest.guest.linux import CanaryPlace, Prepared, Seen, VolumeToExamine, VolumeToPrepare
from drtest.guest.transport import Stream
from drtest.words import Os


class Programs(Protocol):
    """What a guest can be asked, whatever its operating system.

    The guest is what `drtest.drill.login.login` gave of a server of the same operating system.
    """

    def baseline(self, guest: Any, *, deadline: float) -> tuple[Seen, ...]:
        """See `drtest.guest.linux.baseline`."""

    def prepare(
        self, guest: Any, *, volumes: Mapping[str, VolumeToPrepare], records: int, deadline: float
    ) -> Prepared:
        """See `drtest.guest.linux.prepare`."""

    def load(
        self,
        guest: Any,
        *,
        places: Mapping[str, CanaryPlace],
        series: str,
        rate: float,
        seconds: float,
        deadline: float,
    ) -> AbstractContextManager[Stream]:
        """See `drtest.guest.linux.load`."""

    def helper(self, guest: Any, *, deadline: float) -> tuple[Seen, ...]:
        """See `drtest.guest.linux.helper`."""

    def offline(
        self, guest: Any, *, volumes: Mapping[str, VolumeToExamine], deadline: float
    ) -> tuple[Seen, ...]:
        """See `drtest.guest.linux.offline`."""

    def booted(self, guest: Any, *, deadline: float) -> tuple[Seen, ...]:
        """See `drtest.guest.linux.booted`."""


_PROGRAMS: Mapping[Os, Programs] = {Os.LINUX: linux, Os.WINDOWS: windows}

NEEDS_ITS_VOLUMES = frozenset({Os.LINUX})
"""Systems that a missing or damaged data volume keeps from booting.

An fstab entry without nofail sends a Linux into emergency mode (systemd.mount(5)). Windows has no such list: volumes
that it does not find are left out, so a Windows that does not boot has its root to blame, and there is nothing to
learn from booting it again with blank volumes.
"""

COLLIDES = frozenset({Os.WINDOWS})
"""Systems whose helper must come from another image than the source.

A Windows helper finds its own disk signature on a copy of the same image, keeps the copy offline, and rewrites the
signature when it is brought online (EC2 User Guide, Disk signature collision). Linux mounts a copy by its device.
"""


def programs(os: Os) -> Programs:
    """What guests of an operating system are asked by."""
    return _PROGRAMS[os]


def keys_from_console(text: str, *, os: Os) -> tuple[str, ...]:
    """What an instance has printed on its own console to be known by, as a guest's ``host_key``.

    SSH host keys of Linux, ``ssh-ed25519 AAAA…``; of Windows the fingerprints of its WinRM certificate,
    ``x509-sha256 ab12…``, or ``x509-sha1 ab12…`` where it is a thumbprint.
    """
    if os is Os.LINUX:
        return host_keys_from_console(text)
    return tuple(f"x509-{_HASHES[len(digits)]} {digits}" for digits in fingerprints_from_console(text))


_HASHES = {40: "sha1", 64: "sha256"}
