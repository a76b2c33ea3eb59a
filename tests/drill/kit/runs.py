"""Runs from the shell's door on a lab of their own, with real machines."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 1200
"""Seconds after which a run hangs, on whatever machine."""


@contextmanager
def lab_of_its_own(folder: Path) -> Iterator[dict[str, str]]:
    """The environment of commands that share a lab; whatever happens, none of its machines is left."""
    environment = {**os.environ, "DRTEST_LAB_DIR": str(folder)}
    try:
        yield environment
    finally:
        drtest("lab", "down", environment=environment)
    assert machines(folder) == []


def drtest(*words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", "drtest.cli", *words]
    return subprocess.run(
        command, check=False, env=environment, capture_output=True, text=True, timeout=LONGEST
    )


def machines(folder: Path) -> list[int]:
    """Ids of the QEMU processes that work in a lab's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"qemu-system" in words[0] and any(str(folder).encode() in word for word in words):
            found.append(int(entry.parent.name))
    return found


def verdicts(out: Path) -> dict[str, str]:
    """Each cell's verdict, as a run's folder has it."""
    results = json.loads((out / "results.json").read_text())
    return {cell["id"]: cell["verdict"] for cell in results["cells"]}
