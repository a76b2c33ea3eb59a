"""RunInstances, by boto3: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html"""

import base64
import ipaddress

from .conftest import ZONE, Driver, Site, code_of, until


def test_an_instance_is_pending_first_and_runs_then(site: Site, drive: Driver) -> None:
    answer = drive.ec2.run_instances(ImageId=site.image, MinCount=1, MaxCount=1, InstanceType="t3.micro")
    instance = answer["Instances"][0]
    assert instance["State"] == {"Code": 0, "Name": "pending"}
    assert answer["ReservationId"].startswith("r-")
    drive.reach(instance["InstanceId"], "running")


def test_the_root_volume_is_made_from_the_image_and_begins_with_its_bytes(site: Site, drive: Driver) -> None:
    instance_id = drive.run()
    root = drive.volume(drive.root(instance_id))
    image = drive.ec2.describe_images(ImageIds=[site.image])["Images"][0]
    assert root["SnapshotId"] == image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    assert (root["Size"], root["State"]) == (2, "in-use")
    assert root["Attachments"][0]["State"] == "attached"
    assert root["Attachments"][0]["DeleteOnTermination"] is True
    assert site.hardware.disks[root["VolumeId"]] == b"boot sector"
    assert site.hardware.sizes[root["VolumeId"]] == 2 * 1024**3


def test_the_machine_gets_what_the_call_says(site: Site, drive: Driver) -> None:
    key = drive.ec2.create_key_pair(KeyName="k", KeyType="ed25519")
    assert "PRIVATE KEY" in key["KeyMaterial"]
    instance_id = drive.run(
        KeyName="k",
        UserData="#!/bin/sh\ntrue\n",
        BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 3}}],
    )
    (spec,) = site.hardware.specs
    shown = drive.instance(instance_id)
    public = drive.ec2.describe_key_pairs(KeyNames=["k"], IncludePublicKey=True)["KeyPairs"][0]["PublicKey"]
    assert spec.id == instance_id
    assert spec.authorized_key.split()[:2] == public.split()[:2]
    assert spec.user_data == b"#!/bin/sh\ntrue\n"
    assert [(disk.device, disk.boot) for disk in spec.disks] == [("/dev/xvda", True), ("/dev/sdf", False)]
    assert spec.address == shown["PublicIpAddress"]
    assert spec.private_address == f"{shown['PrivateIpAddress']}/20"
    assert spec.hostname == "ip-" + shown["PrivateIpAddress"].replace(".", "-")
    assert (2222, 22) in spec.forwards


def test_each_instance_has_its_own_loopback_address_and_one_in_its_subnet(drive: Driver) -> None:
    subnet = drive.ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": [ZONE]}])["Subnets"][
        0
    ]
    first, second = drive.instance(drive.run()), drive.instance(drive.run())
    assert first["PublicIpAddress"] != second["PublicIpAddress"]
    assert all(ipaddress.ip_address(i["PublicIpAddress"]).is_loopback for i in (first, second))
    network = ipaddress.ip_network(subnet["CidrBlock"])
    assert first["SubnetId"] == subnet["SubnetId"]
    assert {ipaddress.ip_address(i["PrivateIpAddress"]) in network for i in (first, second)} == {True}
    assert first["PrivateIpAddress"] != second["PrivateIpAddress"]


def test_a_private_address_can_be_asked_for_once(site: Site, drive: Driver) -> None:
    """API_RunInstances, PrivateIpAddress: "You must specify a value from the IPv4 address range of the subnet"."""
    run = {"ImageId": site.image, "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.micro"}
    instance_id = drive.run(PrivateIpAddress="172.31.0.77")
    assert drive.instance(instance_id)["PrivateIpAddress"] == "172.31.0.77"
    assert code_of(drive.ec2.run_instances, **run, PrivateIpAddress="172.31.0.77") == "InvalidIPAddress.InUse"
    assert code_of(drive.ec2.run_instances, **run, PrivateIpAddress="10.9.9.9") == "InvalidParameterValue"
    several = {**run, "MaxCount": 2, "PrivateIpAddress": "172.31.0.78"}
    assert code_of(drive.ec2.run_instances, **several) == "InvalidParameterCombination"


