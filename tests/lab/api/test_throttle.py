"""AWS's token buckets, as the developer guide has them."""

from typing import Any

from drtest.lab.call import Call
from drtest.lab.throttle import Buckets


def test_the_buckets_are_those_of_the_developer_guide() -> None:
    # "The token bucket size for DescribeHosts, a non-mutating API action, is 100 tokens", refilled by 20 a second.
    now = [0.0]
    buckets = Buckets(clock=lambda: now[0])

    def taken(action: str, calls: int, **params: Any) -> int:
        call = Call(action=action, owner="1", region="r", params=params)
        return sum(buckets.take(call) for _ in range(calls))

    assert taken("DescribeHosts", 120) == 100
    now[0] += 1
    assert taken("DescribeHosts", 120) == 20
    # "requested without specifying either pagination or a filter, use tokens from a smaller token bucket"
    assert taken("DescribeVolumes", 120) == 50
    assert taken("DescribeVolumes", 120, Filters=[{"Name": "a"}]) == 100
    assert taken("AttachVolume", 120) == 50
    assert taken("CreateSnapshots", 120) == 100
    assert taken("RunInstances", 10, MaxCount=1) == 5


def test_instances_cost_resource_tokens() -> None:
    # "you can immediately launch 1000 instances, using any number of API requests, such as one request for 1000
    # instances … After the resource token bucket is empty, you can launch up to two instances every second"
    now = [0.0]
    buckets = Buckets(clock=lambda: now[0])

    def run(count: int) -> bool:
        return buckets.take(Call(action="RunInstances", owner="1", region="r", params={"MaxCount": count}))

    assert run(1000)
    assert not run(1)
    now[0] += 1
    assert not run(3)
    assert run(2)


def test_the_ebs_direct_apis_have_their_own_buckets() -> None:
    # "ListSnapshotBlocks requests per account": 50 a second (https://docs.aws.amazon.com/general/latest/gr/ebs-service.html)
    buckets = Buckets(clock=lambda: 0.0)
    call = Call(action="ListSnapshotBlocks", owner="1", region="r", params={})
    assert sum(buckets.take(call) for _ in range(60)) == 50
