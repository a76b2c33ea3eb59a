"""The drives of a QEMU machine: what is left open, what is written to, and what outlives the machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from drtest.lab import harm
from drtest.lab.accelerator import Accelerator
from drtest.lab.disks import GIB, Disks
from drtest.lab.machines import Machine, MachineDisk, MachineSpec
from drtest.lab.qcow2 import Chain

from .conftest import ROOT, SECOND, SOURCE, Room, by_id, free_address

pytestmark = pytest.mark.lab
DATA_BLOCK = 65536


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    return Disks(tmp_path / "disks", reserve=0)


@pytest.fixture
def machine(disks: Disks, tmp_path: Path) -> Iterator[Machine]:
    """A machine with a blank disk: no guest ever runs in it."""
    spec = MachineSpec(
        id=SOURCE,
        memory=64,
        cpus=1,
        disks=(MachineDisk(device="/dev/xvda", volume=ROOT, path=disks.blank(ROOT, size=GIB), boot=True),),
        address=free_address(),
        forwards=((2222, 22),),
        folder=tmp_path / "machine",
        accelerator=Accelerator(name="tcg", reason="no guest is to run"),
    )
    machine = Machine.start(spec, lambda _machine, _end: None)
    yield machine
    machine.kill()


def _open(machine: Machine, disk: MachineDisk, *, on_top: bool = False) -> None:
    """Let QEMU open a file and no more, as if the lab was killed right after that."""
    machine.monitor.execute("blockdev-add", disk.block_device(on_top=on_top))


def test_a_file_that_was_only_opened_is_not_taken_for_the_one_that_is_written(
    machine: Machine, disks: Disks, tmp_path: Path
) -> None:
    written = disks.top(ROOT)
    disks.freeze([ROOT])  # as far as the file goes; the machine is not told
    _open(machine, MachineDisk(device="", volume=ROOT, path=disks.top(ROOT)), on_top=True)

    again = Disks(tmp_path / "disks", reserve=0)
    assert machine.writing() == {ROOT: written}
    again.reconcile(machine)
    assert again.top(ROOT) == written

    # What was left open is in nobody's way.
    layer = again.freeze([ROOT], machine=machine)[ROOT]
    assert layer.path == written
    assert machine.writing() == {ROOT: again.top(ROOT)}
    assert again.top(ROOT) != written


def test_an_attach_that_was_cut_off_is_done_anew(machine: Machine, disks: Disks) -> None:
    disk = MachineDisk(device="/dev/xvdf", volume=SECOND, path=disks.blank(SECOND, size=GIB))
    _open(machine, disk)
    assert machine.volumes() == (ROOT,)
    machine.attach(disk)
    assert machine.volumes() == (ROOT, SECOND)
    assert machine.writing()[SECOND] == disk.path


def test_an_attach_that_was_cut_off_holds_no_file(machine: Machine, disks: Disks) -> None:
    disk = MachineDisk(device="/dev/xvdf", volume=SECOND, path=disks.blank(SECOND, size=GIB))
    _open(machine, disk)
    machine.detach(SECOND)
    nodes = machine.monitor.execute("query-named-block-nodes", {"flat": True})
    assert not [node for node in nodes if node["file"] == str(disk.path)]


def test_a_disk_whose_requests_fail_is_still_known_by_its_file(machine: Machine, disks: Disks) -> None:
    disks.freeze([ROOT], machine=machine)
    harm.fail(machine, ROOT, requests="writes")
    assert machine.writing() == {ROOT: disks.top(ROOT)}
    disks.freeze([ROOT], machine=machine)
    assert machine.writing() == {ROOT: disks.top(ROOT)}


def test_what_a_guest_knows_to_be_written_outlives_its_machine(room: Room) -> None:
    """A journal's commit block is written with FUA, which QEMU's NVMe does not know: no flush follows it."""
    path = room.disks.blank(SECOND, size=GIB)
    machine = room.start(room.spec(SOURCE, ROOT, SECOND))
    login = room.log_in(machine)
    login.eventually(f"test -b {by_id(SECOND)}")
    word = "known to be written"
    login.run(
        f"yes '{word}' | head -c {DATA_BLOCK} > block;"
        f" sudo dd if=block of={by_id(SECOND)} bs={DATA_BLOCK} seek=1000 oflag=direct status=none"
    )
    machine.kill()
    with Chain(path) as chain:
        assert chain.read(1000 * DATA_BLOCK, DATA_BLOCK).decode().startswith(word)
