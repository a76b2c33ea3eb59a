"""SSM's Run Command and managed nodes, by boto3; the guests are a shell that a test has in its hand."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from drtest.errors import DeadlineError, EnvironmentFailedError
from drtest.lab import recovery
from drtest.lab.shell import Ran

from .conftest import Driver, Site, code_of, open_site, until
from .fake_hardware import FakeHardware

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRoaXMgaXMgbm8ga2V5IGF0IGFsbCBidXQgaXQgbG9v"


@dataclass
class FakeShell:
    """Lets scripts end when a test says so, as it says."""

    public_key: str = KEY
    lets_in: bool = True
    result: Callable[[str], Ran] = lambda script: Ran(code=0, output=b"", errors=b"")
    go_on: threading.Event = field(default_factory=threading.Event)
    seen: list[tuple[str, str, str, float]] = field(default_factory=list)

    def log_in(self, address: str, *, deadline: float) -> "FakeSession":
        if not self.lets_in:
            raise DeadlineError(f"No login at {address}")
        return FakeSession(self, address)


@dataclass
class FakeSession:
    shell: FakeShell
    address: str

    def run(self, script: str, *, folder: str, deadline: float) -> Ran:
        self.shell.seen.append((self.address, script, folder, deadline))
        assert self.shell.go_on.wait(20)
        return self.shell.result(script)

    def close(self) -> None:
        """Log out."""


@dataclass
class Guests:
    """A lab with a shell, and an instance that its key opens."""

    drive: Driver
    shell: FakeShell
    ssm: Any

    def launch(self, **params: Any) -> str:
        ec2 = self.drive.ec2
        if not ec2.describe_key_pairs()["KeyPairs"]:
            ec2.import_key_pair(KeyName="lab", PublicKeyMaterial=f"{KEY} lab".encode())
        key = self.drive.run(KeyName="lab", **params)
        until(lambda: key in self.nodes())
        return key

    def nodes(self, **params: Any) -> dict[str, Any]:
        found = self.ssm.describe_instance_information(**params)["InstanceInformationList"]
        return {node["InstanceId"]: node for node in found}

    def send(self, *instances: str, commands: tuple[str, ...] = ("true",), **params: Any) -> str:
        given = {
            "InstanceIds": list(instances),
            "DocumentName": "AWS-RunShellScript",
            "Parameters": {"commands": list(commands)},
            **params,
        }
        return str(self.ssm.send_command(**given)["Command"]["CommandId"])

    def shown(self, command: str, instance: str) -> Any:
        return self.ssm.get_command_invocation(CommandId=command, InstanceId=instance)

    def done(self, command: str, instance: str) -> Any:
        until(lambda: self.shown(command, instance)["Status"] not in {"Pending", "InProgress"})
        return self.shown(command, instance)


@pytest.fixture
def guests(site: Site, drive: Driver) -> Guests:
    shell = FakeShell()
    object.__setattr__(site.compute, "shell", shell)
    return Guests(drive, shell, site.client("ssm"))


def test_guests_that_the_lab_can_log_in_to_are_managed_nodes(guests: Guests) -> None:
    """API_DescribeInstanceInformation: "Provides information about one or more of your managed nodes"; "This operation
    does not return information for nodes that are either Stopped or Terminated."."""
    instance = guests.launch(
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "role", "Value": "web"}]}]
    )
    foreign = guests.drive.run()
    (node,) = guests.nodes().values()
    assert (node["InstanceId"], node["PingStatus"], node["PlatformType"]) == (instance, "Online", "Linux")
    assert node["IPAddress"] == guests.drive.instance(instance)["PrivateIpAddress"]
    assert list(guests.nodes(Filters=[{"Key": "tag:role", "Values": ["web"]}])) == [instance]
    assert guests.nodes(Filters=[{"Key": "tag:role", "Values": ["db"]}]) == {}
    by_id = {"key": "InstanceIds", "valueSet": [instance]}
    assert list(guests.nodes(InstanceInformationFilterList=[by_id])) == [instance]
    asked = {"Filters": [{"Key": "InstanceIds", "Values": [foreign]}]}
    assert code_of(guests.ssm.describe_instance_information, **asked) == "InvalidInstanceId"
    asked = {"Filters": [{"Key": "Colour", "Values": ["red"]}]}
    assert code_of(guests.ssm.describe_instance_information, **asked) == "InvalidFilterKey"
    guests.drive.stop(instance)
    assert guests.nodes() == {}


