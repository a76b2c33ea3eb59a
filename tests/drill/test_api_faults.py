"""Each fault of the API at each call of a drill: once, and the verdicts are the same; for good, and nothing is left."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from drtest.doors import sweep
from drtest.lab.faults import Plan
from tests.drill.kit.faults import Fault, Rule
from tests.drill.kit.selected import marks, selecting, server
from tests.drill.kit.world import Ran, World, alone

ON_THE_WAY = (
    "CreateSecurityGroup",
    "RevokeSecurityGroupEgress",
    "AuthorizeSecurityGroupIngress",
    "RunInstances",
    "StopInstances",
    "StartInstances",
    "GetConsoleOutput",
    "CreateSnapshots",
    "CreateVolume",
    "AttachVolume",
    "DetachVolume",
)
"""Calls that a drill of a launched server can't do without."""
CLEANING = ("TerminateInstances", "DeleteVolume", "DeleteSnapshot", "DeleteSecurityGroup")
OPTIONAL = ("GetConsoleScreenshot",)
READING = (
    "DescribeImages",
    "DescribeInstanceStatus",
    "DescribeInstances",
    "DescribeSecurityGroups",
    "DescribeSnapshots",
    "DescribeSubnets",
    "DescribeVolumes",
)
OF_SELECTED = ("CreateTags", "DeleteTags", "DescribeAddresses", "DescribeInstanceAttribute")
"""Calls that are made besides on a server that is not the run's."""

PASSING = (Fault.THROTTLED, Fault.INTERNAL, Fault.UNAVAILABLE, Fault.DROPPED, Fault.LOST)
"""Each try of a call meets the next of these, and the sixth passes."""


