"""What EC2 says of its resources, as frozen values: the dicts of boto3 end here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from drtest.cloud.tags import from_aws


class Described(Protocol):
    """What all that is waited for has: an id and a state."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def state(self) -> str:
        """Its state, in EC2's word."""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """An instance, as DescribeInstances shows it.

    Attributes:
        volumes: volume id by device name, of volumes that are attached.
        reason: StateTransitionReason, or StateReason's code where that says more.
    """

    id: str
    state: str
    reason: str
    image: str
    type: str
    zone: str
    subnet: str
    vpc: str
    public_address: str
    private_address: str
    root_device: str
    root_device_type: str
    volumes: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    hibernation: bool = False

    @classmethod
    def from_aws(cls, data: Mapping[str, Any]) -> "Instance":
        """Of one entry of DescribeInstances' Reservations[].Instances[]."""
        reason = str(data.get("StateTransitionReason") or "")
        code = str((data.get("StateReason") or {}).get("Code") or "")
        return cls(
            id=data["InstanceId"],
            state=data["State"]["Name"],
            reason=f"{code} {reason}".strip() if code.startswith("Server.") or "Error" in code else reason,
            image=str(data.get("ImageId") or ""),
            type=str(data.get("InstanceType") or ""),
            zone=str((data.get("Placement") or {}).get("AvailabilityZone") or ""),
            subnet=str(data.get("SubnetId") or ""),
            vpc=str(data.get("VpcId") or ""),
            public_address=str(data.get("PublicIpAddress") or ""),
            private_address=str(data.get("PrivateIpAddress") or ""),
            root_device=str(data.get("RootDeviceName") or ""),
            root_device_type=str(data.get("RootDeviceType") or "ebs"),
            volumes={
                mapping["DeviceName"]: mapping["Ebs"]["VolumeId"]
                for mapping in data.get("BlockDeviceMappings") or []
                if "Ebs" in mapping
            },
            tags=from_aws(data.get("Tags")),
            hibernation=bool((data.get("HibernationOptions") or {}).get("Configured")),
        )

    def address(self, which: str) -> str:
        """Its ``public`` or ``private`` address; empty while it has none."""
        return self.public_address if which == "public" else self.private_address


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A volume, as DescribeVolumes shows it; sizes in bytes."""

    id: str
    state: str
    size: int
    zone: str
    snapshot: str
    attached_to: str
    attachment: str
    device: str
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_aws(cls, data: Mapping[str, Any]) -> "Volume":
        """Of one entry of DescribeVolumes' Volumes[]."""
        attachments = data.get("Attachments") or [{}]
        return cls(
            id=data["VolumeId"],
            state=data["State"],
            size=int(data["Size"]) * 2**30,
            zone=str(data.get("AvailabilityZone") or ""),
            snapshot=str(data.get("SnapshotId") or ""),
            attached_to=str(attachments[0].get("InstanceId") or ""),
            attachment=str(attachments[0].get("State") or "detached"),
            device=str(attachments[0].get("Device") or ""),
            tags=from_aws(data.get("Tags")),
        )


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A snapshot, as DescribeSnapshots shows it; size in bytes."""

    id: str
    volume: str
    state: str
    progress: str
    message: str
    start_time: datetime
    size: int
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_aws(cls, data: Mapping[str, Any]) -> "Snapshot":
        """Of one entry of DescribeSnapshots' or CreateSnapshots' Snapshots[] (theirs differ in State's name)."""
        return cls(
            id=data["SnapshotId"],
            volume=str(data.get("VolumeId") or ""),
            state=str(data.get("State") or ""),
            progress=str(data.get("Progress") or ""),
            message=str(data.get("StateMessage") or ""),
            start_time=data["StartTime"],
            size=int(data.get("VolumeSize") or 0) * 2**30,
            tags=from_aws(data.get("Tags")),
        )


@dataclass(frozen=True, kw_only=True)
class Image:
    """An AMI, as DescribeImages shows it."""

    id: str
    name: str
    state: str
    root_device: str
    architecture: str
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_aws(cls, data: Mapping[str, Any]) -> "Image":
        """Of one entry of DescribeImages' Images[]."""
        return cls(
            id=data["ImageId"],
            name=str(data.get("Name") or ""),
            state=str(data.get("State") or ""),
            root_device=str(data.get("RootDeviceName") or ""),
            architecture=str(data.get("Architecture") or ""),
            tags=from_aws(data.get("Tags")),
        )


@dataclass(frozen=True, kw_only=True)
class Status:
    """An instance's status checks, as DescribeInstanceStatus shows them.

    The instance check is an ARP probe a minute (EC2 User Guide, Status checks for your instances): necessary,
    never sufficient.
    """

    id: str
    state: str
    system: str
    instance: str

    @classmethod
    def from_aws(cls, data: Mapping[str, Any]) -> "Status":
        """Of one entry of DescribeInstanceStatus' InstanceStatuses[]."""
        return cls(
            id=data["InstanceId"],
            state=str((data.get("InstanceState") or {}).get("Name") or ""),
            system=str((data.get("SystemStatus") or {}).get("Status") or ""),
            instance=str((data.get("InstanceStatus") or {}).get("Status") or ""),
        )


@dataclass(frozen=True, kw_only=True)
class Subnet:
    """A subnet, as DescribeSubnets shows it."""

    id: str
    vpc: str
    zone: str
    cidr: str
