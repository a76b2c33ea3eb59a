"""A scenario file into a scenario, or all of its mistakes at once, each at its line and column."""

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from drtest.errors import UsageError
from drtest.scenario.model import Scenario
from drtest.scenario.positions import LARGEST_FILE, Document, NotYamlError, Path, Place, read
from drtest.scenario.rules import problems
from drtest.scenario.sketch import Error, Sketch, rough
from drtest.scenario.spelling import nearest, printable
from drtest.scenario.wording import keys_at, words

_EMPTY = "a scenario needs drill, title, servers and captures (scenarios/README.md shows how)"


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One mistake in a scenario file.

    Attributes:
        file: the file's name, as it was given.
        line, column: where, counted from 1; None where it is the file as a whole.
        message: ``what is wrong; what was meant``.
    """

    file: str
    line: int | None = None
    column: int | None = None
    message: str

    def __str__(self) -> str:
        at = "" if self.line is None else f":{self.line}:{self.column}"
        return f"{self.file}{at}: {self.message}"


class ScenarioError(UsageError):
    """A scenario file that can't be used; nothing was created.

    Args:
        mistakes: all that is wrong with it, in the order of the file.
    """

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


def load_scenario(path: str | os.PathLike[str], *, targets: Collection[str] | None = None) -> Scenario:
    """Reads a scenario file.

    Args:
        path: the file.
        targets: names of the targets that exist, to check the file's ``target`` against; None: not checked.

    Raises:
        ScenarioError: with every mistake in it.
    """
    file = os.fspath(path)
    return scenario_from_text(_text(file), file=file, targets=targets)


def scenario_from_text(text: str, *, file: str, targets: Collection[str] | None = None) -> Scenario:
    """Reads a scenario from a file's text.

    Args:
        text: YAML 1.2.
        file: the name that mistakes are reported under.
        targets: see `load_scenario`.

    Raises:
        ScenarioError: with every mistake in it.
    """
    found: list[tuple[Place, str]] = []
    try:
        document = read(text)
    except NotYamlError as error:
        raise _error(file, [(error.flaw.place, error.flaw.message)]) from None
    found.extend((flaw.place, flaw.message) for flaw in document.flaws)
    if document.root is None or document.root.empty:
        raise ScenarioError([Mistake(file=file, message=f"the file is empty; {_EMPTY}")])
    if document.root.entries is None:
        message = f"not a mapping of keys to values; {_EMPTY}"
        raise _error(file, [*found, (document.root.place, message)])

    found.extend(_misspelt(document))
    data = document.root.plain
    scenario, errors = _validate(data)
    empties = tuple(document.empties())
    for path in empties:
        what = f"{path[-1]} has no value" if isinstance(path[-1], str) else "an item without a value"
        found.append((document.key(path), f"{what}; write one, or take it out"))
    errors = list(_first_hand(errors, empties))
    found.extend((_place(document, error), words(error)) for error in errors)
    if data.get("volumes") == []:
        message = "volumes: nothing is listed; name some, or leave it out for root and all data volumes"
        found.append((document.value(("volumes",)), message))
    sketch = Sketch.of(scenario) if scenario and not empties else rough(data, errors, empties=empties)
    for problem in problems(sketch, targets=targets):
        place = document.key(problem.path) if problem.key else document.value(problem.path)
        also = f" (the other is in line {document.value(problem.also).line})" if problem.also else ""
        found.append((place, problem.message + also))
    if found or scenario is None:
        raise _error(file, found)
    lines = (document.value(("expect", index)).line for index in range(len(scenario.expect)))
    known = tuple(entry.at(line) for entry, line in zip(scenario.expect, lines, strict=True))
    return scenario.model_copy(update={"expect": known}) if known else scenario


def _text(file: str) -> str:
    def refused(message: str) -> ScenarioError:
        return ScenarioError([Mistake(file=file, message=message)])

    try:
        with FilePath(file).open("rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise refused("there is no such file; name a *.drill.yaml") from None
    except IsADirectoryError:
        raise refused("is a directory; name a *.drill.yaml in it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise refused(f"can't be read ({reason}); name a *.drill.yaml that can") from None
    if len(content) > LARGEST_FILE:
        raise refused(f"has more than {LARGEST_FILE // 1024} KiB; a scenario has some hundred lines")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise refused("is not UTF-8 but UTF-16; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(file, content, error) from None


def _not_utf8(file: str, content: bytes, error: UnicodeDecodeError) -> ScenarioError:
    # with a signature in front, the codec counts from behind it
    offset = error.start + (len(content) - len(error.object))
    before = content[:offset]
    line_start = before.rfind(b"\n") + 1
    column = len(before[line_start:].decode("utf-8-sig")) + 1
    message = f"not UTF-8: byte {offset} is 0x{content[offset]:02X}; save the file as UTF-8"
    return ScenarioError([Mistake(file=file, line=before.count(b"\n") + 1, column=column, message=message)])


def _error(file: str, found: Iterable[tuple[Place, str]]) -> ScenarioError:
    return ScenarioError(
        Mistake(file=file, line=place.line, column=place.column, message=printable(message))
        for place, message in sorted(set(found))
    )


def _validate(data: Any) -> tuple[Scenario | None, list[Error]]:
    from pydantic import ValidationError

    try:
        # by alias alone: a field's name in Python, as for_, is no key of the file
        return Scenario.model_validate(data, by_alias=True, by_name=False), []
    except ValidationError as error:
        return None, list(error.errors(include_url=False))


def _misspelt(document: Document) -> Iterator[tuple[Place, str]]:
    """Unknown keys; each is then renamed to the one that was probably meant, or else taken out.

    So what stands under a misspelt key is read as well, and its mistakes are told in the same run.
    """
    while True:
        _, errors = _validate(document.root.plain if document.root else {})
        unknown = [error for error in errors if error["type"] == "extra_forbidden"]
        if not unknown:
            return
        # all places first: an alias makes one key stand in several
        yield from [(document.key(error["loc"]), words(error)) for error in unknown]
        for error in unknown:
            *holder, key = error["loc"]
            document.rename(error["loc"], nearest(str(key), keys_at(tuple(holder))))


def _first_hand(errors: Iterable[Error], empties: Iterable[Path]) -> Iterator[Error]:
    """The errors that don't merely follow from a value that was left out, or from one inside."""
    left_out = set(empties)
    holders = {path[:length] for path in left_out for length in range(len(path))}
    for error in errors:
        path: Path = error["loc"]
        inside = any(path[:length] in left_out for length in range(len(path) + 1))
        around = error["type"] == "drtest" and path in holders
        # pydantic calls a list too short as well where none of its items is right
        counted = error["type"] == "too_short" and len(error["input"])
        if not (inside or around or counted):
            yield error


def _place(document: Document, error: Error) -> Place:
    path: Path = error["loc"]
    if path and path[-1] == "[key]":
        return document.key(path[:-1])
    return document.key(path) if error["type"] == "extra_forbidden" else document.value(path)
