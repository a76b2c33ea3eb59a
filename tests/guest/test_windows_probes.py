"""The PowerShell of the Windows probes, read by a real parser; and their .NET parts, as Mono ran them."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tree_sitter_powershell
from tree_sitter import Language, Node, Parser

from drtest.guest import canary, powershell, windows_answers
from drtest.guest.probes import found, record
from tests.guest.ntfs_bytes import IMAGES, SERIAL
from tests.guest.record_windows import RECORDED, RECORDS, SERIES, VOLUME, code_hash, spoiled

FOLDER = Path(found.__file__).parent
MODULES = sorted(path.stem for path in FOLDER.glob("windows_*.ps1"))
PROGRAMS = ["baseline", "booted", "helper", "offline", "prepare"]
PARSER = Parser(Language(tree_sitter_powershell.language()))


def nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from nodes(child)


def parsed(text: str) -> list[Node]:
    return list(nodes(PARSER.parse(text.encode()).root_node))


def code_of(module: str) -> str:
    """A module without comments and C#."""
    text = re.sub(r"@'\n.*?\n'@", "''", powershell.source(module), flags=re.DOTALL)
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("module", MODULES)
def test_a_probe_is_powershell_from_its_first_to_its_last_letter(module: str) -> None:
    wrong = [
        f"line {node.start_point[0] + 1}: {node.type} {node.text!r}"
        for node in parsed(powershell.source(module))
        if node.is_error or node.is_missing
    ]
    assert wrong == []


def test_the_parser_sees_a_mistake() -> None:
    assert any(node.is_error or node.is_missing for node in parsed("function X { if ($a { 1 }"))


@pytest.mark.parametrize("line", [powershell.command("ab" * 16), powershell.stream_command("ab" * 16)])
def test_the_bootstraps_are_powershell(line: str) -> None:
    text = base64.b64decode(line.rsplit(" ", 1)[1]).decode("utf-16-le")
    assert not any(node.is_error or node.is_missing for node in parsed(text)), text


@pytest.mark.parametrize("module", MODULES)
def test_a_probe_begins_with_its_name_and_version_and_is_ascii(module: str) -> None:
    """Windows PowerShell 5.1 reads what is not ASCII in the code page of the guest."""
    assert powershell.version(module) >= 1
    assert powershell.source(module).isascii()
    assert "\r" not in powershell.source(module)


@pytest.mark.parametrize("module", MODULES)
def test_a_probe_uses_nothing_newer_than_windows_powershell(module: str) -> None:
    code = code_of(module)
    newer = re.findall(
        r"\?\?|\?\.|&&|\|\||::new\(|\bclass\s+\w+\s*\{|-AsHashtable|\bForEach-Object\s+-Parallel", code
    )
    assert newer == []


@pytest.mark.parametrize("module", MODULES)
def test_a_probe_reads_no_words_of_the_guests_language(module: str) -> None:
    """No output of a tool is matched, save the ids and bracketed numbers of vssadmin."""
    code = code_of(module)
    assert not re.search(r"DisplayName|\.Message\s+-(match|like|eq)|LevelDisplayName", code)
    read = [
        line for line in code.splitlines() if re.search(r"\.output\b.*-(match|like|eq|split)|Matches\(", line)
    ]
    assert all("$pattern" in line for line in read), read
    assert code.count("fsutil") == 0


def test_an_event_log_that_can_not_be_read_is_no_empty_one() -> None:
    code = code_of("windows_booted")
    reads = [line for line in code.splitlines() if re.search(r"Get-WinEvent -FilterHashtable", line)]
    assert reads
    assert all("-ErrorAction Stop" in line for line in reads)
    assert re.search(r"FullyQualifiedErrorId -notlike 'NoMatchingEventsFound\*'\) \{ throw \}", code)


def test_a_copy_that_was_not_mounted_is_not_looked_at() -> None:
    """Else the helper's own empty folder would be taken for it."""
    code = code_of("windows_offline")
    mounted, looked = code.index("Invoke-DrtestTool 'mountvol.exe'"), code.index("GetFileSystemEntries")
    between = code[mounted:looked]
    assert re.search(r"if \(\$ran\.exit -ne 0\) \{ throw ", between)
    assert "ReparsePoint" in between


def test_a_hive_is_loaded_where_no_other_one_can_be_and_a_stuck_one_is_told() -> None:
    code = code_of("windows_offline")
    [key] = re.findall(r"\$key = .*", code)
    assert "[Guid]::NewGuid()" in key
    assert re.search(r"if \(\$hive\.unloaded -ne 0\) \{ \$script:DrtestStuck \+= \$Name \}", code)
    assert "stuck = @($script:DrtestStuck)" in code


@pytest.mark.parametrize("name", [f"windows_{one}" for one in PROGRAMS])
def test_a_visits_look_sees_its_own_variables(name: str) -> None:
    """A script block finds the variables of Get-DrtestSeen before those of who wrote it: so it must share no name."""
    prelude = powershell.source("windows_prelude")
    seen = prelude[prelude.index("function Get-DrtestSeen") :]
    seen = seen[: seen.index("\n}\n")]
    own = set(re.findall(r"\$(\w+)", seen)) - {"_"}
    used = {one.lower() for one in re.findall(r"\$(\w+)", code_of(name))}
    assert {one.lower() for one in own - {"DrtestStart"}} & used == set()


