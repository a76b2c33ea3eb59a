"""One image or device, examined and judged by itself: `drtest check fs`, the drill's examination without a drill."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from drtest.drill.overlay import InUseError, Original, View, viewed
from drtest.errors import EnvironmentFailedError
from drtest.guest import linux
from drtest.guest.local import LocalGuest
from drtest.guest.transport import Guest
from drtest.scenario.plan import Cell, Expected
from drtest.verdict.evidence import Copy, Finding, FindingClass, Observation
from drtest.verdict.judge import judge
from drtest.words import USABLE, Assurance, Capture, Os, Verdict

CHECKS = ("filesystem", "canary")
SECTOR = 512
VOLUME = "image"
"""What the judge's sentences call the volume, as they call every volume of a server; here it has one name only."""

HERE = "this machine"
HELPER = "a helper guest of the lab"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One place on the image: the whole of it, a partition, or a logical volume of LVM.

    Attributes:
        partition: its number; None where it is on the whole image.
        volume: the logical volume's name, as ``group/name``; empty where it is none.
        size: bytes.
        filesystem: what was recognised on it; None where nothing was.
        uuid: the filesystem's.
        usage: what else it is for, as ``raid`` or ``crypto``.
        clean: what the full check said of it; None where it said nothing.
    """

    partition: int | None
    volume: str
    size: int
    filesystem: str | None
    uuid: str
    usage: str
    clean: bool | None


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What came of a check.

    Attributes:
        image: what was checked.
        verdict: never UNBOOTABLE: nothing is booted.
        assurance: ``standing-canary`` where a canary of an earlier load was found on it, else ``structure``.
        filesystem: the main one; None where none was recognised.
        reason: one sentence.
        findings: all of them, worst first.
        parts: what lies where on it.
        how: where and how it was examined.
        remedy: what to do where nothing could be decided.
        observations: what the findings rest on.
    """

    image: Path
    verdict: Verdict
    reason: str
    assurance: Assurance = Assurance.STRUCTURE
    filesystem: str | None = None
    findings: tuple[Finding, ...] = ()
    parts: tuple[Part, ...] = ()
    how: str = ""
    remedy: str = ""
    observations: tuple[Observation, ...] = field(default=(), repr=False)


class Examiner(Protocol):
    """Who examines: gives the guest that runs the probes, and how the image is found on it."""

    def __call__(
        self, original: Original, folder: Path
    ) -> AbstractContextManager[tuple[Guest, linux.VolumeToExamine, str]]:
        """The guest, the volume as the guest has it, and words for how that came about."""


def check(
    original: Original, *, examiner: Examiner, partition: int | None, filesystem: str, deadline: float
) -> Checked:
    """Examine an image that may be damaged, and judge it; the image is never written to.

    What keeps the examination from being carried out is no damage: it is INCONCLUSIVE, with what to do.

    Args:
        original: the image or device.
        examiner: who examines.
        partition: the one to look at; None: all of them.
        filesystem: what must be on it; empty: not known, so an image without one is INCONCLUSIVE and not damaged.
        deadline: seconds from now for the examination itself.
    """
    if original.size < SECTOR:
        return undecided(
            original.path,
            EnvironmentFailedError(
                f"{original.path} has {original.size} bytes, which is less than one sector"
            ),
        )
    folder = Path(tempfile.mkdtemp(prefix="drtest-check-", dir=_room()))
    try:
        with examiner(original, folder) as (guest, found, how):
            volume = linux.VolumeToExamine(
                volume_id=found.volume_id,
                device=found.device,
                partition=partition,
                filesystem=filesystem,
                canary=linux.CanaryToFind(volume_id="", inside=""),
                contents=True,
            )
            seen = linux.offline(guest, volumes={VOLUME: volume}, deadline=deadline)
        if original.changed:
            raise InUseError(
                f"{original.path} was written to while it was examined",
                remedy="Check a copy of it, or what writes to it when that has ended.",
            )
    except EnvironmentFailedError as problem:
        return undecided(original.path, problem)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _judged(original, _observations(original, seen), how=how)


def undecided(image: Path, problem: EnvironmentFailedError) -> Checked:
    """What comes of a check that could not be carried out."""
    finding = Finding(check="filesystem", effect=FindingClass.UNKNOWN, sentence=problem.seen)
    return Checked(
        image=image,
        verdict=Verdict.INCONCLUSIVE,
        reason=problem.seen,
        findings=(finding,),
        remedy=problem.remedy,
    )


