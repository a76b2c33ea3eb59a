"""The lab's machines and disks as the API works on them: by the ids of instances and volumes."""

import shutil
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from drtest.errors import DrtestError, EnvironmentFailedError
from drtest.lab import harm
from drtest.lab.accelerator import Accelerator
from drtest.lab.board import CONSOLE, METADATA
from drtest.lab.disks import Disks, Layer
from drtest.lab.machines import End, Machine, MachineDisk, MachineSpec
from drtest.lab.pooled import Pools
from drtest.lab.qmp import dial

ADOPT_SECONDS = 30.0
"""How long a machine has to answer when it is taken up, beside others on the same processors."""

Ended = Callable[[str, End], None]
"""Told, once for each machine, that it has ended: the instance's id, and how."""


class Hardware(Protocol):
    """What carries out the API's work; tests give one that boots at will."""

    @property
    def accelerator(self) -> Accelerator:
        """What carries out the machines' instructions."""

    def folder(self, instance: str) -> Path:
        """Say where an instance's machine keeps its files."""

    def start(self, spec: MachineSpec, ended: Ended, *, deadline: float = 30.0) -> None:
        """Start a machine; returns when its process runs, which may take ``deadline`` seconds."""

    def adopt(self, instance: str, ended: Ended) -> MachineSpec | None:
        """Take up a machine that an earlier process of the lab started; None if it is gone.

        One that can't be controlled any more is ended, which raises a `DrtestError`.
        """

    def running(self, instance: str) -> bool:
        """Say whether there is a machine of this instance."""

    def plugged(self, instance: str) -> frozenset[str]:
        """Name the volumes that are plugged into a running machine."""

    def attach(self, instance: str, disk: MachineDisk) -> None:
        """Plug a disk into a running machine; returns when it is in."""

    def detach(self, instance: str, volume: str, *, deadline: float = 30.0) -> None:
        """Unplug a disk from a running machine; returns when the guest has let go of it, in ``deadline`` seconds."""

    def powerdown(self, instance: str) -> None:
        """Press the power button."""

    def kill(self, instance: str) -> None:
        """End a machine without asking it."""

    def pause(self, instance: str) -> None:
        """Stop a machine's processors and clock, as if it hung."""

    def resume(self, instance: str) -> None:
        """Let a machine that was paused go on."""

    def hang(self, instance: str, volume: str) -> None:
        """Let no request to a plugged volume be finished any more."""

    def fail(self, instance: str, volume: str, *, requests: str) -> None:
        """Let requests to a plugged volume end in an error: ``all``, ``reads`` or ``writes``."""

    def screenshot(self, instance: str) -> bytes:
        """Take a picture of the console, as JPEG."""

    def console(self, instance: str) -> bytes:
        """Read what the machine's serial console has shown since it was started the last time."""

    def metadata(self, instance: str) -> socket.socket:
        """Connect to what a running machine's guest says to its metadata service."""

    def discard(self, instance: str) -> None:
        """Remove the files of an instance that has no machine any more."""

    def blank(self, volume: str, *, size: int) -> None:
        """Make an empty disk of ``size`` bytes."""

    def overlay(self, volume: str, *, layer: str, size: int) -> None:
        """Make a disk of ``size`` bytes that begins as the bytes of a layer."""

    def top(self, volume: str) -> Path:
        """Say which file a machine has to open."""

    def freeze(self, volumes: Sequence[str], *, instance: str | None) -> dict[str, str]:
        """Keep the bytes of some volumes, all of one moment, as layers; ``instance`` runs with them.

        Of a volume with a write pool it is what had left the pool: `finish` puts that together.
        """

    def finish(self, layer: str) -> None:
        """Put a layer's bytes together, if that is still to be done; returns when they are there."""

    def grow(self, volume: str, *, size: int, instance: str | None) -> None:
        """Make a disk larger, to ``size`` bytes; ``instance`` runs with it."""

    def remove(self, volume: str) -> None:
        """Remove a disk."""

    def remove_layer(self, layer: str) -> None:
        """Let go of a layer."""

    def free(self) -> int:
        """Say how many bytes there is room for; none or fewer: nothing new can be made."""

    def nearly_full(self) -> bool:
        """Say whether the writes of running machines could soon find no room."""

    def bound_logs(self) -> None:
        """See to it that the logs of running machines' writes stay within bounds."""

    def volumes(self) -> tuple[str, ...]:
        """Name the volumes that there are disks of."""

    def layers(self) -> tuple[str, ...]:
        """Name the layers that are kept."""


