"""Load and capture: the canary writes, and all volumes of the source are snapshot at one moment.

This is one step: an open stream of acknowledgements can't be resumed, so a repeated step drops the half-made
snapshots and makes the recovery point anew.
"""

import secrets
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from drtest.cloud.failures import explained, in_doubt, permanent
from drtest.cloud.resources import Instance, Snapshot
from drtest.cloud.tags import STOPPED_BY, Ownership
from drtest.cloud.wait import CancelledError
from drtest.drill.cleanup import broom
from drtest.drill.guests import programs
from drtest.drill.login import login
from drtest.drill.points import Point, Source
from drtest.drill.preflight import allow, still_claimed
from drtest.drill.site import Site
from drtest.errors import EnvironmentFailedError
from drtest.guest import canary
from drtest.verdict.evidence import Copy, Observation
from drtest.words import Capture

_TRIES = 6
_LOOKS = 6
"""How often snapshots whose making is in doubt are looked for: over five of the target's `poll`s."""
_LONGEST_PAUSE = 30.0
"""Seconds between two requests for snapshots: all tries together stay well below what a load has to spare."""

_SPARE = 600.0
"""Seconds that a load may run beyond its time, while the capture is being made."""


def load_and_capture(source: Source, *, wanted: Point, site: Site) -> Point:
    """Make one recovery point.

    Returns:
        The point, its snapshots completed.

    Raises:
        DrtestError: it could not be made; what was half-made stays tagged, for the clean-up.
    """
    point = replace(wanted, attempt=secrets.token_hex(4))
    if not source.ours:
        server = site.plan_of_server
        allow(source.instance, server=server, stops=point.capture is Capture.STOPPED, site=site)
        still_claimed(source.instance, server=server, site=site)
    site.stage("capture", f"{point.name}: drop what an earlier try left")
    broom(site, key=f"{point.key}/").drop(Snapshot)
    _running(source, site=site)
    stops = point.capture is Capture.STOPPED and not source.ours
    try:
        point, seen = _loaded(source, point=point, site=site)
    except Exception:
        # The clean-up tries again, and tells; what failed first has to be told here.
        with suppress(Exception):
            _up_again(point, stops=stops, site=site)
        raise
    # The point in time is that of the request (EBS User Guide, "Create EBS snapshots"): nobody stays down for the rest.
    _up_again(point, stops=stops, site=site)
    site.stage("capture", f"{point.name}: wait for the snapshots to complete")
    site.poller.until(
        Snapshot,
        list(point.snapshots.values()),
        ready=_completed,
        deadline=site.scenario.deadlines.snapshot,
        what=f"the snapshots of {site.server} to complete",
    )
    site.observe(
        "capture", {**seen.data, "completed": True}, copy=Copy.CLOUD, command=seen.command, point=point
    )
    return point


def _up_again(point: Point, *, stops: bool, site: Site) -> None:
    if stops:
        site.stage("capture", f"{point.name}: start the source again")
        broom(site, key="").start_sources()


def most_seconds(*, site: Site) -> float:
    """The longest that one load can write, in seconds: what the canary's files have room for."""
    load = site.scenario.load
    return (load.for_ if load else 0.0) + _SPARE


def _running(source: Source, *, site: Site) -> None:
    """Start the source if an earlier capture left it stopped."""
    if _alive(site.ec2.instance(source.instance)).state == "running":
        return
    site.stage("capture", "start the source")
    site.poller.until(
        Instance,
        [source.instance],
        ready=lambda item: _alive(item).state in ("stopped", "running"),
        deadline=site.scenario.deadlines.stop,
        what="the source to be stopped or running",
    )
    site.ec2.client.start_instances(InstanceIds=[source.instance])
    site.poller.until(
        Instance,
        [source.instance],
        ready=lambda item: _alive(item).state == "running",
        deadline=site.scenario.deadlines.launch,
        what="the source to run again",
    )


def _loaded(source: Source, *, point: Point, site: Site) -> tuple[Point, Observation]:
    load = site.scenario.load
    if load is None or not source.places:
        if point.capture is Capture.STOPPED:
            _stop(source, site=site)
        return _snapshot(source, point=point, site=site)
    point = replace(point, series=canary.new_series())
    log_name = f"acks/{site.server}-{point.capture}-{point.trial}-{point.attempt}.jsonl"
    names = list(source.places)
    # Each volume gets its share of one sequence.
    wanted = max(1, int(load.canary.rate * load.for_ / len(names)))
    seconds = most_seconds(site=site)
    site.stage("load", f"{point.name}: {load.canary.rate:g} records a second for {load.for_:g} s")
    with (
        login(
            source.instance,
            known=source.host_keys,
            ours=source.ours,
            deadline=site.scenario.deadlines.boot,
            site=site,
        ) as guest,
        programs(site.os).load(
            guest,
            places=source.places,
            series=point.series,
            rate=load.canary.rate,
            seconds=seconds,
            deadline=seconds + 60,
        ) as stream,
        canary.AckLog(site.folder.file(log_name), series=point.series, volumes=names) as log,
        canary.Recorder(stream, log) as recorder,
    ):
        # A slow disk or a slow guest takes longer for the same records: the records count, not the clock.
        recorder.wait(wanted, deadline=load.deadline)
        if point.capture is Capture.RUNNING:
            log.sync()
            point, capture = _snapshot(source, point=point, site=site)
        recorder.stop(deadline=60)
        log.sync()
    if point.capture is Capture.STOPPED:
        _stop(source, site=site)
        point, capture = _snapshot(source, point=point, site=site)
    acknowledged = canary.acknowledged(site.folder.file(log_name), cut=capture.at, volumes=names)
    site.observe(
        "canary.acknowledged",
        {**acknowledged, "log": log_name},
        copy=Copy.RUNNER,
        command=f"canary at {load.canary.rate:g}/s, acknowledged to the runner's disk",
        point=point,
    )
    return point, capture


