"""Preparing a source and loading it: what is blank is made ready, what is not is left alone."""

import os
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from drtest.guest import canary, linux
from drtest.guest.local import LocalGuest
from drtest.guest.transport import AnswerError, GuestError, Stream
from drtest.words import Filesystem
from tests.guest.images import Images, root, tool, write


def _prepare(
    images: Images,
    device: str,
    *,
    filesystem: Filesystem | None = Filesystem.EXT4,
    records: int = 200,
    volume_id: str = "vol-0000000000000a11e",
) -> linux.Prepared:
    top = images.folder / "data"
    prepared = linux.prepare(
        LocalGuest(),
        volumes={
            "data": linux.VolumeToPrepare(
                volume_id=volume_id,
                filesystem=filesystem,
                mount=str(top),
                device=device,
                fstab=str(images.folder / "fstab"),
            )
        },
        records=records,
        deadline=60,
    )
    images.remember(top)
    return prepared


def test_a_blank_volume_gets_its_filesystem_its_mount_its_fstab_entry_and_room_for_the_canary(
    images: Images,
) -> None:
    (images.folder / "fstab").write_text("# before, without an end")
    prepared = _prepare(images, images.loop(images.blank(64 << 20)))
    place, data = prepared.places["data"], prepared.seen[0].data
    assert (place.filesystem, place.inside) == ("ext4", "/.drtest-canary")
    assert place.directory == str(images.folder / "data" / ".drtest-canary")
    assert place.capacity == 200
    assert data["made"] is True
    records = Path(place.directory) / "records.bin"
    assert root("stat", "-c", "%s %b", records).split() == ["102400", "200"]  # no holes: every block is there
    assert "unwritten" not in root("filefrag", "-v", records)
    assert (images.folder / "fstab").read_text() == (
        f"# before, without an end\nUUID={place.uuid} {images.folder / 'data'} ext4 defaults 0 2\n"
    )


def test_a_second_run_keeps_what_the_first_one_made(images: Images) -> None:
    device = images.loop(images.blank(64 << 20))
    first = _prepare(images, device)
    root("sh", "-c", f"echo kept > {first.places['data'].directory}/mark")
    second = _prepare(images, device, records=500)
    assert second.places["data"].uuid == first.places["data"].uuid
    assert second.places["data"].capacity >= 500
    assert second.seen[0].data["made"] is False
    assert root("cat", f"{first.places['data'].directory}/mark") == "kept\n"
    assert (images.folder / "fstab").read_text().count("UUID=") == 1


@pytest.mark.parametrize("content", ["ext4", "xfs", "vfat", "table", "byte"])
def test_what_is_not_blank_is_never_formatted(images: Images, content: str) -> None:
    if content == "table":
        image = images.partitioned("gpt", images.made("vfat"))
    elif content == "byte":
        image = images.blank(64 << 20)
        write(image, (1 << 20) - 1, b"x")
    else:
        image = images.made(content)
    before = tool("sha256sum", image)
    with pytest.raises(AnswerError, match="not formatted: it is not blank"):
        _prepare(images, images.loop(image))
    assert tool("sha256sum", image) == before


def test_a_volume_that_is_not_to_be_formatted_is_found_where_it_is_mounted(images: Images) -> None:
    device = images.loop(images.made("ext4"))
    top = images.folder / "data"
    top.mkdir()
    root("mount", device, top)
    prepared = _prepare(images, device, filesystem=None)
    assert prepared.places["data"].directory == str(top / ".drtest-canary")
    assert not (images.folder / "fstab").exists()


def test_a_volume_that_is_mounted_nowhere_is_refused(images: Images) -> None:
    with pytest.raises(AnswerError, match="mounted at"):
        _prepare(images, images.loop(images.made("ext4")), filesystem=None)


