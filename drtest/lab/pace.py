"""How fast guests are on this machine, measured by their boots; the deadlines that depend on it stretch with it."""

import os
import threading


class Pace:
    """Keeps the fastest boot that was seen here: what a guest needs when it is alone.

    Args:
        fastest: seconds, as an earlier process of the lab measured it; None if nothing was measured yet.
        cores: how many processors the guests share.
    """

    def __init__(self, *, fastest: float | None = None, cores: int | None = None) -> None:
        self._cores = cores or len(os.sched_getaffinity(0))
        self._lock = threading.Lock()
        self.fastest = fastest

    def note(self, seconds: float, *, crowd: int = 1) -> bool:
        """Take note of a boot, from the start of its machine to the guest's first answer.

        Args:
            seconds: what it took.
            crowd: how many machines ran, this one among them.

        Returns:
            Whether it was the fastest so far, each with the processors to itself.
        """
        alone = seconds / self._share(crowd)
        with self._lock:
            if self.fastest is not None and self.fastest <= alone:
                return False
            self.fastest = alone
            return True

    def _share(self, crowd: int) -> float:
        return max(1.0, crowd / self._cores)

    def stretch(self, least: float, *, boots: float, crowd: int) -> float:
        """Stretch a deadline.

        Args:
            least: seconds that it has at least.
            boots: how many times a boot takes as long: 10 for a shutdown is ten times what a boot takes.
            crowd: how many machines run; more of them than processors share these.

        Returns:
            Seconds.
        """
        share = self._share(crowd)
        if self.fastest is None:
            # Nothing measured yet: all that is known is how many share the processors.
            return least * share
        return max(least, boots * self.fastest * share)
