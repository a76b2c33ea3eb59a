"""Windows guests in memory: they answer the PowerShell probes as the scripts would, as far as a drill looks."""

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drtest.guest.transport import (
    LIMIT,
    GuestCancelledError,
    LoginError,
    Result,
    Stream,
    UnreachableError,
)
from drtest.guest.windows_answers import HIVES
from drtest.guest.winrm import CertificateError
from tests.drill.kit.disks import Content, Machines
from tests.drill.kit.guests import PAUSE, Guest, canary, seen
from tests.drill.kit.load import LoadStream

PASSWORD = "a password that nobody guesses"


class WindowsNetwork:
    """Where Windows guests are reached: in place of `drtest.guest.winrm.connect`."""

    def __init__(self, machines: Machines) -> None:
        self.machines = machines

    def connect(
        self,
        address: str,
        *,
        port: int,
        user: str,
        password: str,
        auth: str,
        certificate: Path | None,
        certificate_key: Path | None,
        deadline: float,
        cancelled: Callable[[], bool],
        fingerprint: str | None = None,
        ca: Path | None = None,
    ) -> "WindowsGuest":
        """As the real one: until the deadline, and only to a guest with the pinned certificate, or one of the CA's."""
        ends = time.monotonic() + deadline
        place = f"{address}:{port}"
        while time.monotonic() < ends:
            if cancelled():
                raise GuestCancelledError(f"connecting to {place} was cancelled")
            with self.machines.lock:
                found = [one for one in self.machines.machines.values() if one.spec.address == address]
            if found and found[0].greeter is not None:
                manners = self.machines.behaviour(found[0])
                shown = manners.host_key or self.machines.root_of(found[0]).host_key
                digits = shown.partition(" ")[2]
                if digits != fingerprint and not (ca and digits in ca.read_text()):
                    raise CertificateError(
                        f"the certificate at {place} is not accepted; it shows {digits}", presented=digits
                    )
                if (user, password) != ("Administrator", PASSWORD) or manners.refuses:
                    raise LoginError(f"{place} refused the login: {manners.refuses or 'wrong password'}")
                return WindowsGuest(self.machines, found[0], manners, shown, cancelled)
            time.sleep(PAUSE)
        raise UnreachableError(f"{place} did not answer by WinRM in {deadline:.0f} s")


class WindowsGuest(Guest):
    """A Windows that has let us in."""

    def run_powershell(self, script: str, *, deadline: float, limit: int = LIMIT) -> Result:
        """Carry out a visit."""
        self.alive()
        name, arguments = _program(script)
        out = self._manners.visits[name]() if name in self._manners.visits else None
        if out is None:
            found = [self._said(one) for one in VISITS[name](self, arguments)]
            out = json.dumps({"seen": found}).encode()
        self.alive()
        return Result(exit=0, stdout=out, stderr=b"")

    @contextmanager
    def stream(self, command: str, *, stdin: bytes = b"", deadline: float) -> Iterator[Stream]:
        """Carry out a load."""
        self.alive()
        packed, _, _ = stdin.decode().replace("\r\n", "").rpartition(".")
        name, arguments = _program(base64.b64decode(packed).decode())
        if name in self._manners.visits:
            self._manners.visits[name]()
        yield LoadStream(self, arguments, ends=time.monotonic() + deadline)

    def told(self) -> dict[str, Any]:
        """Which machine it is, as Windows tells it: with the time of its start for a boot id."""
        return {**self.identity(), "boot_id": self._machines.boots[self._machine.spec.id], "host_keys": []}

    def windows_mounts(self) -> list[dict[str, Any]]:
        """Its volumes, the system's first."""
        return [
            {**one, "system": one["target"] == "C:\\", "dirty": False}
            for one in self._machines.mounts(self._machine) or []
        ]

    def disks(self) -> list[dict[str, Any]]:
        """Its disks."""
        with self._machines.lock:
            plugged = [(volume, self._machines.contents[volume]) for volume in sorted(self._machine.plugged)]
        return [
            {
                "number": number,
                "serial": volume.replace("-", ""),
                "offline": False,
                "offline_reason": 0,
                "readonly": False,
                "signature": content.signature,
                "guid": "",
                "style": 1,
                "size": 2**30,
            }
            for number, (volume, content) in enumerate(plugged)
        ]


def _program(script: str) -> tuple[str, dict[str, Any]]:
    """A probe's name and its arguments."""
    lines = script.splitlines()
    head = re.fullmatch(r"# drtest-probe: (\w+) version:\d+ sha256:[0-9a-f]{64}", lines[0])
    call = re.fullmatch(r"(?:Invoke-DrtestProbe|Start-DrtestStream) '([A-Za-z0-9+/=]+)'", lines[-1])
    assert head is not None
    assert call is not None
    return head[1], json.loads(base64.b64decode(call[1]))


def _baseline(guest: WindowsGuest, _: dict[str, Any]) -> list[dict[str, Any]]:
    system = {
        **guest.told(),
        "state": "running",
        "failed_units": [],
        "stopped_units": "sppsvc",
        "kernel": "10.0.20348.0",
        "release": "10.0.20348",
        "mounts": guest.windows_mounts(),
        "disks": guest.disks(),
        "storage": [],
        "virtualisation": {"hypervisor": True},
        "hibernation": False,
        "bitlocker": [],
    }
    return [seen("baseline.system", system)]


