"""The parts of the stand-in that live in one file, on one screen, or behind one button."""

import json
import os
import struct
import threading
from pathlib import Path

import pytest

from drtest.lab.standin import button, certificate, events, screen, shutdown_record, storage
from drtest.lab.standin.answers import grouped
from drtest.lab.standin.events import Event, EventLog
from drtest.lab.standin.machine import ThisMachine
from drtest.lab.standin.screen import Stop
from drtest.lab.standin.shutdown_record import ShutdownRecord
from drtest.lab.winrm.certificate import Certificate
from tests.lab.standin.power_cuts import Flush, Recorded, Step


def test_the_record_tells_of_a_shutdown_that_was_none() -> None:
    steps: list[Step] = []
    file = Recorded("bootstat.dat", bytes(shutdown_record.SIZE), steps)
    first = ShutdownRecord(file)
    assert first.unclean_since is None
    first.set(now=5.0)
    assert ShutdownRecord(file).unclean_since == 5.0
    first.clear(now=9.0)
    assert ShutdownRecord(file).unclean_since is None
    assert isinstance(steps[-1], Flush)


def test_events_come_back_in_order_also_after_the_log_went_round() -> None:
    steps: list[Step] = []
    file = Recorded("log", bytes(events.SIZE), steps)
    for number in range(events.RECORDS + 40):
        EventLog(file).add(Event(provider="EventLog", id=number, at=float(number)))
    assert len(file.content) == events.SIZE
    kept = EventLog(file).since(0.0)
    assert [one.id for one in kept] == list(range(40, events.RECORDS + 40))
    assert [one.id for one in EventLog(file).since(100.0)] == list(range(100, events.RECORDS + 40))
    assert isinstance(steps[-1], Flush)


def test_an_event_that_was_not_written_whole_is_none() -> None:
    file = Recorded("log", bytes(events.SIZE), [])
    for number in (1, 2):
        EventLog(file).add(Event(provider="EventLog", id=number, at=1.0))
    file.content[2 * events.SECTOR + 100] ^= 1
    assert [one.id for one in EventLog(file).since(0.0)] == [1]


def test_events_are_grouped_by_what_they_are() -> None:
    told = grouped(
        (
            Event(provider="Ntfs", id=98, at=2.0, data={"CorruptionActionState": 0}),
            Event(provider="Ntfs", id=98, at=1.0, data={"CorruptionActionState": 0}),
            Event(provider="Ntfs", id=98, at=3.0, data={"CorruptionActionState": 2}),
        )
    )
    assert [(one["count"], one["first_at"], one["data"]) for one in told] == [
        (2, "1970-01-01T00:00:01.000000Z", {"CorruptionActionState": 0}),
        (1, "1970-01-01T00:00:03.000000Z", {"CorruptionActionState": 2}),
    ]


def test_the_certificate_is_made_once_and_made_again_where_it_is_spoiled() -> None:
    file = Recorded("winrm.pem", bytes(storage.PAGE), [])
    first = certificate.kept(file, hostname="win")
    assert certificate.kept(file, hostname="other") == first
    file.content[300:340] = bytes(40)
    second = certificate.kept(file, hostname="win")
    assert isinstance(second, Certificate)
    assert second != first
    assert certificate.kept(file, hostname="win") == second


def test_the_certificate_is_made_again_where_its_key_is_another_ones() -> None:
    files = [Recorded("winrm.pem", bytes(storage.PAGE), []) for _ in range(2)]
    one, two = (certificate.kept(file, hostname="win") for file in files)
    files[0].content[:] = (one.certificate + two.key).ljust(storage.PAGE, b"\0")
    assert certificate.kept(files[0], hostname="win").certificate not in (one.certificate, two.certificate)


def test_a_stop_screen_names_its_code_on_all_consoles_and_stays(tmp_path: Path) -> None:
    consoles = [str(tmp_path / name) for name in ("serial", "screen")]
    why = Stop(code=0x74, name="BAD_SYSTEM_CONFIG_INFO", words="The registry cannot load the hive.")
    thread = threading.Thread(target=screen.stop, args=(why,), kwargs={"consoles": consoles}, daemon=True)
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    for console in consoles:
        assert "*** STOP: 0x00000074 (BAD_SYSTEM_CONFIG_INFO)" in Path(console).read_text()


@pytest.mark.parametrize(
    ("events_", "pressed"),
    [([(1, 116, 1)], True), ([(1, 116, 0), (0, 0, 0)], False), ([(1, 28, 1)], False),
     ([(1, 28, 1), (1, 116, 1)], True)],
)  # fmt: skip
def test_only_the_power_key_going_down_is_the_button(
    events_: list[tuple[int, int, int]], pressed: bool, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "event0")
    asked: list[int] = []

    def enough() -> bool:
        asked.append(1)
        return len(asked) > 2

    reader = os.open(tmp_path / "event0", os.O_RDWR)
    try:
        os.write(reader, b"".join(struct.pack("@llHHi", 0, 0, *one) for one in events_))
        button.wait_for_press(enough, devices=tmp_path)
    finally:
        os.close(reader)
    assert (len(asked) < 3) is pressed


def test_a_machine_is_read_from_sysfs(tmp_path: Path) -> None:
    files = {
        "class/dmi/id/board_asset_tag": "i-0abc\n",
        "class/dmi/id/sys_vendor": "QEMU",
        "block/nvme10n1/device/serial": "vol0late",
        "block/nvme10n1/size": "2048",
        "block/nvme1n1/device/serial": "vol0early  ",
        "block/nvme1n1/size": "4096",
        "block/nvme1n1/queue/write_cache": "write back",
        "block/loop0/size": "8",
    }
    for name, content in files.items():
        (tmp_path / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / name).write_text(content)
    (tmp_path / "told").mkdir()
    (tmp_path / "told/hostname").write_text("win-1")
    machine = ThisMachine(sys=tmp_path / "sys", told=tmp_path / "told")
    assert (machine.asset_tag, machine.hostname, machine.told("setup")) == ("i-0abc", "win-1", "")
    assert machine.board == {"sys_vendor": "QEMU", "product_name": "", "bios_vendor": ""}
    assert [(one.number, one.serial, one.path, one.size, one.write_cache) for one in machine.disks()] == [
        (0, "vol0early", "/dev/nvme1n1", 4096 * 512, True),
        (1, "vol0late", "/dev/nvme10n1", 2048 * 512, None),
    ]
    assert machine.booted == machine.booted


def test_a_file_is_written_in_place_and_keeps_its_size(tmp_path: Path) -> None:
    storage.make(tmp_path / "a/b", b"x", size=5000)
    file = storage.File(tmp_path / "a/b")
    file.write(4090, b"0123456789")
    file.flush()
    assert (file.size, file.read(4088, 14), file.read(8190, 100)) == (
        8192,
        b"\0\0" + b"0123456789" + b"\0\0",
        b"\0\0",
    )
    file.close()
    assert json.dumps({"size": (tmp_path / "a/b").stat().st_size}) == '{"size": 8192}'