def test_max_count_instances_are_launched_in_one_reservation(site: Site, drive: Driver) -> None:
    """API_RunInstances, MaxCount: "Amazon EC2 launches the largest possible number of instances above the minimum"."""
    answer = drive.ec2.run_instances(ImageId=site.image, MinCount=1, MaxCount=3, InstanceType="t3.micro")
    assert [instance["AmiLaunchIndex"] for instance in answer["Instances"]] == [0, 1, 2]
    assert (
        code_of(drive.ec2.run_instances, ImageId=site.image, MinCount=2, MaxCount=1)
        == "InvalidParameterValue"
    )


def test_a_client_token_makes_the_call_idempotent(site: Site, drive: Driver) -> None:
    """https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html"""
    run = {
        "ImageId": site.image,
        "MinCount": 1,
        "MaxCount": 1,
        "InstanceType": "t3.micro",
        "ClientToken": "once",
    }
    first = drive.ec2.run_instances(**run)
    second = drive.ec2.run_instances(**run)
    assert first["Instances"][0]["InstanceId"] == second["Instances"][0]["InstanceId"]
    assert first["ReservationId"] == second["ReservationId"]
    changed = {**run, "InstanceType": "t3.small"}
    assert code_of(drive.ec2.run_instances, **changed) == "IdempotentParameterMismatch"
    assert len(drive.ec2.describe_instances()["Reservations"]) == 1


def test_tags_are_there_from_the_first_answer(site: Site, drive: Driver) -> None:
    tags = [{"Key": "drtest:run", "Value": "r1"}]
    answer = drive.ec2.run_instances(
        ImageId=site.image,
        MinCount=1,
        MaxCount=1,
        InstanceType="t3.micro",
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": tags},
            {"ResourceType": "volume", "Tags": [{"Key": "what", "Value": "disk"}]},
        ],
    )
    assert answer["Instances"][0]["Tags"] == tags
    found = drive.ec2.describe_volumes(Filters=[{"Name": "tag:what", "Values": ["disk"]}])["Volumes"]
    assert [v["Attachments"][0]["InstanceId"] for v in found] == [answer["Instances"][0]["InstanceId"]]


def test_a_mapping_overrides_the_image_and_must_make_sense(site: Site, drive: Driver) -> None:
    """API_EbsBlockDevice, VolumeSize: "You can specify a volume size that is equal to or larger than the
    snapshot size"."""
    run = {"ImageId": site.image, "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.micro"}
    root = [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 5, "DeleteOnTermination": False}}]
    instance_id = drive.run(BlockDeviceMappings=root)
    volume = drive.volume(drive.root(instance_id))
    assert (volume["Size"], volume["Attachments"][0]["DeleteOnTermination"]) == (5, False)

    def refused(**mapping: object) -> str:
        return code_of(drive.ec2.run_instances, **run, BlockDeviceMappings=[mapping])

    assert refused(DeviceName="/dev/xvda", Ebs={"VolumeSize": 1}) == "InvalidBlockDeviceMapping"
    assert refused(DeviceName="/dev/sdf", Ebs={}) == "InvalidBlockDeviceMapping"
    assert refused(DeviceName="/dev/xvda", NoDevice="") == "InvalidBlockDeviceMapping"
    assert refused(DeviceName="floppy", Ebs={"VolumeSize": 1}) == "InvalidParameterValue"
    unknown = {"SnapshotId": "snap-0123456789abcdef0"}
    assert refused(DeviceName="/dev/sdf", Ebs=unknown) == "InvalidSnapshot.NotFound"
    assert refused(DeviceName="/dev/sdf", VirtualName="ephemeral0") == "UnsupportedOperation"


