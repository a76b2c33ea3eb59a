"""RunInstances: from an image to instances with their volumes."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from drtest.lab import lifecycle, metadata, refusal
from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute, new_id, now
from drtest.lab.instances import instance_view
from drtest.lab.lookup import find, made_before, remember
from drtest.lab.network import Subnet
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Attachment, Device, Group, Image, Instance, Snapshot, Volume
from drtest.lab.sizes import check_size
from drtest.lab.space import check_room

HONOURED = (
    "BlockDeviceMappings",
    "ClientToken",
    "DisableApiStop",
    "DisableApiTermination",
    "IamInstanceProfile",
    "ImageId",
    "InstanceInitiatedShutdownBehavior",
    "InstanceType",
    "KeyName",
    "MaxCount",
    "MetadataOptions",
    "MinCount",
    "NetworkInterfaces",
    "Placement",
    "PrivateIpAddress",
    "SecurityGroupIds",
    "SecurityGroups",
    "SubnetId",
    "TagSpecifications",
    "UserData",
)
WITHOUT_EFFECT = (
    "CreditSpecification",
    "EbsOptimized",
    "MaintenanceOptions",
    "Monitoring",
    "PrivateDnsNameOptions",
)
"""Parameters that change nothing that could be seen in the lab: performance and bills."""

MAX_USER_DATA = 16 * 1024
MAX_INSTANCES = 64
"""How many instances one call may start here; on AWS the account's vCPU limit says it."""

