import io
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from drtest.lab import cpio


@dataclass(frozen=True)
class Found:
    """What the kernel would unpack."""

    name: str
    mode: int
    data: bytes
    inode: int


def read(archive: bytes) -> list[Found]:
    """Read archives as init/initramfs.c of Linux does: one behind the other, zeros between them."""
    found, at = [], 0
    while at < len(archive):
        if archive[at] == 0:
            at += 1
            continue
        assert at % 4 == 0
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        inode, mode, size, length = fields[0], fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + length]
        assert name[-1] == 0
        start = (at + 110 + length + 3) & ~3
        if name != b"TRAILER!!!\0":
            found.append(Found(name[:-1].decode(), mode, archive[start : start + size], inode))
        at = (start + size + 3) & ~3
    return found


def written(*entries: cpio.Entry) -> bytes:
    out = io.BytesIO()
    cpio.write(out, entries)
    return out.getvalue()


def test_files_and_folders_are_found_as_they_were_put_in() -> None:
    found = read(
        written(cpio.folder("etc"), cpio.file("etc/name", b"abcde"), cpio.file("init", b"", executable=True))
    )
    assert [(one.name, one.data) for one in found] == [("etc", b""), ("etc/name", b"abcde"), ("init", b"")]
    assert [stat.filemode(one.mode) for one in found] == ["drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x"]


def test_each_entry_is_a_file_of_its_own() -> None:
    found = read(written(cpio.file("a", b"1"), cpio.file("b", b"2")))
    assert len({one.inode for one in found}) == 2  # two of one inode would be hard links


@pytest.mark.parametrize("length", range(5))
def test_one_archive_can_follow_another_whatever_its_length(length: int) -> None:
    archive = written(cpio.file("first", b"x" * length)) + written(cpio.file("n" * (length + 1), b"y"))
    assert [one.name for one in read(archive)] == ["first", "n" * (length + 1)]


def test_a_tar_file_is_taken_over_with_its_modes_and_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "busybox").write_bytes(b"ELF")
    (root / "bin" / "busybox").chmod(0o755)
    (root / "bin" / "sh").symlink_to("busybox")
    tar = tmp_path / "root.tar"
    with tarfile.open(tar, "w") as archive:
        archive.add(root, arcname=".")
    found = {one.name: one for one in read(written(*cpio.from_tar(tar)))}
    assert set(found) == {"bin", "bin/busybox", "bin/sh"}
    assert stat.filemode(found["bin/busybox"].mode) == "-rwxr-xr-x"
    assert stat.S_ISLNK(found["bin/sh"].mode)
    assert found["bin/sh"].data == b"busybox"


def test_a_device_in_a_tar_file_is_refused(tmp_path: Path) -> None:
    tar = tmp_path / "root.tar"
    with tarfile.open(tar, "w") as archive:
        device = tarfile.TarInfo("dev/null")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    with pytest.raises(ValueError, match="dev/null"):
        list(cpio.from_tar(tar))
