"""What goes wrong on purpose: which calls it happens to, what the client sees, and what was done all the same."""

import http.client
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from ruamel.yaml import YAML

from drtest.cli import main
from drtest.errors import UsageError
from drtest.lab import control
from drtest.lab.call import Call
from drtest.lab.faults import Faults, Kind, read_document, read_file
from drtest.lab.overlay import write_overlay
from drtest.lab.resources import Snapshot
from drtest.lab.sizes import GIB

from .conftest import QUICK, UNVERIFIED, ZONE, Driver, code_of, open_site, until


def _set(drive: Driver, *faults: Mapping[str, Any], **plan: Any) -> Faults:
    found = drive.site.compute.faults
    found.set(read_document({"faults": list(faults), **plan}, source="test"))
    return found


def _client(drive: Driver, **config: Any) -> Any:
    return boto3.client(
        "ec2",
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{drive.site.port}",
        aws_access_key_id=drive.site.access_key,
        aws_secret_access_key=UNVERIFIED,
        config=Config(**config),
    )


def _status_of(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        ("throttled", "RequestLimitExceeded", 503),
        ("internal-error", "InternalError", 500),
        ("unavailable", "Unavailable", 503),
    ],
)
def test_an_error_comes_in_aws_s_words_and_nothing_is_done(
    drive: Driver, fault: str, code: str, status: int
) -> None:
    # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html#api-error-codes-table-server
    _set(drive, {"fault": fault, "action": "CreateVolume"})
    with pytest.raises(ClientError) as caught:
        drive.ec2.create_volume(AvailabilityZone=ZONE, Size=1)
    assert caught.value.response["Error"]["Code"] == code
    assert _status_of(caught.value) == status
    assert drive.ec2.describe_volumes()["Volumes"] == []
    drive.new_volume()


def test_the_nth_call_and_a_count_say_which_calls(drive: Driver) -> None:
    faults = _set(drive, {"fault": "unavailable", "action": "Describe*", "nth": 2, "count": 2})
    seen = []
    for _ in range(5):
        try:
            drive.ec2.describe_volumes()
            seen.append("")
        except ClientError as error:
            seen.append(error.response["Error"]["Code"])
    assert seen == ["", "Unavailable", "Unavailable", "", ""]
    (shown,) = faults.show()["faults"]
    assert (shown["calls"], shown["hits"]) == (5, 2)


def test_what_moto_serves_fails_too(drive: Driver) -> None:
    _set(drive, {"fault": "throttled", "action": "DescribeVpcs"})
    assert code_of(drive.ec2.describe_vpcs) == "RequestLimitExceeded"
    assert drive.ec2.describe_vpcs()["Vpcs"]


def test_chance_has_a_seed() -> None:
    def calls(seed: int) -> list[bool]:
        faults = Faults()
        document = {"seed": seed, "faults": [{"fault": "unavailable", "probability": 0.3}]}
        faults.set(read_document(document, source="test"))
        return [bool(faults.happening("DescribeVolumes")) for _ in range(200)]

    assert calls(1) == calls(1)
    assert calls(1) != calls(2)
    assert 30 < sum(calls(1)) < 90


def test_faults_end_when_they_are_switched_off(drive: Driver) -> None:
    faults = _set(drive, {"fault": "internal-error", "count": 1000})
    assert code_of(drive.ec2.describe_volumes) == "InternalError"
    faults.set(read_document({}, source="test"))
    assert drive.ec2.describe_volumes()["Volumes"] == []


def test_a_lost_response_closes_the_connection_after_the_deed(drive: Driver) -> None:
    _set(drive, {"fault": "lost-response", "action": "CreateVolume"})
    with pytest.raises(ConnectionClosedError):
        drive.ec2.create_volume(AvailabilityZone=ZONE, Size=1)
    assert len(drive.ec2.describe_volumes()["Volumes"]) == 1


def test_a_client_that_tries_again_with_its_token_gets_what_the_lost_response_made(drive: Driver) -> None:
    _set(drive, {"fault": "lost-response", "action": "CreateVolume"})
    patient = _client(drive, retries={"mode": "standard", "total_max_attempts": 3})
    made = patient.create_volume(AvailabilityZone=ZONE, Size=1, ClientToken="once")["VolumeId"]
    assert [v["VolumeId"] for v in drive.ec2.describe_volumes()["Volumes"]] == [made]


