"""The instance metadata service, by what a guest sends and gets; options of it by boto3.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from drtest.lab import recovery

from .conftest import Driver, Site, code_of, open_site, until
from .fake_hardware import FakeHardware

TTL = "X_aws_ec2_metadata_token_ttl_seconds"


@dataclass
class Guest:
    """What runs in a guest and asks."""

    site: Site
    instance: str

    def ask(self, path: str, *, method: str = "GET", **headers: str) -> tuple[int, str]:
        until(lambda: self.instance in self.site.hardware.guests)
        guest = self.site.hardware.guests[self.instance]
        lines = [f"{method} {path} HTTP/1.1", "Host: 169.254.169.254"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        guest.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += guest.recv(65536)
        head, _, body = answer.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        while len(body) < int(fields["Content-Length"]) and method != "HEAD":
            body += guest.recv(65536)
        return int(head.split()[1]), body.decode()

    def token(self, ttl: str = "60") -> str:
        status, token = self.ask("/latest/api/token", method="PUT", X_aws_ec2_metadata_token_ttl_seconds=ttl)
        assert status == 200
        return token

    def get(self, path: str) -> tuple[int, str]:
        return self.ask(path, X_aws_ec2_metadata_token=self.token())

    def text(self, path: str) -> str:
        status, text = self.get(f"/latest/{path}")
        assert status == 200, path
        return text


@pytest.fixture
def guest(site: Site, drive: Driver) -> Guest:
    data = [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}]
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "role", "Value": "web"}]}]
    options = {"HttpTokens": "required", "InstanceMetadataTags": "enabled"}
    return Guest(
        site,
        drive.run(
            UserData="hello",
            BlockDeviceMappings=data,
            TagSpecifications=tags,
            MetadataOptions=options,
        ),
    )


def test_a_guest_learns_who_it_is(guest: Guest, drive: Driver) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html: categories."""
    shown = drive.instance(guest.instance)
    assert guest.text("meta-data/instance-id") == guest.instance
    assert guest.text("meta-data/ami-id") == shown["ImageId"]
    assert guest.text("meta-data/local-ipv4") == shown["PrivateIpAddress"]
    assert guest.text("meta-data/public-ipv4") == shown["PublicIpAddress"]
    assert guest.text("meta-data/instance-type") == "t3.micro"
    assert guest.text("meta-data/placement/availability-zone") == "us-east-1a"
    assert guest.text("meta-data/placement/region") == "us-east-1"
    assert guest.text("meta-data/placement/availability-zone-id").startswith("use1-az")
    assert guest.text("meta-data/block-device-mapping/root") == "/dev/xvda"
    assert guest.text("meta-data/block-device-mapping/ebs1") == "/dev/sdf"
    assert guest.text("meta-data/tags/instance/role") == "web"
    assert guest.text("meta-data/security-groups") == "default"
    mac = guest.text("meta-data/mac")
    assert guest.text(f"meta-data/network/interfaces/macs/{mac}/subnet-id") == shown["SubnetId"]
    assert guest.text("user-data") == "hello"
    assert "instance-id" in guest.text("meta-data/").split("\n")
    assert "placement/" in guest.text("meta-data").split("\n")
    assert guest.get("/")[1] == "1.0\nlatest"
    assert guest.get("/2021-07-15/meta-data/instance-id")[1] == guest.instance


