"""Machines and disks in memory that hold what a drill is about: filesystems, canaries, host keys, an fstab."""

import base64
import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from drtest.errors import EnvironmentFailedError
from drtest.lab.hardware import Ended
from drtest.lab.machines import MachineSpec
from tests.lab.api.fake_hardware import FakeHardware, FakeMachine

CONSOLE_SHOWS_CERTIFICATES = True
"""Whether a Windows prints the fingerprint of its certificate on its console, as the lab's does."""

FRESH = ""
"""The instance that a stock image's root remembers: none."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """What lies on a disk, as far as a drill looks.

    Attributes:
        filesystem: empty on a blank disk.
        dirty: its log has to be replayed.
        signature: of a disk of Windows.
        instance: whom a root takes itself for: at another instance a Linux makes new host keys.
        fstab: of a root: what it mounts beside itself, as (target, UUID).
        series, volume: whose canary is on it.
        records, metadata: how many of the canary's records and file operations.
        restored: it was made from a snapshot, not from an image.
    """

    filesystem: str = ""
    uuid: str = ""
    dirty: bool = False
    signature: int = 0
    instance: str = FRESH
    host_key: str = ""
    fstab: tuple[tuple[str, str], ...] = ()
    series: str = ""
    volume: str = ""
    records: int = 0
    metadata: int = 0
    last_ns: int | None = None
    restored: bool = False


@dataclass
class Manners:
    """How the guests of one role behave; all is well by default.

    Attributes:
        answers: whether its SSH server ever answers.
        console: what its console shows besides, as it boots.
        host_key: what it shows in place of its own.
        refuses: why it lets nobody in.
        says: changes to what its probes send, by probe; a function gets the data and gives other.
        visits: what comes of a visit in place of an answer, by program: output as it is, or an error raised; None
            for the answer.
    """

    answers: bool = True
    console: str = ""
    host_key: str = ""
    refuses: str = ""
    says: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = field(default_factory=dict)
    visits: dict[str, Callable[[], bytes | None]] = field(default_factory=dict)


def new_host_key() -> str:
    """A host key as ``ssh-ed25519 AAAA…``."""
    body = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + secrets.token_bytes(32)
    return f"ssh-ed25519 {base64.b64encode(body).decode()}"


def new_certificate() -> str:
    """The fingerprint of a new certificate, as a guest's host key."""
    return f"x509-sha256 {secrets.token_hex(32)}"


@dataclass
class Machines(FakeHardware):
    """A lab's hardware whose disks hold `Content`.

    Attributes:
        place_of: says of an instance which server it is there for, and as what: source, helper or scratch.
        manners: how the guests behave, by server and role; ``copy`` is a scratch instance with a restored root,
            ``copy with blanks`` one whose data volumes are blank. A server "" is any.
        stock: what the images hold, by their layers; of others, a Linux.
        no_copies: volumes made from a drill's snapshots end in error.
    """

    greets: bool = False
    contents: dict[str, Content] = field(default_factory=dict)
    layer_contents: dict[str, Content] = field(default_factory=dict)
    no_copies: bool = False
    stock: dict[str, Content] = field(default_factory=dict)
    boots: dict[str, str] = field(default_factory=dict)
    manners: dict[tuple[str, str], Manners] = field(default_factory=dict)
    place_of: Callable[[str], tuple[str, str]] = lambda _: ("", "source")

    def behaviour(self, machine: FakeMachine) -> Manners:
        """How a machine's guest behaves."""
        server, role = self.place_of(machine.spec.id)
        if role == "scratch" and self.root_of(machine).restored:
            data = [self.contents[disk.volume] for disk in machine.spec.disks if not disk.boot]
            role = "copy with blanks" if data and not any(one.restored for one in data) else "copy"
        return self.manners.get((server, role)) or self.manners.get(("", role)) or Manners()

    def root_volume(self, machine: FakeMachine) -> str:
        """The volume that a machine boots from."""
        return next(disk.volume for disk in machine.spec.disks if disk.boot)

    def root_of(self, machine: FakeMachine) -> Content:
        """What lies on it."""
        return self.contents[self.root_volume(machine)]

    def start(self, spec: MachineSpec, ended: Ended, *, deadline: float = 30.0) -> None:
        super().start(spec, ended)
        machine = self.machines[spec.id]
        self.boots[spec.id] = str(uuid.uuid4())
        manners = self.behaviour(machine)
        said = f"Linux version 6.1.0 (boot {len(self.specs)})\n{manners.console}"
        root = self.root_of(machine)
        if root.filesystem == "ntfs":
            # Its certificate lies on its root, and is shown at each start.
            root = replace(root, instance=spec.id, host_key=root.host_key or new_certificate())
            self.contents[self.root_volume(machine)] = root
            block = "-----BEGIN WINRM CERTIFICATE FINGERPRINTS-----\n{}\n-----END WINRM CERTIFICATE FINGERPRINTS-----\n"
            said += block.format(root.host_key.partition(" ")[2]) if CONSOLE_SHOWS_CERTIFICATES else ""
        elif root.instance != spec.id:
            root = replace(root, instance=spec.id, host_key=new_host_key())
            self.contents[self.root_volume(machine)] = root
            block = f"-----BEGIN SSH HOST KEY KEYS-----\n{root.host_key} root@host\n-----END SSH HOST KEY KEYS-----\n"
            said += block
        self.consoles[spec.id] = said.encode()
        if manners.answers and self.mounts(machine) is not None:
            self.greet(spec.id)

    def mounts(self, machine: FakeMachine) -> list[dict[str, str]] | None:
        """What a machine has mounted; None where its fstab sends it into emergency mode."""
        root = self.root_of(machine)
        windows = root.filesystem == "ntfs"
        found = [_mount("C:\\" if windows else "/", "/dev/nvme0n1p2", root)]
        for place, (target, wanted) in enumerate(root.fstab, start=1):
            with self.lock:
                there = [self.contents[volume] for volume in machine.plugged]
            match = next((one for one in there if one.uuid == wanted), None)
            if match is None and windows:
                continue
            if match is None:
                return None
            found.append(_mount(target, f"/dev/nvme{place}n1", match))
        return found

    def blank(self, volume: str, *, size: int) -> None:
        super().blank(volume, size=size)
        self.contents[volume] = Content()

    def overlay(self, volume: str, *, layer: str, size: int) -> None:
        if self.no_copies and layer in self.layer_contents:
            raise EnvironmentFailedError("The disk is full.")
        super().overlay(volume, layer=layer, size=size)
        stock = self.stock.get(layer) or Content(filesystem="ext4", uuid=str(uuid.uuid4()))
        self.contents[volume] = self.layer_contents.get(layer, stock)

    def freeze(self, volumes: Sequence[str], *, instance: str | None) -> dict[str, str]:
        with self.lock:
            made = super().freeze(volumes, instance=instance)
            for volume, layer in made.items():
                content = self.contents[volume]
                used = instance is not None and bool(content.filesystem)
                self.layer_contents[layer] = replace(content, dirty=used, restored=True)
        return made

    def change(self, volume: str, /, **fields: Any) -> None:
        """Change what lies on a disk, all of it at one moment."""
        with self.lock:
            self.contents[volume] = replace(self.contents[volume], **fields)


def _mount(target: str, source: str, content: Content) -> dict[str, str]:
    return {
        "target": target,
        "source": source,
        "fstype": content.filesystem,
        "options": "rw,relatime",
        "uuid": content.uuid,
    }
