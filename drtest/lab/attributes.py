"""DescribeInstanceAttribute and ModifyInstanceAttribute."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from drtest.lab import refusal
from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute
from drtest.lab.instances import block_devices_view
from drtest.lab.launch import check_user_data
from drtest.lab.lookup import find
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Instance, Volume

Shown = Callable[[Instance, list[Volume]], Mapping[str, Any]]

SHOWN: Mapping[str, Shown] = {
    "blockDeviceMapping": lambda _, vs: {"BlockDeviceMappings": block_devices_view(vs)},
    "disableApiStop": lambda i, __: {"DisableApiStop": {"Value": i.stop_protected}},
    "disableApiTermination": lambda i, __: {"DisableApiTermination": {"Value": i.termination_protected}},
    "ebsOptimized": lambda _, __: {"EbsOptimized": {"Value": False}},
    "enaSupport": lambda _, __: {"EnaSupport": {"Value": True}},
    "groupSet": lambda i, __: {"Groups": [{"GroupId": g.id, "GroupName": g.name} for g in i.groups]},
    "instanceInitiatedShutdownBehavior": lambda i, __: {
        "InstanceInitiatedShutdownBehavior": {"Value": i.shutdown_behavior}
    },
    "instanceType": lambda i, __: {"InstanceType": {"Value": i.type}},
    "kernel": lambda _, __: {"KernelId": {}},
    "productCodes": lambda _, __: {"ProductCodes": []},
    "ramdisk": lambda _, __: {"RamdiskId": {}},
    "rootDeviceName": lambda i, __: {"RootDeviceName": {"Value": i.root_device}},
    "sourceDestCheck": lambda i, __: {"SourceDestCheck": {"Value": i.source_dest_check}},
    "userData": lambda i, __: {"UserData": {"Value": i.user_data} if i.user_data else {}},
}
"""The attributes of API_DescribeInstanceAttribute that the lab has."""


def describe_instance_attribute(lab: Compute, call: Call) -> Answer:
    """Show one attribute of an instance (API_DescribeInstanceAttribute)."""
    call.only("Attribute", "InstanceId")
    attribute = call.required("Attribute")
    instance = find(lab, call, Instance, call.required("InstanceId"))
    call.not_dry()
    if attribute not in SHOWN:
        raise refusal.bad_value(f"Value ({attribute}) for parameter attribute is invalid. Unknown attribute.")
    return {"InstanceId": instance.id, **SHOWN[attribute](instance, lab.books.attached(instance.id))}


def modify_instance_attribute(lab: Compute, call: Call) -> Answer:
    """Change an attribute of an instance (API_ModifyInstanceAttribute).

    "To modify some attributes, the instance must be stopped": its type and its user data.

    Raises:
        Refusal: ``IncorrectInstanceState``, ``InvalidParameterValue``, ``InvalidParameterCombination``.
    """
    call.only(
        "Attribute",
        "BlockDeviceMappings",
        "DisableApiStop",
        "DisableApiTermination",
        "Groups",
        "InstanceId",
        "InstanceInitiatedShutdownBehavior",
        "InstanceType",
        "SourceDestCheck",
        "UserData",
        "Value",
    )
    with lab.books.open():
        instance = find(lab, call, Instance, call.required("InstanceId"))
        asked = {key: value for key, value in call.params.items() if key not in {"InstanceId", "DryRun"}}
        if old := asked.pop("Attribute", None):
            if old not in _OLD_FORM:
                raise refusal.unsupported(f"ModifyInstanceAttribute of {old}")
            asked[_OLD_FORM[old]] = {"Value": asked.pop("Value", "")}
        if len(asked) != 1:
            raise Refusal("InvalidParameterCombination", "Exactly one attribute must be specified.")
        ((name, value),) = asked.items()
        if name == "BlockDeviceMappings":
            _mappings(lab, instance, value)
        elif name == "Groups":
            groups = lab.network.groups(call, ids=value, names=(), vpc=instance.vpc)
            lab.books.put(replace(instance, groups=groups))
        else:
            lab.books.put(_changed(lab, call, instance, name, value.get("Value", "")))
        call.not_dry()
    return {}


_OLD_FORM = {
    "disableApiTermination": "DisableApiTermination",
    "instanceInitiatedShutdownBehavior": "InstanceInitiatedShutdownBehavior",
    "instanceType": "InstanceType",
    "sourceDestCheck": "SourceDestCheck",
    "userData": "UserData",
}


def _changed(lab: Compute, call: Call, instance: Instance, name: str, value: Any) -> Instance:
    if name in {"InstanceType", "UserData"} and instance.state != "stopped":
        raise Refusal(
            "IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'stopped' state."
        )
    match name:
        case "InstanceType":
            lab.network.instance_type(call, value, architecture=instance.architecture)
            return replace(instance, type=value)
        case "UserData":
            text = base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
            return replace(instance, user_data=check_user_data(text))
        case "InstanceInitiatedShutdownBehavior":
            if value not in {"stop", "terminate"}:
                raise refusal.bad_value(f"Invalid value '{value}' for InstanceInitiatedShutdownBehavior.")
            return replace(instance, shutdown_behavior=value)
    flag = value if isinstance(value, bool) else str(value).lower() == "true"
    match name:
        case "DisableApiTermination":
            return replace(instance, termination_protected=flag)
        case "DisableApiStop":
            return replace(instance, stop_protected=flag)
        case _:
            return replace(instance, source_dest_check=flag)


def _mappings(lab: Compute, instance: Instance, mappings: list[Mapping[str, Any]]) -> None:
    by_device = {v.attachment.device: v for v in lab.books.attached(instance.id) if v.attachment}
    for mapping in mappings:
        device = mapping.get("DeviceName", "")
        volume = by_device.get(device)
        if volume is None or volume.attachment is None:
            raise Refusal(
                "InvalidInstanceAttributeValue", f"No device is currently mapped at {device or 'no name'}"
            )
        kept = mapping.get("Ebs", {}).get("DeleteOnTermination")
        if kept is not None:
            attachment = replace(volume.attachment, delete_on_termination=bool(kept))
            lab.books.put(replace(volume, attachment=attachment))
