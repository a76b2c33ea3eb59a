"""Security groups of a run: into which nothing comes but logins, and out of which nothing goes."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from drtest.cloud.failures import code_of
from drtest.cloud.tags import KEY, RUN, Ownership
from drtest.errors import EnvironmentFailedError

_EVERYTHING = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
"""What a new group lets out (EC2 API Reference, CreateSecurityGroup)."""


@contextmanager
def fine(*codes: str) -> Iterator[None]:
    """Bear refusals with these codes: they say that an earlier try, whose reply was lost, had done it."""
    try:
        yield
    except ClientError as error:
        if code_of(error) not in codes:
            raise


def security_group(
    client: Any,
    ownership: Ownership,
    *,
    vpc: str,
    ports: Sequence[int],
    source: str,
    on_created: Callable[[str], None],
) -> str:
    """Find the security group of a key, or make one without egress that lets only ``source`` in.

    Args:
        client: a boto3 EC2 client.
        ownership: its tags.
        vpc: where it is made.
        ports: TCP ports that are let in.
        source: the CIDR block that they are let in from.
        on_created: told of its id before anything else is done with it.

    Raises:
        EnvironmentFailedError: there is one of its name that is not this run's.
    """
    found = _found(client, ownership)
    if not found:
        # No ClientToken here: its name, made of the key, keeps a second try from making a second group.
        with fine("InvalidGroup.Duplicate"):
            made = client.create_security_group(
                GroupName=f"drtest-{ownership.token[:16]}",
                Description=f"drtest {ownership.run}: scratch instances reach nothing",
                VpcId=vpc,
                TagSpecifications=ownership.specification("security-group"),
            )
            # Not asked for: it may not be seen yet.
            found = [{"GroupId": made["GroupId"], "IpPermissionsEgress": _EVERYTHING}]
        found = found or _found(client, ownership)
    if not found:
        raise EnvironmentFailedError(
            f"The security group drtest-{ownership.token[:16]} is there but does not carry this run's tags.",
            remedy="Delete it, if no other run uses it, and run the drill again.",
        )
    group = str(found[0]["GroupId"])
    on_created(group)
    if egress := found[0].get("IpPermissionsEgress"):
        with fine("InvalidPermission.NotFound"):
            client.revoke_security_group_egress(GroupId=group, IpPermissions=egress)
    if not found[0].get("IpPermissions"):
        with fine("InvalidPermission.Duplicate"):
            client.authorize_security_group_ingress(GroupId=group, IpPermissions=_ingress(ports, source))
    return group


def _found(client: Any, ownership: Ownership) -> list[Mapping[str, Any]]:
    filters = [
        {"Name": f"tag:{RUN}", "Values": [ownership.run]},
        {"Name": f"tag:{KEY}", "Values": [ownership.key]},
    ]
    groups: list[Mapping[str, Any]] = client.describe_security_groups(Filters=filters)["SecurityGroups"]
    return groups


def _ingress(ports: Collection[int], source: str) -> list[dict[str, Any]]:
    return [
        {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": source}]}
        for port in ports
    ]
