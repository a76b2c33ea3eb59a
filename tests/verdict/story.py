"""A recovery point's evidence, told by default as it is when all is well; a test changes what it is about.

The default is a Debian 12 server with an ext4 root and an XFS data volume, as the lab's `linux` image has them:
the shapes are those of the probes (drtest/guest/probes), the tools' words those of e2fsck 1.47.0 and
xfs_repair 6.1.0 over images made by facts/fs_experiment.sh.
"""

from collections.abc import Collection
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from drtest.scenario.plan import Cell, Expected
from drtest.verdict.evidence import Copy, Judgement, Observation
from drtest.verdict.judge import judge
from drtest.verdict.measures import Objectives
from drtest.words import USABLE, Capture, Os

START = datetime(2026, 11, 24, 18, 0, 0, tzinfo=UTC)
RECORDS = 250
"""Acknowledged records of each volume."""

E2FSCK_WHOLE = """e2fsck 1.47.0 (5-Feb-2023)
Pass 1: Checking inodes, blocks, and sizes
Pass 2: Checking directory structure
Pass 3: Checking directory connectivity
Pass 4: Checking reference counts
Pass 5: Checking group summary information
/dev/nvme1n1p2: 21407/131072 files (0.1% non-contiguous), 214101/523520 blocks
"""
XFS_WHOLE = """Phase 1 - find and verify superblock...
Phase 2 - using internal log
        - zero log...
        - scan filesystem freespace and inode maps...
No modify flag set, skipping filesystem flush and exiting.
"""


def iso(moment: datetime) -> str:
    """A time as probes send it."""
    return moment.isoformat().replace("+00:00", "Z")


