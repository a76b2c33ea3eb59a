"""Copy A on a helper: each volume as it lies, then with its log replayed, then checked, then its canary read."""

import functools
import os
import stat
from typing import Any, Callable, Dict, List, Optional

from drtest.guest.probes import (
    btrfs,
    combine,
    disks,
    ext,
    fat,
    found,
    kernel,
    mounting,
    ntfs,
    places,
    prelude,
    xfs,
)

DRIVERS: Dict[str, Any] = {kind: driver for driver in (ext, xfs, btrfs, fat, ntfs) for kind in driver.KINDS}
STAGES = ("filesystem.before", "filesystem.replay", "filesystem.check", "canary.found")
CAN_NOT_LOOK = {
    "raid": "it belongs to a RAID or a pool ({}), which is not examined",
    "crypto": "it is encrypted ({}), which can't be examined",
}


def main(arguments: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Examines the volumes one after the other, each in a process of its own."""
    before, log = kernel.tainted(), kernel.Log()
    observations: List[Dict[str, Any]] = []
    volumes = arguments["volumes"]
    for number, volume in enumerate(volumes):
        share = prelude.left() / (len(volumes) - number)
        done = prelude.isolated(functools.partial(examine, volume), share)
        mounting.drop_leftovers()
        observations.extend(done.documents)
        seen = {document["probe"] for document in done.documents}
        for stage in STAGES[: 4 if volume.get("canary") else 3]:
            if stage not in seen:
                why = "not reached: {}".format(done.error.strip().splitlines()[-1] if done.error else "?")
                observations.append(prelude.seen(stage, stage, combine.failed(stage, why), volume["name"]))
    observations.append(
        prelude.guarded("helper.kernel", "cat /proc/sys/kernel/tainted; dmesg", lambda: _kernel(before, log))
    )
    return observations


def _kernel(before: int, log: kernel.Log) -> Dict[str, Any]:
    lines = [line.text for line in log.read()]
    after = kernel.tainted()
    loud = [line for line in lines if kernel.OOPS.search(line) or kernel.matches([line])]
    return {
        "tainted": after & ~before,
        "tainted_before": before,
        "oops": any(kernel.OOPS.search(line) for line in lines) or bool(after & ~before & 128),
        "messages": [line[:500] for line in loud[: kernel.LINES]],
        "error": log.error,
    }


def examine(volume: Dict[str, Any], hand_over: Callable[[Dict[str, Any]], None]) -> None:
    """One volume; every stage hands over its observation before the next begins."""
    loops = places.Loops()
    name = volume["name"]

    def say(stage: str, command: str, data: Dict[str, Any]) -> None:
        hand_over(prelude.seen(stage, command, data, name))

    try:
        try:
            disk = _disk(volume, loops)
            chosen = _choose(volume, places.places(disk, loops))
        except (disks.NotFoundError, OSError) as problem:
            for stage in STAGES[: 4 if volume.get("canary") else 3]:
                say(stage, stage, combine.failed(stage, str(problem)))
            return
        _examine(volume, disk, chosen, say)
    finally:
        loops.drop()


def _disk(volume: Dict[str, Any], loops: places.Loops) -> disks.Disk:
    path = volume.get("device")
    if not path:
        disk = disks.find(volume["volume_id"], float(volume.get("wait", 60)))
        prelude.run(["udevadm", "settle", "--timeout=5"], 10)
    elif stat.S_ISREG(os.stat(path).st_mode):
        return disks.of_device(loops.make(path))
    else:
        disk = disks.of_device(path)
    busy = disks.in_use(disk)
    if busy:
        raise disks.NotFoundError("it is in use, and left alone: {}".format(busy))
    return disk


class Chosen:
    """What of a volume is examined: the filesystems, the main one first, and all that can't be."""

    def __init__(self) -> None:
        self.examined: List[places.Place] = []
        self.all: List[places.Place] = []
        self.errors: List[str] = []
        self.problems: List[str] = []


def _choose(volume: Dict[str, Any], there: List[places.Place]) -> Chosen:
    chosen = Chosen()
    chosen.all = there
    expected, number = volume.get("filesystem") or "", volume.get("partition")
    if number is not None:
        there = [place for place in there if place.partition == number]
        if not there:
            chosen.errors.append("it has no partition {}".format(number))
    for place in there:
        if place.filesystem in DRIVERS:
            chosen.examined.append(place)
        elif place.usage == places.LVM or place.note == places.BEYOND:
            chosen.problems.append("{}: {}".format(_named(place), place.note))
        else:
            chosen.errors.extend(_why_not(place, bool(expected)))

    def main_first(place: places.Place) -> Any:
        return (
            place.uuid != (volume.get("uuid") or place.uuid),
            place.filesystem != (expected or place.filesystem),
            place.filesystem == "vfat",
            -place.size,
        )

    chosen.examined.sort(key=main_first)
    if expected and not any(place.filesystem == expected for place in chosen.examined) and not chosen.errors:
        # The source had one here: what is left of it is for the checker to say.
        blank = [place for place in there if not place.filesystem and not place.usage]
        if blank:
            lost = max(blank, key=lambda place: place.size)
            note = "no {} is recognised where the source has one".format(expected)
            chosen.examined.insert(0, lost._replace(filesystem=expected, note=note))
        chosen.problems.append("no {} is recognised where the source has one".format(expected))
    if not chosen.examined and not chosen.errors:
        chosen.errors.append("no filesystem is recognised on it")
    return chosen


def _named(place: places.Place) -> str:
    if place.volume:
        return "the logical volume {}".format(place.volume)
    return place.device if place.partition is None else "partition {}".format(place.partition)


def _why_not(place: places.Place, expected: bool) -> List[str]:
    """Why a place is not examined that may hold something; nothing where it need hold no filesystem."""
    if place.filesystem:
        return ["{} is not examined".format(place.filesystem)]
    if place.note:
        own = "; activate a restored copy of it on a machine of its own, and check it there"
        return ["{}: {}{}".format(_named(place), place.note, own if place.volume else "")]
    if place.usage in CAN_NOT_LOOK:
        return [CAN_NOT_LOOK[place.usage].format(place.device)]
    if place.volume and not place.usage:
        return ["no filesystem is recognised on {}".format(_named(place))]
    if place.type and not expected and place.type not in places.WITHOUT_FILESYSTEM and not place.usage:
        what = "{} has the type {}, and no filesystem is recognised on it"
        return [what.format(_named(place), place.type)]
    return []


Say = Callable[[str, str, Dict[str, Any]], None]


def _examine(volume: Dict[str, Any], disk: disks.Disk, chosen: Chosen, say: Say) -> None:
    devices = [disk.device] + [place.device for place in chosen.all if place.device != disk.device]
    try:
        _stages(volume, disk, chosen, devices, say)
    finally:
        mounting.set_read_only(devices, False)  # a loop device would stay read-only for whoever gets it next


def _stages(volume: Dict[str, Any], disk: disks.Disk, chosen: Chosen, devices: List[str], say: Say) -> None:
    mounting.set_read_only(devices, True)
    before: Dict[str, Dict[str, Any]] = {}
    for place in chosen.examined:
        before[place.device] = _look(functools.partial(DRIVERS[place.filesystem].before, place))
    say(
        "filesystem.before",
        "blockdev --setro {}; read it".format(disk.device),
        combine.before(disk, chosen, before),
    )
    mounting.set_read_only(devices, False)
    replayed: Dict[str, Dict[str, Any]] = {}
    for place in chosen.examined:
        replayed[place.device] = _replay(place, before[place.device])
    data = combine.replay(chosen, replayed)
    say("filesystem.replay", data["method"], data)
    mounting.set_read_only(devices, True)
    checked: Dict[str, Dict[str, Any]] = {}
    for place in chosen.examined:
        checked[place.device] = _check(place, before[place.device], replayed[place.device])
        if volume.get("contents"):
            _contents(place, checked[place.device])
    canary = _mount_and_read(volume.get("canary"), chosen, checked)
    data = combine.check(chosen, checked)
    say("filesystem.check", data["tool"], data)
    if volume.get("canary"):
        say("canary.found", "read {}".format(volume["canary"]["inside"]), canary)


def _look(function: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
    """What a driver says; one that fails, on bytes that nobody foresaw, says so and takes no other down."""
    try:
        return function()
    except Exception as problem:
        return {"error": "{}: {}".format(type(problem).__name__, problem)}


def _replay(place: places.Place, before: Dict[str, Any]) -> Dict[str, Any]:
    driver = DRIVERS[place.filesystem]
    nothing = {"method": "none", "exit": 0, "replayed": False, "output": "", "error": "", "failed": False}
    if before.get("error") or before.get("unknown_features"):
        return dict(nothing, error=before.get("error", ""))
    if before.get("dirty_log") is False and not before.get("orphans"):
        return nothing
    if not before.get("replayable", True):
        return nothing  # its superblock is damaged: there is nothing to replay by
    if hasattr(driver, "replay") and not before.get("kernel_replays"):
        done = _look(lambda: driver.replay(place, before))
        if done.pop("kernel_next", False) and not done.get("failed"):
            # A filesystem that was frozen has a log with nothing in it, and its orphans all the same.
            mounted = mounting.kernel_replay(place.device, "ext4", driver.KERNEL_REPLAY)
            done.update(output=done["output"] + mounted["output"], error=done["error"] or mounted["error"])
        return done
    if not driver.KERNEL_REPLAY:
        return nothing
    if driver is btrfs:
        btrfs.forget()
    done = mounting.kernel_replay(place.device, place.filesystem, driver.KERNEL_REPLAY)
    dirty = before.get("dirty_log")
    told = bool(kernel.REPLAYS.search(done["output"])) if dirty is None else dirty
    done["replayed"] = done["replayed"] and told
    return done


def _check(place: places.Place, before: Dict[str, Any], replayed: Dict[str, Any]) -> Dict[str, Any]:
    driver = DRIVERS[place.filesystem]
    if before.get("error"):
        return dict(combine.failed("filesystem.check", before["error"]), tool=driver.CHECK)
    nothing = combine.failed("filesystem.check", "")
    checked = dict(nothing, **_look(lambda: driver.check(place, before, replayed)))
    unknown = before.get("unknown_features") or replayed.get("unknown_features")
    if unknown and checked.get("clean") is not None:
        checked.update(
            clean=None, error="it has features that this helper does not know: " + ", ".join(unknown)
        )
    elif replayed.get("error") and checked.get("clean") is True:
        checked.update(clean=None, error="its log was not replayed: " + replayed["error"])
    elif replayed.get("failed"):
        checked.update(clean=False, error="")
        checked["problems"].insert(0, "its log can't be replayed: " + replayed.get("why", "it was refused"))
    elif checked.get("clean") is False and place.note:
        checked["problems"].insert(0, place.note)
    return checked


def _contents(place: places.Place, checked: Dict[str, Any]) -> Dict[str, Any]:
    """The check of all that files hold, where a filesystem has checksums of that and its structure is whole."""
    driver = DRIVERS[place.filesystem]
    if checked.get("clean") and hasattr(driver, "contents"):
        found = _look(lambda: driver.contents(place))
        checked["problems"] = found.get("problems", [])
        checked.update(clean=not checked["problems"], error="")
        if found.get("error"):
            checked.update(clean=None, error="its contents were not checked: " + found["error"])
    return checked


def _mount_and_read(
    canary: Optional[Dict[str, Any]], chosen: Chosen, checked: Dict[str, Dict[str, Any]]
) -> Dict[str, Any]:
    """Mounts every filesystem that can be, read-only: a clean one must mount, and one of them has the canary."""
    result: Optional[Dict[str, Any]] = None
    errors: List[str] = []
    for place in chosen.examined:
        driver, check = DRIVERS[place.filesystem], checked[place.device]
        if not driver.MOUNT_OPTIONS or check.get("unknown_features"):
            continue
        if driver is btrfs:
            btrfs.forget()
        options = driver.MOUNT_OPTIONS + ",nodev,nosuid,noexec"
        with mounting.Mounted(place.device, place.filesystem, options) as mounted:
            if mounted.top and canary and (result is None or not result["present"]):
                result = _read(mounted.top, canary)
            elif not mounted.top:
                errors.append(mounted.why)
        if mounted.damaged and check.get("clean") is not False:
            if check.get("clean") or not check.get("error"):
                check["clean"] = False
            check.setdefault("problems", []).append("it does not mount: " + mounted.why)
        complaints = [match["line"] for match in kernel.matches(mounted.lines)]
        if complaints and mounted.top and check.get("clean"):
            check["clean"] = False
            check["problems"] = complaints[:10]
    if result is None:
        result = combine.failed("canary.found", "; ".join(errors) or "no filesystem of it could be mounted")
    elif not result["present"] and errors:
        result["error"] = "it may be on what could not be mounted: " + "; ".join(errors)
    return result


def _read(top: str, canary: Dict[str, Any]) -> Dict[str, Any]:
    try:
        return found.look(top, canary["inside"], canary["volume_id"], canary.get("series") or "")
    except OSError as problem:
        return dict(combine.failed("canary.found", "it can't be read: {}".format(problem)), present=True)
