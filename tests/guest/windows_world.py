"""What a whole Windows, and a copy of it, would answer: fabricated.

After the scripts of drtest/guest/probes and the documents that they name (chkdsk's exit codes, Win32_Service, event
ids): no Windows was at hand to record it from.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

from drtest.guest import powershell, windows, windows_answers
from drtest.guest.linux import CanaryToFind, Seen, VolumeToExamine
from drtest.guest.winrm_shells import WinrmGuest
from drtest.lab.winrm.probes import Probes
from drtest.lab.winrm.shells import Command
from tests.lab.winrm.stand_in import certificate

CERTIFICATE = certificate()
NAMES = ("baseline", "prepare", "helper", "offline", "booted", "load")
HASHES = {f"windows_{name}": powershell.digest(f"windows_{name}") for name in NAMES}
SERIAL, OTHER = "3AD264DE0902EDCA", "5E4A1B2C3D4E5F60"
MOUNTS = [
    {"target": "C:\\", "system": True, "source": "\\\\?\\Volume{1}", "fstype": "ntfs", "options": "rw",
     "uuid": SERIAL, "dirty": False},
    {"target": "D:\\", "system": False, "source": "\\\\?\\Volume{2}", "fstype": "ntfs", "options": "rw",
     "uuid": OTHER, "dirty": False},
]  # fmt: skip


def saw(probe: str, data: Mapping[str, Any], volume: str | None = None) -> dict[str, Any]:
    return {"probe": probe, "volume": volume, "command": "-", "after": 0.5, "data": {"error": "", **data}}


def identity(boot: str, instance: str, serial: str) -> dict[str, Any]:
    return {
        "asset_tag": instance, "imds_instance": "", "instance": instance, "root_serial": serial,
        "root_serials": serial, "boot_id": boot, "machine_id": "m", "uptime_seconds": 40.5, "hostname": "WIN",
        "kernel": "10.0.20348.0", "clock": 1.0, "host_keys": [],
    }  # fmt: skip


BASELINE = [
    saw(
        "baseline.system",
        {
            **identity("2026-01-01T00:00:00.000000Z", "i-0source", "vol0source"),
            "state": "running", "failed_units": [], "stopped_units": "gpsvc", "mounts": MOUNTS,
            "storage": [{"driver": "oem3.inf", "version": "1.5.1.0"}], "disks": [], "hibernation": False,
            "bitlocker": [], "virtualisation": {"sys_vendor": "Amazon EC2"}, "release": "10.0.20348",
        },
    )
]  # fmt: skip
BOOTED = [
    saw("boot.identity", identity("2026-01-02T00:00:00.000000Z", "i-0scratch", "vol0b")),
    saw("boot.system", {"state": "running", "failed_units": [], "stopped_units": []}),
    saw("boot.mounts", {"mounts": MOUNTS}),
    saw(
        "boot.events",
        {
            "since": "2026-01-01T23:59:00.000000Z",
            "events": [
                {"provider": "Microsoft-Windows-Kernel-Power", "id": 41, "count": 1,
                 "first_at": "2026-01-02T00:00:09.000000Z", "data": {"BugcheckCode": 0}},
                {"provider": "Microsoft-Windows-Ntfs", "id": 98, "count": 2,
                 "first_at": "2026-01-02T00:00:09.000000Z", "data": {"CorruptionActionState": 0}},
            ],
        },
    ),
    saw("boot.disks", {"disks": {"number": 0, "offline": False}, "storage": [], "virtualisation": {}}),
    saw("boot.vss", {"exit": 0, "writers": [{"id": "a", "state": 1}]}),
    saw("boot.volumes", {"volumes": [{"target": "C:\\", "dirty": False, "scan": 0}], "pending": []}),
]  # fmt: skip
HIVES = [
    {"name": name, "exit": 0, "dirty": name == "SYSTEM", "regf": True, "unloaded": 0, "error": ""}
    for name in windows_answers.HIVES
]


def offline_of(
    volume: str, serial: str, uuid: str, *, dirty: bool, hives: Sequence[Any]
) -> list[dict[str, Any]]:
    return [
        saw(
            "filesystem.before",
            {
                "device": "\\\\.\\PhysicalDrive1", "disk": "\\\\.\\PhysicalDrive1", "serial": serial,
                "filesystem": "ntfs", "uuid": uuid, "dirty_log": dirty, "error_flag": False,
                "unknown_features": [], "tools": {"chkdsk": "10.0.20348.0"}, "output": "", "notes": None,
                "was_offline": True, "signature": 1, "guid": "", "partition": 1,
                "volumes": {"partition": 1, "uuid": uuid, "flags": int(dirty), "log_clean": int(not dirty)},
            },
            volume,
        ),
        saw(
            "filesystem.replay",
            {"method": "mount", "exit": 0, "why": "", "output": "", "replayed": dirty},
            volume,
        ),
        saw(
            "filesystem.check",
            {"tool": "chkdsk", "exit": 0, "readonly_exit": 0, "output": "Das Dateisystem wurde überprüft.",
             "hives": hives},
            volume,
        ),
        saw(
            "canary.found",
            {
                "present": True, "reason": "", "records": [0, 9], "torn": None, "torn_count": 0, "foreign": [],
                "foreign_count": 0, "stale": [], "last_time_ns": 1_767_225_600_000_000_000, "metadata": [0, 0],
                "metadata_torn": [], "capacity": 64, "series": "ab" * 16,
            },
            volume,
        ),
    ]  # fmt: skip


OFFLINE = [
    *offline_of("root", "vol0a", SERIAL, dirty=True, hives=HIVES),
    *offline_of("data", "vol0c", OTHER, dirty=True, hives=[]),
    saw("helper.kernel", {"stuck": None, "oops": False, "messages": [], "disks": []}),
]


class World:
    """What the stand-in answers now, and what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[dict[str, Any]]] = copy.deepcopy(
            {"windows_baseline": BASELINE, "windows_booted": BOOTED, "windows_offline": OFFLINE}
        )
        self.asked: dict[str, Mapping[str, Any]] = {}

    def probes(self) -> Probes:
        def visit(name: str) -> Any:
            def answer(arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
                self.asked[name] = arguments
                return self.answers[name]

            return answer

        names = [name for name in HASHES if name != "windows_load"]
        return Probes(
            visits={name: visit(name) for name in names}, streams={"windows_load": write}, hashes=HASHES
        )

    def data(self, visit: str, probe: str, volume: str | None = None) -> dict[str, Any]:
        """What one observation will say; change it at will."""
        return next(
            one["data"] for one in self.answers[visit] if (one["probe"], one["volume"]) == (probe, volume)
        )


def write(arguments: Mapping[str, Any], command: Command) -> None:
    """A load that acknowledges one record after the other, until it is told to stop."""
    command.write(b"ready " + json.dumps({"pid": 1, "clock": 1.0, "capacity": [64, 64]}).encode() + b"\n")
    go = (command.read_line() or b"").split()
    now, count = int(go[1]), len(arguments["volumes"])
    for n in range(2 * 10):
        command.write(b"r %d %d %d %d\n" % (n % count, n // count, n, now + n))
    for volume in range(count):
        command.write(b"m %d 0 %d\n" % (volume, now))
    while command.read_line() is not None:
        pass
    command.write(b'end {"reason": "stopped", "records": 20}\n')


def offline(guest: WinrmGuest) -> tuple[Seen, ...]:
    volumes = {
        name: VolumeToExamine(
            volume_id=f"vol-0{name}",
            canary=CanaryToFind(volume_id=f"vol-0{name}", inside="/.drtest-canary", series="ab" * 16),
        )
        for name in ("root", "data")
    }
    return windows.offline(guest, volumes=volumes, deadline=30)


def one(seen: Sequence[Seen], probe: str, volume: str | None = None) -> Mapping[str, Any]:
    (found,) = [each for each in seen if (each.probe, each.volume) == (probe, volume)]
    return found.data
