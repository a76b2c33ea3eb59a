"""LockSnapshot, UnlockSnapshot, DescribeLockedSnapshots."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from drtest.lab import refusal
from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute, now
from drtest.lab.filters import Field, page, select
from drtest.lab.lookup import find, find_all, own
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Lock, Snapshot

MAX_DAYS = 36500
MAX_COOL_OFF = 72


def state(lock: Lock, *, at: datetime) -> str:
    """Say the state of a lock at a moment, in the words of API_LockedSnapshotsInfo."""
    if lock.until is not None and at >= lock.until:
        return "expired"
    if lock.mode == "compliance" and lock.cool_off_until is not None and at < lock.cool_off_until:
        return "compliance-cooloff"
    return lock.mode


def is_locked(snapshot: Snapshot) -> bool:
    """Say whether a lock keeps a snapshot from being deleted now."""
    return snapshot.lock is not None and state(snapshot.lock, at=now()) != "expired"


def check_not_locked(snapshot: Snapshot) -> None:
    """Refuse to delete what is locked (API_LockSnapshot: "A locked snapshot can't be deleted").

    The API Reference names no error code for it; this is the general one for what is not allowed.

    Raises:
        Refusal: ``OperationNotPermitted``.
    """
    if is_locked(snapshot):
        raise Refusal("OperationNotPermitted", f"The snapshot {snapshot.id} is locked and can't be deleted.")


def started(lock: Lock, *, at: datetime) -> Lock:
    """Let the duration begin: "the lock duration starts only once the snapshot enters the completed state"."""
    return replace(lock, since=at, until=lock.until or at + timedelta(days=lock.days))


def lock_snapshot(lab: Compute, call: Call) -> Answer:
    """Lock a snapshot, or change its lock (API_LockSnapshot).

    "If the snapshot is locked in compliance mode and the cooling-off period has lapsed, you can only increase
    the lock duration or extend the lock expiration date."

    Raises:
        Refusal: ``InvalidParameterValue``, ``InvalidParameterCombination``, ``MissingParameter``,
            ``OperationNotPermitted``.
    """
    call.only("CoolOffPeriod", "ExpirationDate", "LockDuration", "LockMode", "SnapshotId")
    with lab.books.open():
        snapshot = own(find(lab, call, Snapshot, call.required("SnapshotId")), call)
        if snapshot.state not in {"pending", "completed"}:
            raise Refusal("IncorrectState", f"The snapshot {snapshot.id} is in the state {snapshot.state}.")
        fresh = _asked(call, snapshot)
        old = snapshot.lock
        if old is not None and state(old, at=now()) == "compliance":
            _check_extension(call, old, fresh)
            fresh = replace(
                fresh, cool_off_hours=old.cool_off_hours, cool_off_until=old.cool_off_until, since=old.since
            )
        if old is not None and state(old, at=now()) != "expired":
            fresh = replace(fresh, created=old.created)
        call.not_dry()
        lab.books.put(replace(snapshot, lock=fresh))
    return {key: value for key, value in _view(replace(snapshot, lock=fresh)).items() if key != "OwnerId"}


def _asked(call: Call, snapshot: Snapshot) -> Lock:
    mode, days = call.required("LockMode"), call.number("LockDuration")
    until: datetime | None = call.params.get("ExpirationDate")
    hours = call.number("CoolOffPeriod")
    time = now()
    if mode not in {"compliance", "governance"}:
        raise refusal.bad_value(f"Invalid value '{mode}' for LockMode.")
    if (days is None) == (until is None):
        raise Refusal(
            "InvalidParameterCombination", "Specify either LockDuration or ExpirationDate, but not both."
        )
    if days is not None and not 1 <= days <= MAX_DAYS:
        raise refusal.bad_value(f"LockDuration must be between 1 and {MAX_DAYS} days.")
    if until is not None and until <= time:
        raise refusal.bad_value("ExpirationDate must be in the future.")
    if hours is not None and mode == "governance":
        raise Refusal("InvalidParameterCombination", "CoolOffPeriod can't be specified in governance mode.")
    if hours is not None and not 1 <= hours <= MAX_COOL_OFF:
        raise refusal.bad_value(f"CoolOffPeriod must be between 1 and {MAX_COOL_OFF} hours.")
    lock = Lock(
        mode=mode,
        created=time,
        since=None,
        days=days or (-((time - until) // timedelta(days=1)) if until else 0),
        until=until,
        cool_off_hours=hours,
        cool_off_until=time + timedelta(hours=hours) if hours is not None else None,
    )
    return started(lock, at=time) if snapshot.state == "completed" else lock


def _check_extension(call: Call, old: Lock, fresh: Lock) -> None:
    if fresh.mode != "compliance":
        raise Refusal("OperationNotPermitted", "The mode of a lock in compliance mode can't be changed.")
    if call.number("CoolOffPeriod") is not None:
        raise Refusal("OperationNotPermitted", "The cooling-off period has expired; it can't be set anew.")
    if old.until is not None and fresh.until is not None and fresh.until < old.until:
        raise Refusal("OperationNotPermitted", "A lock in compliance mode can only be extended.")


def unlock_snapshot(lab: Compute, call: Call) -> Answer:
    """Take a lock off (API_UnlockSnapshot): in governance mode, or in the cooling-off period.

    Raises:
        Refusal: ``OperationNotPermitted`` in compliance mode, ``IncorrectState`` if it is not locked.
    """
    call.only("SnapshotId")
    with lab.books.open():
        snapshot = own(find(lab, call, Snapshot, call.required("SnapshotId")), call)
        if snapshot.lock is None or not is_locked(snapshot):
            raise Refusal("IncorrectState", f"The snapshot {snapshot.id} is not locked.")
        if state(snapshot.lock, at=now()) == "compliance":
            raise Refusal(
                "OperationNotPermitted",
                f"The snapshot {snapshot.id} is locked in compliance mode and can't be unlocked.",
            )
        call.not_dry()
        lab.books.put(replace(snapshot, lock=None))
    return {"SnapshotId": snapshot.id}


def _view(snapshot: Snapshot) -> dict[str, Any]:
    lock = snapshot.lock
    if lock is None:
        return {"SnapshotId": snapshot.id}
    return {
        "OwnerId": snapshot.owner,
        "SnapshotId": snapshot.id,
        "LockState": state(lock, at=now()),
        "LockDuration": lock.days,
        "CoolOffPeriod": lock.cool_off_hours,
        "CoolOffPeriodExpiresOn": lock.cool_off_until,
        "LockCreatedOn": lock.created,
        "LockDurationStartTime": lock.since,
        "LockExpiresOn": lock.until,
    }


FIELDS: Mapping[str, Field[Snapshot]] = {
    "lock-state": lambda s: state(s.lock, at=now()) if s.lock else None,
}
"""What the filter of API_DescribeLockedSnapshots looks at."""


def describe_locked_snapshots(lab: Compute, call: Call) -> Answer:
    """Show the caller's locked snapshots (API_DescribeLockedSnapshots)."""
    call.only("Filters", "MaxResults", "NextToken", "SnapshotIds")
    ids = call.texts("SnapshotIds")
    found = find_all(lab, call, Snapshot, ids) if ids else lab.visible(Snapshot, call)
    call.not_dry()
    locked = [own(snapshot, call) for snapshot in found if snapshot.lock is not None]
    chosen = select(locked, call.params.get("Filters", []), fields=FIELDS, tags=lambda _: {})
    some, token = page(sorted(chosen, key=lambda s: s.number), call, ids="snapshotId", given=ids)
    return {"Snapshots": [_view(snapshot) for snapshot in some], "NextToken": token}
