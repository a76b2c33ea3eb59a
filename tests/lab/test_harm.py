"""Faults on real machines: what the guest sees of a disk that fails or hangs, and of its own freezing."""

from collections.abc import Iterator

import pytest

from drtest.lab import harm
from drtest.lab.disks import GIB, Layer
from drtest.lab.machines import MachineDisk
from drtest.lab.status import ssh_answers

from .conftest import FIRST, ROOT, SCRATCH, SECOND, SOURCE, Login, Room, Running, by_id

pytestmark = pytest.mark.lab


@pytest.fixture
def plugged(running: Running, request: pytest.FixtureRequest) -> Iterator[str]:
    """A volume of its own for each test, built on a layer as volumes from snapshots are."""
    number = abs(hash(request.node.name)) % 16**8
    base, volume = f"vol-{number:08x}000000aaa", f"vol-{number:08x}000000bbb"
    disks = running.room.disks
    disks.blank(base, size=GIB)
    layer: Layer = disks.freeze([base])[base]
    path = disks.overlay(volume, layer=layer)
    running.machine.attach(MachineDisk(device="/dev/xvdf", volume=volume, path=path))
    running.login.eventually(f"test -b {by_id(volume)}")
    yield volume
    running.machine.detach(volume)


def _writes(login: Login, volume: str) -> bool:
    command = f"sudo dd if=/dev/zero of={by_id(volume)} bs=4k count=1 oflag=direct 2>&1 && echo fine || true"
    return "fine" in login.run(command)


def _reads(login: Login, volume: str) -> bool:
    command = f"sudo dd if={by_id(volume)} of=/dev/null bs=4k count=1 iflag=direct 2>&1 && echo fine || true"
    return "fine" in login.run(command)


@pytest.mark.parametrize(("requests", "expected"), [("writes", (True, False)), ("all", (False, False))])
def test_requests_to_a_failing_volume_end_in_errors(
    running: Running, plugged: str, requests: str, expected: tuple[bool, bool]
) -> None:
    login = running.login
    assert (_reads(login, plugged), _writes(login, plugged)) == (True, True)
    harm.fail(running.machine, plugged, requests=requests)
    assert (_reads(login, plugged), _writes(login, plugged)) == expected
    # QEMU's NVMe device gives EIO as a medium error, as a disk with a bad sector does.
    assert "medium error, dev nvme" in login.run("sudo dmesg")


def test_a_failing_volume_can_be_snapshotted_and_is_what_it_was(running: Running, plugged: str) -> None:
    login = running.login
    login.run(f"sudo sh -c 'echo before | dd of={by_id(plugged)} conv=fsync,notrunc 2>&1'")
    harm.fail(running.machine, plugged, requests="all")
    layer = running.room.disks.freeze([plugged], machine=running.machine)[plugged]
    copy = plugged.replace("bbb", "ccc")
    path = running.room.disks.overlay(copy, layer=layer)
    running.machine.attach(MachineDisk(device="/dev/xvdg", volume=copy, path=path))
    login.eventually(f"test -b {by_id(copy)}")
    assert login.run(f"sudo head -c 6 {by_id(copy)}") == "before"
    running.machine.detach(copy)


def test_a_hanging_volume_holds_its_reader_and_nobody_else(running: Running, plugged: str) -> None:
    login = running.login
    harm.hang(running.machine, plugged)
    try:
        _, out, _ = login.client.exec_command(
            f"sudo dd if={by_id(plugged)} of=/dev/null bs=4k count=8 iflag=direct && echo read"
        )
        assert login.run("sync -f /etc; echo still here") == "still here"
        out.channel.settimeout(5)
        with pytest.raises(TimeoutError):
            out.read()
    finally:
        # The harness takes it back, so that the guest lets go of the volume.
        limits = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")
        running.machine.monitor.execute(
            "block_set_io_throttle", {**dict.fromkeys(limits, 0), "id": plugged.replace("-", "")}
        )
    out.channel.settimeout(60)
    assert b"read" in out.read()


def test_a_frozen_machine_answers_nobody_until_it_is_thawed(running: Running) -> None:
    machine = running.machine
    before = running.login.run("cat /proc/sys/kernel/random/boot_id")
    machine.monitor.execute("stop")
    try:
        assert not ssh_answers(machine.spec.address)
        assert machine.alive
    finally:
        machine.monitor.execute("cont")
    assert running.login.run("cat /proc/sys/kernel/random/boot_id") == before


def test_a_frozen_machine_can_be_ended(room: Room) -> None:
    machine = room.start(room.spec(SCRATCH, FIRST))
    machine.monitor.execute("stop")
    machine.powerdown()
    assert not machine.wait(deadline=1)
    machine.kill()
    assert not machine.alive


def test_two_guests_do_not_reach_each_other_nor_the_host(running: Running) -> None:
    """slirp's restrict=on, tried from inside: host by every name it has, the other guest, the world, DNS."""
    assert running.machine.spec.id == SOURCE
    room = running.room
    address = "172.31.5.77/20"
    other = room.start(room.spec("i-0aaaaaaaaaaaaaaaa", SECOND, private_address=address))
    try:
        room.log_in(other)
        assert ssh_answers(other.spec.address)
        tried = {
            "the gateway, which is the host in slirp": "172.31.0.1",
            "slirp's name server": "172.31.0.2",
            "the host's view of slirp's default network": "10.0.2.2",
            "the other guest's private address": "172.31.5.77",
            "the other guest's public address": other.spec.address,
            "its own public address": running.machine.spec.address,
            "the world": "1.1.1.1",
            "the metadata service": "169.254.169.254",
        }
        ports = "22 53 80 443 2222 5986"
        said = running.login.run(f"python3 -c '{KNOCK}' '{ports}' {' '.join(tried.values())}")
        answers = [line.split() for line in said.splitlines()]
        assert len(answers) == len(tried) * 6
        reached = {(host, port) for host, port, open_ in answers if open_ == "True"}
        # 127.0.0.0/8 is the guest itself, wherever it is: its own sshd, and none of the host's ports.
        own = {(address, "22") for address in tried.values() if address.startswith("127.")}
        # IMDS is meant to be there, where the lab serves it; nothing else is.
        assert reached - own <= {("169.254.169.254", "80")}
        assert running.login.run(f"python3 -c '{RESOLVE}'") == "no name"
        assert "timeout" in running.login.run(f"python3 -c '{DATAGRAM}'")
    finally:
        other.kill()
        room.disks.remove(SECOND)
    assert ROOT in running.machine.volumes()


KNOCK = """
import concurrent.futures, socket, sys
def knock(pair):
    with socket.socket() as probe:
        probe.settimeout(3)
        return probe.connect_ex(pair) == 0
pairs = [(host, int(port)) for host in sys.argv[2:] for port in sys.argv[1].split()]
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    for (host, port), reached in zip(pairs, pool.map(knock, pairs)):
        print(host, port, reached)
"""

RESOLVE = """
import socket
try:
    print(socket.getaddrinfo("example.com", 80))
except OSError:
    print("no name")
"""

DATAGRAM = r"""
import socket
query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01"
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    probe.settimeout(3)
    try:
        for host in ("172.31.0.2", "172.31.0.1", "1.1.1.1"):
            probe.sendto(query, (host, 53))
        print(probe.recv(512))
    except TimeoutError:
        print("timeout")
    except OSError as error:
        print("timeout or", error)
"""
