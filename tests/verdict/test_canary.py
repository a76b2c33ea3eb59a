"""The canary decides: what was acknowledged is there, intact and in order, or the backup is not whole."""

import pytest

from drtest.words import Assurance, Capture, Verdict
from tests.verdict.story import Story


def test_missing_acknowledged_records_are_counted_named_and_dated() -> None:
    story = Story().acknowledge("root", records=[[0, 499]])
    story.change(
        "canary.found", "root", records=[[0, 479], [492, 501]], last_at="2026-11-24T18:00:09.700000Z"
    )
    judged = story.judge()
    assert judged.verdict is Verdict.INCONSISTENT
    assert judged.reason == (
        "12 of 500 acknowledged records are missing from lin/root: indices 480\N{EN DASH}491; "
        "the newest intact one was written 0.30 s before the snapshot"
    )


def test_one_missing_record_is_enough() -> None:
    judged = Story().change("canary.found", "root", records=[[0, 248]]).judge()
    assert judged.verdict is Verdict.INCONSISTENT
    assert "1 of 250 acknowledged records is missing from lin/root: index 249" in judged.reason


def test_a_torn_acknowledged_record_is_damage() -> None:
    judged = Story().change("canary.found", "root", records=[[0, 6], [8, 251]], torn=[7]).judge()
    assert judged.verdict is Verdict.INCONSISTENT
    assert "1 of 250 acknowledged records is torn on lin/root: index 7" in judged.reason


def test_a_record_that_is_called_both_intact_and_torn_is_torn() -> None:
    assert Story().change("canary.found", "root", torn=[7]).judge().verdict is Verdict.INCONSISTENT


def test_a_half_written_record_that_nobody_was_told_of_is_normal() -> None:
    judged = Story().change("canary.found", "root", torn=[252]).judge()
    assert judged.verdict is Verdict.RECOVERED
    assert any("half written" in finding.sentence for finding in judged.findings)


def test_unacknowledged_records_at_the_end_may_be_there_or_not() -> None:
    for records in ([[0, 249]], [[0, 260]]):
        assert Story().change("canary.found", "root", records=records).judge().verdict is Verdict.RECOVERED


@pytest.mark.parametrize("torn", [[], [250]])
def test_a_hole_before_records_that_were_flushed_later_is_damage(torn: list[int]) -> None:
    judged = Story().change("canary.found", "root", records=[[0, 249], [252, 255]], torn=torn).judge()
    assert judged.verdict is Verdict.INCONSISTENT
    assert "not yet acknowledged" in judged.reason


def test_a_record_of_another_volume_is_damage() -> None:
    judged = Story().change("canary.found", "root", records=[[0, 9], [11, 251]], foreign=[10]).judge()
    assert judged.verdict is Verdict.INCONSISTENT
    assert "another volume's or another place's: index 10" in judged.reason


def test_a_lost_file_operation_is_damage_though_all_records_are_there() -> None:
    judged = Story().change("canary.found", "root", metadata=[[0, 17]], metadata_torn=[19]).judge()
    assert judged.verdict is Verdict.INCONSISTENT
    assert "2 of 20 acknowledged file operations (create, fsync, rename) are lost" in judged.reason
    assert "1 of them torn" in judged.reason


@pytest.mark.parametrize("records", [[], [[0, 0]]])
def test_a_canary_that_is_gone_is_loss_and_not_doubt(records: list[list[int]]) -> None:
    story = Story().change("canary.found", "root", records=records, present=False, last_at=None, capacity=0)
    assert story.judge().verdict is Verdict.INCONSISTENT


def test_records_that_could_not_be_read_are_doubt_and_not_loss() -> None:
    story = Story().change("canary.found", "root", records=[], error="no filesystem of it could be mounted")
    judged = story.judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.assurance is Assurance.STRUCTURE


@pytest.mark.parametrize("records", [[], [[5, 4]], [[-1, 3]], "all", [[0]], [[0, 1, 2]], [[True, 3]]])
def test_without_a_valid_acknowledged_record_nothing_is_proven(records: object) -> None:
    judged = Story().acknowledge("root", records=records).judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.assurance is Assurance.STRUCTURE


def test_a_log_of_acknowledgements_that_cannot_be_read_is_doubt() -> None:
    assert Story().change("canary.acknowledged", error="disk full").judge().verdict is Verdict.INCONCLUSIVE


def test_a_volume_that_no_canary_was_written_to_is_doubt() -> None:
    story = Story()
    del story.data("canary.acknowledged")["volumes"]["data"]
    assert story.judge("data").verdict is Verdict.INCONCLUSIVE
    assert story.judge("root").verdict is Verdict.RECOVERED


