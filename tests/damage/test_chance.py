"""Damage that nobody has thought of: whatever is drawn, what has lost something acknowledged is never called usable."""

import random
from pathlib import Path

import pytest

from tests.damage.catalogue import Material
from tests.damage.chance import Case, Chance, lost_writes
from tests.damage.store import Write

DRAWS = 6


def _tell(case: Case, folder: Path) -> str:
    lost = f"records {case.truth.records[:5]}…, files {case.truth.files[:5]}…, mounts {case.truth.mounts}"
    return f"{case.what}: lost {lost}, and judged {case.judgement.verdict}: {case.judgement.reason}; see {folder}"


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
@pytest.mark.parametrize("volume", ["root", "data", "more"])
def test_no_loss_of_what_was_acknowledged_is_called_usable(
    material: Material, tmp_path: Path, volume: str, stopped: bool
) -> None:
    chance = Chance(material.stopped if stopped else material.running, volume, tmp_path)
    cases = [chance.draw(seed) for seed in range(DRAWS)]
    assert [_tell(case, tmp_path) for case in cases if case.missed] == []
    # All draws damaged the bytes; that some of them hit what was acknowledged shows that this test can fail.
    assert stopped or any(case.truth.lost for case in cases)


def test_lost_writes_keep_their_order_and_what_came_before() -> None:
    writes = [
        Write(offset=4096 * (number % 7), data=bytes([number]), flush=number % 2 == 0)
        for number in range(100)
    ]
    for seed in range(50):
        kept, what = lost_writes(writes, random.Random(seed))
        assert kept[:25] == writes[:25]
        assert [one.data[0] for one in kept] == sorted(one.data[0] for one in kept)
        assert str(len(writes)) in what or "lost" in what
