"""CopySnapshot, and snapshots between two accounts, by boto3."""

import json
from pathlib import Path
from typing import Any

import boto3

from drtest.lab import control
from drtest.lab.folder import LabStatus

from .conftest import REGION, ZONE, Driver, Site, code_of, until

FAR = "eu-central-1"
OTHER_ACCOUNT = "210987654321"


def _second(site: Site) -> Any:
    site.endpoint.accounts["AKIASECONDACCOUNT234"] = OTHER_ACCOUNT
    return site.client(access_key="AKIASECONDACCOUNT234")


def _shown(ec2: Any, snapshot: str) -> Any:
    return ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]


def _copy(ec2: Any, source: str, **params: Any) -> str:
    key = str(ec2.copy_snapshot(SourceSnapshotId=source, **{"SourceRegion": REGION, **params})["SnapshotId"])
    until(lambda: _shown(ec2, key)["State"] == "completed")
    return key


def test_a_copy_in_another_region_is_pending_then_completed_and_has_the_bytes(
    site: Site, drive: Driver
) -> None:
    """API_CopySnapshot: "Snapshots copies have an arbitrary source volume ID. Do not use this volume ID for any
    purpose."."""
    volume = drive.new_volume(Size=3)
    site.hardware.disks[volume] = b"written"
    source = drive.new_snapshot(volume)
    far = site.client(region=FAR)
    tags = [{"Key": "run", "Value": "r1"}]
    answer = far.copy_snapshot(
        SourceSnapshotId=source,
        SourceRegion=REGION,
        Description="copy",
        TagSpecifications=[{"ResourceType": "snapshot", "Tags": tags}],
    )
    assert answer["Tags"] == tags
    copy = answer["SnapshotId"]
    young = _shown(far, copy)
    assert (young["State"], young["Progress"]) == ("pending", "0%")
    assert (young["VolumeId"], young["VolumeSize"], young["Description"]) == ("vol-ffffffff", 3, "copy")
    until(lambda: _shown(far, copy)["State"] == "completed")
    assert code_of(drive.ec2.describe_snapshots, SnapshotIds=[copy]) == "InvalidSnapshot.NotFound"
    assert code_of(far.describe_snapshots, SnapshotIds=[source]) == "InvalidSnapshot.NotFound"
    drive.ec2.delete_snapshot(SnapshotId=source)
    made = far.create_volume(SnapshotId=copy, AvailabilityZone=f"{FAR}a")["VolumeId"]
    until(lambda: far.describe_volumes(VolumeIds=[made])["Volumes"][0]["State"] == "available")
    assert site.hardware.disks[made] == b"written"


def test_copies_of_encrypted_snapshots_are_encrypted(site: Site, drive: Driver) -> None:
    """API_CopySnapshot, Encrypted: "Copies of encrypted snapshots are encrypted, even if you omit this parameter and
    encryption by default is not enabled. You cannot set this parameter to false."."""
    secret = drive.new_snapshot(drive.new_volume(Encrypted=True))
    plain = drive.new_snapshot(drive.new_volume())
    far = site.client(region=FAR)
    assert _shown(far, _copy(far, secret))["Encrypted"] is True
    assert _shown(far, _copy(far, plain))["Encrypted"] is False
    assert _shown(far, _copy(far, plain, Encrypted=True, KmsKeyId="alias/mine"))["KmsKeyId"] == "alias/mine"
    asked = {"SourceRegion": REGION, "SourceSnapshotId": secret}
    assert code_of(far.copy_snapshot, **asked, Encrypted=False) == "InvalidParameterValue"
    # "If KmsKeyId is specified, the encrypted state must be true."
    asked = {"SourceRegion": REGION, "SourceSnapshotId": plain}
    assert code_of(far.copy_snapshot, **asked, KmsKeyId="k") == "InvalidParameterDependency"


def test_what_can_not_be_copied_is_refused(site: Site, drive: Driver) -> None:
    copy = drive.ec2.copy_snapshot
    source = drive.new_snapshot(drive.new_volume(), wait="")
    assert code_of(copy, SourceRegion=REGION, SourceSnapshotId=source) == "IncorrectState"
    until(lambda: drive.snapshot(source)["State"] == "completed")
    assert code_of(copy, SourceRegion=REGION, SourceSnapshotId=source, DryRun=True) == "DryRunOperation"
    assert code_of(copy, SourceRegion=FAR, SourceSnapshotId=source) == "InvalidSnapshot.NotFound"
    timed = {"SourceRegion": REGION, "SourceSnapshotId": source, "CompletionDurationMinutes": 15}
    assert code_of(copy, **timed) == "UnsupportedOperation"


