"""The books, the wire and the lanes by themselves."""

import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from drtest.errors import DeadlineError
from drtest.lab import wire
from drtest.lab.books import Books
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Attachment, Token, Volume
from drtest.lab.work import Work

TIME = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def _volume(number: int = 1, **changes: object) -> Volume:
    given = {
        "id": f"vol-{number:017x}",
        "owner": "123456789012",
        "region": "us-east-1",
        "number": number,
        "created": TIME,
        "state": "available",
        "size": 1,
        "zone": "us-east-1a",
        **changes,
    }
    return Volume(**given)  # type: ignore[arg-type]


def test_what_is_written_is_there_after_a_restart(tmp_path: Path) -> None:
    books = Books(tmp_path / "books")
    attachment = Attachment(instance="i-1", device="/dev/sdf", state="attached", at=TIME)
    volume = _volume(7, attachment=attachment, tags={"a": "ä"})
    with books.open():
        books.put(volume)
        books.put(Token(key="k", parameters="p", made=(volume.id,)))
    books.note("fact", b"\x00\xff")
    # Not closed: a killed process does not close its books either.
    again = Books(tmp_path / "books")
    assert again.find(Volume, volume.id) == volume
    assert again.token("k") == Token(key="k", parameters="p", made=(volume.id,))
    assert again.fact("fact") == b"\x00\xff"
    assert again.next_number() == 8


def test_a_section_that_fails_changes_nothing(tmp_path: Path) -> None:
    books = Books(tmp_path / "books")
    with books.open():
        books.put(_volume(1))

    def section() -> None:
        with books.open():
            books.put(_volume(1, state="in-use"))
            with books.open():
                books.put(_volume(2))
            books.drop(_volume(1))
            raise Refusal("Code", "no")

    with pytest.raises(Refusal):
        section()
    for seen in (books, Books(tmp_path / "books")):
        assert seen.all(Volume) == [_volume(1)]


def test_the_books_are_changed_only_while_they_are_open(tmp_path: Path) -> None:
    books = Books(tmp_path / "books")
    with pytest.raises(RuntimeError):
        books.put(_volume())


def test_resources_are_listed_in_the_order_of_their_making_after_a_restart_too(tmp_path: Path) -> None:
    books = Books(tmp_path / "books")
    with books.open():
        for number in (1, 2, 3):
            books.put(_volume(number))
    with books.open():
        books.put(_volume(1, state="in-use"))
    assert [v.number for v in books.all(Volume)] == [1, 2, 3]
    assert [v.number for v in Books(tmp_path / "books").all(Volume)] == [1, 2, 3]


def test_parameters_are_read_by_the_model() -> None:
    form = {
        "Action": "RunInstances",
        "Version": "2016-11-15",
        "ImageId": "ami-1",
        "MinCount": "1",
        "MaxCount": "2",
        "SecurityGroupId.1": "sg-1",
        "SecurityGroupId.2": "sg-2",
        "DryRun": "true",
        "BlockDeviceMapping.1.DeviceName": "/dev/sdf",
        "BlockDeviceMapping.1.Ebs.VolumeSize": "3",
        "TagSpecification.1.ResourceType": "instance",
        "TagSpecification.1.Tag.10.Key": "ten",
        "TagSpecification.1.Tag.9.Key": "nine",
    }
    assert wire.parse("RunInstances", form) == {
        "ImageId": "ami-1",
        "MinCount": 1,
        "MaxCount": 2,
        "SecurityGroupIds": ["sg-1", "sg-2"],
        "DryRun": True,
        "BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 3}}],
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "nine"}, {"Key": "ten"}]}],
    }


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"Filter.1.Nme": "x"}, "UnknownParameter"),
        ({"MaxResults": "ten"}, "InvalidParameterValue"),
        ({"DryRun": "perhaps"}, "InvalidParameterValue"),
        ({"InstanceId": "i-1"}, "InvalidParameterValue"),
        ({"Filter.1": "x", "Filter.1.Name": "y"}, "MalformedQueryString"),
        ({"Filter.1.Name": "y", "Filter.1": "x"}, "MalformedQueryString"),
        ({"MaxResults.1": "1"}, "InvalidParameterValue"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(form: dict[str, str], code: str) -> None:
    with pytest.raises(Refusal) as caught:
        wire.parse("DescribeInstances", form)
    assert caught.value.code == code


def test_answers_are_written_as_xml_with_everything_escaped() -> None:
    text = wire.render(
        "DescribeVolumes",
        {
            "Volumes": [
                {
                    "VolumeId": "vol-1",
                    "Encrypted": False,
                    "Tags": [{"Key": "a&b", "Value": "<c>"}],
                    "Iops": None,
                }
            ]
        },
        request_id="r",
    ).decode()
    assert "<requestId>r</requestId>" in text
    assert (
        "<volumeSet><item><volumeId>vol-1</volumeId><encrypted>false</encrypted><tagSet><item>"
        "<key>a&amp;b</key><value>&lt;c&gt;</value></item></tagSet></item></volumeSet>" in text
    )


def test_an_answer_that_the_api_does_not_know_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        wire.render("DescribeVolumes", {"Volume": []}, request_id="r")


def test_times_are_written_in_utc_with_milliseconds() -> None:
    berlin = timezone(timedelta(hours=1))
    assert wire.iso(datetime(2026, 1, 2, 4, 4, 5, 678901, tzinfo=berlin)) == "2026-01-02T03:04:05.678Z"


def test_lanes_keep_tasks_apart_and_have_a_deadline() -> None:
    work = Work()
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with work.lanes("vol-1", "i-1"):
            held.set()
            let_go.wait(10)

    work.soon(hold, name="hold")
    assert held.wait(10)
    with pytest.raises(DeadlineError, match="vol-1"), work.lanes("vol-1", deadline=0.05):
        pass
    with work.lanes("vol-2", deadline=0.05):
        let_go.set()
    with work.lanes("i-1", "vol-1", deadline=10):
        pass
    work.stop()


def test_lanes_taken_in_any_order_do_not_block_each_other() -> None:
    work = Work()
    done = []

    def crowd(*ids: str) -> None:
        for _ in range(200):
            with work.lanes(*ids, deadline=10):
                pass
        done.append(ids)

    threads = [threading.Thread(target=crowd, args=ids) for ids in (("a", "b"), ("b", "a"), ("c", "a", "b"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(done) == 3
    work.stop()


def test_a_task_that_fails_does_not_stop_the_timers() -> None:
    work = Work()
    ran = threading.Event()

    def fails() -> None:
        raise ValueError("no")

    work.later(0.0, fails)
    work.later(0.01, ran.set)
    assert ran.wait(10)
    work.stop()
    assert work.pause(10) is False
