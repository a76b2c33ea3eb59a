"""Machines and disks that exist in memory only, and do what a test wants them to do."""

import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from drtest.errors import EnvironmentFailedError
from drtest.lab.accelerator import Accelerator
from drtest.lab.hardware import Ended
from drtest.lab.machines import End, MachineDisk, MachineSpec


@dataclass
class FakeMachine:
    """A machine that a test can end."""

    spec: MachineSpec
    ended: Ended
    plugged: set[str]
    greeter: socket.socket | None = None
    pressed: int = 0


@dataclass
class FakeHardware:
    """Boots at once, obeys the power button, and lets go of its disks, unless a test says otherwise.

    Disks are bytes: a test writes into `disks`, and sees what a snapshot or a volume from it holds.
    """

    root: Path
    obeys: bool = True
    greets: bool = True
    lets_go: bool = True
    starts: bool = True
    answers: bool = True
    capacity: int = 10**12
    machines: dict[str, FakeMachine] = field(default_factory=dict)
    disks: dict[str, bytes] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    layer_bytes: dict[str, bytes] = field(default_factory=dict)
    consoles: dict[str, bytes] = field(default_factory=dict)
    guests: dict[str, socket.socket] = field(default_factory=dict)
    freezes: list[tuple[frozenset[str], str | None]] = field(default_factory=list)
    grown: list[tuple[str, str | None]] = field(default_factory=list)
    specs: list[MachineSpec] = field(default_factory=list)
    paused: set[str] = field(default_factory=set)
    harmed: dict[str, str] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def accelerator(self) -> Accelerator:
        return Accelerator(name="tcg", reason="a test")

    def folder(self, instance: str) -> Path:
        return self.root / "machines" / instance

    def start(self, spec: MachineSpec, ended: Ended, *, deadline: float = 30.0) -> None:
        if not self.starts:
            raise EnvironmentFailedError("QEMU did not start: a test wants it so.")
        spec.folder.mkdir(parents=True, exist_ok=True)
        machine = FakeMachine(spec, ended, {disk.volume for disk in spec.disks})
        with self.lock:
            self.specs.append(spec)
            self.machines[spec.id] = machine
            self.consoles[spec.id] = b"Linux version 6.1 (boot %d)\n" % len(self.specs)
        if self.greets:
            self.greet(spec.id)

    def greet(self, instance: str) -> None:
        """Let the guest's SSH server answer from now on."""
        machine = self.machines[instance]
        listener = socket.create_server((machine.spec.address, 2222))
        machine.greeter = listener

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        threading.Thread(target=serve, daemon=True).start()

    def adopt(self, instance: str, ended: Ended) -> MachineSpec | None:
        with self.lock:
            machine = self.machines.get(instance)
            if machine is None:
                return None
            if not self.answers:
                self.vanish(instance)
                raise EnvironmentFailedError("it does not answer: a test wants it so.")
            machine.ended = ended
            return machine.spec

    def end(self, instance: str, *, reason: str = "guest-shutdown") -> None:
        """End a machine, as a guest that powers itself off, or as a crash."""
        machine = self.vanish(instance)
        machine.ended(instance, End(code=0 if reason == "guest-shutdown" else 1, reason=reason))

    def vanish(self, instance: str) -> FakeMachine:
        """End a machine while nobody looks."""
        with self.lock:
            machine = self.machines.pop(instance)
            guest = self.guests.pop(instance, None)
        if guest is not None:
            guest.close()
        if machine.greeter is not None:
            machine.greeter.shutdown(socket.SHUT_RDWR)
            machine.greeter.close()
        return machine

    def running(self, instance: str) -> bool:
        with self.lock:
            return instance in self.machines

    def plugged(self, instance: str) -> frozenset[str]:
        with self.lock:
            machine = self.machines.get(instance)
            return frozenset(machine.plugged) if machine else frozenset()

    def _machine(self, instance: str) -> FakeMachine:
        with self.lock:
            if instance not in self.machines:
                raise EnvironmentFailedError(f"{instance} has no running machine.")
            return self.machines[instance]

    def attach(self, instance: str, disk: MachineDisk) -> None:
        self._machine(instance).plugged.add(disk.volume)

    def detach(self, instance: str, volume: str, *, deadline: float = 30.0) -> None:
        if not self.lets_go:
            raise EnvironmentFailedError(f"the guest does not let go of {volume}")
        self._machine(instance).plugged.discard(volume)

    def powerdown(self, instance: str) -> None:
        self._machine(instance).pressed += 1
        if self.obeys:
            self.end(instance)

    def kill(self, instance: str) -> None:
        if self.running(instance):
            self.end(instance, reason="killed")

    def pause(self, instance: str) -> None:
        self._machine(instance)
        self.paused.add(instance)

    def resume(self, instance: str) -> None:
        self._machine(instance)
        self.paused.discard(instance)

    def hang(self, instance: str, volume: str) -> None:
        assert volume in self._machine(instance).plugged
        self.harmed[volume] = "hangs"

    def fail(self, instance: str, volume: str, *, requests: str) -> None:
        assert volume in self._machine(instance).plugged
        self.harmed[volume] = requests

    def screenshot(self, instance: str) -> bytes:
        self._machine(instance)
        return b"\xff\xd8\xff\xe0 a picture"

    def console(self, instance: str) -> bytes:
        return self.consoles.get(instance, b"")

    def metadata(self, instance: str) -> socket.socket:
        """Give the service its end of a connection; a test has the guest's."""
        self._machine(instance)
        guest, service = socket.socketpair()
        guest.settimeout(10)
        self.guests[instance] = guest
        return service

    def discard(self, instance: str) -> None:
        self.consoles.pop(instance, None)

    def blank(self, volume: str, *, size: int) -> None:
        self.disks[volume], self.sizes[volume] = b"", size

    def overlay(self, volume: str, *, layer: str, size: int) -> None:
        self.disks[volume], self.sizes[volume] = self.layer_bytes[layer], size

    def top(self, volume: str) -> Path:
        if volume not in self.disks:
            raise EnvironmentFailedError(f"{volume} has no disk.")
        return self.root / f"{volume}.qcow2"

    def freeze(self, volumes: Sequence[str], *, instance: str | None) -> dict[str, str]:
        if instance is not None and not set(volumes) <= self.plugged(instance):
            raise EnvironmentFailedError("not all of them are plugged in")
        with self.lock:
            self.freezes.append((frozenset(volumes), instance))
            made = {volume: f"layer-{volume}-{len(self.freezes)}" for volume in volumes}
            for volume, layer in made.items():
                self.layer_bytes[layer] = self.disks[volume]
        return made

    def grow(self, volume: str, *, size: int, instance: str | None) -> None:
        with self.lock:
            self.grown.append((volume, instance))
            self.sizes[volume] = size

    def remove(self, volume: str) -> None:
        self.disks.pop(volume, None)

    def remove_layer(self, layer: str) -> None:
        self.layer_bytes.pop(layer, None)

    def free(self) -> int:
        return self.capacity

    def nearly_full(self) -> bool:
        return self.capacity < -(10**9)

    def finish(self, layer: str) -> None:
        self.finished.append(layer)

    def bound_logs(self) -> None:
        return

    def volumes(self) -> tuple[str, ...]:
        return tuple(self.disks)

    def layers(self) -> tuple[str, ...]:
        return tuple(set(self.layer_bytes) - {"stock"})

    def stop(self) -> None:
        """End all that is left, without telling anybody."""
        for instance in list(self.machines):
            self.vanish(instance)
