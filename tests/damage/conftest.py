"""The backups that the tests of this folder work on, made once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.damage.boots import disk_of_the_image
from tests.damage.catalogue import Material
from tests.damage.material import made


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Material]:
    with made(tmp_path_factory.mktemp("material")) as material:
        yield material


@pytest.fixture(scope="session")
def lab_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return disk_of_the_image(tmp_path_factory.mktemp("image"))
