import io
import json
import socket
import time
from collections.abc import Callable
from dataclasses import replace

import paramiko
import pytest
from PIL import Image as Picture

from drtest.errors import EnvironmentFailedError
from drtest.lab.machines import End, Machine

from .conftest import (
    BOOT_SECONDS,
    ROOT,
    SCRATCH,
    SOURCE,
    KeyPair,
    Room,
    Running,
    attach,
    by_id,
)


def host_keys(console: bytes) -> list[str]:
    """Read the block that a new instance prints, as cloud-init does."""
    text = console.decode(errors="replace").replace("\r", "")
    blocks = text.split("-----BEGIN SSH HOST KEY KEYS-----\n")[1:]
    lines = [block.split("\n-----END SSH HOST KEY KEYS-----")[0].splitlines() for block in blocks]
    return [" ".join(line.split()[:2]) for block in lines for line in block]


@pytest.mark.lab
def test_the_guest_is_what_its_spec_says(running: Running) -> None:
    login = running.login
    assert login.run("cat /sys/class/dmi/id/board_asset_tag") == SOURCE
    assert login.run("hostname") == "ip-172-31-5-9"
    assert "172.31.5.9/20" in login.run("ip -4 -brief address show dev eth0")
    assert login.run("nproc") == "2"
    assert login.run("lsblk --nodeps --noheadings --output SERIAL /dev/nvme0n1") == ROOT.replace("-", "")
    assert login.run("sudo id -u") == "0"


@pytest.mark.lab
def test_a_sound_guest_has_no_failed_unit(running: Running) -> None:
    assert running.login.run("sudo systemctl is-system-running --wait") == "running"


@pytest.mark.lab
def test_the_root_is_mounted_as_fstab_says_by_its_partition(running: Running) -> None:
    mounted = json.loads(running.login.run("findmnt --json --output SOURCE,FSTYPE,OPTIONS /"))["filesystems"][
        0
    ]
    assert (mounted["source"], mounted["fstype"]) == ("/dev/nvme0n1p2", "ext4")
    assert "rw" in mounted["options"].split(",")
    assert "root=PARTUUID=" in running.login.run("cat /proc/cmdline")


@pytest.mark.lab
def test_a_new_instance_prints_the_host_key_that_it_has(running: Running) -> None:
    assert host_keys(running.machine.console()) == [running.login.host_key]


@pytest.mark.lab
def test_nobody_gets_in_by_a_password(running: Running) -> None:
    settings = running.login.run("sudo sshd -T")
    assert "passwordauthentication no" in settings
    assert "permitrootlogin no" in settings
    hashes = running.login.run("sudo cut -d: -f2 /etc/shadow").splitlines()
    assert {text[:1] for text in hashes} <= {"!", "*"}


@pytest.mark.lab
def test_user_data_runs_on_a_new_instance(running: Running) -> None:
    running.login.eventually("sudo test -e /root/user-data")
    assert running.login.run("sudo cat /root/user-data") == "ran"


