"""One machine of the lab by itself, without the API: for whoever needs a guest for a moment."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drtest.lab import accelerator, images
from drtest.lab.addresses import FORWARDS, Addresses
from drtest.lab.disks import Disks, Layer
from drtest.lab.keys import make_key
from drtest.lab.machines import Machine, MachineDisk, MachineSpec

USER = "admin"
MEMORY = 512
"""MiB: a helper runs one filesystem checker at a time."""


@dataclass(frozen=True, kw_only=True)
class Solo:
    """A machine that was just started.

    Attributes:
        machine: the machine.
        instance: the id that its board shows.
        volume: the id of the volume that it boots from.
        address, port: where its SSH server will answer, as ``USER``.
        key_file: the private key that may log in.
        accelerator: what carries out its instructions, as ``tcg``.
    """

    machine: Machine
    instance: str
    volume: str
    address: str
    port: int
    key_file: Path
    accelerator: str

    def console(self) -> str:
        """What its serial console has shown; the machine's host keys are on it."""
        return self.machine.console().decode("utf-8", "replace")

    def attach(self, volume: str, path: Path) -> None:
        """Plug a qcow2 file in as a volume; the guest finds it by the serial that is the id without its dash.

        Raises:
            EnvironmentFailedError: QEMU refused.
        """
        self.machine.attach(MachineDisk(device="", volume=volume, path=path))


def new_id(kind: str) -> str:
    """An id like EC2's, as ``vol-0…`` or ``i-0…``."""
    return f"{kind}-0{secrets.token_hex(8)}"


@contextmanager
def started(
    folder: Path,
    *,
    root: Path | None = None,
    volumes: Mapping[str, Path] | None = None,
    image: str = "linux",
    hostname: str = "solo",
    progress: Callable[[str, float], None] | None = None,
) -> Iterator[Solo]:
    """A machine that boots, for as long as it is needed; it is killed at the end, and its disk with it.

    Args:
        folder: a folder of its own, made if need be; the caller removes it.
        root: the qcow2 file that it boots from; None for a new disk of the image.
        volumes: qcow2 files by volume id, plugged in from the start.
        image: the guest image, built if need be.
        hostname: what the guest is to call itself.
        progress: is told how far a build of the image is.

    Raises:
        EnvironmentFailedError: QEMU is missing, the image can't be built, or QEMU did not start.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    guest = images.build(image, progress=progress)
    chosen = accelerator.choose(guest)
    instance, volume = new_id("i"), new_id("vol")
    if root is None:
        root = Disks(folder / "disks", reserve=0).overlay(volume, layer=Layer(guest.layer))
    address, key_file = Addresses().pick(()), folder / "key"
    ssh = next(outside for outside, inside in FORWARDS if inside == 22)
    spec = MachineSpec(
        id=instance,
        memory=MEMORY,
        cpus=2,
        disks=(
            MachineDisk(device=guest.root_device, volume=volume, path=root, boot=True),
            *(MachineDisk(device="", volume=name, path=path) for name, path in (volumes or {}).items()),
        ),
        address=address,
        forwards=((ssh, 22),),
        folder=folder / "machine",
        accelerator=chosen,
        authorized_key=make_key(key_file),
        hostname=hostname,
    )
    machine = Machine.start(spec, lambda _machine, _end: None)
    try:
        yield Solo(
            machine=machine,
            instance=instance,
            volume=volume,
            address=address,
            port=ssh,
            key_file=key_file,
            accelerator=chosen.name,
        )
    finally:
        machine.kill()
