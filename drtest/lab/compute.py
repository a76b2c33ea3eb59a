"""What the actions of the API work on: the books, the hardware, the network, and the work behind the calls."""

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from drtest.lab.addresses import Addresses
from drtest.lab.books import Books, R
from drtest.lab.call import Call
from drtest.lab.faults import Faults
from drtest.lab.hardware import Hardware
from drtest.lab.network import Network
from drtest.lab.pace import Pace
from drtest.lab.resources import Image, Instance, Resource, RootTask
from drtest.lab.shell import Shell
from drtest.lab.work import Work


@dataclass(frozen=True, kw_only=True)
class Timings:
    """How long things take that a machine or disk does not time by itself; all in seconds.

    Those that a guest is waited for are the least: they stretch with what a boot takes here (`pace`).

    Attributes:
        volume: from CreateVolume to ``available``.
        snapshot: from CreateSnapshot to ``completed``.
        attach: ``attaching`` on a stopped instance.
        detach: ``detaching`` on a stopped instance, and until a detached volume is ``available``.
        modify: each stage of ModifyVolume: ``modifying``, then ``optimizing``.
        stop: from the power button to the force, in StopInstances and RebootInstances.
        force_stop: the same with ``Force``.
        terminate: the same in TerminateInstances, where a volume outlives the instance.
        lanes: until another task has to be done with the same machine or disk: longer than each of them may take.
        impaired: from the start of a machine until its silence is called ``impaired``.
        probe: between two knocks at a guest that has not answered yet.
        recheck: between two knocks at a guest that has.
        terminated: how long a terminated instance can be seen ("usually for an hour").
        unseen: how long a new instance is unknown to Describe calls ("eventual consistency").
    """

    volume: float = 0.05
    snapshot: float = 0.5
    attach: float = 0.2
    detach: float = 0.2
    modify: float = 0.5
    stop: float = 120.0
    force_stop: float = 10.0
    terminate: float = 30.0
    lanes: float = 120.0
    impaired: float = 300.0
    probe: float = 0.5
    recheck: float = 60.0
    terminated: float = 3600.0
    unseen: float = 0.2


@dataclass(frozen=True, kw_only=True)
class Compute:
    """The lab's EC2 below its API.

    Attributes:
        books: what there is.
        hardware: what carries it out.
        network: subnets, security groups and key pairs, which moto keeps.
        work: what goes on behind the calls.
        addresses: the loopback addresses of the instances.
        timings: how long things take.
        at_reboot: what is to be done between the end of an instance's machine and its new start.
        faults: what goes wrong on purpose.
        pace: how fast guests are here.
        shell: runs commands in guests; None if nobody does.
        password: what ``Administrator`` logs in with on Windows guests.
        seed: what the write pools draw their waiting times from.
    """

    books: Books
    hardware: Hardware
    network: Network
    addresses: Addresses
    work: Work = field(default_factory=Work)
    timings: Timings = field(default_factory=Timings)
    at_reboot: dict[str, Callable[[], None]] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    pace: Pace = field(default_factory=Pace)
    shell: Shell | None = None
    password: str = field(default="", repr=False)
    seed: int = 0

    def visible(self, kind: type[R], call: Call) -> list[R]:
        """List what the caller's account has of a kind in this region, oldest first."""
        return [
            thing
            for thing in self.books.all(kind)
            if thing.owner == call.owner and thing.region == call.region and not self.unseen(thing, call)
        ]

    def stretched(self, least: float, *, boots: float) -> float:
        """Stretch a deadline by what a guest needs on this machine, beside the others that run now.

        Args:
            least: seconds that it has at least.
            boots: how many times a boot takes as long.
        """
        return self.pace.stretch(least, boots=boots, crowd=self.crowd())

    def crowd(self) -> int:
        """Count the machines that run, or are about to."""
        return sum(i.state not in {"stopped", "terminated"} for i in self.books.all(Instance))

    def lanes(self, *ids: str) -> AbstractContextManager[None]:
        """Hold the lanes of some instances and volumes (`Work.lanes`), for as long as what is done in them takes here.

        Raises:
            DeadlineError: another task did not let go of them in time.
        """
        return self.work.lanes(*ids, deadline=self.stretched(self.timings.lanes, boots=10))

    def stop_seconds(self) -> float:
        """Say how long a guest has to go down: "a few minutes", or ten times what a boot takes here."""
        return self.stretched(self.timings.stop, boots=10)

    def unseen(self, thing: Resource, call: Call) -> bool:
        """Say whether a Describe call comes too soon after the making of a resource to know it.

        "Your subsequent command might not be able to see it"
        (https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html).
        """
        if not call.action.startswith("Describe") or isinstance(thing, Image | RootTask):
            return False
        seconds = self.faults.plan.unseen
        if seconds is None:
            # AWS's own waiters expect it of instances, and of nothing else: without a plan it is theirs alone.
            seconds = self.timings.unseen if isinstance(thing, Instance) else 0.0
        return (now() - thing.created).total_seconds() < seconds


def now() -> datetime:
    """Tell the time, UTC, to the millisecond as EC2 shows it."""
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def new_id(prefix: str) -> str:
    """Make an id as EC2 does: the prefix and 17 hexadecimal digits."""
    return f"{prefix}-0{secrets.token_hex(8)}"
