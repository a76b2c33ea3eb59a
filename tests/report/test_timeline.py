"""The canary's line shows each lost record, however few among however many."""

from drtest.report.timeline import MOST_BINS, timelines
from drtest.verdict.case import Case
from tests.verdict.story import Story


def lines(story: Story, volume: str = "root") -> tuple[object, ...]:
    return timelines(case_of(story, volume))


def case_of(story: Story, volume: str) -> Case:
    return Case(story.cell(volume), story.observations(), volumes=story.volumes, loaded=True)


def test_nothing_lost_is_no_line() -> None:
    assert lines(Story(), "set") == ()


def test_each_volume_that_lost_has_its_own() -> None:
    story = Story().change("canary.found", "root", records=[[0, 99]])
    assert len(lines(story, "set")) == 1
    assert len(lines(story.change("canary.found", "data", torn=[3]), "set")) == 2
    assert len(lines(story, "data")) == 1


def test_one_lost_record_among_a_hundred_thousand_is_seen() -> None:
    story = Story().acknowledge("root", records=[[0, 99_999]])
    story.change("canary.found", "root", records=[[0, 49_999], [50_001, 99_999]])
    (line,) = timelines(case_of(story, "root"))
    missing = [one for one in line.slices if one.state == "missing"]
    assert len(missing) == 1
    assert 499 < missing[0].start < 501
    assert missing[0].width >= 1000 / MOST_BINS - 0.001
    assert (line.missing, line.torn, line.acknowledged, line.where) == (1, 0, 100_000, "50000")


def test_the_slices_cover_the_line_without_overlap() -> None:
    story = Story().change("canary.found", "root", records=[[0, 50], [60, 251], [260, 270]], torn=[55, 256])
    (line,) = timelines(case_of(story, "root"))
    end = 0.0
    for one in line.slices:
        assert abs(one.start - end) < 1e-6
        end = one.start + one.width
    assert abs(end - 1000) < 1e-6
    assert {one.state for one in line.slices} == {"intact", "missing", "torn", "later"}
    assert 0 < line.cut < 1000


def test_what_is_malformed_is_left_out() -> None:
    assert lines(Story().change("canary.found", "root", records="all")) == ()
    assert lines(Story().change("canary.found", "root", records=[[0, 3]], error="unread")) == ()


def test_a_claim_of_endless_records_draws_at_once() -> None:
    story = (
        Story().acknowledge("root", records=[[0, 10**30]]).change("canary.found", "root", records=[[0, 5]])
    )
    (line,) = timelines(case_of(story, "root"))
    assert len(line.slices) <= MOST_BINS
