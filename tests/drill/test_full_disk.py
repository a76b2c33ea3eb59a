"""A disk under the runner that is really full: a small one, filled up as a drill makes one of its calls.

Evidence, ledger, acknowledgements, the engine's state and the results meet it wherever they happen to write next.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drtest.cli import main
from drtest.drill.run import Run
from tests.drill.kit.plain import PlainEngine
from tests.drill.kit.selected import marks, server
from tests.drill.kit.world import World
from tests.guest.images import root

TEXT = """\
drill: full-disk
title: Does a drill survive a full disk?
servers:
  - name: web
    os: linux
    select: {tags: {Name: NAME}, volumes: {data: {device: /dev/sdf}}}
    may_stop: true
    may_write: true
load: {canary: {rate: 40/s}, for: 1s}
captures: [stopped]
volumes: [root]
deadlines: {boot: 30s, checks: 30s}
"""
CALLS = (
    "DescribeSubnets",
    "StopInstances",
    "CreateSnapshots",
    "CreateVolume",
    "TerminateInstances",
    "DeleteSnapshot",
)
"""Calls of a drill in about the order in which it makes them."""
SIZE = "8m"
Note = Callable[[str, object], None]


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of its own, of a few megabytes."""
    folder.mkdir()
    root("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0777", "tmpfs", folder)
    try:
        yield folder
    finally:
        root("umount", "-l", folder)


def fill(folder: Path) -> None:
    """Leave no room on a disk."""
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without DBOS: its start and its end take seconds."""
    monkeypatch.setitem(Run.__init__.__kwdefaults__ or {}, "engine", PlainEngine)


def run_until_full(call: str, world: World, folder: Path) -> int:
    """A run from the shell's door whose disk is full from a call on: its exit code; nothing of it may be left."""
    name = f"full-at-{call}"
    instance = server(world, name)
    file = folder / "full-disk.drill.yaml"
    file.write_text(TEXT.replace("NAME", name))
    with small_disk(folder / "disk") as disk:
        world.weather.at[call] = lambda: fill(disk)
        where = ["--target", "world", "--config", str(world.config), "--out", str(disk / "out")]
        code = main(["run", *where, str(file)])
        assert (disk / "filler").exists(), "the call was made"
    assert world.left() == []
    assert world.state(instance) == "running"
    assert marks(world, instance) == {}
    world.client.terminate_instances(InstanceIds=[instance])
    return code


def assert_told(code: int, said: str, note: Note) -> None:
    note("exit", code)
    note("said", " ".join(said.partition("drtest: ")[2].split()))
    assert code == 3, said
    assert "No space left on device" in said
    assert "Free some disk space" in said or "Make room" in said
    assert "Traceback" not in said


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("call", CALLS)
def test_a_disk_that_is_full_from_a_call_on_ends_the_run_with_all_clean_and_says_what_to_do(
    call: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], record_property: Note
) -> None:
    code = run_until_full(call, world, tmp_path)
    assert_told(code, "".join(capsys.readouterr()), record_property)


DURABLE = """
import sys
from pathlib import Path
import pytest
from tests.drill.kit.opening import open_world, patched
from tests.drill.test_full_disk import run_until_full

folder = Path(sys.argv[1])
with open_world(folder) as world, pytest.MonkeyPatch.context() as patch:
    patched(patch, world)
    code = run_until_full("CreateVolume", world, folder)
sys.exit(code)
"""


def test_an_engine_whose_state_finds_no_room_ends_the_run_with_all_clean_and_says_what_to_do(
    tmp_path: Path, record_property: Note
) -> None:
    # In a process of its own: DBOS keeps hold of the streams that it was started with.
    words = [sys.executable, "-c", DURABLE, str(tmp_path)]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=200)
    assert_told(done.returncode, done.stdout + done.stderr, record_property)
