"""A copy-on-write view of an image file or a device: whatever is written to it, the original never changes.

qemu-storage-daemon shows the view as a file, by FUSE: reads come from the original, which it has open for reading
only, and writes go to a file of our own. Nothing is copied, whatever the size. Where it or FUSE is missing, the
original is copied, as a reflink where the filesystem can do that.
"""

import contextlib
import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drtest.errors import DeadlineError, EnvironmentFailedError, UsageError
from drtest.guest.probes import disks

FUSE = Path("/dev/fuse")
DAEMON = "qemu-storage-daemon"
SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin"
STARTS = 20.0
"""Seconds that the daemon may take to show the view."""
ENDS = 30.0
SPARE = 256 * 1024**2
"""Bytes that stay free where a copy is made, and that a view needs for what a log's replay writes."""

FOREIGN = {
    b"KDMV": "a VMDK image",
    b"vhdxfile": "a VHDX image",
    b"conectix": "a VHD image",
    b"QED\0": "a QED image",
    b"\x1f\x8b": "compressed by gzip",
    b"\xfd7zXZ\0": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"BZh": "compressed by bzip2",
    b"PK\x03\x04": "a ZIP archive",
}
"""Beginnings of files that hold an image in another form."""


class InUseError(EnvironmentFailedError):
    """Something else has the image open for writing, or mounted: its bytes are of no one moment."""


@dataclass(frozen=True, kw_only=True)
class Original:
    """An image file or a device, as it was found.

    Attributes:
        path: where it is.
        form: ``raw`` or ``qcow2``; a device is always ``raw``, whatever its bytes pretend to be.
        size: bytes of the disk that it holds.
        allocated: bytes that a copy of it takes at most.
        device: whether it is a block device.
        mark: what changes when somebody writes to the file.
    """

    path: Path
    form: str
    size: int
    allocated: int
    device: bool
    mark: tuple[int, ...]

    @property
    def changed(self) -> bool:
        """Whether somebody has written to the file since."""
        return not self.device and self.mark != _mark(self.path)


@dataclass(frozen=True, kw_only=True)
class View:
    """A view of an original: the file that may be written to, and how it comes about."""

    path: Path
    how: str


def find(path: Path) -> Original:
    """The image or device of that name.

    Raises:
        UsageError: there is none, it can't be read, or it holds no disk's bytes.
        InUseError: it is mounted, or part of something that is.
    """
    try:
        status = path.stat()
        if not (stat.S_ISBLK(status.st_mode) or stat.S_ISREG(status.st_mode)):
            raise UsageError(
                f"{path} is neither a file nor a block device", remedy="Name an image file or a device."
            )
        with path.open("rb") as file:
            head = file.read(64)
            size = file.seek(0, os.SEEK_END)
    except OSError as problem:
        raise UsageError(
            f"{path} can't be read: {problem.strerror}",
            remedy="Name an image file or a block device that you may read."
            if not isinstance(problem, PermissionError)
            else "Run it as a user who may read it, as root by sudo.",
        ) from problem
    if stat.S_ISBLK(status.st_mode):
        _refuse_busy(path)
        return Original(path=path, form="raw", size=size, allocated=size, device=True, mark=())
    kind = next((what for magic, what in FOREIGN.items() if head.startswith(magic)), "")
    if kind:
        raise UsageError(
            f"{path} is {kind}, which holds no disk's bytes as they are",
            remedy="Unpack it, or turn it into a raw image: qemu-img convert -O raw FILE disk.img",
        )
    _refuse_mounted(path)
    qcow2 = head.startswith(b"QFI\xfb")
    return Original(
        path=path,
        form="qcow2" if qcow2 else "raw",
        # QEMU, docs/interop/qcow2.txt: bytes 24 to 31 are the disk's size.
        size=int.from_bytes(head[24:32], "big") if qcow2 else size,
        allocated=status.st_blocks * 512,
        device=False,
        mark=_mark(path),
    )


def _mark(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _refuse_busy(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL))
    except OSError as problem:
        with contextlib.suppress(disks.NotFoundError):
            why = disks.in_use(disks.of_device(str(path)))
            raise _in_use(
                path, why or "it is mounted, swapped on or held by LVM, RAID or a loop device"
            ) from problem
        raise _in_use(path, problem.strerror or "it can't be opened") from problem


def _refuse_mounted(path: Path) -> None:
    """A file behind a loop device that is mounted changes while it is looked at."""
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if backing.read_text().strip() != str(path.resolve()):
                continue
            why = disks.in_use(disks.of_device(f"/dev/{backing.parts[3]}"))
        except (OSError, disks.NotFoundError):
            continue  # it went while we looked
        if why:
            raise _in_use(path, why)


def _in_use(path: Path, why: str) -> InUseError:
    return InUseError(
        f"{path} is in use: {why}",
        remedy="What changes while it is looked at proves nothing: check a snapshot of it, or unmount it first.",
    )


