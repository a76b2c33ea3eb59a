"""The calls that drills make, as the lab's endpoint saw them, against the IAM policy: none missing, none too many."""

from drtest.cloud.policy import actions, policy
from tests.drill.kit.selected import selecting, server
from tests.drill.kit.world import World, scenario

ALL = {one.removeprefix("ec2:") for one in actions(policy())}
LAUNCHED = {one.removeprefix("ec2:") for one in actions(policy(sources=False))}


def test_drills_of_every_kind_make_the_calls_of_the_policy_and_no_other(world: World) -> None:
    assert world.run(scenario(captures=["running", "stopped"])).code == 0
    launched = world.weather.actions()
    # CreateTags is asked for by creating calls that tag: nobody calls it here.
    assert launched == LAUNCHED - {"CreateTags"}

    instance = server(world, "calls")
    world.weather.calls.clear()
    chosen = selecting("calls")
    assert world.run(scenario(servers=[chosen], captures=["running", "stopped"])).code == 0
    selected = world.weather.actions()
    assert launched | selected == ALL
    world.client.terminate_instances(InstanceIds=[instance])