def test_a_timeout_holds_the_answer_but_no_other_call(drive: Driver) -> None:
    _set(drive, {"fault": "timeout", "action": "CreateVolume", "seconds": 30})
    hurried = _client(drive, retries={"total_max_attempts": 1}, read_timeout=0.5)
    with pytest.raises(ReadTimeoutError):
        hurried.create_volume(AvailabilityZone=ZONE, Size=1)
    started = time.monotonic()
    assert len(drive.ec2.describe_volumes()["Volumes"]) == 1
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("action", ["RunInstances", "StartInstances"])
def test_there_can_be_no_capacity(drive: Driver, action: str) -> None:
    instance = drive.run()
    drive.stop(instance)
    _set(drive, {"fault": "no-capacity", "action": action})
    calls: dict[str, Callable[[], object]] = {
        "RunInstances": drive.run,
        "StartInstances": lambda: drive.ec2.start_instances(InstanceIds=[instance]),
    }
    with pytest.raises(ClientError) as caught:
        calls[action]()
    assert caught.value.response["Error"]["Code"] == "InsufficientInstanceCapacity"
    assert _status_of(caught.value) == 500
    assert drive.state(instance) == "stopped"


def test_a_snapshot_ends_in_error_and_can_be_deleted(drive: Driver) -> None:
    volume = drive.new_volume()
    _set(drive, {"fault": "snapshot-error", "nth": 2})
    assert drive.snapshot(drive.new_snapshot(volume))["State"] == "completed"
    failed = drive.new_snapshot(volume, wait="error")
    assert "failed" in drive.snapshot(failed)["StateMessage"]
    assert code_of(drive.ec2.create_volume, AvailabilityZone=ZONE, SnapshotId=failed) == "IncorrectState"
    drive.ec2.delete_snapshot(SnapshotId=failed)


def test_a_set_of_snapshots_ends_in_error(drive: Driver) -> None:
    instance = drive.run(BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}])
    _set(drive, {"fault": "snapshot-error", "action": "CreateSnapshots"})
    taken = drive.ec2.create_snapshots(InstanceSpecification={"InstanceId": instance})["Snapshots"]
    assert len(taken) == 2
    for key in [one["SnapshotId"] for one in taken]:
        until(lambda key=key: drive.snapshot(key)["State"] == "error")  # type: ignore[misc]


def test_volumes_fail_when_they_are_plugged_in(drive: Driver) -> None:
    hardware = drive.site.hardware
    instance, first, second = drive.run(), drive.new_volume(), drive.new_volume()
    _set(
        drive,
        {"fault": "volume-io-error", "action": "AttachVolume", "requests": "writes"},
        {"fault": "volume-hangs", "action": "AttachVolume", "nth": 2, "after": 0.1},
    )
    drive.ec2.attach_volume(VolumeId=first, InstanceId=instance, Device="/dev/sdf")
    drive.ec2.attach_volume(VolumeId=second, InstanceId=instance, Device="/dev/sdg")
    until(lambda: hardware.harmed == {first: "writes", second: "hangs"})


def test_a_root_fails_at_a_start_by_its_device(drive: Driver) -> None:
    hardware = drive.site.hardware
    _set(drive, {"fault": "volume-io-error", "device": "/dev/xvda"})
    mapping = [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}]
    instance = drive.run(BlockDeviceMappings=mapping)
    until(lambda: hardware.harmed == {drive.root(instance): "all"})


def test_a_machine_freezes_and_is_impaired_and_stops_by_force(drive: Driver) -> None:
    hardware = drive.site.hardware
    _set(drive, {"fault": "machine-freezes", "action": "RunInstances"})
    instance = drive.run()
    until(lambda: instance in hardware.paused)
    hardware.obeys = False
    drive.stop(instance)


