"""Durability: runs drills as DBOS workflows, each step recorded, so that a killed run goes on where it was.

DBOS is known in this module alone. Its traps, each tried: whoever launches it on a state file resumes what it
finds there, and beside a living process runs a step twice, so there is one state file a run folder, locked; the
executor is the run; the application version is explicit, else any change of code would orphan a run; what a step
gives is kept as JSON and not as a pickle.
"""

import errno
import fcntl
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Generic, Protocol, TypeVar

from pydantic import TypeAdapter

from drtest.cloud.failures import explained
from drtest.cloud.wait import CancelledError
from drtest.errors import DrtestError, EnvironmentFailedError, UsageError
from drtest.guest.transport import GuestCancelledError

T = TypeVar("T")

STATE_VERSION = "2"
"""Of the steps and what they give: raise it when an older run can't be resumed by newer code."""

UNRECORDED = 5.0
"""Seconds after a drill's end that DBOS may take to record it; for ever, where its disk is full."""

_DEFECT = "This is a defect of drtest: please report it, with the log."

_log = logging.getLogger(__name__)


class StepFailedError(DrtestError):
    """A step of a drill did not do its part; it was recorded, and is not tried again on resume.

    Attributes:
        step: its name.
        cancelled: whether it was given up because the run is being stopped.
    """

    def __init__(self, seen: str, *, remedy: str = "", step: str, cancelled: bool) -> None:
        super().__init__(seen, remedy=remedy)
        self.step = step
        self.cancelled = cancelled


class Step(Protocol):
    """Runs one step once: on resume what it gave is taken from the state file."""

    def __call__(
        self,
        name: str,
        function: Callable[[], T],
        /,
        *,
        gives: type[T],
        on_failure: Callable[[DrtestError], None] = ...,
    ) -> T:
        """Run a step.

        Args:
            name: unique in its drill.
            function: may run twice, if the run is killed in its middle.
            gives: a type that JSON can carry.
            on_failure: told of the failure before it is recorded.

        Raises:
            StepFailedError: as the step failed, now or before the resume.
        """


Drill = Callable[[Step], Any]
"""A drill's procedure: takes the runner of its steps, and gives JSON."""


def run_plainly(
    name: str,
    function: Callable[[], T],
    *,
    gives: type[T],
    on_failure: Callable[[DrtestError], None] = lambda _: None,
) -> T:
    """A `Step` that remembers nothing: for tests and for what needs no durability."""
    return _opened(
        name, _closed(function, adapter=TypeAdapter(gives), on_failure=on_failure), TypeAdapter(gives)
    )


@dataclass(frozen=True, kw_only=True)
class Part(Generic[T]):
    """One of the things that a step does at once; see `Step` for what is said of each."""

    name: str
    function: Callable[[], T]
    gives: type[T]
    on_failure: Callable[[DrtestError], None] = lambda _: None


def together(step: Step, parts: Sequence[Part[Any]]) -> tuple[Callable[[], Any], ...]:
    """Do several things at once, as one step: a run that is killed in its middle does all of them anew.

    Args:
        step: runs it.
        parts: the things; one that fails takes no other down.

    Returns:
        For each part what gives its result, or raises the `StepFailedError` that it ended with.
    """
    adapters = [TypeAdapter(part.gives) for part in parts]

    def all_of_them() -> list[dict[str, Any]]:
        with ThreadPoolExecutor(max_workers=len(parts), thread_name_prefix="part") as lines:
            begun = [
                lines.submit(_closed, part.function, adapter=adapter, on_failure=part.on_failure)
                for part, adapter in zip(parts, adapters, strict=True)
            ]
            return [one.result() for one in begun]

    kept = step(", ".join(part.name for part in parts), all_of_them, gives=list[dict[str, Any]])
    return tuple(
        partial(_opened, part.name, one, adapter)
        for part, one, adapter in zip(parts, kept, adapters, strict=True)
    )


def _closed(
    function: Callable[[], T], *, adapter: TypeAdapter[T], on_failure: Callable[[DrtestError], None]
) -> dict[str, Any]:
    """What a step gave or how it failed, as JSON: a failure is a result too, else DBOS would retry or lose it."""
    try:
        return {"gave": adapter.dump_python(function(), mode="json")}
    except Exception as error:
        failure = _failure(error)
        try:
            on_failure(failure)
        except Exception:
            # A full disk, most likely: the step's own failure is what has to be told.
            _log.exception("The failure of a step could not be noted.")
        cancelled = isinstance(failure, CancelledError | GuestCancelledError)
        return {"failed": {"seen": failure.seen, "remedy": failure.remedy, "cancelled": cancelled}}


def _failure(error: Exception) -> DrtestError:
    if known := explained(error):
        return known
    if _no_room(error):
        return EnvironmentFailedError(
            f"The disk of this machine is full: {error}.", remedy="Make room on it, then run the drill again."
        )
    _log.error("A step failed unexpectedly.", exc_info=error)
    return DrtestError(f"{type(error).__name__}: {error}", remedy=_DEFECT)