@pytest.mark.parametrize("name", [f"windows_{one}" for one in PROGRAMS])
def test_a_visit_says_what_it_saw_by_its_one_function(name: str) -> None:
    bundle = powershell.bundle(name)
    assert bundle.count("function Get-DrtestObservations(") == 1
    assert bundle.count("function Get-DrtestSeen(") == 1
    defined = set(re.findall(r"^function ([\w-]+)", bundle, re.MULTILINE))
    called = set(re.findall(r"\b\w+-Drtest\w+", re.sub(r"@'\n.*?\n'@", "", bundle, flags=re.DOTALL)))
    assert called - defined == set()


def test_the_load_has_the_functions_that_its_bootstrap_calls() -> None:
    bundle = powershell.bundle("windows_load")
    for name in ("Start-DrtestStream", "Send-DrtestLine", "Stop-DrtestStream"):
        assert f"function {name}" in bundle
        assert name in powershell.text("windows_load", {}, entry="Start-DrtestStream") + base64.b64decode(
            powershell.stream_command("aa").rsplit(" ", 1)[1]
        ).decode("utf-16-le")


def test_a_text_names_the_hash_of_its_code_and_carries_its_arguments() -> None:
    text = powershell.text("windows_baseline", {"settle": 3, "word": "ü"})
    head, _, rest = text.partition("\n")
    code, _, call = rest.rstrip("\n").rpartition("\n")
    assert (
        head == f"# drtest-probe: windows_baseline version:1 sha256:{powershell.digest('windows_baseline')}"
    )
    assert code + "\n" == powershell.bundle("windows_baseline")
    sent = re.fullmatch(r"Invoke-DrtestProbe '([^']+)'", call)
    assert sent
    assert json.loads(base64.b64decode(sent[1])) == {"settle": 3, "word": "ü"}


# --- .NET, recorded (tests/guest/record_windows.py says how)


@pytest.fixture(scope="module")
def recorded() -> Any:
    return json.loads(RECORDED.read_text())


def test_what_was_recorded_is_of_this_code(recorded: Any) -> None:
    assert recorded["hash"] == code_hash(), "the C# was changed: python -m tests.guest.record_windows"


@pytest.mark.parametrize("number", range(len(RECORDS)))
def test_a_record_written_by_dotnet_is_the_one_of_record_py(recorded: Any, number: int) -> None:
    data = base64.b64decode(recorded["records"][number])
    assert data == record.encode(RECORDS[number])
    assert record.decode(data) == RECORDS[number]


def test_dotnet_finds_in_a_spoiled_canary_what_found_py_finds(recorded: Any, tmp_path: Path) -> None:
    spoiled(tmp_path)
    ours = found.look(str(tmp_path.parent), tmp_path.name, VOLUME, SERIES)
    present, intact, torn, foreign, stale, last, done, bad, capacity, series, error = recorded["found"]

    def ranges(text: str) -> list[list[int]]:
        return windows_answers.pairs([int(one) for one in text.split(",") if one])

    assert (present, error, series) == ("True", "", SERIES)
    assert ranges(intact) == [list(one) for one in ours["records"]]
    assert ranges(stale) == [list(one) for one in ours["stale"]]
    assert ranges(done) == [list(one) for one in ours["metadata"]]
    assert [[int(torn)], [int(foreign)], [int(bad)]] == [ours["torn"], ours["foreign"], ours["metadata_torn"]]
    assert (int(last), int(capacity)) == (ours["last_time_ns"], ours["capacity"])


def test_the_load_acknowledges_by_the_runners_clock_and_says_why_it_ended(recorded: Any) -> None:
    *lines, last = recorded["load"]
    acks = [canary.parse(line.encode()) for line in lines]
    assert [(ack.volume, ack.index, ack.n) for ack in acks if ack] == [(0, n, n) for n in range(6)]
    times = [ack.time_ns for ack in acks if ack]
    assert times == sorted(times)
    assert 0 <= times[-1] - 1_795_550_000_000_000_000 < 60e9
    assert last.startswith("end ")
    assert json.loads(last[4:]) == {"reason": "full", "records": 6}


@pytest.mark.parametrize(
    ("name", "style", "start", "flags", "clean"),
    [
        ("clean", "none", 0, 0, 1),
        ("nobody has the log open", "none", 0, 0, 1),
        ("dirty flag", "none", 0, 1, 1),
        ("log in use", "none", 0, 0, 0),
        ("log never written to", "none", 0, 0, 1),
        ("torn record", "none", 0, -1, -1),
        ("impossible numbers", "none", 0, -1, -1),
        ("by mbr", "mbr", 63 * 512, 1, 1),
        ("by gpt", "gpt", 64 * 512, 0, 0),
    ],
)
def test_dotnet_reads_ntfs_as_it_lies(
    recorded: Any, name: str, style: str, start: int, flags: int, clean: int
) -> None:
    got_style, signature, guid, got_start, recognised, serial, got_flags, got_clean, problem = recorded[
        "disks"
    ][name]
    assert (got_style, int(got_start), int(got_flags), int(got_clean)) == (style, start, flags, clean)
    assert (recognised, serial) == ("True", f"{SERIAL:016X}")
    assert bool(problem) == (flags < 0)
    assert (int(signature), guid) == (0xCAFEF00D if style == "mbr" else 0, guid)


def test_what_is_no_ntfs_is_not_recognised(recorded: Any) -> None:
    assert set(recorded["disks"]) == set(IMAGES)
    assert recorded["disks"]["no ntfs"][4] == "False"
