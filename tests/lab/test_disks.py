import errno
import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from drtest.errors import DeadlineError, EnvironmentFailedError
from drtest.lab.disks import GIB, Disks, Layer
from drtest.lab.machines import Machine
from drtest.lab.overlay import write_overlay
from drtest.lab.qmp import CommandError

pytestmark = pytest.mark.lab
MIB = 1024**2
ROOT, DATA = "vol-0aaaaaaaaaaaaaaa1", "vol-0aaaaaaaaaaaaaaa2"


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    return Disks(tmp_path / "disks", reserve=0)


def write(path: Path, letter: str, *, at: int = 0) -> None:
    """Write a block of one letter into a qcow2 file, as a machine would."""
    subprocess.run(
        ["qemu-io", "-c", f"write -P {ord(letter)} {at} 4096", str(path)], check=True, capture_output=True
    )


def read(path: Path, *, at: int = 0) -> str:
    """Read what a disk has at a place: a letter, or nothing where nothing was written."""
    for letter in "abcdefgh":
        asked = ["qemu-io", "-r", "-c", f"read -P {ord(letter)} {at} 4096", str(path)]
        done = subprocess.run(asked, check=False, capture_output=True, text=True)
        if done.returncode == 0 and "Pattern verification failed" not in done.stdout:
            return letter
    return ""


class FakeMachine:
    """A running machine that goes on in other files if it is told to."""

    def __init__(self, disks: Disks, *volumes: str) -> None:
        self.files = {volume: disks.top(volume) for volume in volumes}
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.mute = False

    def switch(self, tops: Mapping[str, Path]) -> None:
        self.before()
        for volume, path in tops.items():
            assert path.exists()
            self.files[volume] = path
        self.after()

    def writing(self) -> dict[str, Path]:
        if self.mute:
            raise EnvironmentFailedError("the machine does not answer")
        return dict(self.files)

    @property
    def as_machine(self) -> Machine:
        return cast(Machine, self)


def test_a_blank_volume_has_the_size_that_was_asked_for(disks: Disks) -> None:
    path = disks.blank(DATA, size=3 * GIB)
    assert disks.top(DATA) == path
    assert disks.size(DATA) == 3 * GIB
    assert path.stat().st_size < MIB
    assert disks.volumes() == (DATA,)


def test_an_overlay_begins_as_its_layer_and_leaves_that_alone(disks: Disks) -> None:
    write(disks.blank(ROOT, size=GIB), "a")
    layer = disks.freeze([ROOT])[ROOT]
    path = disks.overlay(DATA, layer=layer, size=2 * GIB)
    assert disks.size(DATA) == 2 * GIB
    assert read(path) == "a"
    write(path, "b")
    assert (read(path), read(layer.path)) == ("b", "a")


def test_an_overlay_is_as_large_as_its_layer_if_nothing_is_said(disks: Disks) -> None:
    disks.blank(ROOT, size=GIB)
    layer = disks.freeze([ROOT])[ROOT]
    assert layer.size == GIB
    disks.overlay(DATA, layer=layer)
    assert disks.size(DATA) == GIB


