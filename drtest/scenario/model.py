"""The scenario: what a drill is to prove, as typed, frozen values."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)

from drtest.scenario import units
from drtest.scenario.values import (
    DataName,
    Deadline,
    Goal,
    Name,
    PerSecond,
    Seconds,
    Text,
    VolumeSize,
    between,
    mistake,
)
from drtest.words import ROOT, SET, UNUSABLE, USABLE, Capture, Filesystem, Os, Verdict

MOST_TRIALS = 100
MOST_SERVERS = 100
MOST_EXPECTATIONS = 200
Check = Literal["boot", "filesystem", "canary", "events"]
ExpectedWord = Literal["usable", "unusable", "CONSISTENT", "RECOVERED", "INCONSISTENT", "UNBOOTABLE"]

_UNIQUE: dict[str, Any] = {"uniqueItems": True}


def _either(*keys: str) -> ConfigDict:
    return ConfigDict(json_schema_extra={"oneOf": [{"required": [key]} for key in keys]})


class Part(BaseModel):
    """A part of a scenario file: frozen, and without room for keys that nobody knows."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_alias=True, validate_by_name=True, serialize_by_alias=True
    )


class DataVolume(Part):
    """A data volume that is made for a launched server."""

    size: VolumeSize = Field(description="Whole GiB, as 1GiB.")
    filesystem: Filesystem = Field(
        default=Filesystem.EXT4, description="What it is formatted with; ntfs on Windows, else ext4."
    )
    mount: StrictStr = Field(
        default="", description="Where it is mounted; /mnt/<name> on Linux, the next free letter on Windows."
    )


class Launch(Part):
    """A server that is launched for the drill, and is gone after it."""

    image: Text = Field(description="Name of an image in the target (drtest.toml; the lab has its own).")
    instance_type: Text | None = Field(default=None, description="EC2 instance type; else the target's.")
    volumes: Mapping[DataName, DataVolume] = Field(default={}, description="Data volumes by name.")


class Existing(Part):
    """Which of a selected server's data volumes a name stands for."""

    device: Text = Field(description="Its device name in EC2, as /dev/sdf.")


class Select(Part):
    """A server that exists already, found by its id or by its tags; exactly one of the two."""

    model_config = _either("instance_id", "tags")

    instance_id: StrictStr | None = Field(
        default=None, pattern=r"^i-([0-9a-f]{8}|[0-9a-f]{17})$", description="As i-0123456789abcdef0."
    )
    tags: Mapping[StrictStr, StrictStr] | None = Field(
        default=None, min_length=1, description="Tags that exactly one instance has, as {Name: web-1}."
    )
    volumes: Mapping[DataName, Existing] = Field(default={}, description="Names for its data volumes.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.instance_id is None) == (self.tags is None):
            raise mistake("needs either instance_id or tags; write {tags: {Name: web-1}}")
        return self


class Server(Part):
    """A server whose backup is to be proven: launched for the drill, or one that exists."""

    model_config = _either("launch", "select")

    name: Name
    os: Os
    launch: Launch | None = Field(default=None, description="Launch a new server for the drill.")
    select: Select | None = Field(default=None, description="Prove the backup of a server that exists.")
    may_stop: StrictBool = Field(
        default=False, description="A selected server may be stopped (and is started again)."
    )
    may_write: StrictBool = Field(
        default=False, description="A canary may be written to a selected server's volumes."
    )

    @property
    def data_volumes(self) -> tuple[str, ...]:
        """Names of its data volumes, in the order of the file."""
        named: Mapping[str, Any] = self.launch.volumes if self.launch else {}
        return tuple(self.select.volumes if self.select else named)

    @property
    def volume_names(self) -> tuple[str, ...]:
        """``root``, then the data volumes in the order of the file."""
        return (ROOT, *self.data_volumes)

    @model_validator(mode="before")
    @classmethod
    def _what_follows(cls, data: Any) -> Any:
        """Fills in what follows from the rest: a launched server is ours, its volumes have a mount."""
        if not isinstance(data, Mapping) or data.get("launch") is None:
            return data
        filled = {"may_stop": True, "may_write": True, **data}
        volumes = getattr(data["launch"], "volumes", None)
        if isinstance(data["launch"], Mapping):
            volumes = data["launch"].get("volumes")
        if not isinstance(volumes, Mapping) or not volumes:
            return filled
        launch = data["launch"] if isinstance(data["launch"], Mapping) else dict(data["launch"])
        return {
            **filled,
            "launch": {
                **launch,
                "volumes": {
                    name: _volume_defaults(volume, name=name, os=data.get("os"))
                    for name, volume in volumes.items()
                },
            },
        }

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.launch is None) == (self.select is None):
            raise mistake(
                f"server {self.name} needs either launch (a new server) or select (one that exists); "
                "write launch: {image: linux} or select: {tags: {Name: web-1}}"
            )
        return self


def _volume_defaults(volume: Any, *, name: Any, os: Any) -> Any:
    follows: dict[str, Any] = {"filesystem": Filesystem.NTFS} if os == Os.WINDOWS else {}
    if os == Os.LINUX:
        follows["mount"] = f"/mnt/{name}"
    if isinstance(volume, DataVolume):
        left_out = {key: value for key, value in follows.items() if key not in volume.model_fields_set}
        return volume.model_copy(update=left_out)
    return {**follows, **volume} if isinstance(volume, Mapping) else volume


