"""The tools of a build: each is run to its end, is heard line by line, has a deadline, and ends with us."""

import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from select import select
from typing import IO

from drtest.errors import DeadlineError, EnvironmentFailedError

SILENCE_SECONDS = 600.0
"""How long a tool may say nothing."""


LEADER = "trap 'kill -s KILL 0' TERM; \"$@\" & wait $!"
"""A shell between us and a tool, as the leader of its process group: if we are killed, it takes the group with it."""


class Tools:
    """Runs tools, one after the other.

    Args:
        log: is told what is run, and what it says.
        end: when all has to be done, on the monotonic clock.
    """

    def __init__(self, log: IO[bytes], *, end: float) -> None:
        self._log = log
        self._end = end

    def run(
        self,
        argv: Sequence[str],
        *,
        within: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        heard: Callable[[str], None] | None = None,
    ) -> None:
        """Run one tool to its end.

        Args:
            argv: the program, by name, and its arguments.
            within: a program, with its arguments, that starts it.
            environment: what it gets beside our own.
            heard: is told each line that it says.

        Raises:
            DeadlineError: it took too long, or was silent for too long.
            EnvironmentFailedError: it is not installed, or failed.
        """
        name = argv[0]
        path = (
            f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:/usr/bin:/bin"  # a user's PATH has no mkfs
        )
        if shutil.which(name, path=path) is None:
            raise EnvironmentFailedError(f"{name} is not installed.", remedy="Run: drtest lab install")
        self._log.write(f"$ {' '.join([*within, *argv])}\n".encode())
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", "sh", "-c", LEADER, "sh", *within, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C.UTF-8", "PATH": path, **(environment or {})},
            start_new_session=True,
        )
        try:
            for line in self._lines(process, name):
                self._log.write(line + b"\n")
                if heard:
                    heard(line.decode(errors="replace"))
            code = process.wait(timeout=60)
        except BaseException:
            _end(process)
            raise
        if code:
            raise EnvironmentFailedError(
                f"{name} failed with exit code {code} while a guest image was built."
            )

    def _lines(self, process: "subprocess.Popen[bytes]", name: str) -> Iterator[bytes]:
        """Yield what a process says until it closes its output, or is silent or at work for too long."""
        assert process.stdout is not None  # noqa: S101 - Popen was told to make a pipe
        rest = b""
        while True:
            patience = min(SILENCE_SECONDS, self._end - time.monotonic())
            if patience <= 0 or not select([process.stdout], [], [], patience)[0]:
                last = rest.decode(errors="replace")[-200:]
                raise DeadlineError(f"{name} did not get done in time; the last that it said was {last!r}.")
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                break
            *whole, rest = (rest + data).split(b"\n")
            yield from whole
        if rest:
            yield rest


def remove(path: Path) -> None:
    """Delete a folder with all that is in it, also where a build made folders that can't be written.

    Raises:
        EnvironmentFailedError: something is mounted in there, which may be anything of this machine's: nothing is done.
        OSError: it can't be deleted.
    """
    if not path.exists():
        return
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    inside = [place for place in mounted if place.startswith(f"{path.absolute()}/")]
    if inside:
        raise EnvironmentFailedError(
            f"{path} can't be deleted: something is mounted on {', '.join(inside)}.",
            remedy=f"Run: sudo umount {' '.join(sorted(inside, reverse=True))}",
        )
    for folder, _, _ in os.walk(path):
        if Path(folder).stat().st_uid == os.geteuid():
            Path(folder).chmod(stat.S_IRWXU)
    shutil.rmtree(path)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a tool with all that it started."""
    gone = time.monotonic() + 10
    while time.monotonic() < gone:
        process.poll()
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        time.sleep(0.05)