@pytest.mark.parametrize("size", [MIB, GIB, 1000 * GIB, 16 * 1024 * GIB])
def test_disks_of_any_size_are_whole_to_qemu(disks: Disks, size: int) -> None:
    disks.blank(ROOT, size=size)
    layer = disks.freeze([ROOT])[ROOT]
    tops = [layer.path, disks.top(ROOT), disks.overlay(DATA, layer=layer, size=size + MIB)]
    for path in tops:
        if path != layer.path:
            write(path, "a", at=size - MIB // 2)
        check = subprocess.run(
            ["qemu-img", "check", "-q", str(path)], check=False, capture_output=True, text=True
        )
        assert check.returncode == 0, check.stdout + check.stderr
        asked = ["qemu-img", "info", "--output=json", str(path)]
        told = json.loads(subprocess.run(asked, check=True, capture_output=True).stdout)
        assert told["virtual-size"] == disks.size(DATA if DATA in path.parts else ROOT)
        assert told.get("backing-filename-format") == (None if path == layer.path else "qcow2")
        assert told["cluster-size"] == 65536
        assert told["actual-size"] < 2 * MIB


def test_a_volume_smaller_than_its_layer_is_refused(disks: Disks) -> None:
    disks.blank(ROOT, size=2 * GIB)
    layer = disks.freeze([ROOT])[ROOT]
    with pytest.raises(EnvironmentFailedError, match="begins as a layer of"):
        disks.overlay(DATA, layer=layer, size=GIB)
    assert disks.volumes() == (ROOT,)


def test_a_volume_cannot_be_made_twice(disks: Disks) -> None:
    write(disks.blank(DATA, size=GIB), "a")
    with pytest.raises(EnvironmentFailedError, match="already"):
        disks.blank(DATA, size=GIB)
    assert read(disks.top(DATA)) == "a"


def test_a_layer_keeps_what_the_volume_had_while_the_volume_goes_on(disks: Disks) -> None:
    disks.blank(DATA, size=GIB)
    layers = []
    for letter in "abc":
        write(disks.top(DATA), letter)
        layers.append(disks.freeze([DATA])[DATA])
    write(disks.top(DATA), "d")
    assert [read(layer.path) for layer in layers] == ["a", "b", "c"]
    assert read(disks.top(DATA)) == "d"
    assert disks.layers() == tuple(layers)
    assert all(layer.path.stat().st_mode & 0o222 == 0 for layer in layers)


def test_a_freeze_is_of_all_volumes_or_of_none(disks: Disks) -> None:
    before = disks.blank(ROOT, size=GIB)
    with pytest.raises(EnvironmentFailedError, match=DATA):
        disks.freeze([ROOT, DATA])
    assert disks.top(ROOT) == before
    assert disks.layers() == ()


def test_a_freeze_that_fails_in_the_middle_changes_nothing(
    disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {volume: disks.blank(volume, size=GIB) for volume in (ROOT, DATA)}
    real = write_overlay

    def write_some(path: Path, **given: Any) -> None:
        if DATA in path.parts:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, **given)

    monkeypatch.setattr("drtest.lab.disks.write_overlay", write_some)
    with pytest.raises(EnvironmentFailedError, match="No space left"):
        disks.freeze([ROOT, DATA])
    assert {volume: disks.top(volume) for volume in before} == before
    assert disks.layers() == ()
    assert not [path for volume in before for path in disks.top(volume).parent.glob(".*")]


def test_a_layer_outlives_its_volume(disks: Disks) -> None:
    write(disks.blank(ROOT, size=GIB), "a")
    layer = disks.freeze([ROOT])[ROOT]
    disks.remove(ROOT)
    assert disks.volumes() == ()
    assert read(layer.path) == "a"
    with pytest.raises(EnvironmentFailedError):
        disks.top(ROOT)


def test_what_is_built_on_a_layer_outlives_that_it_was_given_back(disks: Disks) -> None:
    write(disks.blank(ROOT, size=GIB), "a")
    layer = disks.freeze([ROOT])[ROOT]
    disks.overlay(DATA, layer=layer)
    disks.remove(ROOT)
    disks.remove_layer(layer)
    assert disks.layers() == ()
    assert read(disks.top(DATA)) == "a"


def test_bytes_that_nobody_needs_are_gone(disks: Disks, tmp_path: Path) -> None:
    disks.blank(ROOT, size=GIB)
    lower, upper = (disks.freeze([ROOT])[ROOT] for _ in range(2))
    disks.overlay(DATA, layer=upper)
    for layer in (lower, upper):
        disks.remove_layer(layer)
        disks.remove_layer(layer)
    disks.remove(ROOT)
    assert lower.path.exists()
    disks.remove(DATA)
    disks.remove(DATA)
    assert list((tmp_path / "disks").iterdir()) == []


def test_a_layer_of_an_image_is_left_alone(disks: Disks, tmp_path: Path) -> None:
    image = tmp_path / "cache" / "linux" / "disk.qcow2"
    image.parent.mkdir(parents=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "1G"], check=True)
    disks.overlay(ROOT, layer=Layer(image))
    disks.remove(ROOT)
    disks.remove_layer(Layer(image))
    assert image.exists()


