"""Pooled volumes over the lives of machines and of the lab's process; QEMU's own driver writes, no guest does."""

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from drtest.errors import EnvironmentFailedError
from drtest.lab import pooled
from drtest.lab.accelerator import Accelerator
from drtest.lab.board import MachineDisk, MachineSpec
from drtest.lab.disks import Disks, Layer
from drtest.lab.machines import Machine
from drtest.lab.pool import Pool
from drtest.lab.pooled import Pools
from drtest.lab.qcow2 import Chain

ROOT, DATA = "vol-0aaaaaaaaaaaaaaa1", "vol-0aaaaaaaaaaaaaaa2"
MIB = 1024 * 1024
SIZE = 64 * MIB


@dataclass
class FakeMachine:
    """Writes as QEMU does, through the log, into the file that it was told to go on in."""

    spec: MachineSpec
    files: dict[str, Path] = field(default_factory=dict)
    before: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.files = {disk.volume: disk.path for disk in self.spec.disks}

    def switch(self, tops: Mapping[str, Path]) -> None:
        self.before()
        self.files |= tops

    def writing(self) -> dict[str, Path]:
        return dict(self.files)

    def write(self, *commands: str) -> None:
        """Carry out commands of qemu-io on the root."""
        (disk,) = (disk for disk in self.spec.disks if disk.volume == ROOT)
        assert disk.log is not None
        node = {
            "driver": "blklogwrites",
            "discard": "unmap",
            "log-append": True,
            "file": {
                "driver": "qcow2",
                "discard": "unmap",
                "file": {"driver": "file", "filename": str(self.files[ROOT])},
            },
            "log": {"driver": "file", "filename": str(disk.log)},
        }
        asked = [word for command in (*commands, "flush") for word in ("-c", command)]
        done = subprocess.run(
            ["qemu-io", *asked, f"json:{json.dumps(node)}"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr + done.stdout

    @property
    def as_machine(self) -> Machine:
        return cast("Machine", self)


@dataclass
class Site:
    """Two volumes of a machine, one of them pooled."""

    folder: Path
    strength: float = 0.0

    def __post_init__(self) -> None:
        self.disks = Disks(self.folder / "disks", reserve=0)
        for volume in (ROOT, DATA):
            self.disks.blank(volume, size=SIZE)
        self.pools = Pools(self.disks)
        self.machine = self.started()

    def started(self) -> FakeMachine:
        pools = {ROOT: Pool(strength=self.strength, seed="7"), DATA: None}
        disks = tuple(
            MachineDisk(device="", volume=volume, path=self.disks.top(volume), pool=pool)
            for volume, pool in pools.items()
        )
        spec = MachineSpec(
            id="i-0123456789abcdef0",
            memory=1,
            cpus=1,
            disks=disks,
            address="127.0.0.1",
            forwards=(),
            folder=self.folder / "machine",
            accelerator=Accelerator(name="tcg", reason=""),
        )
        return FakeMachine(self.pools.begin(spec))

    def freeze(self, *volumes: str) -> dict[str, Layer]:
        return self.pools.freeze(volumes or (ROOT,), machine=self.machine.as_machine)

    def snapshot(self) -> bytes:
        layer = self.freeze()[ROOT]
        self.pools.finish(layer)
        return read(layer)

    def truth(self) -> bytes:
        return read(Layer(self.machine.files[ROOT]))


def read(layer: Layer) -> bytes:
    with Chain(layer.path) as chain:
        return chain.read(0, SIZE)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def strong(tmp_path: Path) -> Site:
    return Site(tmp_path, strength=1.0)


def test_a_pool_without_strength_gives_the_true_bytes_at_each_snapshot(site: Site) -> None:
    site.machine.write("write -P 1 0 1M", "write -P 2 4096 8192", "discard 512k 256k")
    first = site.snapshot()
    assert first == site.truth()
    # QEMU forgets whole clusters only; what is written into one again is there.
    site.machine.write("discard 36k 200k", "write -P 5 520k 4k", "discard 4k 8k")
    assert site.snapshot() == site.truth()
    site.machine.write("write -P 3 1M 64k", "write -z 0 4096", "write -P 4 5632 512")
    assert site.snapshot() == site.truth() != first


def test_a_strong_pool_holds_back_what_came_last_and_leaves_the_machine_its_bytes(strong: Site) -> None:
    strong.machine.write("write -P 1 0 1M", "write -P 2 1M 4096")
    snapshot = strong.snapshot()
    assert snapshot[MIB : MIB + 4096] == bytes(4096)
    assert strong.truth()[MIB : MIB + 4096] == b"\2" * 4096
    strong.machine.write("write -P 3 2M 4096")
    assert strong.truth()[2 * MIB : 2 * MIB + 4096] == b"\3" * 4096


def test_only_the_pooled_volume_is_promised_and_others_are_frozen_as_ever(strong: Site) -> None:
    strong.machine.write("write -P 1 0 4096")
    layers = strong.freeze(ROOT, DATA)
    assert layers[DATA].path == strong.folder / "disks" / DATA / "1.qcow2"
    assert layers[ROOT].path.parent.name == f"{ROOT}~2"
    assert set(strong.disks.layers()) == set(layers.values()), "the true bytes are nobody's to have"


def test_writes_after_the_call_are_not_in_the_snapshot(site: Site) -> None:
    site.machine.write("write -P 1 0 4096")
    layer = site.freeze()[ROOT]
    site.machine.write("write -P 2 0 4096", "write -P 2 1M 4096")
    site.pools.finish(layer)
    assert read(layer)[:4096] == b"\1" * 4096
    assert read(layer)[MIB : MIB + 4096] == bytes(4096)


def test_whoever_takes_the_lab_up_finishes_what_was_promised(site: Site) -> None:
    site.machine.write("write -P 1 0 4096")
    layer = site.freeze()[ROOT]
    again = Pools(Disks(site.folder / "disks", reserve=0))
    again.finish(layer)
    assert read(layer)[:4096] == b"\1" * 4096
    site.machine.write("write -P 2 4096 4096")
    second = again.freeze([ROOT], machine=site.machine.as_machine)[ROOT]
    again.finish(second)
    assert read(second)[:8192] == b"\1" * 4096 + b"\2" * 4096


def test_a_promise_outlives_the_machine_its_log_and_its_volume(site: Site) -> None:
    site.machine.write("write -P 1 0 4096")
    layer = site.freeze()[ROOT]
    site.pools.end(site.machine.spec.folder)
    site.disks.remove(ROOT)
    site.pools.finish(layer)
    assert read(layer)[:4096] == b"\1" * 4096
    site.pools.remove_layer(layer)
    assert not list((site.folder / "disks").glob(f"{ROOT}*"))


def test_a_promise_that_is_given_back_leaves_nothing(site: Site) -> None:
    site.machine.write("write -P 1 0 4096")
    layer = site.freeze()[ROOT]
    site.pools.remove_layer(layer)
    site.pools.finish(layer)
    assert not layer.path.parent.exists()
    assert site.snapshot() == site.truth()


def test_a_freeze_that_fails_promises_nothing(site: Site) -> None:
    def refuse() -> None:
        raise EnvironmentFailedError("QEMU refused")

    site.machine.before = refuse
    with pytest.raises(EnvironmentFailedError, match="QEMU refused"):
        site.freeze()
    assert site.disks.layers() == ()
    assert [path.name for path in (site.folder / "disks").iterdir() if "~" in path.name] == []


def test_the_end_of_the_machine_drains_the_pool(strong: Site) -> None:
    strong.machine.write("write -P 1 0 1M")
    strong.pools.end(strong.machine.spec.folder)
    frozen = strong.pools.freeze([ROOT], machine=None)[ROOT]
    assert read(frozen)[:MIB] == b"\1" * MIB
    # What was drained stays so when it runs again; what is written then waits.
    strong.machine = strong.started()
    strong.machine.write("write -P 2 0 4096")
    assert strong.snapshot()[:MIB] == b"\1" * MIB


def test_each_start_has_waiting_times_and_a_log_of_its_own(strong: Site) -> None:
    strong.machine.write("write -P 1 0 4096")
    (first,) = pooled.pooled(strong.machine.spec.folder)
    assert first.log.stat().st_size
    strong.machine = strong.started()
    (second,) = pooled.pooled(strong.machine.spec.folder)
    assert first.pool.seed.startswith(f"7 {ROOT}")
    assert first.pool.seed != second.pool.seed
    assert second.log.stat().st_size == 0, "QEMU begins the log anew, and does not shorten it"


def test_a_log_that_has_grown_too_long_drains_its_pool_and_gives_its_room_back(
    strong: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooled, "LOG_LIMIT", MIB)
    strong.machine.write("write -P 1 0 2M")
    (before,) = pooled.pooled(strong.machine.spec.folder)
    promised = strong.freeze()[ROOT]
    strong.pools.bound(strong.machine.as_machine)
    assert list(pooled.pooled(strong.machine.spec.folder)) == [before], "a promise still needs the log"

    strong.pools.finish(promised)
    room = before.log.stat().st_blocks
    strong.pools.bound(strong.machine.as_machine)
    (after,) = pooled.pooled(strong.machine.spec.folder)
    assert after.start > before.start
    assert before.log.stat().st_blocks < room / 2
    strong.machine.write("write -P 2 4M 4096")
    snapshot = strong.snapshot()
    assert snapshot[: 2 * MIB] == b"\1" * 2 * MIB
    assert snapshot[4 * MIB : 4 * MIB + 4096] == bytes(4096)
    assert strong.truth()[4 * MIB : 4 * MIB + 4096] == b"\2" * 4096


def test_a_log_within_its_bounds_is_left_alone(site: Site) -> None:
    site.machine.write("write -P 1 0 2M")
    before = list(pooled.pooled(site.machine.spec.folder))
    site.pools.bound(site.machine.as_machine)
    assert list(pooled.pooled(site.machine.spec.folder)) == before


def test_a_machine_is_described_with_its_pool_to_whoever_adopts_it(strong: Site) -> None:
    again = MachineSpec.from_json(strong.machine.spec.to_json())
    assert again.disks == strong.machine.spec.disks
    assert again.disks[0].drive == f"{ROOT.replace('-', '')}.log"
    assert again.disks[1].drive == again.disks[1].node
