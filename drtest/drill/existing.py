"""Recovery points that exist: snapshots that somebody else made of the source's volumes, as a backup plan does."""

import secrets
from dataclasses import replace
from datetime import UTC

from drtest.cloud.resources import Snapshot
from drtest.cloud.tags import RUN
from drtest.drill.points import Point, Source
from drtest.drill.site import Site
from drtest.errors import EnvironmentFailedError
from drtest.verdict.evidence import Copy


def pick(source: Source, *, wanted: Point, site: Site) -> Point:
    """Take snapshots that somebody made earlier as the recovery point: the newest of each volume, then the next.

    Those that a drill made, this one or another, are no backup.

    Raises:
        EnvironmentFailedError: a volume has none that is completed, or not one for each trial.
    """
    site.stage("capture", f"{wanted.name}: the newest snapshots that there are")
    newest: dict[str, Snapshot] = {}
    for name, volume in source.volumes.items():
        whole = [
            item
            for item in site.ec2.snapshots_of(volume)
            if item.state == "completed" and RUN not in item.tags
        ]
        if not whole:
            raise EnvironmentFailedError(
                f"Volume {volume} ({name}) of server {site.server} has no completed snapshot in this account.",
                remedy="Nothing backs it up: see its backup plan, then run the drill again.",
            )
        if wanted.trial > len(whole):
            # One that is proven twice would count as two trials: as more evidence than there is.
            raise EnvironmentFailedError(
                f"Volume {volume} ({name}) of server {site.server} has {len(whole)} completed snapshots in this"
                f" account: there is none for trial {wanted.trial}.",
                remedy=f"Set `trials: {len(whole)}` in the scenario, or wait for further backups.",
            )
        newest[name] = whole[wanted.trial - 1]
    point = replace(
        wanted, attempt=secrets.token_hex(4), snapshots={name: item.id for name, item in newest.items()}
    )
    earliest = min(item.start_time for item in newest.values()).astimezone(UTC)
    start = earliest.isoformat(timespec="microseconds").replace("+00:00", "Z")
    site.observe(
        "capture",
        {
            "snapshots": dict(point.snapshots),
            "volumes": dict(source.volumes),
            "devices": dict(source.devices),
            "requested_at": start,
            "returned_at": start,
            "start_time": start,
            # Whether the server ran is not kept in a snapshot.
            "source_state_before": "unknown",
            "source_state_after": "unknown",
            "source_state_reason": "",
            "atomic": False,
            "completed": True,
            "error": "",
        },
        copy=Copy.CLOUD,
        command="ec2 DescribeSnapshots",
        point=point,
    )
    return point