def test_a_command_goes_by_pending_and_in_progress_to_success(guests: Guests) -> None:
    """API_GetCommandInvocation, StatusDetails: "Pending: The command hasn't been sent to the managed node.";
    "In Progress: The command has been sent to the managed node but hasn't reached a terminal state."."""
    instance = guests.launch()
    guests.shell.result = lambda script: Ran(code=0, output=b"out\n", errors=b"err\n")
    sent = guests.ssm.send_command(
        InstanceIds=[instance],
        DocumentName="AWS-RunShellScript",
        Comment="look",
        Parameters={"commands": ["uname", "id"], "workingDirectory": ["/tmp"], "executionTimeout": ["60"]},
    )["Command"]
    assert (sent["Status"], sent["TargetCount"], sent["CompletedCount"]) == ("Pending", 1, 0)
    command = sent["CommandId"]
    until(lambda: guests.shown(command, instance)["Status"] == "InProgress")
    under_way = guests.shown(command, instance)
    assert (under_way["ResponseCode"], under_way["StandardOutputContent"]) == (-1, "")
    address = guests.drive.instance(instance)["PublicIpAddress"]
    assert guests.shell.seen == [(address, "uname\nid", "/tmp", 60.0)]
    guests.shell.go_on.set()
    done = guests.done(command, instance)
    assert (done["Status"], done["StatusDetails"], done["ResponseCode"]) == ("Success", "Success", 0)
    assert (done["StandardOutputContent"], done["StandardErrorContent"]) == ("out\n", "err\n")
    assert done["ExecutionElapsedTime"].startswith("PT")
    (listed,) = guests.ssm.list_command_invocations(CommandId=command, Details=True)["CommandInvocations"]
    assert listed["CommandPlugins"][0]["Output"] == "out\n\n----------ERROR-------\nerr\n"
    (whole,) = guests.ssm.list_commands(CommandId=command)["Commands"]
    assert (whole["Status"], whole["CompletedCount"], whole["Comment"]) == ("Success", 1, "look")
    guests.ssm.get_waiter("command_executed").wait(CommandId=command, InstanceId=instance)


@pytest.mark.parametrize(
    ("ran", "expected"),
    [
        (Ran(code=3, output=b"", errors=b"no"), ("Failed", "Failed", 3)),
        (Ran(code=None, output=b"so far", errors=b""), ("TimedOut", "ExecutionTimedOut", 137)),
    ],
)
def test_a_script_that_fails_or_takes_too_long_says_so(
    guests: Guests, ran: Ran, expected: tuple[str, str, int]
) -> None:
    """API_GetCommandInvocation, Status: Failed, TimedOut; ResponseCode: "The error level response code for the plugin
    script."."""
    instance = guests.launch()
    guests.shell.go_on.set()
    guests.shell.result = lambda script: ran
    command = guests.send(instance)
    done = guests.done(command, instance)
    assert (done["Status"], done["StatusDetails"], done["ResponseCode"]) == expected
    (whole,) = guests.ssm.list_commands(CommandId=command)["Commands"]
    assert (whole["Status"], whole["ErrorCount"]) == (expected[0], 1)


def test_output_is_cut_where_ssm_cuts_it(guests: Guests) -> None:
    """API_GetCommandInvocation: "The first 24,000 characters written by the plugin to stdout."; "The first 8,000
    characters written by the plugin to stderr."."""
    instance = guests.launch()
    guests.shell.go_on.set()
    guests.shell.result = lambda script: Ran(code=0, output="ö".encode() * 30_000, errors=b"e" * 9_000)
    done = guests.done(guests.send(instance), instance)
    assert done["StandardOutputContent"] == "ö" * 24_000
    assert len(done["StandardErrorContent"]) == 8_000


