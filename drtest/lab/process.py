"""A process that can't be mistaken for another one that gets its number later."""

import os
import select
import signal
import subprocess
import threading
from itertools import pairwise
from pathlib import Path

ENDING_SECONDS = 30.0
"""How long a process that was killed is given to end: it may be in the middle of writing to a busy disk."""

_EXITING = 0x4
"""PF_EXITING, in Linux' include/linux/sched.h."""


class Process:
    """One process, by a descriptor of it. Safe to use from several threads.

    Args:
        pid: its number.
        child: what started it, if that was us.

    Raises:
        ProcessLookupError: there is none of that number.
    """

    def __init__(self, pid: int, *, child: "subprocess.Popen[bytes] | None" = None) -> None:
        self.pid = pid
        self._child = child
        self._lock = threading.Lock()
        self._descriptor: int | None = os.pidfd_open(pid)

    @classmethod
    def of(cls, pid_file: Path) -> "Process | None":
        """Find the process that was started with ``-pidfile`` and this path, if it runs."""
        try:
            process = cls(int(pid_file.read_text()))
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        if process._was_started_with("-pidfile", str(pid_file)):
            return process
        if process._is_ending():
            # It has forgotten what it was started with, and may still have files open: whoever looks for it wants them.
            process.wait_for_end(deadline=ENDING_SECONDS)
        process.close()
        return None

    @property
    def alive(self) -> bool:
        """Whether it is running."""
        with self._lock:
            return self._descriptor is not None and not select.select([self._descriptor], [], [], 0)[0]

    def _was_started_with(self, option: str, value: str) -> bool:
        """Say whether its command line has ``option value``: it then is what it is taken for."""
        try:
            argv = Path(f"/proc/{self.pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return False
        return (option, value) in pairwise(
            argv
        ) and self.alive  # alive: else this was its successor's command line

    def _is_ending(self) -> bool:
        """Say whether it was killed, or has begun to exit: proc(5), "flags" in ``/proc/<pid>/stat``."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        state, *fields = stat.rpartition(")")[2].split()
        return state == "Z" or bool(int(fields[5]) & _EXITING)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        with self._lock:
            if self._descriptor is not None:
                try:
                    signal.pidfd_send_signal(self._descriptor, number)
                except ProcessLookupError:
                    return

    def wait_for_end(self, *, deadline: float | None = None) -> bool:
        """Wait until it ends; False if it hasn't after ``deadline`` seconds. None waits on: it may run for days."""
        descriptor = self._descriptor
        if descriptor is None:
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(None if deadline is None else deadline * 1000))

    def wait(self) -> int | None:
        """Give the exit code of a process that has ended, or is about to; None if it is another one's child."""
        code = self._child.wait(timeout=30) if self._child else None
        self.close()
        return code

    def close(self) -> None:
        """Let go of it; it goes on if it still runs."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
