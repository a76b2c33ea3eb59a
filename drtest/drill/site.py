"""The site: what every step of a drill works with, and the one place where evidence is written down."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drtest.cloud.ec2 import Ec2
from drtest.cloud.images import Images
from drtest.cloud.logins import Secrets, WinrmLogin
from drtest.cloud.tags import Ownership
from drtest.cloud.targets import Target
from drtest.cloud.wait import Poller
from drtest.drill.points import Point
from drtest.record.folder import RunFolder
from drtest.record.ledger import Resource
from drtest.scenario.model import Scenario, Server
from drtest.verdict.evidence import Copy, Observation
from drtest.words import Capture, Os

SOURCE = "source"
"""The ledger's word for a source that is not the run's: it is never deleted."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One line of a run's progress: which drill is at what."""

    scenario: str
    server: str
    stage: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """How a run is stopped: once, and it cleans up; twice, and it leaves at once and says what stays."""

    asked: threading.Event = field(default_factory=threading.Event)
    insisted: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, kw_only=True)
class Site:
    """One drill's place of work.

    Attributes:
        run: the run's id.
        scenario: what is proven.
        server: the server's name.
        target: where it runs.
        ec2: the cloud.
        poller: waits for it; gives up when the run is stopped.
        cleaner: waits for it while cleaning up; gives up when stopping was insisted on.
        images: the AMIs that the target names.
        key_file: of the login to Linux servers.
        secrets: of the logins to Windows servers.
        folder: what the run leaves.
        stop: how the run is stopped.
        tell: told of progress.
        settled: told of each recovery point about which all that can be known is in the evidence.
    """

    run: str
    scenario: Scenario
    server: str
    target: Target
    ec2: Ec2
    poller: Poller
    cleaner: Poller
    images: Images
    key_file: Path
    secrets: Mapping[WinrmLogin, Secrets]
    folder: RunFolder
    stop: Stop
    tell: Callable[[Progress], None]
    settled: Callable[[Capture, int], None]

    @property
    def plan_of_server(self) -> Server:
        """What the scenario says of this drill's server."""
        return next(server for server in self.scenario.servers if server.name == self.server)

    @property
    def os(self) -> Os:
        """The operating system of its server, and so of all its guests: no Linux volume goes to a Windows helper."""
        return self.plan_of_server.os

    def ownership(self, key: str, *, purpose: str) -> Ownership:
        """The ownership of a resource of this drill; ``key`` without the drill's name."""
        return Ownership(run=self.run, key=f"{self.scenario.drill}/{self.server}/{key}", purpose=purpose)

    def borrowed(self, instance: str) -> None:
        """Note in the ledger that a source that is not ours has to be put right at the end."""
        self.folder.ledger.created(
            Resource(
                kind=SOURCE,
                id=instance,
                region=self.target.region,
                purpose="the source: to run again, and to be released",
                server=self.server,
                at=datetime.now(UTC),
            )
        )

    def deleted(self, resource: str) -> None:
        """Note in the ledger that a resource is gone, or a source put right."""
        self.folder.ledger.deleted(resource, at=datetime.now(UTC))

    def stage(self, stage: str, detail: str = "") -> None:
        """Say what the drill is at."""
        self.tell(Progress(scenario=self.scenario.drill, server=self.server, stage=stage, detail=detail))

    def observe(
        self,
        probe: str,
        data: Mapping[str, Any],
        *,
        copy: Copy,
        command: str,
        point: Point | None = None,
        volume: str | None = None,
        at: datetime | None = None,
    ) -> Observation:
        """Write an observation into the evidence, before anything is made of it."""
        return self.folder.journal.append(
            Observation(
                probe=probe,
                server=self.server,
                copy=copy,
                at=at or datetime.now(UTC),
                command=command,
                data=data,
                capture=point.capture if point else None,
                trial=point.trial if point else None,
                attempt=point.attempt if point else "",
                volume=volume,
            )
        )
