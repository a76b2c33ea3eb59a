"""What the books hold: instances, volumes, snapshots, images and tasks, as frozen records."""

from dataclasses import dataclass, field
from datetime import datetime

STATE_CODES = {
    "pending": 0,
    "running": 16,
    "shutting-down": 32,
    "terminated": 48,
    "stopping": 64,
    "stopped": 80,
}
"""EC2's numbers of an instance's states (API_InstanceState)."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """What all resources have.

    Attributes:
        id: EC2's id, such as ``vol-0123456789abcdef0``.
        owner: the account's number.
        region: where it is.
        number: counts all resources of the lab in the order of their making; pages go by it.
        created: when it was made, UTC.
        tags: key and value; never changed in place.
    """

    id: str
    owner: str
    region: str
    number: int
    created: datetime
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Group:
    """A security group that an instance is in."""

    id: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Instance(Resource):
    """A virtual machine, whether it runs or not.

    Attributes:
        state: one of `STATE_CODES`.
        turn: counts the changes of state, so that a late timer can tell that it is too late.
        launched: when it was started the last time.
        reason: EC2's code and sentence for the last change of state, empty if none.
        address: the loopback address of its forwarded ports, while it has one.
        public: whether `address` is shown as its public address.
        prefix: the length of its subnet's prefix.
        reachability: ``initializing``, ``passed`` or ``failed``: did the guest's network answer?
        reachable_since: when `reachability` came to be.
        rebooting: the end of its machine is followed by a new start.
        launching: its volumes have not all been made yet.
        pool: how strong the write pool in front of its root volume is, 0 to 1; 0 for none.
    """

    state: str
    turn: int = 0
    launched: datetime
    transition: str = ""
    reason_code: str = ""
    reason: str = ""
    ended: datetime | None = None
    reservation: str
    launch_index: int = 0
    image: str
    type: str
    os: str = "linux"
    architecture: str = "x86_64"
    key_name: str = ""
    public_key: str = ""
    user_data: str = ""
    zone: str
    subnet: str
    vpc: str
    private_address: str
    prefix: int
    interface: str
    public: bool = True
    address: str = ""
    groups: tuple[Group, ...] = ()
    root_device: str
    profile: str = ""
    shutdown_behavior: str = "stop"
    termination_protected: bool = False
    stop_protected: bool = False
    source_dest_check: bool = True
    metadata_tokens: str = "optional"
    metadata_enabled: bool = True
    metadata_tags: bool = False
    client_token: str = ""
    reachability: str = "initializing"
    reachable_since: datetime | None = None
    rebooting: bool = False
    launching: bool = False
    pool: float = 0.0

    @property
    def hostname(self) -> str:
        """Name the guest as EC2 does, by its private address."""
        return "ip-" + self.private_address.replace(".", "-")


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """Where a volume is attached: ``attaching``, ``attached``, ``busy`` or ``detaching``."""

    instance: str
    device: str
    state: str
    at: datetime
    delete_on_termination: bool = False


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What of a volume can be modified: its size in GiB, its type, IOPS and throughput."""

    size: int
    type: str
    iops: int | None
    throughput: int | None


