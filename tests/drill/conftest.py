"""Fixtures of the drill's tests: one world for all of a module, in fine weather at the begin of each."""

from collections.abc import Iterator

import pytest

from tests.drill.kit.world import World, open_world, patched


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, open_world(tmp_path_factory.mktemp("world")) as opened:
        patched(patch, opened)
        yield opened


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    shared.reset()
    yield shared
    shared.reset()