def test_twenty_copies_of_a_region_may_be_pending(site: Site, drive: Driver) -> None:
    """https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html: concurrent copies per Region."""
    source = drive.new_snapshot(drive.new_volume())
    site.compute.work.stop()
    asked = {"SourceRegion": REGION, "SourceSnapshotId": source}
    for _ in range(20):
        drive.ec2.copy_snapshot(**asked)
    assert code_of(drive.ec2.copy_snapshot, **asked) == "ResourceLimitExceeded"


def test_bytes_stay_until_the_last_of_source_and_copy_is_deleted(site: Site, drive: Driver) -> None:
    source = drive.new_snapshot(drive.new_volume())
    copy = _copy(drive.ec2, source)
    drive.ec2.delete_snapshot(SnapshotId=source)
    assert len(site.hardware.layers()) == 1
    drive.ec2.delete_snapshot(SnapshotId=copy)
    until(lambda: not site.hardware.layers())


def test_a_snapshot_is_shared_with_another_account_copied_there_and_taken_back(
    site: Site, drive: Driver
) -> None:
    """API_ModifySnapshotAttribute: "Adds or removes permission settings for the specified snapshot. You may add or
    remove specified Amazon Web Services account IDs from a snapshot's list of create volume permissions"."""
    volume = drive.new_volume()
    site.hardware.disks[volume] = b"shared"
    snapshot = drive.new_snapshot(volume)
    drive.ec2.create_tags(Resources=[snapshot], Tags=[{"Key": "secret", "Value": "yes"}])
    other = _second(site)
    assert code_of(other.describe_snapshots, SnapshotIds=[snapshot]) == "InvalidSnapshot.NotFound"

    def share(operation: str) -> None:
        drive.ec2.modify_snapshot_attribute(
            SnapshotId=snapshot,
            Attribute="createVolumePermission",
            OperationType=operation,
            UserIds=[OTHER_ACCOUNT],
        )

    share("add")
    seen = _shown(other, snapshot)
    assert (seen["OwnerId"], seen.get("Tags")) == (site.account, None)
    made = other.create_volume(SnapshotId=snapshot, AvailabilityZone=ZONE)["VolumeId"]
    until(lambda: other.describe_volumes(VolumeIds=[made])["Volumes"][0]["State"] == "available")
    assert site.hardware.disks[made] == b"shared"
    for call in (other.delete_snapshot, other.lock_snapshot):
        given = {"LockMode": "governance", "LockDuration": 1} if call == other.lock_snapshot else {}
        assert code_of(call, SnapshotId=snapshot, **given) == "AuthFailure"
    copy = _copy(other, snapshot)
    assert _shown(other, copy)["OwnerId"] == OTHER_ACCOUNT
    share("remove")
    assert code_of(other.describe_snapshots, SnapshotIds=[snapshot]) == "InvalidSnapshot.NotFound"
    assert _shown(other, copy)["State"] == "completed"


def test_encrypted_snapshots_are_shared_with_their_own_key_only(drive: Driver) -> None:
    """API_ModifySnapshotAttribute: "Encrypted snapshots and snapshots with AWS Marketplace product codes cannot be
    made public. Snapshots encrypted with your default KMS key cannot be shared with other accounts."."""

    def shared(snapshot: str, who: dict[str, str]) -> str:
        return code_of(
            drive.ec2.modify_snapshot_attribute,
            SnapshotId=snapshot,
            CreateVolumePermission={"Add": [who]},
        )

    default = drive.new_snapshot(drive.new_volume(Encrypted=True))
    assert shared(default, {"UserId": OTHER_ACCOUNT}) == "OperationNotPermitted"
    keyed = drive.new_snapshot(drive.new_volume(Encrypted=True, KmsKeyId="alias/mine"))
    assert shared(keyed, {"Group": "all"}) == "InvalidParameterValue"
    drive.ec2.modify_snapshot_attribute(
        SnapshotId=keyed, CreateVolumePermission={"Add": [{"UserId": OTHER_ACCOUNT}]}
    )


def test_the_lab_s_status_has_the_keys_of_a_second_account(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    lab = control.up(folder=folder, images=())
    try:
        assert lab.second is not None
        assert LabStatus.from_json(json.loads(json.dumps(lab.to_json()))) == lab
        whose = {}
        for access_key, secret_key in (
            (lab.access_key, lab.secret_key),
            (lab.second.access_key, lab.second.secret_key),
        ):
            sts = boto3.client(
                "sts",
                region_name=lab.region,
                endpoint_url=lab.endpoint,
                aws_access_key_id=access_key,
                aws_secret_access_key=secret_key,
            )
            whose[access_key] = sts.get_caller_identity()["Account"]
        assert whose[lab.second.access_key] == lab.second.account != whose[lab.access_key]
    finally:
        control.down(folder)