def test_a_new_resource_is_not_seen_at_once_but_can_be_worked_with(tmp_path: Path) -> None:
    # https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
    with open_site(tmp_path, timings=QUICK) as site:
        drive = Driver(site, site.client())
        _set(drive, unseen=5.0)
        volume = drive.ec2.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"]
        assert code_of(drive.ec2.describe_volumes, VolumeIds=[volume]) == "InvalidVolume.NotFound"
        wanted = [{"Name": "volume-id", "Values": [volume]}]
        assert drive.ec2.describe_volumes(Filters=wanted)["Volumes"] == []
        drive.ec2.create_tags(Resources=[volume], Tags=[{"Key": "k", "Value": "v"}])
        until(lambda: drive.ec2.describe_volumes(Filters=wanted)["Volumes"])
        assert drive.volume(volume)["Tags"] == [{"Key": "k", "Value": "v"}]


def test_by_itself_the_lab_shows_a_new_instance_a_moment_late_as_its_waiter_expects(tmp_path: Path) -> None:
    with open_site(tmp_path, timings=replace(QUICK, unseen=5.0)) as site:
        drive = Driver(site, site.client())
        instance = drive.run(wait="")
        assert code_of(drive.instance, instance_id=instance) == "InvalidInstanceID.NotFound"
        drive.ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig={"Delay": 1})
        assert drive.state(instance) == "running"
        volume = drive.new_volume(wait="")
        assert drive.volume(volume)["VolumeId"] == volume


def test_buckets_are_per_account_and_throttling_is_seen_by_clients(drive: Driver) -> None:
    _set(drive, throttling=0.1)
    codes = []
    for _ in range(8):
        try:
            drive.ec2.describe_instances()
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])
    assert codes
    assert set(codes) == {"RequestLimitExceeded"}
    other = Call(action="DescribeInstances", owner="another", region="us-east-1", params={})
    assert not drive.site.compute.faults.throttled(other)


