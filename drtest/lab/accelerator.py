"""What carries out a machine's instructions here: KVM if a trial boot proved it, else QEMU's own TCG."""

import json
import os
import platform
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from drtest.errors import EnvironmentFailedError
from drtest.lab.images import Image

KVM = Path("/dev/kvm")
PROOFS = (b"systemd[1]:", b"stand-in for Windows")
"""What a trial boot has to show on its serial console: the guest's first process has begun its work."""

PANIC = b"Kernel panic - not syncing"
STUCK = b"KVM internal error"


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """How QEMU carries out a machine's instructions, and why so.

    Attributes:
        name: ``kvm`` or ``tcg``.
        reason: one sentence for people.
    """

    name: Literal["kvm", "tcg"]
    reason: str

    @property
    def arguments(self) -> tuple[str, ...]:
        """The part of QEMU's command line that says it."""
        if self.name == "kvm":
            return ("-accel", "kvm", "-cpu", "host")
        return ("-accel", "tcg,thread=multi", "-cpu", "max")


def choose(
    image: Image,
    *,
    deadline: float = 20.0,
    progress: Callable[[str], None] | None = None,
    cache: Path | None = None,
) -> Accelerator:
    """Say which accelerator works on this machine, by booting ``image`` under KVM once.

    A /dev/kvm that opens proves nothing: there are hosts on which it does, and on which a kernel then hangs. What was
    found is remembered for as long as host, QEMU and image stay what they are; the second call is instant.

    Args:
        image: what is booted, from a throw-away overlay.
        deadline: seconds that the trial may take.
        progress: is told, as a sentence, that a trial is under way.
        cache: the folder in which the result is remembered; the user's cache by default.

    Raises:
        EnvironmentFailedError: QEMU is not installed.
    """
    tried = _untriable()
    if tried is not None:
        return tried
    folder = cache or Path(platformdirs.user_cache_dir("drtest"))
    key = _key(image)
    known = _recall(folder, key)
    if known is not None:
        return known
    if progress:
        progress(f"trying whether KVM can boot a kernel here (at most {deadline:.0f} s)")
    found = _trial(image.layer, deadline)
    _remember(folder, key, found)
    return found


def _untriable() -> Accelerator | None:
    """Say TCG, where that can be known without a trial."""
    if platform.machine() != "x86_64":
        return Accelerator(
            name="tcg", reason=f"The guests are x86_64, and this machine is {platform.machine()}."
        )
    try:
        os.close(os.open(KVM, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Accelerator(name="tcg", reason=f"There is no {KVM} on this machine.")
    except PermissionError:
        return Accelerator(
            name="tcg",
            reason=f"{KVM} is there, but may not be opened: sudo usermod -aG kvm $USER, and a new login, would do.",
        )
    except OSError as error:
        return Accelerator(name="tcg", reason=f"{KVM} can't be opened: {error.strerror}.")
    return None


def _trial(disk: Path, deadline: float) -> Accelerator:
    """Boot a disk under KVM, from its boot sector to its first process."""
    with tempfile.TemporaryDirectory(prefix="drtest-kvm-") as scratch:
        overlay = f"{scratch}/disk.qcow2"
        node = {"driver": "qcow2", "node-name": "disk", "file": {"driver": "file", "filename": overlay}}
        argv = ["qemu-system-x86_64", "-no-user-config", "-nodefaults", "-machine", "q35"]
        argv += [*Accelerator(name="kvm", reason="").arguments, "-smp", "2", "-m", "512"]
        argv += ["-display", "none", "-vga", "std", "-serial", "stdio", "-net", "none"]
        argv += ["-blockdev", json.dumps(node), "-device", "nvme,serial=trial,drive=disk,bootindex=0"]
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(disk), "-F", "qcow2", overlay]
        try:
            subprocess.run(create, check=True, capture_output=True, timeout=60)
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            seen = f"{error.filename} is not installed"
            raise EnvironmentFailedError(seen, remedy="Run: drtest lab install") from error
        except subprocess.CalledProcessError as error:
            why = error.stderr.decode(errors="replace").strip()
            raise EnvironmentFailedError(f"KVM's trial boot got no overlay of {disk}: {why}") from error
        try:
            said, seconds = _watch(process, deadline)
        finally:
            process.kill()
            code = process.wait(timeout=30)
    return _judge(said, seconds, code)


def _watch(process: "subprocess.Popen[bytes]", deadline: float) -> tuple[bytes, float]:
    """Read what a machine and its QEMU say until it proved itself or failed, ended, or had its time."""
    assert process.stdout is not None  # noqa: S101 - Popen was told to make a pipe
    start = time.monotonic()
    seen = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not any(sign in seen for sign in (*PROOFS, PANIC, STUCK)):
            left = start + deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                break
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                process.wait(timeout=30)
                break
            seen += data
    return seen, time.monotonic() - start


def _judge(said: bytes, seconds: float, code: int) -> Accelerator:
    if any(proof in said for proof in PROOFS):
        reason = f"A trial boot under KVM reached the guest's first process in {seconds:.1f} s."
        return Accelerator(name="kvm", reason=reason)
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    failures = [line for line in lines if line.startswith(("qemu-system-x86_64: error", STUCK.decode()))]
    last = f"its last line was {lines[-1][:120]!r}" if lines else "it never wrote a line"
    if PANIC in said:
        what = f"ended in a kernel panic ({last})"
    elif failures:
        what = f"ended in {failures[0][:160]!r}"
    elif code != -signal.SIGKILL:
        what = f"ended QEMU with exit code {code} ({last})"
    else:
        what = f"did not reach the guest's first process in {seconds:.0f} s ({last})"
    return Accelerator(name="tcg", reason=f"{KVM} opens, but a trial boot under it {what}.")


def _key(image: Image) -> str:
    """Say what the result depends on: the running kernel, this boot, QEMU, and the image."""
    try:
        version = subprocess.run(
            ["qemu-system-x86_64", "--version"], capture_output=True, text=True, timeout=30, check=True
        ).stdout.splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        raise EnvironmentFailedError(
            f"qemu-system-x86_64 can't be run: {error}", remedy="Run: drtest lab install"
        ) from error
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return "|".join((boot, platform.release(), version, f"{image.name}-{image.version}"))


def _recall(folder: Path, key: str) -> Accelerator | None:
    try:
        known = json.loads((folder / "accelerator.json").read_text())
        if known["key"] == key:
            return Accelerator(name=known["name"], reason=known["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # never found out, or unreadable: the trial says it again
    return None


def _remember(folder: Path, key: str, found: Accelerator) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".accelerator.{os.getpid()}.json"
    partial.write_text(json.dumps({"key": key, **asdict(found)}) + "\n")
    partial.replace(folder / "accelerator.json")
