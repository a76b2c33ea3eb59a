"""The calls that a drill makes on EC2, each safe to make twice.

Whatever is created is found again by its tags, and is told to the ledger before the call returns.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from drtest.cloud import groups
from drtest.cloud.failures import code_of
from drtest.cloud.guard import Guard
from drtest.cloud.resources import Image, Instance, Snapshot, Status, Subnet, Volume
from drtest.cloud.tags import KEY, RUN, Ownership, from_aws, to_aws
from drtest.cloud.wait import T
from drtest.errors import EnvironmentFailedError

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

GONE = (
    "InvalidInstanceID.NotFound",
    "InvalidVolume.NotFound",
    "InvalidSnapshot.NotFound",
    "InvalidGroup.NotFound",
)


@dataclass(frozen=True, kw_only=True)
class Created:
    """One resource that now exists and is ours to delete; its kind is a word, as ``instance``."""

    kind: str
    id: str
    ownership: Ownership


class Ec2:
    """EC2 in one region, with one run's ownership.

    Args:
        client: a boto3 EC2 client, with the guard before it.
        unretried: the same without retries, for CreateSnapshots: it has no ClientToken, and a retry would move
            the point in time.
        guard: told of everything that is created.
        on_created: told of everything that is created, before the call returns.
    """

    def __init__(
        self,
        client: "EC2Client",
        *,
        unretried: "EC2Client",
        guard: Guard,
        on_created: Callable[[Created], None] = lambda _: None,
    ) -> None:
        self.client = client
        self.unretried = unretried
        self.guard = guard
        self._on_created = on_created
        self._gone: dict[str, set[str]] = {}
        self._groups: dict[str, str] = {}
        self._subnets: dict[str, Subnet] = {}

    # Reading

    def describe(self, kind: type[T], ids: Sequence[str]) -> dict[str, T]:
        """The named resources that exist, by id, in as few calls as there are pages."""
        if kind is Status:
            pages = self._pages("describe_instance_status", InstanceIds=list(ids), IncludeAllInstances=True)
            items = [cast("T", Status.from_aws(data)) for page in pages for data in page["InstanceStatuses"]]
            return {item.id: item for item in items}
        names = {Instance: "instance-id", Volume: "volume-id", Snapshot: "snapshot-id", Image: "image-id"}
        # By filter and not by id: an id that is not seen yet fails the whole call.
        found = self._filtered(kind, {"Name": names[cast(Any, kind)], "Values": list(ids)})
        return {item.id: item for item in found}

    def owned(self, kind: type[T], *, run: str | None = None, key: str | None = None) -> list[T]:
        """The resources that carry a run's tags: any run's where none is named."""
        filters: list[dict[str, Any]] = [
            {"Name": f"tag:{RUN}", "Values": [run]} if run else {"Name": "tag-key", "Values": [RUN]}
        ]
        if key is not None:
            filters.append({"Name": f"tag:{KEY}", "Values": [key]})
        return self._filtered(kind, *filters)

    def tagged(self, tags: Mapping[str, str]) -> list[Instance]:
        """The instances, not terminated, that carry all of these tags; an empty value means any."""
        filters = [
            {"Name": f"tag:{key}", "Values": [value]} if value else {"Name": "tag-key", "Values": [key]}
            for key, value in tags.items()
        ]
        return [item for item in self._filtered(Instance, *filters) if item.state not in GONE_STATES]

    def snapshots_of(self, volume: str) -> list[Snapshot]:
        """This account's snapshots of a volume, newest first."""
        found = self._filtered(Snapshot, {"Name": "volume-id", "Values": [volume]})
        return sorted(found, key=lambda item: item.start_time, reverse=True)

    def instance(self, instance: str) -> Instance:
        """One instance.

        Raises:
            EnvironmentFailedError: there is none with that id.
        """
        found = self.describe(Instance, [instance])
        if instance not in found:
            raise EnvironmentFailedError(
                f"Instance {instance} is not there.",
                remedy="Somebody may have terminated it: see CloudTrail.",
            )
        return found[instance]

    def attribute(self, instance: str, *, name: str) -> str:
        """One attribute of an instance, as ``instanceInitiatedShutdownBehavior``."""
        answer = cast(Any, self.client).describe_instance_attribute(InstanceId=instance, Attribute=name)
        return str(answer.get(name[0].upper() + name[1:], {}).get("Value", ""))

    def subnet(self, subnet: str) -> Subnet:
        """One subnet; asked for once."""
        if subnet not in self._subnets:
            data = self.client.describe_subnets(SubnetIds=[subnet])["Subnets"][0]
            self._subnets[subnet] = Subnet(
                id=subnet,
                vpc=data.get("VpcId", ""),
                zone=data.get("AvailabilityZone", ""),
                cidr=data.get("CidrBlock", ""),
            )
        return self._subnets[subnet]

    def has_elastic_address(self, instance: str) -> bool:
        """Whether an instance's public address is an Elastic IP, which a stop does not take away."""
        filters = [{"Name": "instance-id", "Values": [instance]}]
        return bool(cast(Any, self.client).describe_addresses(Filters=filters)["Addresses"])

    def console(self, instance: str) -> str:
        """The console's last 64 KB (GetConsoleOutput; Latest needs Nitro); empty where there is none yet."""
        # boto3 decodes the API's base64 for this call (botocore handlers, decode_console_output).
        return self.client.get_console_output(InstanceId=instance, Latest=True).get("Output") or ""

    def screenshot(self, instance: str) -> bytes:
        """What its screen shows now, as JPEG (GetConsoleScreenshot)."""
        import base64

        answer = self.client.get_console_screenshot(InstanceId=instance, WakeUp=True)
        return base64.b64decode(answer["ImageData"])

    # Creating: found by its key, or made

    def launched(self, ownership: Ownership) -> Instance | None:
        """The instance of this key, if there is one that is not terminated."""
        for instance in self.owned(Instance, run=ownership.run, key=ownership.key):
            if instance.state not in GONE_STATES:
                return self._created(instance, ownership, "instance")
            self._gone.setdefault(ownership.key, set()).add(instance.id)
        return None

    def launch(self, ownership: Ownership, **parameters: object) -> Instance:
        """Find the instance of this key, or launch it; its volumes carry the same tags."""
        if found := self.launched(ownership):
            return found
        # A token stands for the instance that it made even when that is terminated: its successor needs another.
        gone = sorted(self._gone.get(ownership.key, ()))
        token = hashlib.sha256("\n".join([ownership.token, *gone]).encode()).hexdigest()
        answer = cast(Any, self.client).run_instances(
            MinCount=1,
            MaxCount=1,
            ClientToken=token if gone else ownership.token,
            TagSpecifications=ownership.specification("instance", "volume"),
            **parameters,
        )
        return self._created(Instance.from_aws(answer["Instances"][0]), ownership, "instance")

    def create_volume(self, ownership: Ownership, **parameters: object) -> Volume:
        """Find the volume of this key, or create it."""
        for volume in self.owned(Volume, run=ownership.run, key=ownership.key):
            if volume.state not in ("deleting", "deleted"):
                return self._created(volume, ownership, "volume")
        answer = cast(Any, self.client).create_volume(
            ClientToken=ownership.token, TagSpecifications=ownership.specification("volume"), **parameters
        )
        return self._created(Volume.from_aws(answer), ownership, "volume")

    def create_snapshots(self, ownership: Ownership, *, instance: str, description: str) -> list[Snapshot]:
        """Snapshot all volumes of an instance at one moment, in one call that is not retried.

        A set is consistent across its volumes (EC2 API Reference, CreateSnapshots). The point in time is the
        request's.
        """
        answer = cast(Any, self.unretried).create_snapshots(
            InstanceSpecification={"InstanceId": instance, "ExcludeBootVolume": False},
            Description=description,
            TagSpecifications=ownership.specification("snapshot"),
        )
        return [
            self._created(Snapshot.from_aws(data), ownership, "snapshot")
            for data in cast("list[dict[str, Any]]", answer["Snapshots"])
        ]

    def create_security_group(
        self, ownership: Ownership, *, vpc: str, ports: Sequence[int], source: str
    ) -> str:
        """Find the security group of this key, or make one without egress that lets only ``source`` in.

        Args:
            ownership: its tags.
            vpc: where it is made.
            ports: TCP ports that are let in.
            source: the CIDR block that they are let in from.
        """

        def created(group: str) -> None:
            self.guard.own(group)
            self._on_created(Created(kind="security-group", id=group, ownership=ownership))

        if ownership.key not in self._groups:
            self._groups[ownership.key] = groups.security_group(
                self.client, ownership, vpc=vpc, ports=ports, source=source, on_created=created
            )
        return self._groups[ownership.key]

    # Deleting: what is gone already is deleted

    def terminate(self, instance: str) -> None:
        """Terminate an instance; one that is gone is terminated."""
        with groups.fine(*GONE):
            self.client.terminate_instances(InstanceIds=[instance])

    def delete_volume(self, volume: str) -> None:
        """Delete a volume; one that is gone is deleted."""
        with groups.fine(*GONE):
            self.client.delete_volume(VolumeId=volume)

    def delete_snapshot(self, snapshot: str) -> None:
        """Delete a snapshot; one that is gone is deleted."""
        with groups.fine(*GONE):
            self.client.delete_snapshot(SnapshotId=snapshot)

    def delete_security_group(self, group: str) -> None:
        """Delete a security group; one that is gone is deleted."""
        with groups.fine(*GONE):
            self.client.delete_security_group(GroupId=group)

    # Changing

    def tag(self, resource: str, tags: Mapping[str, str]) -> None:
        """Set tags on a resource."""
        self.client.create_tags(Resources=[resource], Tags=cast(Any, to_aws(tags)))

    def untag(self, resource: str, tags: Mapping[str, str]) -> None:
        """Remove tags from a resource, each only if it has this value (EC2 API Reference, DeleteTags)."""
        self.client.delete_tags(Resources=[resource], Tags=cast(Any, to_aws(tags)))

    def attach(self, volume: Volume, *, instance: str, device: str) -> None:
        """Attach a volume, unless it is attached there already."""

        def there(seen: Volume | None) -> bool:
            return (
                seen is not None
                and seen.attached_to == instance
                and seen.attachment in ("attached", "attaching")
            )

        if there(volume):
            return
        with self._unless(volume.id, there):
            self.client.attach_volume(VolumeId=volume.id, InstanceId=instance, Device=device)

    def detach(self, volume: Volume) -> None:
        """Detach a volume, unless it is detached already."""

        def away(seen: Volume | None) -> bool:
            return seen is None or seen.attachment not in ("attached", "attaching", "busy")

        if away(volume):
            return
        with self._unless(volume.id, away):
            self.client.detach_volume(VolumeId=volume.id)

    @contextmanager
    def _unless(self, volume: str, done: Callable[[Volume | None], bool]) -> Iterator[None]:
        """Bear a refusal where the deed is done: an earlier try did it, and its reply was lost."""
        try:
            yield
        except ClientError as error:
            if code_of(error) not in ("VolumeInUse", "IncorrectState") or not done(
                self.describe(Volume, [volume]).get(volume)
            ):
                raise

    # Ownership

    def security_groups(self, *, run: str | None = None) -> dict[str, Mapping[str, str]]:
        """Tags by id of the security groups that carry a run's tag: any run's where none is named."""
        wanted = {"Name": f"tag:{RUN}", "Values": [run]} if run else {"Name": "tag-key", "Values": [RUN]}
        pages = self._pages("describe_security_groups", Filters=[wanted])
        return {
            group["GroupId"]: from_aws(group.get("Tags"))
            for page in pages
            for group in page["SecurityGroups"]
        }

    def adopt(self, item: T, ownership: Ownership) -> T:
        """Take a resource as ours that was made by a call whose reply was lost."""
        return self._created(item, ownership, type(item).__name__.lower())

    def _created(self, item: T, ownership: Ownership, kind: str) -> T:
        self.guard.own(item.id)
        if isinstance(item, Instance):
            self.guard.own(*item.volumes.values())
        self._on_created(Created(kind=kind, id=item.id, ownership=ownership))
        return item

    def _filtered(self, kind: type[T], *filters: Mapping[str, Any]) -> list[T]:
        made: Callable[[Mapping[str, Any]], Any] = cast(Any, kind).from_aws
        if kind is Instance:
            pages = self._pages("describe_instances", Filters=list(filters))
            return [
                made(data) for page in pages for each in page["Reservations"] for data in each["Instances"]
            ]
        if kind is Volume:
            return [
                made(data)
                for page in self._pages("describe_volumes", Filters=list(filters))
                for data in page["Volumes"]
            ]
        if kind is Snapshot:
            pages = self._pages("describe_snapshots", Filters=list(filters), OwnerIds=["self"])
            return [made(data) for page in pages for data in page["Snapshots"]]
        pages = self._pages("describe_images", Filters=list(filters))
        return [made(data) for page in pages for data in page["Images"]]

    def _pages(self, operation: str, **parameters: object) -> Iterator[Any]:
        return iter(cast(Any, self.client).get_paginator(operation).paginate(**parameters))


GONE_STATES = ("shutting-down", "terminated")
