"""Bad days of guests: how each is arranged, many at once, and what its cells must come to."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.drill.kit.disks import Manners
from tests.drill.kit.world import Ran, World, scenario

Arrange = Callable[[World, str], None]


@dataclass(frozen=True, kw_only=True)
class Day:
    """A bad day.

    Attributes:
        arrange: makes it one, for a server of this name.
        root, data: the verdicts.
        says: in the reason of the root's cell.
        data_says: in the reason of the data volume's.
    """

    arrange: Arrange
    root: str
    data: str
    says: str = ""
    data_says: str = ""


def manners(role: str, **fields: Any) -> Arrange:
    """Give the guests of a role these manners."""

    def arrange(world: World, server: str) -> None:
        world.machines.manners[server, role] = Manners(**fields)

    return arrange


def says(role: str, probe: str, **fields: Any) -> Arrange:
    """Let a probe say something else."""
    return manners(role, says={probe: lambda data: {**data, **fields}})


def answers(role: str, program: str, output: bytes) -> Arrange:
    """Let a guest print this in place of an answer."""
    return manners(role, visits={program: lambda: output})


def raises(role: str, program: str, error: Exception) -> Arrange:
    """Let a visit end so."""

    def fail() -> bytes:
        raise error

    return manners(role, visits={program: fail})


def both(*arrange: Arrange) -> Arrange:
    """Arrange several things."""

    def all_of_them(world: World, server: str) -> None:
        for one in arrange:
            one(world, server)

    return all_of_them


def in_any_case(**fields: Any) -> Arrange:
    """Let the copy behave so whatever is attached to it."""

    def arrange(world: World, server: str) -> None:
        for role in ("copy", "copy with blanks"):
            manners(role, **fields)(world, server)

    return arrange


def crowd(
    world: World, days: dict[str, Day], *, server: dict[str, Any], deadlines: dict[str, str], **changes: Any
) -> Ran:
    """Run the drills of all days at once, each on a server like this one."""
    world.reset()
    for name, day in days.items():
        day.arrange(world, name)
    wanted = scenario(**changes, deadlines=deadlines, servers=[{**server, "name": name} for name in days])
    return world.run(wanted)


def judge(ran: Ran, name: str, day: Day) -> None:
    """See that the cells of a day came to what they must."""
    root, data = f"{name}/root/running/1", f"{name}/data/running/1"
    reasons = (ran.reason(root), ran.reason(data))
    assert (ran.verdicts[root], ran.verdicts[data]) == (day.root, day.data), reasons
    assert re.search(day.says, reasons[0])
    assert re.search(day.data_says, reasons[1])
    assert not [left for left in ran.results["leftovers"] if left["server"] == name]