@dataclass(frozen=True, kw_only=True)
class Modification:
    """A change of a volume: ``modifying``, ``optimizing``, ``completed`` or ``failed``.

    Attributes:
        earlier: when the modifications before this one were begun, as far as the last 24 hours go.
    """

    state: str
    progress: int = 0
    original: Shape
    target: Shape
    started: datetime
    ended: datetime | None = None
    message: str = ""
    earlier: tuple[datetime, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Volume(Resource):
    """A disk: ``creating``, ``available``, ``in-use``, ``deleting`` or ``error``.

    Attributes:
        size: GiB.
        layer: the file whose bytes it begins with, empty for none; set with `snapshot`, which may be deleted
            meanwhile.
        os: the operating system whose root it was made from, empty for data; EC2 keeps this as billing
            information.
        modification: the latest change of it.
        lineage: the volumes whose snapshots it was made from.
        auto_enable_io: whether I/O would go on after an event that puts the data in doubt.
    """

    state: str
    size: int
    zone: str
    snapshot: str = ""
    layer: str = ""
    type: str = "gp2"
    iops: int | None = None
    throughput: int | None = None
    encrypted: bool = False
    kms_key: str = ""
    attachment: Attachment | None = None
    client_token: str = ""
    os: str = ""
    modification: Modification | None = None
    lineage: tuple[str, ...] = ()
    auto_enable_io: bool = False


@dataclass(frozen=True, kw_only=True)
class Lock:
    """What keeps a snapshot from being deleted.

    Attributes:
        mode: ``governance`` or ``compliance``.
        created: when it was locked first.
        since: when its duration began; None while the snapshot is pending.
        days: how long it is locked from then on.
        until: when the lock ends; None while the snapshot is pending, if `days` says it.
        cool_off_hours: how long a lock in compliance mode can still be taken back; None if it never could.
        cool_off_until: until when.
    """

    mode: str
    created: datetime
    since: datetime | None
    days: int
    until: datetime | None
    cool_off_hours: int | None = None
    cool_off_until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot(Resource):
    """A volume's bytes at `created`: ``pending``, ``completed`` or ``error``.

    Attributes:
        size: GiB of the volume at that moment, whatever becomes of the volume.
        layer: the file that holds the bytes.
        kept: the layer is not the lab's to delete (it is an image in the cache).
        shared_with: the accounts that may make volumes of it; ``all`` is everybody.
        lineage: the volumes that its bytes come from: its own one, and the ones that this was made from.
        lock: what keeps it from being deleted.
    """

    state: str
    progress: int = 0
    completed: datetime | None = None
    message: str = ""
    volume: str
    size: int
    description: str = ""
    encrypted: bool = False
    kms_key: str = ""
    layer: str
    kept: bool = False
    shared_with: tuple[str, ...] = ()
    os: str = ""
    lineage: tuple[str, ...] = ()
    lock: Lock | None = None

    @property
    def origin(self) -> tuple[str, ...]:
        """The lineage of what is made from it."""
        return self.lineage or (self.id,)


@dataclass(frozen=True, kw_only=True)
class Device:
    """One entry of an image's block device mapping."""

    name: str
    snapshot: str = ""
    size: int
    type: str = "gp2"
    iops: int | None = None
    throughput: int | None = None
    delete_on_termination: bool = True
    encrypted: bool = False


@dataclass(frozen=True, kw_only=True)
class Image(Resource):
    """An AMI: ``pending``, ``available`` or ``failed``.

    Attributes:
        pool: how strong the write pool in front of the root volumes of its instances is, 0 to 1; 0 for none.
    """

    state: str
    name: str
    description: str = ""
    os: str = "linux"
    architecture: str = "x86_64"
    virtualization: str = "hvm"
    boot_mode: str = ""
    ena: bool = True
    root_device: str
    devices: tuple[Device, ...] = ()
    source_instance: str = ""
    shared_with: tuple[str, ...] = ()
    reason: str = ""
    pool: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RootTask(Resource):
    """A replacement of an instance's root: ``pending``, ``in-progress``, ``succeeded`` or ``failed``.

    Attributes:
        replacement: the volume that is to be the root.
        replaced: the one that was.
        made: the replacement was made for this task.
    """

    state: str
    instance: str
    replacement: str
    replaced: str
    made: bool
    delete_replaced: bool = False
    snapshot: str = ""
    image: str = ""
    completed: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """A command on one instance.

    Attributes:
        status: ``Pending``, ``InProgress``, ``Success``, ``Failed`` or ``TimedOut``.
        details: the same, more closely.
        code: the script's exit code, -1 as long as there is none.
    """

    instance: str
    status: str = "Pending"
    details: str = "Pending"
    code: int = -1
    output: str = ""
    errors: str = ""
    started: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Command(Resource):
    """What SSM was told to run.

    Attributes:
        timeout: seconds within which it has to begin.
    """

    document: str
    comment: str
    parameters: dict[str, list[str]]
    timeout: int
    invocations: tuple[Invocation, ...]


@dataclass(frozen=True, kw_only=True)
class Token:
    """What a ClientToken stands for: the call's parameters (a hash) and the resources that it made."""

    key: str
    parameters: str
    made: tuple[str, ...]
