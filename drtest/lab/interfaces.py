"""What clients as Terraform's AWS provider ask about an instance beside itself: its card, address, credits, profile."""

from collections.abc import Mapping
from typing import Any

from drtest.lab import refusal
from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute
from drtest.lab.filters import Field, page, select
from drtest.lab.instances import instance_view
from drtest.lab.lookup import find_all
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Instance

FIELDS: Mapping[str, Field[Instance]] = {
    "attachment.device-index": lambda _: 0,
    "attachment.instance-id": lambda i: i.id,
    "attachment.instance-owner-id": lambda i: i.owner,
    "attachment.status": lambda _: "attached",
    "availability-zone": lambda i: i.zone,
    "description": lambda _: "",
    "group-id": lambda i: [g.id for g in i.groups],
    "group-name": lambda i: [g.name for g in i.groups],
    "interface-type": lambda _: "interface",
    "network-interface-id": lambda i: i.interface,
    "owner-id": lambda i: i.owner,
    "private-ip-address": lambda i: i.private_address,
    "requester-managed": lambda _: False,
    "status": lambda _: "in-use",
    "subnet-id": lambda i: i.subnet,
    "vpc-id": lambda i: i.vpc,
}
"""What the filters of API_DescribeNetworkInterfaces look at."""


def describe_network_interfaces(lab: Compute, call: Call) -> Answer:
    """Show the network interfaces (API_DescribeNetworkInterfaces): each living instance has one, and nothing else.

    Raises:
        Refusal: ``InvalidNetworkInterfaceID.NotFound``.
    """
    call.only("Filters", "MaxResults", "NetworkInterfaceIds", "NextToken")
    found = [i for i in lab.visible(Instance, call) if i.state != "terminated"]
    ids = call.texts("NetworkInterfaceIds")
    if ids:
        known = {i.interface for i in found}
        if lost := [key for key in ids if key not in known]:
            raise Refusal(
                "InvalidNetworkInterfaceID.NotFound", f"The networkInterface ID '{lost[0]}' does not exist"
            )
        found = [i for i in found if i.interface in ids]
    call.not_dry()
    chosen = select(found, call.params.get("Filters", []), fields=FIELDS, tags=lambda _: {})
    some, token = page(chosen, call, ids="networkInterfaceId", given=ids)
    return {"NetworkInterfaces": [_interface(instance) for instance in some], "NextToken": token}


def _interface(instance: Instance) -> dict[str, Any]:
    (card,) = instance_view(instance, [])["NetworkInterfaces"]
    more = {"InstanceId": instance.id, "InstanceOwnerId": instance.owner}
    return {
        **card,
        "Attachment": {**card["Attachment"], **more},
        "AvailabilityZone": instance.zone,
        "Description": "",
        "InterfaceType": "interface",
        "RequesterManaged": False,
        "TagSet": [],
    }


def describe_addresses(_: Compute, call: Call) -> Answer:
    """Show the Elastic IP addresses (API_DescribeAddresses): the lab gives out none.

    Raises:
        Refusal: ``InvalidAddress.NotFound`` or ``InvalidAllocationID.NotFound``.
    """
    call.only("AllocationIds", "Filters", "PublicIps")
    if given := call.texts("PublicIps"):
        raise Refusal("InvalidAddress.NotFound", f"Address '{given[0]}' not found.")
    if given := call.texts("AllocationIds"):
        raise Refusal("InvalidAllocationID.NotFound", f"The allocation ID '{given[0]}' does not exist")
    call.not_dry()
    return {"Addresses": []}


def describe_instance_credit_specifications(lab: Compute, call: Call) -> Answer:
    """Show the CPU credits of burstable instances (API_DescribeInstanceCreditSpecifications).

    "If you specify no instance IDs, returns instances with the unlimited credit option"; T2 is `standard` by default,
    the later ones `unlimited`. It makes no difference in the lab.
    """
    call.only("Filters", "InstanceIds", "MaxResults", "NextToken")
    ids = call.texts("InstanceIds")
    found = find_all(lab, call, Instance, ids) if ids else lab.visible(Instance, call)
    call.not_dry()
    chosen = select(
        found, call.params.get("Filters", []), fields={"instance-id": lambda i: i.id}, tags=lambda i: i.tags
    )
    burstable = [i for i in chosen if i.type.startswith("t") and i.state != "terminated"]
    if not ids:
        burstable = [i for i in burstable if not i.type.startswith("t2.")]
    some, token = page(burstable, call, ids="instanceId", given=ids)
    return {
        "InstanceCreditSpecifications": [
            {"InstanceId": i.id, "CpuCredits": "standard" if i.type.startswith("t2.") else "unlimited"}
            for i in some
        ],
        "NextToken": token,
    }


def describe_iam_instance_profile_associations(lab: Compute, call: Call) -> Answer:
    """Show which instances have a profile (API_DescribeIamInstanceProfileAssociations)."""
    call.only("AssociationIds", "Filters", "MaxResults", "NextToken")
    if call.texts("AssociationIds"):
        raise refusal.unsupported("DescribeIamInstanceProfileAssociations by AssociationIds")
    found = [i for i in lab.visible(Instance, call) if i.profile and i.state != "terminated"]
    fields: Mapping[str, Field[Instance]] = {"instance-id": lambda i: i.id, "state": lambda _: "associated"}
    chosen = select(found, call.params.get("Filters", []), fields=fields, tags=lambda i: i.tags)
    some, token = page(chosen, call)
    return {
        "IamInstanceProfileAssociations": [
            {
                "AssociationId": i.id.replace("i-", "iip-assoc-"),
                "InstanceId": i.id,
                "IamInstanceProfile": {"Arn": i.profile},
                "State": "associated",
            }
            for i in some
        ],
        "NextToken": token,
    }
