"""Restore: volumes from a recovery point's snapshots, attached where they are examined or booted.

A root is restored by one route: a scratch instance, stopped, has its root swapped for the restored volume. It
keeps licence and boot mode, and needs no image of its own (EC2 User Guide, Attach a volume as the root).
"""

from collections.abc import Collection, Mapping, Sequence

from drtest.cloud.failures import explained
from drtest.cloud.resources import Instance, Volume
from drtest.cloud.tags import KEY
from drtest.drill.points import Point, Source
from drtest.drill.site import Site
from drtest.drill.standby import HELPER, SCRATCH, discard, stopped
from drtest.errors import EnvironmentFailedError
from drtest.verdict.evidence import Copy
from drtest.words import ROOT

ATTACH_DEVICES = tuple(f"/dev/sd{letter}" for letter in "fghijklmnop")
"""AWS recommends /dev/sd[f-p] for data volumes (EC2 User Guide, Device names for volumes)."""


def copies(
    point: Point, *, copy: Copy, token: str, zone: str, site: Site, only: Collection[str] | None = None
) -> dict[str, str]:
    """Make a volume of each snapshot of a point.

    Args:
        point: the recovery point.
        copy: A or B.
        token: of this try: a repeated step makes others.
        zone: the availability zone.
        site: where.
        only: the names of the volumes that are wanted; None for all.

    Returns:
        Volume id by volume name.
    """
    made = {
        name: site.ec2.create_volume(
            site.ownership(f"{point.key}/{point.attempt}/{token}/{copy}/{name}", purpose=f"copy {copy}"),
            SnapshotId=snapshot,
            AvailabilityZone=zone,
            VolumeType="gp3",
        ).id
        for name, snapshot in point.snapshots.items()
        if only is None or name in only
    }
    site.poller.until(
        Volume,
        list(made.values()),
        ready=is_available,
        deadline=site.scenario.deadlines.volume,
        what=f"copy {copy} of {point.name} to be available",
    )
    return made


def attach(volumes: Mapping[str, str], *, instance: str, site: Site) -> None:
    """Attach volumes to an instance and wait until all are.

    Args:
        volumes: volume id by device name.
        instance: where to.
        site: where.
    """
    for volume in site.ec2.describe(Volume, list(volumes.values())).values():
        device = next(device for device, id_ in volumes.items() if id_ == volume.id)
        site.ec2.attach(volume, instance=instance, device=device)
    site.poller.until(
        Volume,
        list(volumes.values()),
        ready=lambda volume: volume.attachment == "attached",
        deadline=site.scenario.deadlines.attach,
        what=f"the volumes to be attached to {instance}",
    )


def detach(volumes: Sequence[str], *, site: Site) -> None:
    """Detach volumes and wait until all are."""
    if not volumes:
        return
    for volume in site.ec2.describe(Volume, list(volumes)).values():
        site.ec2.detach(volume)
    site.poller.until(
        Volume,
        list(volumes),
        ready=lambda volume: volume.state == "available",
        deadline=site.scenario.deadlines.attach,
        what="the volumes to be detached",
    )


def delete(volumes: Sequence[str], *, site: Site) -> None:
    """Delete volumes that are detached; what can't be deleted now is left to the clean-up."""
    for volume in volumes:
        try:
            site.ec2.delete_volume(volume)
        except Exception as error:
            site.stage("clean", f"{volume} is left to the clean-up: {explained(error) or error}")
        else:
            site.deleted(volume)


def swap_root(volumes: Mapping[str, str], *, scratch: str, source: Source, site: Site) -> None:
    """Give a scratch instance the volumes of a recovery point, at the source's device names.

    Args:
        volumes: volume id by volume name, root among them.
        scratch: the instance; it is stopped first.
        source: whose device names are taken.
        site: where.
    """
    instance: Instance = stopped(scratch, site=site, what="the scratch instance")
    wanted = {
        instance.root_device if name == ROOT else source.devices[name]: volume
        for name, volume in volumes.items()
    }
    former = [volume for device, volume in instance.volumes.items() if wanted.get(device) != volume]
    detach(former, site=site)
    attach(wanted, instance=scratch, site=site)
    delete(former, site=site)


def drop_copies(point: Point, *, site: Site) -> None:
    """Delete the copies that an earlier try of this point left: what was booted or replayed proves nothing any more."""
    prefix = f"{site.ownership(point.key, purpose='').key}/"
    left = [
        volume
        for volume in site.ec2.owned(Volume, run=site.run)
        if volume.tags.get(KEY, "").startswith(prefix)
    ]
    if not left:
        return
    site.ec2.guard.own(*(volume.id for volume in left))
    for holder in sorted({volume.attached_to for volume in left if volume.attached_to}):
        key = site.ec2.instance(holder).tags.get(KEY, "")
        if key.endswith(f"/{SCRATCH}"):
            stopped(holder, site=site, what="the scratch instance")
        elif key.endswith(f"/{HELPER}"):
            # The examination of a killed run may still be at it there.
            discard(holder, site=site)
            site.poller.until(
                Instance,
                [holder],
                ready=lambda item: item.state == "terminated",
                deadline=site.scenario.deadlines.stop,
                what="the helper of a killed run to end",
            )
    detach([volume.id for volume in left], site=site)
    delete([volume.id for volume in left], site=site)


def is_available(volume: Volume) -> bool:
    """Whether a new volume can be attached.

    Raises:
        EnvironmentFailedError: it never will be.
    """
    if volume.state == "error":
        # A KMS key is checked after the call was answered (EC2 API Reference, CreateVolume, KmsKeyId).
        raise EnvironmentFailedError(
            f"Volume {volume.id} of snapshot {volume.snapshot} ended in error.",
            remedy="Look at the permissions on the snapshot's KMS key.",
        )
    return volume.state in ("available", "in-use")
