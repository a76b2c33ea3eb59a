"""Start, stop, reboot, terminate, and a guest that powers itself off, by boto3."""

import time
from dataclasses import replace
from pathlib import Path

from .conftest import QUICK, Driver, Site, code_of, open_site, until


def test_stopping_can_be_seen_and_the_address_goes_with_it(site: Site, drive: Driver) -> None:
    """API_StopInstances shows `stopping`; API_Instance: a stopped instance has no public address."""
    instance_id = drive.run()
    site.hardware.obeys = False
    change = drive.ec2.stop_instances(InstanceIds=[instance_id])["StoppingInstances"][0]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "stopping")
    assert drive.state(instance_id) == "stopping"
    site.hardware.end(instance_id)
    drive.reach(instance_id, "stopped")
    stopped = drive.instance(instance_id)
    assert "PublicIpAddress" not in stopped
    assert stopped["PrivateIpAddress"]
    assert stopped["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert stopped["StateTransitionReason"].startswith("User initiated (")


def test_no_request_waits_for_a_machine(site: Site, drive: Driver) -> None:
    ids = [drive.run() for _ in range(3)]
    site.hardware.obeys = False
    started = time.monotonic()
    drive.ec2.stop_instances(InstanceIds=ids)
    drive.ec2.describe_instances()
    assert time.monotonic() - started < 0.5
    for instance_id in ids:
        drive.reach(instance_id, "stopped")


def test_a_guest_that_ignores_the_power_button_is_forced_down_at_the_deadline(
    site: Site, drive: Driver
) -> None:
    instance_id = drive.run()
    site.hardware.obeys = False
    machine = site.hardware.machines[instance_id]
    drive.stop(instance_id)
    assert machine.pressed >= 1


def test_skip_os_shutdown_does_not_ask_the_guest(site: Site, drive: Driver) -> None:
    """API_StopInstances, SkipOsShutdown: "whether to bypass the graceful OS shutdown process"."""
    instance_id = drive.run()
    machine = site.hardware.machines[instance_id]
    drive.ec2.stop_instances(InstanceIds=[instance_id], SkipOsShutdown=True)
    drive.reach(instance_id, "stopped")
    assert machine.pressed == 0


def test_force_helps_an_instance_that_is_stuck_in_stopping(tmp_path: Path) -> None:
    """API_StopInstances, Force: if the graceful shutdown fails "within the timeout period, the instance shuts
    down forcibly"."""
    with open_site(tmp_path, timings=replace(QUICK, stop=3600.0)) as site:
        drive = Driver(site, site.client())
        instance_id = drive.run()
        site.hardware.obeys = False
        drive.ec2.stop_instances(InstanceIds=[instance_id])
        drive.ec2.stop_instances(InstanceIds=[instance_id], Force=True)
        drive.reach(instance_id, "stopped")


def test_a_started_instance_boots_anew_with_the_same_private_address(site: Site, drive: Driver) -> None:
    instance_id = drive.run()
    before = drive.instance(instance_id)
    drive.stop(instance_id)
    change = drive.ec2.start_instances(InstanceIds=[instance_id])["StartingInstances"][0]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("stopped", "pending")
    drive.reach(instance_id, "running")
    after = drive.instance(instance_id)
    assert after["PrivateIpAddress"] == before["PrivateIpAddress"]
    assert after["LaunchTime"] > before["LaunchTime"]
    assert after["PublicIpAddress"]
    assert len(site.hardware.specs) == 2


def test_stop_and_start_in_wrong_states_are_refused_as_on_aws(site: Site, drive: Driver) -> None:
    instance_id = drive.run()
    again = drive.ec2.start_instances(InstanceIds=[instance_id])["StartingInstances"][0]
    assert again["CurrentState"]["Name"] == "running"
    site.hardware.obeys = False
    drive.ec2.stop_instances(InstanceIds=[instance_id])
    assert code_of(drive.ec2.start_instances, InstanceIds=[instance_id]) == "IncorrectInstanceState"
    drive.reach(instance_id, "stopped")
    assert (
        drive.ec2.stop_instances(InstanceIds=[instance_id])["StoppingInstances"][0]["CurrentState"]["Name"]
        == "stopped"
    )
    drive.ec2.terminate_instances(InstanceIds=[instance_id])
    drive.reach(instance_id, "terminated")
    assert code_of(drive.ec2.stop_instances, InstanceIds=[instance_id]) == "IncorrectInstanceState"
    assert code_of(drive.ec2.start_instances, InstanceIds=[instance_id]) == "IncorrectInstanceState"
    assert (
        code_of(drive.ec2.stop_instances, InstanceIds=["i-0123456789abcdef0"]) == "InvalidInstanceID.NotFound"
    )
    assert code_of(drive.ec2.stop_instances, InstanceIds=["x"]) == "InvalidInstanceID.Malformed"


def test_one_wrong_id_stops_none(drive: Driver) -> None:
    """API_TerminateInstances: "for example, because of a single incorrect instance ID, none of the instances"."""
    instance_id = drive.run()
    both = [instance_id, "i-0123456789abcdef0"]
    assert code_of(drive.ec2.terminate_instances, InstanceIds=both) == "InvalidInstanceID.NotFound"
    assert drive.state(instance_id) == "running"


def test_a_reboot_keeps_the_instance_running_and_its_address(site: Site, drive: Driver) -> None:
    instance_id = drive.run()
    address = drive.instance(instance_id)["PublicIpAddress"]
    drive.ec2.reboot_instances(InstanceIds=[instance_id])
    until(lambda: len(site.hardware.specs) == 2)
    until(lambda: site.hardware.running(instance_id))
    assert drive.state(instance_id) == "running"
    assert drive.instance(instance_id)["PublicIpAddress"] == address
    drive.stop(instance_id)
    assert code_of(drive.ec2.reboot_instances, InstanceIds=[instance_id]) == "IncorrectInstanceState"


def test_termination_deletes_what_it_should_and_stays_visible(site: Site, drive: Driver) -> None:
    """API_TerminateInstances: "Terminated instances remain visible after termination (for approximately one hour)"."""
    instance_id = drive.run(
        BlockDeviceMappings=[
            {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "DeleteOnTermination": False}},
            {"DeviceName": "/dev/sdg", "Ebs": {"VolumeSize": 1}},
        ]
    )
    kept = next(
        m["Ebs"]["VolumeId"]
        for m in drive.instance(instance_id)["BlockDeviceMappings"]
        if m["DeviceName"] == "/dev/sdf"
    )
    change = drive.ec2.terminate_instances(InstanceIds=[instance_id])["TerminatingInstances"][0]
    assert change["CurrentState"] == {"Code": 32, "Name": "shutting-down"}
    drive.reach(instance_id, "terminated")
    assert [v["VolumeId"] for v in drive.ec2.describe_volumes()["Volumes"]] == [kept]
    assert drive.volume(kept)["State"] == "available"
    until(lambda: set(site.hardware.disks) == {kept})
    gone = drive.instance(instance_id)
    assert "PrivateIpAddress" not in gone
    assert gone["BlockDeviceMappings"] == []
    again = drive.ec2.terminate_instances(InstanceIds=[instance_id])["TerminatingInstances"][0]
    assert again["CurrentState"]["Name"] == "terminated"


def test_a_volume_that_outlives_the_instance_is_shut_down_gracefully(site: Site, drive: Driver) -> None:
    keep = [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "DeleteOnTermination": False}}]
    instance_id = drive.run(BlockDeviceMappings=keep)
    machine = site.hardware.machines[instance_id]
    drive.ec2.terminate_instances(InstanceIds=[instance_id])
    drive.reach(instance_id, "terminated")
    assert machine.pressed == 1


