"""Servers that exist before the drill, and are not the run's to delete."""

from typing import Any

from drtest.lab.resources import Instance
from drtest.words import Os
from tests.drill.kit.disks import Content
from tests.drill.kit.world import World
from tests.lab.api.conftest import until


def server(world: World, name: str, *, os: Os = Os.LINUX, **params: Any) -> str:
    """Launch a server with a data volume at /dev/sdf, as its owner would have; it runs when this returns."""
    data = [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}]
    answer = world.client.run_instances(
        ImageId=world.target.images[os].id,
        MinCount=1,
        MaxCount=1,
        InstanceType="t3.small",
        BlockDeviceMappings=data,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}],
        **params,
    )
    instance = str(answer["Instances"][0]["InstanceId"])
    until(lambda: world.state(instance) == "running")
    root, data_volume = volume(world, instance, "/dev/xvda"), volume(world, instance, "/dev/sdf")
    uuid = f"11111111-aaaa-4bbb-8ccc-{data_volume[-12:]}"
    filesystem, target = {Os.LINUX: ("xfs", "/srv"), Os.WINDOWS: ("ntfs", "E:\\")}[os]
    world.machines.change(data_volume, **vars(Content(filesystem=filesystem, uuid=uuid)))
    world.machines.change(root, fstab=((target, uuid),))
    return instance


def volume(world: World, instance: str, device: str) -> str:
    """The volume at a device."""
    mappings = world.described(instance)["BlockDeviceMappings"]
    return next(str(one["Ebs"]["VolumeId"]) for one in mappings if one["DeviceName"] == device)


def selecting(name: str, *, os: Os = Os.LINUX, **allowed: Any) -> dict[str, Any]:
    """What a scenario says of such a server."""
    allowed = allowed or {"may_stop": True, "may_write": True}
    chosen = {"tags": {"Name": name}, "volumes": {"data": {"device": "/dev/sdf"}}}
    return {"name": name, "os": os, "select": chosen, **allowed}


def marks(world: World, instance: str) -> dict[str, str]:
    """The tags of drtest's that a server carries."""
    found = world.compute.books.find(Instance, instance)
    assert found is not None
    return {key: value for key, value in found.tags.items() if key.startswith("drtest:")}
