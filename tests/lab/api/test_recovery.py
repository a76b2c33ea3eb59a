"""A lab whose process was killed is taken up again: machines, disks and books agree afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drtest.lab import recovery
from drtest.lab.resources import Attachment, Instance, Snapshot, Volume

from .conftest import QUICK, ZONE, Driver, Site, open_site, until
from .fake_hardware import FakeHardware


@contextmanager
def _lab(folder: Path, hardware: FakeHardware, account: str = "") -> Iterator[Driver]:
    with open_site(folder, account=account, hardware=hardware) as site:
        yield Driver(site, site.client())


def _put(site: Site, record: Instance | Volume, **changes: object) -> None:
    with site.compute.books.open():
        site.compute.books.put(type(record)(**{**record.__dict__, **changes}))


def test_a_running_machine_is_taken_up(tmp_path: Path) -> None:
    hardware = FakeHardware(tmp_path)
    with _lab(tmp_path, hardware) as drive:
        instance = drive.run()
        account, address = drive.site.account, drive.instance(instance)["PublicIpAddress"]
    with _lab(tmp_path, hardware, account) as again:
        assert recovery.take_up(again.site.compute) == ()
        assert again.state(instance) == "running"
        assert again.instance(instance)["PublicIpAddress"] == address
        again.stop(instance)
    hardware.stop()


def test_a_machine_that_ended_meanwhile_is_stopped_and_named(tmp_path: Path) -> None:
    hardware = FakeHardware(tmp_path)
    with _lab(tmp_path, hardware) as drive:
        instance = drive.run()
        account = drive.site.account
    hardware.stop()
    with _lab(tmp_path, hardware, account) as again:
        (sentence,) = recovery.take_up(again.site.compute)
        assert instance in sentence
        assert again.state(instance) == "stopped"
        assert again.instance(instance)["StateReason"]["Code"] == "Server.InternalError"
        again.ec2.start_instances(InstanceIds=[instance])
        again.reach(instance, "running")
    hardware.stop()


def test_a_machine_that_cannot_be_controlled_is_ended_and_named(tmp_path: Path) -> None:
    hardware = FakeHardware(tmp_path)
    with _lab(tmp_path, hardware) as drive:
        instance = drive.run()
        account = drive.site.account
    hardware.answers = False
    with _lab(tmp_path, hardware, account) as again:
        (sentence,) = recovery.take_up(again.site.compute)
        assert instance in sentence
        assert "does not answer" in sentence
        assert again.state(instance) == "stopped"
        again.ec2.start_instances(InstanceIds=[instance])
        again.reach(instance, "running")
    hardware.stop()


def test_a_volume_that_was_asked_for_gets_the_bytes_of_a_snapshot_that_is_deleted(tmp_path: Path) -> None:
    hardware = FakeHardware(tmp_path)
    with _lab(tmp_path, hardware) as drive:
        source = drive.new_volume()
        hardware.disks[source] = b"its bytes"
        snapshot = drive.new_snapshot(source)
        volume = drive.ec2.create_volume(SnapshotId=snapshot, AvailabilityZone=ZONE)["VolumeId"]
        until(lambda: drive.volume(volume)["State"] == "available")
        account, books = drive.site.account, drive.site.compute.books
        made, taken = books.find(Volume, volume), books.find(Snapshot, snapshot)
        assert made is not None
        assert taken is not None
        _put(drive.site, made, state="creating")
        with books.open():
            books.drop(taken)  # deleted, and its layer not yet let go of
        hardware.remove(volume)
    with _lab(tmp_path, hardware, account) as again:
        assert recovery.take_up(again.site.compute) == ()
        until(lambda: again.volume(volume)["State"] == "available")
        assert hardware.disks[volume] == b"its bytes"
        until(lambda: taken.layer not in hardware.layer_bytes)


def test_a_launch_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    hardware = FakeHardware(tmp_path)
    with _lab(tmp_path, hardware) as drive:
        instance = drive.run()
        account, root = drive.site.account, drive.root(instance)
        books = drive.site.compute.books
        hardware.vanish(instance)
        record, volume = books.find(Instance, instance), books.find(Volume, root)
        assert record is not None
        assert volume is not None
        assert volume.attachment is not None
        _put(drive.site, record, state="pending", launching=True)
        attaching = Attachment(**{**volume.attachment.__dict__, "state": "attaching"})
        _put(drive.site, volume, state="creating", attachment=attaching)
    with _lab(tmp_path, hardware, account) as again:
        assert recovery.take_up(again.site.compute) == ()
        again.reach(instance, "running")
        assert again.volume(root)["State"] == "in-use"
    hardware.stop()


def test_what_was_on_its_way_down_gets_there(tmp_path: Path) -> None:
    hardware = FakeHardware(tmp_path)
    with _lab(tmp_path, hardware) as drive:
        stopping, ending = drive.run(), drive.run()
        account, books = drive.site.account, drive.site.compute.books
        for key, state in ((stopping, "stopping"), (ending, "shutting-down")):
            record = books.find(Instance, key)
            assert record is not None
            _put(drive.site, record, state=state)
    with _lab(tmp_path, hardware, account) as again:
        assert recovery.take_up(again.site.compute) == ()
        again.reach(stopping, "stopped")
        again.reach(ending, "terminated")
    until(lambda: not hardware.machines)


def test_half_made_volumes_and_snapshots_are_finished(tmp_path: Path) -> None:
    hardware = FakeHardware(tmp_path)
    with _lab(tmp_path, hardware) as drive:
        volume = drive.new_volume()
        snapshot = drive.new_snapshot(volume, wait="")
        account = drive.site.account
        record = drive.site.compute.books.find(Volume, volume)
        assert record is not None
        _put(drive.site, record, state="creating")
    with _lab(tmp_path, hardware, account) as again:
        assert recovery.take_up(again.site.compute) == ()
        until(lambda: again.volume(volume)["State"] == "available")
        until(lambda: again.snapshot(snapshot)["State"] == "completed")


def test_bytes_that_are_gone_are_named_and_strays_are_removed(tmp_path: Path) -> None:
    hardware = FakeHardware(tmp_path)
    with _lab(tmp_path, hardware) as drive:
        volume = drive.new_volume()
        snapshot = drive.new_snapshot(volume)
        account = drive.site.account
    hardware.disks.pop(volume)
    layer = next(name for name in hardware.layer_bytes if name != "stock")
    hardware.layer_bytes.pop(layer)
    hardware.disks["vol-0aaaaaaaaaaaaaaaa"] = b"nobody's"
    hardware.layer_bytes["stray"] = b"nobody's"
    with _lab(tmp_path, hardware, account) as again:
        lost = recovery.take_up(again.site.compute)
        assert {volume in sentence or snapshot in sentence for sentence in lost} == {True}
        assert len(lost) == 2
        assert again.volume(volume)["State"] == "error"
        assert again.snapshot(snapshot)["State"] == "error"
    assert hardware.disks == {}
    assert set(hardware.layer_bytes) == {"stock"}


def test_an_instance_that_was_terminated_long_ago_is_forgotten(tmp_path: Path) -> None:
    hardware = FakeHardware(tmp_path)
    with _lab(tmp_path, hardware) as drive:
        instance = drive.run()
        drive.ec2.terminate_instances(InstanceIds=[instance])
        drive.reach(instance, "terminated")
        account = drive.site.account
        record = drive.site.compute.books.find(Instance, instance)
        assert record is not None
        assert record.ended is not None
        _put(drive.site, record, ended=record.ended.replace(year=2020))
    with _lab(tmp_path, hardware, account) as again:
        recovery.take_up(again.site.compute)
        until(lambda: again.ec2.describe_instances()["Reservations"] == [])
    assert QUICK.terminated == 3600
