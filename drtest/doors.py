"""What is behind both doors, pytest's and the shell's: targets by name, and a run opened on one of them."""

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from drtest import __version__
from drtest.cloud.targets import LAB, Target, choose, lab_target, load_targets
from drtest.errors import EnvironmentFailedError, UsageError
from drtest.scenario.load import load_scenario
from drtest.scenario.model import Scenario
from drtest.scenario.plan import Plan, plan, restrict
from drtest.words import Capture, Os

if TYPE_CHECKING:
    from drtest.drill.cleanup import Leftover
    from drtest.drill.run import Run
    from drtest.drill.site import Progress, Stop
    from drtest.lab.folder import LabStatus
    from drtest.record.folder import RunFolder
    from drtest.scenario.plan import Cell
    from drtest.verdict.evidence import Judgement

__all__ = ["LAB", "lab_up", "load_plan", "open_run", "open_target", "sweep", "target_names"]

IDLE_MINUTES = 15
"""After which a lab that a run started, and that nobody uses, stops itself."""

LabProgress = Callable[[str, float], None]


def target_names(config: Path | None) -> tuple[str, ...]:
    """The targets that there are: the lab, and those of drtest.toml."""
    return (LAB, *sorted(load_targets(config)))


def load_plan(path: Path, *, target: str, config: Path | None) -> Plan:
    """The plan of a scenario file on a target, before anything is touched.

    Raises:
        UsageError: the file has mistakes, or there is no such target.
    """
    names = target_names(config)
    scenario = load_scenario(path, targets=names)
    if target not in names:
        choose(load_targets(config), target)
    _refuse_unbuilt(path, scenario)
    return plan(scenario, target=target)


def _refuse_unbuilt(path: Path, scenario: Scenario) -> None:
    """Say before anything is created what this version can't carry out yet."""
    later = [
        f"capture {capture}" for capture in scenario.captures if capture in (Capture.FROZEN, Capture.VSS)
    ]
    if later:
        raise UsageError(
            f"{path}: drtest {__version__} can't carry this out yet: {', '.join(later)}.",
            remedy="Take it out of captures: running, stopped and existing can be carried out.",
        )


def lab_images(plans: Collection[Plan]) -> tuple[str, ...]:
    """The images that the lab needs for some plans: of their servers, their scratch instances and their helpers.

    A helper for Windows comes from an image of its own: see `drtest.drill.guests.COLLIDES`.
    """
    servers = [drill.server for one in plans for drill in one.drills]
    systems = {server.os for server in servers}
    names = {server.launch.image for server in servers if server.launch} | set(systems)
    if Os.WINDOWS in systems:
        names.add("windows-helper")
    return tuple(sorted(names))


def lab_up(
    *,
    on_lab: LabProgress,
    idle_minutes: float | None = None,
    images: Collection[str] = (Os.LINUX,),
    pool: Mapping[str, float] | None = None,
    seed: int | None = None,
) -> "LabStatus":
    """Bring the lab up with some images, if this machine has what it needs.

    Args:
        on_lab: told of the lab's coming up.
        idle_minutes: it ends by itself after so long without a request; None for never.
        images: what it must have.
        pool: how strong the write pools of images are, by their names; others have what is theirs.
        seed: what the write pools draw from; None for a number of the lab's own.

    Raises:
        UsageError: it is up with other write pools.
        EnvironmentFailedError: it has not, or the lab did not come up.
    """
    from drtest.lab import control, install

    if missing := install.missing():
        raise EnvironmentFailedError(
            f"The lab needs {', '.join(package.name for package in missing)}, which this system has not.",
            remedy="`drtest lab install` installs what is missing, and says why each is needed.",
        )
    return control.up(progress=on_lab, idle_minutes=idle_minutes, images=tuple(images), pool=pool, seed=seed)


@contextmanager
def open_target(
    name: str, *, config: Path | None, on_lab: LabProgress, images: Collection[str] = ()
) -> Iterator[Target]:
    """A target by name; the lab is brought up for as long as it is needed, if none is up.

    Args:
        name: the target's name.
        config: the drtest.toml; None to look for it.
        on_lab: told of the lab's coming up.
        images: what the lab must have.

    Raises:
        UsageError: there is no such target.
        EnvironmentFailedError: the lab can't be brought up here.
    """
    if name != LAB:
        yield choose(load_targets(config), name)
        return
    from drtest.lab import control

    status = control.status()
    if status is None or not set(images) <= set(status.images):
        status = lab_up(on_lab=on_lab, idle_minutes=IDLE_MINUTES, images=images)
    on_lab(f"up, by {status.accelerator.upper()}: {status.accelerator_reason}", 1.0)
    try:
        yield lab_target(asdict(status))
    finally:
        left = control.status()
        # One that stops itself when idle was started by a run, this one or one that was killed; machines that are
        # still there belong to another run.
        if left is not None and left.idle_minutes is not None and not left.machines:
            control.down()


