"""Damage that only a boot shows: to copies of the lab's guest image, examined offline and then booted for real."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drtest.drill import overlay
from drtest.drill.boot import matches
from drtest.guest import linux
from drtest.guest.local import LocalGuest
from drtest.guest.ssh import connect, host_keys_from_console
from drtest.guest.transport import GuestError
from drtest.lab import images, solo
from drtest.verdict.console import PATTERNS, Kind
from drtest.verdict.evidence import Copy, Judgement, Observation
from drtest.words import ROOT, Capture, Verdict
from tests.damage.examination import judged, numbered, observation, point
from tests.damage.worlds import DEADLINE, Backup, mounted_part
from tests.guest.images import root, tool, write

MIB = 1 << 20
LOADER, LOADER_BYTES = MIB, 32 * MIB
"""Where the image has its FAT partition with loader and kernel; its root begins behind (drtest/lab/debian.py)."""

PATIENCE = 2.0
"""Seconds that a machine has once its console has shown that it will not come up."""


@dataclass(frozen=True, kw_only=True)
class Boot:
    """One piece of damage to a server's root.

    Attributes:
        name, sentence, gives, apply: as `tests.damage.catalogue.Damage`; it gets the disk as a raw image.
        patience: seconds that the machine may take to answer.
    """

    name: str
    sentence: str
    gives: Verdict
    apply: Callable[[Path], None]
    patience: float


BOOTS: list[Boot] = []


def _boots(
    gives: Verdict = Verdict.UNBOOTABLE, *, patience: float = 120.0
) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    def enter(apply: Callable[[Path], None]) -> Callable[[Path], None]:
        name = getattr(apply, "__name__", "").replace("_", " ").strip()
        sentence = (apply.__doc__ or "").strip()
        BOOTS.append(Boot(name=name, sentence=sentence, gives=gives, apply=apply, patience=patience))
        return apply

    return enter


@_boots(Verdict.CONSISTENT)
def nothing_done_to_the_root(_: Path) -> None:
    """A server as it is: it boots."""


@_boots()
def boot_sector_missing(disk: Path) -> None:
    """The first sector is zeros, partition table included."""
    write(disk, 0, bytes(512))


@_boots(patience=10)
def boot_sector_without_code(disk: Path) -> None:
    """The first sector has its table, and no code: the firmware runs into zeros and says nothing."""
    write(disk, 0, bytes(440))


@_boots()
def loader_missing(disk: Path) -> None:
    """The file that the boot sector loads holds zeros: the partition's structure is whole."""
    with disk.open("rb") as file:
        file.seek(LOADER)
        place = file.read(LOADER_BYTES).find(b"\r\nSYSLINUX ")
    assert place > 0
    write(disk, LOADER + place, bytes(4096))


@_boots()
def kernel_missing(disk: Path) -> None:
    """The kernel was deleted."""
    tool("mdel", "-i", f"{disk}@@{LOADER}", "::/vmlinuz")


@_boots()
def init_missing(disk: Path) -> None:
    """The first program of the system was deleted."""
    with _inside(disk) as top:
        root("rm", "-f", top / "sbin/init", top / "usr/lib/systemd/systemd")


@_boots()
def fstab_with_a_wrong_uuid(disk: Path) -> None:
    """A data volume is to be mounted, by a UUID that no volume has: the system ends in emergency mode."""
    line = "UUID=00000000-dead-4eef-8000-000000000000 /data ext4 defaults,x-systemd.device-timeout=3s 0 2"
    with _inside(disk) as top:
        root("sh", "-c", f'mkdir -p "$0/data"; echo "{line}" >>"$0/etc/fstab"', top)


@contextmanager
def _inside(disk: Path) -> Iterator[Path]:
    with mounted_part(disk, LOADER + LOADER_BYTES) as top:
        yield top


def disk_of_the_image(folder: Path) -> Path:
    """The lab's guest image as a raw disk, from which copies are made."""
    path = folder / "image.raw"
    tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", images.build("linux").layer, path)
    return path


def booted(boot: Boot, disk: Path, folder: Path) -> Judgement:
    """Does one piece of damage to a copy of a disk, examines that offline, boots it, and judges both together."""
    folder.mkdir(parents=True, exist_ok=True)
    damaged = folder / "damaged.raw"
    tool("cp", "--sparse=always", disk, damaged)
    boot.apply(damaged)
    backup = Backup(
        images={ROOT: damaged},
        volumes={ROOT: solo.new_id("vol")},
        places={},
        series="",
        acknowledged={},
        capture=Capture.RUNNING,
        cut=datetime.now(UTC),
    )
    seen = [observation("capture", point(backup), Copy.CLOUD), *_offline(damaged, folder)]
    seen += _boot(boot, damaged, folder)
    return judged(backup, numbered(backup, seen), ROOT, checks=("boot", "filesystem"), loaded=False)


def _offline(damaged: Path, folder: Path) -> Iterator[Observation]:
    own = folder / "view"
    own.mkdir()
    with overlay.viewed(overlay.find(damaged), folder=own) as view:
        asked = {ROOT: linux.VolumeToExamine(device=str(view.path), filesystem="ext4")}
        for one in linux.offline(LocalGuest(), volumes=asked, deadline=DEADLINE):
            yield observation(one.probe, one.data, Copy.A, volume=one.volume, command=one.command)


def _boot(boot: Boot, damaged: Path, folder: Path) -> list[Observation]:
    """What a drill observes of copy B, on a machine that nobody but this test has."""
    top = folder / "root.qcow2"
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", damaged, "-F", "raw", top)
    with solo.started(folder / "machine", root=top) as machine:
        attempt: dict[str, Any] = {
            "instance": machine.instance,
            "with": "root alone",
            "started_at": _now(),
            "running_at": _now(),
            "answered_at": None,
            "deadline_seconds": boot.patience,
            "system_status": "ok",
            "reachable": False,
            "error": "",
        }
        told: list[Observation] = []
        try:
            with connect(
                machine.address,
                port=machine.port,
                user=solo.USER,
                key_file=machine.key_file,
                host_keys=lambda: host_keys_from_console(machine.console()),
                deadline=boot.patience,
                cancelled=_Hopeless(machine),
            ) as guest:
                attempt.update(answered_at=_now(), reachable=True)
                for one in linux.booted(guest, deadline=60, settle=30):
                    data = dict(one.data)
                    if one.probe == "boot.identity":
                        data.update(
                            instance=machine.instance,
                            root_volume=machine.volume,
                            source_boot_id="of-the-source",
                            host_key=guest.host_key,
                            host_key_origin="console",
                        )
                    told.append(observation(one.probe, data, Copy.B))
        except GuestError as error:
            attempt["error"] = error.seen
        answered = bool(attempt["reachable"])
        attempt["instance_status"] = "ok" if answered else "impaired"
        # A console that turned its colours on and off says the same words.
        attempt["console_matches"] = list(matches(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", machine.console())))
        return [observation("boot.attempt", attempt, Copy.CLOUD), *told]


class _Hopeless:
    """Whether a machine's console has shown for a while that it will not come up."""

    def __init__(self, machine: solo.Solo) -> None:
        self._machine = machine
        self._since: float | None = None

    def __call__(self) -> bool:
        shown = matches(self._machine.console())
        if self._since is None and any(PATTERNS[one["pattern"]] is not Kind.HARMLESS for one in shown):
            self._since = time.monotonic()
        return self._since is not None and time.monotonic() - self._since > PATIENCE


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
