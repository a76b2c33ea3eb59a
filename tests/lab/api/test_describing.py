"""Filters, pages, tags and attributes, by boto3."""

import base64
from typing import Any

import pytest

from drtest.lab.filters import pattern

from .conftest import ZONE, Driver, Site, code_of, until


def test_an_unknown_filter_is_an_error_everywhere(drive: Driver) -> None:
    """Errors: "InvalidParameterValue: A value specified in a parameter is not valid"."""
    wrong = [{"Name": "no-such-filter", "Values": ["x"]}]
    for call in (
        drive.ec2.describe_instances,
        drive.ec2.describe_instance_status,
        drive.ec2.describe_volumes,
        drive.ec2.describe_volume_status,
        drive.ec2.describe_snapshots,
        drive.ec2.describe_images,
        drive.ec2.describe_tags,
        drive.ec2.describe_subnets,
        drive.ec2.describe_security_groups,
    ):
        assert code_of(call, Filters=wrong) == "InvalidParameterValue"


@pytest.mark.parametrize(
    ("value", "text", "matches"),
    [
        ("a*", "abc", True),
        ("a?c", "abc", True),
        ("a?c", "abbc", False),
        (r"a\*", "a*", True),
        (r"a\*", "abc", False),
        ("a[bc]d", "abd", False),
        ("a[bc]d", "a[bc]d", True),
        ("ABC", "abc", False),
    ],
)
def test_wildcards_are_star_and_question_mark_only(value: str, text: str, matches: bool) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html: filters are case-sensitive."""
    assert bool(pattern(value).fullmatch(text)) is matches


def test_instances_are_found_by_what_they_are(site: Site, drive: Driver) -> None:
    instance = drive.run(
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "role", "Value": "web[1]"}]}]
    )
    other = drive.run()
    shown = drive.instance(instance)

    def found(name: str, *values: str) -> set[str]:
        answer = drive.ec2.describe_instances(Filters=[{"Name": name, "Values": list(values)}])
        return {i["InstanceId"] for r in answer["Reservations"] for i in r["Instances"]}

    assert found("tag:role", "web[1]") == {instance} == found("tag-key", "role") == found("tag:role", "web*")
    assert found("instance-state-name", "running", "pending") == {instance, other}
    assert found("instance-state-name", "stopped") == set()
    assert found("instance-id", instance) == {instance}
    assert found("private-ip-address", shown["PrivateIpAddress"]) == {instance}
    assert found("ip-address", shown["PublicIpAddress"]) == {instance}
    assert found("block-device-mapping.volume-id", drive.root(instance)) == {instance}
    assert found("image-id", site.image) == {instance, other}
    assert found("subnet-id", shown["SubnetId"]) == {instance, other}
    assert found("availability-zone", ZONE) == {instance, other}


def test_volumes_and_snapshots_are_found_by_what_they_are(drive: Driver) -> None:
    instance = drive.run()
    root, free = drive.root(instance), drive.new_volume()
    snapshot = drive.new_snapshot(root, Description="nightly [1]")

    def volumes(name: str, *values: str) -> set[str]:
        answer = drive.ec2.describe_volumes(Filters=[{"Name": name, "Values": list(values)}])
        return {v["VolumeId"] for v in answer["Volumes"]}

    assert volumes("attachment.instance-id", instance) == {root} == volumes("attachment.device", "/dev/xvda")
    assert volumes("status", "available") == {free}
    assert volumes("attachment.delete-on-termination", "true") == {root}

    def snapshots(name: str, *values: str) -> set[str]:
        answer = drive.ec2.describe_snapshots(
            OwnerIds=["self"], Filters=[{"Name": name, "Values": list(values)}]
        )
        return {s["SnapshotId"] for s in answer["Snapshots"]}

    assert snapshots("volume-id", root) == {snapshot} == snapshots("description", "nightly [1]")
    assert snapshots("status", "error") == set()


@pytest.mark.parametrize("kind", ["instances", "snapshots", "volumes"])
def test_pages_show_all_once(drive: Driver, kind: str) -> None:
    """API_DescribeInstances, MaxResults: "The maximum number of items to return for this request"."""
    if kind == "instances":
        drive.ec2.run_instances(ImageId=drive.site.image, MinCount=12, MaxCount=12, InstanceType="t3.micro")
    elif kind == "volumes":
        for _ in range(12):
            drive.new_volume(wait="")
    else:
        for _ in range(4):
            volume = drive.new_volume()
            for _ in range(3):
                drive.new_snapshot(volume, wait="")
    paginator = drive.ec2.get_paginator(f"describe_{kind}")
    pages = list(paginator.paginate(PaginationConfig={"PageSize": 5}))
    if kind == "instances":
        found = [[i["InstanceId"] for r in p["Reservations"] for i in r["Instances"]] for p in pages]
    else:
        key = {"snapshots": "SnapshotId", "volumes": "VolumeId"}[kind]
        found = [[thing[key] for thing in p[kind.capitalize()]] for p in pages]
    assert [len(page) for page in found][:2] == [5, 5]
    flat = [key for page in found for key in page]
    assert len(flat) == len(set(flat)) >= 12


def test_pages_have_their_rules(drive: Driver) -> None:
    """API_DescribeSnapshots: "You cannot specify this parameter and the snapshot IDs parameter in the same request"."""
    instance = drive.run()
    describe = drive.ec2.describe_instances
    assert code_of(describe, MaxResults=4) == "InvalidParameterValue"
    assert code_of(describe, MaxResults=5, InstanceIds=[instance]) == "InvalidParameterCombination"
    assert code_of(describe, MaxResults=5, NextToken="made up") == "InvalidPaginationToken"


def test_tags_go_on_and_off_many_things_at_once(site: Site, drive: Driver) -> None:
    """API_CreateTags, API_DeleteTags"""
    instance, volume = drive.run(), drive.new_volume()
    vpc = drive.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    things = [instance, volume, site.image, vpc]
    drive.ec2.create_tags(Resources=things, Tags=[{"Key": "run", "Value": "r1"}, {"Key": "x", "Value": ""}])
    found = drive.ec2.describe_tags(Filters=[{"Name": "key", "Values": ["run"]}])["Tags"]
    assert {t["ResourceId"] for t in found} == set(things)
    assert {t["ResourceType"] for t in found} == {"instance", "volume", "image", "vpc"}
    drive.ec2.delete_tags(Resources=things, Tags=[{"Key": "run", "Value": "another"}, {"Key": "x"}])
    left = drive.ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": things}])["Tags"]
    assert {(t["Key"], t["ResourceId"]) for t in left if t["Key"] != "Name"} == {
        ("run", key) for key in things
    }


def test_tags_on_something_that_is_not_there_go_on_nothing(drive: Driver) -> None:
    volume = drive.new_volume()
    tags = [{"Key": "a", "Value": "b"}]
    for missing, code in (
        ("vol-0123456789abcdef0", "InvalidVolume.NotFound"),
        ("vpc-0123456789abcdef0", "InvalidVpcID.NotFound"),
    ):
        assert code_of(drive.ec2.create_tags, Resources=[volume, missing], Tags=tags) == code
    assert "Tags" not in drive.volume(volume)


def test_tags_have_their_limits(drive: Driver) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions"""
    volume = drive.new_volume()

    def refused(*tags: dict[str, str]) -> str:
        return code_of(drive.ec2.create_tags, Resources=[volume], Tags=list(tags))

    assert refused(*[{"Key": f"k{n}", "Value": ""} for n in range(51)]) == "TagLimitExceeded"
    assert refused({"Key": "aws:mine", "Value": ""}) == "InvalidParameterValue"
    assert refused({"Key": "k", "Value": "v" * 257}) == "InvalidParameterValue"
    assert refused({"Key": "k" * 129, "Value": ""}) == "InvalidParameterValue"
    assert refused({"Key": "k", "Value": "a"}, {"Key": "k", "Value": "b"}) == "InvalidParameterValue"


