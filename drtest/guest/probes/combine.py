"""Several filesystems of one volume as one observation: never better than the worst of them."""

from typing import Any, Dict, List, Optional

from drtest.guest.probes import disks, places


def failed(stage: str, error: str) -> Dict[str, Any]:
    """The observation of a stage that could not be done."""
    shapes: Dict[str, Dict[str, Any]] = {
        "filesystem.before": {
            "device": "",
            "serial": "",
            "filesystem": None,
            "uuid": "",
            "dirty_log": None,
            "error_flag": False,
            "unknown_features": [],
            "tools": {},
            "output": "",
        },
        "filesystem.replay": {"method": "none", "exit": None, "replayed": False, "output": ""},
        "filesystem.check": {
            "tool": "",
            "exit": None,
            "clean": None,
            "problems": [],
            "notes": [],
            "output": "",
        },
        "canary.found": {
            "present": False,
            "records": [],
            "torn": [],
            "foreign": [],
            "stale": [],
            "last_time_ns": None,
            "metadata": [],
            "metadata_torn": [],
            "capacity": 0,
        },
    }
    return dict(shapes[stage], error=error)


def before(disk: disks.Disk, chosen: Any, each: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
    """``filesystem.before`` of a volume."""
    main = chosen.examined[0] if chosen.examined else None
    tools: Dict[str, str] = {}
    for one in each.values():
        tools.update(one.get("tools", {}))
    return {
        "device": main.device if main else disk.device,
        "disk": disk.device,
        "serial": disk.serial,
        "filesystem": main.filesystem if main else None,
        "uuid": main.uuid if main else "",
        "dirty_log": _any([one.get("dirty_log") for one in each.values()]),
        "error_flag": any(one.get("error_flag") for one in each.values()),
        "unknown_features": sorted(
            {name for one in each.values() for name in one.get("unknown_features", [])}
        ),
        "tools": tools,
        "output": _joined(each, "output"),
        "notes": [note for one in each.values() for note in one.get("notes", [])],
        "error": "; ".join(chosen.errors + [one["error"] for one in each.values() if one.get("error")]),
        "boot_code": places.boot_code(disk.device),
        "places": [places.describe(place) for place in chosen.all],
        "filesystems": _details(chosen, each),
    }


def replay(chosen: Any, each: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
    """``filesystem.replay`` of a volume."""
    methods = [one["method"] for one in each.values() if one.get("method", "none") != "none"]
    exits = [one.get("exit") for one in each.values()]
    return {
        "method": " + ".join(dict.fromkeys(methods)) or "none",
        "exit": _worst(exits),
        "replayed": any(one.get("replayed") for one in each.values()),
        "output": _joined(each, "output"),
        "error": "; ".join(one["error"] for one in each.values() if one.get("error")),
        "filesystems": _details(chosen, each),
    }


def check(chosen: Any, each: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
    """``filesystem.check`` of a volume: one damaged filesystem is enough, one that is not known too."""
    problems: List[str] = list(chosen.problems)
    notes: List[str] = []
    for device, one in each.items():
        prefix = "{}: ".format(device) if len(each) > 1 else ""
        problems.extend(prefix + problem for problem in one.get("problems", []))
        notes.extend(prefix + note for note in one.get("notes", []))
    clean = _all([one.get("clean") for one in each.values()])
    if chosen.problems:
        clean = False
    elif clean and chosen.errors:
        clean = None
    errors = chosen.errors + [one["error"] for one in each.values() if one.get("error")]
    return {
        "tool": " + ".join(dict.fromkeys(one.get("tool", "") for one in each.values())),
        "exit": _worst([one.get("exit") for one in each.values()]),
        "clean": clean if each else (False if chosen.problems else None),
        "problems": problems[:50],
        "notes": notes[:50],
        "unknown_features": sorted(
            {name for one in each.values() for name in one.get("unknown_features", [])}
        ),
        "output": _joined(each, "output"),
        "error": "; ".join(errors) if clean is not False else "",
        "filesystems": _details(chosen, each),
    }


def _any(values: List[Optional[bool]]) -> Optional[bool]:
    if any(values):
        return True
    return None if not values or None in values else False


def _all(values: List[Optional[bool]]) -> Optional[bool]:
    if any(value is False for value in values):
        return False
    return None if not values or None in values else True


def _worst(exits: List[Optional[int]]) -> Optional[int]:
    if not exits or None in exits:
        return None
    return max((code for code in exits if code is not None), default=0)


def _joined(each: Dict[str, Dict[str, Any]], name: str) -> str:
    if len(each) == 1:
        return str(next(iter(each.values())).get(name, ""))
    return "\n".join("== {}\n{}".format(device, one.get(name, "")) for device, one in each.items())


def _details(chosen: Any, each: Dict[str, Dict[str, Any]]) -> List[Dict[str, Any]]:
    kinds = {place.device: place for place in chosen.examined}
    return [
        dict(
            {name: value for name, value in one.items() if name != "output"},
            device=device,
            filesystem=kinds[device].filesystem,
            uuid=kinds[device].uuid,
        )
        for device, one in each.items()
    ]
