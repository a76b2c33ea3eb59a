import time
from pathlib import Path

import pytest

from drtest.errors import EnvironmentFailedError
from drtest.lab import accelerator
from drtest.lab.accelerator import Accelerator
from drtest.lab.images import Image


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(
        name="linux",
        os="linux",
        layer=tmp_path / "disk.qcow2",
        root_device="/dev/xvda",
        size=1,
        version="0123",
    )


class Host:
    """A machine with a /dev/kvm that opens, and a QEMU that does what a test wants."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.boots = folder / "boots"
        (folder / "kvm").touch()
        monkeypatch.setattr(accelerator, "KVM", folder / "kvm")
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        self._program("qemu-img", "exit 0")
        self.qemu("exit 0")

    def qemu(self, behaviour: str, *, version: str = "7.2.0") -> None:
        """Say what QEMU does when a machine is started."""
        asked = f'if [ "$1" = --version ]; then echo "QEMU emulator version {version}"; exit; fi'
        self._program("qemu-system-x86_64", f"{asked}\necho boot >>{self.boots}\n{behaviour}")

    def choose(self, image: Image, *, deadline: float = 10.0) -> Accelerator:
        return accelerator.choose(image, deadline=deadline, cache=self.cache)

    @property
    def booted(self) -> int:
        return len(self.boots.read_text().splitlines()) if self.boots.exists() else 0

    def _program(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_kvm_is_chosen_when_a_kernel_reached_its_first_process_under_it(host: Host, image: Image) -> None:
    host.qemu("echo '[    1.2] systemd[1]: Detected virtualization kvm.'; exec sleep 60")
    found = host.choose(image)
    assert found.name == "kvm"
    assert "first process" in found.reason
    assert "-accel" in found.arguments
    assert "kvm" in found.arguments


def test_a_kernel_that_hangs_is_given_up_at_the_deadline(host: Host, image: Image) -> None:
    host.qemu("echo '[    0.0] Linux version 6.1'; exec sleep 60")
    start = time.monotonic()
    found = host.choose(image, deadline=0.5)
    assert time.monotonic() - start < 10
    assert found.name == "tcg"
    assert "did not reach the guest's first process" in found.reason
    assert "Linux version 6.1" in found.reason


@pytest.mark.parametrize(
    ("behaviour", "named"),
    [
        (
            "echo 'qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69' >&2; kill -ABRT $$",
            "failed to set MSR",
        ),
        ("echo 'KVM internal error. Suberror: 1' >&2; exec sleep 60", "KVM internal error"),
        ("echo 'Kernel panic - not syncing: no init'; exec sleep 60", "kernel panic"),
        ("exit 7", "exit code 7"),
    ],
)
def test_a_trial_that_fails_ends_at_once_and_says_how(
    host: Host, image: Image, behaviour: str, named: str
) -> None:
    host.qemu(behaviour)
    start = time.monotonic()
    found = host.choose(image, deadline=30)
    assert time.monotonic() - start < 15
    assert found.name == "tcg"
    assert named in found.reason


def test_the_second_time_is_not_tried_again(host: Host, image: Image) -> None:
    host.qemu("echo 'systemd[1]: hello'; exec sleep 60")
    first = host.choose(image)
    assert host.choose(image) == first
    assert host.booted == 1


def test_another_qemu_is_tried_again(host: Host, image: Image) -> None:
    host.qemu("exit 1")
    assert host.choose(image).name == "tcg"
    host.qemu("echo 'systemd[1]: hello'; exec sleep 60", version="8.2.0")
    assert host.choose(image).name == "kvm"


def test_a_result_that_cannot_be_read_is_found_out_again(host: Host, image: Image) -> None:
    host.qemu("exit 1")
    host.choose(image)
    (host.cache / "accelerator.json").write_text("[]")
    host.choose(image)
    assert host.booted == 2


def test_without_a_dev_kvm_there_is_no_trial(host: Host, image: Image) -> None:
    (host.folder / "kvm").unlink()
    found = host.choose(image)
    assert found.name == "tcg"
    assert "There is no" in found.reason
    assert host.booted == 0


def test_without_qemu_the_error_says_what_to_do(
    host: Host, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EnvironmentFailedError) as raised:
        host.choose(image)
    assert "lab install" in raised.value.remedy


@pytest.mark.lab
def test_what_is_chosen_here_has_a_reason(linux_image: Image, tmp_path: Path) -> None:
    found = accelerator.choose(linux_image, cache=tmp_path)
    assert found.name in {"kvm", "tcg"}
    assert found.reason.endswith(".")
    assert "/dev/kvm" in found.reason or found.name == "kvm"
