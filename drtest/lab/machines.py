"""One virtual machine: a QEMU process, its folder, and what can be done to it while it runs."""

import io
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image as Picture

from drtest.errors import DeadlineError, EnvironmentFailedError
from drtest.lab.board import CONSOLE, LOG, PID_FILE, MachineDisk, MachineSpec, arguments
from drtest.lab.drives import Drives
from drtest.lab.process import Process
from drtest.lab.qmp import SOCKET, Monitor

__all__ = ["End", "Machine", "MachineDisk", "MachineSpec", "OnExit"]

SPEC_FILE = "machine.json"


@dataclass(frozen=True, kw_only=True)
class End:
    """How a machine's process ended.

    Attributes:
        code: the process's exit code, negative for a signal; None if it was another process's child.
        reason: ``guest-shutdown``: the guest switched itself off. ``killed``: we, or a signal, ended it.
            ``crashed``: QEMU gave up. ``unknown``: nobody was there to see it.
        message: what QEMU said last, if anything.
    """

    code: int | None
    reason: str
    message: str = ""


class Machine:
    """A running machine: made by ``start``, or taken up again by ``adopt``. Safe to call from several threads.

    It does not end with the process that started it: whoever comes next adopts it.

    Attributes:
        spec: what it was started with; disks may have come and gone since (``volumes``).
        pid: QEMU's process.
    """

    def __init__(
        self,
        spec: MachineSpec,
        process: Process,
        monitor: Monitor,
        on_exit: "OnExit",
    ) -> None:
        self.spec = spec
        self.pid = process.pid
        self._process = process
        self._monitor = monitor
        self._on_exit = on_exit
        self._end: End | None = None
        self._told = threading.Event()
        self._drives = Drives(spec.id, monitor)
        threading.Thread(target=self._watch, name=f"watch-{spec.id}", daemon=True).start()

    @classmethod
    def start(cls, spec: MachineSpec, on_exit: "OnExit", *, deadline: float = 30.0) -> "Machine":
        """Start a machine.

        Args:
            spec: what it is made of. Its folder is made if need be; it keeps the last console of the previous start.
            on_exit: called once, from a thread of its own, when the machine has ended, however that came; not called
                if this raises.
            deadline: seconds until QEMU must answer.

        Raises:
            EnvironmentFailedError: QEMU is not installed, or ended at once; what it said is in the message.
        """
        folder = spec.folder.absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        running = Process.of(folder / PID_FILE)
        if running is not None:
            running.close()
            raise EnvironmentFailedError(f"the machine {spec.id} is running already (process {running.pid}).")
        if (folder / CONSOLE).exists():
            (folder / CONSOLE).replace(folder / "console.previous.log")
        for left in (SOCKET, PID_FILE):
            (folder / left).unlink(missing_ok=True)
        _write(folder / SPEC_FILE, spec.to_json())
        strings: list[Path] = []
        for name, text in spec.identity().items():
            strings.append(folder / f"smbios.{name}")
            _write(strings[-1], text)
        with (folder / LOG).open("wb") as log:
            try:
                child = subprocess.Popen(
                    arguments(spec, tuple(strings)),
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # a Ctrl-C for us is none for the machines
                )
            except FileNotFoundError as error:
                raise EnvironmentFailedError(
                    f"{error.filename} is not installed", remedy="Run: drtest lab install"
                ) from error
        process = Process(child.pid, child=child)
        try:
            monitor = Monitor.connect(spec.id, folder, deadline=deadline, alive=lambda: process.alive)
        except BaseException as error:
            process.signal(signal.SIGKILL)
            code = process.wait()
            if isinstance(error, EnvironmentFailedError):
                said = _last_words(folder) or str(error)
                raise EnvironmentFailedError(
                    f"QEMU did not start the machine {spec.id} (exit code {code}): {said}"
                ) from error
            raise
        return cls(spec, process, monitor, on_exit)

    @classmethod
    def adopt(cls, folder: Path, on_exit: "OnExit", *, deadline: float = 10.0) -> "Machine | None":
        """Take up the machine of this folder that an earlier process started; None if there is none (any more).

        A process that merely has the same number as the machine once had is not touched: it has to have been started
        with this very folder.

        Raises:
            EnvironmentFailedError: it is there but can't be controlled.
        """
        folder = folder.absolute()
        process = Process.of(folder / PID_FILE)
        if process is None:
            return None
        try:
            spec = MachineSpec.from_json((folder / SPEC_FILE).read_text())
            monitor = Monitor.connect(spec.id, folder, deadline=deadline, alive=lambda: process.alive)
        except BaseException:
            process.close()
            raise
        return cls(replace(spec, folder=folder), process, monitor, on_exit)

    @staticmethod
    def discard(folder: Path, *, deadline: float = 10.0) -> bool:
        """End the machine of this folder, if there is one, without controlling it first: also one that hangs.

        Returns:
            Whether there was one.

        Raises:
            DeadlineError: its process is still there.
        """
        process = Process.of(folder.absolute() / PID_FILE)
        if process is None:
            return False
        process.signal(signal.SIGKILL)
        ended = process.wait_for_end(deadline=deadline)
        process.close()
        if not ended:
            raise DeadlineError(f"QEMU's process {process.pid} ({folder}) was killed but is still there.")
        return True

    @property
    def monitor(self) -> Monitor:
        """Its control socket, for what is seldom done to a machine."""
        return self._monitor

    @property
    def alive(self) -> bool:
        """Whether its process is running."""
        return self._end is None and self._process.alive

    @property
    def end(self) -> End | None:
        """How it ended; None as long as it runs."""
        return self._end

    def volumes(self) -> tuple[str, ...]:
        """Name the volumes that are attached at this moment, as QEMU has them."""
        return self._drives.volumes()

    def attach(self, disk: MachineDisk, *, deadline: float = 10.0) -> None:
        """Plug a disk in; the guest sees it a second or so later.

        Raises:
            EnvironmentFailedError: no port is free, the volume is attached already, or QEMU refused.
        """
        self._drives.attach(disk, deadline=deadline)

    def detach(self, volume: str, *, deadline: float = 30.0) -> None:
        """Have the guest let go of a disk, and close its files. Nothing happens if it is not attached.

        Raises:
            DeadlineError: the guest did not let go; it may still do so, and the call can be repeated.
            EnvironmentFailedError: QEMU refused.
        """
        self._drives.detach(volume, deadline=deadline)

    def switch(self, tops: Mapping[str, Path], *, deadline: float = 30.0) -> None:
        """Let volumes go on in new files, all at the same moment; what they had until then is written no more.

        Args:
            tops: for each volume, the file to go on in: a qcow2 file whose backing file is the present one.
            deadline: seconds that this may take.

        Raises:
            CommandError: QEMU refused, and nothing has changed.
            EnvironmentFailedError: QEMU did not answer: ``writing`` says what became of it.
        """
        self._drives.switch(tops, deadline=deadline)

    def writing(self) -> dict[str, Path]:
        """Say which file each attached volume is written to at this moment, as QEMU has it."""
        return self._drives.writing()

    def powerdown(self) -> None:
        """Press the power button. A guest that is still starting may miss it: press again.

        Raises:
            EnvironmentFailedError: the machine is gone.
        """
        self._monitor.execute("system_powerdown")

    def kill(self, *, deadline: float = 10.0) -> None:
        """End it without asking it, and wait for that.

        Raises:
            DeadlineError: the process is still there.
        """
        self._process.signal(signal.SIGKILL)
        if not self.wait(deadline=deadline):
            raise DeadlineError(f"QEMU's process {self.pid} ({self.spec.id}) was killed but is still there.")

    def wait(self, *, deadline: float) -> bool:
        """Wait until it has ended and ``on_exit`` has been told; False if it hasn't after ``deadline`` seconds."""
        return self._told.wait(deadline)

    def screenshot(self) -> bytes:
        """Take a picture of its screen, as JPEG.

        Raises:
            EnvironmentFailedError: the machine is gone.
        """
        path = self.spec.folder.absolute() / f"screen.{threading.get_ident()}.png"
        try:
            self._monitor.execute("screendump", {"filename": str(path), "format": "png"})
            jpeg = io.BytesIO()
            with Picture.open(path) as picture:
                picture.convert("RGB").save(jpeg, "JPEG", quality=80)
        finally:
            path.unlink(missing_ok=True)
        return jpeg.getvalue()

    def console(self) -> bytes:
        """Read what its serial console has shown since it was started."""
        try:
            return (self.spec.folder / CONSOLE).read_bytes()
        except FileNotFoundError:
            return b""

    def _watch(self) -> None:
        """Wait for the end, in a thread of its own, and tell it."""
        self._process.wait_for_end()
        reason = self._monitor.ending()
        code = self._process.wait()
        if reason.startswith("guest"):
            reason = "guest-shutdown"
        elif code is None and not reason:
            reason = "unknown"
        elif code in {None, 0, -signal.SIGKILL, -signal.SIGTERM}:
            reason = "killed"
        else:
            reason = "crashed"
        self._end = End(code=code, reason=reason, message=_last_words(self.spec.folder))
        try:
            self._on_exit(self, self._end)
        finally:
            self._told.set()


OnExit = Callable[[Machine, End], None]
"""Told that a machine has ended, and how."""


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.new")
    partial.touch(mode=0o600)
    partial.write_text(text)
    partial.replace(path)


def _last_words(folder: Path) -> str:
    try:
        return (folder / LOG).read_text(errors="replace").strip()[-2000:]
    except OSError:
        return ""
