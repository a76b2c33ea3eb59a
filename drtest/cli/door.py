"""What stands in `drtest run` where pytest's own terminal output would be."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from drtest.cli.terminal import RunDisplay, colours
from drtest.plugin import RUN, CellItem, Session


class Door:
    """Shows the drills while they run, and what came of them.

    Args:
        as_json: whether to print results.json instead of a table.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._session: Session | None = None
        self._display: Any = None
        self._errors: list[str] = []
        self._unwritten = ""
        self._items = 0

    @property
    def _folder(self) -> Path | None:
        return self._session.folder if self._session else None

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A scenario that can't be collected."""
        if report.failed:
            self._errors.append(str(report.longrepr))

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Take pytest's own terminal output away."""
        reporter = config.pluginmanager.getplugin("terminalreporter")
        config.pluginmanager.unregister(reporter)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Begin to show the drills that will run."""
        cells = [item.cell for item in session.items if isinstance(item, CellItem)]
        self._items = len(cells)
        self._session = session.config.stash[RUN]
        drills = list(dict.fromkeys((cell.scenario, cell.server) for cell in cells))
        self._display = RunDisplay(drills, cells=cells)
        self._session.on_progress = self._display.progress
        self._session.on_judged = self._display.judged
        self._session.on_lab = self._display.lab
        self._session.on_stop = self._display.note
        self._display.__enter__()

    def unwritten(self, error: OSError, out: Path) -> int:
        """Take note of a page that could not be written, and give pytest's exit code in its place."""
        what = error.filename or f"what belongs into {out}"
        self._unwritten = f"{what} could not be written: {error.strerror}\n  Free some disk space."
        return int(pytest.ExitCode.INTERNAL_ERROR)

    def close(self, code: int) -> int:
        """Show what came of it, and give the exit code of the design for pytest's."""
        from drtest.record.results import exit_code
        from drtest.report.matrix import summary, terminal

        if self._display is not None:
            self._display.__exit__(None, None, None)
        for error in filter(None, [*self._errors, self._unwritten]):
            print(f"drtest: {error}", file=sys.stderr)
        if self._session is not None and self._session.failure is not None:
            print(f"drtest: {self._session.failure}", file=sys.stderr)
        folder = self._folder
        if folder is None or not (folder / "results.json").exists():
            if not self._items and not self._errors:
                print("drtest: no cell matches; nothing was run.", file=sys.stderr)
            return {2: 130, 3: 3}.get(code, 2)
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        if self._as_json:
            print(json.dumps(results, indent=2))
        else:
            print(terminal(results, colour=colours()))
            print(summary(results))
            for left in results["leftovers"]:
                print(
                    f"left over: {left['kind']} {left['id']} ({left['purpose']}); `drtest sweep` lists it and puts"
                    " it right on --yes"
                )
            print(folder / "report.html")
        if code == 2:
            print(f"drtest: stopped; {self._what_next(results)}", file=sys.stderr)
            return 130
        judgements = self._session.run.judgements if self._session else ()
        failed = bool(self._unwritten) or (self._session is not None and self._session.failure is not None)
        return exit_code(judgements, environment_failed=failed or bool(results["leftovers"]))

    @property
    def left_at_once(self) -> bool:
        """Whether the run was left while its drills were at work: only the end of the process ends them."""
        return self._session is not None and self._session.stop.insisted.is_set()

    def _what_next(self, results: dict[str, Any]) -> str:
        sweep = f"`drtest sweep --target {results['target']} --run {results['run']} --yes`"
        if self.left_at_once:
            return (
                f"`drtest run --resume {self._folder}` goes on with it, {sweep} cleans up what it has left."
            )
        if results["leftovers"]:
            return f"it was cleaned up but for what is named above: {sweep} tries again."
        return f"`drtest run --resume {self._folder}` has nothing to go on with: all was cleaned up."