@contextlib.contextmanager
def viewed(original: Original, *, folder: Path) -> Iterator[View]:
    """A view of an original for as long as it is needed; what was written to it goes with it.

    Args:
        original: the image or device.
        folder: a folder of our own, which has to be removed by the caller.

    Raises:
        InUseError: a virtual machine writes to it.
        EnvironmentFailedError: there is no room for it, or what it needs is missing.
    """
    _refuse_without_room(folder, SPARE)
    if _daemon() and FUSE.exists():
        with _shown(original, folder) as path:
            yield View(path=path, how="a copy-on-write overlay by qemu-storage-daemon")
    else:
        path = _copied(original, folder)
        yield View(path=path, how="a copy")


def layer(original: Original, *, folder: Path) -> Path:
    """A qcow2 file of our own on top of an original, for a virtual machine to write to.

    Raises:
        InUseError: another virtual machine writes to it.
        EnvironmentFailedError: there is no room for it, or qemu-img is missing.
    """
    _refuse_without_room(folder, SPARE)
    path = folder / "overlay.qcow2"
    backing = ["-b", str(original.path.resolve()), "-F", original.form]
    _run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(path)], original)
    return path


def _refuse_without_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise EnvironmentFailedError(
            f"{folder} has {free / 1024**2:.0f} MiB left, and {needed / 1024**2:.0f} MiB are needed",
            remedy="Make room there, or have TMPDIR name a folder with more.",
        )


def _daemon() -> str | None:
    return shutil.which(DAEMON, path=_path())


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:{SYSTEM}"


def _run(argv: list[str], original: Original) -> None:
    environment = dict(os.environ, LC_ALL="C", PATH=_path())
    try:
        subprocess.run(argv, check=True, capture_output=True, text=True, timeout=3600, env=environment)
    except FileNotFoundError as error:
        raise EnvironmentFailedError(
            f"{argv[0]} is not installed", remedy="`drtest lab install` installs it."
        ) from error
    except subprocess.CalledProcessError as error:
        raise _failed(original, error.stderr) from error
    except subprocess.TimeoutExpired as error:
        raise DeadlineError(f"{argv[0]} on {original.path} did not end within an hour") from error


def _failed(original: Original, said: str) -> EnvironmentFailedError:
    last = said.strip().splitlines()[-1:]
    if "Failed to get" in said and "lock" in said:  # QEMU's own locks on images that a machine has open
        return _in_use(original.path, "a virtual machine has it open for writing")
    return EnvironmentFailedError(f"{original.path} can't be opened: {''.join(last) or 'nothing was said'}")


def _copied(original: Original, folder: Path) -> Path:
    path = folder / "copy.img"
    _refuse_without_room(folder, original.allocated + SPARE)
    if original.form == "qcow2":
        _run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(original.path), str(path)], original)
    else:
        _run(["cp", "--reflink=auto", "--sparse=always", "--", str(original.path), str(path)], original)
    path.chmod(0o600)  # the original may be read-only; the copy is ours
    return path


@contextlib.contextmanager
def _shown(original: Original, folder: Path) -> Iterator[Path]:
    own, shown = folder / "overlay.qcow2", folder / "view.img"
    _run(["qemu-img", "create", "-q", "-f", "qcow2", str(own), str(original.size)], original)
    shown.touch(mode=0o600)
    with (folder / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(
            [*_dies_with_us(), DAEMON, *_arguments(original, own, shown)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a Ctrl-C is for us: the daemon must outlive what is mounted on it
            env=dict(os.environ, LC_ALL="C", PATH=_path()),
        )
    try:
        _wait_for(shown, daemon, original, folder / "daemon.log")
        yield shown
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(ENDS)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait(ENDS)
        if _mounted(shown):
            subprocess.run(["umount", "-l", str(shown)], check=False, capture_output=True, timeout=ENDS)


def _dies_with_us() -> list[str]:
    """What lets the daemon end should we be killed; it is the daemon's own process afterwards (setpriv(1))."""
    return ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv", path=_path()) else []


def _arguments(original: Original, own: Path, shown: Path) -> list[str]:
    below: dict[str, Any] = {
        "driver": "host_device" if original.device else "file",
        "filename": str(original.path.resolve()),
    }
    nodes = [
        {
            "node-name": "below",
            "read-only": True,
            "driver": original.form,
            "file": {**below, "read-only": True},
        },
        {
            "node-name": "view",
            "driver": "qcow2",
            "file": {"driver": "file", "filename": str(own)},
            "backing": "below",
        },
    ]
    argv = [word for node in nodes for word in ("--blockdev", json.dumps(node))]
    return [*argv, "--export", f"type=fuse,id=view,node-name=view,mountpoint={shown},writable=on"]


def _wait_for(shown: Path, daemon: "subprocess.Popen[bytes]", original: Original, log: Path) -> None:
    ends = time.monotonic() + STARTS
    while not _mounted(shown):
        if daemon.poll() is not None:
            raise _failed(original, log.read_text(errors="replace"))
        if time.monotonic() > ends:
            raise DeadlineError(f"{DAEMON} did not show {original.path} within {STARTS:.0f} s")
        time.sleep(0.02)


def _mounted(path: Path) -> bool:
    """Whether something is mounted on a file, be it that its daemon is gone and nothing can be asked of it."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except OSError as problem:
        return problem.errno == errno.ENOTCONN
