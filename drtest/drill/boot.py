"""Boot copy B: a scratch instance starts from the restored root, with the data volumes of the same point.

It is proven to be the right machine before anything that it says is believed.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from drtest.cloud.resources import Status
from drtest.cloud.wait import CancelledError
from drtest.drill.blanks import blanks
from drtest.drill.guests import programs
from drtest.drill.login import Console, LoggedIn, login
from drtest.drill.points import Point, Source
from drtest.drill.restore import copies, delete, detach, swap_root
from drtest.drill.site import Site
from drtest.drill.standby import SCRATCH, running, standby, stopped
from drtest.errors import EnvironmentFailedError
from drtest.guest.host_keys import same_key
from drtest.guest.transport import GuestError
from drtest.verdict.console import PATTERNS, Kind, telling
from drtest.verdict.evidence import Copy
from drtest.words import ROOT

_PATIENCE = {Kind.ROOT: 6.0, Kind.SYSTEM: 20.0}
"""Seconds that a server has after its console has shown a pattern of this kind.

A kernel that panicked says the rest of it and no more; some shells go on by themselves.
"""


def boot(source: Source, *, point: Point, token: str, site: Site) -> bool:
    """Restore copy B, boot it, and look at it in one visit.

    Returns:
        Whether it came up: that it does not is an observation, not a failure.

    Raises:
        DrtestError: it could not be restored.
    """
    begun = time.monotonic()
    scratch = standby(SCRATCH, type_=source.type, site=site).id
    volumes = copies(point, copy=Copy.B, token=token, zone=source.zone, site=site)
    swap_root(volumes, scratch=scratch, source=source, site=site)
    phases: dict[str, float | None] = {"restore": time.monotonic() - begun, "initialise": None}
    whole = "data volumes" if len(volumes) > 1 else "root alone"
    guest, console = _start(
        scratch, what=whole, source=source, point=point, token=token, site=site, phases=phases
    )
    if guest is not None:
        asked = time.monotonic()
        _visit(guest, console, scratch=scratch, volumes=volumes, source=source, point=point, site=site)
        phases["checks"] = time.monotonic() - asked
        phases["rto"] = time.monotonic() - begun
    site.observe("phases", phases, copy=Copy.B, command="the runner's clock", point=point)
    _put_away(volumes, scratch=scratch, site=site)
    return guest is not None


def boot_with_blanks(source: Source, *, point: Point, token: str, site: Site) -> None:
    """Boot the root once more, with blank data volumes of the same filesystem UUIDs: which volume is to blame?

    An fstab entry without nofail sends a root whose data volume is damaged into emergency mode (systemd.mount(5)).

    Raises:
        DrtestError: it could not be restored.
    """
    scratch = standby(SCRATCH, type_=source.type, site=site).id
    root = copies(point, copy=Copy.B, token=token, zone=source.zone, site=site, only=(ROOT,))
    volumes = {**root, **blanks(source, point=point, token=token, site=site)}
    swap_root(volumes, scratch=scratch, source=source, site=site)
    guest, console = _start(
        scratch, what="blank volumes", source=source, point=point, token=token, site=site, phases={}
    )
    if guest is not None:
        _visit(guest, console, scratch=scratch, volumes=volumes, source=source, point=point, site=site)
    _put_away(volumes, scratch=scratch, site=site)


def _visit(
    guest: LoggedIn,
    console: Console,
    *,
    scratch: str,
    volumes: Mapping[str, str],
    source: Source,
    point: Point,
    site: Site,
) -> None:
    """Ask all that there is to ask of a copy that came up, and first of all which machine it is."""
    with guest:
        seen = programs(site.os).booted(guest, deadline=site.scenario.deadlines.checks)
    for each in seen:
        data = each.data
        if each.probe == "boot.identity":
            data = _identity(
                data, scratch=scratch, volumes=volumes, source=source, guest=guest, console=console
            )
        site.observe(
            each.probe, data, copy=Copy.B, command=each.command, point=point, volume=each.volume, at=each.at
        )


def _put_away(volumes: Mapping[str, str], *, scratch: str, site: Site) -> None:
    stopped(scratch, site=site, what="the scratch instance")
    detach(list(volumes.values()), site=site)
    delete(list(volumes.values()), site=site)


def _start(
    scratch: str,
    *,
    what: str,
    source: Source,
    point: Point,
    token: str,
    site: Site,
    phases: dict[str, float | None],
) -> tuple[LoggedIn | None, Console]:
    """Start the scratch instance and log in; what it showed is observed either way."""
    deadline = site.scenario.deadlines.boot
    site.stage("boot", f"{point.name}: copy B with {what}")
    begun, started_at = time.monotonic(), _now()
    seen: dict[str, Any] = {"running_at": None, "answered_at": None, "error": "", "reachable": False}
    hopeless_from: dict[Kind, float] = {}
    console = Console(scratch, site=site, on_text=lambda text: _watch(text, hopeless_from))

    def hopeless() -> bool:
        return site.stop.asked.is_set() or any(time.monotonic() > moment for moment in hopeless_from.values())

    guest = None
    try:
        running(scratch, site=site, what="the scratch instance")
        seen["running_at"] = _now()
        left = max(1.0, deadline - (time.monotonic() - begun))
        guest = login(
            scratch, known=source.host_keys, deadline=left, site=site, console=console, cancelled=hopeless
        )
        seen.update(reachable=True, answered_at=_now())
        phases["boot"] = time.monotonic() - begun
    except GuestError as error:
        if site.stop.asked.is_set():
            raise CancelledError("The run is being stopped.") from None
        seen["error"] = error.seen
    statuses = _statuses(scratch, patient=guest is not None, site=site)
    text = console.look()
    name = f"console/{site.server}-{point.capture}-{point.trial}-{point.attempt}-{token}-{what.replace(' ', '-')}"
    site.observe(
        "boot.attempt",
        {
            "instance": scratch,
            "with": what,
            "started_at": started_at,
            "deadline_seconds": deadline,
            **seen,
            **statuses,
            "console": site.folder.keep(f"{name}.txt", text.encode()),
            "console_matches": list(matches(text)),
            "screenshot": _screenshot(scratch, name=f"{name}.jpg", site=site),
        },
        copy=Copy.CLOUD,
        command=f"ec2 StartInstances {scratch}, then a login",
        point=point,
    )
    return guest, console


def matches(console: str) -> tuple[Mapping[str, str], ...]:
    """The lines of a console that say that a server may not come up, with the pattern of each: at most 20."""
    found = (
        {"pattern": pattern, "line": line.strip()[:300]}
        for line in console.splitlines()
        for pattern in PATTERNS
        if pattern in line.lower()
    )
    return tuple(islice(found, 20))


def _watch(text: str, hopeless_from: dict[Kind, float]) -> None:
    for kind in telling(match["pattern"] for match in matches(text)) & set(_PATIENCE):
        hopeless_from.setdefault(kind, time.monotonic() + _PATIENCE[kind])


def _statuses(scratch: str, *, patient: bool, site: Site) -> dict[str, str]:
    try:
        seen = site.poller.until(
            Status,
            [scratch],
            ready=lambda status: not patient or "initializing" not in (status.system, status.instance),
            deadline=site.scenario.deadlines.status,
            what="the status checks",
        )[scratch]
    except EnvironmentFailedError:
        # Necessary, never sufficient: without them the guest's own word still counts.
        found = None
        with suppress(Exception):
            found = site.ec2.describe(Status, [scratch]).get(scratch)
        return {
            "system_status": found.system if found else "",
            "instance_status": found.instance if found else "",
        }
    return {"system_status": seen.system, "instance_status": seen.instance}


def _screenshot(scratch: str, *, name: str, site: Site) -> str:
    try:
        return site.folder.keep(name, site.ec2.screenshot(scratch))
    except Exception as error:
        # Not to be had on every instance type (EC2 User Guide, Instance console screenshot); the console remains.
        site.stage("boot", f"no screenshot: {error}")
        return ""


def _identity(
    data: Mapping[str, Any],
    *,
    scratch: str,
    volumes: Mapping[str, str],
    source: Source,
    guest: LoggedIn,
    console: Console,
) -> dict[str, Any]:
    """What the guest says of itself, beside what it must be."""
    if any(same_key(guest.host_key, key) for key in console.keys):
        origin = "console"
    elif any(same_key(guest.host_key, key) for key in source.host_keys):
        origin = "source"
    else:
        origin = "none"
    return {
        **data,
        "instance": scratch,
        "root_volume": volumes[ROOT],
        "source_boot_id": source.boot_id,
        "host_key": guest.host_key,
        "host_key_origin": origin,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
