"""YAML 1.2 read into plain values that know their line and column, within fixed limits."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from drtest.scenario.spelling import quoted

Path = tuple[str | int, ...]
"""The way to a value: keys and indexes from the top, as ``("servers", 0, "name")``."""

LARGEST_FILE = 64 * 1024
"""Bytes in a scenario file, at most: some thousand times what a long one has."""

DEEPEST = 16
MOST_VALUES = 10_000
"""Values in a file, aliases expanded. Counted without expanding, so that a YAML bomb costs nothing."""

_WORDS = {
    "~": None, "null": None, "Null": None, "NULL": None, "": None,
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}|0o[0-7]{1,18}|0x[0-9a-fA-F]{1,15}")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]{1,18}|[0-9]{1,18}(\.[0-9]{0,18})?)([eE][-+]?[0-9]{1,3})?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_SYNTAX = (
    (r"found character '\\t'", "a tab; YAML is indented and spaced with spaces"),
    (r"found character '([^'])' that cannot start", "text can't begin with {0}; put it in quotes"),
    (
        r"mapping values are not allowed",
        "a colon where no key can be; put text that has ': ' in it in quotes, or mend the indentation",
    ),
    (r"but found '(?:<block |\?|<scalar>)", "the indentation fits no line above; align it"),
    (r"expected ',' or '(.)'", "a list or mapping is opened and not closed; {0} or a comma is missing"),
    (r"found unexpected end of stream", "a quote that was opened is never closed; close it"),
    (r"could not find expected ':'", "a key without a colon; write key: value"),
    (r"unknown escape character '(.*)'", "\\{0} means nothing in double quotes; use single quotes"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """A line and a column, both counted from 1, as editors do."""

    line: int
    column: int


@dataclass(frozen=True, kw_only=True)
class Flaw:
    """Something wrong at a place of the file.

    Attributes:
        place: where.
        message: ``what is wrong; what was meant``.
    """

    place: Place
    message: str


class NotYamlError(ValueError):
    """Text that can't be read further; the flaw says where and why."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw.message)
        self.flaw = flaw


@dataclass(kw_only=True)
class Node:
    """A value in the file: a scalar, a list or a mapping.

    Attributes:
        place: where the value begins.
        value: the scalar's value; None for a list or mapping.
        items: the parts of a list; None for the others.
        entries: the parts of a mapping with the place of each key; None for the others.
        weight: how many values it holds, itself included and aliases expanded; 0 while it is open.
        height: how many levels it has; 0 while it is open.
    """

    place: Place
    value: Any = None
    items: list["Node"] | None = None
    entries: dict[str, tuple[Place, "Node"]] | None = None
    weight: int = 0
    height: int = 0

    @property
    def parts(self) -> list["Node"]:
        """What it holds: a list's items, a mapping's values."""
        return self.items or [node for _, node in (self.entries or {}).values()]

    @property
    def empty(self) -> bool:
        """Whether it is a value that was left out, or null."""
        return self.items is None and self.entries is None and self.value is None

    @property
    def plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        if self.items is not None:
            return [item.plain for item in self.items]
        if self.entries is not None:
            return {key: node.plain for key, (_, node) in self.entries.items()}
        return self.value


@dataclass(frozen=True, kw_only=True)
class Document:
    """One YAML document.

    Attributes:
        root: its value; None where the file is empty.
        flaws: what is wrong with it though it could be read on: duplicate keys, tags and the like.
    """

    root: Node | None
    flaws: tuple[Flaw, ...]

    def value(self, path: Path) -> Place:
        """Where a value begins; of a missing one, where that begins which should hold it."""
        return self._walk(path)[1].place

    def key(self, path: Path) -> Place:
        """Where a value's key begins; of a list's part, the part itself."""
        return self._walk(path)[0]

    def rename(self, path: Path, key: str | None) -> None:
        """Reads a key as another one; takes it out where there is no other, or that one stands there too."""
        _, node = self._walk(path[:-1])
        entries = node.entries or {}
        entry = entries.pop(str(path[-1]), None)
        if entry is not None and key is not None:
            entries.setdefault(key, entry)

    def empties(self) -> Iterator[Path]:
        """The paths of all values that were left empty."""
        yield from _empties(self.root, ()) if self.root else ()

    def _walk(self, path: Path) -> tuple[Place, Node]:
        if self.root is None:
            return Place(line=1, column=1), Node(place=Place(line=1, column=1))
        place, node = self.root.place, self.root
        for part in path:
            if node.entries is not None and part in node.entries:
                place, node = node.entries[str(part)]
            elif node.items is not None and isinstance(part, int) and part < len(node.items):
                node = node.items[part]
                place = node.place
            else:
                break
        return place, node


def read(text: str) -> Document:
    """Reads one YAML document.

    Args:
        text: the file's text, at most `LARGEST_FILE` long.

    Raises:
        NotYamlError: it is not YAML, or goes beyond the limits.
    """
    reader = _Reader()
    for event in _events(text):
        reader.take(event)
    return Document(root=reader.root, flaws=tuple(reader.flaws))