def _opened(name: str, kept: Mapping[str, Any], adapter: TypeAdapter[T]) -> T:
    if "failed" in kept:
        raise StepFailedError(step=name, **kept["failed"])
    return adapter.validate_python(kept["gave"])


def _no_room(error: Exception) -> bool:
    """Whether a disk is full: in the words of the system, or in those of SQLite, which come wrapped."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(getattr(error, "orig", None), "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


class Engine:
    """Runs the drills of one run; a context, at whose end nothing of DBOS is left in this process.

    Args:
        state: the run's state file.
        run: the run's id.
        drills: the procedures by name: server by server.
        concurrency: how many drills run at once.

    Raises:
        UsageError: another process is at work on this run.
    """

    _current: "Engine | None" = None

    def __init__(self, state: Path, *, run: str, drills: Mapping[str, Drill], concurrency: int) -> None:
        self._state, self._run, self._drills, self._concurrency = state, run, dict(drills), concurrency
        self._lock: IO[str] | None = None
        self._outcomes: dict[str, Any] = {}
        self._finished = {name: threading.Event() for name in drills}

    def __enter__(self) -> "Engine":
        self._lock = _locked(self._state)
        from dbos import DBOS, Serializer, SetWorkflowID  # half a second: only when drills run

        class Json(Serializer):
            def serialize(self, data: Any) -> str:
                return json.dumps(data)

            def deserialize(self, serialized_data: str) -> Any:
                return json.loads(serialized_data)

            def name(self) -> str:
                return "drtest_json"

        self._state.touch(mode=0o600)
        for logger in ("dbos", "sqlalchemy"):
            # What goes wrong comes to us as an exception, and is told once, in words.
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        Engine._current = self
        DBOS(
            config={
                "name": "drtest",
                "system_database_url": f"sqlite:///{self._state.resolve()}",
                "executor_id": self._run,
                "application_version": STATE_VERSION,
                "serializer": Json(),
                "log_level": "CRITICAL",
                "use_listen_notify": False,
            }
        )
        workflow = DBOS.workflow(name="drill")(_workflow)
        DBOS.launch()
        DBOS.register_queue("drills", worker_concurrency=self._concurrency, polling_interval_sec=0.5)
        for name in self._drills:
            # A name that is known already is not started again: it was recovered by the launch.
            with SetWorkflowID(f"{self._run}/{name}"):
                handle = DBOS.enqueue_workflow("drills", workflow, name)
            threading.Thread(target=self._follow, args=(name, handle), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from dbos import DBOS

        DBOS.destroy(destroy_registry=True)
        Engine._current = None
        if self._lock is not None:
            self._lock.close()

    def finished(self, drill: str) -> bool:
        """Whether a drill has come to its end."""
        return self._finished[drill].is_set()

    def wait(self, *, deadline: float) -> bool:
        """Wait for all drills for at most ``deadline`` seconds; whether all are at their end."""
        end = time.monotonic() + deadline
        return all([event.wait(max(0.0, end - time.monotonic())) for event in self._finished.values()])  # noqa: C419

    def outcomes(self) -> Mapping[str, Any]:
        """What each drill that has ended gave; with an ``error``, what it ended with."""
        return dict(self._outcomes)

    def run_drill(self, name: str) -> Any:
        """The body of one drill's workflow."""
        from dbos import DBOS

        def step(
            step_name: str,
            function: Callable[[], T],
            /,
            *,
            gives: type[T],
            on_failure: Callable[[DrtestError], None] = lambda _: None,
        ) -> T:
            adapter = TypeAdapter(gives)

            def body() -> dict[str, Any]:
                return _closed(function, adapter=adapter, on_failure=on_failure)

            return _opened(step_name, DBOS.run_step({"name": step_name}, body), adapter)

        try:
            outcome = self._drills[name](step)
        except Exception as error:
            # An error can't be kept as JSON: the workflow would have no end that DBOS can record.
            outcome = {"error": str(_failure(error))}
        unrecorded = threading.Timer(UNRECORDED, self._end, (name, outcome))
        unrecorded.daemon = True
        unrecorded.start()
        return outcome

    def _follow(self, name: str, handle: Any) -> None:
        try:
            outcome = handle.get_result(polling_interval_sec=0.5)
        except Exception as error:
            outcome = {"error": f"{type(error).__name__}: {error}"}
        self._end(name, outcome)

    def _end(self, name: str, outcome: Any) -> None:
        self._outcomes.setdefault(name, outcome)
        self._finished[name].set()


def _workflow(name: str) -> Any:
    engine = Engine._current
    if engine is None:
        raise UsageError(f"The drill {name} was started without its run.")
    return engine.run_drill(name)


def _locked(state: Path) -> IO[str]:
    """The lock beside the state file, held; the kernel lets go of it when this process ends, however it ends."""
    path = state.with_suffix(".lock")
    lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise UsageError(
            f"The run in {state.parent} is at work already, in process {holder}.",
            remedy="Wait for it, or stop it with Ctrl-C there; then resume.",
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
