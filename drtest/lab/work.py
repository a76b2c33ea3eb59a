"""What goes on behind the calls: tasks on threads, timers, and the lanes that keep them apart."""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from drtest.errors import DeadlineError

LOG = logging.getLogger(__name__)
Task = Callable[[], None]


class Work:
    """Runs what no request may wait for.

    A lane is a lock by the id of an instance or volume. Whoever touches its machine or disk holds it; who
    needs several takes them in one call. Lanes are taken before the books are opened, never inside.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, threading.RLock] = {}
        self._guard = threading.Lock()
        self._due: list[tuple[float, int, Task]] = []
        self._count = itertools.count()
        self._wake = threading.Condition()
        self._stopped = threading.Event()
        self._timer = threading.Thread(target=self._run_timers, name="lab-timers", daemon=True)
        self._timer.start()

    @contextmanager
    def lanes(self, *ids: str, deadline: float = 120.0) -> Iterator[None]:
        """Hold the lanes of some instances and volumes.

        Args:
            ids: whose lanes; taken in the order of their names, so that no two tasks wait for each other.
            deadline: seconds to wait for them.

        Raises:
            DeadlineError: another task did not let go of them in time.
        """
        until = time.monotonic() + deadline
        with ExitStack() as stack:
            for key in sorted(set(ids)):
                with self._guard:
                    lane = self._lanes.setdefault(key, threading.RLock())
                if not lane.acquire(timeout=max(0.0, until - time.monotonic())):
                    raise DeadlineError(
                        f"{key} was still busy after {deadline:.0f} s.", remedy="Try again later."
                    )
                stack.callback(lane.release)
            yield

    def soon(self, task: Task, *, name: str) -> None:
        """Run a task on a thread of its own; what it raises is logged."""
        threading.Thread(target=self._run, args=(task, name), name=f"lab-{name}", daemon=True).start()

    def later(self, seconds: float, task: Task) -> None:
        """Run a short task after some seconds, on the timers' thread."""
        with self._wake:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._count), task))
            self._wake.notify()

    def stop(self) -> None:
        """Run no more timers."""
        self._stopped.set()
        with self._wake:
            self._due.clear()
            self._wake.notify()
        if threading.current_thread() is not self._timer:
            self._timer.join(timeout=5)

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called: long tasks look here."""
        return self._stopped.is_set()

    def pause(self, seconds: float) -> bool:
        """Wait for some seconds, or until `stop`.

        Returns:
            Whether there is still something to do, which is: `stop` was not called.
        """
        return not self._stopped.wait(seconds)

    def _run_timers(self) -> None:
        while True:
            with self._wake:
                if self.stopped:
                    return
                if not self._due:
                    self._wake.wait()
                    continue
                when, _, task = self._due[0]
                left = when - time.monotonic()
                if left > 0:
                    self._wake.wait(left)
                    continue
                heapq.heappop(self._due)
            self._run(task, "timer")

    def _run(self, task: Task, name: str) -> None:
        try:
            task()
        except Exception:
            # A task has no caller to tell: the log of the lab is where its failure can be seen.
            LOG.exception("the task %s failed", name)
