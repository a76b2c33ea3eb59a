"""The judge weighs findings in a fixed order, and silence is never a pass."""

import ast
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from drtest.scenario.plan import Expected
from drtest.verdict import judge as judging
from drtest.verdict.case import Case, Steps, note
from drtest.verdict.evidence import FindingClass, Phases
from drtest.verdict.judge import judge, not_judged
from drtest.words import UNUSABLE, Assurance, Capture, Verdict
from tests.verdict.story import START, Story, iso


def test_a_stopped_capture_in_which_all_is_whole_is_consistent() -> None:
    judged = Story(Capture.STOPPED).judge()
    assert judged.verdict is Verdict.CONSISTENT
    assert judged.met
    assert judged.reason == (
        "ext4 whole with nothing to replay; all 250 acknowledged records intact; booted in 14 s"
    )


def test_a_running_capture_whose_log_was_replayed_is_recovered() -> None:
    judged = Story(Capture.RUNNING).judge()
    assert judged.verdict is Verdict.RECOVERED
    assert judged.reason == "ext4 whole after log replay; all 250 acknowledged records intact; booted in 14 s"


def test_the_set_counts_the_records_of_all_its_volumes() -> None:
    judged = Story(Capture.RUNNING).judge("set")
    assert judged.verdict is Verdict.RECOVERED
    assert judged.reason.startswith(
        "both volumes whole after log replay; all 500 acknowledged records intact"
    )
    assert judged.recovery_point == "snap-00000000000000001,snap-01000000000000001"


def test_each_finding_names_the_evidence_that_it_rests_on() -> None:
    story = Story(Capture.RUNNING)
    known = {one.id: one for one in story.observations()}
    for finding in story.judge("set").findings:
        assert finding.evidence, finding.sentence
        assert set(finding.evidence) <= set(known)


def test_damage_outweighs_what_is_not_known() -> None:
    story = Story().change("filesystem.check", "root", exit=4, clean=False, problems=["Inode 12 is damaged"])
    story.drop("canary.found", "root").boots(story.silent())
    assert story.judge().verdict is Verdict.INCONSISTENT


def test_what_does_not_boot_outweighs_damage() -> None:
    story = Story().change("filesystem.check", "root", exit=4, clean=False, problems=["Inode 12 is damaged"])
    panic = {
        "pattern": "Kernel panic - not syncing",
        "line": "Kernel panic - not syncing: VFS: Unable to mount",
    }
    story.boots(story.silent(console_matches=[panic]))
    assert story.judge().verdict is Verdict.UNBOOTABLE


def test_unreachable_outweighs_inconclusive() -> None:
    story = Story().drop("filesystem.check", "root")
    story.boots(story.silent())
    assert story.judge().verdict is Verdict.UNREACHABLE


def test_what_is_not_known_outweighs_recovered() -> None:
    assert Story().drop("filesystem.check", "root").judge().verdict is Verdict.INCONCLUSIVE


def test_the_findings_are_told_worst_first_and_each_once() -> None:
    story = Story().change("filesystem.check", "root", exit=4, clean=False, problems=["Inode 12 is damaged"])
    findings = story.judge(checks=("boot", "filesystem", "canary", "events")).findings
    order = list(judging.VERDICTS)
    places = [order.index(finding.effect) for finding in findings]
    assert places == sorted(places)
    assert len({finding.sentence for finding in findings}) == len(findings)


@pytest.mark.parametrize(
    ("probe", "volume"),
    [
        ("capture", None),
        ("filesystem.before", "root"),
        ("filesystem.replay", "root"),
        ("filesystem.check", "root"),
        ("canary.acknowledged", None),
        ("canary.found", "root"),
        ("boot.attempt", None),
        ("boot.identity", None),
        ("boot.system", None),
        ("boot.mounts", None),
        ("boot.kernel", None),
    ],
)
def test_an_observation_that_a_check_needs_and_lacks_is_no_pass(probe: str, volume: str | None) -> None:
    assert Story().drop(probe, volume).judge().verdict is Verdict.INCONCLUSIVE


def test_what_is_missing_is_named() -> None:
    assert Story().drop("capture").judge().reason == "no recovery point of lin was recorded for this cell"
    assert (
        Story().drop("filesystem.check", "root").judge().reason == "no checker ran over the ext4 of lin/root"
    )
    assert Story().drop("boot.attempt").judge().reason == "copy B was not booted"
    told = Story().drop("boot.attempt").judge(checks=("events",)).reason
    assert told == "the logs of copy B are not known: it did not answer"


@pytest.mark.parametrize("volume", ["root", "data", "set"])
def test_no_evidence_at_all_is_inconclusive(volume: str) -> None:
    cell = Story().cell(volume)
    judged = judge(cell, [], volumes=["root", "data"])
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert not judged.met
    assert judged.assurance is Assurance.STRUCTURE


