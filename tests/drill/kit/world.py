"""A world for drills: a lab without machines, a target that is it, and runs in it from plan to results."""

import secrets
import threading
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drtest.cloud.tags import CLAIMED_BY, KEY, RUN, STOPPED_BY
from drtest.cloud.targets import Target
from drtest.drill.engine import Engine
from drtest.drill.run import Run
from drtest.drill.site import Progress, Stop
from drtest.lab.compute import Compute
from drtest.lab.faults import Plan
from drtest.lab.resources import Instance, Snapshot, Volume
from drtest.record.folder import Run as Record
from drtest.record.folder import RunFolder, SelectedCell
from drtest.record.results import exit_code
from drtest.record.results import read as read_results
from drtest.scenario.model import Scenario
from drtest.scenario.plan import plan, restrict
from drtest.verdict.evidence import Observation
from tests.drill.kit.disks import Machines, Manners
from tests.drill.kit.faults import Weather
from tests.drill.kit.plain import PlainEngine

SCENARIO: dict[str, Any] = {
    "drill": "bad-days",
    "title": "Does the drill survive its bad days?",
    "servers": [
        {
            "name": "lin",
            "os": "linux",
            "launch": {"image": "linux", "volumes": {"data": {"size": "1GiB", "filesystem": "xfs"}}},
        }
    ],
    "load": {"canary": {"rate": "40/s"}, "for": "1s"},
    "captures": ["running"],
    "volumes": ["root", "data"],
    "deadlines": dict.fromkeys(
        ("launch", "prepare", "snapshot", "volume", "attach", "stop", "boot", "status", "checks", "clean"),
        "8s",
    ),
}
"""One recovery point of a launched server with two volumes; each wait of it may last eight seconds."""


def alone(**changes: Any) -> dict[str, Any]:
    """The scenario with a server of one volume, and deadlines that a crowd does not miss."""
    one = {"name": "lin", "os": "linux", "launch": {"image": "linux"}}
    deadlines = {**dict.fromkeys(SCENARIO["deadlines"], "60s"), **changes.pop("deadlines", {})}
    return scenario(**{"servers": [one], "volumes": ["root"], **changes, "deadlines": deadlines})


def scenario(**changes: Any) -> dict[str, Any]:
    """The scenario with some keys changed; of ``deadlines``, only those named."""
    made = deepcopy(SCENARIO)
    made["deadlines"].update(changes.pop("deadlines", {}))
    return {**made, **changes}


@dataclass(kw_only=True)
class Ran:
    """What a run came to.

    Attributes:
        code: its exit code.
        results: what ``results.json`` holds.
        evidence: all observations.
        folder: what it left.
    """

    code: int
    results: dict[str, Any]
    evidence: tuple[Observation, ...]
    folder: RunFolder

    @property
    def verdicts(self) -> dict[str, str]:
        """Verdict by cell id."""
        return {cell["id"]: cell["verdict"] for cell in self.results["cells"]}

    def reason(self, cell: str = "lin/root/running/1") -> str:
        """A cell's reason."""
        return str(next(one["reason"] for one in self.results["cells"] if one["id"] == cell))

    def of(self, probe: str) -> list[Observation]:
        """The observations of a probe."""
        return [one for one in self.evidence if one.probe == probe]

    @property
    def leftovers(self) -> set[tuple[str, str]]:
        """Kind and id of what the results call left over."""
        return {(one["kind"], one["id"]) for one in self.results["leftovers"]}


