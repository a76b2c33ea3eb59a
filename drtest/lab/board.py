"""What a machine is made of, and QEMU's command line for it: q35, NVMe disks on hot-plug ports, no way out."""

import base64
import ipaddress
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from drtest.lab.accelerator import Accelerator
from drtest.lab.pool import Pool
from drtest.lab.qmp import SOCKET
from drtest.lab.write_log import SECTOR

PORTS = 12
"""PCIe ports for disks, occupied or to be hot-plugged: each costs the guest's kernel some 40 ms under TCG."""

PID_FILE = "qemu.pid"
CONSOLE = "console.log"
METADATA = "metadata.sock"
LOG = "qemu.log"


@dataclass(frozen=True, kw_only=True)
class MachineDisk:
    """A disk of a machine.

    Attributes:
        device: the name that EC2 has for it, as ``/dev/xvda``: kept as data, the guest sees NVMe devices.
        volume: the volume's id; its disk's serial number is that without the dash, as on Nitro.
        path: the qcow2 file on top of the volume's layers.
        boot: whether the machine boots from it; it boots from no other.
        pool: the write pool in front of it; None if there is none.
        log: where QEMU notes its writes, if there is one.
    """

    device: str
    volume: str
    path: Path
    boot: bool = False
    pool: Pool | None = None
    log: Path | None = None

    @property
    def serial(self) -> str:
        """The disk's serial number, and QEMU's id for its device."""
        return self.volume.replace("-", "")

    @property
    def node(self) -> str:
        """QEMU's name for the file that is open: it changes with each file of the volume."""
        return f"{self.serial}.{self.path.stem}"

    @property
    def drive(self) -> str:
        """QEMU's name for what the disk's device reads and writes: the open file, or the log above it."""
        return f"{self.serial}.log" if self.log else self.node

    def block_device(self, *, on_top: bool = False) -> dict[str, Any]:
        """Describe the open file to QEMU; ``on_top``: it will be put on one that is already open."""
        node: dict[str, Any] = {
            "driver": "qcow2",
            "node-name": self.node,
            "discard": "unmap",
            "file": {"driver": "file", "filename": str(self.path.absolute()), "discard": "unmap"},
        }
        if on_top:
            return {**node, "backing": None}
        return node if self.log is None else self._logged(node, self.log)

    def _logged(self, node: dict[str, Any], log: Path) -> dict[str, Any]:
        # A log outlives the lab's process and QEMU's, but no more: its flushes need not reach the host's disk.
        file = {"driver": "file", "filename": str(log.absolute()), "cache": {"no-flush": True}}
        return {
            "driver": "blklogwrites",
            "node-name": self.drive,
            "discard": "unmap",
            "log-sector-size": SECTOR,
            "file": node,
            "log": file,
        }

    def device_on(self, bus: str) -> dict[str, Any]:
        """Describe the disk, plugged into a port, to QEMU."""
        plugged = {
            "driver": "nvme",
            "id": self.serial,
            "serial": self.serial,
            "drive": self.drive,
            "bus": bus,
            # QEMU's NVMe takes a write with FUA, as a journal's commit block is, for one like any other: the tables of
            # the qcow2 file stay in QEMU's memory, and a kill would lose what the guest knows to be on the disk.
            "write-cache": "off",
        }
        return {**plugged, "bootindex": 0} if self.boot else plugged