def test_attributes_are_shown_and_changed(drive: Driver) -> None:
    """API_ModifyInstanceAttribute: "To modify some attributes, the instance must be stopped"."""
    instance = drive.run()

    def shown(attribute: str) -> Any:
        answer = drive.ec2.describe_instance_attribute(InstanceId=instance, Attribute=attribute)
        return next(v for k, v in answer.items() if k not in {"InstanceId", "ResponseMetadata"})

    modify = drive.ec2.modify_instance_attribute
    modify(InstanceId=instance, InstanceInitiatedShutdownBehavior={"Value": "terminate"})
    assert shown("instanceInitiatedShutdownBehavior") == {"Value": "terminate"}
    modify(InstanceId=instance, Attribute="instanceInitiatedShutdownBehavior", Value="stop")
    assert shown("instanceInitiatedShutdownBehavior") == {"Value": "stop"}
    mapping = [{"DeviceName": "/dev/xvda", "Ebs": {"DeleteOnTermination": False}}]
    modify(InstanceId=instance, BlockDeviceMappings=mapping)
    assert drive.volume(drive.root(instance))["Attachments"][0]["DeleteOnTermination"] is False
    assert shown("disableApiTermination") == {"Value": False}
    assert shown("rootDeviceName") == {"Value": "/dev/xvda"}

    assert (
        code_of(modify, InstanceId=instance, InstanceType={"Value": "t3.small"}) == "IncorrectInstanceState"
    )
    assert code_of(modify, InstanceId=instance, UserData={"Value": b"x"}) == "IncorrectInstanceState"
    drive.stop(instance)
    modify(InstanceId=instance, InstanceType={"Value": "t3.small"})
    modify(InstanceId=instance, UserData={"Value": b"#!/bin/sh"})
    assert shown("instanceType") == {"Value": "t3.small"}
    assert base64.b64decode(str(shown("userData")["Value"])) == b"#!/bin/sh"
    assert code_of(modify, InstanceId=instance) == "InvalidParameterCombination"


