"""What a running Linux says of itself: who it is, how its services are, what is mounted."""

import glob
import json
import os
import time
import urllib.request
from typing import Any, Dict, List

from drtest.guest.probes import disks, prelude

_STARTING = ("initializing", "starting", "")
_IMDS = "http://169.254.169.254/latest/"


def state(settle: float) -> Dict[str, Any]:
    """The opinion of systemd, once it has settled or `settle` seconds are over, and the units that failed.

    `is-system-running` says "running" with exit 0 and anything else with another (systemctl.1); what counts is
    the word.
    """
    ends = time.monotonic() + min(settle, prelude.left())
    word, error = "", ""
    while True:
        ran = prelude.run(["systemctl", "is-system-running"], 30, merge=False)
        word, error = ran.output.strip(), ran.error
        if word not in _STARTING or "not installed" in error or time.monotonic() >= ends:
            break
        time.sleep(0.5)
    failed = prelude.run(
        [
            "systemctl",
            "list-units",
            "--state=failed",
            "--all",
            "--no-legend",
            "--plain",
            "--full",
            "--no-pager",
        ],
        60,
    )
    units = [line.lstrip("*● ").split()[0] for line in failed.output.splitlines() if line.strip("*● ")]
    return {"state": word, "failed_units": units if failed.ok else [], "error": error or failed.error}


def mounts() -> List[Dict[str, str]]:
    """What is mounted from block devices, with each filesystem's UUID."""
    known = disks.uuids()
    return [
        {
            "target": mount.target,
            "source": mount.source,
            "fstype": mount.filesystem,
            "options": mount.options,
            "uuid": disks.uuid_of(mount.source, known),
        }
        for mount in disks.mounts()
    ]


def identity() -> Dict[str, Any]:
    """Which machine this is, by what a restored disk can't bring along, and which boot of it."""
    serials = root_serials()
    asset_tag = prelude.read("/sys/class/dmi/id/board_asset_tag")
    imds = "" if asset_tag.startswith("i-") else _imds_instance()
    return {
        "asset_tag": asset_tag,
        "imds_instance": imds,
        "instance": asset_tag if asset_tag.startswith("i-") else imds,
        "root_serial": serials[0] if serials else "",
        "root_serials": serials,
        "boot_id": prelude.read("/proc/sys/kernel/random/boot_id"),
        "machine_id": prelude.read("/etc/machine-id"),
        "uptime_seconds": float((prelude.read("/proc/uptime") or "0").split()[0]),
        "hostname": os.uname().nodename,
        "kernel": os.uname().release,
        "clock": time.time(),
        "host_keys": host_keys(),
    }


def root_serials() -> List[str]:
    """Serials of the whole disks that / lies on, through partitions, LVM and md."""
    root = [mount for mount in disks.mounts() if mount.target == "/"]
    if not root:
        return []
    names = disks.below(root[-1].major_minor)
    by_name = {disk.name: disk.serial for disk in disks.disks()}
    return [by_name[name] for name in names if by_name.get(name)]


def _imds_instance() -> str:
    """The instance id by the metadata service (IMDSv2), for machines that have no asset tag (Xen)."""
    try:
        token = _ask("api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        return _ask("meta-data/instance-id", "GET", {"X-aws-ec2-metadata-token": token})
    except (OSError, ValueError):
        return ""


def _ask(path: str, method: str, headers: Dict[str, str]) -> str:
    request = urllib.request.Request(_IMDS + path, method=method, headers=headers)  # noqa: S310 - a fixed address
    with urllib.request.urlopen(request, timeout=2) as answer:  # noqa: S310 - a fixed address
        return str(answer.read(200).decode("ascii"))


def host_keys() -> List[str]:
    """The SSH host keys, public halves, without their comments."""
    keys = []
    for path in sorted(glob.glob("/etc/ssh/ssh_host_*_key.pub")):
        parts = prelude.read(path).split()
        if len(parts) >= 2:
            keys.append(" ".join(parts[:2]))
    return keys


def virtualisation() -> Dict[str, str]:
    """Vendor and product by DMI: Nitro, Xen, or QEMU in the lab."""
    names = ("sys_vendor", "product_name", "bios_vendor")
    return {name: prelude.read("/sys/class/dmi/id/" + name) for name in names}


def release() -> str:
    """The distribution's own name."""
    for line in prelude.read("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            value = line.split("=", 1)[1]
            try:
                return str(json.loads(value)) if value.startswith('"') else value
            except ValueError:
                return value
    return ""
