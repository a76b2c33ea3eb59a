"""The EC2 query protocol, by botocore's model: from form fields to parameters, from answers to XML.

moto's own serializer walks all members of a shape (0.7 ms for one instance, 34 ms for fifty), drops the
milliseconds of times and lets unknown parameters pass; this one walks what is there.
"""

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from xml.sax.saxutils import escape

from moto.core.utils import get_service_model

from drtest.lab.refusal import Refusal, bad_value, missing

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"


@cache
def _model() -> Any:
    return get_service_model("ec2")


@cache
def operations() -> frozenset[str]:
    """Name all actions of EC2's API, served here or not."""
    return frozenset(_model().operation_names)


@cache
def _operation(action: str) -> Any:
    return _model().operation_model(action)


def parse(action: str, form: Mapping[str, str]) -> dict[str, Any]:
    """Read the parameters of a call.

    Args:
        action: the API's action, such as ``RunInstances``.
        form: the form fields of the request, flat (``Filter.1.Name``).

    Returns:
        The parameters by their names in the API Reference, nested, with booleans, numbers, blobs and times
        as such.

    Raises:
        Refusal: ``UnknownParameter``, ``MissingParameter`` or ``InvalidParameterValue``.
    """
    tree: dict[str, Any] = {}
    for key, value in form.items():
        if key in {"Action", "Version"}:
            continue
        node = tree
        *path, leaf = key.split(".")
        for step in path:
            below = node.setdefault(step, {})
            if not isinstance(below, dict):
                raise Refusal("MalformedQueryString", f"The parameter {key} is both a value and a structure")
            node = below
        if isinstance(node.get(leaf), dict):
            raise Refusal("MalformedQueryString", f"The parameter {key} is both a value and a structure")
        node[leaf] = value
    shape = _operation(action).input_shape
    if shape is None:
        return {}
    parsed: dict[str, Any] = _read(shape, tree, "")
    return parsed


def _read(shape: Any, node: Any, path: str) -> Any:
    match shape.type_name:
        case "structure":
            if not isinstance(node, dict):
                raise bad_value(f"Invalid value '{node}' for {path}. A structure is expected")
            names = _query_names(shape)
            found = {}
            for key, below in node.items():
                if key not in names:
                    raise Refusal("UnknownParameter", f"The parameter {_join(path, key)} is not recognized")
                member, member_shape = names[key]
                found[member] = _read(member_shape, below, _join(path, key))
            for member in shape.required_members:
                if member not in found:
                    raise missing(_join(path, member))
            return found
        case "list":
            if node == "":
                return []
            if not isinstance(node, dict) or not all(key.isdigit() for key in node):
                raise bad_value(f"Invalid value for {path}. A list is expected ({path}.1, {path}.2)")
            return [_read(shape.member, node[key], f"{path}.{key}") for key in sorted(node, key=int)]
        case "map":
            raise Refusal("UnsupportedOperation", f"The lab does not read the parameter {path}.")
        case scalar:
            if not isinstance(node, str):
                raise bad_value(f"Invalid value for {path}. A single value is expected")
            return _scalar(scalar, node, path)


def _scalar(kind: str, text: str, path: str) -> Any:
    try:
        match kind:
            case "boolean":
                return {"true": True, "false": False}[text.lower()]
            case "integer" | "long":
                return int(text)
            case "float" | "double":
                return float(text)
            case "blob":
                return base64.b64decode(text, validate=True)
            case "timestamp":
                time = datetime.fromisoformat(text)
                return time if time.tzinfo else time.replace(tzinfo=UTC)
            case _:
                return text
    except (ValueError, KeyError, binascii.Error) as error:
        raise bad_value(f"Invalid value '{text}' for {path}") from error


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


_names: dict[str, dict[str, tuple[str, Any]]] = {}


def _query_names(shape: Any) -> dict[str, tuple[str, Any]]:
    """Map the names on the wire to members: queryName, else locationName with a capital, else the name."""
    if shape.name not in _names:
        found = {}
        for member, below in shape.members.items():
            name = below.serialization.get("queryName")
            if name is None and "name" in below.serialization:
                location = below.serialization["name"]
                name = location[0].upper() + location[1:]
            found[name or member] = (member, below)
        _names[shape.name] = found
    return _names[shape.name]


def render(action: str, answer: Mapping[str, Any], *, request_id: str) -> bytes:
    """Write the answer of a call as XML.

    Args:
        action: the API's action.
        answer: its members by their names in the API Reference; ``None`` is left out.
        request_id: the id of this request.

    Raises:
        KeyError: the answer has a member that the API does not know.
    """
    out = [
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{action}Response xmlns="{NAMESPACE}">'
        f"<requestId>{request_id}</requestId>"
    ]
    shape = _operation(action).output_shape
    if shape is not None:
        _write_members(out, shape, answer)
    elif answer:
        raise KeyError(f"{action} answers nothing, but {sorted(answer)} was given")
    out.append(f"</{action}Response>")
    return "".join(out).encode()


def _write_members(out: list[str], shape: Any, value: Mapping[str, Any]) -> None:
    members = shape.members
    for key, below in value.items():
        member = members[key]
        if below is not None:
            _write(out, member, below, member.serialization.get("name", key))


def _write(out: list[str], shape: Any, value: Any, name: str) -> None:
    kind = shape.type_name
    if kind == "structure":
        out.append(f"<{name}>")
        _write_members(out, shape, value)
        out.append(f"</{name}>")
    elif kind == "list":
        item = shape.member.serialization.get("name", "item")
        out.append(f"<{name}>")
        for below in value:
            _write(out, shape.member, below, item)
        out.append(f"</{name}>")
    else:
        out.append(f"<{name}>{_text(value)}</{name}>")


def _text(value: Any) -> str:
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return escape(str(value))


def iso(time: datetime) -> str:
    """Write a time as EC2 does: UTC, with milliseconds."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