def _prepare(guest: WindowsGuest, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    made = []
    for number, volume in enumerate(arguments["volumes"]):
        id_ = volume["volume_id"]
        content = guest.content(id_)
        if content is None:
            made.append(seen("prepare.volume", {"error": f"no disk of {id_} appeared"}, volume["name"]))
            continue
        mount = "C:\\" if volume["mount"] == "/" else f"{volume['mount'] or f'{chr(67 + number)}:'}\\"
        if not content.filesystem:
            uuid = id_[-16:].upper()
            content = replace(
                content, filesystem=volume["filesystem"], uuid=uuid, signature=int(uuid, 16) % 2**32
            )
            guest.change(id_, filesystem=content.filesystem, uuid=uuid, signature=content.signature)
            guest.mount(mount, uuid)
        data = {
            "volume_id": id_,
            "directory": f"{mount}.drtest-canary",
            "inside": "/.drtest-canary",
            "capacity": arguments["records"],
            "filesystem": content.filesystem,
            "uuid": content.uuid,
            "mount": mount,
            "error": "",
        }
        made.append(seen("prepare.volume", data, volume["name"]))
    return made


def _helper(guest: WindowsGuest, _: dict[str, Any]) -> list[dict[str, Any]]:
    return [seen("helper.ready", {**guest.told(), "policy": 2, "masked": [], "disks": guest.disks()})]


def _offline(guest: WindowsGuest, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for volume in arguments["volumes"]:
        found += _examined(volume, guest.content(volume["volume_id"]))
    kernel = {"tainted": 0, "oops": False, "messages": [], "disks": guest.disks()}
    return [*found, seen("helper.kernel", kernel)]


def _examined(volume: dict[str, Any], content: Content | None) -> list[dict[str, Any]]:
    name, id_ = volume["name"], volume["volume_id"]
    if content is None:
        return [seen("filesystem.before", {"error": f"no disk of {id_} appeared"}, name)]
    before = {
        "device": "\\\\.\\PhysicalDrive1",
        "serial": id_.replace("-", ""),
        "filesystem": content.filesystem or None,
        "uuid": content.uuid,
        "dirty_log": content.dirty,
        "error_flag": False,
        "unknown_features": None,
        "tools": {"chkdsk": "10.0.20348.0"},
        "was_offline": True,
        "signature": content.signature,
        "guid": "",
        "output": "",
        "error": "" if content.filesystem == "ntfs" else "no NTFS is recognised on it",
    }
    if before["error"]:
        return [seen("filesystem.before", before, name)]
    replay = {"method": "mount", "exit": 0, "why": "", "output": "", "replayed": content.dirty}
    hives = [{"name": hive, "exit": 0, "dirty": False, "regf": True, "error": ""} for hive in HIVES]
    check = {"tool": "chkdsk", "exit": 0, "readonly_exit": 0, "output": "", "error": "", "hives": hives}
    found = [
        seen("filesystem.before", before, name),
        seen("filesystem.replay", replay, name),
        seen("filesystem.check", check, name),
    ]
    if volume["canary"]:
        data = canary(volume["canary"], content)
        # Ranges come flat from PowerShell.
        flat = {key: [number for pair in data[key] for number in pair] for key in ("records", "metadata")}
        found.append(seen("canary.found", {**data, **flat}, name))
    return found


def _booted(guest: WindowsGuest, _: dict[str, Any]) -> list[dict[str, Any]]:
    marks = [("Microsoft-Windows-Kernel-Power", 41), ("EventLog", 6008)] if guest.replayed() else []
    events: list[dict[str, Any]] = [
        {"provider": provider, "id": number, "count": 1, "first_at": None, "data": {}}
        for provider, number in marks
    ]
    mounts = guest.windows_mounts()
    volumes = [
        {"target": one["target"], "uuid": one["uuid"], "dirty": False, "scan": 0, "error": ""}
        for one in mounts
    ]
    return [
        seen("boot.identity", guest.told()),
        seen("boot.system", {"state": "running", "failed_units": None, "stopped_units": "sppsvc"}),
        seen("boot.mounts", {"mounts": mounts}),
        seen("boot.events", {"since": datetime.now(UTC).isoformat(), "events": events}),
        seen("boot.disks", {"disks": guest.disks(), "storage": [], "virtualisation": {"hypervisor": True}}),
        seen("boot.vss", {"exit": 0, "writers": {"id": "e8132975-6f93-4464-a53e-1050253ae220", "state": 1}}),
        seen("boot.volumes", {"volumes": volumes, "pending": []}),
    ]


VISITS: dict[str, Callable[[WindowsGuest, dict[str, Any]], list[dict[str, Any]]]] = {
    "windows_baseline": _baseline,
    "windows_prepare": _prepare,
    "windows_helper": _helper,
    "windows_offline": _offline,
    "windows_booted": _booted,
}
"""What the probes come to, by their names (drtest/guest/probes/windows_*.ps1)."""
