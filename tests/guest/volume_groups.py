"""Volume groups of LVM on disk images, made by LVM's own tools and never activated."""

from pathlib import Path

from tests.guest.images import Images, root, tool

MIB = 1 << 20


class Group:
    """A volume group on one disk image, made by LVM's own tools.

    Args:
        images: where.
        volumes: the size in MiB of each logical volume.
    """

    name = "vg0"

    def __init__(self, images: Images, volumes: dict[str, int]) -> None:
        self.images = images
        self.image = images.blank(256 * MIB)
        self.device = images.loop(self.image)
        self.devices = [self.device]
        self.lvm("pvcreate", self.device)
        self.lvm("vgcreate", self.name, self.device)
        for volume, size in volumes.items():
            self.create(volume, "-L", f"{size}M")

    def lvm(self, command: str, *words: str) -> str:
        """Run one of LVM's commands: on these devices alone, and on their metadata alone: nothing is activated."""
        return root(
            command, "-qq", "--driverloaded", "n", "--devices", ",".join(self.devices), *words
        ).strip()

    def create(self, volume: str, *words: str) -> None:
        """Make a logical volume."""
        self.lvm("lvcreate", "-an", "-Zn", "-Wn", "-n", volume, self.name, *words)

    def extend(self) -> str:
        """Put another disk into the group."""
        self.devices.append(self.images.loop(self.images.blank(64 * MIB)))
        self.lvm("pvcreate", self.devices[-1])
        self.lvm("vgextend", self.name, self.devices[-1])
        return self.devices[-1]

    def place(self, volume: str) -> int:
        """Where a logical volume begins, by LVM's own word."""
        ranges = self.lvm("lvs", "--noheadings", "-o", "seg_pe_ranges", f"{self.name}/{volume}")
        start = self.lvm("pvs", "--noheadings", "-o", "pe_start", "--units", "b", "--nosuffix", self.device)
        return int(start) + int(ranges.rpartition(":")[2].partition("-")[0]) * 4 * MIB

    def fill(self, volume: str, content: Path) -> None:
        """Put a filesystem's image on a logical volume."""
        where = [f"of={self.image}", "bs=4096", f"seek={self.place(volume) // 4096}"]
        tool("dd", f"if={content}", *where, "conv=notrunc,sparse", "status=none")
