"""The endpoint itself: who may ask, what nobody serves, what moto serves, and HTTP."""

import http.client
import time
import urllib.parse
from pathlib import Path

import pytest

from drtest.lab import wire
from drtest.lab.actions import ACTIONS, tag_actions
from drtest.lab.neighbours import SERVED

from .conftest import REGION, Driver, Site, code_of, open_site


def _raw(site: Site, body: str, *, service: str = "ec2", path: str = "/", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    scope = (
        f"AWS4-HMAC-SHA256 Credential={site.access_key}/20260101/{REGION}/{service}/aws4_request, Signature=x"
    )
    given = {"Authorization": scope, "Content-Type": "application/x-www-form-urlencoded", **headers}
    connection.request("POST", path, body=body, headers=given)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_another_access_key_is_refused(site: Site) -> None:
    """Errors: "AuthFailure: The provided credentials could not be validated". The port is open to all local users."""
    stranger = site.client(access_key="AKIASTRANGERSTRANGER")
    assert code_of(stranger.describe_instances) == "AuthFailure"
    assert code_of(site.client("sts", access_key="AKIASTRANGERSTRANGER").get_caller_identity) == "AuthFailure"


def test_a_request_without_a_signature_is_refused(site: Site) -> None:
    status, text = _raw(site, "Action=DescribeInstances&Version=2016-11-15", Authorization="")
    assert status == 403
    assert "<Code>MissingAuthenticationToken</Code>" in text


def test_every_action_of_the_api_answers_in_ec2_s_words(site: Site) -> None:
    """What nobody serves is an UnsupportedOperation, and never a page of HTML: botocore could not read that."""
    carried_out = set(ACTIONS) | set(tag_actions(site.neighbours)) | SERVED
    for action in sorted(wire.operations() - carried_out):
        status, text = _raw(site, f"Action={action}&Version=2016-11-15")
        assert (status, "<Code>UnsupportedOperation</Code>" in text) == (400, True), action


def test_what_is_carried_out_answers_in_ec2_s_words_when_asked_for_nothing(site: Site) -> None:
    for action in sorted(set(ACTIONS) | set(tag_actions(site.neighbours)) | SERVED):
        status, text = _raw(site, f"Action={action}&Version=2016-11-15")
        assert status in {200, 400, 404}, (action, status, text)
        assert text.startswith("<?xml"), (action, text)
        assert "InternalError" not in text, (action, text)


def test_the_lists_of_actions_do_not_overlap_and_are_ec2_s(site: Site) -> None:
    own = set(ACTIONS) | set(tag_actions(site.neighbours))
    assert not own & SERVED
    assert own | SERVED <= wire.operations()


def test_an_action_that_is_none_is_told_so(site: Site) -> None:
    assert "<Code>InvalidAction</Code>" in _raw(site, "Action=MakeCoffee")[1]
    assert "<Code>MissingAction</Code>" in _raw(site, "Version=2016-11-15")[1]


def test_parameters_that_there_are_not_are_told_by_name(site: Site) -> None:
    """Errors: "UnknownParameter: An unknown or unrecognized parameter was supplied"."""
    text = _raw(site, "Action=DescribeInstances&InstnceId.1=i-0123456789abcdef0")[1]
    assert "<Code>UnknownParameter</Code>" in text
    assert "InstnceId" in text
    text = _raw(site, "Action=DescribeVolumes&MaxResults=many")[1]
    assert "<Code>InvalidParameterValue</Code>" in text


def test_bytes_that_are_no_text_are_an_error_and_not_a_crash(site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    scope = f"AWS4-HMAC-SHA256 Credential={site.access_key}/20260101/{REGION}/ec2/aws4_request, Signature=x"
    connection.request("POST", "/", body=b"Action=\xff\xfe", headers={"Authorization": scope})
    assert b"MalformedQueryString" in connection.getresponse().read()
    connection.close()


def test_an_unknown_service_answers_in_its_own_protocol(site: Site) -> None:
    assert code_of(site.client("dynamodb").list_tables) == "UnsupportedOperation"
    assert code_of(site.client("sqs").list_queues) == "UnsupportedOperation"
    assert code_of(site.client("autoscaling").describe_auto_scaling_groups) == "UnsupportedOperation"


def test_a_region_that_is_none_is_told_so(site: Site) -> None:
    far = site.client(region="xx-nowhere-1")
    assert code_of(far.describe_vpcs) == "InvalidParameterValue"


def test_regions_have_their_own_things(site: Site, drive: Driver) -> None:
    drive.new_volume()
    other = site.client(region="eu-central-1")
    assert other.describe_volumes()["Volumes"] == []
    assert other.describe_availability_zones()["AvailabilityZones"][0]["RegionName"] == "eu-central-1"


def test_moto_serves_networks_keys_and_the_other_services(site: Site, drive: Driver) -> None:
    assert site.client("sts").get_caller_identity()["Account"] == site.account
    ssm = site.client("ssm")
    ssm.put_parameter(Name="/drtest/ami", Value=site.image, Type="String")
    assert ssm.get_parameter(Name="/drtest/ami")["Parameter"]["Value"] == site.image
    assert code_of(ssm.get_parameter, Name="/nothing") == "ParameterNotFound"
    send = ssm.send_command
    assert code_of(send, InstanceIds=["i-0123456789abcdef0"], DocumentName="x") == "InvalidDocument"
    assert code_of(ssm.create_association, Name="x") == "UnsupportedOperation"
    assert site.client("kms").create_key()["KeyMetadata"]["AWSAccountId"] == site.account
    assert site.client("iam").list_roles()["Roles"] == []
    vpc = drive.ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    assert drive.ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"][0]["CidrBlock"] == "10.1.0.0/16"
    assert code_of(drive.ec2.describe_key_pairs, KeyNames=["none"]) == "InvalidKeyPair.NotFound"


def test_keys_of_an_assumed_role_are_let_in(site: Site) -> None:
    role = site.client("iam").create_role(RoleName="drill", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    keys = site.client("sts").assume_role(RoleArn=role, RoleSessionName="drill")["Credentials"]
    assumed = site.client(access_key=keys["AccessKeyId"], token=keys["SessionToken"])
    assert assumed.describe_images(Owners=["self"])["Images"][0]["ImageId"] == site.image


def test_a_connection_is_kept_for_the_next_call(site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    scope = f"AWS4-HMAC-SHA256 Credential={site.access_key}/20260101/{REGION}/ec2/aws4_request, Signature=x"
    body = urllib.parse.urlencode({"Action": "DescribeVolumes", "Version": "2016-11-15"})
    sockets = set()
    for _ in range(3):
        connection.request("POST", "/", body=body, headers={"Authorization": scope})
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
        sockets.add(connection.sock)
    assert len(sockets) == 1
    connection.close()


def test_every_answer_has_a_request_id_of_its_own(drive: Driver) -> None:
    ids = [drive.ec2.describe_vpcs()["ResponseMetadata"]["RequestId"] for _ in range(2)]
    ids += [drive.ec2.describe_volumes()["ResponseMetadata"]["RequestId"] for _ in range(2)]
    assert len(set(ids)) == 4


def test_times_have_milliseconds(drive: Driver) -> None:
    for _ in range(5):
        made = drive.ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1)["CreateTime"]
        if made.microsecond:
            return
        time.sleep(0.0007)
    pytest.fail("five volumes in a row were made on a full second")


def test_the_answer_does_not_wait_for_nagle(drive: Driver) -> None:
    drive.ec2.describe_volumes()
    started = time.monotonic()
    for _ in range(20):
        drive.ec2.describe_volumes()
    assert time.monotonic() - started < 20 * 0.04


def test_what_moto_keeps_and_the_books_outlive_the_process(tmp_path: Path) -> None:
    with open_site(tmp_path) as site:
        drive = Driver(site, site.client())
        group = drive.ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
        subnet = drive.ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        volume = drive.new_volume()
        account = site.account
        site.neighbours.forget()
    with open_site(tmp_path, account=account) as again:
        ec2 = again.client()
        assert ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["GroupName"] == "g"
        assert subnet in {s["SubnetId"] for s in ec2.describe_subnets()["Subnets"]}
        assert ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available"


def test_the_networks_of_every_account_and_region_outlive_the_process(tmp_path: Path) -> None:
    def networks(site: Site) -> list[set[str]]:
        site.endpoint.accounts["AKIASECOND"] = "210987654321"
        clients = [
            site.client(access_key=key, region=region)
            for key in ("", "AKIASECOND")
            for region in ("eu-central-1", "us-west-2")
        ]
        return [
            {subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]}
            | {group["GroupId"] for group in ec2.describe_security_groups()["SecurityGroups"]}
            for ec2 in clients
        ]

    with open_site(tmp_path) as site:
        account = site.account
        # A default network that nobody has changed has ids, too.
        before = networks(site)
        made = site.client(region="us-west-2").create_security_group(GroupName="g", Description="d")[
            "GroupId"
        ]
        site.neighbours.forget()
    with open_site(tmp_path, account=account) as again:
        after = networks(again)
        assert after == [before[0], before[1] | {made}, *before[2:]]
        again.neighbours.forget()
