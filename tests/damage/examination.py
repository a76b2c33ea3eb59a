"""From a backup's bytes to its verdict: the real examination, and the judge, as a drill has them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from drtest.guest import linux
from drtest.guest.local import LocalGuest
from drtest.scenario.plan import Cell, Expected
from drtest.verdict.evidence import Copy, Judgement, Observation
from drtest.verdict.judge import judge
from drtest.words import USABLE, Capture, Os
from tests.damage.worlds import DEADLINE, SERVER, Backup

CHECKS = ("filesystem", "canary")


def examined(
    backup: Backup, *, only: Sequence[str] | None = None, known: bool = True
) -> tuple[Observation, ...]:
    """The examination of a backup's images, by the program and with the arguments of a drill.

    Args:
        backup: its images are written to.
        only: the volumes to look at; None: all.
        known: whether the source could be asked what filesystem it has there.
    """
    volumes = {
        name: linux.VolumeToExamine(
            device=str(image),
            filesystem=backup.places[name].filesystem if known else "",
            uuid=backup.places[name].uuid if known else "",
            canary=linux.CanaryToFind(
                volume_id=backup.volumes[name], inside=backup.places[name].inside, series=backup.series
            ),
        )
        for name, image in backup.images.items()
        if only is None or name in only
    }
    seen = linux.offline(LocalGuest(), volumes=volumes, deadline=DEADLINE)
    told = [
        observation("capture", point(backup), Copy.CLOUD),
        observation("canary.acknowledged", backup.acknowledged, Copy.RUNNER),
        *(observation(one.probe, one.data, Copy.A, volume=one.volume, command=one.command) for one in seen),
    ]
    return numbered(backup, told)


def point(backup: Backup) -> dict[str, Any]:
    """The observation of the recovery point itself."""
    state = "stopped" if backup.capture is Capture.STOPPED else "running"
    at = backup.cut.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return {
        "snapshots": {name: f"snap-{volume.removeprefix('vol-')}" for name, volume in backup.volumes.items()},
        "volumes": dict(backup.volumes),
        "devices": {},
        "requested_at": at,
        "returned_at": at,
        "start_time": at,
        "source_state_before": state,
        "source_state_after": state,
        "source_state_reason": "",
        "atomic": True,
        "completed": True,
        "error": "",
    }


def observation(
    probe: str, data: Mapping[str, Any], copy: Copy, *, volume: str | None = None, command: str = ""
) -> Observation:
    """One observation, yet without its recovery point."""
    return Observation(
        probe=probe,
        server=SERVER,
        copy=copy,
        at=datetime.now(UTC),
        command=command,
        data=data,
        volume=volume,
    )


def numbered(backup: Backup, seen: Sequence[Observation]) -> tuple[Observation, ...]:
    """Observations as the evidence has them."""
    return tuple(
        replace(one, capture=backup.capture, trial=1, attempt="1", id=f"e{number:06}")
        for number, one in enumerate(seen, start=1)
    )


def judged(
    backup: Backup,
    observations: Sequence[Observation],
    volume: str,
    *,
    checks: Sequence[str] = ("filesystem", "canary"),
    loaded: bool = True,
) -> Judgement:
    """The verdict over one volume, or the set."""
    cell = Cell(
        id=f"{SERVER}/{volume}/{backup.capture}/1",
        scenario="damage",
        server=SERVER,
        os=Os.LINUX,
        volume=volume,
        capture=backup.capture,
        trial=1,
        expected=Expected(text="usable", verdicts=USABLE),
    )
    return judge(cell, observations, volumes=list(backup.volumes), checks=checks, loaded=loaded)
