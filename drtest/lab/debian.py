"""A Debian disk that boots by itself, put together without root: mmdebstrap, mke2fs, mtools, syslinux."""

import getpass
import os
import secrets
import shlex
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from drtest.errors import EnvironmentFailedError
from drtest.lab import apt
from drtest.lab.tools import Tools, remove

SUITE = "bookworm"
"""Debian 12: its cloud kernel has NVMe and ext4 built in, so that it needs no initrd."""

PACKAGES = (
    "btrfs-progs",
    "dosfstools",
    "e2fsprogs",
    "iproute2",
    "kmod",
    "linux-image-cloud-amd64",
    "ntfs-3g",
    "openssh-server",
    "python3",
    "sudo",
    "systemd-sysv",
    "udev",
    "xfsprogs",
)

EXCLUDED = (
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/etc/kernel/postinst.d/initramfs-tools",  # no initrd is made: none is used
)
"""Paths that dpkg does not unpack."""

MIB = 1024**2
DISK_BYTES = 2048 * MIB
LOADER_START, LOADER_BYTES = MIB, 32 * MIB
ROOT_START = LOADER_START + LOADER_BYTES

FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,"
    "dir_nlink,extra_isize,metadata_csum"
)
"""Debian 12's ext4, spelled out: a newer host's mke2fs would add what the guest's e2fsck does not know."""

MBR_CODE = (Path("/usr/lib/syslinux/mbr/mbr.bin"), Path("/usr/lib/SYSLINUX/mbr.bin"))
Tell = Callable[[str, float], None]
Run = Callable[..., None]


