import io
import json
import os
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from drtest.errors import EnvironmentFailedError
from drtest.lab import images, loader, windows
from drtest.lab.images import Image
from tests.lab.test_cpio import read

FAT = loader.LOADER_START
VOLUME = FAT + windows.LOADER_BYTES

MMDEBSTRAP = """
echo once >>{folder}/built
for word; do case $word in
    *"download /tmp/taken/packages "*) printf 'python3 3.11.2\\nntfs-3g 1:2022.10.3\\n' >"${{word##* }}" ;;
    *"download /tmp/taken/small.tar "*) cp {folder}/small.tar "${{word##* }}" ;;
    *"download /tmp/taken/vmlinuz "*) echo kernel >"${{word##* }}" ;;
esac; done
"""
"""What the real one leaves, without its work."""

QEMU = """
echo "$@" >>{folder}/installed
[ ! -e {folder}/broken ] || {{ echo '*** STOP 0x0000007B (INACCESSIBLE_BOOT_DEVICE)'; exec sleep 60; }}
"""
"""A guest that has nothing to install; or, where something is broken, that stops."""

LINKER = b"#!/bin/sh\nfor library; do :; done\ntouch $library/compiled\n"
"""In the place of the guest's Python, which is started by the guest's linker: it is asked to compile its last word."""


@dataclass(frozen=True)
class Built:
    """Both images, and the raw disks of them."""

    folder: Path
    source: Image
    helper: Image

    def disk(self, image: Image) -> Path:
        return self.folder / f"{image.name}.raw"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The images, by the real tools but for an mmdebstrap that has nothing to fetch; in a cache of their own."""
    folder = tmp_path_factory.mktemp("windows")
    with tarfile.open(folder / "small.tar", "w") as archive:
        linker = tarfile.TarInfo("./lib64/ld-linux-x86-64.so.2")
        linker.size, linker.mode = len(LINKER), 0o755
        archive.addfile(linker, io.BytesIO(LINKER))
    (folder / "programs").mkdir()
    scripts = {
        "mmdebstrap": MMDEBSTRAP.format(folder=folder),
        "qemu-system-x86_64": QEMU.format(folder=folder),
    }
    for name, script in scripts.items():
        (folder / "programs" / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / "programs" / name).chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("PATH", f"{folder}/programs:{os.environ['PATH']}")
        found = Built(folder, images.build("windows"), images.build("windows-helper"))
        for image in (found.source, found.helper):
            convert = [
                "qemu-img",
                "convert",
                "-f",
                "qcow2",
                "-O",
                "raw",
                str(image.layer),
                str(found.disk(image)),
            ]
            subprocess.run(convert, check=True, timeout=60)
        yield found


def part(raw: Path, start: int, size: int) -> bytes:
    with raw.open("rb") as file:
        file.seek(start)
        return file.read(size)


def test_the_disk_has_a_loader_and_an_ntfs_volume_and_nothing_else(built: Built) -> None:
    image = built.source
    assert (image.os, image.size, image.root_device) == ("windows", 1024**3, "/dev/sda1")
    sector = part(built.disk(image), 0, 512)
    entries = [struct.unpack("<B3xB3xII", sector[at : at + 16]) for at in (446, 462, 478, 494)]
    assert [(active, kind) for active, kind, _, _ in entries] == [(0x80, 0x0E), (0, 0x07), (0, 0), (0, 0)]
    assert [start * 512 for _, _, start, _ in entries[:2]] == [FAT, VOLUME]
    assert (entries[1][2] + entries[1][3]) * 512 == image.size
    boot = part(built.disk(image), VOLUME, 512)
    assert boot[3:11] == b"NTFS    "
    assert struct.unpack_from("<I", boot, 0x1C)[0] * 512 == VOLUME  # where the volume believes that it lies


def test_the_loader_has_the_kernel_the_base_and_the_stand_ins_python_in_this_order(built: Built) -> None:
    fat = f"{built.disk(built.source)}@@{FAT}"
    show = ["mtype", "-i", fat, "::/syslinux.cfg"]
    settings = subprocess.run(show, check=True, timeout=60, capture_output=True, text=True).stdout
    assert "KERNEL vmlinuz" in settings
    assert "INITRD base.img,python.img" in settings
    copy = ["mcopy", "-i", fat, "::/base.img", "::/python.img", str(built.folder)]
    subprocess.run(copy, check=True, timeout=60)
    names = {found.name: found for found in read((built.folder / "python.img").read_bytes())}
    assert names["init"].mode & 0o111
    assert names["init"].data.startswith(b"#!/bin/sh")
    for module in ("drtest/lab/winrm/service.py", "drtest/lab/__init__.py", "spnego/_ntlm.py", "compiled"):
        assert f"usr/lib/drtest/{module}" in names
    assert "usr/lib/drtest/drtest/lab/images.py" not in names
    base = read((built.folder / "base.img").read_bytes())
    assert [found.name for found in base] == ["lib64/ld-linux-x86-64.so.2"]


def test_a_helper_shares_the_base_and_neither_signature_nor_serial_number(built: Built) -> None:
    assert built.source.version == built.helper.version
    assert (built.folder / "built").read_text() == "once\n"
    for place in ((440, 4), (VOLUME + 0x48, 8)):
        first, second = (part(built.disk(image), *place) for image in (built.source, built.helper))
        assert first != second
        assert any(first)
        assert any(second)


def test_the_write_pool_is_in_front_of_the_source_alone(built: Built) -> None:
    assert built.source.pool > 0
    assert built.helper.pool == 0


def test_what_it_is_not_is_said_wherever_it_is_shown(built: Built) -> None:
    for image in (built.source, built.helper):
        assert "stand-in, not Windows" in image.notice


def test_the_packages_behind_it_are_written_down(built: Built) -> None:
    packages = json.loads((built.source.layer.parent / "image.json").read_text())["packages"]
    assert packages == {"python3": "3.11.2", "ntfs-3g": "1:2022.10.3"}


def test_what_runs_in_the_guest_is_part_of_the_hash(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = list(windows._sources())
    assert {"winrm/service.py", "winrm/security.py"} <= {name for name, _ in sources}
    monkeypatch.setattr(windows, "_sources", lambda: [*sources, ("standin/more.py", b"MORE = 1\n")])
    assert images.recipe_hash("windows") != built.source.version
    assert images.cached("windows") is None


def test_it_is_installed_when_it_is_built_and_not_when_it_is_started(built: Built) -> None:
    installed = (built.folder / "installed").read_text().splitlines()
    assert len(installed) == 2
    assert all("drtest.setup=yes" in line for line in installed)


def test_an_installation_that_stops_is_not_waited_for(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    (built.folder / "broken").touch()
    sources = list(windows._sources())
    monkeypatch.setattr(windows, "_sources", lambda: [*sources, ("standin/broken.py", b"")])
    with pytest.raises(EnvironmentFailedError, match="stopped while it was being installed") as raised:
        images.build("windows")
    assert "INACCESSIBLE_BOOT_DEVICE" in raised.value.seen
    assert images.cached("windows") is None
