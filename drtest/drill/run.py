"""One run: the drills of its scenarios on one target, from the plans to the results."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from drtest.cloud.ec2 import Created, Ec2
from drtest.cloud.failures import explained
from drtest.cloud.guard import Guard
from drtest.cloud.images import Images
from drtest.cloud.session import connect
from drtest.cloud.targets import Target
from drtest.cloud.wait import Poller
from drtest.drill.engine import Engine
from drtest.drill.liveness import alive
from drtest.drill.procedure import Outcome, drill
from drtest.drill.site import SOURCE, Progress, Site, Stop
from drtest.guest.winrm_auth import require
from drtest.record.folder import RunFolder
from drtest.record.ledger import Resource
from drtest.record.results import results, write
from drtest.scenario.plan import Cell, DrillPlan, Plan
from drtest.verdict.evidence import Copy, Judgement
from drtest.verdict.judge import judge, not_judged
from drtest.words import Capture, Os


class Run:
    """Runs drills and judges their cells; a context, at whose end all is clean or said.

    Args:
        plans: what is run.
        target: where.
        folder: what the run leaves; on resume it holds what was left.
        tell: told of progress, from many threads.
        judged: told of each verdict as soon as it is known, from many threads.
        stop: how it is stopped.
        engine: runs the drills; tests have one that remembers nothing.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        *,
        target: Target,
        folder: RunFolder,
        tell: Callable[[Progress], None],
        judged: Callable[[Cell, Judgement], None],
        stop: Stop,
        engine: Callable[..., Engine] = Engine,
    ) -> None:
        self._make_engine = engine
        self.plans, self.target, self.folder, self.stop = tuple(plans), target, folder, stop
        self._tell, self._judged = tell, judged
        self._judging = threading.Lock()
        self._started = folder.run.started
        self._drills = {f"{one.scenario}/{one.server.name}": one for plan in plans for one in plan.drills}
        self._settled = {
            (one.scenario, one.server.name, *point): threading.Event()
            for one in self._drills.values()
            for point in one.points
        }
        self._judgements: dict[tuple[str, str], Judgement] = {}
        self._engine: Engine | None = None
        self._open = ExitStack()

    def __enter__(self) -> "Run":
        clients = connect(self.target)
        guard = Guard(run=self.folder.run.run)
        guard.own(*(each.id for each in self.folder.ledger.resources() if each.kind != SOURCE))
        guard.watch(clients.session.events)
        guard.watch(clients.ec2.meta.events)
        guard.watch(clients.unretried.meta.events)
        ec2 = Ec2(clients.ec2, unretried=clients.unretried, guard=guard, on_created=self._created)
        systems = {one.server.os for one in self._drills.values()}
        key_file = self.target.login_key_file(clients.session) if Os.LINUX in systems else Path()
        secrets = self.target.login_secrets(clients.session) if Os.WINDOWS in systems else {}
        if any(one.server.os is Os.WINDOWS and one.server.launch is None for one in self._drills.values()):
            require(self.target.login_windows.auth)
        poller = Poller(ec2, interval=self.target.poll_seconds, cancelled=self.stop.asked.is_set)
        cleaner = Poller(ec2, interval=self.target.poll_seconds, cancelled=self.stop.insisted.is_set)
        images = Images(self.target, ec2=ec2, clients=clients)
        try:
            self._note_images(images)
        except Exception as error:
            raise explained(error) or error from None
        scenarios = {plan.scenario.drill: plan.scenario for plan in self.plans}
        procedures = {
            name: partial(
                self._drill,
                one,
                Site(
                    run=self.folder.run.run,
                    scenario=scenarios[one.scenario],
                    server=one.server.name,
                    target=self.target,
                    ec2=ec2,
                    poller=poller,
                    cleaner=cleaner,
                    images=images,
                    key_file=key_file,
                    secrets=secrets,
                    folder=self.folder,
                    stop=self.stop,
                    tell=self._tell,
                    settled=partial(self._settle, one),
                ),
            )
            for name, one in self._drills.items()
        }
        self._engine = self._make_engine(
            self.folder.state,
            run=self.folder.run.run,
            drills=procedures,
            concurrency=self.target.limits.drills,
        )
        self._open.enter_context(alive(self.folder.run.run))
        self._open.enter_context(self._engine)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop what still runs and wait for its clean-up; then write the results."""
        del error, trace
        engine = self._engine
        if engine is None:
            return
        if not engine.wait(deadline=0):
            self.stop.asked.set()
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        while not self.stop.insisted.is_set():
            try:
                if engine.wait(deadline=0.5):
                    break
            except KeyboardInterrupt:
                # The first one may well come while all is being cleaned up in any case; the second leaves.
                if interrupted:
                    self.stop.insisted.set()
                interrupted = True
        if engine.wait(deadline=0):
            self._open.close()
        else:
            # Its threads are still at work on what can't be hurried; they end with the process, as in a kill -9.
            self._open.pop_all()
        outcomes = engine.outcomes()
        self._engine = None
        self._finish(outcomes)

    def judgement(self, cell: Cell) -> Judgement:
        """Wait until all that can be known of a cell is known, and judge it.

        There is no deadline of its own: every wait of its drill has one.
        """
        event = self._settled[cell.scenario, cell.server, cell.capture, cell.trial]
        while not event.wait(0.2) and not self._ended(cell) and not self.stop.insisted.is_set():
            pass
        return self._known(cell)

    def _known(self, cell: Cell) -> Judgement:
        with self._judging:
            known = self._judgements.get((cell.scenario, cell.id))
            if known is None:
                known = self._judgements[cell.scenario, cell.id] = self._judge(cell)
                self._judged(cell, known)
            return known

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        """The judgements so far."""
        return tuple(self._judgements.values())

    def _ended(self, cell: Cell) -> bool:
        return self._engine is None or self._engine.finished(f"{cell.scenario}/{cell.server}")

    def _judge(self, cell: Cell) -> Judgement:
        plan = next(plan for plan in self.plans if plan.scenario.drill == cell.scenario)
        one = self._drills[f"{cell.scenario}/{cell.server}"]
        if (
            self.stop.asked.is_set()
            and not self._settled[cell.scenario, cell.server, cell.capture, cell.trial].is_set()
        ):
            return not_judged(cell, reason="The run was stopped before this cell was proven.")
        return judge(
            cell,
            [seen for seen in self.folder.journal.observations() if seen.server == cell.server],
            volumes=one.server.volume_names,
            checks=plan.scenario.checks,
            loaded=plan.scenario.load is not None,
            objectives=plan.scenario.objectives,
            started=self._started,
        )

    def _drill(self, one: DrillPlan, site: Site, step: Any) -> Any:
        from pydantic import TypeAdapter

        try:
            outcome = drill(one, site=site, step=step)
        except Exception as error:
            # Its steps tell of their own failures: this is one of the procedure itself.
            site.observe(
                "skipped",
                {
                    "check": "drill",
                    "stage": "",
                    "error": str(explained(error) or error),
                    "unreachable": False,
                },
                copy=Copy.RUNNER,
                command="the drill",
            )
            raise
        return TypeAdapter(Outcome).dump_python(outcome, mode="json")

    def _settle(self, one: DrillPlan, capture: Capture, trial: int) -> None:
        self._settled[one.scenario, one.server.name, capture, trial].set()
        for cell in one.cells:
            if (cell.capture, cell.trial) == (capture, trial):
                self._known(cell)

    def _created(self, created: Created) -> None:
        known = {resource.id for resource in self.folder.ledger.resources()}
        if created.id in known:
            return
        self.folder.ledger.created(
            Resource(
                kind=created.kind,
                id=created.id,
                region=self.target.region,
                purpose=created.ownership.purpose,
                server=created.ownership.key.split("/")[1],
                at=datetime.now(UTC),
            )
        )

    def _note_images(self, images: Images) -> None:
        servers = [one.server for one in self._drills.values()]
        notices = tuple(dict.fromkeys(note for server in servers for note in images.notices(server)))
        self.folder.update(notices=tuple(dict.fromkeys((*self.folder.run.notices, *notices))))

    def _finish(self, outcomes: Mapping[str, Any]) -> None:
        for plan in self.plans:
            for cell in plan.cells:
                self.judgement(cell)
        ended = datetime.now(UTC)
        self.folder.update(ended=ended)
        write(
            results(
                self.folder.run,
                plans=self.plans,
                judgements=list(self._judgements.values()),
                ended=ended,
                leftovers=self._leftovers(outcomes),
            ),
            self.folder.results,
        )

    def _leftovers(self, outcomes: Mapping[str, Any]) -> tuple[Resource, ...]:
        """What the ledger has open, and what a drill found besides: by a tag alone."""
        known = self.folder.ledger.open_resources()
        found = [(name, left) for name, outcome in outcomes.items() for left in outcome.get("leftovers", ())]
        return known + tuple(
            Resource(
                kind=left["kind"],
                id=left["id"],
                region=self.target.region,
                purpose=left["reason"],
                server=self._drills[name].server.name,
                at=datetime.now(UTC),
            )
            for name, left in found
            if left["id"] not in {resource.id for resource in known}
        )
