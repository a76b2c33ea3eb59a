"""Cleaning: nothing that a drill created outlives it unsaid, and a stopped source is started first.

It goes on past failures: each thing is tried, and what could not be done is a leftover with its reason.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from drtest.cloud.ec2 import GONE_STATES, Ec2
from drtest.cloud.failures import explained
from drtest.cloud.guard import Permission
from drtest.cloud.resources import Instance, Snapshot, Volume
from drtest.cloud.tags import CLAIMED_BY, KEY, RUN, STOPPED_BY
from drtest.cloud.wait import CancelledError, Poller
from drtest.drill.site import Site
from drtest.errors import DeadlineError, EnvironmentFailedError

_TRIES = 3
_ONE_LOOK = 1.0
"""Seconds for one more look at a thing whose deadline is over."""


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A resource that could not be put right; kind ``source`` is one that still has to be started."""

    kind: str
    id: str
    run: str
    key: str
    reason: str


def clean(*, site: Site) -> tuple[Leftover, ...]:
    """Put everything right that this drill changed, in reverse order; safe to repeat.

    Returns:
        What could not be put right.
    """
    site.stage("clean")
    leftovers = broom(site, key="").sweep()
    site.stage("cleaned", f"{len(leftovers)} left over" if leftovers else "")
    return leftovers


def broom(site: Site, *, key: str) -> "Broom":
    """A broom for what this drill created under a key; all of it where the key is empty."""
    return Broom(
        ec2=site.ec2,
        poller=site.cleaner,
        run=site.run,
        prefix=site.ownership(key, purpose="").key,
        deadline=site.scenario.deadlines.clean,
        start_deadline=site.scenario.deadlines.launch,
        deleted=site.deleted,
        known=None if key else partial(_open, site),
    )


def _open(site: Site, kind: str) -> list[str]:
    """The ids of a kind that the ledger has open, the last first."""
    ledger = site.folder.ledger.open_resources()
    return [each.id for each in reversed(ledger) if (each.kind, each.server) == (kind, site.server)]


