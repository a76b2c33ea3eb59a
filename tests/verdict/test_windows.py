"""What a Windows copy tells besides what Linux does: disks, volumes, VSS writers, services, hives, screens."""

from typing import Any

import pytest

from drtest.verdict.evidence import FindingClass, Judgement
from drtest.words import Capture, Verdict
from tests.verdict.windows_story import WindowsStory, event

ALL = ("boot", "filesystem", "canary", "events")


def judged(story: WindowsStory, volume: str = "root") -> Judgement:
    return story.judge(volume, checks=ALL)


def sentences(judgement: Judgement, effect: FindingClass | None = None) -> str:
    told = [one.sentence for one in judgement.findings if effect in (None, one.effect)]
    return " ".join(told)


@pytest.mark.parametrize("volume", ["root", "data", "set"])
def test_a_running_windows_comes_back_recovered_and_a_stopped_one_consistent(volume: str) -> None:
    running = judged(WindowsStory(), volume)
    assert running.verdict is Verdict.RECOVERED, running
    stopped = judged(WindowsStory(Capture.STOPPED), volume)
    assert stopped.verdict is Verdict.CONSISTENT, stopped


# Events


@pytest.mark.parametrize(
    ("logged", "verdict"),
    [
        (event("Microsoft-Windows-Ntfs", 7), Verdict.INCONCLUSIVE),
        (event("disk", 9), Verdict.RECOVERED),
        (event("disk", 11), Verdict.INCONCLUSIVE),
        (event("disk", 51), Verdict.RECOVERED),
        (event("stornvme", 129), Verdict.RECOVERED),
        (event("volsnap", 8), Verdict.RECOVERED),
        (event("volsnap", 14), Verdict.INCONCLUSIVE),
        (event("Microsoft-Windows-Kernel-General", 5), Verdict.RECOVERED),
        (event("Microsoft-Windows-Kernel-Power", 41, BugcheckCode=0x7B), Verdict.INCONCLUSIVE),
    ],
)
def test_each_event_does_what_it_is_worth(logged: dict[str, Any], verdict: Verdict) -> None:
    assert judged(WindowsStory().logged(logged)).verdict is verdict


@pytest.mark.parametrize(
    "logged", [event("Microsoft-Windows-Wininit", 1001), event("Microsoft-Windows-Kernel-General", 5)]
)
def test_what_was_mended_in_starting_is_recovered_at_best_even_after_stopped(logged: dict[str, Any]) -> None:
    assert judged(WindowsStory(Capture.STOPPED).logged(logged)).verdict is Verdict.RECOVERED


def test_a_stop_screen_before_this_start_is_named_by_its_number() -> None:
    story = WindowsStory().logged(event("Microsoft-Windows-Kernel-Power", 41, BugcheckCode=0x7B))
    assert "STOP 0x0000007B" in judged(story).reason


def test_a_running_capture_without_marks_of_it_is_worth_a_note() -> None:
    told = judged(WindowsStory().logged(event("Microsoft-Windows-Ntfs", 98, CorruptionActionState=0)))
    assert told.verdict is Verdict.RECOVERED
    assert "no mark of an unclean shutdown" in sentences(told, FindingClass.NOTE)
    assert "no mark of an unclean shutdown" not in sentences(judged(WindowsStory()))


@pytest.mark.parametrize("volume", ["root", "data", "set"])
@pytest.mark.parametrize(
    "mark", [event("Microsoft-Windows-Kernel-Power", 41, BugcheckCode=0), event("EventLog", 6008)]
)
def test_marks_after_stopped_break_the_control_arm_of_every_volume(volume: str, mark: dict[str, Any]) -> None:
    told = judged(WindowsStory(Capture.STOPPED).logged(mark), volume)
    assert told.verdict is Verdict.INCONCLUSIVE
    assert "the control arm is broken" in told.reason
    assert str(mark["id"]) in told.reason


def test_damage_does_not_outweigh_a_broken_control() -> None:
    story = WindowsStory(Capture.STOPPED).logged(event("EventLog", 6008))
    story.change("canary.found", "root", records=[[0, 100]])
    told = judged(story)
    assert told.verdict is Verdict.INCONCLUSIVE
    assert "can't be held against the backup" in told.reason


