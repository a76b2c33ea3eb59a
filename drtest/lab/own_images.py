"""Images that the user brought: copied once, and run in the place of the lab's own of the same name."""

import json
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import platformdirs

from drtest.errors import EnvironmentFailedError, UsageError
from drtest.lab import boot_sector
from drtest.lab.qcow2 import Chain

GIB = 1024**3
COPY_SECONDS = 3600.0
"""How long the copy of one image may take."""

ROOT_DEVICES = {"linux": "/dev/xvda", "windows": "/dev/sda1"}
"""What EC2 calls the root device of the usual AMIs."""

Tell = Callable[[str, float], None]


def add(
    file: Path,
    *,
    os: Literal["linux", "windows"],
    name: str = "",
    pool: float = 0.0,
    tell: Tell = lambda _stage, _fraction: None,
) -> str:
    """Copy an image, so that labs that come up from now on have it.

    It has to boot by BIOS (SeaBIOS) from an NVMe disk; its network card is one of virtio's. How it is logged in to is
    its own affair: see drtest/lab/README.md.

    Args:
        file: a disk in any form that qemu-img reads: raw, qcow2, VHD, VHDX, VMDK.
        os: what is in it.
        name: what scenarios call it; by default as its operating system, in the place of the lab's own.
        pool: how strong the write pool in front of its root volumes is, 0 to 1; 0 for none.
        tell: is told the stage and the fraction done.

    Returns:
        Its name.

    Raises:
        UsageError: the file is no disk, or none that boots by BIOS, or the name is none.
        EnvironmentFailedError: qemu-img is missing, or the copy failed.
    """
    name = name or os
    if not name.replace("-", "").isalnum() or not name.islower():
        raise UsageError(
            f"{name!r} is no name of an image", remedy="Names are of small letters, digits and dashes."
        )
    size = _size(file)
    place = _place(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=place.parent) as staging:
        fresh = Path(staging) / "image"
        fresh.mkdir()
        disk = fresh / "disk.qcow2"
        tell(f"copying {file.name}", 0.0)
        _qemu_img(["convert", "-O", "qcow2", str(file.absolute()), str(disk)])
        _check_boots(disk, file)
        _qemu_img(["resize", "-f", "qcow2", str(disk), str(size)])
        disk.chmod(0o444)
        about = {
            "name": name,
            "os": os,
            "size": size,
            "root_device": ROOT_DEVICES[os],
            "pool": pool,
            "version": secrets.token_hex(8),
            "from": str(file.absolute()),
            "added": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        (fresh / "image.json").write_text(json.dumps(about, indent=1) + "\n")
        remove(name)
        fresh.rename(place)
    tell("done", 1.0)
    return name


def _check_boots(disk: Path, file: Path) -> None:
    with Chain(disk) as chain:
        why = boot_sector.why_not(chain.read(0, boot_sector.LOOKS_AT))
    if why:
        raise UsageError(
            f"{file} can't boot in the lab, which boots by BIOS from a disk's boot sector: {why}.",
            remedy="Take one that was made for BIOS: of Windows, from a virtual machine of generation 1 (its disk has "
            "an MBR); of Linux, one with a BIOS boot partition, as most cloud images have.",
        )


def remove(name: str) -> bool:
    """Forget an image; the lab's own of that name, if there is one, has its place back.

    Returns:
        Whether there was one.
    """
    place = _place(name)
    if not place.is_dir():
        return False
    shutil.rmtree(place)
    return True


def found(name: str) -> tuple[Path, Mapping[str, Any]] | None:
    """Find an image: its disk, and ``os``, ``size``, ``pool`` and so on as `add` notes them; None if not there."""
    place = _place(name)
    try:
        return place / "disk.qcow2", json.loads((place / "image.json").read_text())
    except FileNotFoundError:
        return None


def names() -> tuple[str, ...]:
    """Name the images that the user brought."""
    return tuple(sorted(path.parent.name for path in _place("*").parent.glob("[!.]*/image.json")))


def _place(name: str) -> Path:
    return platformdirs.user_data_path("drtest") / "images" / name


def _size(file: Path) -> int:
    """Say how large a disk is, in bytes, in whole GiB as EBS has them."""
    if not file.is_file():
        raise UsageError(f"there is no file {file}")
    told: dict[str, Any] = json.loads(_qemu_img(["info", "--output=json", str(file.absolute())]))
    return -(-int(told["virtual-size"]) // GIB) * GIB


def _qemu_img(words: list[str]) -> str:
    try:
        done = subprocess.run(
            ["qemu-img", *words], capture_output=True, text=True, timeout=COPY_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise EnvironmentFailedError("qemu-img is not installed", remedy="Run: drtest lab install") from error
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFailedError(f"qemu-img {words[0]} did not end in {COPY_SECONDS:.0f} s") from error
    if done.returncode:
        raise EnvironmentFailedError(f"qemu-img {words[0]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout
