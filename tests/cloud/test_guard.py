"""The guard refuses every mutating call on what the run did not create, before it is sent."""

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError

from drtest.cloud.guard import Guard, GuardError, Permission
from drtest.cloud.tags import RUN, STOPPED_BY, Ownership

OURS, THEIRS = "i-0aaaaaaaaaaaaaaaa", "i-0bbbbbbbbbbbbbbbb"


@pytest.fixture
def guard() -> Guard:
    guard = Guard(run="r1")
    guard.own(OURS)
    return guard


def test_reading_is_never_refused(guard: Guard) -> None:
    guard.check("ec2", "DescribeInstances", {"InstanceIds": [THEIRS]})
    guard.check("ssm", "GetParameter", {"Name": "/aws/service/x"})


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("TerminateInstances", {"InstanceIds": [OURS, THEIRS]}),
        ("StopInstances", {"InstanceIds": [THEIRS]}),
        ("DetachVolume", {"VolumeId": "vol-0bbbbbbbbbbbbbbbb"}),
        ("DeleteSnapshot", {"SnapshotId": "snap-0bbbbbbbbbbbbbbbb"}),
        ("AttachVolume", {"VolumeId": "vol-0bbbbbbbbbbbbbbbb", "InstanceId": OURS, "Device": "/dev/sdf"}),
        ("CreateSnapshots", {"InstanceSpecification": {"InstanceId": THEIRS}}),
        ("CreateTags", {"Resources": [THEIRS], "Tags": [{"Key": "a", "Value": "b"}]}),
    ],
)
def test_a_call_on_what_the_run_did_not_create_is_refused(
    guard: Guard, operation: str, params: dict[str, object]
) -> None:
    with pytest.raises(GuardError, match="did not create"):
        guard.check("ec2", operation, params)


def test_what_the_run_created_may_be_changed(guard: Guard) -> None:
    guard.check("ec2", "TerminateInstances", {"InstanceIds": [OURS]})


def test_a_permission_is_for_one_call_on_one_resource(guard: Guard) -> None:
    guard.permit(Permission(operation="StopInstances", resource=THEIRS))
    guard.check("ec2", "StopInstances", {"InstanceIds": [THEIRS]})
    with pytest.raises(GuardError):
        guard.check("ec2", "TerminateInstances", {"InstanceIds": [THEIRS]})
    with pytest.raises(GuardError):
        guard.check("ec2", "StopInstances", {"InstanceIds": ["i-0cccccccccccccccc"]})


def test_a_permission_to_tag_is_for_its_tags_alone(guard: Guard) -> None:
    guard.permit(Permission(operation="CreateTags", resource=THEIRS, tags=frozenset({STOPPED_BY})))
    guard.check("ec2", "CreateTags", {"Resources": [THEIRS], "Tags": [{"Key": STOPPED_BY, "Value": "r1"}]})
    with pytest.raises(GuardError):
        guard.check("ec2", "CreateTags", {"Resources": [THEIRS], "Tags": [{"Key": "Name", "Value": "x"}]})


def test_a_creating_call_without_the_runs_tag_is_refused(guard: Guard) -> None:
    with pytest.raises(GuardError, match="lost sight of"):
        guard.check("ec2", "CreateVolume", {"SnapshotId": "snap-0bbbbbbbbbbbbbbbb"})
    other = [{"ResourceType": "volume", "Tags": [{"Key": RUN, "Value": "another"}]}]
    with pytest.raises(GuardError, match="lost sight of"):
        guard.check("ec2", "CreateVolume", {"TagSpecifications": other})
    ours = Ownership(run="r1", key="lin/A", purpose="copy A").specification("volume")
    guard.check("ec2", "CreateVolume", {"SnapshotId": "snap-0bbbbbbbbbbbbbbbb", "TagSpecifications": ours})


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("DeleteSubnet", {"SubnetId": "subnet-0bbbbbbbbbbbbbbbb"}),
        ("ReleaseAddress", {"AllocationId": "eipalloc-0bbbbbbbbbbbbbbbb"}),
        ("DeleteKeyPair", {"KeyName": "theirs"}),
        ("CreateImage", {"InstanceId": OURS, "Name": "x"}),
        ("CopySnapshot", {"SourceRegion": "eu-central-1", "SourceSnapshotId": "snap-0bbbbbbbbbbbbbbbb"}),
        ("ModifyInstanceAttribute", {"InstanceId": OURS}),
    ],
)
def test_a_call_that_no_drill_makes_is_refused_on_whatever_it_is_made(
    guard: Guard, operation: str, params: dict[str, object]
) -> None:
    with pytest.raises(GuardError, match=f"refused {operation}: .* none of the calls") as refusal:
        guard.check("ec2", operation, params)
    assert "STAGES (drtest/cloud/policy.py)" in refusal.value.remedy


def test_a_drill_changes_nothing_outside_ec2(guard: Guard) -> None:
    with pytest.raises(GuardError, match="s3 DeleteObject"):
        guard.check("s3", "DeleteObject", {"Bucket": "b", "Key": "k"})


def test_it_stands_before_every_client_of_a_session_and_the_call_is_not_sent(guard: Guard) -> None:
    session = boto3.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
    guard.watch(session.events)
    # Nothing listens there: a call that got past the guard would fail to connect.
    client = session.client("ec2", endpoint_url="http://127.0.0.1:9")
    with pytest.raises(GuardError):
        client.terminate_instances(InstanceIds=[THEIRS])
    with pytest.raises(EndpointConnectionError):
        client.terminate_instances(InstanceIds=[OURS])


def test_a_token_is_the_same_for_the_same_key_and_fits_the_api() -> None:
    one = Ownership(run="r1", key="lin/scratch", purpose="scratch")
    assert one.token == Ownership(run="r1", key="lin/scratch", purpose="other").token
    assert one.token != Ownership(run="r2", key="lin/scratch", purpose="scratch").token
    assert len(one.token) <= 64
