"""What each probe of drtest's is answered here, by its name and the hash of the probe that it was made for."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from drtest.lab.standin import load, offline, prepare, system
from drtest.lab.standin.events import Event
from drtest.lab.standin.hashes import HASHES
from drtest.lab.standin.times import iso
from drtest.lab.standin.visit import Seen, Visit
from drtest.lab.standin.windows import Windows
from drtest.lab.winrm.probes import Probes

_OFFLINE_ALL = 3
"""NewDiskPolicy (MSFT_StorageSetting)."""
_MARGIN = 60.0


def probes(windows: Windows) -> Probes:
    """All that a stand-in answers."""
    visits: Mapping[str, Callable[[Windows, Mapping[str, Any]], list[Seen]]] = {
        "windows_baseline": baseline,
        "windows_prepare": prepare.visit,
        "windows_helper": helper,
        "windows_offline": offline.visit,
        "windows_booted": booted,
    }
    return Probes(
        visits={name: partial(visit, windows) for name, visit in visits.items()},
        streams={"windows_load": partial(load.stream, windows)},
        hashes=HASHES,
    )


def baseline(windows: Windows, arguments: Mapping[str, Any]) -> list[Seen]:
    """windows_baseline."""

    def look() -> dict[str, Any]:
        return {
            **system.identity(windows),
            **system.services(windows),
            "mounts": system.mounts(windows),
            "storage": system.storage(windows),
            "disks": system.disks(windows),
            "virtualisation": system.virtualisation(windows),
            "release": system.kernel(),
            "hibernation": False,
            "bitlocker": [],
        }

    command = "Win32_Service; Win32_Volume; Win32_OperatingSystem; SMBIOS"
    return [Visit(arguments).see("baseline.system", None, command, look)]


def helper(windows: Windows, arguments: Mapping[str, Any]) -> list[Seen]:
    """windows_helper: from now on new disks stay offline."""

    def look() -> dict[str, Any]:
        if windows.known is None:
            windows.known = frozenset(disk.serial for disk in windows.machine.disks())
        return {
            **system.identity(windows),
            "policy": _OFFLINE_ALL,
            "automount": 0,
            "masked": [],
            "disks": system.disks(windows),
            "release": system.kernel(),
        }

    command = "Set-StorageSetting -NewDiskPolicy OfflineAll; mountvol /N"
    return [Visit(arguments).see("helper.ready", None, command, look)]


def booted(windows: Windows, arguments: Mapping[str, Any]) -> list[Seen]:
    """windows_booted."""
    see = Visit(arguments).see
    since = windows.machine.booted - _MARGIN
    return [
        see(
            "boot.identity", None, "SMBIOS; Get-Disk; Win32_OperatingSystem", lambda: system.identity(windows)
        ),
        see("boot.system", None, "Win32_Service where StartMode='Auto'", lambda: system.services(windows)),
        see("boot.mounts", None, "Win32_Volume", lambda: {"mounts": system.mounts(windows)}),
        see(
            "boot.events",
            None,
            "Get-WinEvent System, Application since boot",
            lambda: {"since": iso(since), "events": grouped(windows.events.since(since))},
        ),
        see(
            "boot.disks",
            None,
            "Get-Disk; storage drivers",
            lambda: {
                "disks": system.disks(windows),
                "storage": system.storage(windows),
                "virtualisation": system.virtualisation(windows),
            },
        ),
        see("boot.vss", None, "vssadmin list writers", lambda: {"exit": 0, "writers": []}),
        see(
            "boot.volumes",
            None,
            "Win32_Volume.DirtyBitSet; Repair-Volume -Scan; BootExecute",
            lambda: {"volumes": _volumes(windows), "pending": []},
        ),
    ]


def grouped(events: tuple[Event, ...]) -> list[dict[str, Any]]:
    """Events by what they are."""
    groups: dict[tuple[Any, ...], list[Event]] = {}
    for event in events:
        key = (event.provider, event.id, event.data.get("CorruptionActionState"))
        groups.setdefault(key, []).append(event)
    return [
        {
            "provider": first.provider,
            "id": first.id,
            "count": len(group),
            "first_at": iso(min(one.at for one in group)),
            "data": dict(first.data),
            "drive": "",
        }
        for group in groups.values()
        for first in group[:1]
    ]


def _volumes(windows: Windows) -> list[dict[str, Any]]:
    """The dirty bit; nothing here scans a volume while it is mounted, which the number 1 says: not supported."""
    return [
        {
            "target": one["target"],
            "uuid": one["uuid"],
            "dirty": one["dirty"],
            "scan": 1,
            "error": "",
        }
        for one in system.mounts(windows)
    ]
