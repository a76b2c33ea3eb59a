"""A whole drill on stand-ins of this host: a source that is loaded, its volumes copied, a helper, and a booted copy."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from drtest.drill.boot import matches
from drtest.guest import canary, windows, winrm
from drtest.guest.linux import CanaryToFind, Prepared, Seen, VolumeToExamine, VolumeToPrepare
from drtest.guest.winrm_shells import WinrmGuest
from drtest.lab.standin.answers import probes
from drtest.lab.standin.screen import Stop
from drtest.lab.standin.windows import Windows, boot
from drtest.scenario.plan import Cell, Expected
from drtest.verdict.evidence import Copy, Judgement, Observation
from drtest.verdict.judge import judge
from drtest.words import USABLE, Capture, Filesystem, Os
from tests.lab.standin.bench import Bench, blank_disk, system_disk
from tests.lab.winrm.stand_in import PASSWORD, USER, certificate, serving

NAMES = ("root", "data")
CERTIFICATE = certificate()
RECORDS = 40


@contextlib.contextmanager
def answering(windows: Windows, folder: Path) -> Iterator[WinrmGuest]:
    with (
        serving(folder, probes=probes(windows), certificate=CERTIFICATE) as service,
        winrm.connect(
            "127.0.0.1",
            port=service.server_port,
            user=USER,
            password=PASSWORD,
            fingerprint=CERTIFICATE.fingerprint,
            deadline=10,
        ) as guest,
    ):
        yield guest


@contextlib.contextmanager
def up(bench: Bench, folder: Path) -> Iterator[tuple[Windows, WinrmGuest]]:
    """A machine that is booted, asked, and shut down."""
    try:
        system = boot(bench, top=folder / bench.asset_tag)
        system.registry.name_machine()
        with answering(system, folder) as guest:
            yield system, guest
        if system.volumes:
            system.shut_down()
    finally:
        bench.close()


@dataclass(frozen=True, kw_only=True)
class Drilled:
    """What was seen, and what a copy is judged by."""

    capture: Capture
    seen: dict[Copy, tuple[Seen, ...]]
    acknowledged: dict[str, Any]
    stop: Stop | None = None

    def one(self, copy: Copy, probe: str, volume: str | None = None) -> dict[str, Any]:
        (found,) = [each for each in self.seen[copy] if (each.probe, each.volume) == (probe, volume)]
        return dict(found.data)

    def judged(self, volume: str) -> Judgement:
        cell = Cell(
            id=f"win/{volume}/{self.capture}/1", scenario="story", server="win", os=Os.WINDOWS, volume=volume,
            capture=self.capture, trial=1, expected=Expected(text="usable", verdicts=USABLE),
        )  # fmt: skip
        return judge(cell, self._evidence(), volumes=NAMES, checks=("boot", "filesystem", "canary", "events"))

    def _evidence(self) -> list[Observation]:
        state = "stopped" if self.capture is Capture.STOPPED else "running"
        capture = {
            "snapshots": {"root": "snap-r", "data": "snap-d"}, "devices": {}, "completed": True, "atomic": True,
            "volumes": {"root": "vol-0root", "data": "vol-0data"}, "source_state_before": state,
            "source_state_after": state, "error": "", "requested_at": self.acknowledged["cut"],
            "returned_at": self.acknowledged["cut"],
        }  # fmt: skip
        attempt = {
            "instance": "i-0scratch", "with": "data volumes", "started_at": "2026-01-02T00:00:00Z",
            "running_at": "2026-01-02T00:00:05Z", "deadline_seconds": 900, "system_status": "ok",
            "answered_at": None if self.stop else "2026-01-02T00:01:00Z", "instance_status": "ok",
            "console": "", "console_matches": matches("\n".join(self.stop.lines())) if self.stop else [],
            "screenshot": "", "reachable": self.stop is None, "error": "",
        }  # fmt: skip
        source_boot = self.one(Copy.SOURCE, "baseline.system")["boot_id"]
        told: list[tuple[Copy, str, str | None, dict[str, Any]]] = [
            (Copy.CLOUD, "capture", None, capture),
            (Copy.RUNNER, "canary.acknowledged", None, self.acknowledged),
            (Copy.CLOUD, "boot.attempt", None, attempt),
        ]
        for copy, seen in self.seen.items():
            for each in seen:
                data = dict(each.data)
                if each.probe == "boot.identity":
                    # What the drill adds to it: see drtest/drill/boot.py.
                    data |= {
                        "instance": "i-0scratch", "root_volume": "vol-0broot", "host_key_origin": "source",
                        "source_boot_id": source_boot,
                    }  # fmt: skip
                told.append((copy, each.probe, each.volume, data))
        begun = datetime.now(UTC)
        return [
            Observation(
                probe=probe, server="win", copy=copy, at=begun + timedelta(seconds=number), command="-", data=data,
                capture=None if copy is Copy.SOURCE else self.capture, trial=None if copy is Copy.SOURCE else 1,
                attempt="" if copy is Copy.SOURCE else "a", volume=volume, id=f"e{number:06d}",
            )
            for number, (copy, probe, volume, data) in enumerate(told, 1)
        ]  # fmt: skip


def drill(
    folder: Path,
    *,
    capture: Capture,
    at_capture: Callable[[Windows], None] = lambda _: None,
) -> Drilled:
    """All of it.

    Args:
        folder: where the disks are.
        capture: running or stopped.
        at_capture: what the source does just before its disks are copied.
    """
    source = Bench(
        attached={"vol0root": system_disk(folder / "root.img"), "vol0data": blank_disk(folder / "data.img")}
    )
    series = canary.new_series()
    copies = {name: folder / f"copy-{name}.img" for name in NAMES}
    with up(source, folder) as (system, guest):
        prepared = prepare(guest)
        seen = {Copy.SOURCE: (*prepared.seen, *windows.baseline(guest, deadline=20))}
        log = load(guest, prepared, series=series, path=folder / "acks.jsonl")
        for _ in range(12):
            system.registry.touch()
        if capture is Capture.STOPPED:
            system.shut_down()
        at_capture(system)
        cut = datetime.now(UTC)
        for name in NAMES:
            copied(folder / f"{name}.img", copies[name])
    acknowledged = canary.acknowledged(log, cut=cut, volumes=NAMES)
    helper = Bench(
        asset_tag="i-0helper", attached={"vol0h": system_disk(folder / "h.img", serial="0102030405060708")}
    )
    with up(helper, folder) as (_, guest):
        ready = windows.helper(guest, deadline=20)
        for name in NAMES:
            helper.attached[f"vol0a{name}"] = copied(copies[name], folder / f"a-{name}.img")
        volumes = {
            name: VolumeToExamine(
                volume_id=f"vol-0a{name}",
                uuid=prepared.places[name].uuid,
                canary=CanaryToFind(
                    volume_id=f"vol-0{name}", inside=prepared.places[name].inside, series=series
                ),
            )
            for name in NAMES
        }
        seen[Copy.A] = (*ready, *windows.offline(guest, volumes=volumes, deadline=60, wait=2))
    scratch = Bench(
        asset_tag="i-0scratch",
        attached={f"vol0b{name}": copied(copies[name], folder / f"b-{name}.img") for name in NAMES},
    )
    stop = None
    try:
        with up(scratch, folder) as (_, guest):
            seen[Copy.B] = windows.booted(guest, deadline=30)
    except Stop as stopped:
        stop = stopped
    return Drilled(capture=capture, seen=seen, acknowledged=acknowledged, stop=stop)


def prepare(guest: WinrmGuest) -> Prepared:
    return windows.prepare(
        guest,
        volumes={
            "root": VolumeToPrepare(volume_id="vol-0root", mount="/"),
            "data": VolumeToPrepare(volume_id="vol-0data", filesystem=Filesystem("ntfs"), mount="E:"),
        },
        records=200,
        deadline=30,
    )


def load(guest: WinrmGuest, prepared: Prepared, *, series: str, path: Path) -> Path:
    """Some records on each volume, acknowledged and written down."""
    with (
        windows.load(
            guest, places=prepared.places, series=series, rate=400, seconds=60, deadline=60
        ) as stream,
        canary.AckLog(path, series=series, volumes=NAMES) as log,
        canary.Recorder(stream, log) as recorder,
    ):
        recorder.wait(RECORDS, deadline=30)
        recorder.stop(deadline=10)
    return path


def copied(image: Path, to: Path) -> Path:
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(image), str(to)], check=True)
    return to
