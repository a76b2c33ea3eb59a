"""AWS's token buckets: how many calls of each action an account may make in a region.

Sizes and rates are those of https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from drtest.lab.call import Call


@dataclass(frozen=True)
class Rate:
    """A bucket: how many tokens it holds, and how many it gets back each second."""

    size: float
    refill: float


READING = Rate(100, 20)
UNFILTERED = Rate(50, 10)
CHANGING = Rate(50, 5)
RESOURCE_INTENSIVE = Rate(50, 5)

SMALL_UNFILTERED = frozenset(
    {
        "DescribeInstances",
        "DescribeInstanceStatus",
        "DescribeNetworkInterfaces",
        "DescribeSecurityGroups",
        "DescribeSnapshots",
        "DescribeSpotInstanceRequests",
        "DescribeVolumes",
    }
)
"""Asked without a filter and without pages, these take from a bucket of their own, which is smaller."""

INTENSIVE = frozenset({"AuthorizeSecurityGroupIngress", "CreateKeyPair", "RevokeSecurityGroupIngress"})

_STORAGE = Rate(100, 5)
UNCATEGORIZED: Mapping[str, Rate] = {
    "AssociateIamInstanceProfile": Rate(100, 5),
    "CopyImage": Rate(100, 1),
    "CreateDefaultSubnet": Rate(1, 1),
    "CreateDefaultVpc": Rate(1, 1),
    "CreateSnapshot": _STORAGE,
    "CreateSnapshots": _STORAGE,
    "CreateTags": Rate(100, 10),
    "CreateVolume": _STORAGE,
    "CreateVpcEndpoint": Rate(4, 0.3),
    "DeleteSnapshot": _STORAGE,
    "DeleteTags": Rate(100, 10),
    "DeleteVolume": _STORAGE,
    "DeleteVpcEndpoints": Rate(4, 0.3),
    "DeregisterImage": _STORAGE,
    "DescribeInstanceTopology": Rate(1, 1),
    "ModifyImageAttribute": Rate(100, 5),
    "ModifyInstanceMetadataOptions": Rate(100, 5),
    "ModifySnapshotAttribute": _STORAGE,
    "RunInstances": Rate(5, 2),
    "StartInstances": Rate(5, 2),
    "TerminateInstances": Rate(100, 5),
}
"""Actions with a bucket of their own size, as far as the lab has them."""

BLOCKS: Mapping[str, Rate] = {
    "GetSnapshotBlock": Rate(1000, 1000),
    "ListChangedBlocks": Rate(50, 50),
    "ListSnapshotBlocks": Rate(50, 50),
}
"""The EBS direct APIs: https://docs.aws.amazon.com/general/latest/gr/ebs-service.html has requests per second."""

RESOURCES: Mapping[str, Rate] = {
    "RunInstances": Rate(1000, 2),
    "StartInstances": Rate(1000, 2),
    "StopInstances": Rate(1000, 20),
    "TerminateInstances": Rate(1000, 20),
}
"""These also take a token for each instance that they touch, from a second bucket."""


def rate(call: Call) -> Rate:
    """Say which bucket a call takes its token from."""
    if call.action in UNCATEGORIZED:
        return UNCATEGORIZED[call.action]
    if call.action in BLOCKS:
        return BLOCKS[call.action]
    if call.action in INTENSIVE:
        return RESOURCE_INTENSIVE
    if not call.action.startswith(("Describe", "Get", "List", "Search")):
        return CHANGING
    return UNFILTERED if _unfiltered(call) else READING


def _unfiltered(call: Call) -> bool:
    narrowed = call.params.get("Filters") or call.params.get("MaxResults") or call.params.get("NextToken")
    return call.action in SMALL_UNFILTERED and not narrowed


class Buckets:
    """The buckets of all accounts. Safe to use from several threads.

    Args:
        scale: sizes and rates are multiplied by it: 0.1 is an account that others use too.
        clock: seconds, never going back.
    """

    def __init__(self, *, scale: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._scale = scale
        self._clock = clock
        self._levels: dict[tuple[str, ...], tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, call: Call) -> bool:
        """Take the tokens of a call; False if there are not enough, and none is taken then."""
        where = (call.owner, call.region, call.action)
        wanted = [((*where, "unfiltered" if _unfiltered(call) else "requests"), rate(call), 1.0)]
        if call.action in RESOURCES:
            wanted.append(((*where, "resources"), RESOURCES[call.action], float(_instances(call))))
        with self._lock:
            now = self._clock()
            left = {key: self._level(key, each, now) - tokens for key, each, tokens in wanted}
            if any(level < 0 for level in left.values()):
                return False
            self._levels.update({key: (level, now) for key, level in left.items()})
            return True

    def _level(self, key: tuple[str, ...], each: Rate, now: float) -> float:
        # At least one token, or a call could never be made however long one waits.
        size = max(1.0, each.size * self._scale)
        level, at = self._levels.get(key, (size, now))
        return min(size, level + (now - at) * each.refill * self._scale)


def _instances(call: Call) -> int:
    if call.action == "RunInstances":
        return call.number("MaxCount") or 1
    return len(call.params.get("InstanceIds", [])) or 1
