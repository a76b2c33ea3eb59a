"""The running stand-in: its C:, its other volumes by letter, its registry and event log, from boot to shutdown."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from drtest.lab.standin import ntfs, regf, registry, storage, table
from drtest.lab.standin.events import SIZE as LOG_SIZE
from drtest.lab.standin.events import Event, EventLog
from drtest.lab.standin.machine import Disk, Machine
from drtest.lab.standin.registry import Registry
from drtest.lab.standin.screen import Stop
from drtest.lab.standin.shutdown_record import SIZE as RECORD_SIZE
from drtest.lab.standin.shutdown_record import ShutdownRecord
from drtest.lab.standin.volume import Volume, VolumeError, mount

EVENTS = Path("Windows/System32/winevt/Logs/drtest-stand-in.log")
BOOT_STATUS = Path("Windows/bootstat.dat")
CERTIFICATE = Path("ProgramData/drtest/winrm.pem")
_LETTERS = "DEFGHIJKLMNOPQRSTUVWXYZ"
_LETTER = re.compile(r"\\DosDevices\\([A-Z]):")
_OWN = frozenset({"System Volume Information", "$RECYCLE.BIN"})


@dataclass(kw_only=True)
class Windows:
    """A stand-in that is up.

    Attributes:
        machine: what it runs on.
        top: below it the volumes are mounted, each in a folder of its letter.
        root: the disk that C: is on.
        volumes: what is mounted, by letter.
        known: serials of the disks that were there when the SAN policy became that new ones stay offline; None: it
            is not that.
    """

    machine: Machine
    top: Path
    root: Disk
    volumes: dict[str, Volume]
    registry: Registry
    events: EventLog
    record: ShutdownRecord
    known: frozenset[str] | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    stopping: threading.Event = field(default_factory=threading.Event)
    writer: threading.Thread | None = None

    @property
    def system(self) -> Path:
        """Where C: is mounted."""
        return self.volumes["C"].place

    def path(self, name: str) -> Path:
        r"""A path of Windows' (``E:\x``) as it is here.

        Raises:
            FileNotFoundError: there is no such volume.
        """
        letter, _, rest = name.partition(":")
        if letter.upper() not in self.volumes:
            raise FileNotFoundError(f"there is no volume {name[:3]}")
        return self.volumes[letter.upper()].place.joinpath(*[part for part in rest.split("\\") if part])

    def free_letter(self) -> str:
        """The next letter that no volume has."""
        return next(one for one in _LETTERS if one not in self.volumes)

    def attach(self, letter: str, device: str) -> Volume:
        """Mounts a volume at a letter.

        Raises:
            VolumeError: it can't be mounted.
        """
        self.volumes[letter] = mount(device, self.top / letter.lower())
        return self.volumes[letter]

    def remember(self, letter: str, serial: str) -> None:
        """Keeps a volume's letter in the registry, so that it is the same after a boot."""
        name, data = f"\\DosDevices\\{letter}:", (regf.BINARY, b"NTFS" + bytes.fromhex(serial))
        self.registry.change("SYSTEM", lambda root: root.at(registry.MOUNTED).values.update({name: data}))

    def keep_writing(self, failed: Callable[[BaseException], None]) -> None:
        """Begins to write the hives, one after the other, in a thread.

        Args:
            failed: is told what ends it, if anything does but `shut_down`.
        """

        def write() -> None:
            try:
                while not self.stopping.wait(registry.INTERVAL):
                    self.registry.touch()
            except Exception as problem:  # a registry that can't be written is the system's end
                failed(problem)

        self.writer = threading.Thread(target=write, daemon=True, name="hives")
        self.writer.start()

    def shut_down(self) -> None:
        """Ends in order: the hives are left alone, the record is cleared, the volumes are closed.

        Raises:
            VolumeError: a volume is still in use.
        """
        self.stopping.set()
        if self.writer is not None:
            self.writer.join()
        self.record.clear(now=time.time())
        self.registry.close()
        self.events.close()
        self.record.close()
        for letter in sorted(self.volumes, reverse=True):
            self.volumes.pop(letter).unmount()