def test_what_can_not_be_launched_is_refused_and_leaves_nothing(site: Site, drive: Driver) -> None:
    run = {"ImageId": site.image, "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.micro"}

    def refused(**changed: object) -> str:
        return code_of(drive.ec2.run_instances, **{**run, **changed})

    assert refused(ImageId="ami-0123456789abcdef0") == "InvalidAMIID.NotFound"
    assert refused(ImageId="ami-nonsense") == "InvalidAMIID.Malformed"
    assert refused(InstanceType="t9.enormous") == "InvalidParameterValue"
    assert refused(InstanceType="a1.large") == "InvalidParameterValue"
    assert refused(KeyName="nobody") == "InvalidKeyPair.NotFound"
    assert refused(SubnetId="subnet-0123456789abcdef0") == "InvalidSubnetID.NotFound"
    assert refused(SecurityGroupIds=["sg-0123456789abcdef0"]) == "InvalidGroup.NotFound"
    assert refused(Placement={"AvailabilityZone": "us-east-1q"}) == "InvalidZone.NotFound"
    assert refused(InstanceInitiatedShutdownBehavior="explode") == "InvalidParameterValue"
    assert refused(UserData="x" * 16385) == "InvalidParameterValue"
    assert refused(LaunchTemplate={"LaunchTemplateName": "t"}) == "UnsupportedOperation"
    assert refused(DryRun=True) == "DryRunOperation"
    assert drive.ec2.describe_instances()["Reservations"] == []
    assert drive.ec2.describe_volumes()["Volumes"] == []


def test_a_paravirtual_image_does_not_run_on_nitro(site: Site, drive: Driver) -> None:
    """The API's default of RegisterImage is `paravirtual`: who forgets it must learn so here, not on AWS."""
    snapshot = drive.ec2.describe_images(ImageIds=[site.image])["Images"][0]["BlockDeviceMappings"][0]["Ebs"]
    image = drive.ec2.register_image(
        Name="forgot",
        Architecture="x86_64",
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot["SnapshotId"]}}],
    )["ImageId"]
    run = {"ImageId": image, "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.micro"}
    assert code_of(drive.ec2.run_instances, **run) == "InvalidParameterCombination"


def test_a_launch_that_fails_ends_terminated_and_says_why(site: Site, drive: Driver) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html: Server.InternalError."""
    site.hardware.starts = False
    instance_id = drive.run(wait="terminated")
    instance = drive.instance(instance_id)
    assert instance["StateReason"]["Code"] == "Server.InternalError"
    assert "QEMU did not start" in instance["StateReason"]["Message"]
    assert drive.ec2.describe_volumes()["Volumes"] == []
    until(lambda: not site.hardware.disks)


def test_an_interface_can_say_subnet_groups_and_no_public_address(drive: Driver) -> None:
    subnet = drive.ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1b"]}])[
        "Subnets"
    ][0]
    group = drive.ec2.create_security_group(GroupName="g", Description="d", VpcId=subnet["VpcId"])["GroupId"]
    instance = drive.instance(
        drive.run(
            NetworkInterfaces=[
                {
                    "DeviceIndex": 0,
                    "SubnetId": subnet["SubnetId"],
                    "Groups": [group],
                    "AssociatePublicIpAddress": False,
                }
            ]
        )
    )
    assert "PublicIpAddress" not in instance
    assert instance["SecurityGroups"] == [{"GroupId": group, "GroupName": "g"}]
    assert instance["Placement"]["AvailabilityZone"] == "us-east-1b"


def test_a_security_group_of_an_instance_can_not_be_deleted(drive: Driver) -> None:
    vpc = drive.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = drive.ec2.create_security_group(GroupName="g", Description="d", VpcId=vpc)["GroupId"]
    instance_id = drive.run(SecurityGroupIds=[group])
    assert code_of(drive.ec2.delete_security_group, GroupId=group) == "DependencyViolation"
    drive.ec2.terminate_instances(InstanceIds=[instance_id])
    drive.reach(instance_id, "terminated")
    drive.ec2.delete_security_group(GroupId=group)


def test_user_data_comes_back_as_it_was_given(drive: Driver) -> None:
    instance_id = drive.run(UserData="hello")
    shown = drive.ec2.describe_instance_attribute(InstanceId=instance_id, Attribute="userData")
    assert base64.b64decode(shown["UserData"]["Value"]) == b"hello"
