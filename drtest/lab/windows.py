"""The ``windows`` images' disks: a Linux that runs in RAM, and an NTFS volume that holds Windows' things alone."""

import errno
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from pathlib import Path

from drtest.errors import EnvironmentFailedError
from drtest.lab import cache, cpio, loader
from drtest.lab.bootstrap import SUITE, Tree, bootstrap
from drtest.lab.loader import MIB
from drtest.lab.tools import Tools, remove

PACKAGES = (
    "busybox-static",
    "kmod",
    "linux-image-cloud-amd64",
    "ntfs-3g",
    "python3",
    "python3-cryptography",
)
"""Of these and what they depend on, the recipe keeps the few files that the stand-in needs."""

DISK_BYTES = 1024 * MIB
LOADER_BYTES = 64 * MIB

LIBRARY = "usr/lib/drtest"
"""Where the guest's Python finds what is not Debian's."""

PARTS = ("winrm", "standin")
"""The packages beside this module that run in the guest, and nowhere else."""

NOTICE = (
    "This is a stand-in, not Windows, which can't be shipped. It models what the finding is about: a real NTFS volume "
    "with registry hives that are written in place while it runs, a record of whether it was shut down cleanly, a STOP "
    "screen where the hives can't be recovered, and a WinRM service that answers drtest's own probes from what is "
    "really on its volumes. No code of Windows runs in it: NTFS is read, written and checked by ntfs-3g."
)
"""What has to be said wherever results from these images are shown."""

POOL = 1.0
"""How strong the write pool of ``windows`` is, on its root volume: the fault of the incident."""

STOPPED = ("*** STOP", "Kernel panic - not syncing")
"""What the console of a stand-in shows that will never come up."""

_BASE = ("customize.sh", "modules.conf", "programs.conf", "python.conf")
"""The files of the recipe that the base is made by."""

Tell = Callable[[str, float], None]


def version(recipe: Path) -> bytes:
    """Say what goes into the disks: bytes that change with any of it."""
    fixed = (SUITE, PACKAGES, DISK_BYTES, LOADER_BYTES, importlib.metadata.version("pyspnego"))
    digest = hashlib.sha256(repr(fixed).encode())
    for name, data in (*_files(recipe), *_sources()):
        digest.update(f"\0{name}\0".encode() + data)
    return digest.digest()


def build(
    recipe: Path, disk: Path, *, name: str, work: Path, log: Path, tell: Tell, deadline: float
) -> dict[str, str]:
    """Make ``disk``, a qcow2 file with a boot sector, a loader, the stand-in's Linux, and an NTFS volume.

    What of it comes from Debian's packages is kept beside the images: it is the same for all of them. What belongs on
    the volume is put there by the stand-in itself, in a boot of its own: so no instance begins with an installation.

    Args:
        recipe: the folder with ``customize.sh`` and what that needs.
        disk: the file to be made.
        name: what this build is called: the disk's signature and the volume's serial number follow from it.
        work: a folder of its own for what lies in between; the caller removes it.
        log: is told what every tool says.
        tell: is told the stage and the fraction done.
        deadline: seconds that it all may take.

    Returns:
        The packages in it, with their versions.

    Raises:
        EnvironmentFailedError: a tool is missing, or failed.
    """
    end = time.monotonic() + deadline
    base = _base(recipe, tell, end)
    work.mkdir()
    raw, python, volume = work / "disk.raw", work / "python.img", work / "volume.img"
    identity = hashlib.sha256(name.encode()).digest()
    signature = int.from_bytes(identity[:4], "little") | 1
    layout = loader.Layout(disk=DISK_BYTES, loader=LOADER_BYTES, kind=loader.NTFS, signature=signature)
    with log.open("ab") as out:
        tools = Tools(out, end=end)
        tell("compiling the stand-in", 0.8)
        library = work / "library"
        _gather(library)
        _compile(library, base / "small.tar", work=work, tools=tools)
        with python.open("wb") as file:
            cpio.write(file, _python(recipe, library))
        tell("making the file systems", 0.9)
        with raw.open("wb") as file:
            file.truncate(DISK_BYTES)
        settings = work / "syslinux.cfg"
        settings.write_bytes((recipe / "syslinux.conf").read_bytes())
        parts = (base / "vmlinuz", base / "base.img", python, settings)
        loader.write(raw, layout, files=parts, work=work, tools=tools)
        with volume.open("wb") as file:
            file.truncate(layout.size)
        # Of a disk that is a file, mkfs.ntfs has to be told what NTFS's own boot sector says of its place.
        place = ["--sectors-per-track", "63", "--heads", "255", "--partition-start", str(layout.start // 512)]
        tools.run(["mkfs.ntfs", "--quick", "--force", *place, "--label", "Windows", str(volume)])
        tools.run(["ntfslabel", f"--new-serial={identity[4:12].hex()}", str(volume)])
        tell("packing the disk", 0.94)
        _lay_down(volume, raw, at=layout.start)
        tools.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)])
        tell("installing the stand-in", 0.96)
        _install(disk, tools)
    packages: dict[str, str] = json.loads((base / cache.DONE).read_text())["packages"]
    return packages


