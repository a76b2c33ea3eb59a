"""The stand-in for Windows, booted for real, and asked over WinRM as any Windows would be."""

import io
import mmap
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from PIL import Image as Picture

from drtest.guest import windows, winrm
from drtest.guest.fingerprint import fingerprints_from_console
from drtest.guest.transport import AnswerError
from drtest.guest.winrm import CertificateError
from drtest.guest.winrm_shells import WinrmGuest
from drtest.lab import accelerator, control, images, loader, status
from drtest.lab.disks import Disks, Layer
from drtest.lab.folder import LabStatus
from drtest.lab.images import Image
from drtest.lab.machines import End, Machine, MachineDisk, MachineSpec
from drtest.lab.windows import DISK_BYTES, LOADER_BYTES
from tests.lab.conftest import BOOT_SECONDS, ROOT, SCRATCH, SOURCE

pytestmark = pytest.mark.lab

PASSWORD = "one for-this=Test, 7"
VOLUME = loader.LOADER_START + LOADER_BYTES
"""Where the NTFS volume begins, in bytes."""


@dataclass
class Desk:
    """A folder with disks and Windows machines; whatever still runs at the end is ended."""

    folder: Path
    disks: Disks
    image: Image
    machines: list[Machine]
    ends: dict[str, End]

    def spec(self, instance: str, volume: str, address: str) -> MachineSpec:
        """Describe a machine that boots from a volume; what there is not yet begins as the image."""
        if volume not in self.disks.volumes():
            self.disks.overlay(volume, layer=Layer(self.image.layer))
        return MachineSpec(
            id=instance,
            memory=512,
            cpus=2,
            disks=(MachineDisk(device="/dev/sda1", volume=volume, path=self.disks.top(volume), boot=True),),
            address=address,
            forwards=((5986, 5986),),
            folder=self.folder / "machines" / instance,
            accelerator=accelerator.choose(self.image),
            hostname="EC2AMAZ-1234567",
            password=PASSWORD,
            private_address="172.31.5.9/20",
        )

    def start(self, spec: MachineSpec) -> Machine:
        machine = Machine.start(spec, lambda machine, end: self.ends.update({machine.spec.id: end}))
        self.machines.append(machine)
        return machine


@pytest.fixture(scope="module")
def desks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Desk]]:
    made: list[Desk] = []

    def desk() -> Desk:
        folder = tmp_path_factory.mktemp("desk")
        made.append(Desk(folder, Disks(folder / "disks"), images.build("windows"), [], {}))
        return made[-1]

    yield desk
    for machine in (machine for desk in made for machine in desk.machines):
        machine.kill()


@pytest.fixture
def desk(desks: Callable[[], Desk]) -> Iterator[Desk]:
    """A desk for one test, whose machines end with it."""
    desk = desks()
    yield desk
    for machine in desk.machines:
        machine.kill()


def text(machine: Machine) -> str:
    return machine.console().decode(errors="replace")


def shown(machine: Machine) -> str:
    """The fingerprint that a machine prints on its console, once it has."""
    until(lambda: bool(fingerprints_from_console(text(machine))), machine)
    return fingerprints_from_console(text(machine))[-1]


def until(condition: Callable[[], bool], machine: Machine) -> None:
    end = time.monotonic() + BOOT_SECONDS
    while not condition():
        assert machine.alive, f"the machine ended: {machine.end}, {text(machine)[-1500:]}"
        assert time.monotonic() < end, text(machine)[-1500:]
        time.sleep(0.1)


def log_in(machine: Machine, *, fingerprint: str = "", password: str = PASSWORD) -> WinrmGuest:
    return winrm.connect(
        machine.spec.address,
        port=5986,
        user="Administrator",
        password=password,
        fingerprint=fingerprint or shown(machine),
        deadline=BOOT_SECONDS,
    )


@dataclass
class Up:
    """A machine that is up, for the tests that leave it as it is."""

    machine: Machine
    guest: WinrmGuest