def test_snapshots_of_two_moments_break_the_order_across_volumes_and_nothing_else() -> None:
    # Both volumes are whole for themselves: root is of a moment later than data by 3 records.
    story = Story().change("canary.found", "root", records=[[0, 255]])
    story.change("canary.found", "data", records=[[0, 251]])
    assert story.judge("root").verdict is Verdict.RECOVERED
    assert story.judge("data").verdict is Verdict.RECOVERED
    judged = story.judge("set")
    assert judged.verdict is Verdict.INCONSISTENT
    assert not any("held up" in finding.sentence for finding in judged.findings)
    # record n lies on volume n mod 2: 252, 253, 254 of data are 505, 507, 509, and 255 of root is 510
    assert judged.reason == (
        "the snapshots are not of one moment: 3 records of lin/data from record 505 (index 252) on are missing, "
        "though record 510 of lin/root, written and flushed after, is there"
    )


@pytest.mark.parametrize(("root", "data"), [(251, 251), (252, 251), (251, 250)])
def test_a_set_that_ends_anywhere_in_a_round_is_in_order(root: int, data: int) -> None:
    story = Story().change("canary.found", "root", records=[[0, root]])
    story.change("canary.found", "data", records=[[0, data]])
    assert story.judge("set").verdict is Verdict.RECOVERED


def test_a_set_whose_data_volume_is_a_record_ahead_is_out_of_order() -> None:
    # 252 of data is record 505, flushed only after 252 of root, record 504.
    story = Story().change("canary.found", "root", records=[[0, 251]])
    story.change("canary.found", "data", records=[[0, 252]])
    assert story.judge("set").verdict is Verdict.INCONSISTENT


def test_order_is_judged_only_where_one_call_promised_it() -> None:
    story = Story().change("canary.found", "root", records=[[0, 255]]).change("capture", atomic=False)
    judged = story.judge("set")
    assert judged.verdict is Verdict.RECOVERED
    assert any("promises no order across them" in finding.sentence for finding in judged.findings)


def test_order_is_not_judged_in_a_volumes_own_cell() -> None:
    story = Story().change("canary.found", "root", records=[[0, 255]])
    assert not any("one moment" in finding.sentence for finding in story.judge("root").findings)


@pytest.mark.parametrize(
    "unknown",
    [
        lambda story: story.change("canary.acknowledged", stride=3),
        lambda story: story.acknowledge("root", position=1),
        lambda story: story.change("canary.found", "data", error="lost"),
    ],
)
def test_order_that_cannot_be_told_is_inconclusive(unknown: object) -> None:
    story = Story()
    assert callable(unknown)
    unknown(story)
    assert story.judge("set").verdict is Verdict.INCONCLUSIVE


def test_a_position_that_is_told_goes_before_the_order_of_the_volumes() -> None:
    story = Story().acknowledge("root", position=1).acknowledge("data", position=0)
    # now data goes first in each round: one record ahead is in order
    story.change("canary.found", "root", records=[[0, 251]]).change(
        "canary.found", "data", records=[[0, 252]]
    )
    assert story.judge("set").verdict is Verdict.RECOVERED


def test_a_claim_of_endless_records_costs_nothing() -> None:
    story = Story().acknowledge("root", records=[[0, 10**30]])
    story.change("canary.found", "root", records=[[0, 10**29]], torn=[10**29 + 5])
    assert story.judge("set").verdict is Verdict.INCONSISTENT


def test_a_standing_canary_is_judged_by_its_order_alone() -> None:
    story = Story(Capture.EXISTING).drop("canary.acknowledged")
    judged = story.judge()
    assert judged.verdict is Verdict.CONSISTENT
    assert judged.assurance is Assurance.STANDING_CANARY
    assert "250 records of the standing canary in order" in judged.reason
    story.change("canary.found", "root", records=[[0, 9], [20, 30]])
    assert story.judge().verdict is Verdict.INCONSISTENT


def test_a_standing_canary_that_could_not_be_read_is_doubt_and_none_at_all_is_not() -> None:
    story = Story(Capture.EXISTING).change("canary.found", "root", error="not mounted")
    assert story.judge().verdict is Verdict.INCONCLUSIVE
    judged = story.drop("canary.found", "root").judge()
    assert (judged.verdict, judged.assurance) == (Verdict.CONSISTENT, Assurance.STRUCTURE)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ({"metadata": [[0, 24]]}, Verdict.CONSISTENT),
        ({"metadata": [[0, 25]]}, Verdict.CONSISTENT),
        ({"metadata": [[0, 23]]}, Verdict.CONSISTENT),  # the newest may have been on its way
        ({"metadata": [[0, 22]]}, Verdict.INCONSISTENT),
        ({"metadata": [[0, 3], [5, 24]]}, Verdict.INCONSISTENT),
        ({"metadata": [[0, 24]], "metadata_torn": [7]}, Verdict.INCONSISTENT),
        ({"metadata": [], "metadata_every": None}, Verdict.CONSISTENT),  # evidence of an older probe
    ],
)
def test_file_operations_of_a_standing_canary_that_later_records_follow_must_be_there(
    found: dict[str, object], verdict: Verdict
) -> None:
    story = Story(Capture.EXISTING).drop("canary.acknowledged")
    story.change("canary.found", "root", **{"records": [[0, 249]], "metadata_every": 10, **found})
    assert story.judge(checks=("filesystem", "canary")).verdict is verdict
