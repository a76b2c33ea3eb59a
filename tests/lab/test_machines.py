import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from drtest.errors import DeadlineError, EnvironmentFailedError
from drtest.lab.accelerator import Accelerator
from drtest.lab.board import MachineSpec, arguments
from drtest.lab.disks import GIB
from drtest.lab.machines import End, Machine, MachineDisk
from drtest.lab.process import Process
from drtest.lab.qmp import Monitor

from .conftest import FIRST, ROOT, SCRATCH, SECOND, SOURCE, Room, Running, attach, by_id

TCG = Accelerator(name="tcg", reason="It is enough for a command line.")


@pytest.mark.lab
def test_a_disk_comes_and_goes_while_the_machine_runs(running: Running) -> None:
    volume = "vol-0ccccccccccccccc1"
    attach(running, volume)
    serials = running.login.run("lsblk --nodeps --noheadings --output SERIAL").split()
    assert sorted(serials) == sorted(name.replace("-", "") for name in (ROOT, volume))
    assert running.machine.volumes() == tuple(sorted((ROOT, volume)))
    assert running.machine.writing()[volume] == running.room.disks.top(volume)
    with pytest.raises(EnvironmentFailedError, match="already"):
        running.machine.attach(MachineDisk(device="", volume=volume, path=running.room.disks.top(volume)))
    running.machine.detach(volume)
    assert running.machine.volumes() == (ROOT,)
    running.machine.detach(volume)
    subprocess.run(
        ["qemu-io", "-c", "write 0 512", running.room.disks.top(volume)], check=True, capture_output=True
    )


@pytest.mark.lab
def test_a_detached_disk_comes_back_with_what_was_frozen_of_it(running: Running) -> None:
    volume = "vol-0ccccccccccccccc2"
    attach(running, volume)
    for letter in ("a", "b"):
        running.login.run(
            f"yes {letter} | sudo dd of={by_id(volume)} bs=4096 count=1 oflag=direct iflag=fullblock"
        )
        running.room.disks.freeze([volume], machine=running.machine)
    running.machine.detach(volume)
    running.login.eventually(f"! test -b {by_id(volume)}")
    path = running.room.disks.top(volume)
    running.machine.attach(MachineDisk(device="", volume=volume, path=path))
    running.login.eventually(f"test -b {by_id(volume)}")
    assert running.login.run(f"sudo head -c 1 {by_id(volume)}") == "b"
    running.machine.detach(volume)


WRITER = """
import mmap, os, sys
files = [os.open(path, os.O_WRONLY | os.O_DIRECT) for path in sys.argv[1:]]
page = mmap.mmap(-1, 4096)
number = 0
while True:
    number += 1
    page[:8] = number.to_bytes(8, "big")
    for file in files:
        os.pwrite(file, page, 0)
    if number == 1:
        print("writing", flush=True)
"""
"""Writes the same number to one disk after the other, again and again, past all caches."""


@pytest.mark.lab
def test_volumes_are_frozen_at_the_same_moment_under_load(running: Running, tmp_path: Path) -> None:
    for volume in (FIRST, SECOND):
        attach(running, volume)
    command = f"exec sudo timeout 120 python3 -c '{WRITER}' {by_id(FIRST)} {by_id(SECOND)}"
    _, said, _ = running.login.client.exec_command(command, timeout=60)
    assert said.readline() == "writing\n"
    seen = []
    for _ in range(5):
        layers = running.room.disks.freeze([FIRST, SECOND], machine=running.machine)
        before = [layer.path.read_bytes() for layer in layers.values()]
        first, second = (number_in(layers[volume].path, tmp_path) for volume in (FIRST, SECOND))
        assert second <= first <= second + 1, "the volumes were not frozen at the same moment"
        assert before == [layer.path.read_bytes() for layer in layers.values()], "a layer was written to"
        seen.append(first)
    assert seen == sorted(seen)
    assert seen[0] < seen[-1]
    running.login.run("sudo pkill -f mmap")
    for volume in (FIRST, SECOND):
        running.machine.detach(volume)


def number_in(path: Path, folder: Path) -> int:
    """Read the number that a disk begins with."""
    raw = folder / "number"
    copy = ["qemu-img", "dd", "-f", "qcow2", "-O", "raw", f"if={path}", f"of={raw}", "bs=8", "count=1"]
    subprocess.run(copy, check=True)
    return int.from_bytes(raw.read_bytes()[:8], "big")


