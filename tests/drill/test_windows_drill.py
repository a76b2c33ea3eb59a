"""A drill of a Windows server without machines: on a good day, and on the bad days that only Windows has."""

from typing import Any

import pytest

from drtest.cloud.logins import LocalLogin, WindowsLogin
from drtest.drill.engine import Engine
from drtest.errors import EnvironmentFailedError
from drtest.guest.transport import AnswerError, UnreachableError
from drtest.record import journal
from drtest.words import Os
from tests.drill.kit.days import Day, answers, both, crowd, judge, manners, raises, says
from tests.drill.kit.selected import selecting, server
from tests.drill.kit.windows import PASSWORD, WindowsNetwork
from tests.drill.kit.world import SCENARIO, Ran, World, scenario

SERVER: dict[str, Any] = {
    "name": "win",
    "os": "windows",
    "launch": {"image": "windows", "volumes": {"data": {"size": "1GiB", "mount": "E:"}}},
}
CHECKS = ["boot", "filesystem", "canary", "events"]
HURRIED = {"boot": "3s"}
PATIENT = dict.fromkeys(SCENARIO["deadlines"], "60s")


def windows(**changes: Any) -> dict[str, Any]:
    """The scenario with a Windows server in place of the Linux one."""
    return scenario(**{"servers": [SERVER], "checks": CHECKS, "deadlines": PATIENT, **changes})


# A good day


@pytest.fixture(scope="module")
def good(shared: World) -> Ran:
    shared.reset()
    return shared.run(windows(captures=["running", "stopped"], trials=2), engine=Engine)


def test_it_ends_usable_and_leaves_nothing(good: Ran, shared: World) -> None:
    wanted = {"running": "RECOVERED", "stopped": "CONSISTENT"}
    assert good.verdicts == {
        f"win/{volume}/{capture}/{trial}": verdict
        for volume in ("root", "data")
        for capture, verdict in wanted.items()
        for trial in (1, 2)
    }, [cell["reason"] for cell in good.results["cells"]]
    assert {cell["assurance"] for cell in good.results["cells"]} == {"canary"}
    assert shared.left() == []


def test_a_restored_windows_is_known_by_its_sources_certificate(good: Ran) -> None:
    source = good.of("baseline.system")[0].data["host_key"]
    assert source.startswith("x509-sha256 ")
    copies = good.of("boot.identity")
    assert len(copies) == 4
    for copy in copies:
        assert copy.data["host_key"] == source
        assert copy.data["host_key_origin"] == "console"


def test_its_scratch_instance_is_used_again_from_trial_to_trial_and_its_helper_is_a_windows(
    good: Ran, shared: World
) -> None:
    assert len({one.data["instance"] for one in good.of("boot.attempt")}) == 1
    launched = [form for action, form in shared.weather.calls if action == "RunInstances"]
    images = {_purpose(form): form["ImageId"] for form in launched}
    target = shared.target
    assert images == {
        "source": target.images["windows"].id,
        "helper": target.helper_images[Os.WINDOWS].id,
        "scratch": target.scratch_images[Os.WINDOWS].id,
    }
    assert len(launched) == 3


def test_its_password_stands_in_nothing_that_a_run_leaves(good: Ran) -> None:
    files = [file for file in good.folder.path.rglob("*") if file.is_file()]
    assert len(files) > 10
    assert not [file for file in files if PASSWORD.encode() in file.read_bytes()]
    assert journal.verify(good.folder.path / "evidence.jsonl").broken_at is None


def _purpose(form: dict[str, str]) -> str:
    return next(value.rpartition("/")[2] for value in form.values() if value.count("/") == 2)


# Bad days

LOST = UnreachableError("127.0.0.1:5986: its WinRM service was started anew")
NO_END = AnswerError("127.0.0.1:5986 gave only half of an answer (exit 0, 4711 bytes)")
STOP = "*** STOP: 0x00000074 (BAD_SYSTEM_CONFIG_INFO)\n"
ANOTHER = "x509-sha256 " + "0" * 64


def broken(name: str) -> dict[str, Any]:
    return {"name": name, "exit": 1, "dirty": True, "regf": True, "error": ""}


SILENT = {
    "never-boots": Day(
        arrange=manners("copy", answers=False),
        root="UNREACHABLE",
        data="RECOVERED",
        says="could not be asked within 3.0 s, and nothing on its console says that it failed to boot",
    ),
    "stops": Day(
        arrange=manners("copy", answers=False, console=STOP),
        root="UNBOOTABLE",
        data="RECOVERED",
        says="does not boot: its console says .*STOP: 0x00000074",
    ),
    "copy-with-another-certificate": Day(
        arrange=manners("copy", host_key=ANOTHER),
        root="UNREACHABLE",
        data="RECOVERED",
        says="the certificate at .* is not accepted; it shows 0000",
    ),
    "source-with-another-certificate": Day(
        arrange=manners("source", host_key=ANOTHER),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="the certificate at .* is not accepted; it shows 0000",
    ),
    "source-never-boots": Day(
        arrange=manners("source", answers=False),
        root="UNREACHABLE",
        data="UNREACHABLE",
        says="did not answer by WinRM",
    ),
    "helper-never-boots": Day(
        arrange=manners("helper", answers=False),
        root="UNREACHABLE",
        data="UNREACHABLE",
        says="did not answer by WinRM",
    ),
    "source-refuses": Day(
        arrange=manners("source", refuses="the account is locked"),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="refused the login: the account is locked",
    ),
    "copy-refuses": Day(
        arrange=manners("copy", refuses="the account is locked"),
        root="UNREACHABLE",
        data="RECOVERED",
        says="refused the login: the account is locked",
    ),
}

