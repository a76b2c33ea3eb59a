import json
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from drtest.errors import DeadlineError, EnvironmentFailedError, UsageError
from drtest.lab import apt, debian, images, tools
from drtest.lab.disks import Layer
from drtest.lab.images import Image

ARCHIVE = "/usr/share/keyrings/debian-archive-keyring.gpg"


@pytest.fixture(autouse=True)
def cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test that does not want the real image."""
    if "linux_image" not in request.fixturenames:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "drtest" / "images"


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, mmdebstrap: str) -> None:
    """Have programs in front of the system's that do what a test wants instead of a build's work."""
    programs = folder / "programs"
    programs.mkdir()
    scripts = {"mmdebstrap": mmdebstrap, "fakeroot": "exit 0", "mkfs.fat": 'truncate -s 1M "$4"'}
    scripts |= {"mcopy": "exit 0", "syslinux": "exit 0", "qemu-img": 'echo disk >"$7"'}
    for name, script in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


QUICK = """
for word; do case $word in
    *"download /tmp/taken/packages "*) echo 'bash 5.2' >"${word##* }" ;;
    *"download /tmp/taken/vmlinuz "*) echo kernel >"${word##* }" ;;
esac; done
echo "Get:1 something"; echo "Unpacking something"; echo "Setting up something"
"""
"""What mmdebstrap leaves, without its work."""


def test_a_build_ends_in_the_cache_with_what_went_into_it(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, tmp_path, QUICK)
    assert images.cached("linux") is None
    told: list[tuple[str, float]] = []
    image = images.build("linux", progress=lambda stage, fraction: told.append((stage, fraction)))
    assert image == images.cached("linux")
    assert image.layer.parent.parent == cache
    assert image.layer.read_text() == "disk\n"
    assert json.loads((image.layer.parent / "image.json").read_text())["packages"] == {"bash": "5.2"}
    assert "mmdebstrap --mode=" in (image.layer.parent / "build.log").read_text()
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert told[-1] == ("done", 1.0)
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []


def test_the_second_time_nothing_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tmp_path, QUICK)
    first = images.build("linux")
    pretend_failure = tmp_path / "programs" / "mmdebstrap"
    pretend_failure.write_text("#!/bin/sh\nexit 1\n")
    assert images.build("linux") == first


def test_a_failure_has_the_end_of_the_log_and_its_path_and_leaves_no_image(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, tmp_path, "echo 'E: Unable to fetch some archives' >&2; exit 100")
    with pytest.raises(EnvironmentFailedError) as raised:
        images.build("linux")
    assert "mmdebstrap failed with exit code 100" in raised.value.seen
    assert "Unable to fetch some archives" in raised.value.seen
    log = next(cache.glob("*.failed.log"))
    assert str(log) in raised.value.remedy
    assert "Unable to fetch some archives" in log.read_text()
    assert images.cached("linux") is None
    assert [path for path in cache.iterdir() if path.is_dir()] == []


def test_a_tool_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, **_: None)
    with pytest.raises(EnvironmentFailedError, match="mmdebstrap is not installed") as raised:
        images.build("linux")
    assert "lab install" in raised.value.remedy


def running(marker: str) -> list[str]:
    """Find the processes that have a marker in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if marker in words:
            found.append(words)
    return found


def test_a_tool_that_says_nothing_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, tmp_path, "echo begun; sleep 77.123 & exec sleep 77.123")
    monkeypatch.setattr(tools, "SILENCE_SECONDS", 0.5)
    with pytest.raises(DeadlineError, match="mmdebstrap did not get done in time"):
        images.build("linux")
    assert running("sleep\x0077.123") == []


def test_a_build_that_is_killed_leaves_nothing_that_looks_finished(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, tmp_path, "exec sleep 77.456")
    program = "from drtest.lab import images; images.build('linux')"
    with subprocess.Popen([sys.executable, "-c", program]) as builder:
        while not running("sleep\x0077.456"):
            assert builder.poll() is None
        builder.kill()
    end = time.monotonic() + 10
    while running("sleep\x0077.456"):
        assert time.monotonic() < end, "what the build had started outlived it"
    assert list(cache.glob(".linux-*")) != []
    assert images.cached("linux") is None
    (tmp_path / "programs" / "mmdebstrap").write_text(f"#!/bin/sh\n{QUICK}")
    images.build("linux")
    assert list(cache.glob(".linux-*")) == []


def test_a_folder_in_which_something_is_mounted_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "tree" / "proc"
    place.mkdir(parents=True)
    (place / "file").touch()
    real = Path.read_text

    def read_text(path: Path, *arguments: str, **options: str) -> str:
        if path == Path("/proc/self/mountinfo"):
            return f"36 35 98:0 / {place} ro - proc proc ro\n"
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    with pytest.raises(EnvironmentFailedError, match="something is mounted"):
        tools.remove(tmp_path / "tree")
    assert (place / "file").exists()