@pytest.fixture(scope="module")
def up(desks: Callable[[], Desk]) -> Iterator[Up]:
    desk = desks()
    machine = desk.start(desk.spec(SOURCE, ROOT, "127.98.0.1"))
    guest = log_in(machine)
    yield Up(machine, guest)
    guest.close()
    machine.kill()


def test_it_says_who_it_is_by_its_board_and_its_disk(up: Up) -> None:
    (seen,) = windows.baseline(up.guest, deadline=120)
    assert seen.data["error"] == ""
    assert seen.data["instance"] == seen.data["asset_tag"] == SOURCE
    assert seen.data["root_serial"] == ROOT.replace("-", "")
    assert seen.data["hostname"] == "EC2AMAZ-1234567"
    assert 0 < seen.data["uptime_seconds"] < BOOT_SECONDS


def test_its_certificate_is_the_one_that_its_console_shows_and_no_other_is_taken(up: Up) -> None:
    assert [f"x509-sha256 {one}" for one in fingerprints_from_console(text(up.machine))] == [
        up.guest.host_key
    ]
    with pytest.raises(CertificateError):
        log_in(up.machine, fingerprint="ab" * 32)


def test_the_labs_own_reachability_check_finds_it(up: Up) -> None:
    assert status.tls_answers(up.machine.spec.address, seconds=30)


def test_what_is_no_probe_is_told_that_this_is_not_windows(up: Up) -> None:
    with pytest.raises(AnswerError, match="This is not Windows"):
        up.guest.run_powershell("Get-Process", deadline=60)


def test_the_screen_shows_the_boot(up: Up) -> None:
    with Picture.open(io.BytesIO(up.machine.screenshot())) as picture:
        brightness = picture.convert("L").histogram()
    assert sum(brightness[100:]) > 200


def test_the_password_is_not_on_the_console(up: Up) -> None:
    assert PASSWORD not in text(up.machine)


def test_the_power_button_shuts_it_down_in_order_and_it_keeps_its_certificate(desk: Desk) -> None:
    first = desk.start(desk.spec(SOURCE, ROOT, "127.98.0.2"))
    fingerprint = shown(first)
    log_in(first).close()
    first.powerdown()
    assert first.wait(deadline=BOOT_SECONDS)
    assert desk.ends.pop(SOURCE) == End(code=0, reason="guest-shutdown")

    second = desk.start(desk.spec(SOURCE, ROOT, "127.98.0.2"))
    guest = log_in(second, fingerprint=fingerprint)
    assert shown(second) == fingerprint
    (events,) = (
        seen for seen in windows.booted(guest, deadline=120, scan=False) if seen.probe == "boot.events"
    )
    assert not any(event["id"] in {41, 6008} for event in events.data["events"])
    guest.close()


def test_a_root_frozen_while_it_runs_boots_on_another_instance_and_knows_that_it_was_cut_off(
    desk: Desk,
) -> None:
    source = desk.start(desk.spec(SOURCE, ROOT, "127.98.0.3"))
    log_in(source).close()
    fingerprint = shown(source)
    layer = desk.disks.freeze([ROOT], machine=source)[ROOT]
    source.kill()
    copy = "vol-0ddddddddddddddd1"
    desk.disks.overlay(copy, layer=layer)
    scratch = desk.start(desk.spec(SCRATCH, copy, "127.98.0.4"))
    guest = log_in(scratch, fingerprint=fingerprint)
    seen = {one.probe: one.data for one in windows.booted(guest, deadline=120, scan=False)}
    assert seen["boot.identity"]["instance"] == SCRATCH
    assert seen["boot.identity"]["root_serial"] == copy.replace("-", "")
    assert {41, 6008} <= {event["id"] for event in seen["boot.events"]["events"]}
    guest.close()


def without_ntfs(disk: mmap.mmap) -> None:
    """Lose the volume: its boot sector, and the copy of that at its end."""
    disk[VOLUME : VOLUME + 512] = bytes(512)
    disk[DISK_BYTES - 512 : DISK_BYTES] = bytes(512)


