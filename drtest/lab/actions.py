"""The actions of EC2's API that the lab carries out itself, each by its name."""

from collections.abc import Callable, Mapping

from drtest.lab import (
    amis,
    attachments,
    attributes,
    console,
    copying,
    imaging,
    instances,
    interfaces,
    launch,
    locks,
    metadata,
    modifying,
    power,
    rootswap,
    sharing,
    snapshots,
    status,
    volumes,
)
from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute
from drtest.lab.neighbours import Neighbours
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Instance
from drtest.lab.tags import Tags

Action = Callable[[Compute, Call], Answer]

ACTIONS: Mapping[str, Action] = {
    "AttachVolume": attachments.attach_volume,
    "CopySnapshot": copying.copy_snapshot,
    "CreateImage": imaging.create_image,
    "CreateReplaceRootVolumeTask": rootswap.create_replace_root_volume_task,
    "CreateSnapshot": snapshots.create_snapshot,
    "CreateSnapshots": snapshots.create_snapshots,
    "CreateVolume": volumes.create_volume,
    "DeleteSnapshot": snapshots.delete_snapshot,
    "DeleteVolume": volumes.delete_volume,
    "DeregisterImage": amis.deregister_image,
    "DescribeAddresses": interfaces.describe_addresses,
    "DescribeIamInstanceProfileAssociations": interfaces.describe_iam_instance_profile_associations,
    "DescribeImageAttribute": amis.describe_image_attribute,
    "DescribeImages": amis.describe_images,
    "DescribeInstanceAttribute": attributes.describe_instance_attribute,
    "DescribeInstanceCreditSpecifications": interfaces.describe_instance_credit_specifications,
    "DescribeInstanceStatus": status.describe_instance_status,
    "DescribeInstances": instances.describe_instances,
    "DescribeLockedSnapshots": locks.describe_locked_snapshots,
    "DescribeNetworkInterfaces": interfaces.describe_network_interfaces,
    "DescribeReplaceRootVolumeTasks": rootswap.describe_replace_root_volume_tasks,
    "DescribeSnapshotAttribute": sharing.describe_snapshot_attribute,
    "DescribeSnapshots": snapshots.describe_snapshots,
    "DescribeVolumeAttribute": volumes.describe_volume_attribute,
    "DescribeVolumeStatus": volumes.describe_volume_status,
    "DescribeVolumes": volumes.describe_volumes,
    "DescribeVolumesModifications": modifying.describe_volumes_modifications,
    "DetachVolume": attachments.detach_volume,
    "GetConsoleOutput": console.get_console_output,
    "GetConsoleScreenshot": console.get_console_screenshot,
    "LockSnapshot": locks.lock_snapshot,
    "ModifyImageAttribute": amis.modify_image_attribute,
    "ModifyInstanceAttribute": attributes.modify_instance_attribute,
    "ModifyInstanceMetadataOptions": metadata.modify_instance_metadata_options,
    "ModifySnapshotAttribute": sharing.modify_snapshot_attribute,
    "ModifyVolume": modifying.modify_volume,
    "ModifyVolumeAttribute": volumes.modify_volume_attribute,
    "RebootInstances": power.reboot_instances,
    "RegisterImage": amis.register_image,
    "RunInstances": launch.run_instances,
    "StartInstances": power.start_instances,
    "StopInstances": power.stop_instances,
    "TerminateInstances": power.terminate_instances,
    "UnlockSnapshot": locks.unlock_snapshot,
}
"""What works on the lab's books, machines and disks alone."""


def tag_actions(neighbours: Neighbours) -> Mapping[str, Action]:
    """Name the actions over tags, which work on moto's resources too."""
    tags = Tags(neighbours)
    return {"CreateTags": tags.create, "DeleteTags": tags.delete, "DescribeTags": tags.describe}


def check_unused(lab: Compute, call: Call) -> None:
    """Refuse what moto would do though an instance of the lab needs the thing: moto does not see it.

    Raises:
        Refusal: ``DependencyViolation``.
    """
    if call.action not in {"DeleteSecurityGroup", "DeleteSubnet", "DeleteVpc"}:
        return
    name = call.action.removeprefix("Delete")
    key = call.text({"SecurityGroup": "GroupId", "Subnet": "SubnetId", "Vpc": "VpcId"}[name])
    group = call.text("GroupName")
    for instance in lab.visible(Instance, call):
        if instance.state == "terminated":
            continue
        names = {g.id for g in instance.groups} | {instance.subnet, instance.vpc}
        if (key and key in names) or (group and group in {g.name for g in instance.groups}):
            raise Refusal(
                "DependencyViolation", f"resource {key or group} has a dependent object ({instance.id})"
            )
