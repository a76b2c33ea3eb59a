"""The ``linux`` image's disk: a Debian on ext4 that boots by itself, put together without root."""

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from drtest.lab import loader
from drtest.lab.bootstrap import SUITE, Tree, bootstrap
from drtest.lab.loader import MIB
from drtest.lab.tools import Tools

__all__ = ["DISK_BYTES", "EXCLUDED", "FEATURES", "PACKAGES", "SUITE", "build"]

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

DISK_BYTES = 2048 * MIB
LOADER_BYTES = 32 * MIB

FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,"
    "dir_nlink,extra_isize,metadata_csum"
)
"""Debian 12's ext4, spelled out: a newer host's mke2fs would add what the guest's e2fsck does not know."""

Tell = Callable[[str, float], None]


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
    layout = loader.Layout(
        disk=DISK_BYTES, loader=LOADER_BYTES, kind=loader.LINUX, signature=secrets.randbits(32) | 1
    )
    partuuid = f"{layout.signature:08x}-02"
    tree, raw = work / "tree", work / "disk.raw"
    with log.open("ab") as out:
        tools = Tools(out, end=end)
        wanted = Tree(
            recipe=recipe,
            packages=PACKAGES,
            excluded=EXCLUDED,
            arguments=(partuuid,),
            taken=("vmlinuz", "packages"),
        )
        bootstrap(wanted, work, name=name, tools=tools, tell=tell)
        tell("making the file systems", 0.8)
        with raw.open("wb") as file:
            file.truncate(DISK_BYTES)
        tree.mkdir()
        # fakeroot remembers who owns what and is believed by mke2fs: no namespace is needed for this part.
        tools.run(
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
                "OFFSET": str(layout.start),
                "BLOCKS": str(layout.size // 4096),
                "FEATURES": FEATURES,
            },
        )
        tell("making the loader's partition", 0.92)
        settings = work / "syslinux.cfg"
        settings.write_text((recipe / "syslinux.conf").read_text().replace("@PARTUUID@", partuuid))
        loader.write(raw, layout, files=(work / "vmlinuz", settings), work=work, tools=tools)
        tell("packing the disk", 0.94)
        tools.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)])
    return dict(line.split(" ", 1) for line in (work / "packages").read_text().splitlines())
