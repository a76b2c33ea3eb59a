"""The whole way from a Windows guest's answers to the judge, which knows Linux' shapes alone."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from drtest.guest import windows, winrm
from drtest.guest.winrm_shells import WinrmGuest
from drtest.scenario.plan import Cell, Expected
from drtest.verdict.evidence import Copy, Judgement, Observation
from drtest.verdict.judge import judge
from drtest.words import USABLE, Capture, Os, Verdict
from tests.guest.windows_world import CERTIFICATE, World, offline
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


def cell(volume: str, capture: Capture) -> Cell:
    return Cell(
        id=f"win/{volume}/{capture}/1",
        scenario="story",
        server="win",
        os=Os.WINDOWS,
        volume=volume,
        capture=capture,
        trial=1,
        expected=Expected(text="usable", verdicts=USABLE),
    )


def verdict(
    guest: WinrmGuest, *, volume: str = "root", capture: Capture = Capture.RUNNING, acknowledged: int = 9
) -> Judgement:
    """The judge's word on a whole drill whose every guest is this one."""
    begun = datetime.now(UTC)
    state = "stopped" if capture is Capture.STOPPED else "running"
    told: list[tuple[Copy, str, str | None, Mapping[str, Any]]] = [
        (Copy.SOURCE, each.probe, each.volume, each.data) for each in windows.baseline(guest, deadline=20)
    ]
    told.append(
        (
            Copy.CLOUD,
            "capture",
            None,
            {
                "snapshots": {"root": "snap-r", "data": "snap-d"}, "devices": {},
                "volumes": {"root": "vol-0source", "data": "vol-0data"}, "source_state_before": state,
                "source_state_after": state, "completed": True, "atomic": True, "error": "",
                "requested_at": "2026-01-01T00:00:01Z", "returned_at": "2026-01-01T00:00:02Z",
            },
        )
    )  # fmt: skip
    volumes = {
        name: {"records": [[0, acknowledged]], "metadata": [[0, 0]], "last_at": None}
        for name in ("root", "data")
    }
    told.append(
        (
            Copy.RUNNER,
            "canary.acknowledged",
            None,
            {
                "record_bytes": 512,
                "cut": "2026-01-01T00:00:01Z",
                "stride": 2,
                "volumes": volumes,
                "error": "",
            },
        )
    )
    told += [(Copy.A, each.probe, each.volume, each.data) for each in offline(guest)]
    told.append(
        (
            Copy.CLOUD,
            "boot.attempt",
            None,
            {
                "instance": "i-0scratch", "with": "data volumes", "started_at": "2026-01-02T00:00:00Z",
                "running_at": "2026-01-02T00:00:05Z", "answered_at": "2026-01-02T00:01:00Z",
                "deadline_seconds": 900, "system_status": "ok", "instance_status": "ok", "console": "",
                "console_matches": [], "screenshot": "", "reachable": True, "error": "",
            },
        )
    )  # fmt: skip
    for each in windows.booted(guest, deadline=30):
        data = dict(each.data)
        if each.probe == "boot.identity":
            # What the drill adds: see drtest/drill/boot.py.
            data |= {
                "instance": "i-0scratch", "root_volume": "vol-0b", "host_key_origin": "source",
                "source_boot_id": "2026-01-01T00:00:00.000000Z",
            }  # fmt: skip
        told.append((Copy.B, each.probe, each.volume, data))
    observations = [
        Observation(
            probe=probe,
            server="win",
            copy=where,
            at=begun + timedelta(seconds=number),
            command="-",
            data=data,
            capture=None if where is Copy.SOURCE else capture,
            trial=None if where is Copy.SOURCE else 1,
            attempt="" if where is Copy.SOURCE else "a",
            volume=of,
            id=f"e{number:06d}",
        )
        for number, (where, probe, of, data) in enumerate(told, 1)
    ]
    return judge(
        cell(volume, capture),
        observations,
        volumes=("root", "data"),
        checks=("boot", "filesystem", "canary", "events"),
    )


def stopped(world: World) -> None:
    """What a clean shutdown leaves."""
    for volume in ("root", "data"):
        world.data("windows_offline", "filesystem.before", volume)["dirty_log"] = False
        world.data("windows_offline", "filesystem.replay", volume)["replayed"] = False
    world.data("windows_booted", "boot.events")["events"] = []


@pytest.mark.parametrize("volume", ["root", "data", "set"])
def test_a_running_copy_whose_log_was_replayed_is_recovered(guest: WinrmGuest, volume: str) -> None:
    judged = verdict(guest, volume=volume)
    assert judged.verdict is Verdict.RECOVERED, judged


@pytest.mark.parametrize("volume", ["root", "data"])
def test_a_stopped_copy_without_marks_is_consistent(guest: WinrmGuest, world: World, volume: str) -> None:
    stopped(world)
    judged = verdict(guest, volume=volume, capture=Capture.STOPPED)
    assert judged.verdict is Verdict.CONSISTENT, judged


def test_marks_of_an_unclean_shutdown_after_stopped_make_it_inconclusive(
    guest: WinrmGuest, world: World
) -> None:
    events = world.data("windows_booted", "boot.events")["events"]
    stopped(world)
    world.data("windows_booted", "boot.events")["events"] = events
    judged = verdict(guest, capture=Capture.STOPPED)
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "41" in judged.reason + " ".join(each.sentence for each in judged.findings)