def test_a_canary_that_would_fill_the_volume_is_refused_and_nothing_is_written(images: Images) -> None:
    device = images.loop(images.blank(64 << 20))
    with pytest.raises(AnswerError, match="would leave less than"):
        _prepare(images, device, records=(60 << 20) // 512)
    _prepare(images, device, records=10)


def test_a_mounted_filesystem_on_another_disk_is_not_taken_for_the_volume_s_own(images: Images) -> None:
    mounted, other = images.loop(images.made("ext4")), images.loop(images.made("ext4"))
    top = images.folder / "data"
    top.mkdir()
    root("mount", mounted, top)
    images.remember(top)
    with pytest.raises(AnswerError, match="is not mounted at"):
        _prepare(images, other, filesystem=None)


def test_a_load_writes_each_volume_in_turn_at_its_rate_until_it_is_stopped(tmp_path: Path) -> None:
    places = {name: _place(tmp_path / name, 1000) for name in ("root", "data")}
    with _load(places, rate=100) as stream:
        lines = []
        begun = time.monotonic()
        for line in stream:
            lines.append(line.split())
            if len([one for one in lines if one[0] == b"r"]) == 50:
                stream.stop()
        took = time.monotonic() - begun
    records = [one for one in lines if one[0] == b"r"]
    for number, (_, volume, index, n, time_ns) in enumerate(records):
        assert (int(volume), int(index), int(n)) == (number % 2, number // 2, number)
        assert abs(int(time_ns) / 1e9 - time.time()) < 30
    assert [(int(one[1]), int(one[2])) for one in lines if one[0] == b"m"] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert lines[-1][0] == b"end"
    assert b'"stopped"' in lines[-1][2]
    assert 0.3 < took < 5
    assert stream.exit == 0


@pytest.mark.parametrize(("records", "seconds", "reason"), [(3, 60.0, b"full"), (1000, 0.3, b"limit")])
def test_a_load_that_nobody_stops_ends_by_itself_and_says_why(
    tmp_path: Path, records: int, seconds: float, reason: bytes
) -> None:
    with _load({"data": _place(tmp_path, records)}, rate=50, seconds=seconds) as stream:
        assert reason in list(stream)[-1]


def test_a_load_that_cannot_begin_says_why(tmp_path: Path) -> None:
    place = _place(tmp_path, 10)
    (Path(place.directory) / "records.bin").unlink()
    with pytest.raises(GuestError, match=r"did not begin: .*No such file"), _load({"data": place}, rate=50):
        raise AssertionError("it began")


def test_records_that_a_load_acknowledged_are_found_by_the_next_examination_of_the_folder(
    tmp_path: Path,
) -> None:
    from drtest.guest.probes import found, record

    place = _place(tmp_path, 100)
    series = canary.new_series()
    log_path = tmp_path / "acks.jsonl"
    with (
        _load({"data": place}, rate=200, series=series) as stream,
        canary.AckLog(log_path, series=series, volumes=["data"]) as log,
        canary.Recorder(stream, log) as recorder,
    ):
        recorder.wait(40, deadline=20)
        cut = log.sync()
        recorder.stop(deadline=10)
    told = canary.acknowledged(log_path, cut=cut, volumes=["data"])["volumes"]["data"]
    if os.getuid() == 0:  # the folder is root's
        seen = found.look(str(tmp_path), "/", place.volume_id, series)
        acknowledged = tuple((first, last) for first, last in told["records"])
        assert canary.count(acknowledged) >= 40
        assert canary.subtract(acknowledged, tuple(seen["records"])) == ()
        assert record.METADATA_EVERY * len(told["metadata"]) <= canary.count(acknowledged)


def _place(folder: Path, records: int) -> linux.CanaryPlace:
    (folder / "meta").mkdir(parents=True)
    (folder / "records.bin").write_bytes(bytes(512 * records))
    return linux.CanaryPlace(
        volume_id="vol-0123456789abcdef0",
        directory=str(folder),
        inside="/",
        capacity=records,
        filesystem="ext4",
        uuid="",
    )


def _load(
    places: dict[str, linux.CanaryPlace], *, rate: float, seconds: float = 30, series: str = ""
) -> AbstractContextManager[Stream]:
    return linux.load(
        LocalGuest(),
        places=places,
        series=series or canary.new_series(),
        rate=rate,
        seconds=seconds,
        deadline=60,
    )
