"""Eight machines at once, on whatever processors there are: all come up, and all go down by their power button."""

from pathlib import Path

import pytest

from drtest.lab import control

from .test_drill_calls import Drill, wait

pytestmark = pytest.mark.lab

MACHINES = 8
CROWD_SECONDS = 1800.0
"""No measure of anything: how long a test waits before it says that something hangs."""


def test_eight_machines_boot_at_once_and_stop_by_acpi(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    drill = Drill(control.up(folder=folder))
    try:
        ec2 = drill.ec2
        made = ec2.run_instances(
            ImageId=drill.lab.images["linux"],
            MinCount=MACHINES,
            MaxCount=MACHINES,
            InstanceType="t3.nano",
            KeyName=drill.lab.key_name,
            SubnetId=drill.lab.subnet,
        )["Instances"]
        keys = sorted(instance["InstanceId"] for instance in made)
        assert len(keys) == MACHINES

        def statuses() -> set[str]:
            found = ec2.describe_instance_status(Filters=[], IncludeAllInstances=True)["InstanceStatuses"]
            seen = {one["InstanceStatus"]["Status"] for one in found if one["InstanceId"] in keys}
            assert "impaired" not in seen, "a guest that boots slowly was taken for a broken one"
            return seen

        wait(lambda: statuses() == {"ok"}, seconds=CROWD_SECONDS)
        ec2.stop_instances(InstanceIds=keys)

        def states() -> set[str]:
            wanted = [{"Name": "instance-id", "Values": keys}]
            found = ec2.describe_instances(Filters=wanted)["Reservations"]
            return {i["State"]["Name"] for reservation in found for i in reservation["Instances"]}

        wait(lambda: states() == {"stopped"}, seconds=CROWD_SECONDS)
        log = (folder / "lab.log").read_text()
        assert "force" not in log, "one of them did not go down by its power button"
        assert log.count("has ended: guest-shutdown") == MACHINES
        consoles = [ec2.get_console_output(InstanceId=key)["Output"] for key in keys]
        assert all("reboot: Power down" in console for console in consoles)
    finally:
        control.down(folder)
