"""Logging in to a server: as the target says, and only to a machine that proves which one it is."""

import time
from collections.abc import Callable, Sequence

from drtest.cloud.ec2 import GONE_STATES
from drtest.cloud.failures import explained
from drtest.cloud.resources import Instance
from drtest.drill.site import Site
from drtest.errors import EnvironmentFailedError
from drtest.guest.ssh import SshGuest, connect, host_keys_from_console, known_hosts
from drtest.guest.transport import UnreachableError

_CONSOLE_EVERY = 3.0
"""Seconds between two looks at a console while a server boots."""


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
            self.keys = host_keys_from_console(self.text) or self.keys
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
) -> SshGuest:
    """Log in to a Linux server over SSH, as soon as it answers.

    Args:
        instance: its id; it is asked for its address.
        known: host keys that are accepted besides those on its own console.
        ours: whether the run launched it; of one that it did not, what this user has accepted before counts too:
            its console may have lost its keys long ago.
        deadline: seconds from now.
        site: the target's login settings.
        console: asked for host keys; its own where none is given.
        cancelled: whether to give up; as the run is stopped where it is not given.

    Raises:
        GuestError: it did not answer, was another machine, or refused the login.
        EnvironmentFailedError: it was terminated, or has no address of the kind that the target names.
    """
    settings = site.target.login_linux
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
            remedy=f"Set login.linux.address of target {site.target.name} to the address that the runner reaches.",
        )
    console = console or Console(instance, site=site)
    accepted = (*known, *(() if ours else known_hosts(address, port=settings.port)))
    try:
        return connect(
            address,
            port=settings.port,
            user=settings.user,
            key_file=site.key_file,
            host_keys=lambda: (*accepted, *console.host_keys()),
            deadline=deadline,
            cancelled=cancelled or site.stop.asked.is_set,
        )
    except UnreachableError as error:
        if not console.trouble:
            raise
        raise UnreachableError(
            f"{error.seen}; its console, which shows its host keys, could not be read: {console.trouble}",
            remedy=error.remedy,
        ) from None