def without_hives(disk: mmap.mmap) -> None:
    """Lose the first page of each hive and of each of their logs; the volume's own structure stays whole."""
    at = disk.find(b"regf", VOLUME)
    assert at >= 0
    while at >= 0:
        if at % 512 == 0:
            disk[at : at + 4096] = bytes(4096)
        at = disk.find(b"regf", at + 4)


@pytest.mark.parametrize(
    ("lose", "code"),
    [
        (without_ntfs, "0x0000007B (INACCESSIBLE_BOOT_DEVICE)"),
        (without_hives, "0x00000074 (BAD_SYSTEM_CONFIG_INFO)"),
    ],
)
def test_what_cannot_be_booted_ends_in_a_stop_screen_that_stays(
    desk: Desk, lose: Callable[[mmap.mmap], None], code: str
) -> None:
    spec = desk.spec(SOURCE, ROOT, "127.98.0.5")
    raw, broken = desk.folder / "raw", desk.folder / "broken.qcow2"
    convert = ["qemu-img", "convert", "-O", "raw", str(desk.disks.top(ROOT)), str(raw)]
    subprocess.run(convert, check=True, timeout=120)
    with raw.open("r+b") as file, mmap.mmap(file.fileno(), 0) as disk:
        lose(disk)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(broken)], check=True, timeout=120)
    raw.unlink()
    machine = desk.start(replace(spec, disks=(replace(spec.disks[0], path=broken),)))
    until(lambda: "*** STOP" in text(machine), machine)
    until(lambda: code in text(machine), machine)
    machine.powerdown()
    assert not machine.wait(deadline=3)
    assert not status.tls_answers(machine.spec.address, seconds=3)


@dataclass
class Lab:
    """A lab that is up, and a client of it."""

    status: LabStatus
    ec2: Any

    def instance(self, key: str) -> Any:
        return self.ec2.describe_instances(InstanceIds=[key])["Reservations"][0]["Instances"][0]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab with the Windows images alone."""
    folder = tmp_path / "lab"
    up = control.up(folder=folder, images=("windows", "windows-helper"))
    client: Any = boto3.client(
        "ec2",
        region_name=up.region,
        endpoint_url=up.endpoint,
        aws_access_key_id=up.access_key,
        aws_secret_access_key=up.secret_key,
    )
    yield Lab(up, client)
    control.down(folder)


def test_the_lab_starts_it_lets_the_password_in_shows_its_console_and_stops_it(lab: Lab) -> None:
    found = lab.ec2.describe_images(ImageIds=[lab.status.images["windows"]])["Images"][0]
    assert found["Platform"] == "windows"
    assert "not Windows" in next(tag["Value"] for tag in found["Tags"] if tag["Key"] == "drtest:notice")
    assert lab.status.images["windows"] != lab.status.images["windows-helper"]
    assert lab.status.password_file.stat().st_mode & 0o077 == 0

    asked = {"ImageId": found["ImageId"], "InstanceType": "t3.micro", "SubnetId": lab.status.subnet}
    key = lab.ec2.run_instances(**asked, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    slow = {"Delay": 2, "MaxAttempts": 120}
    lab.ec2.get_waiter("instance_exists").wait(InstanceIds=[key], WaiterConfig=slow)
    lab.ec2.get_waiter("instance_status_ok").wait(InstanceIds=[key], WaiterConfig=slow)
    posted = lab.ec2.get_console_output(InstanceId=key, Latest=True)["Output"]
    guest = winrm.connect(
        lab.instance(key)["PublicIpAddress"],
        port=5986,
        user="Administrator",
        password=lab.status.password_file.read_text(),
        fingerprint=fingerprints_from_console(posted)[-1],
        deadline=BOOT_SECONDS,
    )
    (seen,) = windows.baseline(guest, deadline=120)
    guest.close()
    assert seen.data["instance"] == key
    assert lab.ec2.get_console_screenshot(InstanceId=key)["ImageData"]

    lab.ec2.stop_instances(InstanceIds=[key])
    lab.ec2.get_waiter("instance_stopped").wait(InstanceIds=[key], WaiterConfig=slow)
    assert "Power down" in lab.ec2.get_console_output(InstanceId=key, Latest=True)["Output"]