def test_a_guest_that_lets_nobody_in_ends_undelivered(guests: Guests) -> None:
    """API_SendCommand, TimeoutSeconds: "If this time is reached and the command hasn't already started running,
    it won't run."; a node that is gone is Undeliverable."""
    instance = guests.launch()
    guests.shell.lets_in = False
    command = guests.send(instance)
    guests.drive.ec2.terminate_instances(InstanceIds=[instance])
    guests.drive.reach(instance, "terminated")
    done = guests.done(command, instance)
    assert (done["Status"], done["StatusDetails"], done["ResponseCode"]) == ("Failed", "Undeliverable", -1)


def test_a_connection_that_breaks_leaves_a_failed_command(guests: Guests) -> None:
    instance = guests.launch()
    guests.shell.go_on.set()

    def breaks(script: str) -> Ran:
        raise EnvironmentFailedError("The connection to the guest broke")

    guests.shell.result = breaks
    done = guests.done(guests.send(instance), instance)
    assert (done["Status"], done["StatusDetails"]) == ("Failed", "Terminated")


def test_targets_are_chosen_by_their_tags(guests: Guests) -> None:
    """API_SendCommand, Targets: "An array of search criteria that targets managed nodes using a Key,Value combination
    that you specify."."""
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "role", "Value": "web"}]}]
    web, other = guests.launch(TagSpecifications=tags), guests.launch()
    guests.shell.go_on.set()
    command = guests.ssm.send_command(
        Targets=[{"Key": "tag:role", "Values": ["web"]}],
        DocumentName="AWS-RunShellScript",
        Parameters={"commands": ["true"]},
    )["Command"]
    assert command["InstanceIds"] == [web]
    guests.done(command["CommandId"], web)
    missing = {"CommandId": command["CommandId"], "InstanceId": other}
    assert code_of(guests.ssm.get_command_invocation, **missing) == "InvocationDoesNotExist"


def test_what_can_not_be_run_is_refused(guests: Guests) -> None:
    """API_SendCommand, Errors: DuplicateInstanceId, InvalidDocument, InvalidInstanceId, InvalidParameters."""
    instance, foreign = guests.launch(), guests.drive.run()
    send = guests.ssm.send_command

    def refused(**params: Any) -> str:
        given = {
            "InstanceIds": [instance],
            "DocumentName": "AWS-RunShellScript",
            "Parameters": {"commands": ["true"]},
            **params,
        }
        return code_of(send, **given)

    assert refused(InstanceIds=[foreign]) == "InvalidInstanceId"
    assert refused(InstanceIds=[instance, instance]) == "DuplicateInstanceId"
    assert refused(DocumentName="AWS-RunPowerShellScript") == "InvalidDocument"
    assert refused(Parameters={"command": ["true"]}) == "InvalidParameters"
    assert refused(Parameters={}) == "InvalidParameters"
    assert refused(OutputS3BucketName="bucket") == "UnsupportedOperation"
    gone = {"CommandId": "0" * 36, "InstanceId": instance}
    assert code_of(guests.ssm.get_command_invocation, **gone) == "InvalidCommandId"
    assert guests.shell.seen == []


def test_a_command_that_was_cut_off_is_not_run_twice(tmp_path: Path) -> None:
    hardware = FakeHardware(tmp_path)
    with open_site(tmp_path, hardware=hardware) as site:
        shell = FakeShell()
        object.__setattr__(site.compute, "shell", shell)
        guests = Guests(Driver(site, site.client()), shell, site.client("ssm"))
        instance = guests.launch()
        command = guests.send(instance)
        until(lambda: guests.shown(command, instance)["Status"] == "InProgress")
        account = site.account
    with open_site(tmp_path, account=account, hardware=hardware) as again:
        object.__setattr__(again.compute, "shell", shell)
        recovery.take_up(again.compute)
        guests = Guests(Driver(again, again.client()), shell, again.client("ssm"))
        assert guests.shown(command, instance)["StatusDetails"] == "Terminated"
        assert len(shell.seen) == 1
        hardware.stop()
    shell.go_on.set()
