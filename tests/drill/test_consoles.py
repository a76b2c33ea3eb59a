"""While a server boots, its console ends the wait for it only where what it shows is followed by no login."""

import pytest

from drtest.drill import boot
from drtest.verdict.console import Kind


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        ("Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)", {Kind.ROOT}),
        ("You are in emergency mode. After logging in, type journalctl -xb", {Kind.SYSTEM}),
        ("Boot failed: could not read the boot disk", set()),
        ("BusyBox v1.35.0 (Debian 1:1.35.0-4+b3) built-in shell (ash)", set()),
        ("dracut-initqueue[312]: Warning: dracut-initqueue timeout - starting timeout scripts", set()),
    ],
)
def test_a_loose_word_ends_no_wait_and_stays_in_the_evidence(line: str, kinds: set[Kind]) -> None:
    hopeless_from: dict[Kind, float] = {}
    boot._watch(f"Linux version 6.1.0\n{line}\n", hopeless_from)
    assert set(hopeless_from) == kinds
    assert line in [match["line"] for match in boot.matches(line)]
