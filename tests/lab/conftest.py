"""Machines for the tests of the lab: the real image, booted for real, each machine on a loopback address of its own."""

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko
import pytest

from drtest.lab import accelerator, images
from drtest.lab.accelerator import Accelerator
from drtest.lab.disks import GIB, Disks, Layer
from drtest.lab.images import Image
from drtest.lab.machines import End, Machine, MachineDisk, MachineSpec

ROOT, FIRST, SECOND = "vol-0aaaaaaaaaaaaaaa1", "vol-0aaaaaaaaaaaaaaa2", "vol-0aaaaaaaaaaaaaaa3"
SOURCE, SCRATCH = "i-0123456789abcdef0", "i-0fedcba9876543210"
BOOT_SECONDS = 240.0
"""Far more than a boot takes on two free cores (some 10 s under TCG): tests share the machine with others."""


@pytest.fixture(scope="session")
def linux_image() -> Image:
    """The lab's ``linux`` image, built if it is not in the cache."""
    return images.build("linux")


@pytest.fixture(scope="session")
def lab_accelerator(linux_image: Image) -> Accelerator:
    """What carries out machines here."""
    return accelerator.choose(linux_image)


@dataclass(frozen=True)
class KeyPair:
    """A key that may log in."""

    private: paramiko.PKey
    public: str


@pytest.fixture(scope="session")
def key_pair() -> KeyPair:
    key = paramiko.ECDSAKey.generate()
    return KeyPair(key, f"{key.get_name()} {key.get_base64()} tests")


@dataclass
class Login:
    """A login on a machine, as the tests want it: no more than a command and what it says."""

    client: paramiko.SSHClient
    host_key: str

    def run(self, command: str, *, seconds: float = 120.0) -> str:
        _, out, err = self.client.exec_command(command, timeout=seconds)
        said = out.read().decode()
        code = out.channel.recv_exit_status()
        assert code == 0, f"{command!r} ended with {code}: {said}{err.read().decode()}"
        return said.strip()

    def eventually(self, command: str, *, seconds: float = 30.0) -> None:
        """Run a command until it succeeds."""
        end = time.monotonic() + seconds
        while True:
            _, out, _ = self.client.exec_command(command, timeout=seconds)
            if out.channel.recv_exit_status() == 0:
                return
            assert time.monotonic() < end, f"{command!r} did not succeed within {seconds} s"


@dataclass
class Room:
    """A folder with disks and machines; whatever still runs at the end is ended."""

    folder: Path
    disks: Disks
    image: Image
    accelerator: Accelerator
    key_pair: KeyPair
    machines: list[Machine]
    ends: dict[str, End]

    def spec(self, instance: str, *volumes: str, **changes: object) -> MachineSpec:
        """Describe a machine that boots from the first of some volumes; what there is not yet begins as the image."""
        disks: list[MachineDisk] = []
        for volume, device in zip(volumes, ("/dev/xvda", "/dev/xvdf", "/dev/xvdg"), strict=False):
            if volume not in self.disks.volumes():
                self.disks.overlay(volume, layer=Layer(self.image.layer))
            path = self.disks.top(volume)
            disks.append(MachineDisk(device=device, volume=volume, path=path, boot=not disks))
        address = free_address()
        plain: dict[str, object] = {
            "id": instance,
            "memory": 512,
            "cpus": 2,
            "disks": tuple(disks),
            "address": address,
            "forwards": ((2222, 22),),
            "folder": self.folder / "machines" / instance,
            "accelerator": self.accelerator,
            "authorized_key": self.key_pair.public,
            "hostname": "ip-10-0-2-15",
        }
        return MachineSpec(**{**plain, **changes})  # type: ignore[arg-type] # the changes are the test's

    def start(self, spec: MachineSpec) -> Machine:
        machine = Machine.start(spec, self.note)
        self.machines.append(machine)
        return machine

    def note(self, machine: Machine, end: End) -> None:
        assert machine.spec.id not in self.ends, "an end was told twice"
        self.ends[machine.spec.id] = end

    def log_in(self, machine: Machine, *, seconds: float = BOOT_SECONDS) -> Login:
        return log_in(machine, self.key_pair, seconds=seconds)


@pytest.fixture(scope="session")
def open_room(
    tmp_path_factory: pytest.TempPathFactory,
    linux_image: Image,
    lab_accelerator: Accelerator,
    key_pair: KeyPair,
) -> Iterator[Callable[[], Room]]:
    rooms: list[Room] = []

    def room() -> Room:
        folder = tmp_path_factory.mktemp("room")
        rooms.append(Room(folder, Disks(folder / "disks"), linux_image, lab_accelerator, key_pair, [], {}))
        return rooms[-1]

    yield room
    for machine in (machine for room in rooms for machine in room.machines):
        machine.kill()


@pytest.fixture
def room(open_room: Callable[[], Room]) -> Iterator[Room]:
    """A room for one test, empty at its end."""
    room = open_room()
    yield room
    for machine in room.machines:
        machine.kill()


@dataclass
class Running:
    """A machine that is up, for the tests that leave it as it is."""

    room: Room
    machine: Machine
    login: Login


@pytest.fixture(scope="module")
def running(open_room: Callable[[], Room]) -> Iterator[Running]:
    """A machine that is up, one for each module."""
    room = open_room()
    script = b"#!/bin/sh\necho ran >>/root/user-data\n"
    spec = room.spec(
        SOURCE, ROOT, hostname="ip-172-31-5-9", private_address="172.31.5.9/20", user_data=script
    )
    machine = room.start(spec)
    yield Running(room, machine, room.log_in(machine))
    machine.kill()


def attach(running: Running, volume: str) -> None:
    """Plug a blank volume of 1 GiB in, and wait until the guest has it."""
    room = running.room
    path = room.disks.blank(volume, size=GIB)
    running.machine.attach(MachineDisk(device="/dev/xvdf", volume=volume, path=path))
    running.login.eventually(f"test -b {by_id(volume)}")


def by_id(volume: str) -> str:
    return f"/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_{volume.replace('-', '')}"


class AnyHost(paramiko.MissingHostKeyPolicy):
    """Takes any host's key: the tests compare it themselves."""

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        return


_given: list[str] = []


def free_address() -> str:
    """Find a loopback address on which nobody has the ports of a machine."""
    for last in range(1, 65000):
        address = f"127.99.{last // 250}.{last % 250 + 1}"
        if address in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((address, 2222))
            except OSError:
                continue
        _given.append(address)
        return address
    raise AssertionError("no free loopback address")


def log_in(machine: Machine, key_pair: KeyPair, *, seconds: float = BOOT_SECONDS) -> Login:
    """Log in as soon as the machine lets anybody in."""
    end = time.monotonic() + seconds
    last: Exception | None = None
    while time.monotonic() < end:
        assert machine.alive, f"the machine ended: {machine.end}"
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(AnyHost())
        try:
            client.connect(
                machine.spec.address,
                port=machine.spec.forwards[0][0],
                username="admin",
                pkey=key_pair.private,
                timeout=5,
                banner_timeout=10,
                auth_timeout=30,
                allow_agent=False,
                look_for_keys=False,
            )
        except (OSError, EOFError, paramiko.SSHException) as error:
            client.close()
            last = error
            time.sleep(0.1)
            continue
        transport = client.get_transport()
        assert transport is not None
        key = transport.get_remote_server_key()
        return Login(client, f"{key.get_name()} {key.get_base64()}")
    console = machine.console()[-1500:].decode(errors="replace")
    raise AssertionError(f"no login within {seconds:.0f} s: {last!r}; the end of the console: {console}")
