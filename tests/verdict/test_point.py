"""A recovery point that is not what its cell says makes the cell void, whatever else was seen."""

from dataclasses import replace

import pytest

from drtest.verdict.evidence import Copy, Observation
from drtest.words import Capture, Os, Verdict
from tests.verdict.story import Story

STOPPED = Capture.STOPPED


@pytest.mark.parametrize("volume", ["root", "data", "set"])
def test_a_dirty_log_after_a_stop_is_a_fault_of_the_drill(volume: str) -> None:
    story = Story(STOPPED)
    for one in ("root", "data"):
        story.change("filesystem.before", one, dirty_log=True)
        story.change("filesystem.replay", one, replayed=True, method="mount; umount")
    judged = story.judge(volume)
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "was dirty though it was captured stopped" in judged.reason


def test_a_replay_after_a_stop_is_a_fault_of_the_drill() -> None:
    story = Story(STOPPED).change("filesystem.replay", "root", replayed=True, method="mount; umount")
    assert story.judge().verdict is Verdict.INCONCLUSIVE


def test_a_replay_at_the_boot_of_a_stopped_copy_is_one_too() -> None:
    story = Story(STOPPED).change("boot.kernel", replays=["EXT4-fs (nvme0n1p2): recovery complete"])
    judged = story.judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "replayed a log at boot though it was captured stopped" in judged.reason
    # the line names the root's device: the data volume is another matter
    assert story.judge("data").verdict is Verdict.CONSISTENT


def test_a_replay_in_a_second_try_is_one_too_as_each_try_restores_the_root_anew() -> None:
    story = Story(STOPPED).change("boot.kernel", replays=["EXT4-fs (nvme0n1p2): recovery complete"])
    story.boots(story.silent(), {"with": "blank volumes"})
    judged = story.judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "the copy of lin/root replayed a log at boot though it was captured stopped" in judged.reason


def test_a_blank_volume_that_replayed_a_log_is_no_mark_of_the_data_volumes() -> None:
    story = Story(STOPPED).change(
        "boot.kernel", replays=["XFS (nvme1n1): Ending recovery (logdev: internal)"]
    )
    story.boots(story.silent(), {"with": "blank volumes"})
    assert "captured stopped" not in " ".join(one.sentence for one in story.judge("data").findings)


def test_unclean_marks_void_the_cell_before_its_losses_are_weighed() -> None:
    story = Story(STOPPED).change("filesystem.before", "root", dirty_log=True)
    story.change("canary.found", "root", records=[[0, 200]])
    judged = story.judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "had not shut down cleanly" in judged.reason
    assert "49 of 250 acknowledged records are missing" in judged.reason


def test_acknowledged_records_lost_after_a_clean_stop_are_damage() -> None:
    judged = Story(STOPPED).change("canary.found", "root", records=[[0, 200]]).judge()
    assert judged.verdict is Verdict.INCONSISTENT


def test_a_log_whose_state_is_not_known_is_no_clean_stop() -> None:
    assert Story(STOPPED).change("filesystem.before", "root", dirty_log=None).judge().verdict is (
        Verdict.INCONCLUSIVE
    )


@pytest.mark.parametrize(
    ("capture", "state"),
    [
        (STOPPED, "running"),
        (STOPPED, "stopping"),
        (Capture.RUNNING, "stopped"),
        (Capture.FROZEN, ""),
        (Capture.VSS, "stopped"),
    ],
)
def test_a_source_in_another_state_than_the_capture_says_voids_the_cell(capture: Capture, state: str) -> None:
    judged = Story(capture).change("capture", source_state_before=state).judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.reason.startswith(f"not a {capture} capture")


def test_an_existing_recovery_point_may_have_been_made_in_any_state() -> None:
    assert Story(Capture.EXISTING).change("capture", source_state_before="").judge().verdict.usable


@pytest.mark.parametrize(
    "wrong",
    [{"completed": False}, {"completed": None, "error": "snapshot in error"}, {"snapshots": {}}],
)
def test_a_snapshot_that_was_not_completed_is_inconclusive(wrong: dict[str, object]) -> None:
    assert Story().change("capture", **wrong).judge().verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("provider", "number"), [("Microsoft-Windows-Kernel-Power", 41), ("EventLog", 6008)])
def test_windows_own_marks_of_an_unclean_shutdown_void_a_stopped_cell(provider: str, number: int) -> None:
    # Golden: ids as in facts/domain.md C; their text is localized and never read.
    checks = ("boot", "filesystem", "canary", "events")
    for capture, verdict in ((STOPPED, Verdict.INCONCLUSIVE), (Capture.RUNNING, Verdict.RECOVERED)):
        story = Story(capture, os=Os.WINDOWS, server="win")
        story.seen["boot.events", None] = {"events": [{"provider": provider, "id": number, "count": 1}]}
        judged = story.judge(checks=checks)
        assert judged.verdict is verdict, capture
        assert any(f"{provider} {number}" in finding.sentence for finding in judged.findings)


