"""DescribeInstances, and how an instance is shown."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute
from drtest.lab.filters import Field, page, select
from drtest.lab.lookup import find_all
from drtest.lab.metadata import options_view
from drtest.lab.resources import STATE_CODES, Instance, Volume

Shown = tuple[Instance, list[Volume]]
"""An instance and the volumes that are attached to it."""


def _attached(name: str) -> Field[Shown]:
    return lambda shown: [getattr(v.attachment, name) for v in shown[1] if v.attachment]


FIELDS: Mapping[str, Field[Shown]] = {
    "architecture": lambda s: s[0].architecture,
    "availability-zone": lambda s: s[0].zone,
    "block-device-mapping.attach-time": _attached("at"),
    "block-device-mapping.delete-on-termination": _attached("delete_on_termination"),
    "block-device-mapping.device-name": _attached("device"),
    "block-device-mapping.status": _attached("state"),
    "block-device-mapping.volume-id": lambda s: [v.id for v in s[1]],
    "client-token": lambda s: s[0].client_token or None,
    "dns-name": lambda _: "",
    "group-id": lambda s: [g.id for g in s[0].groups],
    "group-name": lambda s: [g.name for g in s[0].groups],
    "hypervisor": lambda _: "xen",
    "iam-instance-profile.arn": lambda s: s[0].profile or None,
    "image-id": lambda s: s[0].image,
    "instance-id": lambda s: s[0].id,
    "instance-lifecycle": lambda _: None,
    "instance-state-code": lambda s: STATE_CODES[s[0].state],
    "instance-state-name": lambda s: s[0].state,
    "instance-type": lambda s: s[0].type,
    "instance.group-id": lambda s: [g.id for g in s[0].groups],
    "instance.group-name": lambda s: [g.name for g in s[0].groups],
    "ip-address": lambda s: _public(s[0]),
    "key-name": lambda s: s[0].key_name or None,
    "launch-index": lambda s: s[0].launch_index,
    "launch-time": lambda s: s[0].launched,
    "network-interface.network-interface-id": lambda s: s[0].interface,
    "network-interface.subnet-id": lambda s: s[0].subnet,
    "network-interface.vpc-id": lambda s: s[0].vpc,
    "owner-id": lambda s: s[0].owner,
    "platform": lambda s: "windows" if s[0].os == "windows" else None,
    "private-dns-name": lambda s: f"{s[0].hostname}.ec2.internal",
    "private-ip-address": lambda s: s[0].private_address or None,
    "reason": lambda s: s[0].transition,
    "requester-id": lambda _: None,
    "reservation-id": lambda s: s[0].reservation,
    "root-device-name": lambda s: s[0].root_device,
    "root-device-type": lambda _: "ebs",
    "source-dest-check": lambda s: s[0].source_dest_check,
    "spot-instance-request-id": lambda _: None,
    "state-reason-code": lambda s: s[0].reason_code or None,
    "state-reason-message": lambda s: s[0].reason or None,
    "subnet-id": lambda s: s[0].subnet,
    "tenancy": lambda _: "default",
    "virtualization-type": lambda _: "hvm",
    "vpc-id": lambda s: s[0].vpc,
}
"""What the filters of API_DescribeInstances look at."""


def with_volumes(lab: Compute, instances: list[Instance]) -> list[Shown]:
    """Put to each instance the volumes that are attached to it, root first."""
    by_instance: dict[str, list[Volume]] = defaultdict(list)
    for volume in lab.books.all(Volume):
        if volume.attachment:
            by_instance[volume.attachment.instance].append(volume)
    return [(instance, by_instance[instance.id]) for instance in instances]


def describe_instances(lab: Compute, call: Call) -> Answer:
    """Show instances (API_DescribeInstances), paged by instance, grouped by reservation."""
    ids = call.texts("InstanceIds")
    with lab.books.open():
        found = find_all(lab, call, Instance, ids) if ids else lab.visible(Instance, call)
        shown = with_volumes(lab, found)
    call.not_dry()
    matching = select(shown, call.params.get("Filters", []), fields=FIELDS, tags=lambda s: s[0].tags)
    chosen = {instance.id: (instance, volumes) for instance, volumes in matching}
    ordered = sorted((instance for instance, _ in chosen.values()), key=lambda i: i.number)
    some, token = page(ordered, call, ids="instancesSet", given=ids)
    reservations: dict[str, list[Instance]] = defaultdict(list)
    for instance in some:
        reservations[instance.reservation].append(instance)
    return {
        "Reservations": [
            {
                "ReservationId": reservation,
                "OwnerId": members[0].owner,
                "Groups": [],
                "Instances": [instance_view(*chosen[member.id]) for member in members],
            }
            for reservation, members in reservations.items()
        ],
        "NextToken": token,
    }


def tag_view(tags: Mapping[str, str]) -> list[dict[str, str]] | None:
    """Show tags; nothing at all where there are none, as EC2 does."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())] or None


