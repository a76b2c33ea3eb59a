"""Examine copy A: attached to a helper, looked at as it lies, then replayed, then checked in full."""

from contextlib import suppress

from drtest.drill.guests import programs
from drtest.drill.login import login
from drtest.drill.points import Point, Source
from drtest.drill.restore import ATTACH_DEVICES, attach, copies, delete, detach
from drtest.drill.site import Site
from drtest.drill.standby import HELPER, discard, running, standby
from drtest.guest.linux import CanaryToFind, VolumeToExamine
from drtest.verdict.evidence import Copy
from drtest.words import ROOT


def examine(source: Source, *, point: Point, token: str, site: Site) -> None:
    """Restore copy A onto the helper and examine all its volumes in one visit.

    Raises:
        DrtestError: it could not be restored or examined; a helper that failed is thrown away.
    """
    volumes = copies(point, copy=Copy.A, token=token, zone=source.zone, site=site)
    helper = standby(HELPER, type_=source.type, site=site).id
    running(helper, site=site, what="the helper")
    try:
        with login(helper, deadline=site.scenario.deadlines.boot, site=site) as guest:
            # Nothing may assemble or mount what comes, before it is attached.
            seen = list(programs(site.os).helper(guest, deadline=site.scenario.deadlines.checks))
            site.stage("examine", f"{point.name}: copy A on the helper")
            attach(dict(zip(ATTACH_DEVICES, volumes.values(), strict=False)), instance=helper, site=site)
            seen += programs(site.os).offline(
                guest,
                volumes=_to_examine(source, volumes, point=point),
                deadline=site.scenario.deadlines.checks,
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
        if any(
            each.probe == "helper.kernel" and (each.data.get("tainted") or each.data.get("oops"))
            for each in seen
        ):
            site.stage("examine", f"{point.name}: the helper's kernel is tainted; it is thrown away")
            discard(helper, site=site)
            return
        detach(list(volumes.values()), site=site)
    except Exception:
        # A helper that missed a deadline or hangs on a damaged filesystem must not judge the next copy.
        with suppress(Exception):
            discard(helper, site=site)
        raise
    delete(list(volumes.values()), site=site)


def _to_examine(source: Source, volumes: dict[str, str], *, point: Point) -> dict[str, VolumeToExamine]:
    return {
        name: VolumeToExamine(
            volume_id=volume,
            filesystem=source.places[name].filesystem if name in source.places else "",
            uuid=source.places[name].uuid if name in source.places else "",
            canary=CanaryToFind(
                volume_id=source.volumes[name], inside=source.places[name].inside, series=point.series
            )
            if point.series and name in source.places
            else None,
        )
        for name, volume in sorted(volumes.items(), key=lambda item: item[0] != ROOT)
    }
