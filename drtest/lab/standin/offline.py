"""windows_offline: copies on a helper, each as it lies, then opened, then checked; windows_offline.ps1, look for look.

ntfsresize and ntfsfix stand for chkdsk, with chkdsk's exit codes: 0 whole, 1 errors, none where it never ended.
"""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drtest.lab.standin import canary, hive, ntfs, registry, storage, system, table
from drtest.lab.standin import volume as ntfs_volume
from drtest.lab.standin.regf import HiveError
from drtest.lab.standin.visit import Seen, Visit, find_disk
from drtest.lab.standin.volume import Volume, VolumeError
from drtest.lab.standin.windows import Windows

_WHOLE, _ERRORS, _NOT_WITHOUT_F = 0, 1, 3


def visit(windows: Windows, arguments: Mapping[str, Any]) -> list[Seen]:
    """All volumes that are asked for, one after the other."""
    here = Visit(arguments)
    seen = [one for asked in arguments["volumes"] for one in _Copy(windows, asked, here).examined()]
    kernel = here.see(
        "helper.kernel",
        None,
        "Get-Disk",
        lambda: {"stuck": [], "oops": False, "messages": [], "disks": system.disks(windows)},
    )
    return [*seen, kernel]


class _Copy:
    """One copy: what one look finds is where the next one looks."""

    def __init__(self, windows: Windows, asked: Mapping[str, Any], here: Visit) -> None:
        self._windows, self._asked, self._here = windows, asked, here
        self._name = str(asked["name"])
        self._device = ""
        self._dirty: bool | None = None
        self._volume: Volume | None = None

    def examined(self) -> list[Seen]:
        before = self._see(
            "filesystem.before", "read \\\\.\\PhysicalDriveN while it is offline", self._before
        )
        if before["data"]["error"]:
            return [before, *self._unseen(before["data"]["error"])]
        replay = self._see(
            "filesystem.replay", "Set-Disk -IsOffline $false; the first look mounts it", self._replay
        )
        asked, seen = self._asked.get("canary"), []
        if asked:
            seen.append(self._see("canary.found", "read the canary", lambda: self._canary(asked)))
        check = self._see("filesystem.check", "chkdsk, reg load", self._check)
        return [before, replay, check, *seen]

    def _see(self, probe: str, command: str, look: Any) -> Seen:
        return self._here.see(probe, self._name, command, look)

    def _unseen(self, why: str) -> list[Seen]:
        stages = [
            "filesystem.replay",
            "filesystem.check",
            *(["canary.found"] if self._asked.get("canary") else []),
        ]
        return [self._see(stage, stage, lambda: {"error": why}) for stage in stages]

    def _before(self) -> dict[str, Any]:
        """The bytes as they lie: nothing has opened the volume yet."""
        disk = find_disk(self._windows, self._asked["volume_id"], wait=float(self._asked.get("wait", 60)))
        found = table.read(disk.path)
        looks = [
            (one, look)
            for one in found.partitions
            if (look := ntfs.look(self._windows.machine.partition(disk, one.number))) is not None
        ]
        all_ = [
            {
                "partition": one.number, "start": one.start, "size": one.size, "uuid": look.serial,
                "flags": -1 if look.flags is None else look.flags,
                "log_clean": -1 if look.log_clean is None else int(look.log_clean), "problem": look.problem,
            }
            for one, look in looks
        ]  # fmt: skip
        device = f"\\\\.\\PhysicalDrive{disk.number}"
        data: dict[str, Any] = {
            "device": device, "disk": device, "serial": disk.serial, "filesystem": None, "uuid": "",
            "dirty_log": None, "error_flag": False, "unknown_features": [],
            "tools": {"chkdsk": "ntfsresize and ntfsfix (stand-in)"}, "output": "", "notes": [],
            "was_offline": system.is_offline(self._windows, disk), "signature": found.signature,
            "guid": found.guid, "volumes": all_,
        }  # fmt: skip
        if not looks:
            return {**data, "error": "no NTFS is recognised on it"}
        wanted = str(self._asked.get("uuid") or "")
        partition, look = min(looks, key=lambda one: (one[1].serial != wanted, -one[0].size))
        self._device = self._windows.machine.partition(disk, partition.number)
        if look.flags is not None and look.log_clean is not None:
            self._dirty = bool(look.flags & 1) or not look.log_clean
        return {
            **data, "filesystem": "ntfs", "uuid": look.serial, "partition": partition.number,
            "dirty_log": self._dirty, "notes": [look.problem] if look.problem else [],
        }  # fmt: skip

    def _replay(self) -> dict[str, Any]:
        """The first look at the volume mounts it, and that drops what its log had."""
        code, why = 0, ""
        try:
            place = self._windows.top / "drtest-a" / uuid.uuid4().hex
            self._volume = ntfs_volume.mount(self._device, place)
            list(place.iterdir())
        except (VolumeError, ntfs.NtfsError, OSError) as problem:
            code, why = 1, f"{type(problem).__name__}: {problem}"
        replayed = bool(self._dirty and not code)
        return {"method": "mount", "exit": code, "why": why, "output": why, "replayed": replayed}

    def _canary(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        if self._volume is None:
            return {"error": "the volume is not mounted"}
        return canary.find(
            self._volume.place,
            inside=str(asked.get("inside") or ""),
            volume=str(asked.get("volume_id") or ""),
            series=str(asked.get("series") or ""),
        )

    def _hives(self) -> list[dict[str, Any]]:
        if self._volume is None:
            return []
        return [one for name in registry.NAMES if (one := _hive(self._volume.place, name)) is not None]

    def _check(self) -> dict[str, Any]:
        hives = self._hives()
        if self._volume is not None:
            self._volume.unmount()
        ran = ntfs_volume.check(self._device, deadline=max(1.0, self._here.left * 0.4))
        first = {_WHOLE: _WHOLE, _ERRORS: _NOT_WITHOUT_F}.get(ran.exit or 0) if ran.exit is not None else None
        return {
            "tool": "chkdsk /f" if ran.exit == _ERRORS else "chkdsk",
            "exit": ran.exit,
            "readonly_exit": first,
            "output": ran.output,
            "error": "" if ran.exit is not None else "the checkers did not end",
            "hives": hives,
        }


def _hive(top: Path, name: str) -> dict[str, Any] | None:
    """A hive as it lies, and whether it can be loaded, which recovers it first; None where there is none."""
    path = top / registry.FOLDER / name
    found: dict[str, Any] = {"name": name, "exit": None, "dirty": None, "error": ""}
    try:
        file = storage.File(path, writable=False)
    except FileNotFoundError:
        return None
    except OSError as problem:
        return {**found, "exit": 1, "error": str(problem)}
    try:
        found["regf"], found["dirty"] = hive.is_dirty(file)
        registry.load(top, name).close()
    except (HiveError, OSError) as problem:
        return {**found, "exit": 1, "error": str(problem)}
    finally:
        file.close()
    return {**found, "exit": 0, "unloaded": 0}