def state_view(state: str) -> dict[str, Any]:
    """Show an instance's state."""
    return {"Code": STATE_CODES[state], "Name": state}


def _public(instance: Instance) -> str | None:
    return instance.address if instance.public and instance.address else None


def instance_view(instance: Instance, volumes: list[Volume]) -> dict[str, Any]:
    """Show an instance as API_Instance has it."""
    live = instance.state != "terminated"
    groups = [{"GroupId": g.id, "GroupName": g.name} for g in instance.groups]
    windows = instance.os == "windows"
    return {
        "InstanceId": instance.id,
        "ImageId": instance.image,
        "State": state_view(instance.state),
        "StateTransitionReason": instance.transition,
        "StateReason": {"Code": instance.reason_code, "Message": instance.reason}
        if instance.reason
        else None,
        "InstanceType": instance.type,
        "KeyName": instance.key_name or None,
        "AmiLaunchIndex": instance.launch_index,
        "LaunchTime": instance.launched,
        "Placement": {"AvailabilityZone": instance.zone, "GroupName": "", "Tenancy": "default"},
        "Monitoring": {"State": "disabled"},
        "Platform": "windows" if windows else None,
        "PlatformDetails": "Windows" if windows else "Linux/UNIX",
        "UsageOperation": "RunInstances:0002" if windows else "RunInstances",
        "PrivateDnsName": f"{instance.hostname}.ec2.internal" if live else "",
        "PrivateIpAddress": instance.private_address if live else None,
        "PublicDnsName": "",
        "PublicIpAddress": _public(instance),
        "SubnetId": instance.subnet if live else None,
        "VpcId": instance.vpc if live else None,
        "Architecture": instance.architecture,
        "RootDeviceName": instance.root_device,
        "RootDeviceType": "ebs",
        "VirtualizationType": "hvm",
        "Hypervisor": "xen",
        "EbsOptimized": False,
        "EnaSupport": True,
        "SourceDestCheck": instance.source_dest_check if live else None,
        "ClientToken": instance.client_token,
        "SecurityGroups": groups,
        "IamInstanceProfile": {"Arn": instance.profile} if instance.profile else None,
        "MetadataOptions": options_view(instance),
        "BlockDeviceMappings": block_devices_view(volumes),
        "NetworkInterfaces": [_interface_view(instance, groups)] if live else [],
        "Tags": tag_view(instance.tags),
    }


def block_devices_view(volumes: list[Volume]) -> list[dict[str, Any]]:
    """Show what is attached where."""
    return [
        {
            "DeviceName": volume.attachment.device,
            "Ebs": {
                "VolumeId": volume.id,
                "Status": volume.attachment.state,
                "AttachTime": volume.attachment.at,
                "DeleteOnTermination": volume.attachment.delete_on_termination,
            },
        }
        for volume in sorted(volumes, key=lambda v: v.number)
        if volume.attachment
    ]


def _interface_view(instance: Instance, groups: list[dict[str, str]]) -> dict[str, Any]:
    public = _public(instance)
    association = {"PublicIp": public, "PublicDnsName": "", "IpOwnerId": "amazon"} if public else None
    return {
        "NetworkInterfaceId": instance.interface,
        "SubnetId": instance.subnet,
        "VpcId": instance.vpc,
        "OwnerId": instance.owner,
        "Status": "in-use",
        "PrivateIpAddress": instance.private_address,
        "PrivateDnsName": f"{instance.hostname}.ec2.internal",
        "SourceDestCheck": instance.source_dest_check,
        "Groups": groups,
        "Association": association,
        "Attachment": {
            "DeviceIndex": 0,
            "Status": "attached",
            "DeleteOnTermination": True,
            "AttachTime": instance.created,
        },
        "PrivateIpAddresses": [
            {
                "PrivateIpAddress": instance.private_address,
                "Primary": True,
                "PrivateDnsName": f"{instance.hostname}.ec2.internal",
                "Association": association,
            }
        ],
    }