@dataclass(kw_only=True)
class Broom:
    """Deletes what carries a run's tags.

    Attributes:
        ec2: with a guard before it that owns what is found here.
        poller: waits for what is deleted.
        run: the run's id.
        prefix: only what has a key that begins with it.
        deadline: seconds for each kind of resource to be gone.
        start_deadline: seconds for a source to be running again.
        deleted: told of everything that is gone.
        known: gives the ids of a kind that are known without the API, which may not list them: not yet, or not at all.
    """

    ec2: Ec2
    poller: Poller
    run: str
    prefix: str = ""
    deadline: float
    start_deadline: float
    deleted: Callable[[str], None] = lambda _: None
    known: Callable[[str], Sequence[str]] | None = None

    def sweep(self) -> tuple[Leftover, ...]:
        """Start what was stopped, then delete instances, volumes, snapshots and security groups."""
        leftovers: list[Leftover] = []
        leftovers += self._each("source", self._sources, self._start_again, self._wait_running)
        leftovers += self._each("instance", self._instances, self._terminate, self._wait_terminated)
        leftovers += self._each("volume", self._volumes, self._delete_volume, self._wait_deleted)
        leftovers += self._each("snapshot", self._snapshots, self._delete_snapshot, None)
        leftovers += self._each("security-group", self._groups, self._delete_group, None)
        unstarted = {left.id for left in leftovers if left.kind == "source"}
        # A source that does not run is still this run's to put right.
        leftovers += self._each("claim", self._claims, self._release, None, but=unstarted)
        return tuple(leftovers)

    def start_sources(self) -> None:
        """Start the stopped sources, and nothing else.

        Raises:
            EnvironmentFailedError: one does not run again.
        """
        _must(self._each("source", self._sources, self._start_again, self._wait_running), run=self.run)

    def found(self) -> tuple[Leftover, ...]:
        """What a sweep would put right."""
        kinds = (
            ("source", self._sources()),
            ("instance", self._instances()),
            ("volume", self._volumes()),
            ("snapshot", self._snapshots()),
            ("security-group", self._groups()),
            ("claim", self._claims()),
        )
        return tuple(
            Leftover(kind=kind, id=id_, run=self.run, key=key, reason="")
            for kind, items in kinds
            for id_, key in items
        )

    def drop(self, kind: type[Volume] | type[Snapshot]) -> None:
        """Delete only the volumes or only the snapshots under the prefix: what a repeated step begins with.

        Raises:
            DrtestError: one could not be deleted.
        """
        if kind is Volume:
            left = self._each("volume", self._volumes, self._delete_volume, self._wait_deleted)
        else:
            left = self._each("snapshot", self._snapshots, self._delete_snapshot, None)
        _must(left, run=self.run)

    # What there is

    def _mine(self, items: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        return [(id_, key) for id_, key in items if key.startswith(self.prefix)]

    def _sources(self) -> list[tuple[str, str]]:
        return self._marked(STOPPED_BY)

    def _claims(self) -> list[tuple[str, str]]:
        return self._marked(CLAIMED_BY)

    def _marked(self, tag: str) -> list[tuple[str, str]]:
        """Sources that are not ours: the run and its key are in the mark's value."""
        marks = [(item.id, item.tags[tag].partition(" ")) for item in self.ec2.tagged({tag: ""})]
        return self._mine((id_, key) for id_, (run, _, key) in marks if run == self.run)

    def _instances(self) -> list[tuple[str, str]]:
        return self._owned(Instance, but="terminated")

    def _volumes(self) -> list[tuple[str, str]]:
        return self._owned(Volume, but="deleted")

    def _snapshots(self) -> list[tuple[str, str]]:
        return self._owned(Snapshot)

    def _owned(self, kind: type[Any], *, but: str = "") -> list[tuple[str, str]]:
        # By its prefix at the API already: a run of many drills has many resources.
        found = self.ec2.owned(kind, run=self.run, key=f"{self.prefix}*" if self.prefix else None)
        return self._mine((item.id, item.tags.get(KEY, "")) for item in found if item.state != but)

    def _groups(self) -> list[tuple[str, str]]:
        return self._mine(
            (id_, tags.get(KEY, "")) for id_, tags in self.ec2.security_groups(run=self.run).items()
        )

    # What is done to each

    def _each(
        self,
        kind: str,
        list_: Callable[[], Sequence[tuple[str, str]]],
        act: Callable[[str], None],
        wait: Callable[[Sequence[str], float], None] | None,
        *,
        but: Collection[str] = (),
    ) -> list[Leftover]:
        items = [(id_, key) for id_, key in self._listed(kind, list_) if id_ not in but]
        reasons: dict[str, str] = {}
        for id_, _ in items:
            self._allow(kind, id_)
            reasons[id_] = _tried(lambda id_=id_: act(id_))  # type: ignore[misc]
        done = [id_ for id_, reason in reasons.items() if not reason]
        if wait is not None and done:
            failure = _tried(lambda: wait(done, self._deadline_of(kind)))
            for id_ in done if failure else ():
                # One that hangs must not condemn the others: each is looked at once more by itself.
                reasons[id_] = _tried(lambda id_=id_: wait([id_], _ONE_LOOK)) and failure  # type: ignore[misc]
        for id_ in done:
            # A source is in the ledger until it is released.
            if not reasons[id_] and kind != "source":
                # Where the disk of the ledger is full, the rest is cleaned up all the same.
                _tried(lambda id_=id_: self.deleted(id_))  # type: ignore[misc]
        return [
            Leftover(kind=kind, id=id_, run=self.run, key=key, reason=reasons[id_])
            for id_, key in items
            if reasons[id_]
        ]

    def _listed(self, kind: str, list_: Callable[[], Sequence[tuple[str, str]]]) -> Sequence[tuple[str, str]]:
        """What there is of a kind: by its tags, and what is known without the API.

        Raises:
            EnvironmentFailedError: the API does not list it, and nothing else knows of it.
        """
        known = [] if self.known is None else self.known("source" if kind == "claim" else kind)
        found: dict[str, str] = {}
        failure = _tried(lambda: found.update(list_()))
        if failure and self.known is None:
            raise EnvironmentFailedError(f"What there is of kind {kind} could not be listed: {failure}")
        return tuple({**dict.fromkeys(known, ""), **found}.items())

    def _deadline_of(self, kind: str) -> float:
        return self.start_deadline if kind == "source" else self.deadline

    def _allow(self, kind: str, id_: str) -> None:
        if kind in ("source", "claim"):
            marks = frozenset({STOPPED_BY, CLAIMED_BY})
            self.ec2.guard.permit(Permission(operation="StartInstances", resource=id_))
            self.ec2.guard.permit(Permission(operation="DeleteTags", resource=id_, tags=marks))
        else:
            self.ec2.guard.own(id_)

    def _release(self, instance: str) -> None:
        seen = self.ec2.describe(Instance, [instance]).get(instance)
        mark = seen.tags.get(CLAIMED_BY, "") if seen else ""
        # By its value: a claim that another run has set meanwhile is not ours to take away.
        if mark.partition(" ")[0] == self.run:
            self.ec2.untag(instance, {CLAIMED_BY: mark})

    def _start_again(self, instance: str) -> None:
        seen = self.ec2.describe(Instance, [instance]).get(instance)
        if seen is None or seen.tags.get(STOPPED_BY, "").partition(" ")[0] != self.run:
            # Not stopped by this run: whoever did it may have meant it.
            return
        if seen.state == "stopping":
            self.poller.until(
                Instance,
                [instance],
                ready=lambda item: item.state == "stopped",
                deadline=self.start_deadline,
                what="the source to be stopped",
            )
        if seen.state in ("stopping", "stopped"):
            self.ec2.client.start_instances(InstanceIds=[instance])

    def _wait_running(self, instances: Sequence[str], deadline: float) -> None:
        seen = self.ec2.describe(Instance, list(instances))
        marked = [
            id_ for id_, item in seen.items() if item.tags.get(STOPPED_BY, "").startswith(f"{self.run} ")
        ]
        running = self.poller.until(
            Instance,
            marked,
            ready=lambda item: item.state in ("running", *GONE_STATES),
            deadline=deadline,
            what="the source to run again",
        )
        for id_, item in running.items():
            self.ec2.untag(id_, {STOPPED_BY: item.tags[STOPPED_BY]})

    def _terminate(self, instance: str) -> None:
        self.ec2.terminate(instance)

    def _wait_terminated(self, instances: Sequence[str], deadline: float) -> None:
        self.poller.until_gone(Instance, instances, deadline=deadline, what="the instances to be terminated")

    def _delete_volume(self, volume: str) -> None:
        self.ec2.delete_volume(volume)

    def _wait_deleted(self, volumes: Sequence[str], deadline: float) -> None:
        self.poller.until_gone(Volume, volumes, deadline=deadline, what="the volumes to be deleted")

    def _delete_snapshot(self, snapshot: str) -> None:
        self.ec2.delete_snapshot(snapshot)

    def _delete_group(self, group: str) -> None:
        self.ec2.delete_security_group(group)


def runs_left(ec2: Ec2) -> tuple[str, ...]:
    """The ids of all runs of which something is left, oldest first."""
    tags = [item.tags for item in ec2.owned(Instance) if item.state != "terminated"]
    tags += [item.tags for item in ec2.owned(Volume)]
    tags += [item.tags for item in ec2.owned(Snapshot)]
    tags += list(ec2.security_groups().values())
    runs = {each[RUN] for each in tags}
    for mark in (STOPPED_BY, CLAIMED_BY):
        runs |= {item.tags[mark].split(" ")[0] for item in ec2.tagged({mark: ""})}
    return tuple(sorted(runs))


def _must(left: Sequence[Leftover], *, run: str) -> None:
    if left:
        raise EnvironmentFailedError(
            f"Could not put right {', '.join(f'{each.kind} {each.id} ({each.reason})' for each in left)}.",
            remedy=f"`drtest sweep --target NAME --run {run} --yes` tries again.",
        )


def _tried(act: Callable[[], object]) -> str:
    """Why it could not be done, after a few tries; empty when it was."""
    failure = ""
    for _ in range(_TRIES):
        try:
            act()
        except (DeadlineError, CancelledError) as error:
            # Waiting as long again would gain nothing.
            return str(error)
        except Exception as error:
            failure = str(explained(error) or error)
        else:
            return ""
    return failure
