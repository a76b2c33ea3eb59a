"""A world for drills: a lab without machines, a target that is it, and runs in it from plan to results."""

import secrets
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import boto3
from botocore.client import ClientCreator
from botocore.config import Config
from botocore.loaders import JSONFileLoader

from drtest.cloud.tags import CLAIMED_BY, KEY, RUN, STOPPED_BY
from drtest.cloud.targets import Target, load_targets
from drtest.drill.engine import Engine
from drtest.drill.run import Run
from drtest.drill.site import Progress, Stop
from drtest.lab.addresses import Addresses
from drtest.lab.books import Books
from drtest.lab.compute import Compute, Timings
from drtest.lab.endpoint import serve
from drtest.lab.neighbours import Neighbours
from drtest.lab.network import Network as LabNetwork
from drtest.lab.resources import Instance, Snapshot, Volume
from drtest.record.folder import Run as Record
from drtest.record.folder import RunFolder, SelectedCell
from drtest.record.results import exit_code
from drtest.record.results import read as read_results
from drtest.scenario.model import Scenario
from drtest.scenario.plan import plan, restrict
from drtest.verdict.evidence import Observation
from tests.drill.kit.disks import Machines, Manners
from tests.drill.kit.faults import Form, UnkindEndpoint, Weather
from tests.drill.kit.guests import Network
from tests.drill.kit.plain import PlainEngine
from tests.lab.api.conftest import REGION, UNVERIFIED, ZONE, stock_image

TIMINGS = Timings(
    volume=0.02,
    snapshot=0.05,
    attach=0.02,
    detach=0.02,
    stop=0.5,
    force_stop=0.1,
    terminate=0.2,
    impaired=0.3,
    probe=0.05,
    terminated=5.0,
)
"""How long things take in the lab; guests that have answered are hardly asked again: with many, that is costly."""

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
    plain = {"servers": [one], "volumes": ["root"], "deadlines": dict.fromkeys(SCENARIO["deadlines"], "60s")}
    return scenario(**{**plain, **changes})


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


@contextmanager
def open_world(folder: Path) -> Iterator[World]:
    """Open a world; its lab ends with it."""
    account, access_key = str(secrets.randbelow(9 * 10**11) + 10**11), "AKIADRTESTDRTESTDRTE"
    books = Books(folder / "books.sqlite")
    neighbours = Neighbours(books)
    machines = Machines(folder)
    compute = Compute(
        books=books, hardware=machines, network=LabNetwork(neighbours), addresses=Addresses(), timings=TIMINGS
    )
    machines.place_of = lambda instance: place_of(books.find(Instance, instance))
    image = stock_image(compute, account)
    endpoint = UnkindEndpoint(compute, neighbours=neighbours, accounts={access_key: account})
    endpoint.weather = Weather(server_of=lambda form: _server_of(form, books, neighbours, account))
    server = serve(endpoint)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.port}"
    client: Any = boto3.client(
        "ec2",
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=access_key,
        aws_secret_access_key=UNVERIFIED,
        config=Config(retries={"max_attempts": 0}),
    )
    subnets = client.describe_subnets()["Subnets"]
    subnet = next(one["SubnetId"] for one in subnets if one["AvailabilityZone"] == ZONE)
    config = _config(folder, url=url, subnet=subnet, image=image, access_key=access_key)
    yield World(
        folder=folder,
        compute=compute,
        machines=machines,
        weather=endpoint.weather,
        target=load_targets(config)["world"],
        config=config,
        image=image,
        client=client,
    )
    server.shutdown()
    server.server_close()
    thread.join(timeout=5)
    compute.work.stop()
    machines.stop()
    books.close()


def place_of(thing: Instance | Volume | Snapshot | None) -> tuple[str, str]:
    """The server that a thing is there for, and as what, by its tags."""
    tags = thing.tags if thing else {}
    words = tags.get(KEY) or tags.get(CLAIMED_BY, "").partition(" ")[2]
    return (words.split("/")[1], words.rpartition("/")[2]) if words else ("", "source")


def _server_of(form: Form, books: Books, neighbours: Neighbours, account: str) -> str:
    for name, value in form.items():
        if name.endswith(".Value") and len(value.split("/")) > 2:
            # The key of a resource that is made, or a source's mark.
            return value.split("/")[1]
        found = books.find(Instance, value) or books.find(Volume, value) or books.find(Snapshot, value)
        if found:
            return place_of(found)[0]
        if value.startswith("sg-"):
            with neighbours.ec2(account, REGION) as ec2:
                tags = {tag["key"]: tag["value"] for tag in ec2.describe_tags({"resource-id": [value]})}
            if KEY in tags:
                return str(tags[KEY].split("/")[1])
    return ""


def _config(folder: Path, *, url: str, subnet: str, image: str, access_key: str) -> Path:
    key, secret = folder / "key", folder / "secret"
    key.write_text("no key is needed here\n")
    secret.write_text(UNVERIFIED)
    file = folder / "drtest.toml"
    file.write_text(
        f"""
[targets.world]
region = "{REGION}"
subnet = "{subnet}"
endpoint_url = "{url}"
credentials = {{access_key = "{access_key}", secret_key = {{file = "{secret}"}}}}
images.linux = {{id = "{image}"}}
scratch_images.linux = {{id = "{image}"}}
helper_images.linux = {{id = "{image}"}}
poll = "50ms"
login.linux = {{key = {{file = "{key}"}}, address = "public", port = 2222}}
"""
    )
    return file


def patched(monkeypatch: Any, world: World) -> None:
    """Let drtest reach the world's guests, and let botocore wait for next to nothing between two tries."""
    monkeypatch.setattr("drtest.drill.login.connect", Network(world.machines).connect)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.001)
    # A crowd of drills shares one client: the faults of all must not use up the retries of each.
    monkeypatch.setattr("botocore.retries.quota.RetryQuota.acquire", lambda *_: True)
    # Each run makes clients of its own: what they are made of is the same each time, and takes long.
    load, make = JSONFileLoader.load_file, cast("Any", ClientCreator)._create_client_class
    files: dict[str, Any] = {}
    classes: dict[str, Any] = {}

    def load_once(self: JSONFileLoader, path: str) -> Any:
        if path not in files:
            files[path] = load(self, path)
        return files[path]

    def make_once(self: ClientCreator, name: str, model: Any) -> Any:
        if name not in classes:
            classes[name] = make(self, name, model)
        return classes[name]

    monkeypatch.setattr(JSONFileLoader, "load_file", load_once)
    monkeypatch.setattr(ClientCreator, "_create_client_class", make_once)
