"""The copy-on-write view: what is written to it never reaches the original."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drtest.drill import overlay
from drtest.errors import EnvironmentFailedError, UsageError
from tests.guest.images import Images, root, tool


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    with Images(tmp_path) as images:
        yield images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _without_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "DAEMON", "no-such-daemon")


@pytest.mark.parametrize("daemon", [True, False], ids=["daemon", "copy"])
@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_what_is_written_to_a_view_is_read_from_it_and_never_reaches_the_original(
    images: Images, folder: Path, monkeypatch: pytest.MonkeyPatch, form: str, daemon: bool
) -> None:
    if not daemon:
        _without_daemon(monkeypatch)
    image = images.made("ext4")
    first = image.read_bytes()[:8192]
    if form == "qcow2":
        qcow2 = image.with_suffix(".qcow2")
        tool("qemu-img", "convert", "-O", "qcow2", image, qcow2)
        image = qcow2
    image.chmod(0o444)
    before, changed = _sha256(image), image.stat().st_mtime_ns
    original = overlay.find(image)
    assert (original.form, original.size, original.device) == (form, 64 << 20, False)
    with overlay.viewed(original, folder=folder) as view:
        assert view.path.stat().st_size == 64 << 20
        with view.path.open("r+b") as file:
            assert file.read(8192) == first
            file.seek(4096)
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        assert view.path.read_bytes()[:8192] == first[:4096] + b"x" * 4096
    assert (_sha256(image), image.stat().st_mtime_ns) == (before, changed)
    assert not original.changed


def test_a_view_of_a_device_leaves_the_device_as_it_is(images: Images, folder: Path) -> None:
    image = images.made("ext4")
    device = Path(images.loop(image))
    before = _sha256(image)
    original = overlay.find(device)
    assert (original.form, original.size, original.device) == ("raw", 64 << 20, True)
    with overlay.viewed(original, folder=folder) as view, view.path.open("r+b") as file:
        file.write(b"x" * 65536)
    assert _sha256(image) == before


def test_a_raw_image_that_pretends_to_be_built_on_another_file_is_read_as_the_bytes_that_it_is(
    images: Images, folder: Path
) -> None:
    secret = images.folder / "secret"
    secret.write_bytes(b"secret" * 1000)
    image = images.blank(1 << 20)
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", image, "1M")
    device = Path(images.loop(image))
    with overlay.viewed(overlay.find(device), folder=folder) as view:
        assert view.path.read_bytes()[:4] == b"QFI\xfb"


def test_nothing_is_left_mounted_and_no_daemon_runs_when_a_view_ends(images: Images, folder: Path) -> None:
    def fails_in_its_middle() -> None:
        with overlay.viewed(overlay.find(images.made("ext4")), folder=folder) as view:
            assert f" {view.path} " in Path("/proc/self/mountinfo").read_text()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails_in_its_middle()
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    assert str(folder) not in tool("ps", "-eo", "args")


def test_a_view_ends_with_the_process_that_wanted_it_even_if_that_is_killed(
    images: Images, folder: Path
) -> None:
    image = images.made("ext4")
    script = (
        "import sys, pathlib, time\nfrom drtest.drill import overlay\n"
        "with overlay.viewed(overlay.find(pathlib.Path(sys.argv[1])), folder=pathlib.Path(sys.argv[2])) as view:\n"
        "    print(view.path, flush=True); time.sleep(60)\n"
    )
    python = [sys.executable, "-c", script, str(image), str(folder)]
    with subprocess.Popen(python, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == str(folder / "view.img")
        process.kill()
    ends = time.monotonic() + 10
    while str(folder) in Path("/proc/self/mountinfo").read_text():
        assert time.monotonic() < ends, "the view outlived its process"
        time.sleep(0.05)


def test_a_mounted_image_and_a_mounted_device_are_refused_and_say_where(images: Images, folder: Path) -> None:
    image = images.made("ext4")
    device, top = Path(images.loop(image)), images.folder / "held"
    top.mkdir()
    root("mount", device, top)
    try:
        for path in (image, device):
            with pytest.raises(overlay.InUseError) as refused:
                overlay.find(path)
            assert str(top) in refused.value.seen
            assert "snapshot" in refused.value.remedy
    finally:
        root("umount", top)


def test_an_image_that_a_virtual_machine_writes_to_is_refused(images: Images, folder: Path) -> None:
    image = images.folder / "disk.qcow2"
    tool("qemu-img", "create", "-q", "-f", "qcow2", image, "64M")
    with subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(image)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as machine:
        assert machine.stdin is not None
        assert machine.stdout is not None
        machine.stdin.write("length\n")
        machine.stdin.flush()
        assert "64" in machine.stdout.readline()
        with (
            pytest.raises(overlay.InUseError, match="virtual machine"),
            overlay.viewed(overlay.find(image), folder=folder),
        ):
            pass
        machine.stdin.write("quit\n")


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"\x1f\x8b" + bytes(510), "gzip"), (b"KDMV" + bytes(508), "VMDK"), (b"conectix" + bytes(504), "VHD")],
)
def test_an_image_in_another_form_is_a_mistake_that_says_what_to_do(
    tmp_path: Path, content: bytes, word: str
) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=word) as refused:
        overlay.find(path)
    assert "qemu-img convert" in refused.value.remedy


@pytest.mark.parametrize("name", ["missing", "folder", "pipe"])
def test_what_is_no_image_is_a_mistake(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError):
        overlay.find(tmp_path / name)


def test_a_copy_that_does_not_fit_is_refused_before_it_is_begun(
    images: Images, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_daemon(monkeypatch)
    original = overlay.find(images.made("ext4"))
    monkeypatch.setattr(overlay, "SPARE", 0)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": original.allocated - 1}))
    with (
        pytest.raises(EnvironmentFailedError, match="are needed") as refused,
        overlay.viewed(original, folder=folder),
    ):
        pass
    assert "TMPDIR" in refused.value.remedy
    assert list(folder.iterdir()) == []
