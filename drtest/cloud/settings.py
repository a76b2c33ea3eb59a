"""``drtest.toml``: found, read, and its mistakes told all at once, each at its line."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError, field_validator

from drtest.cloud.targets import LAB, Target
from drtest.errors import UsageError
from drtest.scenario.model import Part
from drtest.scenario.sketch import Error
from drtest.scenario.spelling import nearest, printable
from drtest.scenario.values import Name
from drtest.scenario.wording import keys_at, words

FILE_NAME = "drtest.toml"

Way = tuple[str | int, ...]
"""The way to a value: keys from the top."""

Found = tuple[Way, str]
"""A mistake, and where."""

_EXAMPLES = {
    "region": 'region = "eu-central-1"',
    "subnet": 'subnet = "subnet-0123456789abcdef0"',
    "key": 'key = {file = "~/.ssh/drtest"}',
    "password": 'password = {secret = "drtest/windows"}',
    "access_key": 'access_key = "AKIA…"',
    "secret_key": 'secret_key = {env = "DRTEST_SECRET_KEY"}',
    "images": 'linux = {ssm = "/aws/service/…"}',
    "scratch_images": 'linux = {ssm = "/aws/service/…"}',
    "helper_images": 'linux = {ssm = "/aws/service/…"}',
    "linux": 'linux = {id = "ami-…"}, or {ssm = "/aws/service/…"}',
    "windows": 'windows = {id = "ami-…"}, or {ssm = "/aws/service/…"}',
    "login": "[targets.NAME.login.linux] with user and key",
    "limits": "limits = {drills = 4}",
}


class SettingsError(UsageError):
    """A ``drtest.toml`` that can't be used; nothing was created.

    Args:
        mistakes: all that is wrong with it, each as ``file:line: key: what is wrong; what was meant``.
    """

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


class Settings(Part):
    """The whole file."""

    targets: Mapping[Name, Target] = {}

    @field_validator("targets", mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {
            name: {**entry, "name": name} if isinstance(entry, dict) else entry
            for name, entry in data.items()
        }


def find(start: Path) -> Path | None:
    """The nearest ``drtest.toml`` in a directory or those above it."""
    return next((file for folder in (start, *start.parents) if (file := folder / FILE_NAME).is_file()), None)


def read_targets(path: Path | None) -> dict[str, Target]:
    """See `drtest.cloud.targets.load_targets`."""
    file = path or find(Path.cwd())
    if file is None:
        return {}
    try:
        text = file.read_text(encoding="utf-8-sig")
        data = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise SettingsError([f"{file}: is not UTF-8 at byte {error.start}; save it as UTF-8"]) from None
    except OSError as error:
        raise SettingsError([f"{file}: can't be read ({error.strerror}); name a file that can"]) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError([_syntax(file, str(error))]) from None
    found = [*_by_hand(data), *_unknown(data, folder=file.absolute().parent)]
    settings, errors = _validate(data, folder=file.absolute().parent)
    found += [(tuple(error["loc"]), words(error, model=Settings, examples=_EXAMPLES)) for error in errors]
    if settings is not None and not found:
        return dict(settings.targets)
    lines = text.splitlines()
    placed = sorted((line_of(lines, path), path, message) for path, message in found)
    raise SettingsError(
        printable(f"{file}:{line}: {_dotted(path)}{message.removeprefix(f'{path[-1]}: ')}")
        for line, path, message in placed
    )


def _validate(data: Mapping[str, Any], *, folder: Path) -> tuple[Settings | None, list[Error]]:
    try:
        # by alias alone, and seen from the file's own folder: paths in it are relative to it
        context = {"folder": str(folder)}
        return Settings.model_validate(data, by_alias=True, by_name=False, context=context), []
    except ValidationError as error:
        # of a target with a wrong name, its header is told of already
        named = (one for one in error.errors(include_url=False) if one["loc"][2:] != ("name",))
        return None, list(named)


def _by_hand(data: Mapping[str, Any]) -> Iterator[Found]:
    targets = data.get("targets")
    for name, entry in targets.items() if isinstance(targets, dict) else ():
        if name == LAB:
            yield ("targets", name), f"the target {LAB} is built in; give this one another name"
        if isinstance(entry, dict) and "name" in entry:
            yield ("targets", name, "name"), "unknown key 'name'; the target's name stands in its header"


def _unknown(data: dict[str, Any], *, folder: Path) -> Iterator[Found]:
    """Unknown keys; each is then renamed in `data` to the one that was probably meant, or else taken out.

    So no key is called missing that is only misspelt, and what stands under it is read as well.
    """
    while unknown := [one for one in _validate(data, folder=folder)[1] if one["type"] == "extra_forbidden"]:
        for error in unknown:
            *way, key = error["loc"]
            yield tuple(error["loc"]), words(error, model=Settings)
            holder: Any = data
            for part in way:
                holder = holder[part]
            value = holder.pop(key)
            if meant := nearest(str(key), keys_at(tuple(way), model=Settings)):
                holder.setdefault(meant, value)


def _dotted(path: Way) -> str:
    parts = [str(part) for part in path if part != "[key]"]
    return f"{'.'.join(parts)}: " if parts else ""


def _syntax(file: Path, problem: str) -> str:
    place = re.search(r" \(at line (\d+), column (\d+)\)", problem)
    if not place:
        return f"{file}: this is not TOML; {problem}"
    what = problem[: place.start()]
    return f"{file}:{place[1]}:{place[2]}: this is not TOML; {what[:1].lower()}{what[1:]}"


def line_of(lines: list[str], path: Way) -> int:
    """The line on which a key of a TOML file stands; of a missing one, its table's; 1 where neither is found.

    tomllib keeps no positions. Looking for headers and keys line by line is right for files as people write
    them, and a wrong guess costs no more than a look.
    """
    keys = [str(part) for part in path if part != "[key]"]
    best, found, table = 0, 1, [""]
    for number, line in enumerate(lines, start=1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?$", line):
            table = _keys(header[1])
            here = table
        elif key := re.match(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*[^\s=]+)*)\s*=""", line):
            here = [*(part for part in table if part), *_keys(key[1])]
        else:
            continue
        if len(here) > best and keys[: len(here)] == here:
            best, found = len(here), number
    return found


def _keys(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]
