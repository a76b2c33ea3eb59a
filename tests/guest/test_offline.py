"""The offline examination on real filesystems: real crashes are recovered, real damage is found."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from drtest.guest import canary
from drtest.words import Filesystem
from tests.guest.images import Captured, Images, examine

ALL = (Filesystem.EXT4, Filesystem.XFS, Filesystem.BTRFS)


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[Filesystem, str], Captured]]:
    """Each way of capturing each filesystem, made once; tests work on copies."""
    with Images(tmp_path_factory.mktemp("captures")) as images:
        ways = [(kind, how) for kind in ALL for how in ("running", "stopped")]
        ways += [(kind, "power cut") for kind in ALL if kind is not Filesystem.BTRFS]
        yield {(kind, how): images.captured(kind, how) for kind, how in ways}


Captures = dict[tuple[Filesystem, str], Captured]


@pytest.mark.parametrize(
    ("kind", "how"),
    [(kind, "running") for kind in ALL] + [(Filesystem.EXT4, "power cut"), (Filesystem.XFS, "power cut")],
)
def test_a_crash_is_replayed_and_then_all_is_whole_and_every_acknowledged_write_is_there(
    captures: Captures, images: Images, kind: Filesystem, how: str
) -> None:
    captured = captures[kind, how]
    seen = examine(images.copy(captured.image), filesystem=kind.value, canary=captured.expected)
    before, replay, check = seen["filesystem.before"], seen["filesystem.replay"], seen["filesystem.check"]
    assert (before["filesystem"], before["dirty_log"], before["error"]) == (kind.value, True, "")
    assert (replay["exit"], replay["replayed"], replay["error"]) == (0, True, "")
    assert (check["clean"], check["problems"], check["exit"], check["error"]) == (True, [], 0, "")
    found = seen["canary.found"]
    assert found["error"] == ""
    assert captured.records
    assert captured.metadata
    assert canary.subtract(captured.records, tuple(map(tuple, found["records"]))) == ()
    assert canary.subtract(captured.metadata, tuple(map(tuple, found["metadata"]))) == ()
    assert (found["torn"], found["foreign"], found["metadata_torn"]) == ([], [], [])
    kernel = seen["helper.kernel"]
    assert (kernel["oops"], kernel["tainted"], kernel["messages"]) == (False, 0, [])


@pytest.mark.parametrize("kind", ALL)
def test_a_stopped_capture_has_a_clean_log_and_the_examination_does_not_change_a_byte_of_it(
    captures: Captures, images: Images, kind: Filesystem
) -> None:
    captured = captures[kind, "stopped"]
    copy = images.copy(captured.image)
    seen = examine(copy, filesystem=kind.value, uuid=captured.place.uuid, canary=captured.expected)
    assert seen["filesystem.before"]["dirty_log"] is False
    assert seen["filesystem.before"]["uuid"] == captured.place.uuid
    assert seen["filesystem.replay"]["method"] == "none"
    assert seen["filesystem.check"]["clean"] is True
    assert canary.subtract(captured.records, tuple(map(tuple, seen["canary.found"]["records"]))) == ()
    assert _hash(copy) == _hash(captured.image)


def test_the_newest_load_is_found_where_its_name_is_not_known(captures: Captures, images: Images) -> None:
    captured = captures[Filesystem.EXT4, "stopped"]
    expected = type(captured.expected)(volume_id=captured.expected.volume_id, inside=captured.expected.inside)
    found = examine(images.copy(captured.image), canary=expected)["canary.found"]
    assert found["series"] == captured.series
    assert canary.count(tuple(map(tuple, found["records"]))) >= canary.count(captured.records)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