def ntfs(number: int, drive: str, **data: int) -> dict[str, Any]:
    return {**event("Microsoft-Windows-Ntfs", number, **data), "drive": drive}


TORN = [(55, {}), (98, {"CorruptionActionState": 2})]


@pytest.mark.parametrize(("number", "data"), TORN)
def test_damage_that_ntfs_logs_is_of_the_volume_whose_drive_it_names(
    number: int, data: dict[str, int]
) -> None:
    story = WindowsStory().logged(ntfs(number, "D:", **data))
    assert judged(story, "root").verdict is Verdict.RECOVERED
    for volume in ("data", "set"):
        told = judged(story, volume)
        assert told.verdict is Verdict.INCONSISTENT
        assert f"win/root logged Microsoft-Windows-Ntfs {number} of D: (win/data), 1 time" in told.reason
    story.logged(ntfs(number, "C:", **data))
    assert judged(story, "root").verdict is Verdict.INCONSISTENT
    assert judged(story, "data").verdict is Verdict.RECOVERED


@pytest.mark.parametrize(("number", "data"), TORN)
@pytest.mark.parametrize("drive", ["", "X:"])
def test_damage_of_a_volume_that_can_not_be_told_is_doubt(
    number: int, data: dict[str, int], drive: str
) -> None:
    story = WindowsStory().logged(ntfs(number, drive, **data))
    told = judged(story)
    assert told.verdict is Verdict.INCONCLUSIVE
    assert "which of its volumes is meant can't be told" in told.reason
    assert judged(story, "data").verdict is Verdict.RECOVERED


def test_damage_without_a_drive_is_the_roots_where_there_is_no_other() -> None:
    story = WindowsStory(volumes=("root",)).logged(ntfs(55, ""))
    story.change("boot.identity", uptime_seconds=1.0)
    assert judged(story).verdict is Verdict.INCONSISTENT


def test_a_volume_that_has_lost_its_drive_in_the_copy_had_it_on_the_source() -> None:
    story = WindowsStory().logged(ntfs(55, "D:"))
    del story.data("boot.mounts")["mounts"][1]
    assert judged(story).verdict is Verdict.RECOVERED
    assert "of D: (win/data)" in sentences(judged(story, "data"), FindingClass.INCONSISTENT)


def test_what_ntfs_says_of_a_blank_volume_says_nothing_of_the_data() -> None:
    for stood_in, verdict in (("data volumes", Verdict.INCONSISTENT), ("blank volumes", Verdict.RECOVERED)):
        story = WindowsStory().logged(ntfs(55, "D:")).change("boot.identity", uptime_seconds=1.0)
        story.boots({"with": stood_in})
        assert judged(story, "data").verdict is verdict


# Disks


def test_an_offline_disk_is_doubt_and_names_its_reason() -> None:
    story = WindowsStory()
    story.disks()[1].update(offline=True, offline_reason=4)
    mounts = story.data("boot.mounts")["mounts"]
    del mounts[1]
    told = judged(story, "data")
    assert told.verdict is Verdict.INCONCLUSIVE
    assert "offline, as another disk has its signature: that is no damage" in told.reason
    assert judged(story).verdict is Verdict.RECOVERED


def test_a_volume_that_is_not_mounted_though_its_disk_is_online_is_damage() -> None:
    story = WindowsStory()
    del story.data("boot.mounts")["mounts"][1]
    assert judged(story, "data").verdict is Verdict.INCONSISTENT


def test_a_disk_that_was_offline_on_the_source_may_be_so_in_the_copy() -> None:
    story = WindowsStory()
    for source in (True, False):
        story.disks(source=source)[1]["offline"] = True
    assert judged(story, "data").verdict is Verdict.RECOVERED


def test_a_disk_that_has_become_read_only_is_inconsistent() -> None:
    story = WindowsStory()
    story.disks()[0]["readonly"] = True
    told = judged(story)
    assert told.verdict is Verdict.INCONSISTENT
    assert "read-only in the copy, writable on the source" in told.reason


def test_another_signature_as_the_copy_lies_is_damage() -> None:
    told = judged(WindowsStory().change("filesystem.before", "root", signature=0x11223344))
    assert told.verdict is Verdict.INCONSISTENT
    assert "the disk of win/root carries the signature 11223344, the source's a1b2c3d4" in told.reason