@dataclass(frozen=True, kw_only=True)
class MachineSpec:
    """What a machine is made of.

    Attributes:
        id: the instance's id: its board's asset tag, as on Nitro.
        memory: MiB.
        cpus: how many.
        disks: what is attached when it starts; exactly the ones with ``boot`` are booted from.
        address: the loopback address on which its forwarded ports are.
        forwards: pairs of a port there and the guest's port behind it.
        folder: where the machine keeps its files; its own.
        accelerator: what carries out its instructions.
        authorized_key: the OpenSSH public key that may log in as ``admin``.
        password: the password that ``Administrator`` has on Windows; empty for other guests.
        user_data: what EC2 calls so; a script runs once on a new instance, as with cloud-init.
        hostname: what the guest is to call itself.
        private_address: the guest's address and the length of its network's prefix.
    """

    id: str
    memory: int
    cpus: int
    disks: tuple[MachineDisk, ...]
    address: str
    forwards: tuple[tuple[int, int], ...]
    folder: Path
    accelerator: Accelerator
    authorized_key: str = ""
    password: str = field(default="", repr=False)
    user_data: bytes = b""
    hostname: str = ""
    private_address: str = "10.0.2.15/24"

    def to_json(self) -> str:
        """Write it down, for whoever adopts the machine later."""
        plain = asdict(self) | {"user_data": base64.b64encode(self.user_data).decode()}
        return json.dumps(plain, default=str, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "MachineSpec":
        """Read what ``to_json`` wrote."""
        plain = json.loads(text)
        return cls(
            **plain
            | {
                "disks": tuple(_disk(disk) for disk in plain["disks"]),
                "forwards": tuple((host, guest) for host, guest in plain["forwards"]),
                "folder": Path(plain["folder"]),
                "accelerator": Accelerator(**plain["accelerator"]),
                "user_data": base64.b64decode(plain["user_data"]),
            }
        )

    def identity(self) -> dict[str, str]:
        """Say what the guest is told in its SMBIOS tables, as strings of type 11."""
        told = {"key": self.authorized_key, "hostname": self.hostname, "address": self.private_address}
        told["password"] = self.password
        told["userdata"] = base64.b64encode(self.user_data).decode()
        return {name: f"drtest.{name}={value.strip()}" for name, value in told.items() if value}


def _disk(plain: dict[str, Any]) -> MachineDisk:
    pool, log = plain["pool"], plain["log"]
    read = {"path": Path(plain["path"]), "pool": pool and Pool(**pool), "log": log and Path(log)}
    return MachineDisk(**plain | read)


def arguments(spec: MachineSpec, strings: tuple[Path, ...]) -> list[str]:
    """Make QEMU's command line; ``strings`` are files with one string for the SMBIOS tables each.

    All paths are absolute: QEMU is started in the machine's folder, but what it is told later comes from elsewhere.
    """
    folder = spec.folder.absolute()
    argv = ["qemu-system-x86_64", "-name", f"guest={spec.id}", "-no-user-config", "-nodefaults"]
    # The guests come out of backups: QEMU itself may start nothing and gain nothing.
    argv += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    # "Without graphics" has the firmware speak to the serial console: a loader that is gone is seen there alone.
    argv += ["-machine", "q35,graphics=off", *spec.accelerator.arguments]
    argv += ["-smp", str(spec.cpus), "-m", str(spec.memory)]
    argv += ["-display", "none", "-vga", "std", "-boot", "strict=on"]
    # Relative: a socket's address has 107 bytes at most, and the folder may be deep.
    argv += ["-qmp", f"unix:{SOCKET},server=on,wait=off"]
    argv += ["-pidfile", str(folder / PID_FILE)]
    argv += ["-chardev", f"file,id=serial,path={CONSOLE}", "-serial", "chardev:serial"]
    argv += ["-smbios", f"type=2,asset={spec.id}"]
    for path in strings:
        argv += ["-smbios", f"type=11,path={path.relative_to(folder)}"]
    for number in range(PORTS):
        argv += ["-device", f"pcie-root-port,id={port(number)},chassis={number + 1},slot={number + 1}"]
    for number, disk in enumerate(spec.disks):
        argv += [
            "-blockdev",
            json.dumps(disk.block_device()),
            "-device",
            json.dumps(disk.device_on(port(number))),
        ]
    return [*argv, *_network(spec)]


def port(number: int) -> str:
    """Name the port of that number."""
    return f"port{number}"


WITH_METADATA = ipaddress.IPv4Network("160.0.0.0/4")
"""The smallest network that QEMU takes (a /4 at most) with both 172.16.0.0/12, where VPCs are, and 169.254.169.254."""


def _network(spec: MachineSpec) -> list[str]:
    """One network card, behind which nothing answers: what was restored must not reach what it knew.

    The one exception is the metadata service, if the instance's own network and its address can be in one.
    """
    own = ipaddress.IPv4Interface(spec.private_address)
    near = own.network.network_address
    inside = WITH_METADATA if own.network.subnet_of(WITH_METADATA) else own.network
    network = f"user,id=network,restrict=on,ipv6=off,net={inside}"
    network += f",host={near + 1},dns={near + 2},dhcpstart={own.ip}"
    for outside, behind in spec.forwards:
        network += f",hostfwd=tcp:{spec.address}:{outside}-{own.ip}:{behind}"
    service: list[str] = []
    if inside is WITH_METADATA:
        network += ",guestfwd=tcp:169.254.169.254:80-chardev:metadata"
        service = ["-chardev", f"socket,id=metadata,path={METADATA},server=on,wait=off"]
    return [*service, "-netdev", network, "-device", "virtio-net-pci,netdev=network,romfile="]