def find_root(machine: Machine) -> tuple[Disk, str]:
    """The disk that the machine starts from and its NTFS partition: the one with an active partition beside it.

    Raises:
        Stop: there is none.
    """
    for disk in machine.disks():
        partitions = table.read(disk.path).partitions
        if not any(one.active for one in partitions):
            continue
        for one in partitions:
            device = machine.partition(disk, one.number)
            if ntfs.look(device) is not None:
                return disk, device
    raise Stop(code=0x7B, name="INACCESSIBLE_BOOT_DEVICE", words="No disk has a volume that Windows is on.")


def boot(machine: Machine, *, top: Path) -> Windows:
    """Brings the system up.

    Args:
        machine: what it runs on.
        top: the folder below which volumes are mounted.

    Raises:
        Stop: it does not come up.
    """
    disk, device = find_root(machine)
    try:
        system = mount(device, top / "c")
    except (VolumeError, ntfs.NtfsError) as problem:
        raise Stop(code=0x24, name="NTFS_FILE_SYSTEM", words=str(problem)) from problem
    try:
        if is_new(system.place):
            install(system.place, now=time.time())
        windows = Windows(
            machine=machine,
            top=top,
            root=disk,
            volumes={"C": system},
            registry=Registry(system.place),
            events=EventLog(storage.File(system.place / EVENTS)),
            record=ShutdownRecord(storage.File(system.place / BOOT_STATUS)),
        )
    except OSError as problem:
        raise Stop(code=0xC0000034, name="STATUS_OBJECT_NAME_NOT_FOUND", words=str(problem)) from problem
    _log_boot(windows)
    windows.record.set(now=time.time())
    _mount_others(windows)
    return windows


def is_new(top: Path) -> bool:
    """Whether nothing was ever installed on a volume."""
    return not any(one.name not in _OWN for one in top.iterdir())


def install(top: Path, *, now: float) -> None:
    """Puts on an empty C: what a Windows has there, each file as large as it will ever be."""
    registry.install(top, now=now)
    for name, size in ((EVENTS, LOG_SIZE), (BOOT_STATUS, RECORD_SIZE), (CERTIFICATE, storage.PAGE)):
        storage.make(top / name, b"", size=size)


def _log_boot(windows: Windows) -> None:
    """What Windows logs after a shutdown that was none; and that a hive was recovered."""
    now = time.time()
    if windows.record.unclean_since is not None:
        power = Event(provider="Microsoft-Windows-Kernel-Power", id=41, at=now, data={"BugcheckCode": 0})
        windows.events.add(power)
        windows.events.add(Event(provider="EventLog", id=6008, at=now))
    for _ in windows.registry.recovered:
        windows.events.add(Event(provider="Microsoft-Windows-Kernel-General", id=5, at=now))


def _mount_others(windows: Windows) -> None:
    """All other volumes, each at the letter that it had, else at the next one that is free."""
    known = {
        data[4:].hex().upper(): match[1]
        for name, data in windows.registry.values("SYSTEM", registry.MOUNTED).items()
        if (match := _LETTER.fullmatch(name))
    }
    found = [
        (look.serial, device)
        for disk in windows.machine.disks()
        if disk.serial != windows.root.serial
        for one in table.read(disk.path).partitions
        for device in (windows.machine.partition(disk, one.number),)
        if (look := ntfs.look(device)) is not None
    ]
    for serial, device in sorted(found, key=lambda one: one[0] not in known):
        letter = known.get(serial, "")
        if not letter or letter in windows.volumes:
            letter = windows.free_letter()
        try:
            windows.attach(letter, device)
        except VolumeError:
            continue  # it is then missing, as on a Windows whose data volume is broken
        if serial not in known:
            windows.remember(letter, serial)
