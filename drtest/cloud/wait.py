"""The one place that waits for the cloud: it polls for all drills at once.

Describe calls are batched by kind, so their number does not grow with the number of drills. Every wait has a
deadline, and says when it fails what it saw last.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

from drtest.cloud.failures import explained, permanent
from drtest.cloud.resources import Described
from drtest.errors import DeadlineError, DrtestError

T = TypeVar("T", bound=Described)

_BATCH = 200
_CANCEL_LOOK = 0.5


class CancelledError(DrtestError):
    """The run is being stopped: the wait was given up."""


class Describer(Protocol):
    """What the poller asks: one batched call a kind."""

    def describe(self, kind: type[T], ids: Sequence[str]) -> Mapping[str, T]:
        """The named resources that exist, by id."""


class _Watch(Generic[T]):
    """One wait: its resources, and what was seen of them last."""

    def __init__(
        self, kind: type[T], ids: Sequence[str], ready: Callable[[T], bool], *, gone: bool = False
    ) -> None:
        self.kind = kind
        self.ids = tuple(ids)
        self.ready = ready
        self.gone = gone
        self.seen: dict[str, T] = {}
        self.failure: Exception | None = None
        self.done = threading.Event()

    def look(self, found: Mapping[str, T]) -> None:
        self.seen = {id_: found[id_] for id_ in self.ids if id_ in found}
        try:
            # A resource can be unseen for a moment after its creation (EC2 API Reference, Eventual consistency).
            there = self.gone or len(self.seen) == len(self.ids)
            if there and all(self.ready(item) for item in self.seen.values()):
                self.done.set()
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        self.failure = error
        self.done.set()

    def last_seen(self) -> str:
        states = [
            f"{id_} {self.seen[id_].state}" if id_ in self.seen else f"{id_} not found" for id_ in self.ids
        ]
        return ", ".join(states)


class Poller:
    """Polls EC2 on behalf of everybody who waits.

    Its thread lives only while somebody waits.

    Args:
        describer: asked for the state of resources.
        interval: seconds between two rounds.
        cancelled: asked twice a second whether to give every wait up.
    """

    def __init__(
        self, describer: Describer, *, interval: float, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        self._describer = describer
        self._interval = interval
        self._cancelled = cancelled
        self._watches: list[_Watch[Any]] = []
        self._lock = threading.Lock()
        self._came = threading.Event()
        self._thread: threading.Thread | None = None
        self._trouble = ""

    def until(
        self, kind: type[T], ids: Sequence[str], *, ready: Callable[[T], bool], deadline: float, what: str
    ) -> dict[str, T]:
        """Wait until every resource is ready.

        Args:
            kind: what to wait for: one of the classes of `drtest.cloud.resources`.
            ids: the resources.
            ready: whether one is; it raises a DrtestError when it never will be.
            deadline: seconds from now.
            what: what is waited for, as ``the snapshots to complete``.

        Returns:
            What was seen last, by id.

        Raises:
            DeadlineError: the deadline passed; it says what was seen last.
            CancelledError: the run is being stopped.
            DrtestError: as ``ready`` raised it.
        """
        return self._wait(_Watch(kind, ids, ready), deadline=deadline, what=what)

    def until_gone(self, kind: type[T], ids: Sequence[str], *, deadline: float, what: str) -> None:
        """Wait until none of the resources is there any more, or is shown as deleted.

        Raises:
            DeadlineError, CancelledError: as `until`.
        """
        watch = _Watch(kind, ids, lambda item: item.state in ("deleted", "terminated"), gone=True)
        self._wait(watch, deadline=deadline, what=what)

    def _wait(self, watch: _Watch[T], *, deadline: float, what: str) -> dict[str, T]:
        end = time.monotonic() + deadline
        self._add(watch)
        try:
            while not watch.done.wait(min(_CANCEL_LOOK, max(0.0, end - time.monotonic()))):
                if self._cancelled():
                    raise CancelledError(f"Stopped waiting for {what}: the run is being stopped.")
                if time.monotonic() >= end:
                    trouble = f" The API last said: {self._trouble}" if self._trouble else ""
                    raise DeadlineError(
                        f"Waited {deadline:.0f} s for {what}; last seen: {watch.last_seen()}.{trouble}",
                        remedy="Raise the deadline in the scenario, or look at the resource in the EC2 console.",
                    )
        finally:
            self._remove(watch)
        if watch.failure is not None:
            raise watch.failure
        return watch.seen

    def _add(self, watch: _Watch[Any]) -> None:
        with self._lock:
            self._watches.append(watch)
            if self._thread is None:
                self._thread = threading.Thread(target=self._poll, name="drtest-poller", daemon=True)
                self._thread.start()
        self._came.set()

    def _remove(self, watch: _Watch[Any]) -> None:
        with self._lock:
            self._watches.remove(watch)

    def _poll(self) -> None:
        while True:
            with self._lock:
                if not self._watches:
                    self._thread = None
                    return
                open_watches = [watch for watch in self._watches if not watch.done.is_set()]
            self._came.clear()
            for kind in dict.fromkeys(watch.kind for watch in open_watches):
                self._round(kind, [watch for watch in open_watches if watch.kind is kind])
            # A new wait is looked at without delay; the rest has its rhythm.
            self._came.wait(self._interval)

    def _round(self, kind: type[Any], watches: Sequence[_Watch[Any]]) -> None:
        ids = list(dict.fromkeys(id_ for watch in watches for id_ in watch.ids))
        found: dict[str, Any] = {}
        try:
            for start in range(0, len(ids), _BATCH):
                found.update(cast(Any, self._describer).describe(kind, ids[start : start + _BATCH]))
        except Exception as error:
            if permanent(error):
                for watch in watches:
                    watch.fail(explained(error) or error)
            # The API may be back at the next round: the waits' own deadlines decide, and name this.
            self._trouble = str(error)
            return
        self._trouble = ""
        for watch in watches:
            watch.look(found)