def test_two_builders_build_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tmp_path, f"echo once >>{tmp_path}/builds; sleep 1; {QUICK}")
    found: list[Image] = []
    waited: list[str] = []

    def build() -> None:
        found.append(images.build("linux", progress=lambda stage, _: waited.append(stage)))

    builders = [threading.Thread(target=build) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(60)
    assert len(found) == 2
    assert found[0] == found[1]
    assert (tmp_path / "builds").read_text() == "once\n"
    assert "another drtest is building this image" in waited


def test_an_unknown_image_is_refused_with_the_known_ones() -> None:
    for attempt in (images.recipe_hash, images.cached, images.build):
        with pytest.raises(UsageError, match="no image 'solaris'") as raised:
            attempt("solaris")
        assert "linux" in raised.value.remedy


def test_the_hash_is_of_what_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    before = images.recipe_hash("linux")
    assert before == images.recipe_hash("linux")
    monkeypatch.setattr(debian, "PACKAGES", (*debian.PACKAGES, "cowsay"))
    assert images.recipe_hash("linux") != before


def host(etc: Path, *, release: str, files: dict[str, str]) -> Path:
    (etc / "apt" / "sources.list.d").mkdir(parents=True)
    (etc / "os-release").write_text(release)
    for name, text in files.items():
        (etc / "apt" / name).write_text(text)
    return etc


DEBIAN_12 = 'ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'


def test_a_debian_12_is_asked_for_its_own_mirrors(tmp_path: Path) -> None:
    files = {
        "sources.list": "# old\ndeb http://mirror.example/debian bookworm main contrib # local\n"
        "deb-src http://mirror.example/debian bookworm main\n"
        "deb cdrom:[Debian]/ bookworm main\n",
        "sources.list.d/security.sources": "Types: deb\n# comment\nURIs: http://mirror.example/security\n"
        f"Suites: bookworm-security\nComponents: main\nSigned-By: {ARCHIVE}\n\n"
        "Types: deb\nEnabled: no\nURIs: http://off.example\nSuites: bookworm\nComponents: main\n",
    }
    assert apt.sources("bookworm", etc=host(tmp_path, release=DEBIAN_12, files=files)) == (
        "deb http://mirror.example/debian bookworm main",
        f"deb [signed-by={ARCHIVE}] http://mirror.example/security bookworm-security main",
    )


def test_packages_of_others_are_left_out(tmp_path: Path) -> None:
    files = {
        "sources.list": "deb [trusted=yes] http://mirror.example/debian bookworm main\n",
        "sources.list.d/docker.list": "deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.asc] "
        "https://download.docker.com/linux/debian bookworm stable\n",
        "sources.list.d/hashi.list": "deb [signed-by=/usr/share/keyrings/hashi.gpg] https://h.example bookworm main\n",
        "sources.list.d/old.list.disabled": "deb http://disabled.example bookworm main\n",
        "sources.list.d/backports.list": "deb http://mirror.example/debian bookworm-backports main\n",
    }
    assert apt.sources("bookworm", etc=host(tmp_path, release=DEBIAN_12, files=files)) == (
        "deb [trusted=yes] http://mirror.example/debian bookworm main",
    )


@pytest.mark.parametrize(
    "release", ["ID=ubuntu\nVERSION_CODENAME=noble\n", "ID=debian\nVERSION_CODENAME=trixie\n", ""]
)
def test_another_system_gets_debian_from_its_own_mirrors_with_its_own_keys(
    tmp_path: Path, release: str
) -> None:
    files = {"sources.list": "deb http://archive.ubuntu.com/ubuntu noble main\n"}
    found = apt.sources("bookworm", etc=host(tmp_path, release=release, files=files))
    assert found[0] == f"deb [signed-by={ARCHIVE}] http://deb.debian.org/debian bookworm main"
    assert [line.split()[3] for line in found] == ["bookworm", "bookworm-updates", "bookworm-security"]


def test_proxies_and_dates_are_taken_over_and_nothing_else() -> None:
    dump = 'APT "";\nAcquire::http::Proxy "http://proxy:3142";\nAcquire::Check-Valid-Until "false";\n'
    dump += 'Acquire::IndexTargets::deb::DEP-11 "";\nAcquire::https "";\nDPkg::Post-Invoke:: "rm -rf /";\n'
    assert apt.options(dump) == (
        'Acquire::http::Proxy "http://proxy:3142"',
        'Acquire::Check-Valid-Until "false"',
    )


@pytest.mark.lab
def test_the_linux_image_boots_from_its_own_disk_alone(linux_image: Image, tmp_path: Path) -> None:
    assert linux_image.size == Layer(linux_image.layer).size
    assert linux_image.size % 1024**3 == 0
    assert linux_image.layer.stat().st_mode & 0o222 == 0
    raw = tmp_path / "sector"
    subprocess.run(
        [
            "qemu-img",
            "dd",
            "-f",
            "qcow2",
            "-O",
            "raw",
            f"if={linux_image.layer}",
            f"of={raw}",
            "bs=512",
            "count=1",
        ],
        check=True,
    )
    sector = raw.read_bytes()
    assert sector[510:512] == b"\x55\xaa"
    entries = [struct.unpack("<B3xB3xII", sector[at : at + 16]) for at in (446, 462, 478, 494)]
    assert [(active, kind) for active, kind, _, _ in entries] == [(0x80, 0x0E), (0, 0x83), (0, 0), (0, 0)]
    (_, _, loader, length), (_, _, root, rest) = entries[:2]
    assert loader + length == root
    assert (root + rest) * 512 == linux_image.size


@pytest.mark.lab
def test_what_is_in_the_linux_image_is_written_down(linux_image: Image) -> None:
    packages = json.loads((linux_image.layer.parent / "image.json").read_text())["packages"]
    assert set(debian.PACKAGES) <= set(packages)