DEVICE_NAME = re.compile(r"(/dev/)?(sd[a-z][1-9]?[0-9]?|xvd[a-z]{1,2}[1-9]?[0-9]?)")
"""https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html"""


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where the instances of a call go."""

    subnet: Subnet
    groups: tuple[Group, ...]
    address: str
    public: bool


def run_instances(lab: Compute, call: Call) -> Answer:
    """Launch instances (API_RunInstances).

    All or none: what can be wrong is found before anything is written. The answer shows ``pending``; the
    volumes are made and the machines started behind it.

    Raises:
        Refusal: as EC2 words it, see the calls of `refusal` below.
    """
    call.only(*HONOURED, *WITHOUT_EFFECT)
    with lab.books.open():
        if before := made_before(lab, call):
            return _answer(lab, [i for key in before if (i := lab.books.find(Instance, key))])
        image = _image(lab, call)
        least, most = _counts(call)
        kind = call.text("InstanceType", "m1.small")
        lab.network.instance_type(call, kind, architecture=image.architecture)
        if image.virtualization != "hvm":
            raise Refusal(
                "InvalidParameterCombination",
                f"Instances with a virtualization type of '{image.virtualization}' are not supported for this "
                f"instance type: {kind}",
            )
        place = _place(lab, call)
        if place.address and most > 1:
            raise Refusal(
                "InvalidParameterCombination",
                "The parameter privateIpAddress cannot be used when more than one instance is launched.",
            )
        devices = _devices(lab, call, image)
        instance_tags = call.tags_of("instance", allowed={"volume", "network-interface"})
        volume_tags = call.tags_of("volume", allowed={"instance", "network-interface"})
        behaviour = call.text("InstanceInitiatedShutdownBehavior", "stop")
        if behaviour not in {"stop", "terminate"}:
            raise refusal.bad_value(f"Invalid value '{behaviour}' for InstanceInitiatedShutdownBehavior.")
        public_key = lab.network.public_key(call, call.text("KeyName"))
        user_data = check_user_data(call.text("UserData"))
        call.not_dry()
        check_room(lab)

        reservation, time = new_id("r"), now()
        taken = {
            i.private_address
            for i in lab.books.all(Instance)
            if i.subnet == place.subnet.id and i.state != "terminated"
        }
        made: list[Instance] = []
        for index in range(most):
            try:
                private = lab.network.private_address(place.subnet, wanted=place.address, taken=taken)
            except Refusal:
                if len(made) >= least:
                    break
                raise
            taken.add(private)
            instance = Instance(
                id=new_id("i"),
                owner=call.owner,
                region=call.region,
                number=lab.books.next_number(),
                created=time,
                launched=time,
                tags=instance_tags,
                state="pending",
                reservation=reservation,
                launch_index=index,
                image=image.id,
                type=kind,
                os=image.os,
                architecture=image.architecture,
                key_name=call.text("KeyName"),
                public_key=public_key,
                user_data=user_data,
                zone=place.subnet.zone,
                subnet=place.subnet.id,
                vpc=place.subnet.vpc,
                private_address=private,
                prefix=place.subnet.network.prefixlen,
                interface=new_id("eni"),
                public=place.public,
                address=lifecycle.pick_address(lab),
                groups=place.groups,
                root_device=image.root_device,
                pool=image.pool,
                profile=_profile(call),
                shutdown_behavior=behaviour,
                termination_protected=call.flag("DisableApiTermination"),
                stop_protected=call.flag("DisableApiStop"),
                **metadata.options(call.params.get("MetadataOptions", {})),
                client_token=call.text("ClientToken"),
                launching=True,
            )
            lab.books.put(instance)
            for device in devices:
                _put_volume(lab, instance, device, volume_tags)
            made.append(instance)
        remember(lab, call, (instance.id for instance in made))
        answer = _answer(lab, made)
    for instance in made:
        lifecycle.boot_soon(lab, instance.id)
    return answer


def _answer(lab: Compute, made: list[Instance]) -> Answer:
    return {
        "ReservationId": made[0].reservation if made else "",
        "OwnerId": made[0].owner if made else "",
        "Groups": [],
        "Instances": [instance_view(instance, lab.books.attached(instance.id)) for instance in made],
    }


def _image(lab: Compute, call: Call) -> Image:
    image = find(lab, call, Image, call.required("ImageId"))
    if image.state != "available":
        raise Refusal("InvalidAMIID.Unavailable", f"The image ID '{image.id}' is not available")
    return image


def _counts(call: Call) -> tuple[int, int]:
    least, most = call.number("MinCount"), call.number("MaxCount")
    if least is None or most is None:
        raise refusal.missing("minCount" if least is None else "maxCount")
    if least < 1 or most < least:
        raise refusal.bad_value(f"Invalid values for minCount ({least}) and maxCount ({most}).")
    if least > MAX_INSTANCES:
        raise Refusal(
            "InstanceLimitExceeded", f"The lab starts at most {MAX_INSTANCES} instances in one call."
        )
    return least, min(most, MAX_INSTANCES)


def _place(lab: Compute, call: Call) -> _Place:
    subnet_id, address = call.text("SubnetId"), call.text("PrivateIpAddress")
    ids, names = call.texts("SecurityGroupIds"), call.texts("SecurityGroups")
    public: bool | None = None
    cards = call.params.get("NetworkInterfaces", [])
    if cards:
        if subnet_id or ids or names or address:
            raise Refusal(
                "InvalidParameterCombination",
                "Network interfaces and an instance-level subnet ID, security groups or address may not be "
                "specified on the same request",
            )
        if len(cards) > 1:
            raise refusal.unsupported("RunInstances with more than one network interface")
        known = {"AssociatePublicIpAddress", "DeleteOnTermination", "Description", "DeviceIndex", "Groups"}
        known |= {"PrivateIpAddress", "SubnetId"}
        if strange := set(cards[0]) - known:
            raise refusal.unsupported(f"RunInstances with a network interface's {min(strange)}")
        subnet_id, address = cards[0].get("SubnetId", ""), cards[0].get("PrivateIpAddress", "")
        ids, public = list(cards[0].get("Groups", [])), cards[0].get("AssociatePublicIpAddress")
    zone = call.params.get("Placement", {}).get("AvailabilityZone", "")
    if zone:
        lab.network.zone(call, name=zone)
    subnet = lab.network.subnet(call, subnet_id) if subnet_id else lab.network.default_subnet(call, zone)
    if zone and subnet.zone != zone:
        raise refusal.bad_value(f"The subnet '{subnet.id}' is not in the zone '{zone}'.")
    return _Place(
        subnet=subnet,
        groups=lab.network.groups(call, ids=ids, names=names, vpc=subnet.vpc),
        address=address,
        public=subnet.public if public is None else public,
    )


def _profile(call: Call) -> str:
    asked = call.params.get("IamInstanceProfile", {})
    name = asked.get("Name", "")
    return str(asked.get("Arn") or (f"arn:aws:iam::{call.owner}:instance-profile/{name}" if name else ""))


def check_user_data(text: str) -> str:
    """Check user data, which comes as base64.

    Raises:
        Refusal: ``InvalidUserData.Malformed``, or ``InvalidParameterValue`` for more than 16 KB.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise Refusal("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.") from error
    if len(data) > MAX_USER_DATA:
        raise refusal.bad_value(f"User data is limited to {MAX_USER_DATA} bytes")
    return text