@pytest.mark.parametrize("checks", [(), ("boot",), ("filesystem",), ("canary",), ("events",)])
@pytest.mark.parametrize("volume", ["root", "data", "set"])
def test_no_check_passes_without_evidence(volume: str, checks: tuple[str, ...]) -> None:
    judged = judge(Story().cell(volume), [], volumes=["root", "data"], checks=checks)
    assert judged.verdict is Verdict.INCONCLUSIVE


def test_a_check_that_says_nothing_is_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_: Case) -> Steps:
        yield note("filesystem", "looked away")

    monkeypatch.setitem(judging.CHECKS, "filesystem", silent)
    judged = Story().judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.reason == "the filesystem check has shown nothing"


def test_a_check_that_crashes_is_inconclusive_with_its_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_: Case) -> Iterator[object]:
        yield note("filesystem", "seen before the crash")
        raise ZeroDivisionError("by nought")

    monkeypatch.setitem(judging.CHECKS, "filesystem", crash)
    judged = Story().judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "ZeroDivisionError: by nought" in judged.reason
    assert "seen before the crash" in [finding.sentence for finding in judged.findings]


def test_an_unknown_check_is_inconclusive() -> None:
    assert Story().judge(checks=("filesystem", "astrology")).verdict is Verdict.INCONCLUSIVE


def test_malformed_data_is_inconclusive_and_says_what_came() -> None:
    judged = Story().change("filesystem.check", "root", exit="zero").judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "filesystem.check sent 'zero' as exit, where a whole number belongs" in judged.reason


def test_only_the_last_making_of_a_recovery_point_counts() -> None:
    failed = Story(attempt="a0").change("filesystem.check", "root", exit=4, clean=False, problems=["old"])
    story = Story(attempt="a1")
    story.before = list(failed.observations())
    assert story.judge().verdict is Verdict.RECOVERED
    # and nothing of the first fills a gap in the second
    story.drop("canary.found", "root")
    assert story.judge().verdict is Verdict.INCONCLUSIVE


def test_a_failed_stage_of_an_earlier_making_is_past() -> None:
    story = Story().drop("canary.found", "root")
    failed = {"check": "drill", "stage": "capture", "error": "no answer", "unreachable": True}
    lost = story.observation("skipped", None, failed)
    story.before = [replace(lost, attempt="a0"), replace(lost, attempt="")]
    assert story.judge().verdict is Verdict.INCONCLUSIVE
    story.after.append(replace(lost, attempt=""))
    assert story.judge().verdict is Verdict.UNREACHABLE


def test_a_stage_that_failed_after_all_was_seen_is_a_note() -> None:
    story = Story().skip(check="drill", stage="prove", error="volume stuck in detaching", unreachable=False)
    judged = story.judge()
    assert judged.verdict is Verdict.RECOVERED
    assert "the drill failed at prove: volume stuck in detaching" in [one.sentence for one in judged.findings]


def test_a_visit_to_copy_b_that_failed_leaves_a_data_volume_to_copy_a() -> None:
    story = Story().skip(check="drill", stage="prove", error="connection lost", unreachable=True)
    for probe in ("boot.identity", "boot.system", "boot.mounts", "boot.kernel", "boot.attempt"):
        story.drop(probe)
    assert story.judge("root").verdict is Verdict.UNREACHABLE
    assert story.judge("data").verdict is Verdict.RECOVERED


def test_of_repeated_probes_the_latest_counts() -> None:
    story = Story()
    bad = {**story.data("filesystem.check", "root"), "exit": 4, "clean": False, "problems": ["x"]}
    story.after.append(story.observation("filesystem.check", "root", bad))
    assert story.judge().verdict is Verdict.INCONSISTENT


def test_another_recovery_point_and_another_server_count_for_nothing() -> None:
    story = Story()
    bad = {"exit": 4, "clean": False, "problems": ["x"], "tool": "e2fsck -fn"}
    other = story.observation("filesystem.check", "root", bad)
    capture = story.observation("capture", None, {"error": "of another point"}, attempt="a9")
    story.after += [
        replace(capture, trial=2),
        replace(capture, capture=Capture.STOPPED),
        replace(other, trial=2),
        replace(other, server="win"),
        replace(other, volume="data"),
    ]
    assert story.judge().verdict is Verdict.RECOVERED


def test_a_skipped_check_is_inconclusive_and_says_why() -> None:
    judged = Story().skip(check="filesystem", reason="no helper could be launched").judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.reason == "the filesystem check was not run: no helper could be launched"


def test_what_was_skipped_of_one_volume_is_that_volumes() -> None:
    story = Story()
    skipped = story.observation("skipped", "data", {"check": "filesystem", "reason": "no helper"})
    story.after.append(skipped)
    assert story.judge("root").verdict is Verdict.RECOVERED
    assert story.judge("data").verdict is Verdict.INCONCLUSIVE
    assert story.judge("set").verdict is Verdict.INCONCLUSIVE


def test_a_drill_that_could_not_reach_the_source_is_unreachable() -> None:
    story = Story().skip(check="drill", stage="prepare", error="no SSH answer in 600 s", unreachable=True)
    story.seen = {}
    for volume in ("root", "data", "set"):
        judged = story.judge(volume)
        assert judged.verdict is Verdict.UNREACHABLE
        assert judged.reason == "the drill failed at prepare: no SSH answer in 600 s"


