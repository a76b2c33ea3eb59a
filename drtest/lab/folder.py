"""The folder of a lab: which files are in it, who may read them, and the locks that keep two labs apart."""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import platformdirs

from drtest.errors import DeadlineError, EnvironmentFailedError

REGION = "us-east-1"
ENVIRONMENT = "DRTEST_LAB_DIR"


@dataclass(frozen=True, kw_only=True)
class LabMachine:
    """A machine that runs in the lab."""

    instance: str
    name: str
    state: str
    address: str


@dataclass(frozen=True, kw_only=True)
class LabAccount:
    """An account of the lab besides the one that owns its images: for sharing between two."""

    account: str
    access_key: str
    secret_key: str


@dataclass(frozen=True, kw_only=True)
class LabStatus:
    """A lab that is up: all that a client of it needs.

    Attributes:
        endpoint: the URL for boto3's ``endpoint_url``.
        region: the region whose default network and images are the lab's.
        access_key: the access key of the lab's own account.
        secret_key: what boto3 signs with; the lab does not verify it.
        images: names of images, as scenarios call them, to AMI ids.
        accelerator: ``kvm`` or ``tcg``.
        accelerator_reason: why, as a sentence.
        machines: what runs now.
        key_file: the private key that opens instances started with `key_name`.
        key_name: the key pair of the lab.
        password_file: the password of ``Administrator`` on Windows instances.
        zone: an availability zone, that of `subnet`.
        subnet: the default subnet of `zone`.
        folder: where the lab lives.
        pid: its process.
        idle_minutes: it ends by itself after so long without a request; None for never.
        lost: what could not be taken up after the lab's process had died, as sentences.
        second: another account, empty at first: what is shared with it, it sees.
        trouble: what is wrong with it now, as sentences.
        pool: by the names of images, how strong the write pool in front of their root volumes is; 0 for none.
        seed: what the write pools draw their waiting times from.
    """

    endpoint: str
    region: str
    access_key: str
    secret_key: str
    images: Mapping[str, str]
    accelerator: str
    accelerator_reason: str
    machines: tuple[LabMachine, ...]
    key_file: Path
    key_name: str
    password_file: Path
    zone: str
    subnet: str
    folder: Path
    pid: int
    idle_minutes: float | None = None
    lost: tuple[str, ...] = ()
    second: LabAccount | None = None
    trouble: tuple[str, ...] = ()
    pool: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Write it as the document of ``drtest lab status --json``."""
        paths = {name: str(getattr(self, name)) for name in ("key_file", "password_file", "folder")}
        return {**asdict(self), **paths}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "LabStatus":
        """Read what `to_json` wrote."""
        return cls(
            **{
                **document,
                "machines": tuple(LabMachine(**machine) for machine in document["machines"]),
                "key_file": Path(document["key_file"]),
                "password_file": Path(document["password_file"]),
                "folder": Path(document["folder"]),
                "lost": tuple(document["lost"]),
                "second": LabAccount(**document["second"]) if document.get("second") else None,
                "trouble": tuple(document.get("trouble", ())),
            }
        )


def default_folder() -> Path:
    """Say where the lab lives if nothing else is said: ``$DRTEST_LAB_DIR``, else this user's state folder."""
    named = os.environ.get(ENVIRONMENT)
    return Path(named) if named else platformdirs.user_state_path("drtest") / "lab"


class LabFolder:
    """A lab's folder, readable by its owner only.

    Args:
        path: where; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.status_file = self.path / "lab.json"
        self.log_file = self.path / "lab.log"
        self.books_file = self.path / "books.sqlite"
        self.key_file = self.path / "lab.key"
        self.password_file = self.path / "windows-password"
        self.machines = self.path / "machines"
        self.disks = self.path / "disks"
        self._lock_file = self.path / "lab.lock"
        self._starting_file = self.path / "starting.lock"

    @property
    def is_lab(self) -> bool:
        """Whether a lab has ever lived here: nothing is removed from a folder that is none."""
        return self._lock_file.exists()

    def make(self) -> None:
        """Make the folder, for its owner alone.

        Raises:
            EnvironmentFailedError: it can't be made, belongs to somebody else, or has other things in it.
        """
        remedy = f"Name another folder with {ENVIRONMENT}."
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.is_lab and any(self.path.iterdir()):
                raise EnvironmentFailedError(
                    f"{self.path} is no lab's folder, and is not empty.", remedy=remedy
                )
            self.path.chmod(0o700)
            self._lock_file.touch(mode=0o600)
        except OSError as error:
            raise EnvironmentFailedError(
                f"The lab's folder {self.path} can't be used: {error}", remedy=remedy
            ) from error

    def write_status(self, status: LabStatus) -> None:
        """Write the status file, whole or not at all."""
        fresh = self.status_file.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(status.to_json(), indent=2))
        fresh.replace(self.status_file)

    def read_status(self) -> LabStatus | None:
        """Read the status file; None if there is none that can be read."""
        try:
            return LabStatus.from_json(json.loads(self.status_file.read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def own(self) -> bool:
        """Take the lab's lock for the life of this process, and write its number into it.

        The lock is never let go of by us: the kernel does so when the process has ended, by whatever cause.

        Returns:
            Whether it was free; if not, another process is the lab.
        """
        lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _try(lock):
            os.close(lock)
            return False
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        return True

    def owner(self) -> int | None:
        """Say which process holds the lab's lock; None if none does."""
        if not self._lock_file.exists():
            return None
        with _open(self._lock_file) as lock:
            if _try(lock):
                return None
            lock.seek(0)
            text = lock.read().strip()
        return int(text) if text.isdigit() else None

    @contextmanager
    def starting(self, *, deadline: float) -> Iterator[None]:
        """Keep others from starting or stopping this lab meanwhile.

        Args:
            deadline: seconds to wait for another one who is at it.

        Raises:
            DeadlineError: another one is still at it.
        """
        until = time.monotonic() + deadline
        with _open(self._starting_file) as lock:
            while not _try(lock):
                if time.monotonic() > until:
                    raise DeadlineError(
                        f"Another process has been starting or stopping the lab in {self.path} for {deadline:.0f} s.",
                        remedy="See its progress in its terminal, or end it.",
                    )
                time.sleep(0.1)
            yield


def _open(path: Path) -> TextIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")


def _try(lock: TextIO | int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
