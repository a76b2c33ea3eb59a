"""Run folders as a drill leaves them, made of the stories of tests/verdict and judged for real.

    python -m tests.report.sample DIR [windows|doubtful|first|bad-day]

writes one to look at.
"""

import io
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from drtest.record.folder import Run, RunFolder, SelectedCell, scenario_file
from drtest.record.ledger import Resource
from drtest.record.results import results, write
from drtest.report.page import write_report
from drtest.scenario.load import load_scenario
from drtest.scenario.plan import DrillPlan, Plan, plan
from drtest.verdict.judge import judge
from drtest.words import Capture, Os
from tests.verdict.story import Story
from tests.verdict.windows_story import WindowsStory

START = datetime(2026, 11, 24, 17, 51, 21, tzinfo=UTC)

WINDOWS = """\
drill: windows-root-volume
title: Are running-state snapshots of Windows root volumes usable?
description: >-
  Snapshots of a Windows root volume, taken while the server ran, were all unusable on the day they were needed.
  This drill puts that to the test, with data volumes and Linux beside it for comparison.
servers:
  - name: win
    os: windows
    launch: {image: windows, volumes: {data: {size: 1GiB}}}
  - name: lin
    os: linux
    launch: {image: linux, volumes: {data: {size: 1GiB, filesystem: xfs}}}
load: {canary: {rate: 50/s}, for: 10s}
captures: [running, stopped]
volumes: [root, data]
trials: 3
expect:
  - {server: win, volume: root, capture: running, verdict: unusable}
  - {verdict: usable}
objectives: {rto: 30m, rpo: 24h}
"""
FIRST = """\
drill: first
title: Do this server's snapshots come back?
servers:
  - name: lin
    os: linux
    launch: {image: linux, volumes: {data: {size: 1GiB, filesystem: xfs}}}
load: {canary: {rate: 50/s}, for: 10s}
captures: [running, stopped]
volumes: [root, data, set]
objectives: {rto: 30m}
"""

STOP_CONSOLE = """\
Windows Boot Manager
Loading Windows...
Reading \\SystemRoot\\System32\\Config\\SYSTEM

*** STOP: 0x00000074 (0x00000002,0xFFFFF880,0x00000002,0xC000014C)
BAD_SYSTEM_CONFIG_INFO

The registry could not be recovered from its logs:
  SYSTEM: primary sequence 4711, secondary sequence 4702, no log entry covers 4703-4708
The system has been halted.
"""
LINUX_CONSOLE = """\
[    0.000000] Linux version 6.1.0-27-cloud-amd64 (debian-kernel@lists.debian.org)
[    1.204417] EXT4-fs (nvme0n1p2): recovery complete
[    1.211902] EXT4-fs (nvme0n1p2): mounted filesystem with ordered data mode. Quota mode: none.
[    2.846113] XFS (nvme1n1): Mounting V5 Filesystem
[    2.871540] XFS (nvme1n1): Starting recovery (logdev: internal)
[    2.888214] XFS (nvme1n1): Ending recovery (logdev: internal)
Debian GNU/Linux 12 lin ttyS0

-----BEGIN SSH HOST KEY KEYS-----
ssh-ed25519 AAAAC3console
-----END SSH HOST KEY KEYS-----
lin login:
"""
WINDOWS_CONSOLE = """\
2026/11/24 17:55:02Z: AMI Origin Name: Windows_Server-2022-English-Full-Base
2026/11/24 17:55:04Z: EC2 Agent: Ec2Launch service v2.0
2026/11/24 17:55:09Z: Message: Windows is Ready to use
"""
NTFS_DAMAGE = """\
ntfsresize v2022.10.3 (libntfs-3g)
Device name        : /dev/nvme1n1p2
NTFS volume version: 3.1
Cluster size       : 4096 bytes
Checking filesystem consistency ...
Cluster accounting failed at 41219 (0xa103): missing cluster in $Bitmap
Cluster accounting failed at 41220 (0xa104): missing cluster in $Bitmap
Cluster accounting failed at 52008 (0xcb28): extra cluster in $Bitmap
Filesystem check failed! Totally 3 cluster accounting mismatches.
ERROR: NTFS is inconsistent. Run chkdsk /f on Windows then reboot it TWICE!
"""

NTFS_WHOLE = """\
ntfsresize v2022.10.3 (libntfs-3g)
Device name        : /dev/nvme1n1p2
NTFS volume version: 3.1
Checking filesystem consistency ...
Filesystem check passed.
reg load HKLM\\drtest_SYSTEM D:\\Windows\\System32\\config\\SYSTEM: exit 1
"""

