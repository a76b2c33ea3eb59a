"""The folder that a run leaves: its description, evidence, ledger, results and report, private to who ran it."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from drtest.errors import EnvironmentFailedError, UsageError
from drtest.record.journal import Journal
from drtest.record.ledger import Ledger
from drtest.record.lines import replace_file

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""A part of a name in the folder: nothing hidden, nothing that leads out of it."""


@dataclass(frozen=True, kw_only=True)
class ScenarioFile:
    """A scenario that a run drilled, as the report names it.

    Attributes:
        name: its ``drill:``.
        file: the file's path as the user gave it.
        sha256: of the file's bytes.
    """

    name: str
    title: str
    description: str
    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class SelectedCell:
    """A cell that the run was asked for."""

    scenario: str
    id: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run is: known at its start, kept in ``run.json``.

    Attributes:
        run: the run's id, as ``20261124-175121-a1b2``.
        target: where it runs.
        tool_version: drtest's version.
        state_version: of the state file, which newer code may not be able to go on with.
        started, ended: in UTC; ended is None while it runs, and where it was killed.
        scenarios: what it drills.
        cells: what it was asked for, after deselection.
        notices: what a reader has to know first: a stand-in, a seed.
        environment: where and with what it ran, for the report: names and values in words.
    """

    run: str
    target: str
    tool_version: str
    state_version: str = ""
    started: datetime
    ended: datetime | None = None
    scenarios: tuple[ScenarioFile, ...] = ()
    cells: tuple[SelectedCell, ...] = ()
    notices: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class FolderError(EnvironmentFailedError):
    """A run's folder can't be read or written."""


def new_run_id(now: datetime, *, token: str) -> str:
    """``20261124-175121-a1b2``: sorts by time, and is unique by its token.

    Args:
        now: the start of the run, in UTC.
        token: a few random small letters and digits.
    """
    return f"{now:%Y%m%d-%H%M%S}-{token}"


def scenario_file(path: Path, *, name: str, title: str, description: str = "") -> ScenarioFile:
    """How the record names a scenario file: with the hash of its bytes."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ScenarioFile(name=name, title=title, description=description, file=str(path), sha256=digest)


class RunFolder:
    """One run's folder, ``reports/<run id>/`` or where the user wants it.

    All that is in it is 0600 within a folder of 0700: console logs and probes show a server's inside.
    """

    def __init__(self, path: Path, run: Run) -> None:
        self.path = path
        self.run = run

    @classmethod
    def create(cls, path: Path, *, run: Run, files: Mapping[str, Path] | None = None) -> "RunFolder":
        """Makes the folder of a new run.

        Args:
            path: the folder itself.
            run: what the run is.
            files: the scenario files by the scenarios' names; they are copied in.

        Raises:
            UsageError: the folder holds a run already, or can't be made.
        """
        if (path / "run.json").exists():
            raise UsageError(
                f"{path} holds a run already",
                remedy="Take another folder, or go on with that run by --resume.",
            )
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not any(path.iterdir()):
                # One that holds other things is somebody's: what goes into it is private all the same.
                path.chmod(0o700)
        except OSError as error:
            raise UsageError(
                f"{path} can't be made: {error.strerror}", remedy="Take another folder."
            ) from error
        folder = cls(path, run)
        for name, source in (files or {}).items():
            folder.keep(f"scenarios/{name}.drill.yaml", source.read_bytes())
        folder._save(run)
        return folder

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """The folder of an earlier run.

        Raises:
            UsageError: it is none.
            FolderError: its run.json can't be read.
        """
        if not (path / "run.json").is_file():
            raise UsageError(
                f"{path} is no run's folder: it has no run.json", remedy="Name a folder under reports/."
            )
        try:
            return cls(path, _decode(json.loads((path / "run.json").read_bytes())))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FolderError(f"{path / 'run.json'} can't be read: {error}") from error

    def update(self, **changes: Any) -> Run:
        """Changes what ``run.json`` says (as notices, ended, environment), whole or not at all."""
        self.run = replace(self.run, **changes)
        self._save(self.run)
        return self.run

    @cached_property
    def journal(self) -> Journal:
        """The evidence, opened on first use."""
        return Journal(self.path / "evidence.jsonl")

    @cached_property
    def ledger(self) -> Ledger:
        """What was created, opened on first use."""
        return Ledger(self.path / "ledger.jsonl")

    @property
    def state(self) -> Path:
        """The state file of the run's workflows."""
        return self.path / "state.sqlite"

    @property
    def results(self) -> Path:
        """The results for machines."""
        return self.path / "results.json"

    @property
    def report(self) -> Path:
        """The consistency report."""
        return self.path / "report.html"

    @property
    def pytest_html(self) -> Path:
        """pytest-html's own page."""
        return self.path / "pytest.html"

    @property
    def junit(self) -> Path:
        """JUnit's results."""
        return self.path / "junit.xml"

    def scenario_file(self, name: str) -> Path:
        """The copy of a scenario's file."""
        return self.path / "scenarios" / f"{name}.drill.yaml"

    def file(self, name: str) -> Path:
        """Where a file of this name lies (``console/lin-running-1-b.txt``); its folder is made.

        Raises:
            FolderError: the name leads out of the folder.
        """
        parts = name.split("/")
        if not all(NAME.fullmatch(part) for part in parts):
            raise FolderError(f"{name!r} is no name for a file in a run's folder")
        path = self.path.joinpath(*parts)
        for parent in reversed([one for one in path.parents if one.is_relative_to(self.path)]):
            parent.mkdir(mode=0o700, exist_ok=True)
        return path

    def keep(self, name: str, content: bytes) -> str:
        """Keeps a console log, a screenshot or the like; it is on disk when this returns.

        Returns:
            The name, to be kept in an observation.
        """
        replace_file(self.file(name), content)
        return name

    def _save(self, run: Run) -> None:
        replace_file(self.path / "run.json", (json.dumps(_encode(run), indent=2) + "\n").encode())


def _encode(run: Run) -> dict[str, Any]:
    fields = {**asdict(run), "environment": dict(run.environment)}
    times = {"started": run.started.isoformat(), "ended": run.ended.isoformat() if run.ended else None}
    return {"schema": 1, **fields, **times}


def _decode(entry: Mapping[str, Any]) -> Run:
    return Run(
        run=entry["run"],
        target=entry["target"],
        tool_version=entry["tool_version"],
        state_version=entry.get("state_version", ""),
        started=datetime.fromisoformat(entry["started"]),
        ended=datetime.fromisoformat(entry["ended"]) if entry["ended"] else None,
        scenarios=tuple(ScenarioFile(**one) for one in entry["scenarios"]),
        cells=tuple(SelectedCell(**one) for one in entry["cells"]),
        notices=tuple(entry["notices"]),
        environment=dict(entry["environment"]),
    )
