"""A Windows server's recovery point, told by default as it is when all is well.

No Windows was at hand to record from. The documents are written after the scripts that would send them
(drtest/guest/probes/windows_*.ps1) and go through `drtest.guest.windows_answers`, as a guest's own would; the words
in them are German where a German server's would be, and nothing may depend on them. Numbers are those of Microsoft's
pages that facts/domain.md names.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from drtest.guest.windows_answers import HIVES, seen_of
from drtest.words import ROOT, Capture, Os
from tests.verdict.story import START, Story, iso

SIGNATURES = (0xA1B2C3D4, 0x0BADCAFE, 0x00C0FFEE)
SERIALS = ("3AD264DE0902EDCA", "5E4A1B2C3D4E5F60", "7788990011223344")
LETTERS = ("C:\\", "D:\\", "E:\\")
WRITERS = ("e8132975-6f93-4464-a53e-1050253ae220", "66841cd4-6ded-4f4b-8f17-fd23f8ddc3de")


class WindowsStory(Story):
    """`Story` of a Windows Server with NTFS volumes."""

    def __init__(
        self,
        capture: Capture = Capture.RUNNING,
        *,
        server: str = "win",
        trial: int = 1,
        volumes: tuple[str, ...] = ("root", "data"),
        attempt: str = "a1",
        start: datetime = START,
    ) -> None:
        super().__init__(
            capture,
            server=server,
            trial=trial,
            volumes=volumes,
            attempt=attempt,
            os=Os.WINDOWS,
            start=start,
        )
        dirty = capture is not Capture.STOPPED
        self.drop("boot.kernel")
        self._windows_source()
        for place, volume in enumerate(volumes):
            self._windows_copy_a(volume, place, dirty=dirty)
        self._windows_copy_b(dirty=dirty)

    def answer(self, probe: str, volume: str | None, document: Mapping[str, Any]) -> None:
        """Takes a probe's document in, as the runner does."""
        told = {"probe": probe, "volume": volume, "command": probe, "after": 0.5, "data": dict(document)}
        seen = seen_of(told, begun=datetime.now(UTC), host_key="sha256:ab", systems=frozenset({ROOT}))
        self.seen[probe, volume] = {**self.seen.get((probe, volume), {}), **seen.data}

    def logged(self, *events: Mapping[str, Any]) -> Self:
        """Puts these events in place of those of copy B."""
        self.answer("boot.events", None, {"events": list(events)})
        return self

    def disks(self, *, source: bool = False) -> list[dict[str, Any]]:
        """The disks of copy B or of the source, to be changed."""
        probe = "baseline.system" if source else "boot.disks"
        found: list[dict[str, Any]] = self.data(probe)["disks"]
        return found

    def _windows_source(self) -> None:
        serials = [f"vol0{place}{1:015x}" for place, _ in enumerate(self.volumes)]
        self.answer(
            "baseline.system",
            None,
            {
                "boot_id": iso(self.start - timedelta(minutes=5)),
                "kernel": "10.0.20348.0",
                "release": "10.0.20348",
                "state": "running",
                "failed_units": [],
                "stopped_units": ["gpsvc", "sppsvc"],
                "mounts": self._windows_mounts(),
                "disks": [_disk(place, serial) for place, serial in enumerate(serials)],
                "storage": [
                    {"driver": "oem3.inf", "version": "1.5.1.0", "hardware": "PCI\\VEN_1D0F&DEV_8061"},
                    *(
                        {
                            "disk": place,
                            "serial": serial,
                            "model": "NVMe Amazon Elastic B",
                            "write_cache": None,
                            "power_protected": None,
                            "size": 2**30,
                        }
                        for place, serial in enumerate(serials)
                    ),
                ],
                "virtualisation": {
                    "sys_vendor": "Amazon EC2",
                    "product_name": "t3.large",
                    "bios_vendor": "Amazon EC2",
                    "hypervisor": True,
                },
                "hibernation": False,
                "bitlocker": [],
            },
        )

    def _windows_copy_a(self, volume: str, place: int, *, dirty: bool) -> None:
        self.answer(
            "filesystem.before",
            volume,
            {
                "device": f"\\\\.\\PhysicalDrive{place + 1}",
                "serial": f"volc{place}{self.trial:015x}",
                "filesystem": "ntfs",
                "uuid": SERIALS[place],
                "dirty_log": dirty,
                "unknown_features": None,
                "notes": None,
                "tools": {"chkdsk": "10.0.20348.0"},
                "was_offline": True,
                "signature": SIGNATURES[place],
                "guid": "",
                "volumes": {"partition": 2, "uuid": SERIALS[place], "flags": 0, "log_clean": int(not dirty)},
            },
        )
        self.answer(
            "filesystem.replay",
            volume,
            {"method": "mount", "exit": 0, "why": "", "output": "", "replayed": dirty},
        )
        hives = [{"name": name, "exit": 0, "dirty": False, "regf": True, "error": ""} for name in HIVES]
        self.answer(
            "filesystem.check",
            volume,
            {
                "tool": "chkdsk",
                "exit": 0,
                "readonly_exit": 0,
                "output": "Windows hat das Dateisystem überprüft.\nEs wurden keine Probleme festgestellt.",
                "hives": hives if volume == ROOT else [],
            },
        )

    def _windows_copy_b(self, *, dirty: bool) -> None:
        booted = self.start + timedelta(seconds=62)
        self.change(
            "boot.identity",
            boot_id=iso(booted),
            source_boot_id=iso(self.start - timedelta(minutes=5)),
            uptime_seconds=14.0,
            host_key_origin="source",
        )
        self.answer(
            "boot.system",
            None,
            {"state": "running", "failed_units": [], "stopped_units": ["sppsvc", "gpsvc"]},
        )
        self.answer("boot.mounts", None, {"mounts": self._windows_mounts()})
        marks = [
            event("Microsoft-Windows-Kernel-Power", 41, BugcheckCode=0),
            event("EventLog", 6008),
        ]
        self.logged(*(marks if dirty else []), event("Microsoft-Windows-Ntfs", 98, CorruptionActionState=0))
        root = str(self.data("boot.identity")["root_serial"])
        serials = [root, *(f"vold{place}{self.trial:015x}" for place in range(1, len(self.volumes)))]
        self.answer(
            "boot.disks",
            None,
            {"disks": [_disk(place, serial) for place, serial in enumerate(serials)], "storage": []},
        )
        self.answer(
            "boot.vss", None, {"exit": 0, "writers": [{"id": writer, "state": 1} for writer in WRITERS]}
        )
        self.answer(
            "boot.volumes",
            None,
            {
                "volumes": [
                    {"target": LETTERS[place], "uuid": SERIALS[place], "dirty": False, "scan": 0, "error": ""}
                    for place, _ in enumerate(self.volumes)
                ],
                "pending": [],
            },
        )

    def _windows_mounts(self) -> list[dict[str, Any]]:
        return [
            {
                "target": LETTERS[place],
                "system": volume == ROOT,
                "source": f"\\\\?\\Volume{{{place}}}",
                "fstype": "ntfs",
                "options": "rw",
                "uuid": SERIALS[place],
                "dirty": False,
            }
            for place, volume in enumerate(self.volumes)
        ]


def event(provider: str, number: int, *, count: int = 1, **data: int) -> dict[str, Any]:
    """An event as the probe groups it."""
    return {"provider": provider, "id": number, "count": count, "first_at": iso(START), "data": data}


def _disk(place: int, serial: str) -> dict[str, Any]:
    return {
        "number": place,
        "serial": serial,
        "offline": False,
        "offline_reason": 0,
        "readonly": False,
        "signature": SIGNATURES[place],
        "guid": "",
        "style": 1,
        "size": 2**30,
    }