class Story:
    """The observations of one recovery point of one server, to be changed and then judged.

    Attributes:
        seen: data by (probe, volume); delete or change what the test is about.
        before: further observations, in front of these.
        after: further observations, behind these.
    """

    def __init__(
        self,
        capture: Capture = Capture.RUNNING,
        *,
        server: str = "lin",
        trial: int = 1,
        volumes: tuple[str, ...] = ("root", "data"),
        attempt: str = "a1",
        os: Os = Os.LINUX,
        start: datetime = START,
    ) -> None:
        self.capture, self.server, self.trial = capture, server, trial
        self.volumes, self.attempt, self.os, self.start = volumes, attempt, os, start
        self.before: list[Observation] = []
        self.after: list[Observation] = []
        self.seen: dict[tuple[str, str | None], dict[str, Any]] = {}
        dirty = capture is Capture.RUNNING
        self._source()
        for place, volume in enumerate(volumes):
            self._copy_a(volume, place, dirty=dirty)
        self.seen["helper.kernel", None] = {"tainted": 0, "oops": False, "messages": []}
        self._copy_b(dirty=dirty)

    def data(self, probe: str, volume: str | None = None) -> dict[str, Any]:
        """What a probe sent, to be changed."""
        return self.seen[probe, volume]

    def drop(self, probe: str, volume: str | None = None) -> Self:
        """Takes a probe's observation out."""
        del self.seen[probe, volume]
        return self

    def change(self, probe: str, volume: str | None = None, /, **fields: Any) -> Self:
        """Changes fields of what a probe sent."""
        self.seen[probe, volume].update(fields)
        return self

    def acknowledge(self, volume: str, **fields: Any) -> Self:
        """Changes what was acknowledged on a volume."""
        self.data("canary.acknowledged")["volumes"][volume].update(fields)
        return self

    def boots(self, *attempts: dict[str, Any]) -> Self:
        """Puts these tries in place of the one that answered; each adds to the default of its kind."""
        self.drop("boot.attempt")
        self.after = [
            self.observation("boot.attempt", None, {**self._attempt(), **attempt}) for attempt in attempts
        ] + self.after
        return self

    def silent(self, **fields: Any) -> dict[str, Any]:
        """A try that never answered."""
        return {"answered_at": None, "reachable": False, **fields}

    def skip(self, **fields: Any) -> Self:
        """Something that could not be done."""
        self.after.append(self.observation("skipped", None, fields))
        return self

    def observation(
        self, probe: str, volume: str | None, data: dict[str, Any], *, attempt: str | None = None
    ) -> Observation:
        """An observation of this recovery point."""
        of_source = probe == "baseline.system"
        where = {"baseline": Copy.SOURCE, "capture": Copy.CLOUD, "boot": Copy.B, "phases": Copy.RUNNER}
        copy = where.get(probe.split(".")[0], Copy.A)
        copy = Copy.RUNNER if probe in ("canary.acknowledged", "skipped") else copy
        return Observation(
            probe=probe,
            server=self.server,
            copy=Copy.CLOUD if probe == "boot.attempt" else copy,
            at=self.start,
            command=f"look at {probe}",
            data=deepcopy(data),
            capture=None if of_source else self.capture,
            trial=None if of_source else self.trial,
            attempt="" if of_source else (self.attempt if attempt is None else attempt),
            volume=volume,
        )

    def observations(self) -> tuple[Observation, ...]:
        """All of it, in order and with ids."""
        own = [self.observation(probe, volume, data) for (probe, volume), data in self.seen.items()]
        everything = [*self.before, *own, *self.after]
        return tuple(
            replace(one, id=f"e{n:06}", at=self.start + timedelta(seconds=n))
            for n, one in enumerate(everything, start=1)
        )

    def cell(self, volume: str = "root", *, expected: Expected | None = None) -> Cell:
        """The cell of a volume."""
        return Cell(
            id=f"{self.server}/{volume}/{self.capture}/{self.trial}",
            scenario="first",
            server=self.server,
            os=self.os,
            volume=volume,
            capture=self.capture,
            trial=self.trial,
            expected=expected or Expected(text="usable", verdicts=USABLE),
        )

    def judge(
        self,
        volume: str = "root",
        *,
        checks: Collection[str] = ("boot", "filesystem", "canary"),
        loaded: bool = True,
        objectives: Objectives | None = None,
        started: datetime | None = None,
    ) -> Judgement:
        """What the cell of a volume comes to."""
        return judge(
            self.cell(volume),
            self.observations(),
            volumes=self.volumes,
            checks=checks,
            loaded=loaded,
            objectives=objectives,
            started=started,
        )

    def _source(self) -> None:
        cut = self.start + timedelta(seconds=10)
        state = "stopped" if self.capture is Capture.STOPPED else "running"
        self.seen["baseline.system", None] = {
            "state": "running",
            "failed_units": [],
            "boot_id": "5b5c0f0e-0000-4000-8000-000000000001",
            "host_keys": ["ssh-ed25519 AAAAC3source"],
            "mounts": self._mounts("/dev/nvme0n1p2", first=1),
            "kernel": "6.1.0-27-cloud-amd64",
        }
        self.seen["capture", None] = {
            "snapshots": {volume: f"snap-0{n}{self.trial:015x}" for n, volume in enumerate(self.volumes)},
            "volumes": {volume: f"vol-0{n}{1:015x}" for n, volume in enumerate(self.volumes)},
            "devices": {
                volume: "/dev/xvda" if not n else f"/dev/sd{'fghij'[n - 1]}"
                for n, volume in enumerate(self.volumes)
            },
            "requested_at": iso(cut),
            "returned_at": iso(cut + timedelta(milliseconds=80)),
            "start_time": iso(cut),
            "source_state_before": state,
            "source_state_after": state,
            "source_state_reason": "",
            "atomic": True,
            "completed": True,
            "error": "",
        }
        self.seen["canary.acknowledged", None] = {
            "record_bytes": 512,
            "cut": iso(cut),
            "stride": len(self.volumes),
            "volumes": {
                volume: {
                    "records": [[0, RECORDS - 1]],
                    "last_at": iso(cut - timedelta(milliseconds=30)),
                    "metadata": [[0, 19]],
                }
                for volume in self.volumes
            },
            "log": f"acks/{self.server}-{self.capture}-{self.trial}.jsonl",
            "error": "",
        }

    def _copy_a(self, volume: str, place: int, *, dirty: bool) -> None:
        root = volume == "root"
        kind = "ext4" if root else "xfs"
        device = f"/dev/nvme{place + 1}n1" + ("p2" if root else "")
        self.seen["filesystem.before", volume] = {
            "device": device,
            "serial": f"volc{place}{self.trial:015x}",
            "filesystem": kind,
            "uuid": f"0000000{place}-aaaa-4bbb-8ccc-000000000000",
            "dirty_log": dirty,
            "error_flag": False,
            "unknown_features": [],
            "tools": {"e2fsck": "1.47.0"} if root else {"xfs_repair": "6.1.0"},
            "output": "",
            "error": "",
        }
        method = "e2fsck -E journal_only -p" if root else "mount -o nouuid; umount"
        self.seen["filesystem.replay", volume] = {
            "method": method if dirty else "none",
            "exit": 0,
            "replayed": dirty,
            "output": f"{device}: recovering journal" if dirty and root else "",
            "error": "",
        }
        self.seen["filesystem.check", volume] = {
            "tool": "e2fsck -fn" if root else "xfs_repair -n",
            "exit": 0,
            "clean": True,
            "problems": [],
            "output": E2FSCK_WHOLE if root else XFS_WHOLE,
            "error": "",
        }
        self.seen["canary.found", volume] = {
            "present": True,
            # A running capture has a few more than had been acknowledged when it was asked for.
            "records": [[0, RECORDS - 1 + (2 if dirty else 0)]],
            "torn": [],
            "foreign": [],
            "last_at": iso(self.start + timedelta(seconds=9, milliseconds=980)),
            "metadata": [[0, 19]],
            "metadata_torn": [],
            "capacity": 4096,
            "error": "",
        }

    def _attempt(self) -> dict[str, Any]:
        started = self.start + timedelta(seconds=60)
        return {
            "instance": "i-0b000000000000001",
            "with": "data volumes" if len(self.volumes) > 1 else "root alone",
            "started_at": iso(started),
            "running_at": iso(started + timedelta(seconds=2)),
            "answered_at": iso(started + timedelta(seconds=14)),
            "deadline_seconds": 900,
            "system_status": "ok",
            "instance_status": "ok",
            "console": "",
            "console_matches": [],
            "screenshot": "",
            "reachable": True,
            "error": "",
        }

    def _copy_b(self, *, dirty: bool) -> None:
        self.seen["boot.attempt", None] = self._attempt()
        self.seen["boot.identity", None] = {
            "asset_tag": "i-0b000000000000001",
            "instance": "i-0b000000000000001",
            "root_serial": "vol0d00000000000001",
            "root_volume": "vol-0d00000000000001",
            "boot_id": "5b5c0f0e-0000-4000-8000-000000000002",
            "source_boot_id": "5b5c0f0e-0000-4000-8000-000000000001",
            "host_key": "ssh-ed25519 AAAAC3console",
            "host_key_origin": "console",
            "uptime_seconds": 12.3,
            "error": "",
        }
        self.seen["boot.system", None] = {"state": "running", "failed_units": [], "error": ""}
        self.seen["boot.mounts", None] = {"mounts": self._mounts("/dev/nvme0n1p2", first=1), "error": ""}
        replays = [
            "EXT4-fs (nvme0n1p2): recovery complete",
            "XFS (nvme1n1): Ending recovery (logdev: internal)",
        ]
        self.seen["boot.kernel", None] = {"messages": [], "replays": replays if dirty else [], "error": ""}
        self.seen["phases", None] = {
            "restore": 3.0,
            "initialise": 0.5,
            "boot": 14.0,
            "checks": 2.5,
            "rto": 20.0,
        }

    def _mounts(self, root_source: str, *, first: int) -> list[dict[str, str]]:
        mounts = []
        for place, volume in enumerate(self.volumes):
            root = volume == "root"
            mounts.append(
                {
                    "target": "/" if root else f"/mnt/{volume}",
                    "source": root_source if root else f"/dev/nvme{place - 1 + first}n1",
                    "fstype": "ext4" if root else "xfs",
                    "options": "rw,relatime",
                    "uuid": f"0000000{place}-aaaa-4bbb-8ccc-000000000000",
                }
            )
        return mounts
