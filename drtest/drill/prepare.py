"""Prepare: find or launch the source and what its volumes are restored on, and note how it is before any capture."""

from collections.abc import Mapping, Sequence
from typing import Any

from drtest.cloud.resources import Instance
from drtest.drill.capture import most_seconds
from drtest.drill.guests import programs
from drtest.drill.login import LoggedIn, login
from drtest.drill.points import Source
from drtest.drill.preflight import claim, preflight, preflight_helper, preflight_inside
from drtest.drill.restore import ATTACH_DEVICES
from drtest.drill.site import Site
from drtest.drill.standby import HELPER, SCRATCH, running, standby
from drtest.drill.standby import launch as launch_instance
from drtest.errors import UsageError
from drtest.guest import canary
from drtest.guest.linux import CanaryPlace, Seen, VolumeToPrepare
from drtest.scenario.model import DataVolume, Server
from drtest.scenario.plan import DrillPlan
from drtest.verdict.evidence import Copy
from drtest.words import ROOT, Capture


def prepare(plan: DrillPlan, *, site: Site) -> Source:
    """Have the source ready to be loaded, and a helper and a scratch instance on their way.

    Raises:
        DrtestError: the source can't be had, or may not be worked on.
    """
    server = plan.server
    site.stage("prepare", "launch the source" if server.launch else "find the source")
    source = _launched(server, site=site) if server.launch else _selected(server, plan=plan, site=site)
    # These start beside the source: nobody waits for them until something is restored.
    standby(HELPER, type_=source.type, site=site)
    if plan.boots:
        scratch = standby(SCRATCH, type_=source.type, site=site)
        # The scratch instance's own root is thrown away: its boot must not cost the others the processor.
        running(scratch.id, site=site, what="the scratch instance")
        site.ec2.client.stop_instances(InstanceIds=[scratch.id], SkipOsShutdown=True)
    source = running(source.id, site=site, what="the source")
    devices = _devices(server, source)
    volumes = {name: source.volumes[device] for name, device in devices.items()}
    site.stage("prepare", "wait for the source to answer")
    ours = server.launch is not None
    with login(source.id, ours=ours, deadline=site.scenario.deadlines.boot, site=site) as guest:
        places: Mapping[str, CanaryPlace] = {}
        if not ours:
            # Before anything is written to it.
            system = _baseline(guest, server=server, site=site)
        if ours or server.may_write:
            places = _places(guest, volumes, server=server, site=site)
        if ours:
            # With the filesystems that were just made: its copies have them too.
            system = _baseline(guest, server=server, site=site)
    return Source(
        instance=source.id,
        ours=ours,
        type=source.type,
        volumes=volumes,
        devices=devices,
        places=places,
        host_keys=tuple(system.get("host_keys") or ()),
        boot_id=str(system.get("boot_id") or ""),
        zone=site.ec2.subnet(site.target.subnet).zone,
    )


def _launched(server: Server, *, site: Site) -> Instance:
    launch = server.launch
    if launch is None:
        raise UsageError(f"Server {server.name} is not launched.")
    disks = [
        {
            "DeviceName": device,
            "Ebs": {"VolumeSize": volume.size // 2**30, "VolumeType": "gp3", "DeleteOnTermination": True},
        }
        for device, volume in zip(ATTACH_DEVICES, launch.volumes.values(), strict=False)
    ]
    image = site.images.named(launch.image)
    preflight_helper(image, site=site)
    return launch_instance(
        "source",
        image=image,
        type_=launch.instance_type or site.target.instance_type_for(server.os),
        site=site,
        BlockDeviceMappings=disks,
    )


def _selected(server: Server, *, plan: DrillPlan, site: Site) -> Instance:
    select = server.select
    if select is None:
        raise UsageError(f"Server {server.name} is not selected.")
    if select.instance_id:
        source = site.ec2.instance(select.instance_id)
    else:
        found = site.ec2.tagged(dict(select.tags or {}))
        if len(found) != 1:
            which = ", ".join(item.id for item in found) or "none"
            raise UsageError(
                f"Server {server.name}: its tags select {len(found)} instances ({which}), not one.",
                remedy="Make the tags in `select` more exact, or select by instance_id.",
            )
        source = found[0]
    stops = any(capture is Capture.STOPPED for capture, _ in plan.points)
    preflight_helper(source.image, site=site)
    notes = preflight(source, stops=stops, server=server, ec2=site.ec2)
    site.observe(
        "preflight",
        {"instance": source.id, "notes": list(notes)},
        copy=Copy.CLOUD,
        command="ec2 DescribeInstances",
    )
    claim(source, server=server, stops=stops, site=site)
    return source


def _devices(server: Server, source: Instance) -> dict[str, str]:
    """EC2's device name by volume name, root first.

    Raises:
        UsageError: a named volume is not attached.
    """
    devices = {ROOT: source.root_device}
    if server.launch is not None:
        devices.update(zip(server.data_volumes, ATTACH_DEVICES, strict=False))
    elif server.select is not None:
        devices.update({name: existing.device for name, existing in server.select.volumes.items()})
    lost = {name: device for name, device in devices.items() if device not in source.volumes}
    if lost:
        attached = ", ".join(f"{device} {volume}" for device, volume in source.volumes.items())
        raise UsageError(
            f"Server {server.name} has no volume at {', '.join(f'{dev} ({name})' for name, dev in lost.items())};"
            f" attached are {attached}.",
            remedy="Name the devices in `select.volumes` as DescribeInstances shows them.",
        )
    return devices


def _places(
    guest: LoggedIn, volumes: Mapping[str, str], *, server: Server, site: Site
) -> Mapping[str, CanaryPlace]:
    site.stage("prepare", "make filesystems and canary files")
    prepared = programs(site.os).prepare(
        guest,
        volumes=_to_prepare(server, volumes),
        records=_records(site, volumes=len(volumes)),
        deadline=site.scenario.deadlines.prepare,
    )
    _observe(prepared.seen, site=site)
    return prepared.places


def _baseline(guest: LoggedIn, *, server: Server, site: Site) -> Mapping[str, Any]:
    """How the source is, as its ``baseline.system`` says; one that can't be proven by copies is refused."""
    seen = programs(site.os).baseline(guest, deadline=site.scenario.deadlines.checks)
    _observe(seen, site=site)
    system = next(each.data for each in seen if each.probe == "baseline.system")
    preflight_inside(system, server=server)
    return system


def _to_prepare(server: Server, volumes: Mapping[str, str]) -> dict[str, VolumeToPrepare]:
    made: Mapping[str, DataVolume] = server.launch.volumes if server.launch else {}
    return {
        name: VolumeToPrepare(
            volume_id=volume,
            filesystem=made[name].filesystem if name in made else None,
            mount="/" if name == ROOT else (made[name].mount if name in made else ""),
        )
        for name, volume in volumes.items()
    }


def _records(site: Site, *, volumes: int) -> int:
    load = site.scenario.load
    rate = load.canary.rate if load else 1.0
    return canary.capacity(rate=rate, seconds=most_seconds(site=site), volumes=volumes)


def _observe(seen: Sequence[Seen], *, site: Site) -> None:
    for each in seen:
        site.observe(
            each.probe, each.data, copy=Copy.SOURCE, command=each.command, volume=each.volume, at=each.at
        )