class QemuHardware:
    """Machines and disks in QEMU.

    Args:
        folder: where the disks and the machines' files are.
        accelerator: what carries out the machines' instructions.
        reserve: bytes that are left free on the disk.
    """

    def __init__(self, folder: Path, *, accelerator: Accelerator, reserve: int = 2 * 1024**3) -> None:
        self.accelerator = accelerator
        self._folder = folder
        self._reserve = reserve
        self._disks = Disks(folder / "disks", reserve=reserve)
        self._pools = Pools(self._disks)
        self._machines: dict[str, Machine] = {}
        self._lock = threading.Lock()
        (folder / "machines").mkdir(mode=0o700, parents=True, exist_ok=True)

    def folder(self, instance: str) -> Path:
        """Say where an instance's machine keeps its files."""
        return self._folder / "machines" / instance

    def start(self, spec: MachineSpec, ended: Ended, *, deadline: float = 30.0) -> None:
        """Start a machine, whose process has to answer in ``deadline`` seconds.

        Raises:
            EnvironmentFailedError: QEMU did not start.
        """
        spec.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        machine = Machine.start(self._pools.begin(spec), self._watcher(spec.id, ended), deadline=deadline)
        with self._lock:
            if machine.alive:
                self._machines[spec.id] = machine

    def adopt(self, instance: str, ended: Ended) -> MachineSpec | None:
        """Take up a machine that an earlier process of the lab started.

        Raises:
            DrtestError: it could not be controlled any more, and was ended.
        """
        if not self.folder(instance).is_dir():
            return None
        try:
            machine = Machine.adopt(
                self.folder(instance), self._watcher(instance, ended), deadline=ADOPT_SECONDS
            )
        except DrtestError:
            # It would go on writing to disks that are taken for idle: snapshots of them would change.
            Machine.discard(self.folder(instance))
            self._pools.end(self.folder(instance))
            raise
        if machine is None:
            self._pools.end(self.folder(instance))
            return None
        with self._lock:
            self._machines[instance] = machine
        self._disks.reconcile(machine)
        return machine.spec

    def _watcher(self, instance: str, ended: Ended) -> Callable[[Machine, End], None]:
        def on_exit(machine: Machine, end: End) -> None:
            with self._lock:
                if self._machines.get(instance) is machine:
                    del self._machines[instance]
            self._pools.end(machine.spec.folder)
            ended(instance, end)

        return on_exit

    def _machine(self, instance: str) -> Machine:
        with self._lock:
            machine = self._machines.get(instance)
        if machine is None:
            raise EnvironmentFailedError(f"{instance} has no running machine.")
        return machine

    def running(self, instance: str) -> bool:
        """Say whether there is a machine of this instance."""
        with self._lock:
            machine = self._machines.get(instance)
        return machine is not None and machine.alive

    def plugged(self, instance: str) -> frozenset[str]:
        """Name the volumes that are plugged into a running machine, none if it doesn't run."""
        try:
            return frozenset(self._machine(instance).volumes())
        except EnvironmentFailedError:
            if self.running(instance):
                raise
            return frozenset()

    def attach(self, instance: str, disk: MachineDisk) -> None:
        """Plug a disk into a running machine."""
        self._machine(instance).attach(disk)

    def detach(self, instance: str, volume: str, *, deadline: float = 30.0) -> None:
        """Unplug a disk from a running machine."""
        self._machine(instance).detach(volume, deadline=deadline)

    def powerdown(self, instance: str) -> None:
        """Press the power button."""
        self._machine(instance).powerdown()

    def kill(self, instance: str) -> None:
        """End a machine without asking it."""
        self._machine(instance).kill()

    def pause(self, instance: str) -> None:
        """Stop a machine's processors and clock, as if it hung."""
        self._machine(instance).monitor.execute("stop")

    def resume(self, instance: str) -> None:
        """Let a machine that was paused go on."""
        self._machine(instance).monitor.execute("cont")

    def hang(self, instance: str, volume: str) -> None:
        """Let no request to a plugged volume be finished any more."""
        harm.hang(self._machine(instance), volume)

    def fail(self, instance: str, volume: str, *, requests: str) -> None:
        """Let requests to a plugged volume end in an error: ``all``, ``reads`` or ``writes``."""
        harm.fail(self._machine(instance), volume, requests=requests)

    def screenshot(self, instance: str) -> bytes:
        """Take a picture of the console, as JPEG."""
        return self._machine(instance).screenshot()

    def console(self, instance: str) -> bytes:
        """Read what the machine's serial console has shown since it was started the last time."""
        log = self.folder(instance) / CONSOLE
        return log.read_bytes() if log.exists() else b""

    def metadata(self, instance: str) -> socket.socket:
        """Connect to what a running machine's guest says to its metadata service.

        Raises:
            OSError: the machine is gone, or its network is one that the service's address can't be in.
        """
        return dial(self.folder(instance), METADATA)

    def discard(self, instance: str) -> None:
        """Remove the files of an instance that has no machine any more."""
        shutil.rmtree(self.folder(instance), ignore_errors=True)

    def blank(self, volume: str, *, size: int) -> None:
        """Make an empty disk of ``size`` bytes."""
        self._disks.blank(volume, size=size)

    def overlay(self, volume: str, *, layer: str, size: int) -> None:
        """Make a disk of ``size`` bytes that begins as the bytes of a layer."""
        self._disks.overlay(volume, layer=Layer(Path(layer)), size=size)

    def top(self, volume: str) -> Path:
        """Say which file a machine has to open."""
        return self._disks.top(volume)

    def freeze(self, volumes: Sequence[str], *, instance: str | None) -> dict[str, str]:
        """Keep the bytes of some volumes as layers.

        Raises:
            EnvironmentFailedError: the disk is full, or QEMU did not answer.
        """
        machine = None if instance is None else self._machine(instance)
        frozen = self._pools.freeze(volumes, machine=machine)
        return {volume: str(layer.path) for volume, layer in frozen.items()}

    def finish(self, layer: str) -> None:
        """Put a layer's bytes together, if that is still to be done.

        Raises:
            EnvironmentFailedError: what they are made of can't be read, or the disk is full.
        """
        self._pools.finish(Layer(Path(layer)))

    def grow(self, volume: str, *, size: int, instance: str | None) -> None:
        """Make a disk larger.

        Raises:
            EnvironmentFailedError: the disk is full, or QEMU did not answer.
        """
        machine = None if instance is None else self._machine(instance)
        self._disks.grow(volume, size=size, machine=machine)

    def remove(self, volume: str) -> None:
        """Remove a disk."""
        self._disks.remove(volume)

    def remove_layer(self, layer: str) -> None:
        """Let go of a layer."""
        self._pools.remove_layer(Layer(Path(layer)))

    def free(self) -> int:
        """Say how many bytes there is room for, above the reserve."""
        return self._disks.free() - self._reserve

    def nearly_full(self) -> bool:
        """Say whether half of the reserve is used up: by running machines, or by others."""
        return self._disks.free() < self._reserve / 2

    def bound_logs(self) -> None:
        """See to it that the logs of running machines' writes stay within bounds.

        Raises:
            EnvironmentFailedError: the disk is nearly full, or QEMU did not answer.
        """
        with self._lock:
            machines = tuple(self._machines.values())
        for machine in machines:
            self._pools.bound(machine)

    def volumes(self) -> tuple[str, ...]:
        """Name the volumes that there are disks of."""
        return self._disks.volumes()

    def layers(self) -> tuple[str, ...]:
        """Name the layers that are kept."""
        return tuple(str(layer.path) for layer in self._disks.layers())