def test_a_lost_reply_whose_snapshots_completed_is_a_note() -> None:
    judged = Story().change("capture", error="Read timeout on CreateSnapshots").judge()
    assert judged.verdict is Verdict.RECOVERED
    assert any("Read timeout" in finding.sentence for finding in judged.findings)


def test_a_windows_log_without_marks_is_a_clean_stop() -> None:
    story = Story(STOPPED, os=Os.WINDOWS, server="win")
    story.seen["boot.events", None] = {
        "events": [{"provider": "Ntfs", "id": 98, "data": {"CorruptionActionState": 0}}]
    }
    assert story.judge(checks=("boot", "filesystem", "canary", "events")).verdict is Verdict.CONSISTENT


def test_a_log_that_can_t_be_replayed_after_a_stop_is_damage_and_no_unclean_shutdown() -> None:
    story = Story(Capture.STOPPED)
    story.change("filesystem.before", "data", dirty_log=True)
    story.change(
        "filesystem.replay", "data", method="mount -o nouuid; umount", exit=32, output="log mount failed"
    )
    story.change("filesystem.check", "data", clean=False, exit=1, problems=["its log can't be replayed"])
    assert story.judge("data").verdict is Verdict.INCONSISTENT


CUT_OFF = "an earlier proof of this recovery point was cut off; what it saw stays in the evidence"


def resumed(story: Story, *seen: Observation, marked: bool = True) -> Story:
    """A story whose recovery point was proven once before, by a run that was killed and had seen this of the copies."""
    mark = (
        [replace(story.observation("proof", None, {"token": "abcdef"}), copy=Copy.RUNNER)] if marked else []
    )
    captured = story.observation("capture", None, story.data("capture"))
    story.drop("capture").before = [captured, *mark, *seen, *mark]
    return story


@pytest.mark.parametrize("marked", [True, False])
def test_what_a_proof_that_was_cut_off_saw_fills_no_gap_of_the_next(marked: bool) -> None:
    story = Story()
    found = story.observation("canary.found", "root", story.data("canary.found", "root"))
    judged = resumed(story.drop("canary.found", "root"), found, marked=marked).judge()
    # Runs of before there were marks are judged as they were.
    assert judged.verdict is (Verdict.INCONCLUSIVE if marked else Verdict.RECOVERED)
    assert (CUT_OFF in [one.sentence for one in judged.findings]) is marked


@pytest.mark.parametrize("marked", [True, False])
def test_a_boot_of_a_proof_that_was_cut_off_is_none_of_the_nexts(marked: bool) -> None:
    story = Story()
    panic = {"pattern": "Kernel panic - not syncing", "line": "Kernel panic - not syncing"}
    first = {**story.data("boot.attempt"), **story.silent(console_matches=[panic])}
    before = story.observation("boot.attempt", None, first)
    judged = resumed(story.boots(story.silent()), before, marked=marked).judge()
    assert judged.verdict is (Verdict.UNREACHABLE if marked else Verdict.UNBOOTABLE)


def test_a_proof_that_was_made_again_in_full_is_judged_as_one_that_was_not_cut_off() -> None:
    story = Story()
    torn = {**story.data("filesystem.check", "root"), "exit": 4, "clean": False, "problems": ["Inode 12"]}
    judged = resumed(story, story.observation("filesystem.check", "root", torn)).judge()
    assert judged.verdict is Verdict.RECOVERED
    assert [one.sentence for one in judged.findings if "cut off" in one.sentence] == [CUT_OFF]


def test_a_proof_that_was_made_once_is_judged_as_ever() -> None:
    story = Story()
    story.before = [replace(story.observation("proof", None, {"token": "abcdef"}), copy=Copy.RUNNER)]
    judged = story.judge()
    assert judged.verdict is Verdict.RECOVERED
    assert CUT_OFF not in [one.sentence for one in judged.findings]


def test_the_proof_of_another_recovery_point_cuts_nothing_off() -> None:
    story, other = Story(), Story(trial=2)
    story.after = [replace(other.observation("proof", None, {"token": "abcdef"}), copy=Copy.RUNNER)]
    assert story.judge().verdict is Verdict.RECOVERED
    story.after = [replace(story.after[0], trial=1, attempt="a0")]
    assert story.judge().verdict is Verdict.RECOVERED
