"""From what a probe for Windows put out to what the judge reads: the shapes of Linux, and of PowerShell no trace."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from drtest.guest.canary import iso_of_ns
from drtest.guest.linux import Seen

HIVES = ("SYSTEM", "SOFTWARE", "SAM", "SECURITY", "DEFAULT")
"""Registry hives without which no Windows starts as it was."""
CHKDSK: Mapping[int, tuple[bool, str]] = {
    0: (True, ""),
    1: (False, "chkdsk found errors and fixed them"),
    2: (True, "chkdsk had cleanup to do, which is no damage"),
}
"""What chkdsk's exit code says (windows-commands/chkdsk.md): whole or not, and in words; 3 says nothing."""

Data = dict[str, Any]


def seen_of(one: Mapping[str, Any], *, begun: datetime, host_key: str, systems: frozenset[str]) -> Seen:
    """One observation, from the JSON of a probe.

    Args:
        one: as the probe put it.
        begun: when the visit began, by the runner's clock.
        host_key: what the guest proved to be.
        systems: volumes that a Windows lies on.

    Raises:
        KeyError, TypeError, ValueError: it has another shape.
    """
    probe, volume = str(one["probe"]), one["volume"]
    data = dict(one["data"])
    data["error"] = str(data.get("error") or "")
    if probe in ("baseline.system", "boot.identity"):
        data["host_key"], data["host_keys"] = host_key, [host_key] if host_key else []
    if probe == "filesystem.check" and not data["error"]:
        data = _check(data, system=volume in systems)
    elif probe in _SHAPES:
        data = _SHAPES[probe](data)
    return Seen(
        probe=probe,
        volume=None if volume is None else str(volume),
        command=str(one["command"]),
        at=begun + timedelta(seconds=float(one["after"])),
        data=data,
    )


def as_list(value: Any) -> list[Any]:
    """A list, whatever ConvertTo-Json of 5.1 made of one: null, a lone value, or ``{"value": […], "Count": 2}``."""
    if value is None:
        return []
    if isinstance(value, Mapping) and set(value) == {"value", "Count"}:
        return list(value["value"])
    return list(value) if isinstance(value, list) else [value]


def pairs(flat: Any) -> list[list[int]]:
    """Ranges, of which the probe sends first and last in a row: nested lists are what PowerShell flattens.

    Raises:
        ValueError: they are no pairs.
    """
    numbers = [int(one) for one in as_list(flat)]
    if len(numbers) % 2:
        raise ValueError(f"{len(numbers)} numbers are no ranges")
    return [[numbers[place], numbers[place + 1]] for place in range(0, len(numbers), 2)]


def mounts(value: Any) -> list[Data]:
    """Mounts; the system's is at ``/``, as the root is everywhere, and its letter stands beside it."""
    return [
        {
            **one,
            "path": one["target"],
            "target": "/" if one.get("system") else one["target"],
            "uuid": str(one.get("uuid") or ""),
            "options": str(one.get("options") or ""),
        }
        for one in as_list(value)
    ]


def _system(data: Data) -> Data:
    lists = ("failed_units", "stopped_units", "root_serials", "storage", "disks", "bitlocker")
    data.update({name: as_list(data[name]) for name in lists if name in data})
    if "mounts" in data:
        data["mounts"] = mounts(data["mounts"])
    return data


def _events(data: Data) -> Data:
    data["events"] = [
        {
            "provider": str(one["provider"]),
            "id": int(one["id"]),
            "count": int(one["count"]),
            "first_at": one.get("first_at"),
            "data": {name: int(number) for name, number in (one.get("data") or {}).items()},
            "drive": str(one.get("drive") or ""),
        }
        for one in as_list(data.get("events"))
    ]
    return data


def _canary(data: Data) -> Data:
    last = data.pop("last_time_ns", None)
    data["last_at"] = None if last is None else iso_of_ns(int(last))
    data.update({name: pairs(data.get(name)) for name in ("records", "metadata", "stale")})
    data.update(
        {name: [int(one) for one in as_list(data.get(name))] for name in ("torn", "foreign", "metadata_torn")}
    )
    return data


def _before(data: Data) -> Data:
    if data.get("filesystem") is None and "signature" in data:
        # It did look, and found no NTFS: that is an answer, and for the judge to weigh.
        data["error"] = ""
    for name in ("unknown_features", "notes", "volumes"):
        data[name] = as_list(data.get(name))
    return data


def _helper(data: Data) -> Data:
    """What the helper's kernel is after its work: what it could not give back taints it as a crash would."""
    stuck = as_list(data.get("stuck"))
    return {
        **_lists("messages", "disks")(data),
        "stuck": stuck,
        "tainted": int(data.get("tainted") or bool(stuck)),
    }


def _lists(*names: str) -> Callable[[Data], Data]:
    return lambda data: {**data, **{name: as_list(data.get(name)) for name in names}}


_SHAPES: Mapping[str, Callable[[Data], Data]] = {
    "baseline.system": _system,
    "boot.identity": _system,
    "boot.system": _system,
    "boot.mounts": _system,
    "boot.events": _events,
    "boot.disks": _lists("disks", "storage"),
    "boot.vss": _lists("writers"),
    "boot.volumes": _lists("volumes", "pending"),
    "canary.found": _canary,
    "filesystem.before": _before,
    "helper.kernel": _helper,
    "helper.ready": _lists("masked", "disks", "root_serials"),
}


def _check(data: Data, *, system: bool) -> Data:
    """The two checkers of a copy: chkdsk, and on a system's volume the loading of its registry hives."""
    hives = as_list(data.pop("hives", None))
    checked = [_chkdsk(data)] + ([_registry(hives)] if system else [])
    clean: bool | None = True
    for one in checked:
        clean = False if False in (clean, one["clean"]) else None if None in (clean, one["clean"]) else True
    return {
        **data,
        "tool": " + ".join(one["tool"] for one in checked),
        "clean": clean,
        "problems": [problem for one in checked for problem in one["problems"]],
        "notes": [note for one in checked for note in one["notes"]],
        "filesystems": checked,
        "hives": hives,
    }


def _chkdsk(data: Data) -> Data:
    code = data.get("exit")
    clean, words = CHKDSK.get(code, (None, "")) if isinstance(code, int) else (None, "")
    notes = [] if clean is not True or not words else [words]
    if data.get("readonly_exit") == 3 and code == 0:
        notes.append("without /f chkdsk had said 3, and with it found nothing")
    return {
        "tool": str(data.get("tool") or "chkdsk"),
        "exit": code,
        "clean": clean,
        "problems": [words] if clean is False else [],
        "notes": notes,
    }


def _registry(hives: list[Data]) -> Data:
    by_name = {str(one["name"]): one for one in hives}
    problems, notes = [], []
    unknown, worst = False, 0
    for name in HIVES:
        one = by_name.get(name)
        code = one.get("exit") if one else None
        if one is None:
            problems.append(f"the registry hive {name} is missing")
        elif code is None:
            unknown = True
        elif code != 0:
            worst = max(worst, int(code))
            problems.append(f"the registry hive {name} can't be loaded (exit {code})")
        elif one.get("dirty"):
            notes.append(f"the registry hive {name} was being written, and was recovered from its log")
    return {
        "tool": "reg load",
        "exit": None if unknown else (worst or (1 if problems else 0)),
        "clean": False if problems else None if unknown else True,
        "problems": problems,
        "notes": notes,
    }
