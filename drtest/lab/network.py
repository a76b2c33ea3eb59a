"""What instances need of a network: zones, subnets, security groups, key pairs and instance types."""

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from drtest.lab import refusal
from drtest.lab.call import Call
from drtest.lab.neighbours import Neighbours
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Group


@dataclass(frozen=True, kw_only=True)
class Subnet:
    """A subnet, as moto keeps it."""

    id: str
    vpc: str
    zone: str
    network: ipaddress.IPv4Network
    public: bool


class Network:
    """Reads what moto keeps, and writes nothing."""

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours

    def zone(self, call: Call, *, name: str = "", zone_id: str = "") -> str:
        """Find a zone by its name or its id.

        Raises:
            Refusal: ``InvalidZone.NotFound``.
        """
        with self._neighbours.ec2(call.owner, call.region) as ec2:
            for zone in ec2.describe_availability_zones():
                if (name and zone.name == name) or (zone_id and zone.zone_id == zone_id):
                    return str(zone.name)
        raise Refusal("InvalidZone.NotFound", f"The zone '{name or zone_id}' does not exist.")

    def zone_id(self, call: Call, zone: str) -> str:
        """Say the id of a zone."""
        with self._neighbours.ec2(call.owner, call.region) as ec2:
            found = ec2.get_zone_by_name(zone)
            return str(found.zone_id) if found else ""

    def subnet(self, call: Call, subnet_id: str) -> Subnet:
        """Find a subnet.

        Raises:
            Refusal: ``InvalidSubnetID.NotFound``.
        """
        with self._neighbours.ec2(call.owner, call.region) as ec2:
            return _subnet(ec2.get_subnet(subnet_id))

    def default_subnet(self, call: Call, zone: str = "") -> Subnet:
        """Find the default subnet of a zone, or of the first zone.

        Raises:
            Refusal: ``MissingInput``: there is none.
        """
        with self._neighbours.ec2(call.owner, call.region) as ec2:
            found = ec2.get_default_subnets()
            if zone in found:
                return _subnet(found[zone])
            if not zone and found:
                return _subnet(found[min(found)])
        raise Refusal(
            "MissingInput", f"No subnets found for the default VPC in zone '{zone}'. Please specify a subnet."
        )

    def groups(self, call: Call, *, ids: Sequence[str], names: Sequence[str], vpc: str) -> tuple[Group, ...]:
        """Find security groups of a VPC, or its default one if none is asked for.

        Raises:
            Refusal: ``InvalidGroup.NotFound``, or ``InvalidParameter`` for one of another VPC.
        """
        with self._neighbours.ec2(call.owner, call.region) as ec2:
            if not ids and not names:
                default = ec2.get_default_security_group(vpc)
                return (Group(id=default.id, name=default.name),) if default else ()
            found = []
            for key in ids:
                group = ec2.get_security_group_from_id(key)
                if group is None:
                    raise Refusal("InvalidGroup.NotFound", f"The security group '{key}' does not exist")
                if group.vpc_id != vpc:
                    raise Refusal(
                        "InvalidParameter",
                        f"Security group {key} and the subnet belong to different networks.",
                    )
                found.append(group)
            for name in names:
                group = ec2.get_security_group_from_name(name, vpc)
                if group is None:
                    raise Refusal(
                        "InvalidGroup.NotFound", f"The security group '{name}' does not exist in VPC '{vpc}'"
                    )
                found.append(group)
            return tuple(Group(id=group.id, name=group.name) for group in found)

    def public_key(self, call: Call, name: str) -> str:
        """Read the public key of a key pair, as OpenSSH writes it; empty for no name.

        Raises:
            Refusal: ``InvalidKeyPair.NotFound``.
        """
        if not name:
            return ""
        with self._neighbours.ec2(call.owner, call.region) as ec2:
            pair = ec2.key_pairs.get(name)
            if pair is None:
                raise Refusal("InvalidKeyPair.NotFound", f"The key pair '{name}' does not exist")
            return str(pair.public_key).strip()

    def instance_type(self, call: Call, name: str, *, architecture: str) -> None:
        """Check that there is an instance type, and that it runs an image's architecture.

        Raises:
            Refusal: ``InvalidParameterValue``.
        """
        with self._neighbours.ec2(call.owner, call.region) as ec2:
            able = next(
                (
                    one["ProcessorInfo"]["SupportedArchitectures"]
                    for one in ec2.describe_instance_types()
                    if one["InstanceType"] == name
                ),
                None,
            )
        if able is None:
            raise refusal.bad_value(f"Invalid value '{name}' for InstanceType.")
        if architecture not in able:
            raise refusal.bad_value(
                f"The architecture '{','.join(able)}' of the specified instance type does not match the "
                f"architecture '{architecture}' of the specified AMI."
            )

    def private_address(self, subnet: Subnet, *, wanted: str, taken: Collection[str]) -> str:
        """Give an instance an address of its subnet, of which AWS keeps the first four and the last.

        Args:
            subnet: where.
            wanted: the address that the call asks for, empty for any.
            taken: the addresses that instances of this subnet have.

        Raises:
            Refusal: ``InvalidParameterValue``, ``InvalidIPAddress.InUse`` or
                ``InsufficientFreeAddressesInSubnet``.
        """
        network = subnet.network
        usable = range(4, network.num_addresses - 1)
        if wanted:
            try:
                address = ipaddress.IPv4Address(wanted)
            except ValueError as error:
                raise refusal.bad_value(f"Invalid IPv4 address: {wanted}") from error
            place = int(address) - int(network.network_address)
            if place not in usable:
                raise refusal.bad_value(f"Address {wanted} does not fall within the subnet's address range")
            if wanted in taken:
                raise Refusal("InvalidIPAddress.InUse", f"Address {wanted} is in use.")
            return wanted
        for place in usable:
            address = network.network_address + place
            if str(address) not in taken:
                return str(address)
        raise Refusal(
            "InsufficientFreeAddressesInSubnet",
            f"There are not enough free addresses in subnet '{subnet.id}' to satisfy the requested number of "
            "instances.",
        )


def _subnet(subnet: Any) -> Subnet:
    return Subnet(
        id=subnet.id,
        vpc=subnet.vpc_id,
        zone=subnet.availability_zone,
        network=ipaddress.IPv4Network(subnet.cidr_block, strict=False),
        public=str(subnet.map_public_ip_on_launch).lower() == "true",
    )
