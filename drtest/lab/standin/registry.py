"""The registry of C:: five hives, what is in them, and that something is written to them all the time."""

import contextlib
import struct
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from drtest.lab.standin import hive, regf, storage
from drtest.lab.standin.regf import HiveError, Key
from drtest.lab.standin.screen import Stop
from drtest.lab.standin.times import filetime

FOLDER = Path("Windows/System32/config")
NAMES = ("SYSTEM", "SOFTWARE", "SAM", "SECURITY", "DEFAULT")
SIZES: Mapping[str, int] = {**dict.fromkeys(NAMES, 8192), "SYSTEM": 12288}
"""Bytes of a hive's bins: little, as all of it is written every few seconds."""
INTERVAL = 1.0
"""Seconds from one hive's write to the next one's."""

SERVICES = "ControlSet001\\Services"
MOUNTED = "MountedDevices"
CRYPTOGRAPHY = "Microsoft\\Cryptography"
_RECENT: Mapping[str, str] = {
    "SYSTEM": SERVICES + "\\bam\\State\\UserSettings\\S-1-5-18",
    "SOFTWARE": "Microsoft\\Windows NT\\CurrentVersion\\Notifications\\Data",
    "SAM": "SAM\\Domains\\Account\\Users",
    "SECURITY": "Policy\\Secrets",
    "DEFAULT": "Software\\Microsoft\\Windows\\CurrentVersion\\Explorer",
}
_ITEMS: Mapping[str, int] = {**dict.fromkeys(NAMES, 84), "SYSTEM": 112}
"""Values that are written anew in turn: with so many, each write changes all pages of its hive."""
AUTOMATIC = ("EventLog", "LanmanServer", "WinRM")
AT_REST = ("sppsvc", "edgeupdate")
"""Automatic services that have nothing to do: they stopped by themselves, with 0."""


def _content(name: str, *, now: int) -> Key:
    root = Key()
    if name == "SYSTEM":
        root.at("Select").values.update({"Current": regf.number(1), "LastKnownGood": regf.number(1)})
        root.at(MOUNTED)
        for service in (*AUTOMATIC, *AT_REST):
            root.at(f"{SERVICES}\\{service}").values["Start"] = regf.number(2)
    if name == "SOFTWARE":
        root.at("Microsoft\\Windows NT\\CurrentVersion").values["ProductName"] = regf.text("drtest stand-in")
        root.at(CRYPTOGRAPHY).values["MachineGuid"] = regf.text("")
    values = root.at(_RECENT[name]).values
    for item in range(_ITEMS[name]):
        values[f"Item{item:02}"] = (regf.BINARY, struct.pack("<QQQ", now, 0, item))
    return root


def install(top: Path, *, now: float) -> None:
    """Writes the hives and their logs to an empty C:."""
    for name in NAMES:
        size = SIZES[name]
        data = hive.new(
            f"\\SystemRoot\\System32\\Config\\{name}",
            _content(name, now=filetime(now)),
            size=size,
            written=filetime(now),
        )
        storage.make(top / FOLDER / name, data)
        storage.make(top / FOLDER / f"{name}.LOG1", b"", size=hive.log_size(size))


def load(top: Path, name: str) -> hive.Hive:
    """One hive of a volume, recovered if need be.

    Raises:
        HiveError: it is not there, can't be recovered, or is not whole.
        OSError: the volume can't be read.
    """
    with contextlib.ExitStack() as opened:
        files = []
        for path in (top / FOLDER / name, top / FOLDER / f"{name}.LOG1"):
            try:
                files.append(storage.File(path))
            except FileNotFoundError as problem:
                raise HiveError(f"{path.name} is not there") from problem
            opened.callback(files[-1].close)
        loaded = hive.load(files[0], files[1])
        opened.pop_all()
    return loaded


class Registry:
    """The hives of a running system.

    Raises:
        Stop: one of them can't be loaded.
    """

    def __init__(self, top: Path) -> None:
        self._lock = threading.RLock()
        self._hives: dict[str, hive.Hive] = {}
        self._written = 0
        for name in NAMES:
            try:
                self._hives[name] = load(top, name)
            except (HiveError, OSError) as problem:
                raise _stop(name, problem) from problem

    @property
    def recovered(self) -> tuple[str, ...]:
        """The hives that had to be recovered from their logs."""
        return tuple(name for name, one in self._hives.items() if one.recovered)

    def change(self, name: str, change: Callable[[Key], None]) -> None:
        """Changes a hive; it is on the disk then.

        Raises:
            HiveError, OSError: it can't be written.
        """
        with self._lock:
            change(self._hives[name].root)
            self._hives[name].flush(now=filetime(time.time()))

    def text(self, name: str, path: str, value: str) -> str:
        """A value of text; "" where there is none."""
        with self._lock:
            return self._hives[name].root.text(path, value)

    def values(self, name: str, path: str) -> dict[str, bytes]:
        """The data of all values of a key."""
        with self._lock:
            return {title: data for title, (_, data) in self._hives[name].root.at(path).values.items()}

    def automatic(self) -> list[str]:
        """The names of services that start by themselves."""
        with self._lock:
            services = self._hives["SYSTEM"].root.at(SERVICES).keys
            return [name for name, key in services.items() if key.values.get("Start") == regf.number(2)]

    def name_machine(self) -> None:
        """Gives the machine its GUID, if it has none yet."""
        if not self.text("SOFTWARE", CRYPTOGRAPHY, "MachineGuid"):
            guid = regf.text(str(uuid.uuid4()))
            self.change("SOFTWARE", lambda root: root.at(CRYPTOGRAPHY).values.update(MachineGuid=guid))

    def close(self) -> None:
        """Gives the files back."""
        with self._lock:
            for one in self._hives.values():
                one.close()

    def touch(self) -> None:
        """Writes the next hive in turn, with something new in it.

        Raises:
            HiveError, OSError: it can't be written.
        """
        name = NAMES[self._written % len(NAMES)]
        item = self._written // len(NAMES) % _ITEMS[name]
        self._written += 1
        data = struct.pack("<QQQ", filetime(time.time()), self._written, item)
        self.change(
            name, lambda root: root.at(_RECENT[name]).values.update({f"Item{item:02}": (regf.BINARY, data)})
        )


def _stop(name: str, problem: Exception) -> Stop:
    path = f"\\SystemRoot\\System32\\Config\\{name}"
    words = f"The registry cannot load the hive (file): {path}\nor its log: {problem}."
    if name == "SYSTEM":
        return Stop(code=0x74, name="BAD_SYSTEM_CONFIG_INFO", words=words)
    return Stop(code=0xC0000218, name="STATUS_CANNOT_LOAD_REGISTRY_FILE", words=words)
