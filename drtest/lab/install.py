"""What the lab needs from the system, why, and how it gets there."""

import os
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drtest.errors import EnvironmentFailedError

APT_SECONDS = 1800.0
"""How long one apt-get may take: a slow mirror is no failure."""

PATHS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where programs are that an ordinary user's PATH has not, and that do their work for one all the same."""

Run = Callable[[Sequence[str], Callable[[str], None]], int]
"""Runs a command, tells each line of its output, and gives its exit code."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """A Debian package that the lab needs; Ubuntu has it by the same name.

    Attributes:
        name: the package's name.
        why: what the lab does with it.
        needs: the program (a name) or the file (a path) that it is needed for: what is looked for.
    """

    name: str
    why: str
    needs: str

    @property
    def present(self) -> bool:
        """Whether what it is needed for is there, from wherever it came."""
        if "/" in self.needs:
            return Path(self.needs).exists()
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), *PATHS))
        return shutil.which(self.needs, path=path) is not None


PACKAGES = (
    Package(name="qemu-system-x86", why="runs the lab's machines", needs="qemu-system-x86_64"),
    Package(name="qemu-utils", why="makes and stacks their disks", needs="qemu-img"),
    Package(name="mmdebstrap", why="puts the guests' Debian together, without root", needs="mmdebstrap"),
    Package(name="uidmap", why="gives mmdebstrap the user ids for that", needs="newuidmap"),
    Package(name="fakeroot", why="keeps the files' owners while the disk is made", needs="fakeroot"),
    Package(
        name="debian-archive-keyring",
        why="verifies Debian's packages",
        needs="/usr/share/keyrings/debian-archive-keyring.gpg",
    ),
    Package(name="e2fsprogs", why="makes the guests' ext4", needs="mke2fs"),
    Package(name="dosfstools", why="makes the partition of the guests' boot loader", needs="mkfs.fat"),
    Package(name="ntfs-3g", why="makes the NTFS volume of the stand-in for Windows", needs="mkfs.ntfs"),
    Package(name="mtools", why="copies the kernel into that partition, without root", needs="mcopy"),
    Package(name="syslinux", why="the boot loader", needs="syslinux"),
    Package(name="syslinux-common", why="the boot sector before it", needs="/usr/lib/syslinux/mbr/mbr.bin"),
)


def missing() -> tuple[Package, ...]:
    """Name the packages whose programs or files are not there."""
    return tuple(package for package in PACKAGES if not package.present)


def plan(packages: Sequence[Package]) -> str:
    """Say what ``install`` will do, and why, before it does."""
    if not packages:
        return "All that the lab needs from the system is installed."
    width = max(len(package.name) for package in packages)
    lines = [f"  {package.name:<{width}}  {package.why}" for package in packages]
    return "\n".join(
        ["The lab needs these packages from the system's own repositories:", *lines, "", command(packages)]
    )


def command(packages: Sequence[Package]) -> str:
    """Give the command line that installs packages, as a person would type it."""
    names = " ".join(shlex.quote(package.name) for package in packages)
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get update && {sudo}apt-get install --yes --no-install-recommends {names}"


def install(
    packages: Sequence[Package], *, say: Callable[[str], None] = lambda _line: None, run: Run | None = None
) -> None:
    """Install packages by apt-get, as root or by sudo (which asks for the password on the terminal, if it wants one).

    Args:
        packages: as ``missing`` gave them; nothing happens if there are none.
        say: is told each line that apt-get says.
        run: runs the commands; the real thing by default.

    Raises:
        EnvironmentFailedError: there is no apt-get or no sudo, or it failed; the remedy has the exact command.
    """
    if not packages:
        return
    by_hand = f"As an administrator, run: {command(packages)}"
    if shutil.which("apt-get") is None:
        wanted = ", ".join(package.name for package in packages)
        raise EnvironmentFailedError(
            f"this system has no apt-get, so that {wanted} can't be installed from here",
            remedy="The lab runs on Debian 12 and Ubuntu 24.04. Elsewhere, install what these packages have: "
            + ", ".join(package.needs for package in packages),
        )
    prefix: list[str] = []
    if os.geteuid() != 0:
        if shutil.which("sudo") is None:
            raise EnvironmentFailedError(
                "packages can't be installed: not root, and there is no sudo", remedy=by_hand
            )
        prefix = ["sudo"]
    apt_get = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"]
    carry_out = run or _run
    # Lists of another vendor's repository that can't be fetched are no reason not to go on: Debian's may be there.
    carry_out([*apt_get, "update"], say)
    names = [package.name for package in packages]
    code = carry_out([*apt_get, "install", "--yes", "--no-install-recommends", *names], say)
    if code:
        raise EnvironmentFailedError(f"apt-get ended with exit code {code}", remedy=by_hand)
    left = [package for package in packages if not package.present]
    if left:
        raise EnvironmentFailedError(
            f"apt-get is done, but {', '.join(package.needs for package in left)} is still not there",
            remedy=by_hand,
        )


def _run(argv: Sequence[str], say: Callable[[str], None]) -> int:
    """Run a command with the terminal as its input (sudo may ask there), telling its output line by line."""
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        late = threading.Timer(APT_SECONDS, process.terminate)
        late.start()
        try:
            assert process.stdout is not None  # noqa: S101 - Popen was told to make a pipe
            for line in process.stdout:
                say(line.rstrip("\n"))
            return process.wait()
        finally:
            late.cancel()
