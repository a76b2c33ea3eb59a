"""`drtest check fs`: whether an image file or a device holds a filesystem that can be used."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drtest.drill.check import Checked, Examiner
    from drtest.drill.overlay import Original
    from drtest.guest import linux
    from drtest.guest.transport import Guest

EPILOG = """\
examples:
  sudo drtest check fs backup.img
  drtest check fs disk.qcow2 --partition 2 --json

It goes the way of a drill's offline examination: as it lies, after its log was replayed, by the full checker, and
where a canary of an earlier load is on it, record by record. All of it on a copy-on-write overlay: the image is never
written to.

exit codes: 0 usable; 1 not usable; 2 there is no such image; 3 it could not be decided
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its subcommand and its options."""
    parser.epilog = "example:\n  drtest check fs backup.img --json"
    commands = parser.add_subparsers(dest="check_command", metavar="WHAT", required=True)
    fs = commands.add_parser(
        "fs",
        help="examine an image file (raw or qcow2) or a device",
        description="Examine an image file (raw or qcow2) or a device, with the code of a drill.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fs.add_argument(
        "image", type=Path, metavar="IMAGE|DEVICE", help="what to examine; it is never written to"
    )
    fs.add_argument("--partition", type=int, metavar="N", help="only this partition (default: all)")
    fs.add_argument(
        "--filesystem",
        default="",
        choices=("ext2", "ext3", "ext4", "xfs", "btrfs", "ntfs", "vfat"),
        metavar="KIND",
        help="what must be on it: then an image on which none is recognised is damaged, not undecided",
    )
    fs.add_argument(
        "--on",
        default="auto",
        choices=("auto", "here", "helper"),
        help="who examines: this machine (needs root and loop devices; a damaged filesystem meets its kernel), or a "
        "helper guest of the lab (default: this machine as root, else a helper)",
    )
    fs.add_argument("--deadline", default="1h", metavar="TIME", help="how long it may take (default: 1h)")
    fs.add_argument("--json", action="store_true", help="for machines, evidence included")
    fs.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Examine, and say what came of it."""
    from drtest.drill import check, overlay
    from drtest.errors import EnvironmentFailedError, UsageError
    from drtest.scenario.units import UnitError, duration
    from drtest.words import Verdict

    try:
        deadline = duration(options.deadline)
    except UnitError as error:
        raise UsageError(f"--deadline: {error}") from error
    if options.partition is not None and options.partition < 1:
        raise UsageError(f"--partition {options.partition}: partitions are counted from 1")
    try:
        original = overlay.find(options.image)
    except EnvironmentFailedError as error:
        checked = check.undecided(options.image, error)
    else:
        checked = check.check(
            original,
            examiner=_examiner(options.on),
            partition=options.partition,
            filesystem=options.filesystem,
            deadline=deadline,
        )
    if options.json:
        print(json.dumps(to_json(checked, partition=options.partition), indent=2))
    else:
        print(to_text(checked))
    if checked.verdict.usable:
        return 0
    return 1 if checked.verdict in (Verdict.INCONSISTENT, Verdict.UNBOOTABLE) else 3


def to_json(checked: "Checked", *, partition: int | None) -> dict[str, Any]:
    """What came of a check, for machines: findings as in results.json, evidence as in evidence.jsonl."""
    return {
        "image": str(checked.image),
        "partition": partition,
        "verdict": str(checked.verdict),
        "usable": checked.verdict.usable if checked.verdict.decided else None,
        "assurance": str(checked.assurance),
        "filesystem": checked.filesystem,
        "reason": checked.reason,
        "remedy": checked.remedy,
        "findings": [
            {
                "check": one.check,
                "class": str(one.effect),
                "sentence": one.sentence,
                "evidence": list(one.evidence),
            }
            for one in checked.findings
        ],
        "parts": [asdict(part) for part in checked.parts],
        "how": checked.how,
        "evidence": [
            {
                "id": one.id,
                "probe": one.probe,
                "at": one.at.isoformat().replace("+00:00", "Z"),
                "command": one.command,
                "data": dict(one.data),
            }
            for one in checked.observations
        ],
    }


def to_text(checked: "Checked") -> str:
    """What came of a check, for people: the verdict first, then what it rests on."""
    from tabulate import tabulate

    from drtest.cli.terminal import colours

    verdict = str(checked.verdict)
    if colours():
        code = "33"
        if checked.verdict.decided:
            code = "32" if checked.verdict.usable else "31"
        verdict = f"\x1b[1;{code}m{verdict}\x1b[0m"
    lines = [f"{verdict}  {checked.image}: {checked.reason}"]
    if len(checked.parts) > 1 or any(part.partition or part.volume for part in checked.parts):
        rows = [
            (
                " ".join(filter(None, (str(part.partition or ""), part.volume))) or "whole",
                part.filesystem or part.usage or "nothing recognised",
                f"{part.size / 2**20:.0f} MiB",
                {True: "whole", False: "damaged", None: "not judged"}[part.clean],
            )
            for part in checked.parts
        ]
        lines += ["", tabulate(rows, headers=("partition", "filesystem", "size", ""), tablefmt="simple")]
    further = [one for one in checked.findings if one.sentence != checked.reason]
    if further:
        lines += ["", *(f"  {one.effect}: {one.sentence}" for one in further)]
    if checked.how:
        lines += ["", f"{checked.how[0].upper()}{checked.how[1:]}; the image was not written to."]
    if checked.remedy:
        lines += ["", checked.remedy]
    return "\n".join(lines)


def _examiner(on: str) -> "Examiner":
    from drtest.drill import check
    from drtest.errors import UsageError

    able = os.geteuid() == 0 and LOOPS.exists()
    if on == "here" and not able:
        raise UsageError(
            "--on here: that takes root, and loop devices",
            remedy="Run it by sudo, or leave --on out: a helper guest of the lab examines it then.",
        )
    return check.here if on == "here" or (on == "auto" and able) else helper


@contextmanager
def helper(original: "Original", folder: Path) -> "Iterator[tuple[Guest, linux.VolumeToExamine, str]]":
    """A guest of the lab as the examiner: for ordinary users, and where a damaged filesystem is to meet no kernel here.

    Raises:
        EnvironmentFailedError: the lab can't start a machine here.
    """
    from drtest.cli.terminal import lab_progress
    from drtest.drill import overlay
    from drtest.drill.check import HELPER
    from drtest.guest import linux
    from drtest.guest.ssh import connect, host_keys_from_console
    from drtest.lab import solo

    volume = solo.new_id("vol")
    top = overlay.layer(original, folder=folder)
    with lab_progress() as progress, solo.started(folder, hostname="helper", progress=progress) as machine:
        print("a helper guest of the lab boots; it takes up to a minute", file=sys.stderr)
        with connect(
            machine.address,
            port=machine.port,
            user=solo.USER,
            key_file=machine.key_file,
            host_keys=lambda: host_keys_from_console(machine.console()),
            deadline=BOOT,
            cancelled=lambda: not machine.machine.alive,
        ) as guest:
            linux.helper(
                guest, deadline=60
            )  # nothing may assemble or mount what comes, before it is plugged in
            machine.attach(volume, top)
            yield (
                guest,
                linux.VolumeToExamine(volume_id=volume),
                f"examined on {HELPER}, on a copy-on-write overlay",
            )


LOOPS = Path("/dev/loop-control")
BOOT = 300.0
"""Seconds that a helper may take until it can be logged in to: under TCG, on a machine that others share."""
