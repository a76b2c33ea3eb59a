"""Each piece of damage that has a name gives the verdict that it names."""

from pathlib import Path

import pytest

from drtest.words import Verdict
from tests.damage.boots import BOOTS, Boot, booted
from tests.damage.catalogue import Damage, Material
from tests.damage.material import CATALOGUE, suffer


@pytest.mark.parametrize("damage", CATALOGUE, ids=lambda damage: damage.name.replace(" ", "-"))
def test_damage_gives_the_verdict_that_it_names(damage: Damage, material: Material, tmp_path: Path) -> None:
    judgement = suffer(damage, material, tmp_path)
    assert judgement.verdict is damage.gives, f"{damage.sentence} {judgement.reason}"


@pytest.mark.lab
@pytest.mark.parametrize("boot", BOOTS, ids=lambda boot: boot.name.replace(" ", "-"))
def test_damage_that_a_boot_shows_gives_the_verdict_that_it_names(
    boot: Boot, lab_disk: Path, tmp_path: Path
) -> None:
    judgement = booted(boot, lab_disk, tmp_path / "boot")
    assert judgement.verdict is boot.gives, f"{boot.sentence} {judgement.reason}"


def test_the_catalogue_has_its_names_once_a_sentence_each_and_what_is_no_damage() -> None:
    every: tuple[Damage | Boot, ...] = (*CATALOGUE, *BOOTS)
    names = [each.name for each in every]
    assert len(set(names)) == len(names) >= 25
    assert all(each.sentence.endswith(".") for each in every)
    assert {each.gives for each in CATALOGUE} == {
        Verdict.CONSISTENT,
        Verdict.RECOVERED,
        Verdict.INCONSISTENT,
        Verdict.INCONCLUSIVE,
    }