@pytest.mark.lab
def test_a_machine_that_cannot_boot_lives_and_shows_why(room: Room) -> None:
    room.disks.blank(ROOT, size=GIB)
    room.disks.blank(FIRST, size=GIB)
    machine = room.start(room.spec(SOURCE, ROOT))
    machine.attach(MachineDisk(device="", volume=FIRST, path=room.disks.top(FIRST)))
    with pytest.raises(DeadlineError):
        machine.detach(FIRST, deadline=1)  # nobody in there who would let go
    assert FIRST in machine.volumes()
    assert machine.screenshot().startswith(b"\xff\xd8")
    machine.powerdown()
    assert not machine.wait(deadline=0.5)
    assert machine.end is None
    machine.kill()
    assert not machine.alive
    assert room.ends == {SOURCE: End(code=-9, reason="killed")}


@pytest.mark.lab
def test_it_boots_from_no_other_disk_than_the_root(room: Room) -> None:
    room.disks.blank(ROOT, size=GIB)
    machine = room.start(room.spec(SOURCE, ROOT, FIRST))
    argv = Path(f"/proc/{machine.pid}/cmdline").read_text().split("\0")
    disks = [json.loads(word) for word in argv if word.startswith('{"driver": "nvme"')]
    assert [disk.get("bootindex") for disk in disks] == [0, None]
    assert "strict=on" in argv


@pytest.mark.lab
def test_a_machine_survives_its_lab_and_is_adopted(room: Room) -> None:
    room.disks.blank(ROOT, size=GIB)
    spec = room.spec(SOURCE, ROOT)
    program = (
        "import pathlib, sys, os, signal\n"
        "from drtest.lab.board import MachineSpec\n"
        "from drtest.lab.machines import Machine\n"
        "machine = Machine.start(MachineSpec.from_json(sys.stdin.read()), lambda machine, end: None)\n"
        "print(machine.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    lab = subprocess.run(
        [sys.executable, "-c", program], input=spec.to_json(), capture_output=True, text=True, timeout=60
    )
    assert lab.returncode == -signal.SIGKILL, lab.stderr
    machine = Machine.adopt(spec.folder, room.note)
    assert machine is not None
    room.machines.append(machine)
    assert machine.pid == int(lab.stdout)
    assert machine.spec == spec
    assert machine.volumes() == (ROOT,)
    layer = room.disks.freeze([ROOT], machine=machine)[ROOT]
    assert machine.writing() == {ROOT: room.disks.top(ROOT)}
    assert layer.path != room.disks.top(ROOT)
    machine.kill()
    assert room.ends == {SOURCE: End(code=None, reason="unknown")}
    assert Machine.adopt(spec.folder, room.note) is None


@pytest.mark.lab
def test_a_machine_that_is_killed_by_others_is_told(room: Room) -> None:
    room.disks.blank(ROOT, size=GIB)
    machine = room.start(room.spec(SOURCE, ROOT))
    os.kill(machine.pid, signal.SIGKILL)
    assert machine.wait(deadline=10)
    assert room.ends[SOURCE].reason == "killed"
    machine.kill()


@pytest.mark.lab
def test_a_qemu_that_dies_at_once_is_an_error_with_what_it_said(room: Room) -> None:
    room.disks.blank(ROOT, size=GIB)
    spec = room.spec(SOURCE, ROOT)
    gone = replace(spec.disks[0], path=room.folder / "gone.qcow2")
    with pytest.raises(EnvironmentFailedError, match=r"gone\.qcow2"):
        Machine.start(replace(spec, disks=(gone,)), room.note)
    first = room.start(spec)
    room.disks.blank(FIRST, size=GIB)
    clash = replace(room.spec(SCRATCH, FIRST), address=spec.address)
    with pytest.raises(EnvironmentFailedError, match="host forwarding"):
        Machine.start(clash, room.note)
    assert first.alive
    assert room.ends == {}


@pytest.mark.lab
def test_a_machine_that_does_not_answer_can_be_discarded(room: Room) -> None:
    room.disks.blank(ROOT, size=GIB)
    machine = room.start(room.spec(SOURCE, ROOT))
    os.kill(machine.pid, signal.SIGSTOP)
    with pytest.raises(DeadlineError):
        Machine.adopt(machine.spec.folder, room.note, deadline=0.5)
    assert Machine.discard(machine.spec.folder)
    assert machine.wait(deadline=10)
    assert room.ends[SOURCE].reason == "killed"


