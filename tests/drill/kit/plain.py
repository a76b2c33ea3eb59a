"""An engine without a memory: drills run at once, in threads; for what does not need DBOS, which takes seconds."""

import threading
from types import TracebackType

from drtest.drill.engine import Engine, run_plainly


class PlainEngine(Engine):
    """Runs the drills of one run, and forgets."""

    def __enter__(self) -> "PlainEngine":
        self._threads = [
            threading.Thread(target=self._work, args=(name,), daemon=True) for name in self._drills
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # As DBOS's, its threads live on where a run is left at once.
        pass

    def join(self) -> None:
        """Wait for the drills whose run was left at once."""
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _work(self, name: str) -> None:
        try:
            self._outcomes[name] = self._drills[name](run_plainly)
        except Exception as error:
            self._outcomes[name] = {"error": str(error)}
        self._finished[name].set()