def test_an_impaired_guest_is_told_from_one_that_still_boots(site: Site, drive: Driver) -> None:
    """API_DescribeInstanceStatus: initializing, then ok, or impaired if the guest's network does not answer."""
    site.hardware.greets = False
    instance = drive.run(wait="")

    def status(**params: object) -> dict[str, str]:
        found = drive.ec2.describe_instance_status(InstanceIds=[instance], **params)["InstanceStatuses"]
        return {k: found[0][k]["Status"] for k in ("InstanceStatus", "SystemStatus")} if found else {}

    drive.reach(instance, "running")
    assert status()["InstanceStatus"] == "initializing"
    until(lambda: status()["InstanceStatus"] == "impaired")
    assert status()["SystemStatus"] == "ok"
    detail = drive.ec2.describe_instance_status(InstanceIds=[instance])["InstanceStatuses"][0][
        "InstanceStatus"
    ]["Details"]
    assert detail[0]["Status"] == "failed"
    assert detail[0]["ImpairedSince"]
    site.hardware.greet(instance)
    until(lambda: status()["InstanceStatus"] == "ok")
    drive.stop(instance)
    assert status() == {}
    assert status(IncludeAllInstances=True)["InstanceStatus"] == "not-applicable"


def test_a_status_can_be_waited_for(drive: Driver) -> None:
    instance = drive.run()
    waiter = drive.ec2.get_waiter("instance_status_ok")
    waiter.wait(InstanceIds=[instance], WaiterConfig={"Delay": 1, "MaxAttempts": 20})


def test_the_console_is_posted_after_a_transition_and_shown_at_once_as_the_latest(
    site: Site, drive: Driver
) -> None:
    """API_GetConsoleOutput, Latest: "the latest serial console output for the instance"; else what was posted."""
    instance = drive.run()
    drive.ec2.get_waiter("instance_status_ok").wait(
        InstanceIds=[instance], WaiterConfig={"Delay": 1, "MaxAttempts": 20}
    )
    until(lambda: drive.ec2.get_console_output(InstanceId=instance).get("Output"))
    site.hardware.consoles[instance] += b"x" * 100_000 + b"Kernel panic - not syncing\n"
    posted = drive.ec2.get_console_output(InstanceId=instance)["Output"]
    latest = drive.ec2.get_console_output(InstanceId=instance, Latest=True)["Output"]
    assert "panic" not in posted
    assert latest.endswith("Kernel panic - not syncing\n")
    assert len(latest) == 64 * 1024
    drive.stop(instance)
    assert drive.ec2.get_console_output(InstanceId=instance)["Output"].endswith("syncing\n")


def test_the_screen_is_a_jpeg_while_it_runs(drive: Driver) -> None:
    """API_GetConsoleScreenshot: "Retrieve a JPG-format screenshot of a running instance"."""
    instance = drive.run()
    picture = drive.ec2.get_console_screenshot(InstanceId=instance)["ImageData"]
    assert base64.b64decode(picture).startswith(b"\xff\xd8")
    drive.stop(instance)
    assert code_of(drive.ec2.get_console_screenshot, InstanceId=instance) == "IncorrectInstanceState"