ANSWERING = {
    "another-asset-tag": Day(
        arrange=says("copy", "boot.identity", asset_tag="i-0123456789abcdef0"),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="not the machine that was restored: it is i-0123456789abcdef0, not the scratch instance",
    ),
    "another-root-serial": Day(
        arrange=says("copy", "boot.identity", root_serial="vol0123", root_serials="vol0123"),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="not the machine that was restored: its root is vol0123",
    ),
    "lost-in-load": Day(
        arrange=raises("source", "windows_load", LOST),
        root="UNREACHABLE",
        data="UNREACHABLE",
        says="was started anew",
    ),
    "lost-in-offline": Day(
        arrange=raises("helper", "windows_offline", LOST),
        root="UNREACHABLE",
        data="UNREACHABLE",
        says="was started anew",
    ),
    "no-sentinel-of-the-copy": Day(
        arrange=raises("copy", "windows_booted", NO_END),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="only half of an answer",
    ),
    "no-sentinel-of-the-helper": Day(
        arrange=raises("helper", "windows_offline", NO_END),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="only half of an answer",
    ),
    "no-json": Day(
        arrange=answers("helper", "windows_offline", b"Willkommen bei Windows\n"),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="an answer that is no JSON",
    ),
    "another-shape": Day(
        arrange=answers("copy", "windows_booted", b'{"seen": [{"probe": "boot.identity"}]}'),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="the answer of windows_booted has another shape",
    ),
    "hive-beyond-recovery": Day(
        arrange=says("helper", "filesystem.check", hives=[broken("SYSTEM")]),
        root="INCONSISTENT",
        data="RECOVERED",
        says="the registry hive SYSTEM can't be loaded",
    ),
    "hibernates": Day(
        arrange=says("source", "baseline.system", hibernation=True),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="has hibernation enabled.*powercfg /hibernate off",
    ),
    "bitlocker": Day(
        arrange=says("source", "baseline.system", bitlocker="C:"),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="BitLocker protects C: of server bitlocker.*manage-bde",
    ),
    "clock-a-year-ahead": Day(
        arrange=both(
            says("source", "baseline.system", clock=2.0e9),
            says("copy", "boot.identity", clock=2.0e9 + 365 * 86400),
        ),
        root="RECOVERED",
        data="RECOVERED",
    ),
}


@pytest.fixture(scope="module")
def silent(shared: World) -> Ran:
    ran = crowd(shared, SILENT, server=SERVER, checks=CHECKS, deadlines=HURRIED)
    assert shared.left() == []
    return ran


@pytest.fixture(scope="module")
def answering(shared: World) -> Ran:
    ran = crowd(shared, ANSWERING, server=SERVER, checks=CHECKS, deadlines=PATIENT)
    assert shared.left() == []
    return ran


@pytest.mark.parametrize("name", SILENT)
def test_a_windows_that_does_not_answer(name: str, silent: Ran) -> None:
    judge(silent, name, SILENT[name])


@pytest.mark.parametrize("name", ANSWERING)
def test_a_windows_that_answers_otherwise(name: str, answering: Ran) -> None:
    judge(answering, name, ANSWERING[name])


def test_a_windows_that_does_not_boot_is_not_booted_again_with_blank_volumes(silent: Ran) -> None:
    tries = [one.data["with"] for one in silent.of("boot.attempt") if one.server in ("never-boots", "stops")]
    assert tries == ["data volumes"] * 2


# What is refused before anything is done


def test_a_scratch_instance_that_stops_with_the_same_screen_in_each_trial_is_believed_in_each(
    world: World,
) -> None:
    manners("copy", answers=False, console=STOP)(world, "win")
    ran = world.run(windows(volumes=["root"], trials=2, deadlines={**PATIENT, **HURRIED}))
    assert set(ran.verdicts.values()) == {"UNBOOTABLE"}, ran.results["cells"]
    assert all("STOP: 0x00000074" in cell["reason"] for cell in ran.results["cells"])


def test_a_helper_from_the_sources_own_image_is_refused_before_anything_is_launched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = {**world.target.helper_images, Os.WINDOWS: world.target.images["windows"]}
    monkeypatch.setattr(world, "target", world.target.model_copy(update={"helper_images": same}))
    ran = world.run(windows())
    assert ran.code == 3
    reason = ran.reason("win/root/running/1")
    assert "come from one image" in reason
    assert "Name another image in [targets.world.helper_images] windows" in reason
    assert "RunInstances" not in world.weather.actions()


