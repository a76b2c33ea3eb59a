"""How long the lab's machines take: to their first SSH answer, to freeze, to plug a disk in and out, to switch off."""

import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import paramiko
from tabulate import tabulate

from drtest.lab import accelerator, images
from drtest.lab.disks import GIB, Disks, Layer
from drtest.lab.machines import Machine, MachineDisk, MachineSpec

RUNS = 5
ADDRESS, PORT = "127.98.0.1", 2222
ROOT, DATA = "vol-0aaaaaaaaaaaaaaa1", "vol-0aaaaaaaaaaaaaaa2"
SEEN = f"/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_{DATA.replace('-', '')}"


def first_answer() -> None:
    """Wait for the first word of the guest's SSH server."""
    while True:
        try:
            with socket.create_connection((ADDRESS, PORT), timeout=1) as probe:
                probe.settimeout(2)
                if probe.recv(64).startswith(b"SSH-"):
                    return
        except OSError:
            time.sleep(0.02)


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of some work."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def log_in(key: paramiko.PKey) -> paramiko.SSHClient:
    """Log in, whatever the host's key."""
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())  # noqa: S507 - a machine of our own, on loopback
    client.connect(
        ADDRESS, port=PORT, username="admin", pkey=key, allow_agent=False, look_for_keys=False, timeout=60
    )
    return client


def run(client: paramiko.SSHClient, command: str) -> None:
    """Run a command to its end."""
    _, out, _ = client.exec_command(command, timeout=120)
    if out.channel.recv_exit_status():
        raise SystemExit(f"{command!r} failed")


def one_round(folder: Path, taken: dict[str, list[float]], image: images.Image) -> None:
    """Start a new instance, do everything once, and switch it off."""
    disks = Disks(folder / "disks")
    key = paramiko.ECDSAKey.generate()
    spec = MachineSpec(
        id="i-0123456789abcdef0",
        memory=512,
        cpus=2,
        disks=(
            MachineDisk(
                device="/dev/xvda", volume=ROOT, path=disks.overlay(ROOT, layer=Layer(image.layer)), boot=True
            ),
        ),
        address=ADDRESS,
        forwards=((PORT, 22),),
        folder=folder / "machine",
        accelerator=accelerator.choose(image),
        authorized_key=f"{key.get_name()} {key.get_base64()}",
    )
    data = MachineDisk(device="/dev/xvdf", volume=DATA, path=disks.blank(DATA, size=GIB))
    begun = time.perf_counter()
    machine = Machine.start(spec, lambda _machine, _end: None)
    try:
        first_answer()
        taken["start to first SSH answer"].append(time.perf_counter() - begun)
        with log_in(key) as client:
            run(client, "sudo systemctl is-system-running --wait")

            def plug() -> None:
                machine.attach(data)
                run(client, f"until test -b {SEEN}; do sleep 0.02; done")

            taken["plug a disk in, until the guest sees it"].append(seconds(plug))
            client.exec_command(
                "timeout 60 sh -c 'while :; do dd if=/dev/zero of=x bs=64k count=64 conv=fsync; done'"
            )
            run(client, "until test -s x; do sleep 0.02; done")
            taken["freeze two volumes under load"].append(
                seconds(lambda: disks.freeze([ROOT, DATA], machine=machine))
            )
            taken["plug it out"].append(seconds(lambda: machine.detach(DATA)))
        machine.powerdown()
        taken["power button to the end"].append(seconds(lambda: machine.wait(deadline=120)))
    finally:
        machine.kill()


def main() -> None:
    """Do it all several times and print the medians."""
    wanted = {"start to first SSH answer": "20 s"}
    taken: dict[str, list[float]] = {
        name: []
        for name in (
            "start to first SSH answer",
            "plug a disk in, until the guest sees it",
            "freeze two volumes under load",
            "plug it out",
            "power button to the end",
        )
    }
    image = images.build("linux")
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as folder:
            one_round(Path(folder), taken, image)
    rows = [
        (
            name,
            f"{statistics.median(all_):.2f} s",
            f"{min(all_):.2f} s",
            f"{max(all_):.2f} s",
            wanted.get(name, ""),
        )
        for name, all_ in taken.items()
    ]
    print(tabulate(rows, headers=["what", "median", "least", "most", "wanted"]))
    load = os.getloadavg()[0]
    print(f"{accelerator.choose(image).name}, {os.cpu_count()} cores, load {load:.1f}")
    print(f"image: {image.layer.stat().st_size / 1024**2:.0f} MiB")


if __name__ == "__main__":
    main()
