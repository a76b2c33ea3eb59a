"""Covariates: what else could explain that two captures differ, noted with each trial (DESIGN, decision 7).

Hypervisor, storage driver and version, write-cache policy, load: of the source, where the capture happened. NTFS
counts on its disk to honour write-through (facts/domain.md E), so what is below it belongs beside each verdict.
"""

from collections.abc import Iterator, Mapping

from drtest.verdict.case import Case
from drtest.verdict.reading import MalformedError, Reading
from drtest.verdict.serials import serial_of
from drtest.verdict.wording import counted, plain
from drtest.words import Os

NAMES: Mapping[str, str] = {
    "system": "System",
    "hypervisor": "Hypervisor",
    "storage_driver": "Storage driver",
    "write_cache": "Write cache",
    "load": "Load",
}
"""What each covariate is called for a person, in the order in which they are told."""

CACHE: Mapping[int, str] = {0: "off", 1: "on"}
"""Windows' UserWriteCacheSetting; without one the driver's default holds."""


def covariates(case: Case) -> dict[str, str]:
    """What is known of a trial's circumstances, by the keys of `NAMES`; what is not known is left out."""
    found: dict[str, str] = {}
    try:
        baseline = case.latest("baseline.system")
        if baseline is not None:
            found["system"] = _system(case, baseline)
            virtual = baseline.part("virtualisation")
            if virtual is not None:
                found["hypervisor"] = " ".join(
                    filter(None, (_told(virtual, "sys_vendor"), _told(virtual, "product_name")))
                )
            storage = baseline.parts("storage")
            found["storage_driver"] = ", ".join(dict.fromkeys(_drivers(storage, baseline)))
            found["write_cache"] = ", ".join(dict.fromkeys(_caches(case, storage)))
        found["load"] = _load(case)
    except MalformedError:
        # A guest's nonsense is told by the checks; here it is merely not known.
        pass
    return {name: found[name] for name in NAMES if found.get(name)}


def _system(case: Case, baseline: Reading) -> str:
    """``Debian GNU/Linux 12 (bookworm), 6.1.0-27-cloud-amd64``; Windows is known by its kernel's version alone."""
    release, kernel = _told(baseline, "release"), _told(baseline, "kernel")
    if case.cell.os is Os.WINDOWS:
        return f"Windows {kernel}" if kernel[:1].isdigit() else kernel
    return ", ".join(filter(None, (release, kernel)))


def _told(reading: Reading, field: str) -> str:
    return plain(reading.text(field))


def _drivers(storage: tuple[Reading, ...], baseline: Reading) -> Iterator[str]:
    """Each driver with its version; one that is part of the kernel has the kernel's."""
    for one in storage:
        if driver := _told(one, "driver"):
            version = _told(one, "version") or _told(baseline, "kernel")
            yield f"{driver} {version}".strip()


def _caches(case: Case, storage: tuple[Reading, ...]) -> Iterator[str]:
    """The write-cache policy of the disks that the cell's volumes lie on."""
    capture = case.latest("capture")
    volumes = capture.part("volumes") if capture else None
    wanted = {serial_of(volumes.text(volume)) for volume in case.judged} if volumes else set()
    for one in storage:
        if serial_of(one.text("serial")) not in wanted or "write_cache" not in one.data:
            continue
        value = one.data["write_cache"]
        if isinstance(value, str):
            yield plain(value)
        else:
            policy = (
                CACHE.get(one.whole("write_cache") or 0, "on") if value is not None else "driver's default"
            )
            yield policy + (", power-protected" if one.whole("power_protected") else "")


def _load(case: Case) -> str:
    if not case.loaded:
        return "none"
    acknowledged = case.latest("canary.acknowledged")
    written = acknowledged.part("volumes") if acknowledged else None
    if acknowledged is None or written is None:
        return ""
    parts = [part for volume in case.judged if (part := written.part(volume))]
    return counted(sum(part.ranges("records").count for part in parts), "acknowledged record")
