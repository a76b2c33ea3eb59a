"""Archives that a Linux kernel unpacks into RAM when it starts: cpio in its "newc" form.

The form is the kernel's own (Documentation/driver-api/early-userspace/buffer-format.rst). Several of them, one behind
the other, are unpacked as one, and what comes later replaces what came before.
"""

import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MAGIC = "070701"
_END = "TRAILER!!!"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file, folder or symbolic link; it belongs to root, and has no time.

    Attributes:
        name: its path, without a slash in front.
        mode: its kind and its permissions, as stat has them.
        data: its bytes, or where the link leads.
    """

    name: str
    mode: int
    data: bytes = b""


def folder(name: str) -> Entry:
    """Say that there is a folder: a file needs one that came before it."""
    return Entry(name=name, mode=stat.S_IFDIR | 0o755)


def file(name: str, data: bytes, *, executable: bool = False) -> Entry:
    """Say that there is a file with these bytes."""
    return Entry(name=name, mode=stat.S_IFREG | (0o755 if executable else 0o644), data=data)


def tree(root: Path, *, prefix: str) -> Iterator[Entry]:
    """List a folder with all that is in it.

    Args:
        root: the folder.
        prefix: where it is to be in the archive.
    """
    yield folder(prefix)
    for path in sorted(root.rglob("*")):
        name = f"{prefix}/{path.relative_to(root)}"
        yield folder(name) if path.is_dir() else file(name, path.read_bytes())


def from_tar(tar: Path) -> Iterator[Entry]:
    """List what is in a tar file: files, folders and symbolic links.

    Raises:
        ValueError: there is something else in it.
    """
    kinds = {tarfile.REGTYPE: stat.S_IFREG, tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK}
    with tarfile.open(tar) as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if name == ".":
                continue
            if member.type not in kinds:
                raise ValueError(f"{member.name} in {tar} is no file, folder or symbolic link")
            content = archive.extractfile(member) if member.isreg() else None
            data = content.read() if content else member.linkname.encode()
            yield Entry(name=name, mode=kinds[member.type] | member.mode, data=data)


def write(out: BinaryIO, entries: Iterable[Entry]) -> None:
    """Write one archive, padded so that another one can follow it."""
    for number, entry in enumerate(entries, start=1):
        _write(out, number, entry)
    _write(out, 0, Entry(name=_END, mode=0))


def _write(out: BinaryIO, number: int, entry: Entry) -> None:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # inode, mode, owner, group, links, time, size, four of device numbers, the name's length, a check sum of none
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    header = (_MAGIC + "".join(f"{field:08x}" for field in fields)).encode()
    for part in (header + name, entry.data):
        out.write(part + b"\0" * (-len(part) % 4))