Tell = Callable[[Story], None]


def screen(*lines: str, colour: tuple[int, int, int] = (0, 0, 0)) -> bytes:
    """A console's screenshot, as GetConsoleScreenshot gives it."""
    image = Image.new("RGB", (720, 400), colour)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((24, 24 + 18 * number), line, fill=(235, 235, 235))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=70)
    return out.getvalue()


class Sample:
    """A run's folder in the making."""

    def __init__(self, path: Path, text: str, *, notices: tuple[str, ...] = ()) -> None:
        source = path.parent / f"{path.name}.drill.yaml"
        source.write_text(text, encoding="utf-8")
        self.plan: Plan = plan(load_scenario(source), target="lab")
        scenario = self.plan.scenario
        known = scenario_file(
            source, name=scenario.drill, title=scenario.title, description=scenario.description
        )
        run = Run(
            run="20261124-175121-a1b2",
            target="lab",
            tool_version="0.1.0",
            started=START,
            scenarios=(known,),
            cells=tuple(SelectedCell(scenario=cell.scenario, id=cell.id) for cell in self.plan.cells),
            notices=notices,
            environment={"accelerator": "tcg", "python": "3.11.7", "system": "Debian 12"},
        )
        self.folder = RunFolder.create(path, run=run, files={scenario.drill: source})
        source.unlink()
        self.leftovers: list[Resource] = []

    def tell(self, drill: DrillPlan, tell: Tell) -> None:
        """All recovery points of a drill, each changed by `tell`, into the evidence."""
        server = drill.server
        for number, (capture, trial) in enumerate(drill.points):
            start = START + timedelta(seconds=30 * (number + 1))
            told_of = WindowsStory if server.os is Os.WINDOWS else Story
            story = told_of(
                capture, server=server.name, trial=trial, volumes=server.volume_names, start=start
            )
            name = f"console/{server.name}-{capture}-{trial}"
            linux = server.os is Os.LINUX
            told = LINUX_CONSOLE if linux else WINDOWS_CONSOLE
            shown = ("Debian GNU/Linux 12 lin tty1", "", "lin login:") if linux else ("Windows Server 2022",)
            story.change(
                "boot.attempt",
                console=self.folder.keep(f"{name}.txt", told.encode()),
                screenshot=self.folder.keep(f"{name}.jpg", screen(*shown)),
            )
            tell(story)
            for seen in story.observations():
                self.folder.journal.append(seen)

    def finish(self) -> Path:
        """Judges what was told and writes results and report.

        Returns:
            The run's folder.
        """
        ended = START + timedelta(seconds=371)
        judgements = [
            judge(
                cell,
                self.folder.journal.observations(),
                volumes=drill.server.volume_names,
                checks=self.plan.scenario.checks,
                objectives=self.plan.scenario.objectives,
            )
            for drill in self.plan.drills
            for cell in drill.cells
        ]
        run = self.folder.update(ended=ended)
        entry = results(run, plans=[self.plan], judgements=judgements, ended=ended, leftovers=self.leftovers)
        write(entry, self.folder.results)
        write_report(self.folder.path)
        return self.folder.path


def damaged(trial: int) -> dict[str, Any]:
    """What the checkers say of a root whose writes left a cache in no order."""
    hives = "the registry hive SYSTEM can't be loaded (exit 1)"
    if trial == 2:
        problems = NTFS_DAMAGE.splitlines()[5:8]
        checker = {"tool": "ntfsresize --check", "exit": 1, "clean": False, "problems": problems, "notes": []}
    else:
        problems = [hives]
        checker = {"tool": "reg load", "exit": 1, "clean": False, "problems": problems, "notes": []}
    return {
        "tool": "ntfsresize --check + reg load",
        "exit": 1,
        "clean": False,
        "problems": problems,
        "filesystems": [checker],
        "output": NTFS_DAMAGE if trial == 2 else NTFS_WHOLE,
    }


