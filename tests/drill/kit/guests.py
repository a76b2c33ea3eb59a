"""Guests in memory: they answer drtest's own programs as the real ones do, or as their manners say."""

import codecs
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from drtest.guest.transport import (
    LIMIT,
    AnswerError,
    GuestCancelledError,
    GuestError,
    HostKeyError,
    Result,
    Stream,
    UnreachableError,
)
from tests.drill.kit.disks import Content, Machines, Manners
from tests.drill.kit.load import LoadStream
from tests.lab.api.fake_hardware import FakeMachine

PAUSE = 0.02
"""Seconds between two tries to connect."""


class Network:
    """Where guests are reached: in place of `drtest.guest.ssh.connect`."""

    def __init__(self, machines: Machines) -> None:
        self.machines = machines

    def connect(
        self,
        address: str,
        *,
        port: int,
        user: str,
        key_file: Path,
        host_keys: Callable[[], Sequence[str]],
        deadline: float,
        cancelled: Callable[[], bool],
    ) -> "Guest":
        """As the real one: until the deadline, and only to a guest that shows an accepted key."""
        ends = time.monotonic() + deadline
        place = f"{address}:{port}"
        last: GuestError = UnreachableError(f"{place} did not answer by SSH in {deadline:.0f} s")
        while time.monotonic() < ends:
            if cancelled():
                raise GuestCancelledError(f"connecting to {place} was cancelled")
            accepted = host_keys()
            with self.machines.lock:
                found = [one for one in self.machines.machines.values() if one.spec.address == address]
            if found and found[0].greeter is not None and accepted:
                manners = self.machines.behaviour(found[0])
                shown = manners.host_key or self.machines.root_of(found[0]).host_key
                if shown in accepted:
                    return Guest(self.machines, found[0], manners, shown, cancelled)
                last = HostKeyError(f"another machine answers at {place}", presented=shown)
            time.sleep(PAUSE)
        raise last


class Guest:
    """A guest that is connected."""

    def __init__(
        self,
        machines: Machines,
        machine: FakeMachine,
        manners: Manners,
        host_key: str,
        cancelled: Callable[[], bool],
    ) -> None:
        self._machines, self._machine, self._manners = machines, machine, manners
        self._cancelled = cancelled
        self.address, self.host_key = f"{machine.spec.address}:2222", host_key

    def __enter__(self) -> "Guest":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to end."""

    def alive(self) -> None:
        """Raise where the connection can't be there any more."""
        if self._cancelled():
            raise GuestCancelledError(f"{self.address}: cancelled")
        with self._machines.lock:
            there = self._machines.machines.get(self._machine.spec.id) is self._machine
        if not there:
            raise UnreachableError(f"{self.address}: the connection was lost in the middle of an answer")

    def run(self, command: str, *, stdin: bytes = b"", deadline: float, limit: int = LIMIT) -> Result:
        """Carry out a visit."""
        self.alive()
        name, arguments, nonce = _program(stdin)
        out = self._manners.visits[name]() if name in self._manners.visits else None
        if out is not None:
            if len(out) > limit:
                raise AnswerError(
                    f"{self.address} sent more than {limit} bytes: this is no answer of drtest's"
                )
            return Result(exit=0, stdout=out, stderr=b"")
        found = VISITS[name](self, arguments)
        document = json.dumps({"seen": [self._said(one) for one in found], "python": "3.11"})
        answer = f"\n-----BEGIN DRTEST {nonce}-----\n{document}\n-----END DRTEST {nonce}-----\n".encode()
        self.alive()
        return Result(exit=0, stdout=answer, stderr=b"")

    @contextmanager
    def stream(self, command: str, *, stdin: bytes = b"", deadline: float) -> Iterator[Stream]:
        """Carry out a load."""
        self.alive()
        name, arguments, _ = _program(stdin)
        if name in self._manners.visits:
            self._manners.visits[name]()
        yield LoadStream(self, arguments, ends=time.monotonic() + deadline)

    def _said(self, one: dict[str, Any]) -> dict[str, Any]:
        change = self._manners.says.get(one["probe"])
        return {**one, "data": change(one["data"]) if change else one["data"]}

    # What the programs find

    def identity(self) -> dict[str, Any]:
        """Which machine it is."""
        serial = self._machines.root_volume(self._machine).replace("-", "")
        return {
            "asset_tag": self._machine.spec.id,
            "imds_instance": "",
            "instance": self._machine.spec.id,
            "root_serial": serial,
            "root_serials": [serial],
            "boot_id": self._machines.boots[self._machine.spec.id],
            "machine_id": "0" * 32,
            "uptime_seconds": 12.3,
            "clock": time.time(),
            "host_keys": [self._machines.root_of(self._machine).host_key],
            "error": "",
        }

    def mounts(self) -> list[dict[str, str]]:
        """What is mounted."""
        return self._machines.mounts(self._machine) or []

    def content(self, volume: str) -> Content | None:
        """What lies on a volume; None where it is not plugged in."""
        with self._machines.lock:
            plugged = volume in self._machine.plugged
            return self._machines.contents.get(volume) if plugged else None

    def change(self, volume: str, /, **fields: Any) -> None:
        """Write to a volume."""
        self._machines.change(volume, **fields)

    def mount(self, target: str, uuid: str) -> None:
        """Enter a filesystem into the fstab."""
        fstab = dict(self._machines.root_of(self._machine).fstab) | {target: uuid}
        self.change(self._machines.root_volume(self._machine), fstab=tuple(fstab.items()))

    def replayed(self) -> bool:
        """Whether this boot had a log to replay."""
        return self._machines.root_of(self._machine).dirty