def _base(recipe: Path, tell: Tell, end: float) -> Path:
    """Find or make what comes from Debian's packages: ``vmlinuz``, ``base.img``, and ``small.tar`` with the same."""
    digest = hashlib.sha256(repr((SUITE, PACKAGES)).encode())
    for name, data in _files(recipe):
        if name in _BASE:
            digest.update(f"\0{name}\0".encode() + data)
    place = cache.folder("windows-base", digest.hexdigest()[:16])

    def make(staging: Path, log: Path) -> None:
        work = staging / "work"
        work.mkdir()
        wanted = Tree(
            recipe=recipe,
            packages=PACKAGES,
            variant="extract",
            taken=("vmlinuz", "small.tar", "packages"),
            whole=False,
        )
        with log.open("ab") as out:
            bootstrap(wanted, work, name=place.name, tools=Tools(out, end=end), tell=tell)
        for kept in ("vmlinuz", "small.tar"):
            (work / kept).rename(staging / kept)
        with (staging / "base.img").open("wb") as image:
            cpio.write(image, cpio.from_tar(staging / "small.tar"))
        packages = dict(line.split(" ", 1) for line in (work / "packages").read_text().splitlines())
        (staging / cache.DONE).write_text(json.dumps({"packages": packages}, indent=1) + "\n")

    cache.build(place, make, tell=tell)
    return place


def _files(recipe: Path) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in sorted(recipe.iterdir()) if path.is_file()]


def _sources() -> Iterator[tuple[str, bytes]]:
    """Give the packages of this house that run in the guest, by their paths below ``drtest/lab``."""
    with as_file(files("drtest.lab")) as lab:
        for part in PARTS:
            for path in sorted((lab / part).rglob("*.py")):
                yield str(path.relative_to(lab)), path.read_bytes()


def _gather(library: Path) -> None:
    """Put together what the guest's Python runs: parts of this house, and pyspnego from beside it."""
    for name, data in (
        ("__init__.py", b""),
        ("lab/__init__.py", b""),
        *((f"lab/{n}", d) for n, d in _sources()),
    ):
        path = library / "drtest" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    found = importlib.util.find_spec("spnego")
    if found is None or found.origin is None:
        raise EnvironmentFailedError("pyspnego is not installed", remedy="Run: pip install pyspnego")
    spnego = Path(found.origin).parent
    for path in sorted(spnego.rglob("*.py")):
        copy = library / "spnego" / path.relative_to(spnego)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())


def _compile(library: Path, small: Path, *, work: Path, tools: Tools) -> None:
    """Compile for the guest's Python, by itself: this one may be another version."""
    root = work / "small"
    root.mkdir()
    tools.run(["tar", "--extract", f"--file={small}", f"--directory={root}"])
    folders = (root / "lib/x86_64-linux-gnu", root / "usr/lib/x86_64-linux-gnu")
    run = [str(root / "lib64/ld-linux-x86-64.so.2"), "--library-path", ":".join(map(str, folders))]
    run += [
        str(root / "usr/bin/python3.11"),
        "-m",
        "compileall",
        "-q",
        "--invalidation-mode",
        "unchecked-hash",
    ]
    run += ["-s", str(library), "-p", f"/{LIBRARY}", str(library)]
    tools.run(run, environment={"PYTHONHOME": str(root / "usr"), "PYTHONPATH": ""})
    remove(root)


def _lay_down(volume: Path, raw: Path, *, at: int) -> None:
    """Copy a volume to its place on a raw disk that is empty there; what was never written is left out."""
    with volume.open("rb") as source, raw.open("r+b") as disk:
        end = 0
        size = source.seek(0, os.SEEK_END)
        while end < size:
            try:
                start = source.seek(end, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break  # nothing but a hole is left
            end = source.seek(start, os.SEEK_HOLE)
            source.seek(start)
            disk.seek(at + start)
            disk.write(source.read(end - start))


def _install(disk: Path, tools: Tools) -> None:
    """Boot once, by itself, to install what belongs on the volume; it switches itself off when it is done."""
    node = {"driver": "qcow2", "node-name": "disk", "file": {"driver": "file", "filename": str(disk)}}
    # Without KVM: whether that works here is found out by an image that is finished.
    run = ["qemu-system-x86_64", "-no-user-config", "-nodefaults", "-machine", "q35,graphics=off"]
    run += ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "512", "-display", "none"]
    run += [
        "-smbios",
        "type=2,asset=setup",
        "-smbios",
        "type=11,value=drtest.setup=yes",
        "-serial",
        "stdio",
        "-no-reboot",
    ]
    run += ["-blockdev", json.dumps(node), "-device", "nvme,serial=setup,drive=disk,bootindex=0"]
    tools.run(run, heard=_refuse_to_wait)


def _refuse_to_wait(line: str) -> None:
    """A guest that has stopped says nothing any more, and does not go."""
    if any(sign in line for sign in STOPPED):
        raise EnvironmentFailedError(f"the stand-in stopped while it was being installed: {line.strip()}")


def _python(recipe: Path, library: Path) -> Iterator[cpio.Entry]:
    """List what is unpacked last: the first process, and what Python runs."""
    yield cpio.file("init", (recipe / "init.sh").read_bytes(), executable=True)
    yield from cpio.tree(library, prefix=LIBRARY)