def test_a_client_with_retries_gets_through_a_storm(drive: Driver) -> None:
    _set(
        drive,
        {"fault": "throttled", "probability": 0.3},
        {"fault": "internal-error", "probability": 0.2},
        seed=3,
    )
    patient = _client(drive, retries={"mode": "standard", "total_max_attempts": 10})
    made = [patient.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"] for _ in range(5)]
    found = {volume["VolumeId"] for volume in patient.describe_volumes()["Volumes"]}
    assert found == set(made)


def test_mistakes_in_a_fault_file_are_all_named(tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text(
        "faults:\n"
        "  - {fault: throtled}\n"
        "  - {fault: unavailable, action: CreateVolum}\n"
        "  - {fault: no-capacity, action: StopInstances}\n"
        "  - {fault: unavailable, seconds: 3}\n"
        "  - {fault: unavailable, probability: 2}\n"
    )
    with pytest.raises(UsageError) as refused:
        read_file(file)
    said = refused.value.seen.splitlines()
    assert len(said) == 5
    assert "no action of EC2" in said[1]
    assert "RunInstances, StartInstances" in said[2]
    assert "unavailable has no seconds" in said[3]


def test_the_command_line_refuses_a_wrong_file_and_says_that_no_lab_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRTEST_LAB_DIR", str(tmp_path / "lab"))
    file = tmp_path / "faults.yaml"
    file.write_text("faults: [{fault: nonsense}]")
    assert main(["lab", "up", "--faults", str(file)]) == 2
    assert "nonsense" in capsys.readouterr().err or not (tmp_path / "lab").exists()
    assert main(["lab", "faults", "show"]) == 3
    assert "drtest lab up" in capsys.readouterr().err


def test_a_lost_response_leaves_the_server_whole_for_plain_http(drive: Driver) -> None:
    _set(drive, {"fault": "lost-response", "action": "DescribeVolumes", "count": 50})
    errors: list[str] = []

    def ask() -> None:
        try:
            drive.ec2.describe_volumes()
        except ConnectionClosedError:
            errors.append("closed")

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == ["closed"] * 8
    connection = http.client.HTTPConnection("127.0.0.1", drive.site.port, timeout=10)
    connection.request("GET", "/?Action=DescribeVolumes")
    assert connection.getresponse().status == 403
    connection.close()
    assert drive.site.endpoint.under_way == 0


def test_faults_set_at_run_time_outlive_a_kill_of_the_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lab"
    monkeypatch.setenv("DRTEST_LAB_DIR", str(folder))
    lab = control.up(images=())
    try:
        file = tmp_path / "faults.yaml"
        file.write_text("faults: [{fault: unavailable, action: DescribeVolumes, nth: 3}]")
        assert main(["lab", "faults", str(file)]) == 0
        os.kill(lab.pid, signal.SIGKILL)
        until(lambda: control.status() is None)
        control.up(images=())
        (shown,) = control.faults()["faults"]
        assert shown == {**shown, "fault": "unavailable", "nth": 3, "calls": 0, "hits": 0}
        assert main(["lab", "faults", "off"]) == 0
        assert control.faults()["faults"] == []
    finally:
        control.down()


def _other(drive: Driver, service: str) -> Any:
    return boto3.client(
        service,  # type: ignore[call-overload] # one of two
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{drive.site.port}",
        aws_access_key_id=drive.site.access_key,
        aws_secret_access_key=UNVERIFIED,
        config=Config(retries={"max_attempts": 0}, read_timeout=1),
    )


@pytest.mark.parametrize(
    ("fault", "of_ebs", "of_ssm"),
    [
        # https://docs.aws.amazon.com/ebs/latest/APIReference/API_ListSnapshotBlocks.html#API_ListSnapshotBlocks_Errors
        # https://docs.aws.amazon.com/systems-manager/latest/APIReference/CommonErrors.html
        ("throttled", ("RequestThrottledException", 400), ("ThrottlingException", 400)),
        ("internal-error", ("InternalServerException", 500), ("InternalServerError", 500)),
        ("unavailable", ("ServiceUnavailable", 503), ("ServiceUnavailable", 503)),
    ],
)
def test_blocks_and_commands_fail_in_the_words_of_their_services(
    drive: Driver, fault: str, of_ebs: tuple[str, int], of_ssm: tuple[str, int]
) -> None:
    ebs, ssm = _other(drive, "ebs"), _other(drive, "ssm")
    faults = _set(
        drive, {"fault": fault, "action": "ListSnapshotBlocks"}, {"fault": fault, "action": "SendCommand"}
    )
    calls: list[tuple[tuple[str, int], Callable[[], Any]]] = [
        (of_ebs, lambda: ebs.list_snapshot_blocks(SnapshotId="snap-0123456789abcdef0")),
        (
            of_ssm,
            lambda: ssm.send_command(DocumentName="AWS-RunShellScript", InstanceIds=["i-0123456789abcdef0"]),
        ),
    ]
    for (code, status), call in calls:
        with pytest.raises(ClientError) as caught:
            call()
        assert (caught.value.response["Error"]["Code"], _status_of(caught.value)) == (code, status)
        assert code_of(call) != code  # what is wrong with the call itself
    assert [one["hits"] for one in faults.show()["faults"]] == [1, 1]


@pytest.mark.parametrize("fault", ["lost-response", "timeout"])
def test_answers_to_blocks_and_commands_get_lost_too(drive: Driver, tmp_path: Path, fault: str) -> None:
    ebs, ssm, books = _other(drive, "ebs"), _other(drive, "ssm"), drive.site.compute.books
    write_overlay(tmp_path / "layer.qcow2", size=GIB, backing=None)
    (snapshot,) = books.all(Snapshot)
    with books.open():
        books.put(replace(snapshot, layer=str(tmp_path / "layer.qcow2")))
    extra = {"seconds": 3} if fault == "timeout" else {}
    _set(
        drive,
        {"fault": fault, "action": "ListSnapshotBlocks", **extra},
        {"fault": fault, "action": "DescribeInstanceInformation", **extra},
    )
    lost = ConnectionClosedError if fault == "lost-response" else ReadTimeoutError
    with pytest.raises(lost):
        ssm.describe_instance_information()
    assert ssm.describe_instance_information()["InstanceInformationList"] == []
    with pytest.raises(lost):
        ebs.list_snapshot_blocks(SnapshotId=snapshot.id)
    assert ebs.list_snapshot_blocks(SnapshotId=snapshot.id)["Blocks"] == []


def test_the_fault_file_and_the_table_of_the_readme_are_the_code_s() -> None:
    readme = (Path(__file__).parents[3] / "drtest" / "lab" / "README.md").read_text()
    section = readme.partition("## Faults")[2].partition("\n## ")[0]
    example = section.partition("```yaml\n")[2].partition("```")[0]
    plan = read_document(YAML(typ="safe", pure=True).load(example), source="README.md")
    assert len(plan.faults) == 5
    named = [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]
    assert named == list(get_args(Kind))