@dataclass(kw_only=True)
class World:
    """The world."""

    folder: Path
    compute: Compute
    machines: Machines
    weather: Weather
    target: Target
    config: Path
    image: str
    client: Any
    stages: list[str] = field(default_factory=list)
    listeners: list[Callable[[Progress], None]] = field(default_factory=list)
    runs: int = 0

    def reset(self) -> None:
        """Fine weather, good manners, and nobody who listens."""
        self.weather.rules.clear()
        self.weather.calls.clear()
        self.weather.at.clear()
        self.compute.faults.set(Plan())
        self.machines.manners.clear()
        self.machines.no_copies = False
        self.listeners.clear()
        self.stages.clear()

    def guests(self, role: str, *, server: str = "") -> Manners:
        """The manners of a role, to be changed."""
        return self.machines.manners.setdefault((server, role), Manners())

    def run(
        self,
        wanted: Mapping[str, Any] | None = None,
        *,
        cells: Collection[str] | None = None,
        stop: Stop | None = None,
        folder: RunFolder | None = None,
        engine: Callable[..., Engine] = PlainEngine,
    ) -> Ran:
        """Run a scenario to its end."""
        made = plan(Scenario.model_validate(wanted or scenario()), target=self.target.name)
        made = made if cells is None else restrict(made, cells)
        folder = folder or self.new_folder(made.cells)
        run = Run(
            [made],
            target=self.target,
            folder=folder,
            tell=self._told,
            judged=lambda *_: None,
            stop=stop or Stop(),
            engine=engine,
        )
        with run:
            for cell in made.cells:
                run.judgement(cell)
        results = read_results(folder.results)
        return Ran(
            code=exit_code(run.judgements, environment_failed=bool(results["leftovers"])),
            results=results,
            evidence=folder.journal.observations(),
            folder=folder,
        )

    def new_folder(self, cells: Any) -> RunFolder:
        """The folder of a new run."""
        self.runs += 1
        now = datetime.now(UTC)
        record = Record(
            run=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
            target=self.target.name,
            tool_version="0",
            started=now,
            cells=tuple(SelectedCell(scenario=cell.scenario, id=cell.id) for cell in cells),
        )
        return RunFolder.create(self.folder / f"run-{self.runs}", run=record)

    def _told(self, progress: Progress) -> None:
        self.stages.append(f"{progress.stage}: {progress.detail}")
        for listener in self.listeners:
            listener(progress)

    def when(self, stage: str, act: Callable[[], object], *, server: str = "") -> None:
        """Do something the first time that a stage is told that begins so, of a server if one is named."""
        done = threading.Event()

        def hear(progress: Progress) -> None:
            told = f"{progress.stage}: {progress.detail}".startswith(stage)
            if told and server in ("", progress.server) and not done.is_set():
                done.set()
                act()

        self.listeners.append(hear)

    # What there is

    def left(self) -> list[str]:
        """What is tagged as a run's and still there, and which marks are on a source, by the API."""
        mine = [{"Name": "tag-key", "Values": [RUN]}]
        instances = [
            one
            for each in self.client.describe_instances()["Reservations"]
            for one in each["Instances"]
            if one["State"]["Name"] != "terminated"
        ]
        found = [one["InstanceId"] for one in instances if RUN in _tags(one)]
        found += [
            f"{mark} on {one['InstanceId']}"
            for one in instances
            for mark in (CLAIMED_BY, STOPPED_BY)
            if mark in _tags(one)
        ]
        found += [one["VolumeId"] for one in self.client.describe_volumes(Filters=mine)["Volumes"]]
        found += [one["SnapshotId"] for one in self.client.describe_snapshots(Filters=mine)["Snapshots"]]
        groups = self.client.describe_security_groups(Filters=mine)["SecurityGroups"]
        return found + [one["GroupId"] for one in groups]

    def instance(self, role: str, *, server: str = "lin") -> str:
        """The id of the newest instance of a role."""
        found = [one.id for one in self.compute.books.all(Instance) if place_of(one) == (server, role)]
        return found[-1]

    def state(self, instance: str) -> str:
        """An instance's state, by the API; empty while it is not seen."""
        found = self.described(instance)
        return str(found["State"]["Name"]) if found else ""

    def described(self, instance: str) -> Any:
        """An instance, by the API; None while it is not seen."""
        filters = [{"Name": "instance-id", "Values": [instance]}]
        found = self.client.describe_instances(Filters=filters)["Reservations"]
        return found[0]["Instances"][0] if found else None


def _tags(one: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in one.get("Tags", [])}


def place_of(thing: Instance | Volume | Snapshot | None) -> tuple[str, str]:
    """The server that a thing is there for, and as what, by its tags."""
    tags = thing.tags if thing else {}
    words = tags.get(KEY) or tags.get(CLAIMED_BY, "").partition(" ")[2]
    return (words.split("/")[1], words.rpartition("/")[2]) if words else ("", "source")
