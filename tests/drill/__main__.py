"""The table of bad days, from a real run of their tests: `python -m tests.drill`; `--help` says how to have less."""

import argparse
import sys
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from tabulate import tabulate

from tests.drill.kit.world import Ran, World

FILES = (
    "test_guests_bad_days.py",
    "test_volumes_bad_days.py",
    "test_full_disk.py",
    "test_api_faults.py",
    "test_api_goes_away.py",
    "test_selected_source.py",
    "test_stopping.py",
    "test_windows_drill.py",
)
HEADERS = ("", "bad day", "verdict", "exit", "what is said of it")
WIDTHS = [None, 46, None, None, 90]

Row = tuple[str, str, str, str, str]


class Table:
    """What each test's runs came to: its name is the bad day's, its run's cells say the rest."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._ran: list[Ran] = []
        self._run: Callable[..., Ran] = World.run

    def pytest_configure(self) -> None:
        """Hear of every run."""
        table = self

        def run(world: World, *args: Any, **more: Any) -> Ran:
            ran = table._run(world, *args, **more)
            table._ran.append(ran)
            return ran

        World.run = run  # type: ignore[assignment, method-assign]

    def pytest_unconfigure(self) -> None:
        """Hear of none any more."""
        World.run = self._run  # type: ignore[method-assign]

    def pytest_runtest_setup(self) -> None:
        """Forget the runs of the test before."""
        self._ran.clear()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Function, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Enter what came of a test."""
        report = yield
        if call.when == "call" or report.failed:
            self.rows += self._of(item, report)
            print(f"{report.outcome}  {_day(item)}", file=sys.stderr, flush=True)
        return report

    def _of(self, item: pytest.Function, report: pytest.TestReport) -> Iterator[Row]:
        mark = "" if report.passed else "WRONG"
        given = [one for one in item.funcargs.values() if isinstance(one, Ran)]
        ran = (given or self._ran)[-1:]
        if not ran:
            told = dict(item.user_properties)
            yield (mark, _day(item), "", str(told.get("exit", "")), str(told.get("said", "")))
        for one in ran:
            cells = [cell for cell in one.results["cells"] if _is_of(cell["server"], item)]
            for cell in cells or one.results["cells"][:1]:
                day = f"{_day(item)}: {cell['volume']}" if len(cells) > 1 else _day(item)
                # The exit code is the whole run's: of a crowd it says nothing about one.
                code = "" if given else str(one.code)
                yield (mark, day, cell["verdict"], code, cell["reason"])


def _day(item: pytest.Function) -> str:
    name, _, parameter = item.name.partition("[")
    words = name.removeprefix("test_").replace("_", " ")
    return f"{words} – {parameter.removesuffix(']')}" if parameter else words


def _is_of(server: str, item: pytest.Function) -> bool:
    """Whether a server of a crowd is the one that a test is about: it has the name of its parameter."""
    parameter = item.name.partition("[")[2].removesuffix("]")
    return server.replace("-", "").lower() == parameter.replace("-", "").lower()


def main() -> int:
    """Runs the bad days and prints what came of each; 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill", description=__doc__)
    parser.add_argument("--only", default="", metavar="EXPRESSION", help="as pytest's -k")
    options = parser.parse_args()
    table = Table()
    files = [f"tests/drill/{name}" for name in FILES]
    words = [*files, "-m", "not lab", "-o", "addopts=", "-k", options.only]
    words += ["-p", "no:terminal", "-p", "no:cacheprovider"]
    code = pytest.main(words, plugins=[table])
    print(tabulate(table.rows, headers=HEADERS, maxcolwidths=WIDTHS))
    wrong = sum(row[0] == "WRONG" for row in table.rows)
    print(f"\n{len(table.rows)} verdicts over bad days: {wrong} not as they must be")
    return int(bool(code or wrong))


if __name__ == "__main__":
    sys.exit(main())
