"""Visits: what is sent, what counts as an answer, and what is made of it."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from drtest.guest import linux, program
from drtest.guest.local import LocalGuest
from drtest.guest.transport import AnswerError, GuestDeadlineError, GuestError, LoginError, Result
from drtest.words import Filesystem

PROBES = sorted(Path(program.__file__).with_name("probes").glob("*.py"))
PROGRAMS = ("baseline", "prepare", "load", "helper", "offline", "booted")


class FakeGuest:
    """A guest that answers a visit as it is told to."""

    address = "10.0.0.1:22"
    host_key = "ssh-ed25519 AAAA"

    def __init__(self, answer: Callable[[str], Result]) -> None:
        self._answer = answer
        self.sent = b""

    def run(self, command: str, *, stdin: bytes = b"", deadline: float, limit: int = 0) -> Result:
        self.sent = stdin
        nonce = re.search(rb"'([0-9a-f]{32})'\)\s*$", stdin)
        assert nonce
        return self._answer(nonce.group(1).decode())

    def stream(self, command: str, *, stdin: bytes = b"", deadline: float) -> Any:
        raise AssertionError(f"no visit streams: {command}")

    def close(self) -> None:
        pass


def _said(stdout: str | bytes, stderr: str = "", code: int | None = 0) -> Callable[[str], Result]:
    def answer(nonce: str) -> Result:
        text = stdout.replace("NONCE", nonce).encode() if isinstance(stdout, str) else stdout
        return Result(exit=code, stdout=text, stderr=stderr.encode())

    return answer


def _document(document: object) -> str:
    return f"-----BEGIN DRTEST NONCE-----\n{json.dumps(document)}\n-----END DRTEST NONCE-----\n"


SEEN = {
    "probe": "boot.system",
    "volume": None,
    "command": "systemctl",
    "after": 2.5,
    "data": {"state": "running"},
}


def test_an_answer_is_found_between_its_sentinels_whatever_stands_around_it() -> None:
    guest = FakeGuest(_said("Welcome!\nLast login\n" + _document({"seen": [SEEN]}) + "bye\n"))
    begun = datetime.now(UTC)
    (seen,) = linux.booted(guest, deadline=10)
    assert (seen.probe, seen.data) == ("boot.system", {"state": "running"})
    assert timedelta(seconds=2) < seen.at - begun < timedelta(seconds=4)


@pytest.mark.parametrize(
    ("stdout", "stderr", "code", "error", "words"),
    [
        ("", "", 0, AnswerError, "no answer"),
        ("-----BEGIN DRTEST NONCE-----\n{", "", None, AnswerError, "half of an answer"),
        (b"\x00\xff\xfe" * 1000, "", 0, AnswerError, "no answer"),
        (_document({"seen": [SEEN]}).replace("NONCE", "0" * 32), "", 0, AnswerError, "no answer"),
        (
            "-----BEGIN DRTEST NONCE-----\nnot json\n-----END DRTEST NONCE-----\n",
            "",
            0,
            AnswerError,
            "no JSON",
        ),
        (_document([1, 2]), "", 0, AnswerError, "no JSON object"),
        (_document({"seen": [{"probe": "x"}]}), "", 0, AnswerError, "another shape"),
        (_document({"seen": 3}), "", 0, AnswerError, "another shape"),
        (_document({"error": "Traceback: it broke"}), "", 0, AnswerError, "it broke"),
        ("", "sudo: a password is required", 1, LoginError, "may not become root"),
        ("", "drtest: no python3", 127, AnswerError, "no python3"),
    ],
)
def test_what_is_no_answer_is_an_error_that_shows_it(
    stdout: str | bytes, stderr: str, code: int | None, error: type[GuestError], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        linux.booted(FakeGuest(_said(stdout, stderr, code)), deadline=10)
    assert "\x00" not in str(raised.value)


def test_the_identity_of_a_booted_copy_has_the_host_key_that_answered() -> None:
    identity = dict(SEEN, probe="boot.identity", data={"boot_id": "b", "error": ""})
    (seen,) = linux.booted(FakeGuest(_said(_document({"seen": [identity]}))), deadline=10)
    assert seen.data == {"boot_id": "b", "error": "", "host_key": "ssh-ed25519 AAAA"}


def test_a_canary_s_last_record_is_told_in_utc() -> None:
    found = dict(SEEN, probe="canary.found", volume="data", data={"last_time_ns": 1_700_000_000_123_456_789})
    (seen,) = linux.offline(FakeGuest(_said(_document({"seen": [found]}))), volumes={}, deadline=10)
    assert seen.data == {"last_at": "2023-11-14T22:13:20.123456Z"}


def test_a_volume_that_could_not_be_prepared_is_named_with_its_reason() -> None:
    one = dict(SEEN, probe="prepare.volume", volume="data", data={"error": "it is not blank"})
    volumes = {"data": linux.VolumeToPrepare(volume_id="vol-0", filesystem=Filesystem.EXT4, mount="/d")}
    with pytest.raises(AnswerError, match="data: it is not blank"):
        linux.prepare(FakeGuest(_said(_document({"seen": [one]}))), volumes=volumes, records=1, deadline=10)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_names_itself_and_the_hash_of_its_code_in_its_first_line(name: str) -> None:
    one = program.text(name, {"a": 1}, nonce="0" * 32, entry="serve").split(b"\n")[0]
    other = program.text(name, {"a": 2}, nonce="1" * 32, entry="serve").split(b"\n")[0]
    assert re.fullmatch(rb"# drtest-probe: %s sha256:[0-9a-f]{64}" % name.encode(), one)
    assert one == other


def test_arguments_of_any_kind_arrive_as_they_were() -> None:
    arguments = {"text": "quote ' \" \\ \n ü 漢 \u2028 ${x} `y`", "none": None, "list": [1, 2.5, True]}
    text = program.text("helper", arguments, nonce="0" * 32, entry="serve")
    call = text.decode().strip().splitlines()[-1]
    literal = re.search(r"_json\.loads\((.*)\), '0{32}'\)$", call)
    assert literal
    assert json.loads(ast.literal_eval(literal.group(1))) == arguments


@pytest.mark.parametrize("path", PROBES, ids=lambda path: path.stem)
def test_a_probe_is_written_for_python_3_6_and_its_standard_library(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 6))
    for node in ast.walk(tree):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            assert module.startswith("drtest.guest.probes") or module.split(".")[0] in sys.stdlib_module_names
    newer = (
        "capture_output",
        "removeprefix",
        "removesuffix",
        "importlib",
        "dataclass",
        "cached_property",
    )
    names = {
        node.attr if isinstance(node, ast.Attribute) else getattr(node, "arg", "") for node in ast.walk(tree)
    }
    assert names.isdisjoint(newer)
    assert "time.time_ns" not in path.read_text()


def _pythons() -> list[str]:
    found = {sys.executable}
    found |= {
        str(path) for path in Path("/usr/bin").glob("python3.?*") if re.fullmatch(r"python3\.\d+", path.name)
    }
    found |= {str(path) for path in (Path.home() / ".pyenv" / "versions").glob("3.*/bin/python")}
    return sorted(found)


@pytest.mark.parametrize("python", _pythons())
def test_a_visit_answers_under_every_python_of_this_machine(python: str) -> None:
    nonce = "ab" * 16
    text = program.text("booted", {"seconds": 30, "settle": 0.1}, nonce=nonce, entry="serve")
    bootstrap = program.command("booted", text).split("'")[3]
    done = subprocess.run(
        [python, "-I", "-c", bootstrap, str(len(text)), "drtest-booted", "exec"],
        input=text,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == b""
    document = program.answer(Result(exit=0, stdout=done.stdout, stderr=b""), nonce, "here")
    assert [one["probe"] for one in document["seen"]] == [
        "boot.identity",
        "boot.system",
        "boot.mounts",
        "boot.kernel",
    ]


def test_a_probe_that_fails_takes_no_other_down_and_a_machine_without_systemd_says_so() -> None:
    seen = {one.probe: one.data for one in linux.booted(LocalGuest(), deadline=30, settle=1)}
    identity = seen["boot.identity"]
    assert identity["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert identity["error"] == ""
    assert identity["uptime_seconds"] > 0
    assert any(mount["target"] == "/" for mount in seen["boot.mounts"]["mounts"])
    assert set(seen["boot.system"]) >= {"state", "failed_units", "error"}


def test_a_baseline_has_what_copies_are_compared_with() -> None:
    (seen,) = linux.baseline(LocalGuest(), deadline=20)
    assert seen.probe == "baseline.system"
    assert {
        "state",
        "failed_units",
        "boot_id",
        "host_keys",
        "mounts",
        "kernel",
        "machine_id",
        "storage",
    } <= set(seen.data)


def test_a_visit_that_is_too_short_ends_at_its_deadline() -> None:
    with pytest.raises(GuestDeadlineError):
        LocalGuest().run("sleep 20", deadline=0.5)
