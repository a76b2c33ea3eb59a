"""Clients that are not boto3 in our own hands: the AWS CLI, and the calls that Terraform's AWS provider makes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import ZONE, Driver, code_of, until

AWS = Path(sys.prefix) / "awscli" / "bin" / "aws"
"""The AWS CLI has a virtual environment of its own: it pins another botocore than boto3 does."""


class Cli:
    """The AWS CLI, as somebody at a terminal has it: an endpoint and keys in the environment."""

    def __init__(self, *, endpoint: str, access_key: str, secret_key: str, home: Path) -> None:
        assert AWS.exists(), f"{AWS} is not there: `sh .setup test` installs it"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_DEFAULT_OUTPUT": "json",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
        }

    def run(self, *words: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(AWS), *words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def __call__(self, *words: str) -> Any:
        ended = self.run("ec2", *words)
        assert ended.returncode == 0, f"aws ec2 {' '.join(words)}: {ended.stderr}"
        return json.loads(ended.stdout) if ended.stdout.strip() else None


def life(aws: Cli, *, image: str, subnet: str = "") -> None:
    """Take an instance and its volumes through their life, as the User Guide's examples do."""
    place = ["--subnet-id", subnet] if subnet else []
    tags = "ResourceType=instance,Tags=[{Key=Name,Value=by cli}]"
    made = aws("run-instances", "--image-id", image, "--instance-type", "t3.micro", "--count", "1",
               *place, "--tag-specifications", tags)  # fmt: skip
    instance = made["Instances"][0]["InstanceId"]
    aws("wait", "instance-running", "--instance-ids", instance)
    query = "Reservations[].Instances[].[InstanceId,State.Name,Placement.AvailabilityZone]"
    wanted = "Name=tag:Name,Values=by cli"
    ((key, state, zone),) = aws("describe-instances", "--filters", wanted, "--query", query)
    assert (key, state) == (instance, "running")
    aws("wait", "instance-status-ok", "--instance-ids", instance)

    mine = f"Name=attachment.instance-id,Values={instance}"
    root = aws("describe-volumes", "--filters", mine)["Volumes"][0]["VolumeId"]
    snapshot = aws("create-snapshot", "--volume-id", root, "--description", "by cli")["SnapshotId"]
    aws("wait", "snapshot-completed", "--snapshot-ids", snapshot)
    volume = aws("create-volume", "--snapshot-id", snapshot, "--availability-zone", zone)["VolumeId"]
    aws("wait", "volume-available", "--volume-ids", volume)
    aws("attach-volume", "--volume-id", volume, "--instance-id", instance, "--device", "/dev/sdf")
    aws("wait", "volume-in-use", "--volume-ids", volume)

    aws("stop-instances", "--instance-ids", instance)
    aws("wait", "instance-stopped", "--instance-ids", instance)
    aws("detach-volume", "--volume-id", volume)
    aws("wait", "volume-available", "--volume-ids", volume)
    aws("delete-volume", "--volume-id", volume)
    aws("wait", "volume-deleted", "--volume-ids", volume)
    aws("start-instances", "--instance-ids", instance)
    aws("wait", "instance-running", "--instance-ids", instance)
    aws("terminate-instances", "--instance-ids", instance)
    aws("wait", "instance-terminated", "--instance-ids", instance)
    aws("delete-snapshot", "--snapshot-id", snapshot)
    left = aws("describe-snapshots", "--owner-ids", "self", "--filters", "Name=description,Values=by cli")
    assert left["Snapshots"] == []


@pytest.fixture
def aws(drive: Driver, tmp_path: Path) -> Cli:
    site = drive.site
    endpoint = f"http://127.0.0.1:{site.port}"
    return Cli(endpoint=endpoint, access_key=site.access_key, secret_key="any", home=tmp_path)


def test_the_aws_cli_takes_an_instance_through_its_life(drive: Driver, aws: Cli) -> None:
    life(aws, image=drive.site.image)


def test_the_aws_cli_shows_errors_in_aws_s_words_and_its_exit_code(aws: Cli) -> None:
    ended = aws.run("ec2", "describe-volumes", "--volume-ids", "vol-00000000000000000")
    assert ended.returncode in {254, 255}, "CLI 2 and CLI 1"
    assert "(InvalidVolume.NotFound)" in ended.stderr
    ended = aws.run("ec2", "create-volume", "--size", "1", "--availability-zone", ZONE, "--dry-run")
    assert "(DryRunOperation)" in ended.stderr
    ended = aws.run("ec2", "create-fleet", "--cli-input-json", _FLEET)
    assert "(UnsupportedOperation)" in ended.stderr


_FLEET = json.dumps(
    {
        "LaunchTemplateConfigs": [
            {"LaunchTemplateSpecification": {"LaunchTemplateName": "fleet", "Version": "1"}}
        ],
        "TargetCapacitySpecification": {"TotalTargetCapacity": 1},
    }
)


def test_the_aws_cli_pages_and_knows_who_it_is(drive: Driver, aws: Cli) -> None:
    for _ in range(7):
        drive.ec2.create_volume(AvailabilityZone=ZONE, Size=1)
    assert len(aws("describe-volumes", "--page-size", "5")["Volumes"]) == 7
    first = aws("describe-volumes", "--max-items", "3")
    assert len(first["Volumes"]) == 3
    assert first["NextToken"]
    who = json.loads(aws.run("sts", "get-caller-identity").stdout)
    assert who["Account"] == drive.site.account


