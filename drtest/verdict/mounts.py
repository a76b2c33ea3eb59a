"""What is mounted in copy B, against the source: each volume's own mounts, there and writable as they were."""

from collections.abc import Collection, Iterator

from drtest.verdict.case import Case, Shown, Steps, inconsistent, note, unknown
from drtest.verdict.kernel import names_of
from drtest.verdict.reading import Reading
from drtest.verdict.wording import listed, plain
from drtest.words import ROOT

CHECK = "boot"

ON_DISK = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "ntfs", "ntfs3", "f2fs", "jfs"})
"""Filesystems whose mounts are compared: they lie on a volume and stay mounted (no vfat: an ESP is automounted)."""


def check(case: Case, *, blank: bool, but: Collection[str] = ()) -> Steps:
    """Whether copy B has each volume mounted as the source had.

    Args:
        case: the cell's case.
        blank: whether blank volumes stood in for the data volumes: what is mounted there says nothing then.
        but: volumes that can't be mounted, for a reason that is told elsewhere.
    """
    seen = case.latest("boot.mounts")
    judged = [volume for volume in case.judged if (volume == ROOT or not blank) and volume not in but]
    if seen is None or seen.text("error"):
        why = f": {plain(seen.text('error'))}" if seen else ""
        if judged:
            yield unknown(CHECK, f"what copy B has mounted is not known{why}", seen.evidence if seen else "")
        return
    owners = owners_of(case)
    for volume in judged:
        yield from _mounted(case, volume, seen, owners)


def owners_of(case: Case) -> dict[str, str]:
    """From a filesystem's UUID to the volume that it lies on, as copy A shows; a damaged one may show none."""
    owners = {}
    for volume in case.volumes:
        before = case.latest("filesystem.before", volume)
        for one in (before, *before.parts("filesystems"), *before.parts("volumes")) if before else ():
            if one.text("uuid"):
                owners[one.text("uuid").lower()] = volume
    return owners


def _owned(mounts: tuple[Reading, ...], volume: str, owners: dict[str, str]) -> Iterator[Reading]:
    """The mounts of a volume: one that no copy claims is the root's on the disk of ``/``, and nobody's elsewhere."""
    disk = next((_disk(mount) for mount in mounts if mount.text("target") == "/"), "")
    for mount in mounts:
        top, uuid = mount.text("target") == "/", mount.text("uuid").lower()
        if mount.text("fstype") not in ON_DISK or not (uuid or top):
            continue
        beside = top or (bool(disk) and _disk(mount) == disk)
        if owners.get(uuid, ROOT if beside else None) == volume:
            yield mount


def _disk(mount: Reading) -> str:
    return next(reversed(names_of(mount.text("source"))), "")


def _writable(mount: Reading) -> bool:
    return "rw" in mount.text("options").split(",")


def _mounted(case: Case, volume: str, seen: Reading, owners: dict[str, str]) -> Steps:
    name = case.name(volume)
    now = {mount.text("target"): mount for mount in seen.parts("mounts")}
    baseline = case.latest("baseline.system")
    expected = list(_owned(baseline.parts("mounts"), volume, owners)) if baseline else []
    if volume == ROOT and not any(mount.text("target") == "/" for mount in expected):
        expected.append(Reading("baseline", {"target": "/", "options": "rw"}))
    if not expected:
        where = "the source was not asked" if baseline is None else "no mount of it was found on the source"
        told = unknown if case.drills_own else note
        yield told(CHECK, f"where {name} belongs is not known: {where}", seen.evidence)
        return
    troubled = False
    for mount in expected:
        target, uuid = mount.text("target"), mount.text("uuid").lower()
        copy = now.get(target)
        if copy is None:
            wrong = f"is not mounted at {plain(target)} in the copy, as it is on the source"
        elif uuid and copy.text("uuid") and copy.text("uuid").lower() != uuid:
            wrong = f"is not what the copy has mounted at {plain(target)}: {plain(copy.text('source'))} is"
        elif _writable(mount) and not _writable(copy):
            wrong = f"is mounted read-only at {plain(target)} in the copy, writable on the source"
        else:
            continue
        troubled = True
        # Since a recovery point that was there before, the source may have been changed.
        told = inconsistent if case.drills_own else unknown
        yield told(CHECK, f"{name} {wrong}", seen.evidence, mount.evidence)
    if not troubled:
        targets = [mount.text("target") for mount in expected]
        yield Shown(
            check=CHECK,
            volume=volume,
            phrase="" if volume == ROOT else f"mounted at {listed(targets)}",
            sentence=f"{name} is mounted in the copy as on the source: {listed(targets)}",
            evidence=(seen.evidence,) if seen.evidence else (),
        )
