"""SSM's managed nodes: the guests that the lab can log in to."""

from typing import Any

from drtest.lab.call import Call
from drtest.lab.compute import Compute, now
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Instance


def managed(lab: Compute, call: Call) -> dict[str, Instance]:
    """Find the guests that have answered and that the lab's key opens, by their ids."""
    if lab.shell is None:
        return {}
    key = lab.shell.public_key
    return {
        instance.id: instance
        for instance in lab.visible(Instance, call)
        if instance.state == "running"
        and instance.os == "linux"
        and instance.reachability != "initializing"
        and instance.public_key.startswith(key)
    }


def _ping(instance: Instance) -> str:
    return "Online" if instance.reachability == "passed" else "ConnectionLost"


def describe_instance_information(lab: Compute, call: Call) -> dict[str, Any]:
    """Show the managed nodes (API_DescribeInstanceInformation).

    Raises:
        Refusal: ``InvalidFilterKey``, ``InvalidInstanceId``, ``ValidationException``.
    """
    call.only("Filters", "InstanceInformationFilterList", "MaxResults", "NextToken")
    nodes = managed(lab, call)
    old, new = call.params.get("InstanceInformationFilterList", []), call.params.get("Filters", [])
    if old and new:
        raise Refusal("ValidationException", "Use either Filters or InstanceInformationFilterList.")
    asked = [(one["key"], one["valueSet"]) for one in old] + [(one["Key"], one["Values"]) for one in new]
    chosen = [node for node in nodes.values() if all(matches(node, *one) for one in asked)]
    for key, values in asked:
        if key == "InstanceIds" and (lost := [value for value in values if value not in nodes]):
            raise Refusal("InvalidInstanceId", f"{lost} are no managed nodes of {call.owner}.")
    some, token = page(chosen, call, most=10)
    return {
        "InstanceInformationList": [
            {
                "InstanceId": node.id,
                "PingStatus": _ping(node),
                "LastPingDateTime": node.reachable_since if _ping(node) != "Online" else now(),
                "PlatformType": "Linux",
                "ResourceType": "EC2Instance",
                "IPAddress": node.private_address,
                "ComputerName": node.hostname,
                "SourceId": node.id,
                "SourceType": "AWS::EC2::Instance",
            }
            for node in some
        ],
        **token,
    }


def matches(node: Instance, key: str, values: list[str]) -> bool:
    """Say whether a node is one of those that a filter or a target means.

    Raises:
        Refusal: ``InvalidFilterKey``.
    """
    if key.startswith("tag:"):
        return node.tags.get(key.removeprefix("tag:")) in values
    known = {
        "InstanceIds": [node.id],
        "PingStatus": [_ping(node)],
        "PlatformTypes": ["Linux"],
        "ResourceType": ["EC2Instance"],
        "tag-key": list(node.tags),
    }
    if key not in known:
        raise Refusal("InvalidFilterKey", f"The filter key {key} is not valid.")
    return bool(set(known[key]) & set(values))


def page(things: list[Any], call: Call, *, most: int) -> tuple[list[Any], dict[str, str]]:
    """Cut one page out, and give the member that names the next one, if there is one.

    Raises:
        Refusal: ``InvalidNextToken``.
    """
    token = call.text("NextToken", "0")
    if not token.isdigit():
        raise Refusal("InvalidNextToken", "The specified token isn't valid.")
    start, size = int(token), call.number("MaxResults") or most
    more = {"NextToken": str(start + size)} if start + size < len(things) else {}
    return things[start : start + size], more