def test_a_failed_cleanup_changes_no_verdict() -> None:
    judged = Story().skip(check="drill", stage="cleanup", error="volume in use").judge()
    assert judged.verdict is Verdict.RECOVERED
    assert "the drill failed at cleanup: volume in use" in [finding.sentence for finding in judged.findings]


def test_met_follows_the_expectation_and_not_the_usability() -> None:
    story = Story().change("filesystem.check", "root", exit=4, clean=False, problems=["x"])
    expected = Expected(text="unusable", verdicts=UNUSABLE)
    observations = story.observations()
    lost = judge(story.cell(expected=expected), observations, volumes=story.volumes)
    fine = judge(Story().cell(expected=expected), Story().observations(), volumes=story.volumes)
    assert (lost.verdict, lost.met) == (Verdict.INCONSISTENT, True)
    assert (fine.verdict, fine.met) == (Verdict.RECOVERED, False)


def test_a_cell_that_the_run_never_came_to_is_inconclusive() -> None:
    judged = not_judged(Story().cell(), reason="cancelled by -x")
    assert (judged.verdict, judged.met, judged.reason) == (Verdict.INCONCLUSIVE, False, "cancelled by -x")


def test_the_measures_are_read_from_the_evidence() -> None:
    judged = Story().judge()
    assert judged.phases == Phases(restore=3.0, initialise=0.5, boot=14.0, checks=2.5)
    assert judged.rto_seconds == 20.0
    assert judged.capture_loss_seconds == pytest.approx(0.02)
    assert judged.rpo_seconds is None
    assert judged.recovery_point == "snap-00000000000000001"


def test_a_record_that_is_younger_than_the_request_is_no_loss() -> None:
    story = Story().change("canary.found", "root", last_at=iso(START + timedelta(seconds=10.4)))
    assert story.judge().capture_loss_seconds == 0.0


def test_a_set_loses_what_its_worst_volume_loses() -> None:
    story = Story().change("canary.found", "data", last_at=iso(START + timedelta(seconds=7)))
    assert story.judge("set").capture_loss_seconds == pytest.approx(3.0)


def test_records_a_year_off_are_not_taken_for_a_loss() -> None:
    story = Story().change("canary.found", "root", last_at="2025-11-24T18:00:09Z")
    judged = story.judge()
    assert judged.verdict is Verdict.RECOVERED
    assert judged.capture_loss_seconds is None


def test_the_rpo_of_an_existing_recovery_point_counts_from_its_last_record() -> None:
    story = Story(Capture.EXISTING)
    judged = story.judge(started=START + timedelta(hours=5))
    assert judged.rpo_seconds == pytest.approx(5 * 3600 - 9.98)
    assert judged.capture_loss_seconds is None
    assert judged.assurance is Assurance.STANDING_CANARY


def test_the_rpo_falls_back_to_the_start_time_and_says_so() -> None:
    story = Story(Capture.EXISTING).drop("canary.found", "root")
    judged = story.judge(started=START + timedelta(hours=5))
    assert judged.rpo_seconds == pytest.approx(5 * 3600 - 10)
    assert any("StartTime" in finding.sentence for finding in judged.findings)
    assert judged.assurance is Assurance.STRUCTURE


class Goals:
    """Objectives as a scenario has them."""

    rto: float | None = 15.0
    rpo: float | None = None


def test_a_missed_objective_is_told_and_changes_no_verdict() -> None:
    judged = Story().judge(objectives=Goals())
    assert judged.verdict is Verdict.RECOVERED
    told = [finding for finding in judged.findings if finding.check == "objectives"]
    assert [finding.sentence for finding in told] == ["the RTO of 20 s misses the objective of 15 s"]
    assert told[0].effect is FindingClass.NOTE


def test_without_a_load_the_verdict_rests_on_structure() -> None:
    story = Story().drop("canary.acknowledged").drop("canary.found", "root")
    judged = story.judge(loaded=False)
    assert judged.verdict is Verdict.RECOVERED
    assert judged.assurance is Assurance.STRUCTURE
    # while with a load that left no canary nothing is known
    assert story.judge(loaded=True).verdict is Verdict.INCONCLUSIVE


def test_a_canary_that_found_loss_is_what_the_verdict_rests_on() -> None:
    judged = Story().change("canary.found", "root", records=[[0, 200]]).judge()
    assert judged.verdict is Verdict.INCONSISTENT
    assert judged.assurance is Assurance.CANARY


def test_the_judge_reads_no_clock_and_touches_no_file() -> None:
    impure = {
        "now",
        "utcnow",
        "today",
        "time",
        "monotonic",
        "open",
        "read_text",
        "read_bytes",
        "run",
        "getenv",
    }
    for path in Path(judging.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                assert called not in impure, f"{path.name}:{node.lineno} calls {called}"
