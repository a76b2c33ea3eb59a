"""Preflight: a source that is not ours is worked on only if it will come back as it was."""

from collections.abc import Mapping
from typing import Any

from drtest.cloud.ec2 import Ec2
from drtest.cloud.guard import Permission
from drtest.cloud.resources import Instance
from drtest.cloud.tags import CLAIMED_BY, STOPPED_BY
from drtest.drill.guests import COLLIDES
from drtest.drill.site import Site
from drtest.errors import UsageError
from drtest.scenario.model import Server


def preflight(source: Instance, *, stops: bool, server: Server, ec2: Ec2) -> tuple[str, ...]:
    """Refuse what can't be undone.

    Args:
        source: the server, as it is now.
        stops: whether the drill will stop it.
        server: what the scenario allows.
        ec2: asked for what DescribeInstances does not show.

    Returns:
        What is worth knowing though it does not forbid the drill.

    Raises:
        UsageError: the drill would not leave it as it was.
    """
    if source.state != "running":
        raise UsageError(
            f"Server {server.name} ({source.id}) is {source.state}: a drill begins with a running server.",
            remedy="Start it, or select another.",
        )
    if source.hibernation:
        raise UsageError(
            f"Server {server.name} ({source.id}) is enabled for hibernation: EC2 says not to snapshot such instances"
            " (EBS User Guide, Create Amazon EBS snapshots).",
            remedy="Prove the backup of a server without hibernation.",
        )
    if not stops:
        return ()
    reasons = []
    if not server.may_stop:
        reasons.append("the scenario does not say `may_stop: true`")
    if group := source.tags.get("aws:autoscaling:groupName"):
        reasons.append(f"it belongs to Auto Scaling group {group}, which replaces a stopped instance")
    if source.root_device_type != "ebs":
        reasons.append("its root is an instance store, which a stop erases")
    if ec2.attribute(source.id, name="instanceInitiatedShutdownBehavior") == "terminate":
        reasons.append("its InstanceInitiatedShutdownBehavior is terminate")
    if reasons:
        raise UsageError(
            f"Server {server.name} ({source.id}) will not be stopped: {'; '.join(reasons)}.",
            remedy="Leave `stopped` out of captures, or select a server that comes back as it was.",
        )
    notes = []
    if source.public_address and not ec2.has_elastic_address(source.id):
        notes.append(
            f"Its public address {source.public_address} is not an Elastic IP: it will have another after the stop."
        )
    return tuple(notes)


def preflight_inside(system: Mapping[str, Any], *, server: Server) -> None:
    """Refuse a server whose copies could not be read on another machine, by what it says of itself.

    Args:
        system: the data of its ``baseline.system``; only Windows tells of hibernation and BitLocker.
        server: what the scenario says of it.

    Raises:
        UsageError: it hibernates, or BitLocker protects a volume of it.
    """
    if system.get("hibernation"):
        raise UsageError(
            f"Server {server.name} has hibernation enabled: what a hibernated Windows has not written to its disks is"
            " in no snapshot of its volumes.",
            remedy="Switch it off on the server (`powercfg /hibernate off`), or prove the backup of another.",
        )
    if protected := [str(letter) for letter in system.get("bitlocker") or ()]:
        raise UsageError(
            f"BitLocker protects {', '.join(protected)} of server {server.name}: keys that its TPM holds open a volume"
            " on that instance alone (EC2 User Guide, NitroTPM considerations): no copy could be examined or booted.",
            remedy="Suspend it for the drill (`manage-bde -protectors -disable C:`), or prove the backup of another.",
        )


def preflight_helper(image: str, *, site: Site) -> None:
    """Refuse a helper that can't tell its own disk from a copy of the source's.

    Args:
        image: the AMI that the source came from.
        site: the target's images.

    Raises:
        UsageError: it comes from the same image.
    """
    if site.os in COLLIDES and site.images.helper(site.os) == image:
        raise UsageError(
            f"Server {site.server} and its helper come from one image, {image}: their disks have the same signature,"
            " and Windows changes that of a copy which collides with its own (EC2 User Guide, Disk signature"
            " collision).",
            remedy=f"Name another image in [targets.{site.target.name}.helper_images] {site.os} of drtest.toml: of"
            " another release of Windows, say.",
        )


def claim(source: Instance, *, server: Server, stops: bool, site: Site) -> None:
    """Mark a source as this run's to work on, and let the guard pass what the scenario allows, by name.

    Raises:
        UsageError: another run is at work on it.
    """
    allow(source.id, server=server, stops=stops, site=site)
    mine = f"{site.run} {site.ownership('source', purpose='').key}"
    _held_by_nobody_else(source, server=server, site=site)
    # The ledger first: whatever happens from here on, it is known what has to be released.
    site.borrowed(source.id)
    site.ec2.tag(source.id, {CLAIMED_BY: mine})
    still_claimed(source.id, server=server, site=site)


def allow(source: str, *, server: Server, stops: bool, site: Site) -> None:
    """Let the guard pass what the scenario allows on a source that is not ours; a resumed run needs it anew."""
    marks = frozenset({CLAIMED_BY, STOPPED_BY})
    for operation in ("CreateTags", "DeleteTags"):
        site.ec2.guard.permit(Permission(operation=operation, resource=source, tags=marks))
    site.ec2.guard.permit(Permission(operation="CreateSnapshots", resource=source))
    if stops and server.may_stop:
        for operation in ("StopInstances", "StartInstances"):
            site.ec2.guard.permit(Permission(operation=operation, resource=source))


def still_claimed(source: str, *, server: Server, site: Site) -> None:
    """See that no other run has claimed the source at the same moment: the last claim counts.

    Raises:
        UsageError: one has; this run touches it no more.
    """
    try:
        _held_by_nobody_else(site.ec2.instance(source), server=server, site=site)
    except UsageError:
        site.deleted(source)
        raise


def _held_by_nobody_else(source: Instance, *, server: Server, site: Site) -> None:
    holder = source.tags.get(CLAIMED_BY, "").partition(" ")[0]
    if holder and holder != site.run:
        raise UsageError(
            f"Server {server.name} ({source.id}) is being worked on by run {holder}.",
            remedy=f"Wait for it; if it is dead, `drtest sweep --target {site.target.name} --run {holder} --yes`"
            " releases the server.",
        )
