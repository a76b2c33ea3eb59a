"""The plan told before anything is touched: what is made, in what order, what stops, how long waits can be."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from drtest.scenario.model import Deadlines
from drtest.scenario.plan import DrillPlan, Plan
from drtest.scenario.units import size_text
from drtest.words import Capture


@dataclass(frozen=True, kw_only=True)
class CellLine:
    """One cell and what it is expected to come to; `line` is the scenario's that says so, None by default."""

    id: str
    expected: str
    line: int | None


@dataclass(frozen=True, kw_only=True)
class Created:
    """Something that a drill creates, and removes at its end.

    Attributes:
        server: the server in the scenario.
        kind: ``instance``, ``volume``, ``snapshot`` or ``security group``.
        count: how many over the whole drill.
        why: what for.
    """

    server: str
    kind: str
    count: int
    why: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a server's drill."""

    server: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Stop:
    """A server of the scenario that is stopped.

    Attributes:
        server: its name.
        times: how often.
        ours: whether it was launched by the drill; one that was not is started again after each time.
    """

    server: str
    times: int
    ours: bool


@dataclass(frozen=True, kw_only=True)
class Wait:
    """One kind of wait of a server's drill.

    Attributes:
        server: the server in the scenario.
        what: the deadline's name in the scenario.
        deadline_seconds: after which one such wait is given up.
        times: how often, at most.
    """

    server: str
    what: str
    deadline_seconds: float
    times: int

    @property
    def total_seconds(self) -> float:
        """The longest that all waits of the kind can last together."""
        return self.deadline_seconds * self.times


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What a run of one scenario does, as ``drtest plan`` prints it.

    Attributes:
        longest_wait_seconds: the longest that any single wait can be.
        bound_seconds: the longest that the run can wait in all, if every wait of every drill ran into its
            deadline and the drills ran one after the other.
    """

    scenario: str
    title: str
    target: str
    cells: tuple[CellLine, ...]
    created: tuple[Created, ...]
    steps: tuple[Step, ...]
    stopped: tuple[Stop, ...]
    waits: tuple[Wait, ...]

    @property
    def longest_wait_seconds(self) -> float:
        """The longest that any single wait can be."""
        return max((wait.deadline_seconds for wait in self.waits), default=0.0)

    @property
    def bound_seconds(self) -> float:
        """All waits together, each at its deadline, one drill after the other."""
        return sum(wait.total_seconds for wait in self.waits)

    def to_json(self) -> dict[str, Any]:
        """JSON values: the fields, and the two bounds."""
        return {
            **asdict(self),
            "longest_wait_seconds": self.longest_wait_seconds,
            "bound_seconds": self.bound_seconds,
        }


def describe(plan: Plan) -> Outline:
    """What a plan will do; pure, and touches nothing."""
    return Outline(
        scenario=plan.scenario.drill,
        title=plan.scenario.title,
        target=plan.target,
        cells=tuple(
            CellLine(id=cell.id, expected=cell.expected.text, line=cell.expected.line) for cell in plan.cells
        ),
        created=tuple(made for drill in plan.drills for made in _created(drill)),
        steps=tuple(
            Step(server=drill.server.name, text=text) for drill in plan.drills for text in _steps(plan, drill)
        ),
        stopped=tuple(stop for drill in plan.drills for stop in _stopped(drill)),
        waits=tuple(wait for drill in plan.drills for wait in _waits(plan, drill)),
    )


def _made(drill: DrillPlan) -> int:
    return sum(capture is not Capture.EXISTING for capture, _ in drill.points)


def _stops(drill: DrillPlan) -> int:
    return sum(capture is Capture.STOPPED for capture, _ in drill.points)


def _created(drill: DrillPlan) -> Iterator[Created]:
    server, points, volumes = drill.server.name, len(drill.points), drill.server.volume_names

    def made(kind: str, count: int, why: str) -> Created:
        return Created(server=server, kind=kind, count=count, why=why)

    yield made("security group", 1, "shuts all that is launched in (not if the target names one)")
    if launch := drill.server.launch:
        yield made("instance", 1, f"the server, from image {launch.image}, with its root")
        for name, volume in launch.volumes.items():
            yield made("volume", 1, f"the server's {name}, {size_text(volume.size)} {volume.filesystem}")
    yield made("instance", 1, "helper: copies A are examined on it, offline")
    yield made("instance", 1, "scratch: copies B are booted on it, one after the other")
    if number := _made(drill):
        each = f"of {_listed(volumes)}, at {_count(number, 'recovery point')}"
        yield made("snapshot", number * len(volumes), each)
    for copy in "AB":
        each = f"copy {copy} of {_listed(volumes)}, for {_count(points, 'recovery point')}"
        yield made("volume", points * len(volumes), each)


def _steps(plan: Plan, drill: DrillPlan) -> Iterator[str]:
    server, volumes = drill.server, _listed(drill.server.volume_names)
    if server.launch:
        yield f"launch it from image {server.launch.image}, and its helper and scratch instance beside it"
    else:
        yield "find it, see that it would come back as it was, launch its helper and scratch instance"
    if made := server.launch and server.launch.volumes:
        what = (f"{volume.filesystem} on {name}, {size_text(volume.size)}" for name, volume in made.items())
        yield f"make {_listed(what)}, and mount it"
    yield "note its state, which the restored one is compared with"
    proven = "prove it while the next one is made" if len(drill.points) > 1 else "prove it"
    restore = (
        f"{proven}. Copy A: new volumes of {volumes} on the helper, examined read-only, then with the log "
        f"replayed, then in full. Copy B, root swap: the stopped scratch instance gets new volumes of {volumes} "
        "in place of its own root, is started, and has to come up as the server that it was"
    )
    for capture in dict.fromkeys(capture for capture, _ in drill.points):
        trials = [trial for of, trial in drill.points if of is capture]
        each = (
            f"{capture}, trial {trials[0]}" if len(trials) == 1 else f"{capture}, {len(trials)} trials, each"
        )
        yield f"{each}: {_capture(plan, capture, volumes=volumes)}; {restore}"
        restore = "prove it by copies A and B, as before"
    again = "" if server.launch else "see that it runs; "
    yield f"{again}remove all that was created, last made first"


def _capture(plan: Plan, capture: Capture, *, volumes: str) -> str:
    load = plan.scenario.load
    writing = f"write {load.canary.rate:g} records/s for {load.for_:g} s, then " if load else ""
    how = {
        Capture.EXISTING: f"pick the newest snapshots of {volumes} that are there already",
        Capture.RUNNING: f"{writing}snapshot {volumes} in one call, while it runs",
        Capture.FROZEN: f"{writing}freeze its filesystems, snapshot {volumes} in one call, thaw",
        Capture.VSS: f"{writing}snapshot {volumes} through VSS",
        Capture.STOPPED: f"{writing}stop it, and snapshot {volumes} in one call",
    }
    return (
        f"{how[capture]}; wait until they are completed" if capture is not Capture.EXISTING else how[capture]
    )


def _stopped(drill: DrillPlan) -> Iterator[Stop]:
    if times := _stops(drill):
        yield Stop(server=drill.server.name, times=times, ours=drill.server.launch is not None)


def _waits(plan: Plan, drill: DrillPlan) -> Iterator[Wait]:
    """How often each wait can come, each with its deadline; what can be waited for at once is counted twice."""
    points, stops, made, load = len(drill.points), _stops(drill), _made(drill), plan.scenario.load
    loads = made if load else 0
    times = {
        "launch": 2
        + 2 * points
        + stops,  # server, scratch; helper and scratch for each point; a stopped server
        "prepare": int(drill.server.may_write),
        "snapshot": made,
        "volume": 2 * points,  # of copies A and B
        "attach": 5 * points,  # A on and off; the scratch's former root off, B on and off
        "stop": 2 * points
        + 2 * stops,  # the scratch before and after; the server, and before it starts again
        "boot": 1 + loads + 2 * points,  # logins: to the server, for each load, to the helper, to copy B
        "status": points,
        "checks": 1 + 3 * points,  # the server's state; the helper's kernel and copy A; copy B
        "clean": 1,
    }
    if load and loads:
        yield Wait(server=drill.server.name, what="load", deadline_seconds=load.deadline, times=loads)
    for name in Deadlines.model_fields:
        if times[name]:
            seconds: float = getattr(plan.scenario.deadlines, name)
            yield Wait(server=drill.server.name, what=name, deadline_seconds=seconds, times=times[name])


def _listed(words: Iterable[str]) -> str:
    words = tuple(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def outline_text(outline: Outline) -> str:
    """What ``drtest plan`` prints: tables of cells, things created, steps and waits."""
    return "\n".join(_lines(outline))


def _lines(outline: Outline) -> Iterator[str]:
    yield f"{outline.scenario}: {outline.title}"
    yield f"on target {outline.target}; nothing has been touched yet"
    yield ""
    cells = [(cell.id, cell.expected, cell.line or "") for cell in outline.cells]
    yield _table(cells, headers=("cell", "expected", "line"))
    yield ""
    created = [(made.server, made.count, made.kind, made.why) for made in outline.created]
    yield _table(created, headers=("server", "create", "what", "why"))
    yield ""
    steps = [(step.server, number, step.text) for number, step in enumerate(outline.steps, start=1)]
    yield _table(steps, headers=("server", "step", "does"), width=88)
    yield ""
    for stop in outline.stopped:
        times = "once" if stop.times == 1 else f"{stop.times} times"
        if stop.ours:
            yield f"Stopped: {stop.server}, {times}; it is launched by the drill."
        else:
            yield f"Stopped: {stop.server}, {times}, and started again each time; its may_stop allows it."
    if not outline.stopped:
        yield "Stopped: no server."
    yield ""
    waits = [(w.server, w.what, _span(w.deadline_seconds), w.times) for w in outline.waits]
    yield _table(waits, headers=("server", "wait", "deadline", "at most"))
    yield ""
    yield f"No single wait is longer than {_span(outline.longest_wait_seconds)};"
    yield f"all of them together, each at its deadline, {_span(outline.bound_seconds)}."


def _table(rows: Sequence[Sequence[object]], *, headers: Sequence[str], width: int | None = None) -> str:
    from tabulate import tabulate

    widths = [*(None for _ in headers[1:]), width] if rows and width else None
    return tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True, maxcolwidths=widths)


def _span(seconds: float) -> str:
    whole = round(seconds)
    if whole != seconds and seconds < 60:
        return f"{seconds:g} s"
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    parts = [f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(minutes) + [f"{left} s"] * bool(left)
    return " ".join(parts) or "0 s"
