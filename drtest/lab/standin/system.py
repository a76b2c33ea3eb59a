"""What of the running system is told by more than one probe: windows_system.ps1 and windows_disk.ps1, look for look."""

import os
import time
import uuid
from typing import Any

from drtest.lab.standin import ntfs, registry, table
from drtest.lab.standin.machine import Disk
from drtest.lab.standin.times import iso
from drtest.lab.standin.windows import Windows

_BY_POLICY = 1
"""OfflineReason: the SAN policy."""


def kernel() -> str:
    """The version of what really runs."""
    return f"Linux {os.uname().release} (stand-in)"


def identity(windows: Windows) -> dict[str, Any]:
    """Which machine and which boot it is."""
    machine = windows.machine
    tag = machine.asset_tag
    return {
        "asset_tag": tag,
        "imds_instance": "",
        "instance": tag if tag.startswith("i-") else "",
        "root_serial": windows.root.serial,
        "root_serials": [windows.root.serial],
        "boot_id": iso(machine.booted),
        "machine_id": windows.registry.text("SOFTWARE", registry.CRYPTOGRAPHY, "MachineGuid"),
        "uptime_seconds": time.time() - machine.booted,
        "hostname": machine.hostname,
        "kernel": kernel(),
        "clock": time.time(),
        "host_keys": [],
    }


def services(windows: Windows) -> dict[str, Any]:
    """Automatic services of the registry that do not run; two of them have nothing to do, and stopped by themselves.

    What runs is what this process does: it keeps the event log and answers WinRM.
    """
    idle = [name for name in windows.registry.automatic() if name not in registry.AUTOMATIC]
    failed = [name for name in registry.AUTOMATIC if name not in windows.registry.automatic()]
    return {"state": "degraded" if failed else "running", "failed_units": failed, "stopped_units": idle}


def mounts(windows: Windows) -> list[dict[str, Any]]:
    """Volumes with a letter."""
    found = []
    for letter, volume in sorted(windows.volumes.items()):
        look = ntfs.look(volume.device)
        readonly = os.statvfs(volume.place).f_flag & os.ST_RDONLY
        found.append(
            {
                "target": f"{letter}:\\",
                "system": letter == "C",
                "source": f"\\\\?\\Volume{{{uuid.uuid5(uuid.NAMESPACE_OID, volume.serial)}}}",
                "fstype": "ntfs",
                "options": "ro" if readonly else "rw",
                "uuid": volume.serial,
                "dirty": bool(look and (look.flags or 0) & 1),
            }
        )
    return found


def is_offline(windows: Windows, disk: Disk) -> bool:
    """Whether a disk is kept offline: it came when the SAN policy said so."""
    return windows.known is not None and disk.serial not in windows.known


def disks(windows: Windows) -> list[dict[str, Any]]:
    """How the disks are."""
    return [_disk(windows, disk) for disk in windows.machine.disks()]


def _disk(windows: Windows, disk: Disk) -> dict[str, Any]:
    found = table.read(disk.path)
    offline = is_offline(windows, disk)
    return {
        "number": disk.number,
        "serial": disk.serial,
        "offline": offline,
        "offline_reason": _BY_POLICY if offline else 0,
        "readonly": False,
        "signature": found.signature,
        "guid": "{" + found.guid + "}" if found.guid else "",
        "style": table.STYLES[found.style],
        "size": disk.size,
    }


def virtualisation(windows: Windows) -> dict[str, Any]:
    """What it runs on."""
    return {**windows.machine.board, "hypervisor": True}


def storage(windows: Windows) -> list[dict[str, Any]]:
    """What could explain a difference between two captures."""
    drivers = [{"driver": "nvme", "version": kernel(), "hardware": "NVMe"}]
    return drivers + [
        {
            "disk": disk.number,
            "serial": disk.serial,
            "model": disk.model,
            "write_cache": None if disk.write_cache is None else int(disk.write_cache),
            "power_protected": None,
            "size": disk.size,
        }
        for disk in windows.machine.disks()
    ]
