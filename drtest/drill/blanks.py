"""Blank data volumes: what a Linux root is booted with when it did not come up with its own.

No other system needs that: see `drtest.drill.guests.NEEDS_ITS_VOLUMES`.
"""

from drtest.cloud.resources import Snapshot, Volume
from drtest.drill.login import login
from drtest.drill.points import Point, Source
from drtest.drill.restore import ATTACH_DEVICES, attach, detach, is_available
from drtest.drill.site import Site
from drtest.drill.standby import HELPER, running, standby
from drtest.guest import linux
from drtest.verdict.evidence import Copy
from drtest.words import ROOT


def blanks(source: Source, *, point: Point, token: str, site: Site) -> dict[str, str]:
    """Make volumes of the sizes of a point's data volumes, with empty filesystems of the same kinds and UUIDs.

    Returns:
        Volume id by volume name.
    """
    snapshots = site.ec2.describe(Snapshot, [id_ for name, id_ in point.snapshots.items() if name != ROOT])
    names = {id_: name for name, id_ in point.snapshots.items()}
    made = {
        names[snapshot.id]: site.ec2.create_volume(
            site.ownership(
                f"{point.key}/{point.attempt}/{token}/blank/{names[snapshot.id]}", purpose="blank volume"
            ),
            Size=snapshot.size // 2**30,
            AvailabilityZone=source.zone,
            VolumeType="gp3",
        ).id
        for snapshot in snapshots.values()
    }
    site.poller.until(
        Volume,
        list(made.values()),
        ready=is_available,
        deadline=site.scenario.deadlines.volume,
        what="the blank volumes to be available",
    )
    helper = standby(HELPER, type_=source.type, site=site).id
    running(helper, site=site, what="the helper")
    attach(dict(zip(ATTACH_DEVICES, made.values(), strict=False)), instance=helper, site=site)
    with login(helper, deadline=site.scenario.deadlines.boot, site=site) as guest:
        seen = linux.blank(
            guest,
            volumes={
                name: linux.BlankVolume(
                    volume_id=volume,
                    filesystem=source.places[name].filesystem if name in source.places else "",
                    uuid=source.places[name].uuid if name in source.places else "",
                )
                for name, volume in made.items()
            },
            deadline=site.scenario.deadlines.prepare,
        )
    for each in seen:
        site.observe(
            each.probe,
            each.data,
            copy=Copy.A,
            command=each.command,
            point=point,
            volume=each.volume,
            at=each.at,
        )
    detach(list(made.values()), site=site)
    return made
