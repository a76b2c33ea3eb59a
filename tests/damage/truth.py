"""What is really left of a backup: read by other means than the examination's, to hold it against that.

A server that gets the disk mounts it, which replays its log, and reads its files. What it then misses of what was
acknowledged is lost, whatever any checker says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from drtest.guest.probes import record
from tests.damage.worlds import Backup, CantMountError, mounted_at
from tests.guest.images import root

OPTIONS = {
    **dict.fromkeys(("ext2", "ext3", "ext4"), "errors=continue"),
    **dict.fromkeys(("xfs", "btrfs"), "noatime"),
}


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What was acknowledged and is not there as it was.

    Attributes:
        mounts: whether it can be mounted at all.
        records: indices of acknowledged records that are not as they were written.
        files: names of files of the metadata arm that are not as they were.
    """

    mounts: bool
    records: tuple[int, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def lost(self) -> bool:
        """Whether anything is."""
        return not self.mounts or bool(self.records) or bool(self.files)


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a server reads from one volume: the records' file, and the files of the metadata arm."""

    records: bytes
    files: Mapping[str, bytes]


def content(image: Path, backup: Backup, volume: str) -> Content | None:
    """What a server would read from an image, which is written to; None where it can't be mounted."""
    place = backup.places[volume]
    kind = place.filesystem
    if kind == "btrfs":
        root("btrfs", "device", "scan", "--forget", check=False)
    try:
        with mounted_at(image, f"nodev,nosuid,noexec,{OPTIONS[kind]}", kind=kind) as top:
            return _content(top / place.inside.lstrip("/"))
    except CantMountError:
        return None


def _content(folder: Path) -> Content:
    return Content(
        records=_read(folder / record.RECORDS_FILE),
        files={path.name: _read(path) for path in _listed(folder / record.METADATA_FOLDER)},
    )


def truth(image: Path, backup: Backup, volume: str, *, whole: Content) -> Truth:
    """What is lost on an image, which is written to, against what was there when it was whole."""
    found = content(image, backup, volume)
    if found is None:
        return Truth(mounts=False)
    size = record.RECORD_BYTES
    records = tuple(
        index
        for index in backup.records(volume)
        if found.records[index * size : (index + 1) * size]
        != whole.records[index * size : (index + 1) * size]
    )
    # A name may hold a later operation than the one that was acknowledged: then both images hold that one.
    names = {str(number % record.METADATA_SLOTS) for number in backup.operations(volume)}
    files = tuple(sorted(name for name in names if found.files.get(name) != whole.files.get(name)))
    return Truth(mounts=True, records=records, files=files)


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name.isdigit())
    except OSError:
        return []


def _read(path: Path) -> bytes:
    """A file, with zeros where it can't be read."""
    found = b""
    try:
        size = path.stat().st_size
        with path.open("rb", buffering=0) as file:
            while len(found) < min(size, 64 << 20):
                try:
                    file.seek(len(found))
                    piece = file.read(4096)
                except OSError:
                    piece = bytes(4096)
                if not piece:
                    break
                found += piece
    except OSError:
        return found
    return found