@contextmanager
def here(original: Original, folder: Path) -> Iterator[tuple[Guest, linux.VolumeToExamine, str]]:
    """This machine as the examiner: as root, with its own kernel and tools, on loop devices."""
    with viewed(original, folder=folder) as view, LocalGuest() as guest:
        yield guest, linux.VolumeToExamine(device=str(view.path)), _words(HERE, view)


def _words(where: str, view: View) -> str:
    return f"examined on {where}, on {view.how}"


def _room() -> str | None:
    """Where views and copies lie: on a disk, as /tmp is memory on many machines (file-hierarchy(7))."""
    return os.environ.get("TMPDIR") or ("/var/tmp" if os.access("/var/tmp", os.W_OK) else None)  # noqa: S108


def _observations(original: Original, seen: tuple[linux.Seen, ...]) -> tuple[Observation, ...]:
    """The evidence, as a drill's: a recovery point that somebody else made, and what copy A showed of it."""
    name = original.path.name
    capture: dict[str, Any] = {"snapshots": {VOLUME: str(original.path)}, "completed": True, "error": ""}
    told = [linux.Seen(probe="capture", volume=None, command="", at=datetime.now(UTC), data=capture), *seen]
    return tuple(
        Observation(
            probe=one.probe,
            server=name,
            copy=Copy.A,
            at=one.at,
            command=one.command,
            data=one.data,
            capture=Capture.EXISTING,
            trial=1,
            attempt="1",
            volume=one.volume,
            id=f"e{number:06}",
        )
        for number, one in enumerate(told, start=1)
        # No standing canary is nothing to be told of: hardly an image has one.
        if one.probe != "canary.found" or one.data.get("present")
    )


def _judged(original: Original, observations: tuple[Observation, ...], *, how: str) -> Checked:
    name = original.path.name
    cell = Cell(
        id=name,
        scenario="check",
        server=name,
        os=Os.LINUX,
        volume=VOLUME,
        capture=Capture.EXISTING,
        trial=1,
        expected=Expected(text="usable", verdicts=USABLE),
    )
    judgement = judge(cell, observations, volumes=(VOLUME,), checks=CHECKS)
    data = {one.probe: one.data for one in observations}
    before, checked = data.get("filesystem.before", {}), data.get("filesystem.check", {})

    def said(sentence: str) -> str:
        return sentence.replace(f"{name}/{VOLUME}", name)

    return Checked(
        image=original.path,
        verdict=judgement.verdict,
        reason=said(judgement.reason),
        assurance=judgement.assurance,
        filesystem=before.get("filesystem") or None,
        findings=tuple(
            Finding(check=one.check, effect=one.effect, sentence=said(one.sentence), evidence=one.evidence)
            for one in judgement.findings
        ),
        parts=tuple(_parts(before, checked)),
        how=how,
        remedy=_remedy(before) if not judgement.verdict.decided else "",
        observations=observations,
    )


def _parts(before: Mapping[str, Any], checked: Mapping[str, Any]) -> Iterator[Part]:
    clean = {one["device"]: one.get("clean") for one in checked.get("filesystems", ())}
    for place in before.get("places", ()):
        yield Part(
            partition=place["partition"],
            volume=place["volume"],
            size=place["size"],
            filesystem=place["filesystem"],
            uuid=place["uuid"],
            usage=place["usage"],
            clean=clean.get(place["device"]),
        )


def _remedy(before: Mapping[str, Any]) -> str:
    """What to do with an image that can't be decided on."""
    usages = {place["usage"] for place in before.get("places", ())}
    if any(
        place["note"] and (place["volume"] or "LVM" in place["note"]) for place in before.get("places", ())
    ):
        return (
            "Show a snapshot of its disks to a machine without that volume group, rename it by `vgimportclone -n "
            "restored DEVICE…`, activate it by `vgchange -ay restored`, and check each /dev/restored/*."
        )
    if "raid" in usages:
        return (
            "Assemble a snapshot of it read-only under another name by `mdadm --assemble --readonly`, "
            "and check that."
        )
    if "crypto" in usages:
        return "Open a snapshot of it by `cryptsetup open --readonly`, and check the device that this makes."
    if before.get("filesystem") == "ntfs" and before.get("dirty_log"):
        return "Windows alone can replay its log: attach a copy to a Windows machine, or drill the server."
    return ""
