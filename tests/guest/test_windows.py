"""Windows from the inside: visits and loads against the stand-in's service, and the shapes of their answers."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from drtest.guest import canary, powershell, windows, windows_answers, winrm
from drtest.guest.canary import AckLog, Recorder
from drtest.guest.linux import CanaryPlace, VolumeToPrepare
from drtest.guest.transport import AnswerError
from drtest.guest.winrm_shells import WinrmGuest
from drtest.lab.winrm.probes import Probes
from drtest.lab.winrm.shells import Command
from tests.guest.windows_world import CERTIFICATE, HASHES, SERIAL, World, offline, one, saw
from tests.lab.winrm.stand_in import PASSWORD, USER, serving


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def guest(world: World, tmp_path: Path) -> Iterator[WinrmGuest]:
    with (
        serving(tmp_path, probes=world.probes(), certificate=CERTIFICATE) as service,
        winrm.connect(
            "127.0.0.1",
            port=service.server_port,
            user=USER,
            password=PASSWORD,
            fingerprint=CERTIFICATE.fingerprint,
            deadline=10,
        ) as guest,
    ):
        yield guest


def test_the_baseline_has_linux_shapes_and_the_certificate_as_host_key(guest: WinrmGuest) -> None:
    data = one(windows.baseline(guest, deadline=20), "baseline.system")
    assert data["host_keys"] == [f"x509-sha256 {CERTIFICATE.fingerprint}"]
    assert data["stopped_units"] == ["gpsvc"]
    assert [(mount["target"], mount["path"]) for mount in data["mounts"]] == [("/", "C:\\"), ("D:\\", "D:\\")]


def test_a_visit_sends_its_arguments_and_keeps_a_reserve_of_the_deadline(
    guest: WinrmGuest, world: World
) -> None:
    windows.booted(guest, deadline=100, settle=7, scan=False)
    assert world.asked["windows_booted"] == {"settle": 7, "scan": False, "seconds": 90.0}


def test_the_canary_of_a_copy_has_ranges_and_a_time(guest: WinrmGuest) -> None:
    data = one(offline(guest), "canary.found", "root")
    assert (data["records"], data["metadata"], data["torn"]) == ([[0, 9]], [[0, 0]], [])
    assert data["last_at"] == "2026-01-01T00:00:00.000000Z"


def test_only_a_systems_volume_is_asked_for_its_registry(guest: WinrmGuest) -> None:
    seen = offline(guest)
    assert one(seen, "filesystem.check", "root")["tool"] == "chkdsk + reg load"
    assert one(seen, "filesystem.check", "data")["tool"] == "chkdsk"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, []), ("one", ["one"]), ([], []), ([1, 2], [1, 2]), ({"value": [1, 2], "Count": 2}, [1, 2]),
     ({"a": 1}, [{"a": 1}])],
)  # fmt: skip
def test_a_list_is_a_list_whatever_powershell_made_of_it(value: Any, expected: list[Any]) -> None:
    assert windows_answers.as_list(value) == expected


def test_an_odd_number_of_ends_is_no_answer(guest: WinrmGuest, world: World) -> None:
    world.data("windows_offline", "canary.found", "root")["records"] = [0, 3, 5]
    with pytest.raises(AnswerError, match="another shape"):
        offline(guest)


def test_a_probe_of_another_version_is_not_answered_by_the_stand_in(
    guest: WinrmGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = powershell.bundle
    monkeypatch.setattr(powershell, "bundle", lambda name: bundle(name) + "# newer\n")
    with pytest.raises(AnswerError, match="another version of the probe windows_baseline"):
        windows.baseline(guest, deadline=20)


# --- prepare and load


def test_a_volume_that_can_not_be_made_ready_says_why(guest: WinrmGuest, world: World) -> None:
    world.answers["windows_prepare"] = [saw("prepare.volume", {"error": "its first MiB is not zero"}, "data")]
    with pytest.raises(AnswerError, match="data: its first MiB is not zero"):
        windows.prepare(guest, volumes={"data": VolumeToPrepare(volume_id="vol-0d")}, records=9, deadline=20)


def places(guest: WinrmGuest, world: World) -> Mapping[str, CanaryPlace]:
    world.answers["windows_prepare"] = [
        saw(
            "prepare.volume",
            {"volume_id": f"vol-0{name}", "device": "x", "serial": f"vol0{name}", "made": False, "mount": letter,
             "filesystem": "ntfs", "uuid": SERIAL, "options": "rw", "directory": letter + ".drtest-canary",
             "inside": "/.drtest-canary", "capacity": 64},
            name,
        )
        for name, letter in (("root", "C:\\"), ("data", "D:\\"))
    ]  # fmt: skip
    volumes = {name: VolumeToPrepare(volume_id=f"vol-0{name}") for name in ("root", "data")}
    return windows.prepare(guest, volumes=volumes, records=64, deadline=20).places


def test_a_load_is_recorded_as_those_of_linux_are(guest: WinrmGuest, world: World, tmp_path: Path) -> None:
    where = places(guest, world)
    path = tmp_path / "acks.jsonl"
    with (
        windows.load(guest, places=where, series="ab" * 16, rate=50, seconds=30, deadline=30) as stream,
        AckLog(path, series="ab" * 16, volumes=list(where)) as log,
        Recorder(stream, log) as recorder,
    ):
        recorder.wait(10, deadline=10)
        assert recorder.stop(deadline=10)["records"] == 20
    told = canary.acknowledged(path, cut=datetime.now(UTC), volumes=["root", "data"])
    assert told["error"] == ""
    assert told["volumes"]["data"]["records"] == [[0, 9]]
    assert told["volumes"]["data"]["metadata"] == [[0, 0]]


def test_a_load_that_does_not_begin_says_what_came_instead(world: World, tmp_path: Path) -> None:
    def refuse(arguments: Mapping[str, Any], command: Command) -> None:
        command.write(b'end {"reason": "error: FileNotFoundException 0x80070002", "records": 0}\n')

    probes = Probes(streams={"windows_load": refuse}, hashes=HASHES)
    where = {
        "root": CanaryPlace(
            volume_id="v", directory="C:\\x", inside="/x", capacity=1, filesystem="ntfs", uuid=""
        )
    }
    with (
        serving(tmp_path, probes=probes, certificate=CERTIFICATE) as service,
        winrm.connect(
            "127.0.0.1",
            port=service.server_port,
            user=USER,
            password=PASSWORD,
            fingerprint=CERTIFICATE.fingerprint,
            deadline=10,
        ) as guest,
        pytest.raises(AnswerError, match=r"did not begin: .*FileNotFoundException"),
        windows.load(guest, places=where, series="ab" * 16, rate=1, seconds=1, deadline=10),
    ):
        pass
