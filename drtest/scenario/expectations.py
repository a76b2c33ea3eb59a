"""Rules for what a scenario expects: each entry speaks of cells that exist, and gets its turn."""

from collections.abc import Iterator
from itertools import product

from drtest.scenario.model import Expectation, judged_volumes
from drtest.scenario.sketch import Problem, Sketch
from drtest.scenario.spelling import meant, quoted
from drtest.words import ROOT, Capture

MOST_CELLS = 10_000


def expectations(sketch: Sketch) -> Iterator[Problem]:
    """Expectations that match no cell, never get their turn, or can't be met."""
    known = [(index, entry) for index, entry in enumerate(sketch.expect) if entry is not None]
    misnamed = [
        problem
        for index, entry in enumerate(sketch.axes)
        if entry is not None
        for problem in _axes(sketch, index, entry)
    ]
    yield from misnamed
    whole = None not in (*sketch.servers, *sketch.captures, *sketch.volumes) and sketch.trials is not None
    if whole and sketch.servers and sketch.captures:
        skip = {problem.path[1] for problem in misnamed}
        yield from _order(sketch, [(index, entry) for index, entry in known if index not in skip])


def _axes(sketch: Sketch, index: int, entry: Expectation) -> Iterator[Problem]:
    servers = [server for _, server in sketch.known_servers]
    names = [name for name in sketch.names if name is not None]
    if entry.server is not None and None not in sketch.names and entry.server not in names:
        yield Problem(
            path=("expect", index, "server"),
            message=f"no server is called {quoted(entry.server)}; {meant(entry.server, names)}",
        )
    if entry.volume is not None and len(servers) == len(sketch.servers) and None not in sketch.volumes:
        judged = dict.fromkeys(name for server in servers for name in judged_volumes(server, sketch.volumes))
        if entry.volume not in judged:
            yield Problem(
                path=("expect", index, "volume"),
                message=f"no volume {quoted(entry.volume)} is judged; {meant(entry.volume, tuple(judged))}",
            )
        elif entry.verdict == "UNBOOTABLE" and entry.volume != ROOT:
            yield Problem(
                path=("expect", index, "verdict"),
                message="only root can be UNBOOTABLE; write INCONSISTENT, or unusable for either",
            )
    if entry.capture is not None and None not in sketch.captures and entry.capture not in sketch.captures:
        captures = [str(capture) for _, capture in sketch.known_captures]
        yield Problem(
            path=("expect", index, "capture"),
            message=f"{entry.capture} is not among the captures; {meant(entry.capture, captures)}",
        )
    if entry.trial is not None and sketch.trials is not None and entry.trial > sketch.trials:
        yield Problem(
            path=("expect", index, "trial"),
            message=f"there is no trial {entry.trial}; trials is {sketch.trials}",
        )


def _order(sketch: Sketch, known: list[tuple[int, Expectation]]) -> Iterator[Problem]:
    rows = [
        (server.name, volume, capture)
        for _, server in sketch.known_servers
        for volume in judged_volumes(server, sketch.volumes)
        for _, capture in sketch.known_captures
    ]
    trials = sketch.trials or 1
    if len(rows) * trials > MOST_CELLS:
        yield Problem(
            path=("trials",),
            message=f"that makes {len(rows) * trials} cells, and {MOST_CELLS} is the most; "
            "split the scenario",
        )
        return
    taken: dict[tuple[str, str, Capture, int], int] = {}
    cells = [(*row, trial) for row, trial in product(rows, range(1, trials + 1))]
    for index, entry in known:
        mine = [
            (server, volume, capture, trial)
            for server, volume, capture, trial in cells
            if entry.matches(server=server, volume=volume, capture=capture, trial=trial)
        ]
        earlier = [taken[cell] for cell in mine if cell in taken]
        if not mine:
            yield Problem(
                path=("expect", index), message="this expectation matches no cell; mend it, or take it out"
            )
        elif len(earlier) == len(mine):
            yield Problem(
                path=("expect", index),
                message="this expectation is never reached, since its cells are all taken by an earlier one; "
                "move it up, or take it out",
                also=("expect", min(earlier)),
            )
        for cell in mine:
            taken.setdefault(cell, index)
