"""Fixtures of the drill's tests: one world for all of a module, in fine weather at the begin of each."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drill.kit.opening import open_world, patched
from tests.drill.kit.world import World


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    # In memory where there is some: on a disk that others use too, each fsync takes longer than a call.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(prefix="drtest-world-", dir=memory) as folder,
        pytest.MonkeyPatch.context() as patch,
        open_world(Path(folder)) as opened,
    ):
        patched(patch, opened)
        yield opened


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    shared.reset()
    yield shared
    shared.reset()
