"""Files that are no scenario at all: each is refused with one sentence, at once, in little memory."""

import json
import re
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drtest.scenario.load import ScenarioError, load_scenario, scenario_from_text
from drtest.scenario.model import Scenario
from drtest.scenario.positions import LARGEST_FILE
from tests.scenario.scenario_texts import GOOD, mistakes, scenario


def refusal(path: Path | str) -> str:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    return str(caught.value).replace(f"{path}", "F")


def refusal_of(content: bytes, folder: Path) -> str:
    file = folder / "a.drill.yaml"
    file.write_bytes(content)
    return refusal(file)


NEEDS = "a scenario needs drill, title, servers and captures (scenarios/README.md shows how)"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", f"F: the file is empty; {NEEDS}"),
        (b"\n# only a comment\n", f"F: the file is empty; {NEEDS}"),
        (b"---\n...\n", f"F: the file is empty; {NEEDS}"),
        (b"~\n", f"F: the file is empty; {NEEDS}"),
        (b"\n- a\n", f"F:2:1: not a mapping of keys to values; {NEEDS}"),
        (b"just text", f"F:1:1: not a mapping of keys to values; {NEEDS}"),
        (
            b"drill: a\ntitle: Z\xfcrich\n",
            "F:2:9: not UTF-8: byte 17 is 0xFC; save the file as UTF-8",
        ),
        (
            b"\xef\xbb\xbfdrill: \xe9\n",
            "F:1:8: not UTF-8: byte 10 is 0xE9; save the file as UTF-8",
        ),
        (
            "title: äöü".encode() + b"\xff",
            "F:1:11: not UTF-8: byte 13 is 0xFF; save the file as UTF-8",
        ),
        ("drill: a".encode("utf-16"), "F: is not UTF-8 but UTF-16; save it as UTF-8"),
        (b"drill: a\ntitle: \x07\n", "F:2:8: the character U+0007 can't stand in YAML; take it out"),
        (b"drill: a\n\ttitle: b\n", "F:2:1: a tab; YAML is indented and spaced with spaces"),
        (
            b"drill: a\n---\ndrill: b\n",
            "F:2:1: a second document; a scenario file holds one, so give it a file of its own",
        ),
        (
            b"title: What: now?\n",
            "F:1:12: a colon where no key can be; put text that has ': ' in it in quotes, or mend the "
            "indentation",
        ),
        (b"a:\n  b: 1\n c: 2\n", "F:3:2: the indentation fits no line above; align it"),
        (
            b"captures: [running\n",
            "F:2:1: a list or mapping is opened and not closed; ] or a comma is missing",
        ),
        (b"title: 'a\n", "F:2:1: a quote that was opened is never closed; close it"),
        (b"title: @home\n", "F:1:8: text can't begin with @; put it in quotes"),
        (b'title: "C:\\drill"\n', "F:1:12: \\d means nothing in double quotes; use single quotes"),
        (b"title: *a\n", "F:1:8: *a stands for nothing; name it by &a before"),
        (b"title: &a [*a]\n", "F:1:12: *a stands for something that it is a part of; write it out"),
        (
            b"%YAML 3.0\n---\na: 1\n",
            "F:1:1: this is not YAML; found incompatible YAML document (version 1.* is required)",
        ),
        (b"a: " + b"[" * 40, "F:1:19: more than 16 levels deep; a scenario has six"),
    ],
)
def test_a_file_that_is_no_scenario_is_refused_at_its_place(
    content: bytes, expected: str, tmp_path: Path
) -> None:
    assert refusal_of(content, tmp_path) == expected


@pytest.mark.parametrize(
    ("tag", "shown"),
    [("!!python/object/apply:os.system", "'python/object/apply:os.system'"), ("!!str", "'str'"), ("!mine", "'!mine'")],
)  # fmt: skip
def test_a_tag_is_refused_and_never_carried_out(tag: str, shown: str) -> None:
    assert mistakes(GOOD.replace("A question?", f"{tag} x")) == [
        f"2:8: the tag {shown}; a scenario holds plain values only, so leave the tag out"
    ]


