"""What the stand-in answers, from the first visit to the judge's word, on real NTFS volumes of this host."""

from dataclasses import replace
from pathlib import Path

import pytest

from drtest.lab.standin import regf, registry, storage
from drtest.lab.standin.regf import BASE
from drtest.lab.standin.windows import Windows
from drtest.verdict.evidence import Copy
from drtest.words import Capture, Verdict
from tests.lab.standin.drills import RECORDS, Drilled, drill


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Drilled:
    return drill(tmp_path_factory.mktemp("running"), capture=Capture.RUNNING)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Drilled:
    return drill(tmp_path_factory.mktemp("stopped"), capture=Capture.STOPPED)


@pytest.mark.parametrize("volume", ["root", "data", "set"])
def test_a_copy_of_a_running_one_is_recovered(running: Drilled, volume: str) -> None:
    judged = running.judged(volume)
    assert judged.verdict is Verdict.RECOVERED, judged


@pytest.mark.parametrize("volume", ["root", "data", "set"])
def test_a_copy_of_a_stopped_one_is_consistent(stopped: Drilled, volume: str) -> None:
    judged = stopped.judged(volume)
    assert judged.verdict is Verdict.CONSISTENT, judged


def test_the_log_is_dirty_after_running_alone(running: Drilled, stopped: Drilled) -> None:
    for volume in ("root", "data"):
        assert running.one(Copy.A, "filesystem.before", volume)["dirty_log"] is True
        assert stopped.one(Copy.A, "filesystem.before", volume)["dirty_log"] is False


def test_events_of_an_unclean_shutdown_are_there_after_running_alone(
    running: Drilled, stopped: Drilled
) -> None:
    events = running.one(Copy.B, "boot.events")["events"]
    assert {(one["provider"], one["id"]) for one in events} == {
        ("Microsoft-Windows-Kernel-Power", 41),
        ("EventLog", 6008),
    }
    assert stopped.one(Copy.B, "boot.events")["events"] == []


def test_every_acknowledged_record_is_found(running: Drilled, stopped: Drilled) -> None:
    for one in (running, stopped):
        for volume in ("root", "data"):
            acknowledged = one.acknowledged["volumes"][volume]["records"]
            assert one.one(Copy.A, "canary.found", volume)["records"] == acknowledged
            assert acknowledged[0][1] >= RECORDS - 1


def test_a_data_volume_keeps_its_letter_and_its_disk_its_guid(running: Drilled) -> None:
    source, copy = running.one(Copy.SOURCE, "baseline.system"), running.one(Copy.B, "boot.mounts")
    assert (
        [one["path"] for one in source["mounts"]]
        == [one["path"] for one in copy["mounts"]]
        == ["C:\\", "E:\\"]
    )
    guids = [one["guid"] for one in source["disks"]]
    assert guids == [one["guid"] for one in running.one(Copy.B, "boot.disks")["disks"]]
    assert guids[1]


def test_a_copy_is_the_same_machine_in_another_boot(running: Drilled) -> None:
    source, copy = running.one(Copy.SOURCE, "baseline.system"), running.one(Copy.B, "boot.identity")
    assert source["machine_id"] == copy["machine_id"]
    assert source["boot_id"] != copy["boot_id"]
    assert (copy["asset_tag"], copy["root_serial"]) == ("i-0scratch", "vol0broot")


def test_a_helper_keeps_what_comes_offline(running: Drilled) -> None:
    assert running.one(Copy.A, "helper.ready")["policy"] == 3
    for volume in ("root", "data"):
        assert running.one(Copy.A, "filesystem.before", volume)["was_offline"] is True


def test_a_hive_that_was_being_written_is_recovered_from_its_log(tmp_path: Path) -> None:
    def cut_short(system: Windows) -> None:
        """As if the power went between the first sequence number and the last one."""
        file = storage.File(system.system / registry.FOLDER / "SAM")
        head = file.read(0, 512)
        system.registry.change("SAM", lambda root: root.at("New").values.clear())
        after = file.read(0, 512)
        file.write(0, before_last_step(head, after))
        file.flush()
        file.close()

    drilled = drill(tmp_path, capture=Capture.RUNNING, at_capture=cut_short)
    hives = {one["name"]: one for one in drilled.one(Copy.A, "filesystem.check", "root")["hives"]}
    assert [name for name, one in hives.items() if one["dirty"]] == ["SAM"]
    assert hives["SAM"]["exit"] == 0
    assert drilled.judged("root").verdict is Verdict.RECOVERED
    ids = [(one["provider"], one["id"]) for one in drilled.one(Copy.B, "boot.events")["events"]]
    assert ("Microsoft-Windows-Kernel-General", 5) in ids


def before_last_step(head: bytes, after: bytes) -> bytes:
    return replace(regf.base(after), secondary=regf.base(head).secondary).encode()


def test_a_torn_hive_is_damage_on_copy_a_and_a_stop_on_copy_b(tmp_path: Path) -> None:
    def tear(system: Windows) -> None:
        """A page of an older time under equal numbers: what the log would have mended is not looked at."""
        file = storage.File(system.system / registry.FOLDER / "SOFTWARE")
        old = file.read(BASE + 4096, 4096)
        system.registry.change("SOFTWARE", lambda root: root.at("New").values.clear())
        file.write(BASE + 4096, old)
        file.flush()
        file.close()

    drilled = drill(tmp_path, capture=Capture.RUNNING, at_capture=tear)
    judged = drilled.judged("root")
    said = [one.sentence for one in judged.findings]
    assert judged.verdict is Verdict.UNBOOTABLE
    assert any("STOP: 0xC0000218" in one for one in said), said
    assert any("registry hive SOFTWARE can't be loaded" in one for one in said), said
    assert drilled.judged("data").verdict is Verdict.RECOVERED
