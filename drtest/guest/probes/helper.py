"""A helper before anything is attached: nothing on a volume may be put together or mounted by itself."""

import os
from typing import Any, Dict, List

from drtest.guest.probes import prelude, system

RULES = "/run/udev/rules.d"
# An empty rule file in /run takes the place of the one of the same name in /usr/lib (udev.7).
MASKED = (
    "64-btrfs.rules",
    "64-btrfs-dm.rules",
    "64-md-raid-assembly.rules",
    "63-md-raid-arrays.rules",
    "65-md-incremental.rules",
    "69-dm-lvm.rules",
    "69-dm-lvm-metad.rules",
    "69-lvm.rules",
    "69-lvm-metad.rules",
    "85-lvm2.rules",
    "99-bcache.rules",
    "69-bcache.rules",
)
TOOLS = (
    ("e2fsck", "-V"),
    ("xfs_repair", "-V"),
    ("btrfs", "--version"),
    ("fsck.fat", "-n", "/dev/null"),  # it says its version with everything
    ("ntfsfix", "--version"),
    ("blkid", "-V"),
    ("losetup", "-V"),
)


def main(_arguments: Dict[str, Any]) -> List[Dict[str, Any]]:
    """One observation: what was masked, and which tools are there."""
    return [prelude.guarded("helper.ready", "mask LVM, md and btrfs rules; udevadm control --reload", _ready)]


def _ready() -> Dict[str, Any]:
    os.makedirs(RULES, exist_ok=True)
    for name in MASKED:
        path = os.path.join(RULES, name)
        if not os.path.lexists(path):
            os.symlink("/dev/null", path)
    reload = prelude.run(["udevadm", "control", "--reload"], 30)
    data = system.identity()
    data.update(
        masked=list(MASKED),
        udev=reload.error or reload.output.strip(),
        tools={command[0]: prelude.version(*command) for command in TOOLS},
        release=system.release(),
    )
    return data