def test_a_missing_file_a_directory_and_an_unreadable_name_are_told(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.yaml") == "F: there is no such file; name a *.drill.yaml"
    assert refusal(tmp_path) == "F: is a directory; name a *.drill.yaml in it"
    assert refusal("a\0b").endswith("; name a *.drill.yaml that can")


def test_a_signature_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "a.drill.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_scenario(file).drill == "good"
    file.write_bytes(b"\xef\xbb\xbf" + (GOOD + "trials: 0\n").replace("\n", "\r\n").encode())
    assert refusal(file) == "F:6:9: trials: 0 is too small; 1 is the least"


def test_an_alias_stands_for_what_it_names_and_its_mistakes_are_told_once() -> None:
    servers = """\
servers:
  - {name: a, os: linux, launch: &one {image: linux, volumes: {data: {size: 1GiB}}}}
  - {name: b, os: linux, launch: *one}
captures: [running]
"""
    read = scenario("drill: a\ntitle: b\n" + servers)
    assert read.servers[0].launch == read.servers[1].launch
    assert mistakes("drill: a\ntitle: b\n" + servers.replace("image", "imago")) == [
        "4:40: unknown key 'imago'; did you mean image?"
    ]


def bomb() -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(lines).encode()


def filled(unit: bytes, *, head: bytes = b"") -> bytes:
    return head + unit * ((LARGEST_FILE - len(head)) // len(unit))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (bomb(), "aliases expanded"),
        (filled(b"["), "levels deep"),
        (filled(b"{"), "levels deep"),
        (filled(b"a,", head=b"["), "more than 10000 values"),
        (filled(b"a:\n "), "more than 10000 values"),
        (filled(b"- runing\n", head=b"captures:\n"), "did you mean running?"),
        (filled(b"- {verdict: usable}\n", head=b"expect:\n"), "expect: more than 200 are listed"),
        (b"servers:\n" + b"- {name: , launch: }\n" * 1500, "name has no value"),
        (b"".join(b"k%d: 1\n" % number for number in range(4999)), "unknown key 'k4998'"),
        (filled(b"9", head=b"trials: "), "trials: the text '999"),
        (filled(b"a") + b"a" * 1000, "more than 64 KiB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_made_to_exhaust_the_machine_ends_fast(content: bytes, expected: str, tmp_path: Path) -> None:
    started = time.process_time()
    assert expected in refusal_of(content, tmp_path)
    assert time.process_time() - started < 5


def test_a_bomb_is_refused_in_little_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    assert "aliases expanded" in refusal_of(bomb(), tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_what_a_file_says_can_do_nothing_to_a_terminal() -> None:
    (found,) = mistakes(GOOD + '"tri\\e[2Jals": 3\n')
    assert "\x1b" not in found
    assert "tri\\x1b[2Jals" in found


def test_an_endless_file_is_not_read_to_its_end() -> None:
    assert refusal("/dev/zero") == "F: has more than 64 KiB; a scenario has some hundred lines"


def loaded(text: str) -> Scenario | ScenarioError:
    """What loading a text comes to; anything but these two fails the test by itself."""
    try:
        return scenario_from_text(text, file="x")
    except ScenarioError as error:
        refused = error
    assert refused.mistakes
    for mistake in refused.mistakes:
        assert str(mistake).isprintable()
        assert "; " in mistake.message
        if mistake.line is not None and mistake.column is not None:
            assert 1 <= mistake.line <= len(re.findall("[\n\r\x85\u2028\u2029]", text)) + 2
            assert mistake.column >= 1
    return refused


MARKS = [*"a:-[],{}'\"?#~1\t@`%é\x85\u2028\ufeff\ud7ff\U0001f600", ": ", "- ", "\n", "\n  ", "\n    ", "\r\n"]
LONGER_MARKS = [
    *(["&a ", "*a", "!!str ", "!x ", "\\U", "\\x9", "? ", "# ", "...\n", "%YAML 1.2\n", "<<", "0o7", ".inf"]),
    "|\n",
    ">\n",
    "---\n",
]
WORDS = [
    "drill",
    "title",
    "servers",
    "captures",
    "expect",
    "verdict",
    "launch",
    "select",
    "volumes",
    "usable",
]
KEYS = [
    *WORDS,
    "name",
    "os",
    "image",
    "data",
    "size",
    "tags",
    "load",
    "canary",
    "rate",
    "for",
    "server",
    "trial",
]


@settings(max_examples=100, deadline=2000)
@given(st.lists(st.sampled_from([*MARKS, *LONGER_MARKS, *WORDS]), max_size=60).map("".join))
def test_text_that_looks_like_yaml_gives_a_scenario_or_mistakes(text: str) -> None:
    loaded(text)


@settings(max_examples=100, deadline=2000)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_give_nothing_but_mistakes(content: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".drill.yaml") as file:
        file.write(content)
        file.flush()
        with pytest.raises(ScenarioError):
            load_scenario(file.name)


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(
        ["lin", "linux", "running", "stopped", "root", "set", "1GiB", "10s", "50/s", "usable", "INCONCLUSIVE"]
    ),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=4) | st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=100, deadline=2000)
@given(
    st.dictionaries(
        st.sampled_from([*Scenario.model_fields, "loads"]),
        VALUES
        | st.lists(st.fixed_dictionaries({"name": VALUES, "os": VALUES, "launch": VALUES}), max_size=3),
    )
)
def test_any_values_under_the_right_keys_give_a_scenario_or_mistakes(data: dict[str, Any]) -> None:
    loaded(json.dumps(data))


@settings(max_examples=100, deadline=2000)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 5), st.text(max_size=3))
def test_a_right_file_with_a_slip_of_the_keyboard_gives_a_scenario_or_mistakes(
    place: int, gone: int, typed: str
) -> None:
    loaded(GOOD[:place] + typed + GOOD[place + gone :])
