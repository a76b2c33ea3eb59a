"""Events count by provider and number, never by their text: a German server gives the same verdict."""

import pytest

from drtest.words import Capture, Os, Verdict
from tests.verdict.story import Story

ALL = ("boot", "filesystem", "canary", "events")


def windows(*events: dict[str, object], capture: Capture = Capture.RUNNING) -> Story:
    story = Story(capture, os=Os.WINDOWS, server="win")
    story.seen["boot.events", None] = {"events": list(events), "error": ""}
    return story


@pytest.mark.parametrize(
    ("event", "verdict"),
    [
        ({"provider": "Ntfs", "id": 55}, Verdict.INCONSISTENT),
        ({"provider": "Microsoft-Windows-Ntfs", "id": 55}, Verdict.INCONSISTENT),
        ({"provider": "Ntfs", "id": 98, "data": {"CorruptionActionState": 0}}, Verdict.RECOVERED),
        ({"provider": "Ntfs", "id": 98, "data": {"CorruptionActionState": 2}}, Verdict.INCONSISTENT),
        ({"provider": "Ntfs", "id": 98}, Verdict.INCONCLUSIVE),
        ({"provider": "Ntfs", "id": 140}, Verdict.INCONCLUSIVE),
        ({"provider": "disk", "id": 7}, Verdict.INCONCLUSIVE),
        ({"provider": "disk", "id": 153}, Verdict.RECOVERED),
        ({"provider": "Wininit", "id": 1001}, Verdict.RECOVERED),
        ({"provider": "VendorTool", "id": 55}, Verdict.RECOVERED),
    ],
)
def test_each_event_counts_as_the_table_says(event: dict[str, object], verdict: Verdict) -> None:
    assert windows(event).judge(checks=ALL).verdict is verdict


def test_an_event_log_that_was_not_read_is_inconclusive() -> None:
    story = windows()
    assert story.judge(checks=ALL).verdict is Verdict.RECOVERED
    assert story.drop("boot.events").judge(checks=ALL).verdict is Verdict.INCONCLUSIVE


def test_windows_events_are_the_roots_and_not_a_data_volumes() -> None:
    assert windows({"provider": "Ntfs", "id": 55}).judge("data", checks=ALL).verdict is Verdict.RECOVERED


def test_linux_reads_its_kernels_log_for_events() -> None:
    story = Story().change(
        "boot.kernel", messages=[{"pattern": "EXT4-fs error", "line": "(device nvme0n1p2)"}]
    )
    assert story.judge(checks=("events",)).verdict is Verdict.INCONSISTENT
    assert Story().judge(checks=("events",)).verdict is Verdict.RECOVERED


def test_a_strangers_events_are_not_heard() -> None:
    story = windows({"provider": "Ntfs", "id": 55}).change("boot.identity", asset_tag="i-0c0ffee0000000001")
    assert story.judge(checks=ALL).verdict is Verdict.INCONCLUSIVE