def test_the_identity_document_is_the_instance_s(guest: Guest, drive: Driver) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-identity-documents.html"""
    document = json.loads(guest.text("dynamic/instance-identity/document"))
    shown = drive.instance(guest.instance)
    assert document["instanceId"] == guest.instance
    assert document["accountId"] == guest.site.account
    assert document["privateIp"] == shown["PrivateIpAddress"]
    assert (document["region"], document["imageId"]) == ("us-east-1", shown["ImageId"])


def test_a_token_is_needed_and_has_an_end(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-returns.html: 401, 400, 403."""
    path = "/latest/meta-data/instance-id"
    assert guest.ask(path)[0] == 401
    assert guest.ask(path, **{"X_aws_ec2_metadata_token": "made up"})[0] == 401
    for ttl in ("", "0", "21601", "long"):
        asked = {"X_aws_ec2_metadata_token_ttl_seconds": ttl} if ttl else {}
        assert guest.ask("/latest/api/token", method="PUT", **asked)[0] == 400
    through = {"X_Forwarded_For": "10.0.0.1", "X_aws_ec2_metadata_token_ttl_seconds": "60"}
    assert guest.ask("/latest/api/token", method="PUT", **through)[0] == 403
    token = guest.token("60")
    assert guest.ask(path, X_aws_ec2_metadata_token=token) == (200, guest.instance)
    assert guest.ask(path, method="POST", X_aws_ec2_metadata_token=token)[0] == 405
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert guest.ask(path, X_aws_ec2_metadata_token=token)[0] == 401


def test_the_token_of_one_guest_is_no_other_s(guest: Guest, drive: Driver) -> None:
    other = Guest(guest.site, drive.run(MetadataOptions={"HttpTokens": "required"}))
    asked = {"X_aws_ec2_metadata_token": guest.token()}
    assert other.ask("/latest/meta-data/instance-id", **asked)[0] == 401


def test_the_options_are_the_instance_s_and_can_be_changed(site: Site, drive: Driver) -> None:
    """API_ModifyInstanceMetadataOptions: "Modify the instance metadata parameters on a running or stopped
    instance."."""
    plain = Guest(site, drive.run())
    path = "/latest/meta-data/instance-id"
    assert plain.ask(path) == (200, plain.instance)
    assert plain.ask("/latest/meta-data/tags/instance/")[0] == 404
    modify = drive.ec2.modify_instance_metadata_options
    answer = modify(InstanceId=plain.instance, HttpTokens="required")["InstanceMetadataOptions"]
    assert (answer["State"], answer["HttpTokens"]) == ("pending", "required")
    assert drive.instance(plain.instance)["MetadataOptions"]["State"] == "applied"
    assert plain.ask(path)[0] == 401
    modify(InstanceId=plain.instance, HttpEndpoint="disabled")
    assert plain.ask("/latest/api/token", method="PUT", **{TTL: "60"})[0] == 403
    assert code_of(modify, InstanceId=plain.instance, HttpTokens="maybe") == "InvalidParameterValue"
    assert code_of(modify, InstanceId=plain.instance, DryRun=True) == "DryRunOperation"


def test_what_there_is_not_is_not_found(site: Site, drive: Driver) -> None:
    plain = Guest(site, drive.run())
    for path in (
        "/latest/user-data",
        "/latest/meta-data/spot",
        "/latest/meta-data/instance-id/x",
        "/elsewhere",
    ):
        assert plain.ask(path)[0] == 404


def test_a_request_that_was_broken_off_does_not_spoil_the_next(site: Site, drive: Driver) -> None:
    plain = Guest(site, drive.run())
    path = "/latest/meta-data/instance-id"
    assert plain.ask(path)[0] == 200
    site.hardware.guests[plain.instance].sendall(b"\xff\x00GET /latest/meta")
    assert plain.ask(path) == (200, plain.instance)
    site.hardware.guests[plain.instance].sendall(b"x" * 200_000)
    assert plain.ask(path) == (200, plain.instance)


def test_tokens_and_the_service_outlive_the_lab_s_process(tmp_path: Path) -> None:
    hardware = FakeHardware(tmp_path)
    with open_site(tmp_path, hardware=hardware) as site:
        guest = Guest(site, Driver(site, site.client()).run(MetadataOptions={"HttpTokens": "required"}))
        token = guest.token()
        account = site.account
    hardware.guests.clear()
    with open_site(tmp_path, account=account, hardware=hardware) as again:
        assert recovery.take_up(again.compute) == ()
        guest = Guest(again, guest.instance)
        asked = {"X_aws_ec2_metadata_token": token}
        assert guest.ask("/latest/meta-data/instance-id", **asked) == (200, guest.instance)
        hardware.stop()
