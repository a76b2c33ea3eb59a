"""Images of the user's own: any disk that could boot by BIOS, in the place of the lab's."""

import struct
import subprocess
from pathlib import Path

import pytest

from drtest.cli import main
from drtest.errors import EnvironmentFailedError, UsageError
from drtest.lab import boot_sector, images, own_images
from drtest.lab.own_images import GIB
from drtest.lab.qcow2 import Chain

from .test_pooled_roots import FILES, WRITE, up

CODE = b"\xfa\x33\xc0" + bytes(437)


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("DRTEST_LAB_DIR", str(tmp_path / "lab"))
    return tmp_path / "data"


def disk(*types: int, code: bytes = CODE, guid: bytes = bytes(16)) -> bytes:
    """The beginning of a disk with primary partitions of some types; of a GPT's, with one entry of a type."""
    table = b"".join(struct.pack("<B3xB3xII", 0, one, 2048, 2048) for one in types).ljust(64, b"\0")
    gpt = b"EFI PART".ljust(72, b"\0") + struct.pack("<QII", 2, 128, 128) if 0xEE in types else b""
    sector = code.ljust(446, b"\0") + table + b"\x55\xaa"
    return (sector + gpt.ljust(512, b"\0") + guid).ljust(1024 * 1024, b"\0")


@pytest.fixture
def bios(tmp_path: Path) -> Path:
    path = tmp_path / "server.raw"
    path.write_bytes(disk(7))
    return path


@pytest.mark.parametrize("form", ["raw", "qcow2", "vpc", "vhdx", "vmdk"])
def test_a_disk_of_any_form_becomes_an_image_in_whole_gib(form: str, bios: Path, tmp_path: Path) -> None:
    file = tmp_path / f"copy.{form}"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", form, str(bios), str(file)], check=True)
    assert own_images.add(file, os="windows", name="server-2022") == "server-2022"
    image = images.build("server-2022")
    assert (image.os, image.root_device, image.size, image.pool, image.notice) == (
        "windows",
        "/dev/sda1",
        GIB,
        0.0,
        "",
    )
    with Chain(image.layer) as chain:
        assert chain.size == GIB
        assert chain.read(0, 65536) == disk(7)[:65536]


def test_named_windows_it_runs_in_the_stand_in_s_place_until_it_is_removed(bios: Path) -> None:
    own_images.add(bios, os="windows", pool=0.5)
    image = images.cached("windows")
    assert image is not None
    assert (image.notice, image.pool) == ("", 0.5)
    assert own_images.remove("windows")
    assert own_images.names() == ()
    stand_in = images.cached("windows")
    assert stand_in is None or "stand-in" in stand_in.notice


def test_added_again_it_is_another_image(bios: Path) -> None:
    versions = set()
    for _ in range(2):
        own_images.add(bios, os="linux", name="mine")
        versions.add(images.build("mine").version)
    assert len(versions) == 2


@pytest.mark.parametrize(
    ("start", "why"),
    [
        (bytes(4096), "no boot sector"),
        (disk(0xEE), "made for UEFI"),
        (disk(0xEF), "made for UEFI"),
        (disk(0x83, code=b""), "no code"),
    ],
)
def test_what_could_not_boot_is_refused_and_leaves_nothing(
    start: bytes, why: str, tmp_path: Path, data_folder: Path
) -> None:
    file = tmp_path / "uefi.raw"
    file.write_bytes(start)
    with pytest.raises(UsageError, match=why) as refused:
        own_images.add(file, os="linux", name="uefi")
    assert "BIOS" in refused.value.remedy
    assert own_images.names() == ()
    assert not list(data_folder.rglob("*.qcow2"))


def test_a_gpt_with_a_bios_boot_partition_is_taken() -> None:
    # As grub-install makes it on a disk that boots both ways.
    assert boot_sector.why_not(disk(0xEE, guid=b"Hah!IdontNeedEFI")) == ""


def test_names_that_are_none_and_files_that_are_none_are_refused(bios: Path, tmp_path: Path) -> None:
    for name in ("Server", "../up", "a b"):
        with pytest.raises(UsageError, match="no name"):
            own_images.add(bios, os="linux", name=name)
    with pytest.raises(UsageError, match="no file"):
        own_images.add(tmp_path / "none.raw", os="linux")
    (tmp_path / "broken.vmdk").write_bytes(b"KDMV" + b"\xff" * 4096)
    with pytest.raises(EnvironmentFailedError, match="qemu-img"):
        own_images.add(tmp_path / "broken.vmdk", os="linux")


def test_the_command_adds_lists_and_removes(bios: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "image", "add", str(bios), "--os", "windows", "--name", "mine", "--pool", "0.5"]) == 0
    assert main(["lab", "image", "list"]) == 0
    told = capsys.readouterr().out
    assert "mine" in told
    assert "0.5" in told
    assert main(["lab", "image", "remove", "mine"]) == 0
    assert main(["lab", "image", "remove", "mine"]) == 2
    assert main(["lab", "image", "add", str(bios), "--os", "windows", "--pool", "2"]) == 2


@pytest.mark.lab
def test_an_image_of_one_s_own_runs_and_without_strength_its_running_snapshot_is_whole(
    tmp_path: Path, linux_image: images.Image
) -> None:
    own_images.add(linux_image.layer, os="linux", name="mine", pool=0.9)
    with up(tmp_path / "lab", strength=0.0, image="mine") as lab:
        lab.drill.run(lab.instance, WRITE)
        copy = lab.copy(lab.snapshot())
        assert copy.whole
        assert copy.kept == FILES
        assert not list((lab.folder / "machines" / lab.instance).glob("*.writes"))
