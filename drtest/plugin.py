"""pytest's door: a scenario file is collected as tests, a cell an item.

Without ``--target`` scenario files are not collected. Drills start after deselection, with the cells that remain.
"""

import json
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from drtest.errors import DrtestError, UsageError

if TYPE_CHECKING:
    from drtest.drill.run import Run
    from drtest.drill.site import Progress
    from drtest.scenario.plan import Cell, Plan
    from drtest.verdict.evidence import Judgement

SUFFIX = ".drill.yaml"
RUN = pytest.StashKey["Session"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of a run."""
    group = parser.getgroup("drtest", "drtest: disaster-recovery drills")
    group.addoption(
        "--target",
        metavar="NAME",
        help="collect *.drill.yaml and run them on this target: lab, or one of drtest.toml",
    )
    group.addoption("--drill-out", metavar="DIR", help="the run's folder (default: reports/<run-id>)")
    group.addoption("--drill-resume", metavar="DIR", help="go on with the run in this folder")
    group.addoption("--drill-config", metavar="FILE", help="the drtest.toml to use")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what can't work with drills, and take up the run's session."""
    if not config.getoption("--target") and not config.getoption("--drill-resume"):
        return
    if getattr(config.option, "numprocesses", None) or hasattr(config, "workerinput"):
        raise pytest.UsageError(
            "drtest and pytest-xdist don't go together: drills run at once by themselves. Leave -n away."
        )
    config.stash[RUN] = Session(config)
    config.pluginmanager.register(config.stash[RUN], "drtest-session")
    if config.pluginmanager.hasplugin("html"):
        config.pluginmanager.register(HtmlPage(config.stash[RUN]), "drtest-html")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "ScenarioFile | None":
    """Collect a scenario file, where there is a target to run it on."""
    session = parent.config.stash.get(RUN, None)
    if session is None or not file_path.name.endswith(SUFFIX):
        return None
    return ScenarioFile.from_parent(parent, path=file_path)


class ScenarioFile(pytest.File):
    """A scenario file: its cells are its items."""

    def collect(self) -> Iterable["CellItem"]:
        """One item a cell."""
        session = self.config.stash[RUN]
        try:
            plan = session.plan(self.path)
        except DrtestError as error:
            raise self.CollectError(str(error)) from None
        for cell in plan.cells:
            yield CellItem.from_parent(self, name=cell.id, cell=cell)


class CellItem(pytest.Item):
    """One cell: passed when its verdict is as expected."""

    def __init__(self, *, cell: "Cell", **rest: Any) -> None:
        super().__init__(**rest)
        self.cell = cell
        self.judgement: Judgement | None = None

    def runtest(self) -> None:
        """Wait for the cell's verdict.

        Raises:
            CellFailedError: it is not as expected.
        """
        session = self.config.stash[RUN]
        judgement = session.run.judgement(self.cell)
        self.judgement = judgement
        self.user_properties += [("verdict", str(judgement.verdict)), ("assurance", str(judgement.assurance))]
        if not judgement.met:
            raise CellFailedError(self.cell, judgement)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The verdict's sentence and its findings; a traceback only for a defect of drtest."""
        if isinstance(excinfo.value, DrtestError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the expectation stands in the scenario."""
        line = self.cell.expected.line
        return self.path, None if line is None else line - 1, self.cell.id


class CellFailedError(DrtestError):
    """A cell's verdict is not as expected."""

    def __init__(self, cell: "Cell", judgement: "Judgement") -> None:
        findings = "".join(f"\n  - {finding.sentence}" for finding in judgement.findings)
        where = f" (line {cell.expected.line})" if cell.expected.line else ""
        super().__init__(
            f"{cell.id} is {judgement.verdict}, expected {cell.expected.text}{where}: {judgement.reason}{findings}"
        )


class HtmlPage:
    """What goes into pytest-html's page: the matrix, and each cell's findings."""

    def __init__(self, session: "Session") -> None:
        self._session = session

    def pytest_html_report_title(self, report: Any) -> None:
        """The page's title."""
        report.title = "drtest: the cells as pytest saw them"

    def pytest_html_results_summary(self, prefix: list[str]) -> None:
        """The matrix, above pytest's table."""
        from drtest.report.pytest_page import matrix_html, style

        folder = self._session.folder
        if folder is not None and (folder / "results.json").exists():
            results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
            prefix.append(f"<style>{style()}</style>{matrix_html(results)}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A cell's findings, in its row."""
        report = yield
        if isinstance(item, CellItem) and call.when == "call" and item.judgement is not None:
            from pytest_html import extras

            from drtest.report.pytest_page import judgement_html

            cast("Any", report).extras = [
                *getattr(report, "extras", []),
                extras.html(judgement_html(item.cell, item.judgement)),
            ]
        return report


class Session:
    """The run of one pytest session.

    Attributes:
        run: set when the drills have been started.
        on_progress, on_judged, on_lab, on_stop: told of what happens, from many threads.
    """

    run: "Run"

    def __init__(self, config: pytest.Config) -> None:
        from drtest.drill.site import Stop

        self._config = config
        self._plans: dict[Path, Plan] = {}
        self.stop = Stop()
        self.on_progress: Callable[[Progress], None] = lambda _: None
        self.on_judged: Callable[[Cell, Judgement], None] = lambda *_: None
        self.on_lab: Callable[[str, float], None] = lambda *_: None
        self.on_stop: Callable[[str], None] = lambda _: None
        self.folder: Path | None = None
        self.failure: DrtestError | None = None
        self._started = False

    def plan(self, path: Path) -> "Plan":
        """The plan of one scenario file, on this session's target."""
        from drtest.doors import load_plan

        plan = load_plan(path, target=self._config.getoption("--target"), config=self._config_file())
        self._plans[path] = plan
        return plan

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """A resumed run goes on with the cells that it was asked for, and no others."""
        resumed = self._path("--drill-resume")
        if resumed is None:
            return
        from drtest.record.folder import RunFolder

        asked = {(cell.scenario, cell.id) for cell in RunFolder.open(resumed).run.cells}
        others = [item for item in items if isinstance(item, CellItem) and _known(item.cell) not in asked]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Run the drills of the cells that were not deselected, around the loop over their items."""
        items = [item for item in session.items if isinstance(item, CellItem)]
        spoiled = session.testsfailed and not session.config.option.continue_on_collection_errors
        # pytest itself looks at both of these inside the loop: too late, when drills have begun.
        if not items or session.config.option.collectonly or spoiled:
            return (yield)
        from drtest.doors import open_run

        try:
            with open_run(
                self._plans,
                cells={_known(item.cell) for item in items},
                target=self._config.getoption("--target"),
                config=self._config_file(),
                out=self._path("--drill-out"),
                resume=self._path("--drill-resume"),
                stop=self.stop,
                tell=lambda progress: self.on_progress(progress),
                judged=lambda cell, judgement: self.on_judged(cell, judgement),
                on_lab=lambda stage, part: self.on_lab(stage, part),
            ) as run:
                self.run = run
                self.folder = run.folder.path
                return (yield)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None
        except DrtestError as error:
            self.failure = error
            raise pytest.exit.Exception(str(error), returncode=3) from None

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The matrix and the report's path, below pytest's own results."""
        if self.folder is None or not (self.folder / "results.json").exists():
            return
        from drtest.report.matrix import summary, terminal

        results = json.loads((self.folder / "results.json").read_text(encoding="utf-8"))
        terminalreporter.section("drills")
        terminalreporter.write_line(terminal(results))
        terminalreporter.write_line(summary(results))
        for left in results["leftovers"]:
            terminalreporter.write_line(f"left over: {left['kind']} {left['id']} ({left['purpose']})")
        terminalreporter.write_line(str(self.folder / "report.html"))

    def _config_file(self) -> Path | None:
        return self._path("--drill-config")

    def _path(self, option: str) -> Path | None:
        value = self._config.getoption(option)
        return Path(value) if value else None


def _known(cell: "Cell") -> tuple[str, str]:
    return cell.scenario, cell.id
