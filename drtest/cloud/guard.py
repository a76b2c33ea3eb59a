"""The guard: no call of a run changes a resource that the run did not create, save what the scenario allows.

It hooks into the boto3 session below every client, so that no code path goes round it.
"""

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from drtest.cloud.policy import CREATE, STAGES
from drtest.cloud.tags import RUN
from drtest.errors import DrtestError

_READING = re.compile(r"^(Describe|Get|List|Search|Assume|Head|BatchGet|Lookup)")
_RESOURCE = re.compile(r"^(i|vol|snap|ami|sg|eni|sgr|replacevol)-[0-9a-f]{8,}$")
_DRILLS = frozenset(action for several in STAGES.values() for action in several)
# What a mutating call may only mention, without changing it.
_MENTIONED = {
    "RunInstances": {"ImageId", "SecurityGroupIds", "SubnetId", "NetworkInterfaces"},
    "CreateVolume": {"SnapshotId"},
    "CreateSecurityGroup": {"VpcId"},
}


class GuardError(DrtestError):
    """A call was refused before it was sent: it would have changed what is not this run's."""


@dataclass(frozen=True, kw_only=True)
class Permission:
    """One thing that the scenario allows by name on a resource that the run did not create.

    Attributes:
        operation: the API call, as ``StopInstances``.
        resource: the id of the one resource that it may be made on.
        tags: for CreateTags and DeleteTags, the only tag keys that may be changed; empty where it is no tag call.
    """

    operation: str
    resource: str
    tags: frozenset[str] = frozenset()


@dataclass(kw_only=True)
class Guard:
    """Knows what a run owns and what else it may touch.

    Attributes:
        run: the run's id; creating calls must carry it as a tag.
    """

    run: str
    _owned: set[str] = field(default_factory=set)
    _permissions: set[Permission] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def own(self, *resources: str) -> None:
        """Take resources as this run's: each was created by it, with its tag."""
        with self._lock:
            self._owned.update(resources)

    def permit(self, permission: Permission) -> None:
        """Allow one call on one resource that is not this run's."""
        with self._lock:
            self._permissions.add(permission)

    def watch(self, events: Any) -> None:
        """Stand before every call of a boto3 session or client.

        Args:
            events: ``session.events`` or ``client.meta.events``.
        """
        events.register_first("provide-client-params.*.*", self._before)

    def _before(self, params: Mapping[str, Any], model: Any, **_: Any) -> None:
        self.check(model.service_model.service_name, model.name, params)

    def check(self, service: str, operation: str, params: Mapping[str, Any]) -> None:
        """Let a call pass, or refuse it.

        Raises:
            GuardError: the call would change something that this run did not create.
        """
        if _READING.match(operation) or params.get("DryRun"):
            return
        if service != "ec2":
            raise GuardError(
                f"The guard refused {service} {operation}: a drill changes nothing outside EC2.",
                remedy="This is a defect of drtest: please report it with this message.",
            )
        if operation not in _DRILLS:
            raise GuardError(
                f"The guard refused {operation}: it changes something, and is none of the calls that a drill makes.",
                remedy="This is a defect of drtest: please report it with this message. A call that a drill shall"
                " make has to stand in STAGES (drtest/cloud/policy.py): then the policy allows it too.",
            )
        mentioned = _MENTIONED.get(operation, set())
        changed = set(_ids({key: value for key, value in params.items() if key not in mentioned}))
        with self._lock:
            foreign = sorted(
                resource
                for resource in changed - self._owned
                if not self._permitted(operation, resource, params)
            )
        if foreign:
            raise GuardError(
                f"The guard refused {operation} on {', '.join(foreign)}: run {self.run} did not create it"
                " and the scenario does not allow it.",
                remedy="A source may be stopped only with `may_stop: true`, written to only with `may_write: true`.",
            )
        if operation in CREATE and not self._tagged(params):
            raise GuardError(
                f"The guard refused {operation}: it carries no {RUN} tag, so its resource could be lost sight of.",
                remedy="This is a defect of drtest: please report it with this message.",
            )

    def _permitted(self, operation: str, resource: str, params: Mapping[str, Any]) -> bool:
        for permission in self._permissions:
            if (permission.operation, permission.resource) != (operation, resource):
                continue
            if {tag["Key"] for tag in params.get("Tags", [])} <= permission.tags or not permission.tags:
                return True
        return False

    def _tagged(self, params: Mapping[str, Any]) -> bool:
        return any(
            tag.get("Key") == RUN and tag.get("Value") == self.run
            for specification in params.get("TagSpecifications") or []
            for tag in specification.get("Tags") or []
        )


def _ids(value: object) -> Iterator[str]:
    """Every resource id anywhere in a call's parameters."""
    if isinstance(value, str):
        if _RESOURCE.match(value):
            yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in {"TagSpecifications", "UserData", "Description", "ClientToken", "Tags"}:
                yield from _ids(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _ids(item)