@contextmanager
def open_run(
    plans: Mapping[Path, Plan],
    *,
    cells: Collection[tuple[str, str]],
    target: str,
    config: Path | None,
    out: Path | None,
    resume: Path | None,
    stop: "Stop",
    tell: "Callable[[Progress], None]",
    judged: "Callable[[Cell, Judgement], None]",
    on_lab: LabProgress,
) -> Iterator["Run"]:
    """Start the drills of some cells; at the end all is clean, and results and report are written.

    Args:
        plans: by the scenario file that each came from.
        cells: which cells to prove, as (scenario, cell id).
        target: its name.
        config: the drtest.toml; None to look for it.
        out: the run's folder; None for ``reports/<run-id>``.
        resume: the folder of a run to go on with, instead.
        stop: how the run is stopped.
        tell: told of progress.
        judged: told of each verdict.
        on_lab: told of the lab's coming up.
    """
    from drtest.drill.run import Run
    from drtest.report.page import write_report

    chosen = [
        restrict(one, [id_ for scenario, id_ in cells if scenario == one.scenario.drill])
        for one in plans.values()
    ]
    chosen = [one for one in chosen if one.drills]
    _refuse_namesakes(chosen)
    if resume is not None:
        _refuse_other_state(resume)
    with open_target(target, config=config, on_lab=on_lab, images=lab_images(chosen)) as where:
        folder = _folder(plans, chosen, target=target, out=out, resume=resume)
        run = Run(chosen, target=where, folder=folder, tell=tell, judged=judged, stop=stop)
        try:
            with run:
                yield run
        finally:
            if folder.results.exists():
                write_report(folder.path)


def _refuse_namesakes(plans: Collection[Plan]) -> None:
    """Evidence, ledger and tags tell things apart by the names of scenarios and servers."""
    for what, names in (
        ("scenarios", [one.scenario.drill for one in plans]),
        ("servers", [drill.server.name for one in plans for drill in one.drills]),
    ):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(
                f"Two {what} of one run are called {', '.join(twice)}.",
                remedy="Run the scenario files one after the other, or give them other names.",
            )


def _refuse_other_state(resume: Path) -> None:
    """A run whose steps were others is never taken up by the engine: it would be waited for without end."""
    from drtest.drill.engine import STATE_VERSION
    from drtest.record.folder import RunFolder

    run = RunFolder.open(resume).run
    if run.state_version != STATE_VERSION:
        raise UsageError(
            f"The run in {resume} can't be resumed: drtest {run.tool_version} began it with other steps than this"
            f" drtest {__version__} has.",
            remedy=f"Clean up with `drtest sweep --target {run.target} --run {run.run} --yes`, then run the drill"
            " again.",
        )


def _folder(
    plans: Mapping[Path, Plan],
    chosen: Collection[Plan],
    *,
    target: str,
    out: Path | None,
    resume: Path | None,
) -> "RunFolder":
    from drtest.drill.engine import STATE_VERSION
    from drtest.record.folder import Run as Record
    from drtest.record.folder import RunFolder, SelectedCell, new_run_id, scenario_file

    if resume is not None:
        return RunFolder.open(resume)
    now = datetime.now(UTC)
    run_id = new_run_id(now, token=secrets.token_hex(2))
    files = {one.scenario.drill: path for path, one in plans.items() if one.drills}
    record = Record(
        run=run_id,
        target=target,
        tool_version=__version__,
        state_version=STATE_VERSION,
        started=now,
        ended=None,
        scenarios=tuple(
            scenario_file(
                path,
                name=plans[path].scenario.drill,
                title=plans[path].scenario.title,
                description=plans[path].scenario.description,
            )
            for path in plans
        ),
        cells=tuple(SelectedCell(scenario=cell.scenario, id=cell.id) for one in chosen for cell in one.cells),
        notices=(),
        environment=environment(),
    )
    return RunFolder.create(out or Path("reports") / run_id, run=record, files=files)


def environment() -> dict[str, str]:
    """What a run was made with, for the record."""
    import platform
    from importlib.metadata import version

    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        **{name: version(name) for name in ("boto3", "dbos", "paramiko", "pytest")},
    }


def sweep(name: str, *, config: Path | None, runs: Collection[str], delete: bool) -> "tuple[Leftover, ...]":
    """What runs left behind on a target; or, when it was deleted, what could not be.

    Args:
        name: the target's name.
        config: the drtest.toml; None to look for it.
        runs: only what these runs left; without any, what every run left that is not at work on this machine.
        delete: whether to put it right.

    Raises:
        UsageError: what is to be deleted off the lab was not said run by run.
    """
    from drtest.cloud.ec2 import Ec2
    from drtest.cloud.guard import Guard
    from drtest.cloud.session import connect
    from drtest.cloud.wait import Poller
    from drtest.drill.cleanup import Broom, runs_left
    from drtest.drill.liveness import at_work
    from drtest.lab import control
    from drtest.scenario.model import Deadlines

    if name == LAB and control.status() is None:
        return ()
    with open_target(name, config=config, on_lab=lambda *_: None) as target:
        clients = connect(target)
        ec2 = Ec2(clients.ec2, unretried=clients.unretried, guard=Guard(run=""))
        left: list[Leftover] = []
        found = runs or [one for one in runs_left(ec2) if not at_work(one)]
        if delete and not runs and name != LAB:
            _refuse_unnamed(found, target=name)
        for each in dict.fromkeys(found):
            broom = Broom(
                ec2=ec2,
                poller=Poller(ec2, interval=target.poll_seconds),
                run=each,
                deadline=Deadlines().clean,
                start_deadline=Deadlines().launch,
            )
            left += broom.sweep() if delete else broom.found()
        return tuple(left)


def _refuse_unnamed(found: Collection[str], *, target: str) -> None:
    """The lab is this machine's alone; in an account, a run may be at work that was started on another machine."""
    if found:
        raise UsageError(
            f"These runs have resources on target {target}: {', '.join(found)}. One that is at work on another"
            " machine looks like a dead one from here, and would lose them.",
            remedy=f"Name those that are dead: `drtest sweep --target {target}"
            f" {' '.join(f'--run {one}' for one in found)} --yes`.",
        )