@pytest.mark.parametrize("says", [{"bitlocker": ["C:", "E:"]}, {"hibernation": True}])
def test_nothing_is_written_to_a_selected_windows_whose_copies_could_not_be_read(
    says: dict[str, Any], world: World
) -> None:
    name = f"kept-{next(iter(says))}"
    instance = server(world, name, os=Os.WINDOWS)
    world.guests("source").says = {"baseline.system": lambda data: {**data, **says}}
    ran = world.run(windows(servers=[selecting(name, os=Os.WINDOWS)]))
    assert ran.code == 3
    assert ran.of("baseline.system")
    assert not ran.of("prepare.volume")
    assert "CreateSnapshots" not in world.weather.actions()
    assert world.state(instance) == "running"
    assert world.left() == []


def test_a_selected_windows_is_proven_stopped_and_running_and_runs_again(world: World) -> None:
    instance = server(world, "owned", os=Os.WINDOWS)
    ran = world.run(windows(servers=[selecting("owned", os=Os.WINDOWS)], captures=["running", "stopped"]))
    assert {cell: verdict for cell, verdict in ran.verdicts.items() if "/root/" in cell} == {
        "owned/root/running/1": "RECOVERED",
        "owned/root/stopped/1": "CONSISTENT",
    }
    assert world.state(instance) == "running"
    assert world.left() == []


# Logins of a domain, for selected servers alone


def by_domain(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the target log in to selected servers by CredSSP, and to all others as before."""
    local = world.target.login_windows
    assert local.password is not None
    copies = LocalLogin(password=local.password, port=local.port, address=local.address)
    domain = WindowsLogin(
        auth="credssp",
        user="EXAMPLE\\drtest",
        password=local.password,
        port=local.port,
        address=local.address,
        copies=copies,
    )
    logins = world.target.login.model_copy(update={"windows": domain})
    monkeypatch.setattr(world, "target", world.target.model_copy(update={"login": logins}))


def test_a_selected_windows_is_logged_in_to_by_its_domain_and_its_copies_by_their_own_account(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    server(world, "joined", os=Os.WINDOWS)
    by_domain(world, monkeypatch)
    monkeypatch.setattr("winrm.transport.HAVE_CREDSSP", True)
    ways: dict[str, set[tuple[str, str]]] = {}

    def connect(address: str, *, user: str, auth: str, **how: Any) -> Any:
        ways.setdefault(address, set()).add((auth, user))
        return WindowsNetwork(world.machines).connect(address, user="Administrator", auth="ntlm", **how)

    monkeypatch.setattr("drtest.drill.login.connect_by_winrm", connect)
    ran = world.run(windows(servers=[selecting("joined", os=Os.WINDOWS)]))
    assert ran.verdicts["joined/root/running/1"] == "RECOVERED", ran.reason("joined/root/running/1")
    source, *others = ways.values()
    assert source == {("credssp", "EXAMPLE\\drtest")}
    assert others == [{("ntlm", "Administrator")}] * 2


def test_a_package_that_the_login_needs_is_missed_before_anything_is_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_domain(world, monkeypatch)
    monkeypatch.setattr("winrm.transport.HAVE_CREDSSP", False)
    with pytest.raises(EnvironmentFailedError, match="requests-credssp"):
        world.run(windows(servers=[selecting("joined", os=Os.WINDOWS)]))
    assert "RunInstances" not in world.weather.actions()
    # What the run launches itself is in no domain, and needs no such package.
    ran = world.run(windows())
    assert ran.verdicts["win/root/running/1"] == "RECOVERED", ran.reason("win/root/running/1")


# Certificates that the target vouches for


@pytest.mark.parametrize("way", ["fingerprint", "ca"])
def test_a_windows_whose_console_shows_no_certificate_is_known_by_the_target(
    way: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on AWS, where an image made beforehand prints nothing: source and helper have the one of the image.
    baked = "ab" * 32
    ca = world.folder / "house-ca.pem"
    ca.write_text(f"it stands for {baked}")
    monkeypatch.setattr("tests.drill.kit.disks.CONSOLE_SHOWS_CERTIFICATES", False)
    monkeypatch.setattr("tests.drill.kit.disks.new_certificate", lambda: f"x509-sha256 {baked}")
    vouching = world.target.login_windows.model_copy(
        update={"fingerprint": baked} if way == "fingerprint" else {"ca": str(ca)}
    )
    logins = world.target.login.model_copy(update={"windows": vouching})
    monkeypatch.setattr(world, "target", world.target.model_copy(update={"login": logins}))
    ran = world.run(windows())
    assert ran.verdicts["win/root/running/1"] == "RECOVERED", ran.reason("win/root/running/1")
    assert ran.of("boot.identity")[0].data["host_key_origin"] == "source"


def test_a_windows_that_nothing_vouches_for_is_not_logged_in_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.drill.kit.disks.CONSOLE_SHOWS_CERTIFICATES", False)
    ran = world.run(windows(deadlines={"boot": "1s"}))
    assert ran.verdicts["win/root/running/1"] == "UNREACHABLE"
    assert "no certificate of it is known" in ran.reason("win/root/running/1")
    assert world.left() == []
