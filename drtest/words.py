"""The field's words as types: the same in code, scenario files, command line and report."""

from enum import StrEnum


class Os(StrEnum):
    """The operating system of a server."""

    LINUX = "linux"
    WINDOWS = "windows"


class Capture(StrEnum):
    """How a recovery point is made."""

    RUNNING = "running"
    STOPPED = "stopped"
    FROZEN = "frozen"
    VSS = "vss"
    EXISTING = "existing"


class Verdict(StrEnum):
    """What one cell comes to.

    UNREACHABLE and INCONCLUSIVE say that nothing is known: they are never folded into INCONSISTENT and are
    never green.
    """

    CONSISTENT = "CONSISTENT"
    RECOVERED = "RECOVERED"
    INCONSISTENT = "INCONSISTENT"
    UNBOOTABLE = "UNBOOTABLE"
    UNREACHABLE = "UNREACHABLE"
    INCONCLUSIVE = "INCONCLUSIVE"

    @property
    def usable(self) -> bool:
        """Whether the backup can be used: CONSISTENT or RECOVERED."""
        return self in USABLE

    @property
    def decided(self) -> bool:
        """Whether anything is known: neither UNREACHABLE nor INCONCLUSIVE."""
        return self in USABLE or self in UNUSABLE


USABLE = frozenset({Verdict.CONSISTENT, Verdict.RECOVERED})
UNUSABLE = frozenset({Verdict.INCONSISTENT, Verdict.UNBOOTABLE})


class Assurance(StrEnum):
    """How much a verdict rests on, weakest first."""

    STRUCTURE = "structure"
    APPLICATION = "application"
    STANDING_CANARY = "standing-canary"
    CANARY = "canary"


class Filesystem(StrEnum):
    """A filesystem that drtest can make and examine."""

    EXT4 = "ext4"
    XFS = "xfs"
    BTRFS = "btrfs"
    NTFS = "ntfs"


ROOT = "root"
"""The name of a server's root volume in every cell, scenario file and report."""

SET = "set"
"""The pseudo-volume in which all volumes of a server are judged together."""