def _devices(lab: Compute, call: Call, image: Image) -> list[Device]:
    """Lay the call's block device mapping over the image's."""
    devices = {device.name: device for device in image.devices}
    seen = set()
    for entry in call.params.get("BlockDeviceMappings", []):
        name = entry.get("DeviceName", "")
        if not DEVICE_NAME.fullmatch(name):
            raise refusal.bad_value(
                f"Value ({name}) for parameter device is invalid. {name} is not a valid EBS device name."
            )
        if name in seen:
            raise Refusal(
                "InvalidBlockDeviceMapping", f"The device '{name}' is used in more than one mapping."
            )
        seen.add(name)
        if "NoDevice" in entry:
            if name == image.root_device:
                raise Refusal("InvalidBlockDeviceMapping", "The root device can't be suppressed.")
            devices.pop(name, None)
            continue
        if "VirtualName" in entry:
            raise refusal.unsupported("instance store volumes")
        devices[name] = _device(lab, call, image, name, entry.get("Ebs", {}), devices.get(name))
    if image.root_device not in devices:
        raise Refusal("InvalidBlockDeviceMapping", f"The image '{image.id}' has no root device.")
    return list(devices.values())


def _device(
    lab: Compute, call: Call, image: Image, name: str, asked: Mapping[str, Any], base: Device | None
) -> Device:
    snapshot_id = asked.get("SnapshotId", base.snapshot if base else "")
    if base and name == image.root_device and snapshot_id != base.snapshot:
        raise Refusal("InvalidBlockDeviceMapping", "snapshotId cannot be modified on root device")
    size = asked.get("VolumeSize", base.size if base else None)
    encrypted = bool(asked.get("Encrypted", base.encrypted if base else False))
    if snapshot_id:
        snapshot = find(lab, call, Snapshot, snapshot_id)
        if snapshot.state != "completed":
            raise Refusal("IncorrectState", f"Snapshot is in invalid state - {snapshot.state}")
        size = size if size is not None else snapshot.size
        if size < snapshot.size:
            raise Refusal(
                "InvalidBlockDeviceMapping",
                f"Volume of size {size}GB is smaller than snapshot '{snapshot_id}', expect size>= "
                f"{snapshot.size}GB",
            )
        encrypted = encrypted or snapshot.encrypted
    if size is None:
        raise Refusal(
            "InvalidBlockDeviceMapping", f"The mapping of '{name}' needs a snapshot ID or a volume size."
        )
    kind = asked.get("VolumeType", base.type if base else "gp2")
    check_size(size, kind=kind, iops=asked.get("Iops"))
    # The user guide's default: what is attached at launch goes with the instance, if nothing else is said.
    kept = asked.get("DeleteOnTermination", base.delete_on_termination if base else True)
    device = Device(name=name, snapshot=snapshot_id, size=size, type=kind, encrypted=encrypted)
    return replace(
        device,
        iops=asked.get("Iops"),
        throughput=asked.get("Throughput"),
        delete_on_termination=bool(kept),
    )


def _put_volume(lab: Compute, instance: Instance, device: Device, tags: dict[str, str]) -> None:
    snapshot = lab.books.find(Snapshot, device.snapshot) if device.snapshot else None
    lab.books.put(
        Volume(
            id=new_id("vol"),
            owner=instance.owner,
            region=instance.region,
            number=lab.books.next_number(),
            created=instance.created,
            tags=tags,
            state="creating",
            size=device.size,
            zone=instance.zone,
            snapshot=device.snapshot,
            layer=snapshot.layer if snapshot else "",
            type=device.type,
            iops=device.iops,
            throughput=device.throughput,
            encrypted=device.encrypted,
            os=snapshot.os if snapshot else "",
            lineage=snapshot.origin if snapshot else (),
            attachment=Attachment(
                instance=instance.id,
                device=device.name,
                state="attaching",
                at=instance.created,
                delete_on_termination=device.delete_on_termination,
            ),
        )
    )