def build(
    recipe: Path, disk: Path, *, name: str, work: Path, log: Path, tell: Tell, deadline: float
) -> dict[str, str]:
    """Make ``disk``, a qcow2 file with a boot sector, a loader and a Debian on it.

    Args:
        recipe: the folder with ``customize.sh`` and what that needs.
        disk: the file to be made.
        name: what this build is called; of one name there is one at a time.
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
    work.mkdir()
    signature = secrets.randbits(32) | 1
    partuuid = f"{signature:08x}-02"
    tree, fat, raw = work / "tree", work / "loader.img", work / "disk.raw"
    with log.open("ab") as out:
        run = Tools(out, end=end).run
        _bootstrap(recipe, work, partuuid, name, run, tell)
        tell("making the file systems", 0.8)
        with raw.open("wb") as file:
            file.truncate(DISK_BYTES)
        tree.mkdir()
        # fakeroot remembers who owns what and is believed by mke2fs: no namespace is needed for this part.
        run(
            [
                "fakeroot",
                "--",
                "sh",
                str(recipe / "filesystem.sh"),
                str(work / "root.tar"),
                str(tree),
                str(raw),
            ],
            environment={
                "OFFSET": str(ROOT_START),
                "BLOCKS": str((DISK_BYTES - ROOT_START) // 4096),
                "FEATURES": FEATURES,
            },
        )
        tell("making the loader's partition", 0.92)
        settings = (recipe / "syslinux.conf").read_text().replace("@PARTUUID@", partuuid)
        (work / "syslinux.cfg").write_text(settings)
        run(["mkfs.fat", "-C", "-n", "LOADER", str(fat), str(LOADER_BYTES // 1024)])
        run(["mcopy", "-i", str(fat), str(work / "vmlinuz"), str(work / "syslinux.cfg"), "::/"])
        run(["syslinux", "--install", str(fat)])
        with raw.open("r+b") as file:
            file.write(_boot_sector(signature))
            file.seek(LOADER_START)
            file.write(fat.read_bytes())
        tell("packing the disk", 0.94)
        run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)])
    return dict(line.split(" ", 1) for line in (work / "packages").read_text().splitlines())


def _bootstrap(recipe: Path, work: Path, partuuid: str, name: str, run: Run, tell: Tell) -> None:
    """Leave ``root.tar``, ``vmlinuz`` and ``packages`` in ``work``."""
    mode = "root" if os.geteuid() == 0 else "unshare"
    if mode == "unshare":
        _refuse_without_subordinate_ids()
    settings = [shutil.which("apt-config") or "true", "dump"]
    dump = subprocess.run(settings, capture_output=True, text=True, timeout=60, check=False).stdout
    argv = ["mmdebstrap", f"--mode={mode}", "--variant=minbase", "--format=tar", "--verbose"]
    argv += [f"--include={','.join(PACKAGES)}"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED]
    argv += [f"--aptopt={option}" for option in ('Apt::Install-Recommends "false"', *apt.options(dump))]
    # In its namespace a hook can't read our folders (a home is 0700): what it needs is copied in by mmdebstrap.
    argv += [f"--customize-hook=copy-in {shlex.quote(str(recipe))} /tmp"]
    argv += [f'--customize-hook=mv "$1/tmp/{recipe.name}" "$1/tmp/recipe"'] if recipe.name != "recipe" else []
    argv += [f'--customize-hook=sh "$1/tmp/recipe/customize.sh" "$1" "$1/tmp/recipe" {partuuid}']
    for taken in ("vmlinuz", "packages"):
        argv += [f"--customize-hook=download /tmp/taken/{taken} {shlex.quote(str(work / taken))}"]
    argv += ['--customize-hook=rm -rf "$1/tmp/recipe" "$1/tmp/taken"']
    argv += [SUITE, str(work / "root.tar"), *apt.sources(SUITE)]
    with _temporary(name) as folder:
        run(argv, within=_apart(), environment={"TMPDIR": str(folder)}, heard=_Bootstrap(tell))


def _apart() -> list[str]:
    """As root, what mmdebstrap mounts and starts is its own and goes with it, however it ends.

    Otherwise its user namespace sees to that; and where root may not do it, in a container, it can't mount either.
    """
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    if os.geteuid():
        return []
    tried = subprocess.run([*apart, "true"], capture_output=True, timeout=60, check=False)
    return apart if tried.returncode == 0 else []


def _refuse_without_subordinate_ids() -> None:
    """A user namespace with more than one user in it needs user ids that belong to nobody else."""
    user = getpass.getuser()
    for path in (Path("/etc/subuid"), Path("/etc/subgid")):
        lines = path.read_text().splitlines() if path.exists() else []
        if not any(line.split(":")[0] in {user, str(os.getuid())} for line in lines):
            raise EnvironmentFailedError(
                f"{path} has no ids for {user}, which mmdebstrap needs to work without root.",
                remedy=f"Run: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}",
            )


class _Bootstrap:
    """Reads mmdebstrap's output as progress: how far it is shows in what apt and dpkg say per package."""

    STAGES = (
        ("I: running apt-get update", "reading Debian's package lists", 0.01),
        ("Get:", "fetching Debian's packages", 0.05),
        ("Unpacking ", "installing Debian's packages", 0.3),
        ("Setting up ", "installing Debian's packages", 0.3),
        ("I: running --customize-hook", "turning it into a guest", 0.7),
        ("I: creating tarball", "packing it up", 0.75),
    )
    """How a line starts, what that means, and how much is done at least when it first appears."""
    EACH = 0.4 / 340
    """What one line is worth: some 170 packages are unpacked and set up."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._stage, self._fraction = 0, 0.0
        tell("starting mmdebstrap", 0.0)

    def __call__(self, line: str) -> None:
        for number, (start, _, floor) in enumerate(self.STAGES):
            if line.startswith(start):
                self._stage = max(self._stage, number)
                self._fraction = min(max(self._fraction + self.EACH, floor), 0.79)
                self._tell(self.STAGES[self._stage][1], self._fraction)
                return


@contextmanager
def _temporary(name: str) -> Iterator[Path]:
    """Give mmdebstrap a folder that the users of its namespace can reach, and see that it goes away."""
    parent = Path("/var/tmp")  # noqa: S108 - mkdtemp makes the name; a user's own TMPDIR may be private
    prefix = f"drtest-{os.getuid()}-{name}-"
    for left in parent.glob(f"{prefix}*"):
        if left.lstat().st_uid == os.getuid():
            _remove_tree(left)  # of a build that was killed: there is but one at a time
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        _remove_tree(folder)


def _remove_tree(folder: Path) -> None:
    """Delete what mmdebstrap left, as far as that can be done: an orphan in /var/tmp lets no build fail."""
    with suppress(OSError, EnvironmentFailedError):
        foreign = [str(path) for path in folder.iterdir() if path.stat().st_uid != os.geteuid()]
        if foreign:
            # What the namespace's users have can be deleted only in there, and the emptied folders only out here.
            folder.chmod(0o755)
            argv = ["mmdebstrap", "--unshare-helper", "find", *foreign, "-xdev", "-mindepth", "1", "-delete"]
            subprocess.run(argv, capture_output=True, timeout=300, check=False)
        remove(folder)


def _boot_sector(signature: int) -> bytes:
    """Make the first sector: syslinux's code, the disk's signature, the loader's partition and the root's."""
    code = next((path.read_bytes() for path in MBR_CODE if path.exists()), None)
    if code is None:
        raise EnvironmentFailedError(
            f"syslinux's boot sector is in none of {', '.join(map(str, MBR_CODE))}",
            remedy="Install syslinux-common: sudo apt-get install syslinux-common",
        )

    def partition(active: bool, kind: int, start: int, size: int) -> bytes:
        beyond = b"\xfe\xff\xff"  # cylinders, heads and sectors can't say it: see the sector numbers
        return struct.pack("<B3sB3sII", 0x80 * active, beyond, kind, beyond, start // 512, size // 512)

    table = partition(True, 0x0E, LOADER_START, LOADER_BYTES) + partition(
        False, 0x83, ROOT_START, DISK_BYTES - ROOT_START
    )
    return (
        code[:440].ljust(440, b"\0") + struct.pack("<IH", signature, 0) + table.ljust(64, b"\0") + b"\x55\xaa"
    )
