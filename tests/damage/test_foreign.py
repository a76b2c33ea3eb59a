"""Images of damage that nobody here made give the verdict that their makers' checkers give them."""

from pathlib import Path

import pytest

from drtest.words import Verdict
from tests.damage.foreign import FOLDER, FOREIGN, Foreign


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda foreign: foreign.name.replace(" ", "-"))
def test_an_image_gives_the_verdict_of_its_makers(foreign: Foreign, tmp_path: Path) -> None:
    checked = foreign.checked(tmp_path)
    assert checked.verdict is foreign.gives, f"{foreign.sentence}: {checked.reason}"


def test_all_images_have_their_line_and_some_of_them_no_damage() -> None:
    there = {path.relative_to(FOLDER).as_posix() for path in FOLDER.glob("*/*")}
    assert {foreign.file for foreign in FOREIGN} == there
    assert len(there) == len(FOREIGN)
    assert {foreign.gives for foreign in FOREIGN} == set(Verdict) - {Verdict.UNBOOTABLE, Verdict.UNREACHABLE}
