"""What an instance's metadata service knows: the tree of categories, and the options of the service."""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from drtest.lab import refusal
from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute
from drtest.lab.lookup import find
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Instance
from drtest.lab.wire import iso

MAC = "52:54:00:12:34:56"
"""What QEMU gives to the first network card of each machine; no two of them share a network."""

Tree = Mapping[str, "str | Tree"]


def options(given: Mapping[str, str]) -> dict[str, Any]:
    """Read the options of the service into fields of an instance; what is not given is left out.

    Raises:
        Refusal: ``InvalidParameterValue``.
    """
    found: dict[str, Any] = {}
    for name, least, values in (
        ("HttpTokens", "metadata_tokens", {"optional": "optional", "required": "required"}),
        ("HttpEndpoint", "metadata_enabled", {"enabled": True, "disabled": False}),
        ("InstanceMetadataTags", "metadata_tags", {"enabled": True, "disabled": False}),
    ):
        if name in given:
            if given[name] not in values:
                raise refusal.bad_value(f"Invalid value '{given[name]}' for {name}.")
            found[least] = values[given[name]]
    return found


def options_view(instance: Instance) -> dict[str, Any]:
    """Show the options of the service as API_InstanceMetadataOptionsResponse has them."""
    return {
        "State": "applied",
        "HttpTokens": instance.metadata_tokens,
        "HttpPutResponseHopLimit": 1,
        "HttpEndpoint": "enabled" if instance.metadata_enabled else "disabled",
        "HttpProtocolIpv6": "disabled",
        "InstanceMetadataTags": "enabled" if instance.metadata_tags else "disabled",
    }


def modify_instance_metadata_options(lab: Compute, call: Call) -> Answer:
    """Change the options of the service, at once (API_ModifyInstanceMetadataOptions).

    Raises:
        Refusal: ``IncorrectInstanceState``, ``InvalidParameterValue``.
    """
    # A hop limit has nothing to limit here: there is no router on the way.
    call.only("HttpEndpoint", "HttpPutResponseHopLimit", "HttpTokens", "InstanceId", "InstanceMetadataTags")
    with lab.books.open():
        instance = find(lab, call, Instance, call.required("InstanceId"))
        if instance.state in {"shutting-down", "terminated"}:
            raise Refusal("IncorrectInstanceState", f"The instance '{instance.id}' is '{instance.state}'.")
        instance = replace(instance, **options(call.params))
        call.not_dry()
        lab.books.put(instance)
    view = {**options_view(instance), "State": "pending"}
    return {"InstanceId": instance.id, "InstanceMetadataOptions": view}


def tree(lab: Compute, instance: Instance) -> Tree:
    """Lay out the categories below ``latest``.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html: "Instance metadata categories".
    """
    found: dict[str, str | Tree] = {
        "meta-data": _meta_data(lab, instance),
        "dynamic": {"instance-identity": {"document": json.dumps(_document(instance), indent=2)}},
    }
    if instance.user_data:
        found["user-data"] = base64.b64decode(instance.user_data).decode("latin-1")
    return found


def _meta_data(lab: Compute, instance: Instance) -> Tree:
    call = Call(action="", owner=instance.owner, region=instance.region, params={})
    place = {
        "availability-zone": instance.zone,
        "availability-zone-id": lab.network.zone_id(call, instance.zone),
        "region": instance.region,
    }
    names = f"{instance.hostname}.ec2.internal"
    groups = "\n".join(group.name for group in instance.groups)
    card = {
        "device-number": "0",
        "interface-id": instance.interface,
        "local-hostname": names,
        "local-ipv4s": instance.private_address,
        "mac": MAC,
        "owner-id": instance.owner,
        "security-group-ids": "\n".join(group.id for group in instance.groups),
        "security-groups": groups,
        "subnet-id": instance.subnet,
        "vpc-id": instance.vpc,
    }
    found: dict[str, str | Tree] = {
        "ami-id": instance.image,
        "ami-launch-index": str(instance.launch_index),
        "block-device-mapping": _devices(lab, instance),
        "hostname": names,
        "instance-action": "none",
        "instance-id": instance.id,
        "instance-life-cycle": "on-demand",
        "instance-type": instance.type,
        "local-hostname": names,
        "local-ipv4": instance.private_address,
        "mac": MAC,
        "network": {"interfaces": {"macs": {MAC: card}}},
        "placement": place,
        "reservation-id": instance.reservation,
        "security-groups": groups,
        "services": {"domain": "amazonaws.com", "partition": "aws"},
    }
    if instance.public and instance.address:
        found["public-ipv4"] = instance.address
    if instance.public_key:
        # The list of keys has a form of its own: their number, and what they are called.
        found["public-keys"] = {"0": {"openssh-key": instance.public_key}}
    if instance.metadata_tags and instance.tags:
        found["tags"] = {"instance": instance.tags}
    return found


def _devices(lab: Compute, instance: Instance) -> Tree:
    found = {"ami": instance.root_device, "root": instance.root_device}
    attached = sorted(v.attachment.device for v in lab.books.attached(instance.id) if v.attachment)
    others = [device for device in attached if device != instance.root_device]
    return {**found, **{f"ebs{number}": device for number, device in enumerate(others, 1)}}


def _document(instance: Instance) -> dict[str, Any]:
    return {
        "accountId": instance.owner,
        "architecture": instance.architecture,
        "availabilityZone": instance.zone,
        "billingProducts": None,
        "devpayProductCodes": None,
        "imageId": instance.image,
        "instanceId": instance.id,
        "instanceType": instance.type,
        "kernelId": None,
        "marketplaceProductCodes": None,
        "pendingTime": iso(instance.launched)[:19] + "Z",
        "privateIp": instance.private_address,
        "ramdiskId": None,
        "region": instance.region,
        "version": "2017-09-30",
    }