def _program(text: bytes) -> tuple[str, dict[str, Any], str]:
    """A program's name, its arguments and its nonce."""
    lines = text.decode().splitlines()
    call = re.fullmatch(r"_prelude\.\w+\(_main\.main, _json\.loads\('(.*)'\), '(\w*)'\)", lines[-1])
    assert call is not None
    return lines[0].split()[2], json.loads(codecs.decode(call[1], "unicode_escape")), call[2]


def seen(probe: str, data: dict[str, Any], volume: str | None = None) -> dict[str, Any]:
    """An observation, as a program puts it."""
    return {"probe": probe, "volume": volume, "command": f"look at {probe}", "after": 0.01, "data": data}


def _baseline(guest: Guest, _: dict[str, Any]) -> list[dict[str, Any]]:
    system = {**guest.identity(), "state": "running", "failed_units": [], "kernel": "6.1.0"}
    return [seen("baseline.system", {**system, "mounts": guest.mounts()})]


def _prepare(guest: Guest, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    made = []
    for volume in arguments["volumes"]:
        id_, target = volume["volume_id"], volume["mount"] or f"/mnt/{volume['name']}"
        content = guest.content(id_)
        if content is None:
            made.append(seen("prepare.volume", {"error": f"no disk of {id_} appeared"}, volume["name"]))
            continue
        if not content.filesystem:
            uuid = f"00000000-aaaa-4bbb-8ccc-{id_[-12:]}"
            content = replace(content, filesystem=volume["filesystem"], uuid=uuid)
            guest.change(id_, filesystem=content.filesystem, uuid=content.uuid)
            guest.mount(target, content.uuid)
        folder = "/var/lib/drtest-canary" if target == "/" else f"{target}/.drtest-canary"
        data = {
            "volume_id": id_,
            "directory": folder,
            "inside": "/" + folder.removeprefix(target).lstrip("/"),
            "capacity": arguments["records"],
            "filesystem": content.filesystem,
            "uuid": content.uuid,
            "mount": target,
            "error": "",
        }
        made.append(seen("prepare.volume", data, volume["name"]))
    return made


def _helper(guest: Guest, _: dict[str, Any]) -> list[dict[str, Any]]:
    return [seen("helper.ready", guest.identity())]


def _blank(guest: Guest, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    made = []
    for volume in arguments["volumes"]:
        there = guest.content(volume["volume_id"]) is not None
        if there:
            guest.change(volume["volume_id"], filesystem=volume["filesystem"], uuid=volume["uuid"])
        made.append(seen("blank.volume", {"error": "" if there else "no such disk"}, volume["name"]))
    return made


def _offline(guest: Guest, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    made = []
    for volume in arguments["volumes"]:
        made += _examined(volume, guest.content(volume["volume_id"]))
    kernel = {"tainted": 0, "tainted_before": 0, "oops": False, "messages": [], "error": ""}
    return [*made, seen("helper.kernel", kernel)]


def _examined(volume: dict[str, Any], content: Content | None) -> list[dict[str, Any]]:
    name, id_ = volume["name"], volume["volume_id"]
    before: dict[str, Any] = {"device": f"/dev/disk/{id_}", "serial": id_.replace("-", ""), "error": ""}
    if content is None:
        return [seen("filesystem.before", {**before, "error": f"no disk of {id_} appeared"}, name)]
    before |= {
        "filesystem": content.filesystem or None,
        "uuid": content.uuid,
        "dirty_log": content.dirty,
        "error_flag": False,
        "unknown_features": [],
        "output": "",
    }
    if not content.filesystem:
        return [seen("filesystem.before", before, name)]
    replay = {
        "method": "e2fsck -E journal_only -p" if content.dirty else "none",
        "exit": 0,
        "replayed": content.dirty,
        "output": "",
        "error": "",
    }
    check: dict[str, Any] = {
        "tool": "e2fsck -fn" if content.filesystem == "ext4" else "xfs_repair -n",
        "exit": 0,
        "clean": True,
        "problems": [],
        "output": "",
        "error": "",
    }
    found = [seen("filesystem.before", before, name), seen("filesystem.replay", replay, name)]
    found.append(seen("filesystem.check", check, name))
    if volume["canary"]:
        found.append(seen("canary.found", canary(volume["canary"], content), name))
    return found


def canary(wanted: dict[str, Any], content: Content) -> dict[str, Any]:
    """What is found of a canary."""
    mine = content.series == wanted["series"] and content.volume == wanted["volume_id"]
    records, metadata = (content.records, content.metadata) if mine else (0, 0)
    return {
        "present": True,
        "records": [[0, records - 1]] if records else [],
        "torn": [],
        "foreign": [],
        "metadata": [[0, metadata - 1]] if metadata else [],
        "metadata_torn": [],
        "last_time_ns": content.last_ns if records else None,
        "capacity": 4096,
        "error": "",
    }


def _booted(guest: Guest, _: dict[str, Any]) -> list[dict[str, Any]]:
    replays = ["EXT4-fs (nvme0n1p2): recovery complete"] if guest.replayed() else []
    return [
        seen("boot.identity", guest.identity()),
        seen("boot.system", {"state": "running", "failed_units": [], "error": ""}),
        seen("boot.mounts", {"mounts": guest.mounts(), "error": ""}),
        seen("boot.kernel", {"messages": [], "replays": replays, "error": ""}),
    ]


VISITS: dict[str, Callable[[Guest, dict[str, Any]], list[dict[str, Any]]]] = {
    "baseline": _baseline,
    "prepare": _prepare,
    "helper": _helper,
    "blank": _blank,
    "offline": _offline,
    "booted": _booted,
}
"""What drtest's programs come to, by their names (drtest/guest/probes)."""
