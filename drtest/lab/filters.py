"""The filters and pages of the Describe actions."""

import base64
import binascii
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

from drtest.lab.call import Call
from drtest.lab.refusal import Refusal, bad_value
from drtest.lab.resources import Resource
from drtest.lab.wire import iso

T = TypeVar("T")
Value = str | bool | int | datetime | None
Field = Callable[[T], Value | Iterable[Value]]
"""Reads what a filter compares from a resource: one value or several."""

MAX_VALUES = 200


@lru_cache(maxsize=1024)
def pattern(value: str) -> re.Pattern[str]:
    """Translate a filter's value: ``*`` is any text, ``?`` one character, a backslash takes their meaning.

    The other characters mean themselves, brackets too
    (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html).
    """
    out, escaped = [], False
    for character in value:
        if escaped:
            out.append(re.escape(character))
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == "*":
            out.append(".*")
        elif character == "?":
            out.append(".")
        else:
            out.append(re.escape(character))
    return re.compile("".join(out), re.DOTALL)


def _matcher(values: list[str]) -> Callable[[str], bool]:
    if not any(sign in value for value in values for sign in "*?\\"):
        plain = frozenset(values)
        return plain.__contains__
    patterns = [pattern(value) for value in values]
    return lambda text: any(p.fullmatch(text) for p in patterns)


def _texts(value: Any) -> Iterable[str]:
    match value:
        case None:
            return ()
        case bool():
            return ("true" if value else "false",)
        case datetime():
            return (iso(value),)
        case str() | int():
            return (str(value),)
        case _:
            return [text for one in value for text in _texts(one)]


def select(
    things: Iterable[T],
    asked: Iterable[Mapping[str, Any]],
    *,
    fields: Mapping[str, Field[T]],
    tags: Callable[[T], Mapping[str, str]],
) -> list[T]:
    """Keep what all filters match; a filter matches if one of its values does.

    Args:
        things: what to choose from.
        asked: the call's ``Filters``.
        fields: by a filter's name, what it looks at.
        tags: a thing's tags, for ``tag:KEY`` and ``tag-key``.

    Raises:
        Refusal: ``InvalidParameterValue`` for a filter that there isn't, ``FilterLimitExceeded``.
    """
    chosen = list(things)
    for one in asked:
        name, values = one.get("Name", "null"), one.get("Values", [])
        if len(values) > MAX_VALUES:
            raise Refusal("FilterLimitExceeded", f"The maximum number of filter values is {MAX_VALUES}")
        look = _look(name, fields, tags)
        matches = _matcher(values)
        chosen = [thing for thing in chosen if any(matches(text) for text in look(thing))]
    return chosen


def _look(
    name: str, fields: Mapping[str, Field[T]], tags: Callable[[T], Mapping[str, str]]
) -> Callable[[T], Iterable[str]]:
    if name.startswith("tag:"):
        key = name.removeprefix("tag:")

        def tag(thing: T) -> Iterable[str]:
            value = tags(thing).get(key)
            return () if value is None else (value,)

        return tag
    if name == "tag-key":
        return lambda thing: tags(thing).keys()
    if name == "tag-value":
        return lambda thing: tags(thing).values()
    if name not in fields:
        raise bad_value(f"The filter '{name}' is invalid")
    field = fields[name]
    return lambda thing: _texts(field(thing))


R = TypeVar("R", bound=Resource)


def page(
    things: list[R], call: Call, *, ids: str = "", given: Collection[str] = ()
) -> tuple[list[R], str | None]:
    """Cut one page out of what a Describe call found.

    Args:
        things: all that was found, in the order of their numbers.
        call: has ``MaxResults`` and ``NextToken``.
        ids: the name of the parameter with ids, for the error.
        given: the ids in it; with ids there are no pages.

    Returns:
        The page, and the token of the next one if there is one.

    Raises:
        Refusal: ``InvalidParameterValue``, ``InvalidParameterCombination`` or ``InvalidPaginationToken``.
    """
    most = call.number("MaxResults")
    if most is not None:
        if given:
            raise Refusal(
                "InvalidParameterCombination",
                f"The parameter {ids} cannot be used with the parameter maxResults",
            )
        if most < 5:
            raise bad_value(
                f"Value ( {most} ) for parameter maxResults is invalid. Expecting a value greater than 5."
            )
    token = call.text("NextToken")
    if token:
        after = _after(token)
        things = [thing for thing in things if thing.number > after]
    size = min(most, 1000) if most is not None else None
    if size is None or len(things) <= size:
        return things, None
    return things[:size], base64.urlsafe_b64encode(f"after {things[size - 1].number}".encode()).decode()


def _after(token: str) -> int:
    try:
        word, number = base64.urlsafe_b64decode(token.encode()).decode().split(" ")
        if word == "after":
            return int(number)
    except (ValueError, binascii.Error):
        pass
    raise Refusal("InvalidPaginationToken", "The specified pagination token is not valid or is expired.")