def test_a_signature_that_changed_in_starting_is_doubt() -> None:
    story = WindowsStory()
    story.disks()[0]["signature"] = 0x11223344
    told = judged(story)
    assert told.verdict is Verdict.INCONCLUSIVE
    assert "carries the signature 11223344 in the copy" in told.reason


def test_a_data_disk_that_is_not_there_is_doubt() -> None:
    story = WindowsStory()
    del story.disks()[1]
    assert "no disk of the copy carries the signature 0badcafe" in sentences(judged(story, "data"))


def test_a_gpt_disk_is_known_by_its_guid_however_it_is_written() -> None:
    guid = "6f7c2b1a-0000-4000-8000-0123456789ab"
    story = WindowsStory().change("filesystem.before", "root", signature=0, guid=guid)
    for source in (True, False):
        story.disks(source=source)[0].update(signature=0, guid="{" + guid.upper() + "}")
    assert judged(story).verdict is Verdict.RECOVERED
    story.change("filesystem.before", "root", guid=guid.replace("6f7c", "0000"))
    assert judged(story).verdict is Verdict.INCONSISTENT


def test_disks_that_were_not_looked_at_are_worth_a_note() -> None:
    told = judged(WindowsStory().drop("boot.disks"))
    assert told.verdict is Verdict.RECOVERED
    assert "how the disks of the copy are is not known" in sentences(told, FindingClass.NOTE)


# Volumes while they are online, due checks, VSS


@pytest.mark.parametrize(
    ("scan", "verdict"),
    [(0, Verdict.RECOVERED), (None, Verdict.RECOVERED), (43006, Verdict.RECOVERED), (4, Verdict.INCONCLUSIVE),
     (40004, Verdict.INCONCLUSIVE), (43007, Verdict.INCONCLUSIVE)],
)  # fmt: skip
def test_an_online_scan_counts_by_its_number_for_its_own_volume(scan: int | None, verdict: Verdict) -> None:
    story = WindowsStory()
    story.data("boot.volumes")["volumes"][1]["scan"] = scan
    assert judged(story, "data").verdict is verdict
    assert judged(story).verdict is Verdict.RECOVERED


def test_a_due_disk_check_is_doubt_and_any_other_start_programme_a_note() -> None:
    due = WindowsStory().change("boot.volumes", pending=["autocheck autochk /p \\??\\C:"])
    assert judged(due).verdict is Verdict.INCONCLUSIVE
    assert "a disk check due at its next start" in judged(due).reason
    assert judged(due, "data").verdict is Verdict.RECOVERED
    other = WindowsStory().change("boot.volumes", pending=["bddel.exe"])
    assert judged(other).verdict is Verdict.RECOVERED


@pytest.mark.parametrize(
    ("state", "verdict"),
    [(1, Verdict.RECOVERED), (2, Verdict.RECOVERED), (5, Verdict.RECOVERED), (0, Verdict.INCONCLUSIVE),
     (6, Verdict.INCONCLUSIVE), (9, Verdict.INCONCLUSIVE), (15, Verdict.INCONCLUSIVE)],
)  # fmt: skip
def test_vss_writers_count_by_number(state: int, verdict: Verdict) -> None:
    story = WindowsStory()
    story.data("boot.vss")["writers"][0]["state"] = state
    assert judged(story).verdict is verdict
    assert judged(story, "data").verdict is Verdict.RECOVERED


# Services


def test_services_are_compared_with_the_source() -> None:
    story = WindowsStory().change("boot.system", stopped_units=["gpsvc", "W32Time"])
    told = judged(story)
    assert told.verdict is Verdict.RECOVERED
    assert "run on the source and not in the copy, without having failed: W32Time" in sentences(told)
    story.change("boot.system", state="degraded", failed_units=["MSSQLSERVER"])
    assert judged(story).verdict is Verdict.INCONCLUSIVE
    story.change("baseline.system", failed_units=["MSSQLSERVER"])
    assert judged(story).verdict is Verdict.RECOVERED


# Which machine, which boot


