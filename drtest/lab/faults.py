"""Faults: what goes wrong in the lab on purpose, at which call, and how often."""

import random
import threading
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from drtest.errors import UsageError
from drtest.lab import wire
from drtest.lab.call import Call
from drtest.lab.throttle import Buckets

Kind = Literal[
    "throttled",
    "internal-error",
    "unavailable",
    "no-capacity",
    "timeout",
    "lost-response",
    "snapshot-error",
    "volume-hangs",
    "volume-io-error",
    "machine-freezes",
]

STARTING = ("RunInstances", "StartInstances")
_ACTIONS: Mapping[str, tuple[str, ...]] = {
    "no-capacity": STARTING,
    "snapshot-error": ("CopySnapshot", "CreateSnapshot", "CreateSnapshots"),
    "volume-hangs": ("AttachVolume", *STARTING),
    "volume-io-error": ("AttachVolume", *STARTING),
    "machine-freezes": STARTING,
}
"""The actions that some faults belong to; the others can be had at each."""

OTHERS = frozenset(
    {
        "DescribeInstanceInformation",
        "GetCommandInvocation",
        "GetSnapshotBlock",
        "ListChangedBlocks",
        "ListCommandInvocations",
        "ListCommands",
        "ListSnapshotBlocks",
        "SendCommand",
    }
)
"""The actions of the EBS direct APIs and of SSM that the lab carries out."""

_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "timeout": ("seconds",),
    "volume-hangs": ("after", "device"),
    "volume-io-error": ("after", "device", "requests"),
    "machine-freezes": ("after",),
}


class _Edge(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fault(_Edge):
    """One thing that goes wrong.

    Attributes:
        fault: what.
        action: which calls it can happen to: an action of EC2, of the EBS direct APIs or of SSM, with ``*`` and ``?``.
        nth: the first of these calls that it happens to, from 1.
        count: how many calls it happens to, from there on; 1, or without an end where there is a probability.
        probability: of each call from ``nth`` on, by chance; the same seed gives the same calls.
        seconds: how long a ``timeout`` holds the answer: longer than the 60 s that clients usually wait.
        after: seconds from the moment that the volume or machine is there.
        device: only the volume of this device name, such as ``/dev/xvda``.
        requests: which requests to a volume end in an error.
    """

    fault: Kind
    action: str = "*"
    nth: int = Field(default=1, ge=1)
    count: int | None = Field(default=None, ge=1)
    probability: float | None = Field(default=None, gt=0, le=1)
    seconds: float = Field(default=70.0, ge=0)
    after: float = Field(default=0.0, ge=0)
    device: str = ""
    requests: Literal["all", "reads", "writes"] = "all"

    @model_validator(mode="after")
    def _check(self) -> "Fault":
        fixed = {"fault", "action", "nth", "count", "probability"}
        for name in sorted(self.model_fields_set - fixed):
            if name not in _OPTIONS.get(self.fault, ()):
                raise ValueError(f"{self.fault} has no {name}")
        possible = _ACTIONS.get(self.fault) or {*wire.operations(), *OTHERS}
        if not any(fnmatchcase(action, self.action) for action in possible):
            known = ", ".join(_ACTIONS.get(self.fault, ())) or "no action of EC2, EBS direct or SSM"
            raise ValueError(f"action {self.action!r} matches none of: {known}")
        return self

    def concerns(self, action: str) -> bool:
        """Say whether it can happen to an action."""
        return fnmatchcase(action, self.action) and action in _ACTIONS.get(self.fault, (action,))

    @property
    def most(self) -> int | None:
        """How many calls it happens to; None for no end."""
        return self.count if self.count is not None or self.probability is not None else 1


class Plan(_Edge):
    """All that goes wrong.

    Attributes:
        seed: of the faults with a probability.
        throttling: AWS's token buckets; a number makes them smaller or larger by that factor.
        unseen: seconds that new instances, volumes and snapshots are not found by Describe calls; without it,
            instances for a moment.
        faults: each counts its own calls.
    """

    seed: int = 0
    throttling: bool | float = False
    unseen: float | None = Field(default=None, ge=0, le=60)
    faults: tuple[Fault, ...] = ()

    @property
    def scale(self) -> float | None:
        """The factor of the token buckets; None for no throttling."""
        if isinstance(self.throttling, bool):
            return 1.0 if self.throttling else None
        return self.throttling or None


def read_document(document: object, *, source: str) -> Plan:
    """Read a fault plan.

    Args:
        document: what stands in the file.
        source: names it in the message.

    Raises:
        UsageError: it is none; all mistakes are named.
    """
    try:
        return Plan.model_validate(document or {})
    except ValidationError as error:
        mistakes = [
            f"{source}: {'.'.join(str(step) for step in one['loc']) or 'the file'}: {one['msg']}"
            for one in error.errors()
        ]
        raise UsageError("\n".join(mistakes), remedy="See drtest/lab/README.md, 'Faults'.") from None


def read_file(path: Path) -> Plan:
    """Read a fault file, YAML or JSON.

    Raises:
        UsageError: it can't be read, or has mistakes.
    """
    try:
        document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise UsageError(f"{path} can't be read: {error}", remedy="Give a YAML or JSON file.") from None
    return read_document(document, source=str(path))


class Faults:
    """What goes wrong now: counts calls, and says which of them the faults happen to. Safe in several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.set(Plan())

    def set(self, plan: Plan) -> None:
        """Begin anew with a plan; the empty one ends all faults."""
        with self._lock:
            self.plan = plan
            self._buckets = None if plan.scale is None else Buckets(scale=plan.scale)
            self._calls = [0] * len(plan.faults)
            self._hits = [0] * len(plan.faults)
            # A generator each: the calls that one happens to don't depend on what the others count.
            self._chances = [random.Random(f"{plan.seed} {index}") for index in range(len(plan.faults))]  # noqa: S311

    def throttled(self, call: Call) -> bool:
        """Take a call's tokens; whether there are not enough of them."""
        buckets = self._buckets
        return buckets is not None and not buckets.take(call)

    def happening(self, action: str) -> tuple[Fault, ...]:
        """Count a call, and name the faults that happen to it."""
        found = []
        with self._lock:
            for index, fault in enumerate(self.plan.faults):
                if not fault.concerns(action):
                    continue
                self._calls[index] += 1
                if self._calls[index] < fault.nth:
                    continue
                if fault.most is not None and self._hits[index] >= fault.most:
                    continue
                if fault.probability is not None and self._chances[index].random() >= fault.probability:
                    continue
                self._hits[index] += 1
                found.append(fault)
        return tuple(found)

    def show(self) -> dict[str, Any]:
        """Say what is planned, and what has happened: ``calls`` it could have happened to, ``hits`` it did."""
        with self._lock:
            document = self.plan.model_dump(mode="json", exclude_unset=True, exclude={"faults"})
            document["faults"] = [
                {**fault.model_dump(mode="json", exclude_unset=True), "calls": calls, "hits": hits}
                for fault, calls, hits in zip(self.plan.faults, self._calls, self._hits, strict=True)
            ]
        return document