def _events(text: str) -> Iterator[Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.reader import ReaderError

    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except NotYamlError:
        raise
    except ReaderError as error:
        before = text[: error.position]
        place = Place(line=before.count("\n") + 1, column=error.position - (before.rfind("\n") + 1) + 1)
        raise NotYamlError(
            Flaw(
                place=place,
                message=f"the character U+{ord(text[error.position]):04X} can't stand in YAML; take it out",
            )
        ) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotYamlError(
            Flaw(place=_place(mark), message=_syntax(str(error.problem or error.context)))
        ) from None
    except Exception as error:  # the scanner lets bare errors through (chr() of a wrong escape among them)
        raise NotYamlError(
            Flaw(
                place=Place(line=1, column=1), message=f"this is not YAML ({error}); look for a wrong escape"
            )
        ) from None


def _syntax(problem: str) -> str:
    for pattern, message in _SYNTAX:
        if match := re.search(pattern, problem):
            return message.format(*match.groups())
    return f"this is not YAML; {problem}"


def _place(mark: Any) -> Place:
    return Place(line=mark.line + 1, column=mark.column + 1)


def _empties(node: Node, path: Path) -> Iterator[Path]:
    if node.items is not None:
        for index, item in enumerate(node.items):
            yield from _empties(item, (*path, index))
    elif node.entries is not None:
        for key, (_, value) in node.entries.items():
            yield from _empties(value, (*path, key))
    elif node.empty:
        yield path


@dataclass(kw_only=True)
class _Open:
    """A list or mapping that is being read, and the key that waits for its value (None: to be dropped)."""

    node: Node
    key: tuple[Place, str | None] | None = None


@dataclass(kw_only=True)
class _Reader:
    """Puts a document together from the parser's events, without recursion."""

    root: Node | None = None
    flaws: list[Flaw] = field(default_factory=list)
    open: list[_Open] = field(default_factory=list)
    anchors: dict[str, Node] = field(default_factory=dict)
    documents: int = 0
    values: int = 0

    def take(self, event: Any) -> None:
        """Takes the next event."""
        name = type(event).__name__
        if name == "DocumentStartEvent":
            self.documents += 1
            if self.documents > 1:
                self._stop(
                    event, "a second document; a scenario file holds one, so give it a file of its own"
                )
        elif name == "AliasEvent":
            self._hang(event, self._alias(event))
        elif name == "ScalarEvent":
            value = _scalar(event.value, plain=event.implicit[0])
            self._new(event, Node(place=_place(event.start_mark), value=value, weight=1, height=1))
        elif name in ("SequenceStartEvent", "MappingStartEvent"):
            is_list = name == "SequenceStartEvent"
            node = Node(
                place=_place(event.start_mark), items=[] if is_list else None, entries=None if is_list else {}
            )
            self._new(event, node)
            self.open.append(_Open(node=node))
        elif name in ("SequenceEndEvent", "MappingEndEvent"):
            node = self.open.pop().node
            node.weight = 1 + sum(part.weight for part in node.parts)
            node.height = 1 + max((part.height for part in node.parts), default=0)

    def _stop(self, event: Any, message: str) -> NoReturn:
        raise NotYamlError(Flaw(place=_place(event.start_mark), message=message))

    def _flaw(self, event: Any, message: str) -> None:
        self.flaws.append(Flaw(place=_place(event.start_mark), message=message))

    def _alias(self, event: Any) -> Node:
        node = self.anchors.get(event.anchor)
        if node is None:
            self._stop(event, f"*{event.anchor} stands for nothing; name it by &{event.anchor} before")
        if not node.weight:
            self._stop(event, f"*{event.anchor} stands for something that it is a part of; write it out")
        return node

    def _new(self, event: Any, node: Node) -> None:
        if event.tag is not None and event.tag != "!":
            tag = event.tag.removeprefix("tag:yaml.org,2002:")
            self._flaw(
                event,
                f"the tag {quoted(tag)}; a scenario holds plain values only, so leave the tag out",
            )
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        self._hang(event, node)

    def _hang(self, event: Any, node: Node) -> None:
        self.values += node.weight or 1
        if self.values > MOST_VALUES:
            self._stop(
                event, f"more than {MOST_VALUES} values, aliases expanded; a scenario has some hundred"
            )
        if len(self.open) + (node.height or 1) > DEEPEST:
            self._stop(event, f"more than {DEEPEST} levels deep; a scenario has six")
        if not self.open:
            self.root = node
            return
        inside = self.open[-1]
        if inside.node.items is not None:
            inside.node.items.append(node)
        elif inside.key is None:
            inside.key = (_place(event.start_mark), self._key(event, inside.node, node))
        else:
            place, key = inside.key
            inside.key = None
            if key is not None and inside.node.entries is not None:
                inside.node.entries[key] = (place, node)

    def _key(self, event: Any, mapping: Node, node: Node) -> str | None:
        key = node.value
        if not isinstance(key, str):
            meant = "put it in quotes" if node.parts == [] and key is not None else "write key: value"
            self._flaw(event, f"a key that is not text; {meant}")
        elif key == "<<":
            self._flaw(event, "<< merges mappings in YAML 1.1 only; write the keys out")
        elif mapping.entries and key in mapping.entries:
            first = mapping.entries[key][0].line
            self._flaw(event, f"the key {quoted(key)} stands twice, first in line {first}; keep one of them")
        else:
            return key
        return None


def _scalar(text: str, *, plain: bool) -> Any:
    """A scalar's value by YAML 1.2's core schema, in which yes, no and 1:30 are text."""
    if not plain:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return (
        float(text.lower().replace(".inf", "inf").replace(".nan", "nan")) if _FLOAT.fullmatch(text) else text
    )
