"""A whole drill without machines, on a day when all goes well: what the bad days are measured against."""

from drtest.drill.engine import Engine
from drtest.record import journal
from tests.drill.kit.world import World, scenario


def test_it_ends_usable_and_leaves_nothing(world: World) -> None:
    ran = world.run(scenario(captures=["running", "stopped"]), engine=Engine)
    assert ran.verdicts == {
        "lin/root/running/1": "RECOVERED",
        "lin/root/stopped/1": "CONSISTENT",
        "lin/data/running/1": "RECOVERED",
        "lin/data/stopped/1": "CONSISTENT",
    }
    assert ran.code == 0
    assert {cell["assurance"] for cell in ran.results["cells"]} == {"canary"}
    assert journal.verify(ran.folder.path / "evidence.jsonl").broken_at is None
    assert ran.leftovers == set()
    assert world.left() == []
