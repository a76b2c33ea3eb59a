"""What a person sees while work goes on: live on a terminal, plain lines elsewhere; never in the way of the output."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drtest.drill.site import Progress
    from drtest.scenario.plan import Cell
    from drtest.verdict.evidence import Judgement

STYLES = {
    "CONSISTENT": "green",
    "RECOVERED": "cyan",
    "INCONSISTENT": "bold red",
    "UNBOOTABLE": "bold red",
    "UNREACHABLE": "yellow",
    "INCONCLUSIVE": "yellow",
}


def colours(stream: Any = None) -> bool:
    """Whether to colour: only on a terminal, and never where NO_COLOR is set (no-color.org)."""
    stream = stream or sys.stdout
    return bool(stream.isatty()) and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


@contextmanager
def lab_progress() -> Iterator[Callable[[str, float], None]]:
    """Shows how far the lab's coming up is: a bar on a terminal, a line a stage elsewhere."""
    if not sys.stderr.isatty():
        last = [""]

        def line(stage: str, part: float) -> None:
            if stage != last[0]:
                last[0] = stage
                print(f"lab: {stage} ({part:.0%})", file=sys.stderr, flush=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("lab"),
        BarColumn(bar_width=30),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        task = bars.add_task("", total=1.0)
        yield lambda stage, part: bars.update(task, description=stage, completed=part)


class RunDisplay:
    """A run's progress: one line a drill, live on a terminal; a line an event elsewhere.

    Args:
        drills: (scenario, server) of each drill, in the order of the report.
        cells: all cells.
    """

    def __init__(self, drills: Sequence[tuple[str, str]], *, cells: Sequence["Cell"]) -> None:
        self._begun = time.monotonic()
        self._stages: dict[tuple[str, str], tuple[str, str, float]] = {}
        self._verdicts: dict[tuple[str, str], list[tuple[str, str]]] = {drill: [] for drill in drills}
        self._open = {drill: sum((cell.scenario, cell.server) == drill for cell in cells) for drill in drills}
        self._lock = threading.Lock()
        self._live: Any = None
        self._note = ""

    def __enter__(self) -> "RunDisplay":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                get_renderable=self._table, console=Console(stderr=True), refresh_per_second=4, transient=True
            )
            self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)

    def progress(self, seen: "Progress") -> None:
        """A drill is at another stage."""
        with self._lock:
            self._stages[seen.scenario, seen.server] = (seen.stage, seen.detail, time.monotonic())
        self._line(f"{seen.server}: {seen.stage}{f': {seen.detail}' if seen.detail else ''}")

    def judged(self, cell: "Cell", judgement: "Judgement") -> None:
        """A cell has its verdict."""
        with self._lock:
            mark = "" if judgement.met else " (not as expected)"
            self._verdicts.setdefault((cell.scenario, cell.server), []).append(
                (cell.id, str(judgement.verdict))
            )
        self._line(f"{cell.id}: {judgement.verdict}{mark}: {judgement.reason}")

    def note(self, text: str) -> None:
        """Something that is not of one drill, as the clean-up after Ctrl-C."""
        self._note = text
        self._line(text)

    def lab(self, stage: str, part: float) -> None:
        """The lab is coming up."""
        text = f"lab: {stage}" if part >= 1 else f"lab: {stage} ({part:.0%})"
        if stage not in self._note:
            self.note(text)
        else:
            self._note = text

    def _line(self, text: str) -> None:
        if self._live is None:
            # One write a line: drills tell from threads of their own.
            sys.stderr.write(f"[{_clock(time.monotonic() - self._begun)}] {text}\n")
            sys.stderr.flush()

    def _table(self) -> Any:
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        now = time.monotonic()
        with self._lock:
            for drill, verdicts in self._verdicts.items():
                stage, detail, since = self._stages.get(drill, ("waiting", "", self._begun))
                done = Text(f"{len(verdicts)}/{self._open.get(drill, 0)} cells ")
                for _, verdict in verdicts:
                    done.append("■", style=STYLES[verdict])
                table.add_row(
                    Text(drill[1], style="bold"),
                    stage,
                    Text(detail, style="dim"),
                    f"{_clock(now - since)}",
                    done,
                )
        head = Spinner(
            "dots",
            text=Text(f"drtest {_clock(now - self._begun)}  {self._note}", no_wrap=True, overflow="ellipsis"),
        )
        return Group(head, table)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