def windows_run(path: Path) -> Path:
    """The incident: running captures of the Windows root are unusable, all others are fine."""
    sample = Sample(
        path,
        WINDOWS,
        notices=(
            "Image windows: a stand-in, no Windows runs here. Its volumes, registry hives and WinRM are real, its "
            "system is drtest's own.",
            "Image windows: a write pool of strength 1.0 acts on its root volume (seed 4711): writes are acknowledged "
            "before they reach the volume, and leave the pool in no order.",
        ),
    )

    def windows(story: Story) -> None:
        if story.capture is not Capture.RUNNING:
            return
        trial = story.trial
        # Which ones are lost is chance; that some are lost amid others is what a cache without order does.
        lost = {1: [[0, 180], [184, 196], [205, 231]], 2: [[0, 211], [215, 243]], 3: [[0, 160], [171, 236]]}[
            trial
        ]
        story.change(
            "canary.found", "root", records=lost, torn=[182] if trial == 1 else [], metadata=[[0, 14]]
        )
        story.change("canary.found", "root", last_at=(story.start + timedelta(seconds=9.3)).isoformat())
        story.change("filesystem.check", "root", **damaged(trial))
        if trial == 2:
            return
        stop = {"pattern": "stop: 0x", "line": STOP_CONSOLE.splitlines()[4]}
        name = f"console/win-running-{trial}"
        shot = sample.folder.keep(f"{name}.jpg", screen(*STOP_CONSOLE.splitlines(), colour=(0, 60, 140)))
        console = sample.folder.keep(f"{name}.txt", STOP_CONSOLE.encode())
        story.change("phases", boot=None, checks=None, rto=None)
        tried = story.silent(
            console_matches=[stop], instance_status="impaired", screenshot=shot, console=console
        )
        story.boots({**tried, "with": "data volumes"}, {**tried, "with": "blank volumes"})

    for drill in sample.plan.drills:
        sample.tell(drill, windows if drill.server.os is Os.WINDOWS else lambda _: None)
    return sample.finish()


def doubtful_run(path: Path) -> Path:
    """The same scenario where nothing fails, but for a stopped Linux that had not shut down cleanly."""
    sample = Sample(path, WINDOWS)

    def linux(story: Story) -> None:
        if (story.capture, story.trial) == (Capture.STOPPED, 2):
            story.change("filesystem.before", "root", dirty_log=True)
        if (story.capture, story.trial) == (Capture.RUNNING, 3):
            story.change("canary.found", "data", records=[[0, 120], [130, 249]])

    for drill in sample.plan.drills:
        sample.tell(drill, linux if drill.server.os is Os.LINUX else lambda _: None)
    return sample.finish()


def first_run(path: Path) -> Path:
    """A run in which all comes back."""
    sample = Sample(path, FIRST)
    for drill in sample.plan.drills:
        sample.tell(drill, lambda _: None)
    return sample.finish()


HOSTILE = "<script>alert('from a guest')</script><img src=x onerror=alert(1)>\x1b[31m\x00\u202e"


def bad_day_run(path: Path, *, title: str = "Does the shop come back?") -> Path:
    """A run in which much goes wrong: unreachable, inconclusive, not as expected, with hostile guests and leftovers."""
    text = FIRST.replace("title: Do this server's snapshots come back?", f"title: {title}")
    text = text.replace("drill: first", "drill: shop").replace("{rto: 30m}", "{rto: 10s}")
    sample = Sample(path, text)

    def bad(story: Story) -> None:
        if story.capture is Capture.RUNNING:
            story.change("filesystem.check", "root", exit=4, clean=False, problems=[HOSTILE], output=HOSTILE)
            story.change("canary.found", "data", records=[[0, 120], [130, 240]], torn=[125])
            console = sample.folder.keep("console/lin-hostile.txt", (HOSTILE + "\n").encode() * 50)
            shot = sample.folder.keep("console/lin-hostile.jpg", screen("login:", "", "(nothing more)"))
            story.boots(story.silent(console=console, screenshot=shot, error=HOSTILE))
        else:
            story.change("filesystem.before", "root", dirty_log=True)
            story.drop("canary.found", "data").skip(check="canary", reason=HOSTILE)

    for drill in sample.plan.drills:
        sample.tell(drill, bad)
    sample.leftovers.append(
        Resource(
            kind="volume",
            id="vol-0d00000000000001",
            region="us-east-1",
            purpose="copy B",
            server="lin",
            at=START,
        )
    )
    return sample.finish()


RUNS: dict[str, Callable[[Path], Path]] = {
    "windows": windows_run,
    "doubtful": doubtful_run,
    "first": first_run,
    "bad-day": bad_day_run,
}


def main(arguments: list[str]) -> None:
    """Writes a sample."""
    made: Any = RUNS[arguments[1] if len(arguments) > 1 else "windows"](Path(arguments[0]))
    print(made / "report.html")


if __name__ == "__main__":
    main(sys.argv[1:])