def test_all_is_known_again_after_a_restart(disks: Disks, tmp_path: Path) -> None:
    disks.blank(ROOT, size=GIB)
    disks.blank(DATA, size=GIB)
    layer = disks.freeze([ROOT])[ROOT]
    write(disks.top(ROOT), "b")
    disks.remove(DATA)
    again = Disks(tmp_path / "disks", reserve=0)
    assert again.volumes() == (ROOT,)
    assert again.layers() == (layer,)
    assert read(again.top(ROOT)) == "b"


def test_what_a_killed_lab_left_half_made_is_gone_after_a_restart(disks: Disks, tmp_path: Path) -> None:
    top = disks.blank(ROOT, size=GIB)
    (top.parent / ".2.qcow2.new").write_bytes(b"half")
    disks.blank(DATA, size=GIB)
    (tmp_path / "disks" / DATA / "live").unlink()  # killed in the middle of remove
    again = Disks(tmp_path / "disks", reserve=0)
    assert again.volumes() == (ROOT,)
    assert again.top(ROOT) == top
    assert sorted(path.name for path in (tmp_path / "disks").rglob("*")) == ["1.qcow2", "live", ROOT]


def test_a_disk_that_is_nearly_full_is_kept_from_filling_up(disks: Disks, tmp_path: Path) -> None:
    disks.blank(ROOT, size=GIB)
    layer = disks.freeze([ROOT])[ROOT]
    full = Disks(tmp_path / "disks", reserve=2**60)
    for attempt in (
        lambda: full.blank(DATA, size=GIB),
        lambda: full.overlay(DATA, layer=layer),
        lambda: full.freeze([ROOT]),
    ):
        with pytest.raises(EnvironmentFailedError, match="must stay free"):
            attempt()
    assert full.volumes() == (ROOT,)
    full.remove_layer(layer)


def test_a_file_that_is_no_qcow2_is_named(disks: Disks, tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(512))
    with pytest.raises(EnvironmentFailedError, match=r"disk\.img is not a qcow2 file"):
        disks.overlay(ROOT, layer=Layer(tmp_path / "disk.img"))


def test_a_running_machine_goes_on_in_the_new_files(disks: Disks) -> None:
    before = {volume: disks.blank(volume, size=GIB) for volume in (ROOT, DATA)}
    machine = FakeMachine(disks, ROOT, DATA)
    layers = disks.freeze([ROOT, DATA], machine=machine.as_machine)
    assert {volume: layer.path for volume, layer in layers.items()} == before
    assert machine.files == {volume: disks.top(volume) for volume in before}


def test_a_machine_that_refuses_leaves_all_as_it_was(disks: Disks) -> None:
    before = disks.blank(ROOT, size=GIB)
    machine = FakeMachine(disks, ROOT)

    def refuse() -> None:
        raise CommandError("no", kind="GenericError")

    machine.before = refuse
    with pytest.raises(CommandError):
        disks.freeze([ROOT], machine=machine.as_machine)
    assert disks.top(ROOT) == before == machine.files[ROOT]
    assert disks.layers() == ()


def test_an_answer_that_got_lost_loses_no_write(disks: Disks) -> None:
    write(disks.blank(ROOT, size=GIB), "a")
    machine = FakeMachine(disks, ROOT)

    def lose() -> None:
        machine.mute = True
        raise DeadlineError("no answer")

    machine.after = lose
    with pytest.raises(DeadlineError):
        disks.freeze([ROOT], machine=machine.as_machine)
    assert disks.top(ROOT) == machine.files[ROOT]
    assert disks.layers() == ()
    write(machine.files[ROOT], "b")
    machine.mute, machine.after = False, lambda: None
    layer = disks.freeze([ROOT], machine=machine.as_machine)[ROOT]
    assert read(layer.path) == "b"


def test_a_freeze_that_a_kill_cut_off_before_the_machine_knew_is_undone(disks: Disks, tmp_path: Path) -> None:
    written = disks.blank(ROOT, size=GIB)
    machine = FakeMachine(disks, ROOT)
    disks.freeze([ROOT])  # without telling the machine, as if killed on the way to it
    again = Disks(tmp_path / "disks", reserve=0)
    assert again.top(ROOT) != written
    again.reconcile(machine.as_machine)
    assert again.top(ROOT) == written
    assert again.layers() == ()
