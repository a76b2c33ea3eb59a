"""Locks of snapshots, by boto3."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from drtest.lab.resources import Lock, Snapshot

from .conftest import Driver, Site, code_of, until


def _lock(drive: Driver, snapshot: str, **params: Any) -> Any:
    return drive.ec2.lock_snapshot(SnapshotId=snapshot, **params)


def _age(site: Site, snapshot: str, by: timedelta) -> None:
    """Let a lock be older than it is."""

    def earlier(time: datetime | None) -> datetime | None:
        return time - by if time else None

    with site.compute.books.open():
        found = site.compute.books.find(Snapshot, snapshot)
        assert found is not None
        assert found.lock is not None
        old: Lock = found.lock
        aged = replace(
            old,
            created=old.created - by,
            since=earlier(old.since),
            until=earlier(old.until),
            cool_off_until=earlier(old.cool_off_until),
        )
        site.compute.books.put(replace(found, lock=aged))


def _state(drive: Driver, snapshot: str) -> str:
    (found,) = drive.ec2.describe_locked_snapshots(SnapshotIds=[snapshot])["Snapshots"]
    return str(found["LockState"])


def test_a_locked_snapshot_can_not_be_deleted_until_it_is_unlocked(drive: Driver) -> None:
    """API_LockSnapshot: "A locked snapshot can't be deleted."; API_UnlockSnapshot: "Unlocks a snapshot that is locked
    in governance mode"."""
    snapshot = drive.new_snapshot(drive.new_volume())
    locked = _lock(drive, snapshot, LockMode="governance", LockDuration=7)
    assert (locked["LockState"], locked["LockDuration"]) == ("governance", 7)
    assert locked["LockExpiresOn"] - locked["LockDurationStartTime"] == timedelta(days=7)
    assert code_of(drive.ec2.delete_snapshot, SnapshotId=snapshot) == "OperationNotPermitted"
    assert drive.snapshot(snapshot)["State"] == "completed"
    assert _lock(drive, snapshot, LockMode="governance", LockDuration=1)["LockDuration"] == 1
    drive.ec2.unlock_snapshot(SnapshotId=snapshot)
    assert drive.ec2.describe_locked_snapshots()["Snapshots"] == []
    assert code_of(drive.ec2.unlock_snapshot, SnapshotId=snapshot) == "IncorrectState"
    drive.ec2.delete_snapshot(SnapshotId=snapshot)


def test_a_lock_in_compliance_mode_can_only_be_extended_after_the_cooling_off_period(
    site: Site, drive: Driver
) -> None:
    """API_LockSnapshot: "If the snapshot is locked in compliance mode and the cooling-off period has lapsed, you can
    only increase the lock duration or extend the lock expiration date."."""
    snapshot = drive.new_snapshot(drive.new_volume())
    locked = _lock(drive, snapshot, LockMode="compliance", LockDuration=30, CoolOffPeriod=1)
    assert (locked["LockState"], locked["CoolOffPeriod"]) == ("compliance-cooloff", 1)
    assert locked["CoolOffPeriodExpiresOn"] - locked["LockCreatedOn"] == timedelta(hours=1)
    assert code_of(drive.ec2.delete_snapshot, SnapshotId=snapshot) == "OperationNotPermitted"
    _age(site, snapshot, timedelta(hours=2))
    assert _state(drive, snapshot) == "compliance"
    assert code_of(drive.ec2.unlock_snapshot, SnapshotId=snapshot) == "OperationNotPermitted"
    for refused in (
        {"LockMode": "governance", "LockDuration": 60},
        {"LockMode": "compliance", "LockDuration": 5},
        {"LockMode": "compliance", "LockDuration": 60, "CoolOffPeriod": 2},
    ):
        assert code_of(_lock, drive=drive, snapshot=snapshot, **refused) == "OperationNotPermitted"
    longer = _lock(drive, snapshot, LockMode="compliance", LockDuration=60)
    assert longer["LockExpiresOn"] > locked["LockExpiresOn"]
    _age(site, snapshot, timedelta(days=61))
    assert _state(drive, snapshot) == "expired"
    drive.ec2.delete_snapshot(SnapshotId=snapshot)


def test_in_the_cooling_off_period_it_can_be_taken_back(drive: Driver) -> None:
    """API_UnlockSnapshot: "or that is locked in compliance mode but still in the cooling-off period"."""
    snapshot = drive.new_snapshot(drive.new_volume())
    _lock(drive, snapshot, LockMode="compliance", LockDuration=30, CoolOffPeriod=72)
    drive.ec2.unlock_snapshot(SnapshotId=snapshot)
    drive.ec2.delete_snapshot(SnapshotId=snapshot)


def test_the_lock_of_a_pending_snapshot_begins_when_it_is_completed(drive: Driver) -> None:
    """API_LockedSnapshotsInfo, LockDurationStartTime: "If you lock a snapshot that is in the pending state, the lock
    duration starts only once the snapshot enters the completed state."."""
    snapshot = drive.new_snapshot(drive.new_volume(), wait="")
    assert "LockExpiresOn" not in _lock(drive, snapshot, LockMode="governance", LockDuration=1)
    until(lambda: drive.snapshot(snapshot)["State"] == "completed")
    (shown,) = drive.ec2.describe_locked_snapshots()["Snapshots"]
    assert shown["LockExpiresOn"] - shown["LockDurationStartTime"] == timedelta(days=1)


def test_locks_have_their_rules_and_are_found_by_their_state(drive: Driver) -> None:
    """API_LockSnapshot, LockDuration: "You must specify either this parameter or ExpirationDate, but not both";
    CoolOffPeriod: "If you are locking the snapshot in governance mode, omit this parameter."."""
    snapshot = drive.new_snapshot(drive.new_volume())
    later = datetime.now(UTC) + timedelta(days=2)

    def refused(**params: object) -> str:
        return code_of(_lock, drive=drive, snapshot=snapshot, **{"LockMode": "governance", **params})

    assert refused() == "InvalidParameterCombination"
    assert refused(LockDuration=1, ExpirationDate=later) == "InvalidParameterCombination"
    assert refused(LockDuration=1, CoolOffPeriod=1) == "InvalidParameterCombination"
    assert refused(LockDuration=36501) == "InvalidParameterValue"
    assert refused(ExpirationDate=datetime(2020, 1, 1, tzinfo=UTC)) == "InvalidParameterValue"
    assert refused(LockMode="eternal", LockDuration=1) == "InvalidParameterValue"
    assert refused(LockDuration=1, DryRun=True) == "DryRunOperation"
    _lock(drive, snapshot, LockMode="governance", ExpirationDate=later)

    def found(state: str) -> list[str]:
        answer = drive.ec2.describe_locked_snapshots(Filters=[{"Name": "lock-state", "Values": [state]}])
        return [s["SnapshotId"] for s in answer["Snapshots"]]

    assert (found("governance"), found("expired")) == ([snapshot], [])


def test_deregistering_an_image_does_not_take_a_locked_snapshot_along(drive: Driver) -> None:
    """API_LockSnapshot: "A locked snapshot can't be deleted."."""
    snapshot = drive.new_snapshot(drive.root(drive.run()))
    _lock(drive, snapshot, LockMode="governance", LockDuration=1)
    image = drive.ec2.register_image(
        Name="mine",
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
    )["ImageId"]
    drive.ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
    assert drive.snapshot(snapshot)["State"] == "completed"