def named(action: str) -> str:
    """A server's name for an action."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", action).lower()


def launched(*names: str) -> list[dict[str, object]]:
    return [{"name": name, "os": "linux", "launch": {"image": "linux"}} for name in names]


def assert_clean(world: World) -> None:
    world.weather.rules.clear()
    assert world.left() == []


# Once


@pytest.fixture(scope="module")
def passing(shared: World) -> Ran:
    """A drill for each action, whose every call meets every fault before it passes."""
    world = shared
    world.reset()
    actions = (*ON_THE_WAY, *CLEANING, *OPTIONAL)
    for action in actions:
        # CreateSnapshots is tried anew by the drill itself, each time as a call of its own.
        world.weather.fault(action, *PASSING, server=named(action), again=action != "CreateSnapshots")
    ran = world.run(alone(servers=launched(*map(named, actions))))
    assert all(rule.tries for rule in world.weather.rules), "each of the calls was made"
    assert_clean(world)
    return ran


@pytest.mark.parametrize("action", [*ON_THE_WAY, *CLEANING, *OPTIONAL])
def test_a_call_that_fails_for_a_while_changes_no_verdict(action: str, passing: Ran) -> None:
    cell = f"{named(action)}/root/running/1"
    assert passing.verdicts[cell] == "RECOVERED", passing.reason(cell)
    assert not [left for left in passing.results["leftovers"] if left["server"] == named(action)]


def test_calls_that_read_fail_for_a_while_and_change_no_verdict(world: World) -> None:
    for action in READING:
        world.weather.fault(action, *PASSING)
    ran = world.run(alone())
    assert ran.verdicts == {"lin/root/running/1": "RECOVERED"}, ran.reason()
    assert ran.code == 0
    assert_clean(world)


def test_snapshots_whose_reply_was_lost_are_found_by_their_tag_and_not_made_again(world: World) -> None:
    world.weather.fault("CreateSnapshots", Fault.LOST, again=False)
    ran = world.run(alone())
    assert ran.verdicts == {"lin/root/running/1": "RECOVERED"}, ran.reason()
    assert sum(action == "CreateSnapshots" for action, _ in world.weather.calls) == 1
    assert "gave no answer" in ran.of("capture")[-1].data["error"]
    assert_clean(world)


def test_snapshots_whose_reply_was_lost_are_looked_for_until_they_can_be_seen(world: World) -> None:
    # A new snapshot is unseen for longer than one look, and for less than all of them.
    unseen = world.target.poll_seconds * 2.5
    world.compute.faults.set(Plan(unseen=unseen))
    world.weather.fault("CreateSnapshots", Fault.LOST, again=False)
    ran = world.run(alone())
    assert ran.verdicts == {"lin/root/running/1": "RECOVERED"}, ran.reason()
    assert sum(action == "CreateSnapshots" for action, _ in world.weather.calls) == 1
    assert_clean(world)


def test_a_throttled_snapshot_is_asked_for_again_and_counts_from_the_request_that_made_it(
    world: World,
) -> None:
    asked: list[datetime] = []

    def note(action: str, _: object) -> bool:
        if action == "CreateSnapshots":
            asked.append(datetime.now(UTC))
        return action == "CreateSnapshots"

    world.weather.rules.append(Rule((Fault.THROTTLED, Fault.THROTTLED), note, again=False))
    ran = world.run(alone())
    assert ran.verdicts == {"lin/root/running/1": "RECOVERED"}, ran.reason()
    assert len(asked) == 3
    requested = datetime.fromisoformat(ran.of("capture")[-1].data["requested_at"])
    assert asked[1] < requested <= asked[2]
    assert ran.of("canary.acknowledged")[0].data["cut"] == ran.of("capture")[-1].data["requested_at"]
    assert_clean(world)


def test_snapshots_that_were_refused_are_not_looked_for(world: World) -> None:
    world.weather.fault("CreateSnapshots", Fault.THROTTLED, again=False)
    world.run(alone())
    calls = [action for action, _ in world.weather.calls]
    first = calls.index("CreateSnapshots")
    second = calls.index("CreateSnapshots", first + 1)
    assert "DescribeSnapshots" not in calls[first:second]


def test_calls_on_a_selected_server_fail_for_a_while_and_change_no_verdict(world: World) -> None:
    instance = server(world, "web")
    for action in (*OF_SELECTED, "StopInstances", "StartInstances"):
        world.weather.fault(action, *PASSING)
    ran = world.run(alone(servers=[selecting("web")], captures=["stopped"]))
    assert ran.verdicts == {"web/root/stopped/1": "CONSISTENT"}, ran.results["cells"]
    assert ran.code == 0
    assert_clean(world)
    assert world.state(instance) == "running"
    assert marks(world, instance) == {}


def test_these_are_all_calls_that_a_drill_makes(world: World) -> None:
    world.weather.calls.clear()
    server(world, "all-calls")
    world.weather.calls.clear()
    world.run(alone(servers=[*launched("lin"), selecting("all-calls")], captures=["running", "stopped"]))
    assert world.weather.actions() == {*ON_THE_WAY, *CLEANING, *OPTIONAL, *READING, *OF_SELECTED}
    assert_clean(world)


# For good


@dataclass(frozen=True, kw_only=True)
class Forever:
    """A call that never succeeds.

    Attributes:
        verdict: of the cell.
        says: in its reason.
        left: kinds of what can't be cleaned up then.
    """

    action: str
    fault: Fault = Fault.INTERNAL
    verdict: str = "INCONCLUSIVE"
    says: str
    left: frozenset[str] = frozenset()


def forever() -> dict[str, Forever]:
    rows = {
        named(action): Forever(action=action, says=f"refused {action}.*The trouble is on the API's side")
        for action in ON_THE_WAY
    }
    # Without its console a new instance can't be told from another: see below.
    del rows["get-console-output"]
    rows |= {
        "no-capacity": Forever(
            action="RunInstances",
            fault=Fault.CAPACITY,
            says=r"sufficient t3.small capacity .*\. Run again later, or name another instance type",
        ),
        "may-not-launch": Forever(
            action="RunInstances", fault=Fault.DENIED, says="not authorized .* Grant ec2:RunInstances"
        ),
        "always-throttled": Forever(
            action="CreateVolume", fault=Fault.THROTTLED, says="Request limit exceeded.* Lower limits.drills"
        ),
        "never-an-answer": Forever(action="AttachVolume", fault=Fault.DROPPED, says="gave no answer"),
        "may-not-snapshot": Forever(
            action="CreateSnapshots", fault=Fault.DENIED, says="Grant ec2:CreateSnapshots"
        ),
        "terminate-instances": Forever(
            action="TerminateInstances",
            verdict="RECOVERED",
            says="",
            left=frozenset({"instance", "volume", "security-group"}),
        ),
        "delete-volume": Forever(
            action="DeleteVolume", verdict="RECOVERED", says="", left=frozenset({"volume"})
        ),
        "delete-snapshot": Forever(
            action="DeleteSnapshot", verdict="RECOVERED", says="", left=frozenset({"snapshot"})
        ),
        "delete-security-group": Forever(
            action="DeleteSecurityGroup", verdict="RECOVERED", says="", left=frozenset({"security-group"})
        ),
        "get-console-screenshot": Forever(action="GetConsoleScreenshot", verdict="RECOVERED", says=""),
    }
    return rows


FOREVER = forever()


@pytest.fixture(scope="module")
def lasting(shared: World) -> Ran:
    """A drill for each row, whose call fails to the end; then, in fine weather, what is left is swept."""
    world = shared
    world.reset()
    for name, row in FOREVER.items():
        world.weather.fault(row.action, row.fault, server=name, forever=True)
    ran = world.run(alone(servers=launched(*FOREVER)))
    world.weather.rules.clear()
    named_left = {id_ for _, id_ in ran.leftovers}
    unnamed = [one for one in world.left() if one not in named_left]
    assert unnamed == [], "what is left is named"
    assert sweep("world", config=world.config, runs=[ran.folder.run.run], delete=True) == ()
    assert world.left() == []
    return ran


@pytest.mark.parametrize("name", FOREVER)
def test_a_call_that_never_succeeds_is_named_and_leaves_nothing_unsaid(name: str, lasting: Ran) -> None:
    row, cell = FOREVER[name], f"{name}/root/running/1"
    assert lasting.verdicts[cell] == row.verdict, lasting.reason(cell)
    assert re.search(row.says, lasting.reason(cell)), lasting.reason(cell)
    left = [one for one in lasting.results["leftovers"] if one["server"] == name]
    assert {one["kind"] for one in left} == row.left, left


def test_a_console_that_can_not_be_read_is_named_where_it_is_needed(world: World) -> None:
    world.weather.fault("GetConsoleOutput", Fault.INTERNAL, forever=True)
    ran = world.run(alone(deadlines={"boot": "1s"}))
    assert ran.verdicts == {"lin/root/running/1": "UNREACHABLE"}
    told = [one.data["error"] for one in ran.of("skipped")]
    assert "its console, which shows its host keys, could not be read: The EC2 API refused" in told[0]
    assert ran.leftovers == set()
    assert_clean(world)
