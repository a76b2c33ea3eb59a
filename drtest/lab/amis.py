"""RegisterImage, DescribeImages, DeregisterImage, and the sharing of images."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from drtest.lab import locks, refusal
from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute, new_id, now
from drtest.lab.filters import Field, page, select
from drtest.lab.instances import tag_view
from drtest.lab.launch import DEVICE_NAME
from drtest.lab.lookup import find, find_all, may_use, own
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Device, Image, Snapshot
from drtest.lab.sharing import changed_sharing, own_tags, owned_by, permissions_view, restorable_by
from drtest.lab.snapshots import release

NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}")
"""API_RegisterImage, ``Name``."""


def check_name(lab: Compute, call: Call) -> str:
    """Check the name of a new image.

    Raises:
        Refusal: ``InvalidAMIName.Malformed`` or ``InvalidAMIName.Duplicate``.
    """
    name = call.required("Name")
    if not NAME.fullmatch(name):
        raise Refusal(
            "InvalidAMIName.Malformed",
            "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, and "
            "( ) . - / _ ' @ [ ]",
        )
    for image in lab.visible(Image, call):
        if image.name == name:
            raise Refusal("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {image.id}")
    return name


def register_image(lab: Compute, call: Call) -> Answer:
    """Make an image of snapshots (API_RegisterImage).

    The API's defaults bite: without them, the architecture is ``i386`` and the virtualization ``paravirtual``.

    Raises:
        Refusal: ``InvalidAMIName.Duplicate``, ``InvalidBlockDeviceMapping``, ``InvalidSnapshot.NotFound``.
    """
    call.only(
        "Architecture",
        "BlockDeviceMappings",
        "BootMode",
        "Description",
        "EnaSupport",
        "ImdsSupport",
        "Name",
        "RootDeviceName",
        "SriovNetSupport",
        "TagSpecifications",
        "VirtualizationType",
    )
    with lab.books.open():
        name = check_name(lab, call)
        mappings = call.params.get("BlockDeviceMappings", [])
        if not mappings:
            raise Refusal(
                "InvalidRequest", "The request received was invalid: a block device mapping is needed."
            )
        devices = [_device(lab, call, mapping) for mapping in mappings]
        if len({device.name for device in devices}) < len(devices):
            raise Refusal("InvalidBlockDeviceMapping", "A device is used in more than one mapping.")
        root = call.required("RootDeviceName")
        root_snapshot = next((d.snapshot for d in devices if d.name == root), "")
        if not root_snapshot:
            raise Refusal("InvalidBlockDeviceMapping", f"The root device '{root}' needs a snapshot.")
        snapshot = lab.books.find(Snapshot, root_snapshot)
        image = Image(
            id=new_id("ami"),
            owner=call.owner,
            region=call.region,
            number=lab.books.next_number(),
            created=now(),
            tags=call.tags_of("image", allowed={"snapshot"}),
            state="available",
            name=name,
            description=call.text("Description"),
            os=(snapshot.os if snapshot else "") or "linux",
            architecture=call.text("Architecture", "i386"),
            virtualization=call.text("VirtualizationType", "paravirtual"),
            boot_mode=call.text("BootMode"),
            ena=call.flag("EnaSupport"),
            root_device=root,
            devices=tuple(devices),
        )
        call.not_dry()
        lab.books.put(image)
    return {"ImageId": image.id}


def _device(lab: Compute, call: Call, mapping: Mapping[str, Any]) -> Device:
    name, ebs = mapping.get("DeviceName", ""), mapping.get("Ebs", {})
    if not DEVICE_NAME.fullmatch(name):
        raise refusal.bad_value(
            f"Value ({name}) for parameter device is invalid. {name} is not a valid EBS device name."
        )
    if not ebs:
        raise refusal.unsupported("images with instance store volumes")
    if "Encrypted" in ebs and ebs.get("SnapshotId"):
        raise Refusal(
            "InvalidBlockDeviceMapping", "the encrypted flag cannot be specified since device has a snapshot"
        )
    snapshot = find(lab, call, Snapshot, ebs["SnapshotId"]) if ebs.get("SnapshotId") else None
    if snapshot is not None and snapshot.state != "completed":
        raise Refusal("IncorrectState", f"Snapshot is in invalid state - {snapshot.state}")
    size = ebs.get("VolumeSize", snapshot.size if snapshot else None)
    if size is None:
        raise Refusal(
            "InvalidBlockDeviceMapping", f"The mapping of '{name}' needs a snapshot ID or a volume size."
        )
    if snapshot is not None and size < snapshot.size:
        raise Refusal(
            "InvalidBlockDeviceMapping",
            f"Volume of size {size}GB is smaller than snapshot '{snapshot.id}', expect size>= {snapshot.size}GB",
        )
    return Device(
        name=name,
        snapshot=snapshot.id if snapshot else "",
        size=size,
        type=ebs.get("VolumeType", "gp2"),
        iops=ebs.get("Iops"),
        throughput=ebs.get("Throughput"),
        delete_on_termination=ebs.get("DeleteOnTermination", True),
        encrypted=snapshot.encrypted if snapshot else bool(ebs.get("Encrypted")),
    )


def _each(name: str) -> Field[Image]:
    return lambda image: [getattr(device, name) or None for device in image.devices]


FIELDS: Mapping[str, Field[Image]] = {
    "architecture": lambda i: i.architecture,
    "block-device-mapping.delete-on-termination": lambda i: [d.delete_on_termination for d in i.devices],
    "block-device-mapping.device-name": _each("name"),
    "block-device-mapping.encrypted": lambda i: [d.encrypted for d in i.devices],
    "block-device-mapping.snapshot-id": _each("snapshot"),
    "block-device-mapping.volume-size": _each("size"),
    "block-device-mapping.volume-type": _each("type"),
    "creation-date": lambda i: i.created,
    "description": lambda i: i.description,
    "ena-support": lambda i: i.ena,
    "hypervisor": lambda _: "xen",
    "image-id": lambda i: i.id,
    "image-type": lambda _: "machine",
    "is-public": lambda i: "all" in i.shared_with,
    "name": lambda i: i.name,
    "owner-alias": lambda _: None,
    "owner-id": lambda i: i.owner,
    "platform": lambda i: "windows" if i.os == "windows" else None,
    "root-device-name": lambda i: i.root_device,
    "root-device-type": lambda _: "ebs",
    "source-instance-id": lambda i: i.source_instance or None,
    "state": lambda i: i.state,
    "virtualization-type": lambda i: i.virtualization,
}
"""What the filters of API_DescribeImages look at."""


def describe_images(lab: Compute, call: Call) -> Answer:
    """Show the images that the caller can launch (API_DescribeImages)."""
    call.only(
        "ExecutableUsers",
        "Filters",
        "ImageIds",
        "IncludeDeprecated",
        "IncludeDisabled",
        "MaxResults",
        "NextToken",
        "Owners",
    )
    ids = call.texts("ImageIds")
    if ids:
        found = find_all(lab, call, Image, ids)
    else:
        found = [image for image in lab.books.all(Image) if may_use(image, call)]
    call.not_dry()
    if owners := call.texts("Owners"):
        found = [image for image in found if owned_by(image, owners, call)]
    if users := call.texts("ExecutableUsers"):
        found = [image for image in found if restorable_by(image, users, call)]
    chosen = select(found, call.params.get("Filters", []), fields=FIELDS, tags=lambda i: own_tags(i, call))
    some, token = page(sorted(chosen, key=lambda i: i.number), call, ids="imageId", given=ids)
    return {"Images": [_view(image, own_tags(image, call)) for image in some], "NextToken": token}


def _view(image: Image, tags: Mapping[str, str]) -> dict[str, Any]:
    windows = image.os == "windows"
    return {
        "ImageId": image.id,
        "Name": image.name,
        "Description": image.description or None,
        "ImageLocation": f"{image.owner}/{image.name}",
        "ImageType": "machine",
        "OwnerId": image.owner,
        "Public": "all" in image.shared_with,
        "State": image.state,
        "StateReason": {"Code": "Server.InternalError", "Message": image.reason} if image.reason else None,
        "CreationDate": image.created,
        "Architecture": image.architecture,
        "VirtualizationType": image.virtualization,
        "Hypervisor": "xen",
        "EnaSupport": image.ena,
        "BootMode": image.boot_mode or None,
        "Platform": "windows" if windows else None,
        "PlatformDetails": "Windows" if windows else "Linux/UNIX",
        "UsageOperation": "RunInstances:0002" if windows else "RunInstances",
        "RootDeviceName": image.root_device,
        "RootDeviceType": "ebs",
        "SourceInstanceId": image.source_instance or None,
        "BlockDeviceMappings": [
            {
                "DeviceName": device.name,
                "Ebs": {
                    "SnapshotId": device.snapshot or None,
                    "VolumeSize": device.size,
                    "VolumeType": device.type,
                    "Iops": device.iops,
                    "Throughput": device.throughput,
                    "DeleteOnTermination": device.delete_on_termination,
                    "Encrypted": device.encrypted,
                },
            }
            for device in image.devices
        ],
        "Tags": tag_view(tags),
    }


def deregister_image(lab: Compute, call: Call) -> Answer:
    """Take an image out (API_DeregisterImage), with its snapshots if asked, save those that another one uses."""
    call.only("DeleteAssociatedSnapshots", "ImageId")
    results, gone = [], []
    with lab.books.open():
        image = own(find(lab, call, Image, call.required("ImageId")), call)
        call.not_dry()
        lab.books.drop(image)
        used = {device.snapshot for other in lab.books.all(Image) for device in other.devices}
        for key in [
            d.snapshot for d in image.devices if d.snapshot and call.flag("DeleteAssociatedSnapshots")
        ]:
            snapshot = lab.books.find(Snapshot, key)
            locked = snapshot is not None and locks.is_locked(snapshot)
            if snapshot is None or snapshot.owner != call.owner or key in used or locked:
                results.append({"SnapshotId": key, "ReturnCode": "skipped"})
                continue
            lab.books.drop(snapshot)
            gone.append(snapshot)
            results.append({"SnapshotId": key, "ReturnCode": "success"})
    for snapshot in gone:
        if not snapshot.kept:
            release(lab, snapshot.layer)
    return {"Return": True, "DeleteSnapshotResults": results or None}


def describe_image_attribute(lab: Compute, call: Call) -> Answer:
    """Show one attribute of an image (API_DescribeImageAttribute)."""
    call.only("Attribute", "ImageId")
    attribute = call.required("Attribute")
    image = own(find(lab, call, Image, call.required("ImageId")), call)
    call.not_dry()
    match attribute:
        case "launchPermission":
            return {"ImageId": image.id, "LaunchPermissions": permissions_view(image.shared_with)}
        case "description":
            return {"ImageId": image.id, "Description": {"Value": image.description}}
        case "blockDeviceMapping":
            return {
                "ImageId": image.id,
                "BlockDeviceMappings": _view(image, {})["BlockDeviceMappings"],
            }
        case "productCodes":
            return {"ImageId": image.id, "ProductCodes": []}
    raise refusal.bad_value(f"Invalid value '{attribute}' for the attribute.")


def modify_image_attribute(lab: Compute, call: Call) -> Answer:
    """Change an image's description or who may launch it (API_ModifyImageAttribute)."""
    call.only(
        "Attribute",
        "Description",
        "ImageId",
        "LaunchPermission",
        "OperationType",
        "UserGroups",
        "UserIds",
        "Value",
    )
    with lab.books.open():
        image = own(find(lab, call, Image, call.required("ImageId")), call)
        if "Description" in call.params:
            image = replace(image, description=call.params["Description"].get("Value", ""))
        elif call.text("Attribute") == "description":
            image = replace(image, description=call.text("Value"))
        else:
            image = replace(
                image, shared_with=changed_sharing(image.shared_with, call, name="LaunchPermission")
            )
        call.not_dry()
        lab.books.put(image)
    return {}
