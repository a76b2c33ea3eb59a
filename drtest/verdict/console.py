"""What a console shows of a boot that failed: only these patterns are evidence of UNBOOTABLE."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from drtest.verdict.reading import Reading


class Kind(Enum):
    """Whom a pattern speaks of."""

    ROOT = "root"
    """The loader, the kernel or the root filesystem: no data volume does that."""
    SYSTEM = "system"
    """The system gave up on the way: a data volume without nofail in fstab does that too."""
    HARMLESS = "harmless"
    """Seen on systems that come up."""


PATTERNS: Mapping[str, Kind] = {
    "kernel panic - not syncing": Kind.ROOT,
    "unable to mount root fs": Kind.ROOT,
    "cannot open root device": Kind.ROOT,
    "no bootable device": Kind.ROOT,
    "boot failed": Kind.ROOT,
    "boot error": Kind.ROOT,
    "missing operating system": Kind.ROOT,
    "operating system not found": Kind.ROOT,
    "no configuration file found": Kind.ROOT,
    "could not find kernel image": Kind.ROOT,
    "vmlinuz... failed": Kind.ROOT,
    "you need to load the kernel first": Kind.ROOT,
    "grub>": Kind.ROOT,
    "grubdom>": Kind.ROOT,
    "grub rescue": Kind.ROOT,
    "kernel too old": Kind.ROOT,
    "could not load /lib/modules": Kind.ROOT,
    "busybox": Kind.ROOT,
    "no init found": Kind.ROOT,
    "doesn't have requested /sbin/init": Kind.ROOT,
    "run /bin/sh as init process": Kind.ROOT,
    "dracut-initqueue timeout": Kind.ROOT,
    "unable to load selinux policy": Kind.ROOT,
    "stop 0x": Kind.ROOT,
    "stop: 0x": Kind.ROOT,
    "bootmgr is missing": Kind.ROOT,
    "bootmgr is compressed": Kind.ROOT,
    "an operating system wasn't found": Kind.ROOT,
    "emergency mode": Kind.SYSTEM,
    "rescue mode": Kind.SYSTEM,
    "for maintenance": Kind.SYSTEM,
    "cannot open access to console": Kind.SYSTEM,
    "fsck died with exit status": Kind.SYSTEM,
    "general error mounting filesystems": Kind.SYSTEM,
    "check forced": Kind.HARMLESS,
    "checking filesystem": Kind.HARMLESS,
    "different mac address": Kind.HARMLESS,
}
"""Words on a console, in small letters (L:TroubleshootingInstances.md; facts/domain.md D).

A kernel that finds no init ends as a shell on the console, not in a panic (Linux, init/main.c); SYSLINUX says of a
kernel that is not there ``Loading vmlinuz... failed``, GRUB that one has to be loaded first. Windows stops with
``*** STOP: 0x0000007B (…)`` (learn.microsoft.com, bug check code reference) where it has a console at all.
"""

LOOSE = frozenset({"boot failed", "busybox", "dracut-initqueue timeout"})
"""Patterns that some servers show and come up all the same: only where one never answered are they evidence.

Firmware says ``Boot failed`` of the first of several devices, an initramfs greets with BusyBox' name, and dracut
goes on waiting for a root that is loaded lazily.
"""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A line of the console that shows a boot failing."""

    kind: Kind
    line: str


def telling(patterns: Iterable[str]) -> frozenset[Kind]:
    """The kinds of those patterns that need not wait for the deadline to be believed."""
    return frozenset(PATTERNS[pattern] for pattern in patterns if pattern not in LOOSE)


def failures(attempt: Reading) -> tuple[Failure, ...]:
    """The lines of a `boot.attempt` that show it failing, in the console's order, root's own first.

    A pattern that isn't in the table counts as the system's only where the instance check is impaired as well:
    two weak signs that agree.
    """
    found = []
    impaired = attempt.text("instance_status") == "impaired"
    for match in attempt.parts("console_matches"):
        pattern, line = match.text("pattern"), match.text("line")
        words = f"{pattern}\n{line}".lower()
        kind = next((kind for known, kind in PATTERNS.items() if known in words), None)
        if kind is None and impaired:
            kind = Kind.SYSTEM
        if kind in (Kind.ROOT, Kind.SYSTEM):
            found.append(Failure(kind=kind, line=line or pattern))
    return tuple(sorted(found, key=lambda one: one.kind is not Kind.ROOT))
