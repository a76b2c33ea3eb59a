"""What holds of every verdict: more bad news never improves it, and no evidence can make the judge raise."""

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from drtest.verdict.evidence import Judgement
from drtest.verdict.judge import judge
from drtest.words import Capture, Os, Verdict
from tests.verdict.story import Story
from tests.verdict.windows_story import WindowsStory

ALL = ("boot", "filesystem", "canary", "events")
Worsening = Callable[[Story], object]

WORSE: dict[str, Worsening] = {
    "records missing": lambda s: s.change("canary.found", "root", records=[[0, 100]]),
    "a record torn": lambda s: s.change("canary.found", "root", torn=[3]),
    "a record of somebody else": lambda s: s.change("canary.found", "root", foreign=[3]),
    "a file operation lost": lambda s: s.change("canary.found", "root", metadata=[[0, 3]]),
    "records unread": lambda s: s.change("canary.found", "root", error="EIO"),
    "checker: damage": lambda s: s.change("filesystem.check", "root", exit=4, clean=False, problems=["x"]),
    "checker: no word": lambda s: s.change("filesystem.check", "root", exit=8, clean=None),
    "checker failed": lambda s: s.change("filesystem.check", "root", error="timeout"),
    "error flag": lambda s: s.change("filesystem.before", "root", error_flag=True),
    "unknown feature": lambda s: s.change("filesystem.before", "root", unknown_features=["X"]),
    "dirty log, not replayed": lambda s: (
        s.change("filesystem.replay", "root", replayed=False, method="none")
        and s.change("filesystem.before", "root", dirty_log=True)
    ),
    "replay failed": lambda s: s.change("filesystem.replay", "root", exit=32, method="mount"),
    "helper oops": lambda s: s.change("helper.kernel", oops=True),
    "a unit failed": lambda s: s.change("boot.system", failed_units=["a.service"]),
    "emergency": lambda s: s.change("boot.system", state="maintenance"),
    "stranger": lambda s: s.change("boot.identity", asset_tag="i-0ff"),
    "read-only": lambda s: [mount.update(options="ro") for mount in s.data("boot.mounts")["mounts"]],
    "kernel damage": lambda s: s.after.append(
        s.observation("boot.kernel", None, {"messages": [{"pattern": "EXT4-fs error", "line": ""}]})
    ),
    "snapshot failed": lambda s: s.change("capture", completed=False),
    "skipped": lambda s: s.skip(check="filesystem", reason="no helper"),
    "drill failed": lambda s: (
        s.seen.pop(("boot.kernel", None), None)
        and s.skip(check="drill", stage="prove", error="x", unreachable=True)
    ),
}

RANK = [
    {Verdict.CONSISTENT},
    {Verdict.RECOVERED},
    {Verdict.INCONCLUSIVE},
    {Verdict.UNREACHABLE},
    {Verdict.INCONSISTENT},
    {Verdict.UNBOOTABLE},
]


def rank(judged: Judgement) -> int:
    return next(place for place, verdicts in enumerate(RANK) if judged.verdict in verdicts)


def told(worse: list[str], capture: Capture, volume: str) -> Judgement:
    story = Story(capture)
    for name in worse:
        WORSE[name](story)
    return story.judge(volume)


captures = st.sampled_from([Capture.RUNNING, Capture.STOPPED, Capture.FROZEN])
worsenings = st.lists(st.sampled_from(sorted(WORSE)), unique=True, max_size=5)


@given(captures, st.sampled_from(["root", "set"]), worsenings)
@settings(max_examples=100, deadline=None)
def test_no_bad_news_leaves_a_verdict_usable(capture: Capture, volume: str, worse: list[str]) -> None:
    judged = told(worse, capture, volume)
    assert judged.verdict.usable == (not worse)


OUTSIDE_COPY_B = [
    name
    for name in sorted(WORSE)
    # An observation that says less hides what another said: a guest that proves to be a stranger takes its word
    # with it, records that could not be read name no loss.
    if name not in {"stranger", "records unread", "unknown feature", "checker failed", "checker: no word"}
    and "replay" not in name
]


@given(
    captures,
    st.sampled_from(["root", "set"]),
    st.lists(st.sampled_from(OUTSIDE_COPY_B), unique=True, max_size=5),
)
@settings(max_examples=100, deadline=None)
def test_more_bad_news_never_improves_a_verdict(capture: Capture, volume: str, worse: list[str]) -> None:
    before = told(worse[:-1], capture, volume)
    after = told(worse, capture, volume)
    assert rank(after) >= rank(before)


@given(worsenings)
@settings(max_examples=60, deadline=None)
def test_a_data_volume_is_never_unbootable_and_its_own_evidence_is_its_own(worse: list[str]) -> None:
    story = Story()
    for name in worse:
        WORSE[name](story)
    assert story.judge("data").verdict is not Verdict.UNBOOTABLE


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 10**20)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["2026-11-24T18:00:09Z", "vol-0", "i-0b", "ext4", "running", "/", "rw"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
STORIES: dict[Os, Callable[[Capture], Story]] = {Os.LINUX: Story, Os.WINDOWS: WindowsStory}
PLACES = {os: sorted(make(Capture.RUNNING).seen, key=str) for os, make in STORIES.items()}


@given(st.data(), captures, st.sampled_from(list(Os)), st.sampled_from(["root", "data", "set", "nowhere"]))
@settings(max_examples=150, deadline=None)
def test_the_judge_never_raises_whatever_the_probes_sent(
    data: st.DataObject, capture: Capture, os: Os, volume: str
) -> None:
    story = STORIES[os](capture)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.sampled_from(PLACES[os]))
        if data.draw(st.booleans()):
            story.seen[place] = data.draw(st.dictionaries(st.text(max_size=6), json_values, max_size=4))
        else:
            known = story.seen[place]
            known[data.draw(st.sampled_from(sorted(known) or ["error"]))] = data.draw(json_values)
    judged = judge(
        story.cell(volume),
        story.observations(),
        volumes=story.volumes,
        checks=ALL,
    )
    assert judged.reason
    for number in (judged.capture_loss_seconds, judged.rto_seconds):
        assert number is None or number >= 0


@given(st.data(), st.sampled_from(list(Os)), json_values.filter(lambda value: not isinstance(value, dict)))
@settings(max_examples=100, deadline=None)
def test_data_that_is_no_object_is_inconclusive(data: st.DataObject, os: Os, value: Any) -> None:
    story, place = STORIES[os](Capture.RUNNING), data.draw(st.sampled_from(PLACES[os]))
    own = list(story.observations())
    broken = [
        one
        if (one.probe, one.volume) != place
        else type(one)(**{**{f: getattr(one, f) for f in one.__dataclass_fields__}, "data": value})
        for one in own
    ]
    judged = judge(story.cell("set"), broken, volumes=story.volumes, checks=ALL)
    assert place[0] == "phases" or not judged.verdict.usable