def _stop(source: Source, *, site: Site) -> None:
    site.stage("capture", "stop the source")
    if not source.ours:
        # The mark comes first: whoever finds it knows whom the source is owed to, whatever happens next.
        site.ec2.tag(source.instance, {STOPPED_BY: f"{site.run} {site.ownership('source', purpose='').key}"})
    site.ec2.client.stop_instances(InstanceIds=[source.instance])
    site.poller.until(
        Instance,
        [source.instance],
        ready=lambda item: _alive(item).state == "stopped",
        deadline=site.scenario.deadlines.stop,
        what="the source to be stopped",
    )


def _alive(source: Instance) -> Instance:
    """The source, as long as there is one.

    Raises:
        EnvironmentFailedError: it was terminated.
    """
    if source.state in ("shutting-down", "terminated"):
        raise EnvironmentFailedError(
            f"The source {source.id} was terminated in the middle of the drill ({source.reason or 'no reason given'}).",
            remedy="See CloudTrail for who did it; then run the drill again.",
        )
    return source


def _completed(snapshot: Snapshot) -> bool:
    if snapshot.state == "error":
        raise EnvironmentFailedError(
            f"Snapshot {snapshot.id} ended in error: {snapshot.message or 'no reason given'}.",
            remedy="Look at the volume and at the permissions on its KMS key, then run the drill again.",
        )
    return snapshot.state == "completed"


def _snapshot(source: Source, *, point: Point, site: Site) -> tuple[Point, Observation]:
    site.stage("capture", f"{point.name}: snapshot all volumes")
    before = _alive(site.ec2.instance(source.instance))
    requested, snapshots, error = _requested(source, point=point, site=site)
    returned = datetime.now(UTC)
    after = site.ec2.instance(source.instance)
    names = {volume: name for name, volume in source.volumes.items()}
    made = {names[item.volume]: item.id for item in snapshots if item.volume in names}
    if set(made) != set(source.volumes):
        missing = ", ".join(sorted(set(source.volumes) - set(made)))
        raise EnvironmentFailedError(
            f"CreateSnapshots on {source.instance} gave no snapshot of {missing}. {error}".strip(),
            remedy="Run the drill again; the clean-up deletes what was made.",
        )
    point = replace(point, snapshots={name: made[name] for name in source.volumes})
    capture = site.observe(
        "capture",
        {
            "snapshots": dict(point.snapshots),
            "volumes": dict(source.volumes),
            "devices": dict(source.devices),
            "requested_at": _iso(requested),
            "returned_at": _iso(returned),
            "start_time": _iso(max(item.start_time for item in snapshots)),
            "source_state_before": before.state,
            "source_state_after": after.state,
            "source_state_reason": after.reason,
            "atomic": True,
            "completed": False,
            "error": error,
        },
        copy=Copy.CLOUD,
        command=f"ec2 CreateSnapshots InstanceId={source.instance}",
        point=point,
        at=requested,
    )
    return point, capture


def _requested(source: Source, *, point: Point, site: Site) -> tuple[datetime, list[Snapshot], str]:
    """Ask for the snapshots: when that was, what it made, and what went wrong though they were made.

    The call is not retried below: each try is a moment of its own, and so has its own time and its own key; what was
    acknowledged until the try that succeeded has to be in it.

    Raises:
        EnvironmentFailedError: it was refused, again and again or for good.
    """
    turn = 0
    while True:
        turn += 1
        ownership = site.ownership(f"{point.key}/{point.attempt}/snapshot/{turn}", purpose="recovery point")
        requested = datetime.now(UTC)
        try:
            made = site.ec2.create_snapshots(
                ownership,
                instance=source.instance,
                description=f"drtest {site.run}: {site.server} {point.name}",
            )
        except Exception as failure:
            wrong = explained(failure)
            if wrong is None or wrong is failure or permanent(failure):
                raise
            if in_doubt(failure) and (found := _made_all_the_same(source, ownership, site=site)):
                return requested, found, wrong.seen
            site.stage("capture", f"{point.name}: {wrong.seen}")
            if turn == _TRIES:
                raise wrong from None
            if site.stop.asked.wait(min(site.target.poll_seconds * 2**turn, _LONGEST_PAUSE)):
                raise CancelledError("The run is being stopped.") from None
        else:
            return requested, made, ""


def _made_all_the_same(source: Source, ownership: Ownership, *, site: Site) -> list[Snapshot]:
    """The snapshots of a request whose reply was lost after the deed: what carries its key was made by it.

    It is looked for some times: a new snapshot can be unseen for a moment (EC2 API Reference, Eventual consistency),
    and another one would be of a later moment.

    Returns:
        One of each volume; none where they are not all there.
    """
    for look in range(_LOOKS):
        if look and site.stop.asked.wait(site.target.poll_seconds):
            raise CancelledError("The run is being stopped.")
        found = site.ec2.owned(Snapshot, run=site.run, key=ownership.key)
        if {item.volume for item in found} >= set(source.volumes.values()):
            return [site.ec2.adopt(item, ownership) for item in found]
    return []


def _iso(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