def test_protection_from_termination_and_from_stopping_is_kept(drive: Driver) -> None:
    instance_id = drive.run(DisableApiTermination=True, DisableApiStop=True)
    assert code_of(drive.ec2.terminate_instances, InstanceIds=[instance_id]) == "OperationNotPermitted"
    assert code_of(drive.ec2.stop_instances, InstanceIds=[instance_id]) == "OperationNotPermitted"
    drive.ec2.modify_instance_attribute(InstanceId=instance_id, DisableApiTermination={"Value": False})
    drive.ec2.terminate_instances(InstanceIds=[instance_id])
    drive.reach(instance_id, "terminated")


def test_a_guest_that_powers_itself_off_is_stopped(site: Site, drive: Driver) -> None:
    """API_ModifyInstanceAttribute, InstanceInitiatedShutdownBehavior: "whether an instance stops or terminates
    when you initiate shutdown from the instance"."""
    instance_id = drive.run()
    site.hardware.end(instance_id)
    drive.reach(instance_id, "stopped")
    assert drive.instance(instance_id)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_a_guest_that_powers_itself_off_is_terminated_if_its_behaviour_says_so(
    site: Site, drive: Driver
) -> None:
    instance_id = drive.run(InstanceInitiatedShutdownBehavior="terminate")
    site.hardware.end(instance_id)
    drive.reach(instance_id, "terminated")
    assert drive.instance(instance_id)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_a_machine_that_crashes_leaves_a_stopped_instance(site: Site, drive: Driver) -> None:
    instance_id = drive.run(InstanceInitiatedShutdownBehavior="terminate")
    site.hardware.end(instance_id, reason="crashed")
    drive.reach(instance_id, "stopped")
    assert drive.instance(instance_id)["StateReason"]["Code"] == "Server.InternalError"


def test_an_instance_terminated_while_pending_leaves_no_machine(site: Site, drive: Driver) -> None:
    for _ in range(5):
        instance_id = drive.run(wait="")
        drive.ec2.terminate_instances(InstanceIds=[instance_id])
        drive.reach(instance_id, "terminated")
    until(lambda: not site.hardware.machines and not site.hardware.disks)
    assert drive.ec2.describe_volumes()["Volumes"] == []


def test_a_start_that_fails_leaves_the_instance_stopped_with_its_volumes(site: Site, drive: Driver) -> None:
    instance_id = drive.run()
    drive.stop(instance_id)
    site.hardware.starts = False
    drive.ec2.start_instances(InstanceIds=[instance_id])
    until(lambda: drive.instance(instance_id).get("StateReason", {}).get("Code") == "Server.InternalError")
    assert drive.state(instance_id) == "stopped"
    assert drive.volume(drive.root(instance_id))["State"] == "in-use"


def test_a_dry_run_changes_nothing(drive: Driver) -> None:
    instance_id = drive.run()
    for call in (drive.ec2.stop_instances, drive.ec2.terminate_instances, drive.ec2.reboot_instances):
        assert code_of(call, InstanceIds=[instance_id], DryRun=True) == "DryRunOperation"
    assert drive.state(instance_id) == "running"