@pytest.mark.lab
def test_the_guest_reaches_nothing(running: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        addresses = "172.31.0.1 172.31.0.2 127.0.0.1 8.8.8.8"
        answers = running.login.run(f"python3 -c '{KNOCK}' {port} {addresses}").splitlines()
    assert len(answers) == 12
    assert [answer for answer in answers if answer.endswith("True")] == []


KNOCK = """
import socket, sys
for address in sys.argv[2:]:
    for port in (53, 80, int(sys.argv[1])):
        with socket.socket() as probe:
            probe.settimeout(1)
            print(address, port, probe.connect_ex((address, port)) == 0)
"""


@pytest.mark.lab
@pytest.mark.parametrize(("filesystem", "digit"), [("ext4", 1), ("xfs", 2), ("btrfs", 3)])
def test_data_volumes_can_have_any_filesystem(running: Running, filesystem: str, digit: int) -> None:
    volume = f"vol-0bbbbbbbbbbbbbbb{digit}"
    attach(running, volume)
    device = by_id(volume)
    running.login.run(f"sudo mkfs.{filesystem} -q {device} && sudo mount {device} /mnt")
    running.login.run("sudo touch /mnt/x && sudo umount /mnt")
    running.machine.detach(volume)
    running.login.eventually(f"! test -b {device}")
    assert volume not in running.machine.volumes()


@pytest.mark.lab
def test_a_root_frozen_under_load_boots_as_another_instance_with_a_key_of_its_own(running: Running) -> None:
    layer = running.room.disks.freeze([ROOT], machine=running.machine)[ROOT]
    copy = "vol-0ddddddddddddddd1"
    running.room.disks.overlay(copy, layer=layer)
    scratch = running.room.start(running.room.spec(SCRATCH, copy))
    login = running.room.log_in(scratch)
    assert login.run("cat /sys/class/dmi/id/board_asset_tag") == SCRATCH
    assert login.run("hostname") == "ip-10-0-2-15"
    assert host_keys(scratch.console()) == [login.host_key]
    assert login.host_key != running.login.host_key
    assert login.run("cat /proc/sys/kernel/random/boot_id") != running.login.run(
        "cat /proc/sys/kernel/random/boot_id"
    )
    scratch.kill()
    assert running.room.ends[SCRATCH].reason == "killed"


@pytest.mark.lab
def test_the_screen_shows_the_boot(running: Running) -> None:
    jpeg = running.machine.screenshot()
    with Picture.open(io.BytesIO(jpeg)) as picture:
        assert picture.format == "JPEG"
        brightness = picture.convert("L").histogram()
    assert sum(brightness[100:]) > 1000
    assert [path.name for path in running.machine.spec.folder.glob("screen*")] == []


@pytest.mark.lab
def test_the_console_is_whole_from_the_kernel_to_the_login(running: Running) -> None:
    running.login.run("sudo systemctl is-system-running --wait")
    console = running.machine.console()
    for expected in (
        b"Linux version 6.",
        b"EXT4-fs (nvme0n1p2): mounted filesystem",
        b"Reached target",
        b"login:",
    ):
        assert expected in console


@pytest.mark.lab
def test_the_power_button_switches_it_off_and_the_same_instance_keeps_its_key(room: Room) -> None:
    first = room.start(room.spec(SOURCE, ROOT))
    key = room.log_in(first).host_key
    first.powerdown()
    assert first.wait(deadline=120)
    assert not first.alive
    assert room.ends.pop(SOURCE) == End(code=0, reason="guest-shutdown")
    assert b"reboot: Power down" in first.console()
    with pytest.raises(EnvironmentFailedError):
        first.powerdown()

    second = room.start(room.spec(SOURCE, ROOT))
    login = room.log_in(second)
    assert login.host_key == key
    assert host_keys(second.console()) == []
    assert b"reboot: Power down" not in second.console()
    assert b"reboot: Power down" in (second.spec.folder / "console.previous.log").read_bytes()


@pytest.mark.lab
def test_a_new_instance_lets_in_its_own_key_only(room: Room) -> None:
    first = room.start(room.spec(SOURCE, ROOT))
    room.log_in(first).run("sudo sync")
    first.kill()
    private = paramiko.ECDSAKey.generate()
    other = KeyPair(private, f"{private.get_name()} {private.get_base64()} other")
    second = room.start(replace(room.spec(SCRATCH, ROOT), authorized_key=other.public))
    room.key_pair, before = other, room.key_pair
    login = room.log_in(second)
    keys = login.run("cat ~/.ssh/authorized_keys")
    assert other.public in keys
    assert before.public not in keys


@pytest.mark.lab
def test_a_missing_data_volume_sends_it_into_emergency_mode_as_on_a_real_server(room: Room) -> None:
    first = room.start(room.spec(SOURCE, ROOT))
    line = "UUID=11111111-2222-3333-4444-555555555555 /data xfs x-systemd.device-timeout=2s 0 2"
    room.log_in(first).run(f"echo '{line}' | sudo tee -a /etc/fstab && sudo sync")
    first.kill()
    room.ends.clear()
    second = room.start(room.spec(SOURCE, ROOT))
    wait_for(lambda: b"emergency mode" in second.console().lower(), second)
    console = second.console()
    assert b"Dependency failed" in console
    assert b"Started ssh.service" not in console


def wait_for(condition: Callable[[], bool], machine: Machine, *, seconds: float = BOOT_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert machine.alive
        assert time.monotonic() < end, machine.console()[-1000:]
        time.sleep(0.1)
