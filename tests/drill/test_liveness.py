"""A run is at work for as long as its process lives, however that ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drtest.drill.liveness import alive, at_work

PROGRAM = """
import sys, time
from drtest.drill.liveness import alive
with alive(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_a_run_is_at_work_while_it_holds_its_lock() -> None:
    assert not at_work("r1")
    with alive("r1"):
        assert at_work("r1")
        assert not at_work("r2")
    assert not at_work("r1")


def test_a_killed_run_is_not_at_work() -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, "r1"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    assert at_work("r1")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not at_work("r1")
