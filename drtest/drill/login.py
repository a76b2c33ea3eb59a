"""Logging in to a server: as the target says, and only to a machine that proves which one it is."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias, TypedDict

from drtest.cloud.ec2 import GONE_STATES
from drtest.cloud.failures import explained
from drtest.cloud.logins import WinrmLogin
from drtest.cloud.resources import Instance
from drtest.drill.guests import keys_from_console
from drtest.drill.site import Site
from drtest.errors import EnvironmentFailedError
from drtest.guest.ssh import SshGuest, known_hosts
from drtest.guest.ssh import connect as connect_by_ssh
from drtest.guest.transport import GuestCancelledError, GuestError, HostKeyError, UnreachableError
from drtest.guest.winrm import connect as connect_by_winrm
from drtest.guest.winrm_shells import WinrmGuest

_CONSOLE_EVERY = 3.0
"""Seconds between two looks at a console while a server boots."""
_BETWEEN_TRIES = 0.5
"""Seconds until a certificate that nothing has vouched for is tried again: a console lags."""

LoggedIn: TypeAlias = SshGuest | WinrmGuest
"""A guest that has let us in; close it, or use it as a context."""


class Console:
    """An instance's console, read at most every few seconds; it remembers the host keys that it has shown.

    A new instance's keys are on its own console alone: cloud-init prints them once, on the first boot of a new
    instance id (cloud-init, cc_ssh).

    Args:
        instance: its id.
        site: where it is asked for.
        on_text: told of each new text.

    Attributes:
        trouble: why the last look failed; empty where it did not.
    """

    def __init__(self, instance: str, *, site: Site, on_text: Callable[[str], None] = lambda _: None) -> None:
        self._instance, self._site, self._on_text = instance, site, on_text
        self._looked = 0.0
        self.text = ""
        self.trouble = ""
        self.keys: tuple[str, ...] = ()

    def look(self) -> str:
        """The console's text, not older than a few seconds."""
        if time.monotonic() - self._looked >= _CONSOLE_EVERY:
            self._looked = time.monotonic()
            try:
                self.text = self._site.ec2.console(self._instance) or self.text
                self.trouble = ""
            except Exception as error:
                # What it showed before still holds, and the next look may succeed.
                self.trouble = str(explained(error) or error)
            self.keys = keys_from_console(self.text, os=self._site.os) or self.keys
            self._on_text(self.text)
        return self.text

    def host_keys(self) -> tuple[str, ...]:
        """The host keys that it has shown so far."""
        self.look()
        return self.keys


def login(
    instance: str,
    *,
    known: Sequence[str] = (),
    ours: bool = True,
    deadline: float,
    site: Site,
    console: Console | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> LoggedIn:
    """Log in to a server of this drill as soon as it answers: to Linux over SSH, to Windows over WinRM.

    Args:
        instance: its id; it is asked for its address.
        known: host keys that are accepted besides those on its own console.
        ours: whether the run launched it; one that it did not may have a login of its own, and what this user has
            accepted before counts too: its console may have lost its keys long ago.
        deadline: seconds from now.
        site: the target's login settings.
        console: asked for host keys; its own where none is given.
        cancelled: whether to give up; as the run is stopped where it is not given.

    Raises:
        GuestError: it did not answer, was another machine, or refused the login.
        EnvironmentFailedError: it was terminated, or has no address of the kind that the target names.
        UsageError: the target does not say how such servers are logged in to.
    """
    settings = site.target.login_for(site.os, ours=ours)
    seen: Instance = site.ec2.instance(instance)
    if seen.state in GONE_STATES:
        raise EnvironmentFailedError(
            f"Instance {instance} was terminated ({seen.reason or 'no reason given'}).",
            remedy="See CloudTrail for who did it; then run the drill again.",
        )
    address = seen.address(settings.address)
    if not address:
        raise EnvironmentFailedError(
            f"Instance {instance} has no {settings.address} address.",
            remedy=f"Set login.{site.os}.address of target {site.target.name} to the address that the runner reaches.",
        )
    console = console or Console(instance, site=site)
    cancelled = cancelled or site.stop.asked.is_set

    def keys() -> tuple[str, ...]:
        return (*known, *console.host_keys())

    try:
        if isinstance(settings, WinrmLogin):
            return _by_winrm(address, settings, keys=keys, deadline=deadline, site=site, cancelled=cancelled)
        remembered = () if ours else known_hosts(address, port=settings.port)
        return connect_by_ssh(
            address,
            port=settings.port,
            user=settings.user,
            key_file=site.key_file,
            host_keys=lambda: (*remembered, *keys()),
            deadline=deadline,
            cancelled=cancelled,
        )
    except UnreachableError as error:
        if not console.trouble:
            raise
        raise UnreachableError(
            f"{error.seen}; its console, which shows its host keys, could not be read: {console.trouble}",
            remedy=error.remedy,
        ) from None


class _Proof(TypedDict, total=False):
    """What a certificate is accepted by."""

    fingerprint: str
    ca: Path


def _by_winrm(
    address: str,
    settings: WinrmLogin,
    *,
    keys: Callable[[], Sequence[str]],
    deadline: float,
    site: Site,
    cancelled: Callable[[], bool],
) -> WinrmGuest:
    """Log in by one proof after the other: a restored server has its source's certificate, any other one its own."""
    ends = time.monotonic() + deadline
    place = f"{address}:{settings.port}"
    inside = False
    secrets = site.secrets[settings]

    def looking() -> bool:
        # While it boots its console is looked at: it tells of a boot that fails, and of its certificate.
        if not inside:
            keys()
        return cancelled()

    last: GuestError = UnreachableError(f"{place} did not answer: no certificate of it is known yet")
    while True:
        for proof in _proofs(settings, keys()):
            try:
                guest = connect_by_winrm(
                    address,
                    port=settings.port,
                    user=settings.user,
                    password=secrets.password,
                    auth=settings.auth,
                    certificate=Path(settings.certificate) if settings.certificate else None,
                    certificate_key=secrets.certificate_key,
                    deadline=max(0.1, ends - time.monotonic()),
                    cancelled=looking,
                    **proof,
                )
            except HostKeyError as error:
                last = error
            else:
                inside = True
                return guest
        if time.monotonic() + _BETWEEN_TRIES >= ends:
            raise last
        if looking() or site.stop.asked.wait(_BETWEEN_TRIES):
            raise GuestCancelledError(f"connecting to {place} was cancelled")


def _proofs(settings: WinrmLogin, keys: Sequence[str]) -> Iterator[_Proof]:
    """The newest key first: a console keeps those of earlier boots."""
    pins = [key.partition(" ")[2] for key in reversed(keys)]
    if settings.fingerprint:
        pins.append(settings.fingerprint)
    for pin in dict.fromkeys(pins):
        yield {"fingerprint": pin}
    if settings.ca:
        yield {"ca": Path(settings.ca)}
