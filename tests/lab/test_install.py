import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from drtest.errors import EnvironmentFailedError
from drtest.lab import install
from drtest.lab.install import PACKAGES, Package

FAKE = Package(name="qemu-fake", why="pretends to run machines", needs="drtest-no-such-program")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only one in which programs are found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(install, "PATHS", ())
    return folder


def put(folder: Path, name: str) -> None:
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)


def test_a_program_that_is_there_is_not_missing_from_whatever_package_it_came(programs: Path) -> None:
    put(programs, "qemu-img")
    missing = {package.name for package in install.missing()}
    assert "qemu-utils" not in missing
    assert {"qemu-system-x86", "mmdebstrap", "uidmap"} <= missing


def test_a_file_that_cannot_be_run_is_no_program(programs: Path) -> None:
    (programs / "qemu-img").write_text("")
    assert "qemu-utils" in {package.name for package in install.missing()}


def test_the_plan_names_each_package_with_its_reason_and_the_command() -> None:
    text = install.plan(PACKAGES)
    for package in PACKAGES:
        assert package.name in text
        assert package.why in text
    assert "apt-get install" in text


def test_the_plan_of_nothing_says_that_all_is_there() -> None:
    assert install.plan(()) == "All that the lab needs from the system is installed."


@pytest.mark.parametrize(("uid", "prefix"), [(0, []), (1000, ["sudo"])])
def test_packages_are_installed_by_apt_get_as_root_or_by_sudo(
    programs: Path, monkeypatch: pytest.MonkeyPatch, uid: int, prefix: list[str]
) -> None:
    for name in ("apt-get", "sudo"):
        put(programs, name)
    monkeypatch.setattr("os.geteuid", lambda: uid)
    ran: list[list[str]] = []

    def run(argv: Sequence[str], say: Callable[[str], None]) -> int:
        ran.append(list(argv))
        if "install" in argv:
            put(programs, FAKE.needs)
        return 0

    install.install([FAKE], run=run)
    assert [argv[: len(prefix)] for argv in ran] == [prefix, prefix]
    assert ran[0][-1] == "update"
    assert ran[1][-4:] == ["install", "--yes", "--no-install-recommends", FAKE.name]


def test_lists_that_cannot_be_fetched_do_not_end_it(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(programs, "apt-get")
    monkeypatch.setattr("os.geteuid", lambda: 0)

    def run(argv: Sequence[str], say: Callable[[str], None]) -> int:
        if "update" in argv:
            return 100
        put(programs, FAKE.needs)
        return 0

    install.install([FAKE], run=run)
    assert FAKE.present


def test_nothing_is_run_if_nothing_is_missing() -> None:
    def run(argv: Sequence[str], say: Callable[[str], None]) -> int:
        raise AssertionError(f"{argv} was run")

    install.install([], run=run)


def test_without_apt_get_the_error_says_what_is_needed(programs: Path) -> None:
    with pytest.raises(EnvironmentFailedError) as raised:
        install.install([FAKE])
    assert "apt-get" in raised.value.seen
    assert FAKE.needs in raised.value.remedy


def test_without_sudo_the_error_has_the_exact_command(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(programs, "apt-get")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(EnvironmentFailedError) as raised:
        install.install([FAKE])
    assert "sudo apt-get install --yes --no-install-recommends qemu-fake" in raised.value.remedy


@pytest.mark.parametrize("code", [100, 0])
def test_a_package_that_did_not_come_is_an_error_with_the_command(
    programs: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    put(programs, "apt-get")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(EnvironmentFailedError) as raised:
        install.install([FAKE], run=lambda argv, say: code)
    assert "apt-get install --yes --no-install-recommends qemu-fake" in raised.value.remedy


def test_what_apt_get_says_is_told_line_by_line(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (programs / "apt-get").write_text('#!/bin/sh\necho "$*"\necho Fehler >&2\n')
    (programs / "apt-get").chmod(stat.S_IRWXU)
    (programs / "env").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    (programs / "env").chmod(stat.S_IRWXU)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    said: list[str] = []
    with pytest.raises(EnvironmentFailedError, match="still not there"):
        install.install([FAKE], say=said.append)
    assert any(line.endswith("install --yes --no-install-recommends qemu-fake") for line in said)
    assert said.count("Fehler") == 2