@pytest.mark.lab
def test_several_volumes_are_frozen_in_one_transaction(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    for volume in (ROOT, FIRST):
        room.disks.blank(volume, size=GIB)
    machine = room.start(room.spec(SOURCE, ROOT, FIRST))
    execute, asked = Monitor.execute, []

    def noting(self: Monitor, command: str, *arguments: object, **options: object) -> object:
        asked.append((command, arguments))
        return execute(self, command, *arguments, **options)  # type: ignore[arg-type] # handed through

    monkeypatch.setattr(Monitor, "execute", noting)
    room.disks.freeze([ROOT, FIRST], machine=machine)
    transactions = [arguments for command, arguments in asked if command == "transaction"]
    assert len(transactions) == 1
    assert str(transactions[0]).count("blockdev-snapshot") == 2


@pytest.mark.lab
def test_a_machine_cannot_be_started_twice(room: Room) -> None:
    room.disks.blank(ROOT, size=GIB)
    spec = room.spec(SOURCE, ROOT)
    machine = room.start(spec)
    with pytest.raises(EnvironmentFailedError, match="running already"):
        Machine.start(spec, room.note)
    assert machine.volumes() == (ROOT,)


@pytest.mark.lab
def test_a_deep_folder_is_no_obstacle(room: Room) -> None:
    room.disks.blank(ROOT, size=GIB)
    deep = room.folder.joinpath(*(["a-folder-with-a-long-name, and a comma"] * 5))
    machine = room.start(replace(room.spec(SOURCE, ROOT), folder=deep))
    assert len(str(deep)) > 108
    assert machine.volumes() == (ROOT,)
    assert machine.screenshot().startswith(b"\xff\xd8")


def diskless(folder: Path) -> MachineSpec:
    return MachineSpec(
        id=SOURCE,
        memory=512,
        cpus=2,
        disks=(),
        address="127.1.2.3",
        forwards=((2222, 22), (5986, 5986)),
        folder=folder,
        accelerator=TCG,
    )


def test_a_process_that_got_a_machines_number_is_not_taken_for_it(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            spec = MachineSpec(
                id=SOURCE,
                memory=1,
                cpus=1,
                disks=(),
                address="127.0.0.1",
                forwards=(),
                folder=tmp_path,
                accelerator=TCG,
            )
            (tmp_path / "machine.json").write_text(spec.to_json())
            (tmp_path / "qemu.pid").write_text(f"{other.pid}\n")
            assert Machine.adopt(tmp_path, lambda machine, end: None) is None
            assert not Machine.discard(tmp_path)
            assert other.poll() is None
        finally:
            other.kill()


def test_a_folder_without_a_machine_has_none_to_adopt_or_discard(tmp_path: Path) -> None:
    assert Machine.adopt(tmp_path, lambda machine, end: None) is None
    assert not Machine.discard(tmp_path)


ENDING = """
import ctypes, os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start()
ctypes.CDLL(None).syscall(60, 0)  # the first thread alone: a zombie with threads that are still at work
"""


def test_a_process_that_still_ends_is_waited_for_as_it_has_files_open(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ENDING], stdin=subprocess.PIPE)
    assert child.stdin is not None
    until = time.monotonic() + 30
    while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < until
    (tmp_path / "qemu.pid").write_text(f"{child.pid}\n")
    found: list[Process | None] = []
    looking = threading.Thread(target=lambda: found.append(Process.of(tmp_path / "qemu.pid")))
    looking.start()
    looking.join(0.2)
    assert found == []
    child.stdin.close()
    looking.join()
    assert found == [None]
    assert child.wait(timeout=0) == 0


def test_a_process_that_has_ended_gets_no_signal() -> None:
    with subprocess.Popen(["true"]) as child:
        process = Process(child.pid, child=child)
        process.wait_for_end()
        assert not process.alive
        process.signal(signal.SIGKILL)
        assert process.wait() == 0


def test_a_spec_is_the_same_after_it_was_written_down(tmp_path: Path) -> None:
    disk = MachineDisk(device="/dev/xvda", volume=ROOT, path=tmp_path / "1.qcow2", boot=True)
    spec = replace(
        diskless(tmp_path),
        disks=(disk,),
        authorized_key="ssh-ed25519 AAAA",
        user_data=b"\x00\xff",
        hostname="ip-10-0-0-5",
    )
    assert MachineSpec.from_json(spec.to_json()) == spec


def test_the_guests_network_has_no_way_out_but_the_forwarded_ports(tmp_path: Path) -> None:
    spec = replace(diskless(tmp_path), private_address="172.31.5.9/20")
    argv = arguments(spec, ())
    network = argv[argv.index("-netdev") + 1].split(",")
    assert "restrict=on" in network
    assert "net=160.0.0.0/4" in network
    assert [word for word in network if word.startswith("guestfwd=")] == [
        "guestfwd=tcp:169.254.169.254:80-chardev:metadata"
    ]
    assert [word for word in network if word.startswith("hostfwd=")] == [
        "hostfwd=tcp:127.1.2.3:2222-172.31.5.9:22",
        "hostfwd=tcp:127.1.2.3:5986-172.31.5.9:5986",
    ]