def test_the_calls_of_terraform_around_an_instance_are_answered(drive: Driver) -> None:
    """What hashicorp/aws does for aws_instance with a profile-less t3.micro: plan, create, refresh, destroy."""
    ec2, image = drive.ec2, drive.site.image
    # provider start, data sources
    assert drive.site.client("sts").get_caller_identity()["Account"] == drive.site.account
    assert ec2.describe_account_attributes(AttributeNames=["supported-platforms"])["AccountAttributes"]
    assert ec2.describe_availability_zones()["AvailabilityZones"]
    assert ec2.describe_images(ImageIds=[image], Owners=["self"])["Images"][0]["RootDeviceName"]
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "isDefault", "Values": ["true"]}])["Vpcs"]
    subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["Subnets"]
    for attribute in ("enableDnsHostnames", "enableDnsSupport"):
        ec2.describe_vpc_attribute(VpcId=vpc["VpcId"], Attribute=attribute)

    # aws_security_group: a new one lets everything out, which the provider takes away first
    group = ec2.create_security_group(GroupName="tf", Description="Managed by Terraform", VpcId=vpc["VpcId"])
    ec2.revoke_security_group_egress(
        GroupId=group["GroupId"],
        IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}],
    )
    (shown,) = ec2.describe_security_groups(GroupIds=[group["GroupId"]])["SecurityGroups"]
    assert shown["IpPermissionsEgress"] == []

    # aws_instance, create
    (kind,) = ec2.describe_instance_types(InstanceTypes=["t3.micro"])["InstanceTypes"]
    assert kind["BurstablePerformanceSupported"] is True
    made = ec2.run_instances(
        ImageId=image,
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        ClientToken="terraform-20260101000000000000000001",
        EbsOptimized=False,
        Monitoring={"Enabled": False},
        DisableApiTermination=False,
        DisableApiStop=False,
        InstanceInitiatedShutdownBehavior="stop",
        CreditSpecification={"CpuCredits": "unlimited"},
        MetadataOptions={"HttpTokens": "required", "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": 2},
        SubnetId=subnets[0]["SubnetId"],
        SecurityGroupIds=[group["GroupId"]],
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "tf"}]},
            {"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "tf"}]},
        ],
    )["Instances"][0]["InstanceId"]
    drive.reach(made, "running")

    # refresh
    found = drive.instance(made)
    assert found["SourceDestCheck"] is True
    assert found["MetadataOptions"]["HttpTokens"] == "required"
    for name, value in (
        ("disableApiStop", {"Value": False}),
        ("disableApiTermination", {"Value": False}),
        ("instanceInitiatedShutdownBehavior", {"Value": "stop"}),
        ("userData", {}),
    ):
        answer = ec2.describe_instance_attribute(InstanceId=made, Attribute=name)
        assert answer[name[0].upper() + name[1:]] == value
    credits = ec2.describe_instance_credit_specifications(InstanceIds=[made])
    assert credits["InstanceCreditSpecifications"] == [{"InstanceId": made, "CpuCredits": "unlimited"}]
    by_instance = [{"Name": "instance-id", "Values": [made]}]
    associations = ec2.describe_iam_instance_profile_associations(Filters=by_instance)
    assert associations["IamInstanceProfileAssociations"] == []
    assert ec2.describe_addresses(Filters=by_instance)["Addresses"] == []
    root = found["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    (volume,) = ec2.describe_volumes(VolumeIds=[root])["Volumes"]
    assert volume["Iops"]
    tags = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [made]}])["Tags"]
    assert [(tag["Key"], tag["Value"]) for tag in tags] == [("Name", "tf")]
    card = found["NetworkInterfaces"][0]["NetworkInterfaceId"]
    (interface,) = ec2.describe_network_interfaces(NetworkInterfaceIds=[card])["NetworkInterfaces"]
    assert interface["Attachment"]["InstanceId"] == made
    assert ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False

    # update in place, then destroy: the group goes when no card is in it any more
    ec2.modify_instance_attribute(InstanceId=made, DisableApiTermination={"Value": False})
    ec2.create_tags(Resources=[made], Tags=[{"Key": "Name", "Value": "tf2"}])
    assert code_of(ec2.delete_security_group, GroupId=group["GroupId"]) == "DependencyViolation"
    ec2.terminate_instances(InstanceIds=[made])
    drive.reach(made, "terminated")
    lingering = [{"Name": "group-id", "Values": [group["GroupId"]]}]
    until(lambda: ec2.describe_network_interfaces(Filters=lingering)["NetworkInterfaces"] == [])
    ec2.delete_security_group(GroupId=group["GroupId"])


def test_an_instance_with_a_profile_has_an_association(drive: Driver) -> None:
    instance = drive.run(IamInstanceProfile={"Name": "backup"})
    (found,) = drive.ec2.describe_iam_instance_profile_associations(
        Filters=[{"Name": "instance-id", "Values": [instance]}]
    )["IamInstanceProfileAssociations"]
    assert found["State"] == "associated"
    assert found["IamInstanceProfile"]["Arn"].endswith(":instance-profile/backup")


def test_interfaces_and_addresses_that_are_none_are_not_found(drive: Driver) -> None:
    unknown = "eni-00000000000000000"
    code = code_of(drive.ec2.describe_network_interfaces, NetworkInterfaceIds=[unknown])
    assert code == "InvalidNetworkInterfaceID.NotFound"
    assert code_of(drive.ec2.describe_addresses, PublicIps=["192.0.2.1"]) == "InvalidAddress.NotFound"