@pytest.mark.parametrize(
    ("code", "expected"),
    [(0, Verdict.RECOVERED), (1, Verdict.INCONSISTENT), (2, Verdict.RECOVERED), (3, Verdict.INCONCLUSIVE),
     (None, Verdict.INCONCLUSIVE)],
)  # fmt: skip
def test_the_exit_code_of_chkdsk_alone_decides(
    guest: WinrmGuest, world: World, code: int | None, expected: Verdict
) -> None:
    """Its words are German here, and nobody reads them."""
    check = world.data("windows_offline", "filesystem.check", "root")
    check.update(exit=code, readonly_exit=3, tool="chkdsk /f")
    assert verdict(guest).verdict is expected


def test_a_hive_that_can_not_be_loaded_is_damage_and_named(guest: WinrmGuest, world: World) -> None:
    world.data("windows_offline", "filesystem.check", "root")["hives"][0]["exit"] = 1
    judged = verdict(guest)
    assert judged.verdict is Verdict.INCONSISTENT
    assert any("registry hive SYSTEM can't be loaded" in each.sentence for each in judged.findings)
    assert verdict(guest, volume="data").verdict is Verdict.RECOVERED


def test_a_hive_that_is_missing_is_damage(guest: WinrmGuest, world: World) -> None:
    del world.data("windows_offline", "filesystem.check", "root")["hives"][1]
    judged = verdict(guest)
    assert judged.verdict is Verdict.INCONSISTENT
    assert any("SOFTWARE is missing" in each.sentence for each in judged.findings)


def test_a_volume_that_does_not_mount_is_inconsistent(guest: WinrmGuest, world: World) -> None:
    world.data("windows_offline", "filesystem.replay", "root").update(
        exit=1, replayed=False, why="0x80070571"
    )
    assert verdict(guest).verdict is Verdict.INCONSISTENT


def test_a_lost_record_is_inconsistent_though_all_else_is_whole(guest: WinrmGuest) -> None:
    assert verdict(guest, acknowledged=12).verdict is Verdict.INCONSISTENT


@pytest.mark.parametrize(("state", "expected"), [(0, Verdict.RECOVERED), (2, Verdict.INCONSISTENT)])
def test_event_98_counts_by_its_state(guest: WinrmGuest, world: World, state: int, expected: Verdict) -> None:
    logged = world.data("windows_booted", "boot.events")["events"][1]
    logged.update(data={"CorruptionActionState": state}, drive="C:")
    assert verdict(guest).verdict is expected


def test_the_source_itself_is_never_taken_for_the_copy(guest: WinrmGuest, world: World) -> None:
    world.data("windows_booted", "boot.identity")["boot_id"] = "2026-01-01T00:00:00.000000Z"
    judged = verdict(guest)
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert any("its boot is the source's own" in each.sentence for each in judged.findings)


def test_a_service_that_fails_in_the_copy_alone_is_not_green(guest: WinrmGuest, world: World) -> None:
    world.data("windows_booted", "boot.system").update(state="degraded", failed_units="MSSQLSERVER")
    assert verdict(guest).verdict is Verdict.INCONCLUSIVE


def test_a_probe_that_could_not_look_is_never_a_pass(guest: WinrmGuest, world: World) -> None:
    for visit, probe, volume in (
        ("windows_offline", "filesystem.check", "root"),
        ("windows_offline", "canary.found", "root"),
        ("windows_booted", "boot.events", None),
        ("windows_booted", "boot.mounts", None),
    ):
        data = world.data(visit, probe, volume)
        whole = dict(data)
        data.clear()
        data["error"] = "Zugriff verweigert"
        assert verdict(guest).verdict is Verdict.INCONCLUSIVE, probe
        data.clear()
        data.update(whole)


def test_a_volume_that_mountvol_did_not_mount_is_not_known(guest: WinrmGuest, world: World) -> None:
    why = "RuntimeException 0x80131501: mountvol ended with : mountvol.exe did not end in 60 s"
    for probe in ("filesystem.replay", "filesystem.check", "canary.found"):
        data = world.data("windows_offline", probe, "root")
        data.clear()
        data["error"] = why
    judged = verdict(guest)
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert why in judged.reason


@pytest.mark.parametrize("stuck", ["SYSTEM", ["SYSTEM", "SAM"]])
def test_a_hive_that_was_not_given_back_taints_the_helper_and_no_verdict(
    guest: WinrmGuest, world: World, stuck: str | list[str]
) -> None:
    def tainted() -> int:
        [kernel] = [each for each in offline(guest) if each.probe == "helper.kernel"]
        return int(kernel.data["tainted"])

    assert tainted() == 0
    world.data("windows_offline", "helper.kernel")["stuck"] = stuck
    assert tainted() == 1
    assert verdict(guest).verdict is Verdict.RECOVERED


def test_the_drive_that_an_event_names_finds_its_way_to_the_volume(guest: WinrmGuest, world: World) -> None:
    world.data("windows_booted", "boot.events")["events"][1].update(id=55, drive="D:")
    assert verdict(guest).verdict is Verdict.RECOVERED
    assert verdict(guest, volume="data").verdict is Verdict.INCONSISTENT
