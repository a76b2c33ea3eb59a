"""The lab's process is killed before each single file operation of its work on disks: no write of a guest is lost.

The work is done in a process of its own, which ends there and then; the machine, as it must, goes on without it.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from drtest.lab.disks import GIB, Disks, Layer
from drtest.lab.machines import Machine
from drtest.lab.overlay import CLUSTER, write_overlay
from drtest.lab.qcow2 import Chain

ROOT, DATA = "vol-0aaaaaaaaaaaaaaa1", "vol-0aaaaaaaaaaaaaaa2"
KILLED = 9
OPERATIONS = {"open", "os.rename", "os.remove", "os.chmod", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}


class PaperMachine:
    """A running machine that outlives the lab's process: a file says which file each of its volumes is written to."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def writing(self) -> dict[str, Path]:
        return {volume: Path(path) for volume, path in json.loads(self._state.read_text()).items()}

    def put(self, files: Mapping[str, Path]) -> None:
        fresh = self._state.with_suffix(".new")
        fresh.write_text(json.dumps({volume: str(path) for volume, path in files.items()}))
        fresh.replace(self._state)

    def switch(self, tops: Mapping[str, Path]) -> None:
        for path in tops.values():
            path.read_bytes()  # opened, one after the other, before all go on at once
        self.put({**self.writing(), **tops})

    def write(self, letter: str) -> None:
        """Have the guest write a letter to each of its volumes."""
        for path in self.writing().values():
            write(path, letter)

    @property
    def as_machine(self) -> Machine:
        return cast(Machine, self)


def write(path: Path, letter: str) -> None:
    """Write a letter where a machine has it, into the very file that it has open."""
    with Chain(path) as now:
        size = now.size
        clusters = [
            (at, now.read(at * CLUSTER, CLUSTER))
            for at in range(1, 4)
            if now.places(at * CLUSTER, CLUSTER) != (None,)
        ]
    header = path.read_bytes()[:CLUSTER]
    offset, length = int.from_bytes(header[8:16], "big"), int.from_bytes(header[16:20], "big")
    backing = Path(os.fsdecode(header[offset : offset + length])) if offset else None
    fresh = path.with_name("fresh")
    write_overlay(fresh, size=size, backing=backing, clusters=[(0, letter.encode() * CLUSTER), *clusters])
    mode = path.stat().st_mode
    path.chmod(0o600)
    path.write_bytes(fresh.read_bytes())
    path.chmod(mode)
    fresh.unlink()


def read(path: Path) -> str:
    """Read the letter that a disk has."""
    with Chain(path) as chain:
        return chain.read(0, CLUSTER)[:1].decode().strip("\0")


class Room:
    """Two volumes of a running machine: "a" is in a layer of theirs, "b" was written afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machine = PaperMachine(folder / "machine")
        disks = self.open()
        self.machine.put({volume: disks.blank(volume, size=GIB) for volume in (ROOT, DATA)})
        self.machine.write("a")
        self.older = disks.freeze([ROOT, DATA], machine=self.machine.as_machine)
        self.machine.write("b")

    def open(self) -> Disks:
        return Disks(self.folder / "disks", reserve=0)


def killed_before(number: int, work: Callable[[], object], folder: Path) -> bool:
    """Do some work in a process that is killed before a file operation; whether it came to that."""
    child = os.fork()
    if child == 0:
        left = number

        def count(event: str, given: tuple[Any, ...]) -> None:
            nonlocal left
            if event in OPERATIONS and str(given[0]).startswith(str(folder)):
                if left == 0:
                    os._exit(KILLED)
                left -= 1

        sys.addaudithook(count)
        try:
            work()
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, KILLED}
    return code == KILLED


def _freeze(room: Room) -> None:
    room.open().freeze([ROOT, DATA], machine=room.machine.as_machine)


def _grow(room: Room) -> None:
    room.open().grow(DATA, size=2 * GIB, machine=room.machine.as_machine)


def _give_back(room: Room) -> None:
    room.open().remove_layer(room.older[ROOT])


def _copy_and_delete(room: Room) -> None:
    disks = room.open()
    disks.overlay("vol-0aaaaaaaaaaaaaaa3", layer=room.older[ROOT])
    disks.remove("vol-0aaaaaaaaaaaaaaa3")


def _take_up(room: Room) -> None:
    disks = room.open()
    disks.reconcile(room.machine.as_machine)


def _frozen_beside_the_machine(room: Room) -> None:
    room.open().freeze([ROOT, DATA])


def rooms(tmp_path: Path, work: Callable[[Room], None], before: Callable[[Room], None]) -> Iterator[Room]:
    """Give rooms in which some work was cut off, each one file operation later."""
    number, more = 0, True
    while more:
        folder = tmp_path / str(number)
        folder.mkdir()
        room = Room(folder)
        before(room)
        more = killed_before(number, lambda room=room: work(room), folder)  # type: ignore[misc]
        yield room
        number += 1
    assert number > 5, "the kill hit nothing"


def _nothing(_: Room) -> None:
    return


CASES: list[tuple[Callable[[Room], None], Callable[[Room], None]]] = [
    (work, _nothing) for work in (_freeze, _grow, _give_back, _copy_and_delete, _take_up)
]
CASES += [(_freeze, _frozen_beside_the_machine), (_take_up, _frozen_beside_the_machine)]


@pytest.mark.parametrize(("work", "before"), CASES)
def test_a_machine_that_dies_before_the_lab_is_back_has_lost_nothing(
    tmp_path: Path, work: Callable[[Room], None], before: Callable[[Room], None]
) -> None:
    for room in rooms(tmp_path, work, before):
        layers = {layer: read(layer.path) for layer in room.open().layers()} if before is _nothing else {}
        room.machine.write("c")
        again = room.open()
        assert [read(again.top(volume)) for volume in (ROOT, DATA)] == ["c", "c"]
        assert {layer: read(layer.path) for layer in layers} == layers, "a layer was written to"
        frozen = again.freeze([ROOT, DATA])
        assert [read(layer.path) for layer in frozen.values()] == ["c", "c"]


@pytest.mark.parametrize(("work", "before"), CASES)
def test_a_machine_that_is_taken_up_goes_on_in_its_files_and_can_be_frozen(
    tmp_path: Path, work: Callable[[Room], None], before: Callable[[Room], None]
) -> None:
    for room in rooms(tmp_path, work, before):
        room.machine.write("c")
        again = room.open()
        again.reconcile(room.machine.as_machine)
        assert room.machine.writing() == {volume: again.top(volume) for volume in (ROOT, DATA)}
        assert all(
            os.access(path, os.W_OK) and path.stat().st_mode & 0o200
            for path in room.machine.writing().values()
        )
        frozen = again.freeze([ROOT, DATA], machine=room.machine.as_machine)
        room.machine.write("d")
        assert [read(layer.path) for layer in frozen.values()] == ["c", "c"]
        assert [read(again.top(volume)) for volume in (ROOT, DATA)] == ["d", "d"]
        for layer in again.layers():
            again.remove_layer(layer)
        assert again.layers() == ()
        assert [read(again.top(volume)) for volume in (ROOT, DATA)] == ["d", "d"]


def test_every_layer_that_was_given_out_before_a_kill_keeps_its_bytes(tmp_path: Path) -> None:
    for room in rooms(tmp_path, _freeze, _nothing):
        again = room.open()
        again.reconcile(room.machine.as_machine)
        room.machine.write("c")
        assert {read(layer.path) for layer in again.layers()} <= {"a", "b"}
        assert {read(layer.path) for layer in room.older.values()} == {"a"}
        assert Layer(room.older[ROOT].path) in again.layers()
