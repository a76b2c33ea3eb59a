"""`drtest check fs`: any image, any filesystem, never written to, and never a pass for what is not known."""

import hashlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from drtest.cli import main
from drtest.guest.probes import ext
from drtest.lab import images as guests
from drtest.words import Filesystem
from tests.damage.catalogue import noise
from tests.guest.images import ENVIRONMENT, MAKE, SIZES, Images, record_at, root, tool, write

ALL = ("ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "ntfs")


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    with Images(tmp_path) as images:
        yield images


Check = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """Checks an image, and holds that its bytes are the same afterwards, read-only as it is."""

    def run(image: Path, *words: str) -> tuple[int, dict[str, Any]]:
        image.chmod(0o444)
        before, changed = _sha256(image), image.stat().st_mtime_ns
        code = main(["check", "fs", str(image), "--json", *words])
        told = json.loads(capsys.readouterr().out)
        assert (_sha256(image), image.stat().st_mtime_ns) == (before, changed)
        image.chmod(0o644)
        return code, told

    return run


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _made(images: Images, kind: str) -> Path:
    if kind in MAKE:
        return images.made(kind)
    image = images.blank(SIZES.get(kind, 64 << 20))
    if kind == "ntfs":
        tool("mkfs.ntfs", "-q", "-F", image)
    else:
        tool(f"mkfs.{kind}", "-q", "-F", image)
    return image


@pytest.mark.parametrize("kind", ALL)
def test_a_whole_filesystem_is_usable_and_its_image_is_not_touched(
    images: Images, check: Check, kind: str
) -> None:
    code, told = check(_made(images, kind))
    assert (code, told["verdict"], told["usable"]) == (0, "CONSISTENT", True), told
    assert told["filesystem"] == kind
    assert told["assurance"] == "structure"
    assert set(told) >= {"verdict", "filesystem", "reason", "findings"}
    assert all({"check", "class", "sentence", "evidence"} == set(one) for one in told["findings"])


@pytest.mark.parametrize("kind", ALL)
def test_a_filesystem_whose_first_blocks_are_noise_is_not_usable(
    images: Images, check: Check, kind: str
) -> None:
    image = _made(images, kind)
    write(image, 4096 if kind in ("vfat", "ntfs") else 0, noise(256 << 10))
    if kind == "vfat":
        write(image, 512, noise(64 << 10))
    code, told = check(image)
    # A btrfs begins at 64 KiB, and only its superblock was hit: its mirror still tells of it.
    assert (code, told["verdict"]) == (1, "INCONSISTENT"), told
    assert told["filesystem"] in (kind, "ext4")


@pytest.mark.parametrize("how", ["running", "stopped"])
@pytest.mark.parametrize("kind", [Filesystem.EXT4, Filesystem.XFS, Filesystem.BTRFS])
def test_a_capture_is_replayed_and_its_standing_canary_is_read(
    images: Images, check: Check, kind: Filesystem, how: str
) -> None:
    captured = images.captured(kind, how)
    code, told = check(captured.image)
    assert (code, told["verdict"]) == (0, "RECOVERED" if how == "running" else "CONSISTENT"), told
    assert told["assurance"] == "standing-canary"
    assert "records of the standing canary in order" in told["reason"]
    assert {one["probe"] for one in told["evidence"]} >= {"filesystem.check", "canary.found"}


def test_a_device_that_may_only_be_read_is_replayed_and_not_touched(images: Images) -> None:
    captured = images.captured(Filesystem.EXT4, "running")
    device = Path(root("losetup", "-f", "--show", "-r", captured.image).strip())
    try:
        before = _sha256(device)
        assert main(["check", "fs", str(device)]) == 0
        assert (_sha256(device), _sha256(captured.image)) == (before, before)
    finally:
        root("losetup", "-d", device)


def test_damage_that_no_checker_sees_is_seen_by_the_standing_canary(images: Images, check: Check) -> None:
    captured = images.captured(Filesystem.EXT4, "stopped")
    place, _ = record_at(captured.image, captured, 9)
    write(captured.image, place, bytes(512))
    code, told = check(captured.image)
    assert (code, told["verdict"]) == (1, "INCONSISTENT")
    assert "index 9" in told["reason"]


def test_contents_of_files_that_do_not_match_their_checksums_are_damage(images: Images, check: Check) -> None:
    image = images.made("btrfs")
    with images.mounted(image) as top:
        root("sh", "-c", 'head -c 100000 /dev/zero | tr "\\0" Z >"$0"', top / "file")
    place = image.read_bytes().find(b"Z" * 4096)
    write(image, place + 1000, b"z")
    code, told = check(image)
    assert (code, told["verdict"]) == (1, "INCONSISTENT")
    assert "checksums" in told["reason"]


@pytest.mark.parametrize("label", ["dos", "gpt"])
@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_all_partitions_are_examined_or_the_one_that_is_asked_for(
    images: Images, check: Check, label: str, form: str
) -> None:
    whole, damaged = images.made("ext4"), images.made("ext4")
    write(damaged, 1024, bytes(1024))
    disk = images.partitioned(label, images.made("vfat"), whole, damaged)
    if form == "qcow2":
        tool("qemu-img", "convert", "-O", "qcow2", disk, disk.with_suffix(".qcow2"))
        disk = disk.with_suffix(".qcow2")
    code, told = check(disk)
    assert (code, told["verdict"]) == (1, "INCONSISTENT")
    assert [(part["partition"], part["filesystem"], part["clean"]) for part in told["parts"]] == [
        (1, "vfat", True),
        (2, "ext4", True),
        (3, "ext4", False),
    ]
    assert check(disk, "--partition", "2")[0] == 0
    assert check(disk, "--partition", "3")[0] == 1
    code, told = check(disk, "--partition", "7")
    assert (code, told["verdict"]) == (3, "INCONCLUSIVE")
    assert "no partition 7" in told["reason"]


def test_a_partition_without_what_its_type_says_is_not_passed_over(images: Images, check: Check) -> None:
    wiped = images.blank(8 << 20)
    code, told = check(images.partitioned("gpt", images.made("ext4"), wiped))
    assert (code, told["verdict"]) == (3, "INCONCLUSIVE")
    assert "partition 2" in told["reason"]


def test_a_disk_that_ends_before_a_partition_begins_is_damaged(images: Images, check: Check) -> None:
    disk = images.partitioned("dos", images.made("vfat"), images.made("ext4"))
    with disk.open("r+b") as file:
        file.truncate(18 << 20)
    code, told = check(disk)
    assert (code, told["verdict"]) == (1, "INCONSISTENT")
    assert "beyond the end" in told["reason"]


def _lvm(images: Images) -> Path:
    image = images.blank(32 << 20)
    root("pvcreate", "-qq", "--config", "devices{scan_lvs=0}", images.loop(image))
    return image


def _luks(images: Images) -> Path:
    image = images.blank(16 << 20)
    head = b"LUKS\xba\xbe\x00\x01" + bytes(160) + b"0f3c2f9e-3a1a-4c58-9d0c-8f3f4a8a5c11\0\0\0\0"
    write(image, 0, head)
    return image


def _newer(images: Images) -> Path:
    image = images.made("ext4")
    tool("debugfs", "-w", "-R", "feature FEATURE_I20", image)
    return image


def _ntfs_in_use(images: Images) -> Path:
    """An NTFS as a running Windows leaves it: its log has a client, and no mark that it is clean."""
    image = _made(images, "ntfs")
    page = bytearray(4096)
    page[:4] = b"RSTR"
    struct.pack_into("<HHQIIHHH", page, 4, 30, 9, 0, 4096, 4096, 48, 1, 1)
    struct.pack_into("<QHHHH", page, 48, 1000, 1, 0xFFFF, 0, 0)
    for sector in range(8):  # the last two bytes of each sector are its fixup
        struct.pack_into("<H", page, 512 * sector + 510, 1)
    struct.pack_into("<H", page, 30, 1)
    place = image.read_bytes().find(b"\xff" * 65536)
    write(image, place, bytes(page) * 2)
    return image


@pytest.mark.parametrize(
    ("make", "seen", "remedy"),
    [
        (lambda images: images.blank(8 << 20), "no filesystem is recognised", ""),
        (lambda images: images.blank(100), "100 bytes", ""),
        (_lvm, "belongs to no group", "vgimportclone -n"),
        (_luks, "encrypted", "cryptsetup open --readonly"),
        (_newer, "FEATURE_I20", ""),
        (_ntfs_in_use, "nothing replayed it", "Windows"),
    ],
    ids=["blank", "tiny", "LVM", "LUKS", "newer", "NTFS in use"],
)
def test_what_can_t_be_judged_is_undecided_and_says_what_to_do(
    images: Images, check: Check, make: Callable[[Images], Path], seen: str, remedy: str
) -> None:
    code, told = check(make(images))
    assert (code, told["verdict"], told["usable"]) == (3, "INCONCLUSIVE", None), told
    assert seen in told["reason"]
    assert remedy in told["remedy"]


def test_what_must_be_there_makes_its_absence_damage(images: Images, check: Check) -> None:
    code, told = check(images.blank(8 << 20), "--filesystem", "ext4")
    assert (code, told["verdict"]) == (1, "INCONSISTENT")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ext4", ["-O", "casefold"]),
        ("ext4", ["-b", "65536"]),
        ("ext4", ["-b", "4096", "-O", "^metadata_csum,^64bit"]),
        ("ext4", ["-O", "sparse_super2,bigalloc,inline_data,quota,encrypt"]),
        ("xfs", ["-m", "crc=0"]),
        ("xfs", ["-b", "size=65536"]),
        ("btrfs", ["-s", "65536"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_whole_filesystem_that_this_kernel_may_not_mount_is_not_called_damaged(
    images: Images, check: Check, kind: str, options: list[str]
) -> None:
    code, told = check(images.made(kind, *options))
    assert (code, told["verdict"]) == (0, "CONSISTENT"), told


@pytest.mark.parametrize("options", [ext.MOUNT_OPTIONS, ext.KERNEL_REPLAY])
def test_a_filesystem_that_asks_for_a_panic_when_it_is_damaged_gets_none(
    images: Images, options: str
) -> None:
    image = images.made("ext4")
    tool("tune2fs", "-e", "panic", image)
    top = images.folder / "asks"
    top.mkdir()
    root("mount", "-o", options, images.loop(image), top)
    mounts = root("cat", "/proc/mounts").splitlines()
    root("umount", top)
    # ext4 shows what differs from the wish in its superblock.
    assert [line for line in mounts if f" {top} " in line and "errors=continue" in line]


def test_an_image_that_is_mounted_is_undecided_and_says_where(images: Images, check: Check) -> None:
    image = images.made("ext4")
    device, top = images.loop(image), images.folder / "held"
    top.mkdir()
    root("mount", device, top)
    try:
        code, told = check(image)
    finally:
        root("umount", top)
    assert (code, told["verdict"]) == (3, "INCONCLUSIVE")
    assert str(top) in told["reason"]


@pytest.mark.parametrize(
    "words",
    [
        ["/no/such/image"],
        ["/"],
        [__file__, "--partition", "0"],
        [__file__, "--deadline", "soon"],
    ],
)
def test_a_mistake_is_exit_2_and_one_sentence(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(["check", "fs", *words]) == 2
    assert capsys.readouterr().err.startswith("drtest: ")


def test_only_root_examines_here_and_is_told_who_else_can(
    images: Images, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["check", "fs", str(images.blank(1 << 20)), "--on", "here"]) == 2
    assert "helper guest" in capsys.readouterr().err


def test_people_are_told_the_verdict_first_and_that_nothing_was_written(
    images: Images, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = images.partitioned("gpt", images.made("vfat"), images.made("ext4"))
    assert main(["check", "fs", str(disk)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"CONSISTENT  {disk}: ")
    assert "vfat" in said
    assert "the image was not written to" in said


@pytest.mark.lab
def test_an_ordinary_user_has_it_examined_by_a_helper_guest(images: Images) -> None:
    guests.build("linux")  # into this user's cache, where the other one may only read
    captured = images.captured(Filesystem.XFS, "running")
    captured.image.chmod(0o444)
    before = _sha256(captured.image)
    own = images.folder / "own"
    own.mkdir()
    own.chmod(0o777)
    # As root: another user's rights, save that it may read this Python and the lab's image where root has put them.
    reads = "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"
    drop = (
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *reads] if os.geteuid() == 0 else []
    )
    cache = platformdirs.user_cache_path().as_posix()
    environment = dict(ENVIRONMENT, HOME=str(own), TMPDIR=str(own), XDG_CACHE_HOME=cache)
    done = subprocess.run(
        [*drop, sys.executable, "-m", "drtest.cli", "check", "fs", str(captured.image), "--json"],
        capture_output=True,
        check=False,
        env=environment,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)
    assert told["verdict"] == "RECOVERED"
    assert told["assurance"] == "standing-canary"
    assert "helper guest" in told["how"]
    assert _sha256(captured.image) == before
    assert list(own.iterdir()) == []