class CanaryLoad(Part):
    """Numbered records, each flushed to its volume and acknowledged to the runner."""

    rate: Annotated[PerSecond, between(0.1, 10_000, units.rate_text)] = Field(
        description="Records per second over all volumes of a server, as 50/s."
    )


class Load(Part):
    """What is written to a server's volumes while it is captured."""

    canary: CanaryLoad
    for_: Annotated[Seconds, between(1, 86400, units.duration_text)] = Field(
        alias="for", description="How long it runs before the capture, as 10s."
    )

    @property
    def deadline(self) -> float:
        """Seconds after which a load is given up: a slow disk takes longer for the same records."""
        return self.for_ * 10 + 60


class Expectation(Part):
    """What cells are expected to come to; a key that is left out matches all. The first match wins."""

    server: StrictStr | None = None
    volume: StrictStr | None = None
    capture: Capture | None = None
    trial: Annotated[StrictInt, Field(ge=1)] | None = None
    verdict: ExpectedWord

    _line: int | None = PrivateAttr(default=None)

    @property
    def line(self) -> int | None:
        """The line of the scenario file that says so; None where it came from elsewhere."""
        return self._line

    @property
    def verdicts(self) -> frozenset[Verdict]:
        """The verdicts that meet it."""
        groups = {"usable": USABLE, "unusable": UNUSABLE}
        return groups.get(self.verdict) or frozenset({Verdict(self.verdict)})

    def at(self, line: int) -> Self:
        """The same expectation, which knows its line in the scenario file."""
        known = self.model_copy()
        known._line = line
        return known

    def matches(self, *, server: str, volume: str, capture: Capture, trial: int) -> bool:
        """Whether it speaks of this cell."""
        return (
            self.server in (None, server)
            and self.volume in (None, volume)
            and self.capture in (None, capture)
            and self.trial in (None, trial)
        )


class Objectives(Part):
    """What recovery has to meet, in seconds."""

    rto: Goal | None = Field(default=None, description="Recovery time objective, as 30m.")
    rpo: Goal | None = Field(default=None, description="Recovery point objective, as 24h.")


class Deadlines(Part):
    """How long each wait may last, in seconds, before the drill gives up on it."""

    launch: Deadline = Field(default=900.0, description="A server, helper or scratch instance is running.")
    prepare: Deadline = Field(default=600.0, description="A new server answers and its volumes are made.")
    snapshot: Deadline = Field(default=14400.0, description="A snapshot is completed.")
    volume: Deadline = Field(default=900.0, description="A volume made from a snapshot is available.")
    attach: Deadline = Field(default=300.0, description="A volume is attached, or detached.")
    stop: Deadline = Field(default=900.0, description="An instance is stopped.")
    boot: Deadline = Field(default=900.0, description="A restored server answers after its start.")
    status: Deadline = Field(default=300.0, description="EC2's status checks speak of a booted server.")
    checks: Deadline = Field(default=900.0, description="All checks of one guest are done.")
    clean: Deadline = Field(default=900.0, description="An instance or volume is gone at cleanup.")


class Scenario(Part):
    """One scenario file: servers, captures, checks, expectations, objectives."""

    drill: Name = Field(description="The scenario's name, as in windows-root-volume.")
    title: Text = Field(description="The question that it answers, as the report's headline.")
    description: StrictStr = Field(default="", description="More of it, for the report.")
    target: Text | None = Field(
        default=None,
        description="Where it runs when the command line names no target: lab, or a name from drtest.toml.",
    )
    servers: tuple[Server, ...] = Field(min_length=1, max_length=MOST_SERVERS)
    load: Load | None = Field(default=None, description="What is written while servers are captured.")
    captures: tuple[Capture, ...] = Field(
        min_length=1, json_schema_extra=_UNIQUE, description="How recovery points are made."
    )
    volumes: tuple[StrictStr, ...] = Field(
        default=(),
        json_schema_extra=_UNIQUE,
        description="Which volumes are judged: root, data volumes by name, and set (all volumes "
        "of a server together); left out: root and all data volumes.",
    )
    trials: Annotated[StrictInt, Field(ge=1, le=MOST_TRIALS)] = Field(
        default=1, description="How often each cell is repeated."
    )
    checks: tuple[Check, ...] = Field(
        default=("boot", "filesystem", "canary"), min_length=1, json_schema_extra=_UNIQUE
    )
    expect: tuple[Expectation, ...] = Field(
        default=(), max_length=MOST_EXPECTATIONS, description="The first match wins; else usable."
    )
    objectives: Objectives | None = None
    deadlines: Deadlines = Field(default=Deadlines())

    def volumes_of(self, server: Server) -> tuple[str, ...]:
        """The volumes of a server that get a cell, in the order of the scenario."""
        return judged_volumes(server, self.volumes)


def judged_volumes(server: Server, volumes: Sequence[str | None]) -> tuple[str, ...]:
    """The volumes of a server that get a cell.

    ``set`` is one only where there is more than one volume: a set of one has no order across volumes.

    Args:
        server: the server.
        volumes: the scenario's ``volumes``; empty for root and all data volumes.
    """
    has = server.volume_names
    if not volumes:
        return has
    together = (SET,) if len(has) > 1 else ()
    return tuple(name for name in volumes if name in (*has, *together) and name is not None)