def test_a_system_that_was_up_before_its_machine_started_is_a_stranger() -> None:
    story = WindowsStory().change("boot.identity", uptime_seconds=86_400.0)
    told = judged(story)
    assert told.verdict is Verdict.INCONCLUSIVE
    assert "it has been up for 24 h, since before the scratch instance was started" in told.reason


@pytest.mark.parametrize("uptime", [None, -5.0, 10.0**300])
def test_a_nonsensical_uptime_proves_no_new_boot(uptime: float | None) -> None:
    assert (
        judged(WindowsStory().change("boot.identity", uptime_seconds=uptime)).verdict is Verdict.INCONCLUSIVE
    )


@pytest.mark.parametrize(
    "line",
    [
        "*** STOP: 0x0000007B (0xFFFFF880009A97E8,0xFFFFFFFFC0000034)",
        "STOP 0x00000074 BAD_SYSTEM_CONFIG_INFO",
        "BOOTMGR is missing",
        "Kernel panic - not syncing: VFS: Unable to mount root fs",
    ],
)
def test_a_stop_screen_is_unbootable(line: str) -> None:
    story = WindowsStory()
    tried = story.silent(console_matches=[{"pattern": "", "line": line}])
    story.boots({**tried, "with": "data volumes"})
    told = judged(story)
    assert told.verdict is Verdict.UNBOOTABLE
    assert line[:40] in told.reason
    assert judged(story, "data").verdict is Verdict.RECOVERED


# Copy A


def test_a_recovered_hive_is_told_and_a_lost_one_is_damage() -> None:
    story = WindowsStory()
    hives = [dict(one) for one in story.data("filesystem.check", "root")["hives"]]
    hives[0]["dirty"] = True
    document = {"tool": "chkdsk", "exit": 0, "readonly_exit": 0, "output": "", "hives": hives}
    story.answer("filesystem.check", "root", document)
    told = judged(story)
    assert told.verdict is Verdict.RECOVERED
    assert "the registry hive SYSTEM was being written, and was recovered from its log" in sentences(told)
    hives[0]["exit"] = 1
    story.answer("filesystem.check", "root", document)
    assert "the registry hive SYSTEM can't be loaded" in judged(story).reason


def test_a_root_on_which_no_ntfs_is_left_is_damage() -> None:
    story = WindowsStory()
    nothing = "no NTFS is recognised on it"
    story.answer("filesystem.before", "root", {"filesystem": None, "signature": 0xA1B2C3D4, "error": nothing})
    for probe in ("filesystem.replay", "filesystem.check", "canary.found"):
        story.answer(probe, "root", {"error": nothing})
    told = judged(story)
    assert told.verdict is Verdict.INCONSISTENT
    assert "no filesystem is recognised on win/root, where 250 records had been acknowledged" in told.reason


def test_a_disk_that_could_not_be_read_is_no_damage() -> None:
    story = WindowsStory()
    story.answer("filesystem.before", "root", {"error": "no disk has the serial vol0"})
    assert judged(story).verdict is Verdict.INCONCLUSIVE


# Covariates


def test_what_else_could_explain_a_difference_is_noted() -> None:
    assert dict(judged(WindowsStory()).covariates) == {
        "system": "Windows 10.0.20348.0",
        "hypervisor": "Amazon EC2 t3.large",
        "storage_driver": "oem3.inf 1.5.1.0",
        "write_cache": "driver's default",
        "load": "250 acknowledged records",
    }


@pytest.mark.parametrize(
    ("setting", "protected", "words"), [(1, 0, "on"), (0, None, "off"), (1, 1, "on, power-protected")]
)
def test_the_write_cache_is_that_of_the_cells_own_disk(
    setting: int, protected: int | None, words: str
) -> None:
    story = WindowsStory()
    story.data("baseline.system")["storage"][2].update(write_cache=setting, power_protected=protected)
    assert judged(story, "data").covariates["write_cache"] == words
    assert judged(story).covariates["write_cache"] == "driver's default"


def test_nonsense_among_the_covariates_takes_no_verdict_down() -> None:
    story = WindowsStory().change("baseline.system", virtualisation="QEMU")
    told = judged(story)
    assert told.verdict is Verdict.RECOVERED
    assert "hypervisor" not in told.covariates
