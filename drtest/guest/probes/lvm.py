"""LVM, read from its own metadata on a disk: where its logical volumes lie, so that nothing has to be activated.

A volume group that is activated takes its names and UUIDs with it, and two copies of one server have the same ones.
A logical volume in one piece is a stretch of its disk, and is looked at as a partition is.

The format: lvm2, lib/format_text/layout.h and lib/label/label.c; the text is that of ``vgcfgbackup`` (vgcfgbackup.8).
"""

import re
import struct
import zlib
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

SECTOR = 512
MEMBER = "LVM2_member"
_SCANNED = 4
"""Sectors at the beginning of a physical volume one of which has its label."""
_LABEL = b"LABELONE"
_HEADER = 512
_MAGIC = b" LVM2 x[5A%r0N*>"
_FIRST_CRC = 0xF597A6CF
_MOST = 64 << 20
_IGNORED = 0x1
_TOKENS = re.compile(r'\s+|#[^\n]*|("(?:[^"\\]|\\.)*"|[{}\[\]=,]|[^\s{}\[\]=,"#]+)')


class DamagedError(Exception):
    """The label or the metadata of a physical volume is damaged; the message says what of it."""


class Logical(NamedTuple):
    """One logical volume: ``group/name``, its place and size in bytes, and why that can't be looked at, if so."""

    name: str
    start: int
    size: int
    why: str


def logical_volumes(device: str) -> List[Logical]:
    """The logical volumes of the group that a physical volume belongs to, in the order of their names.

    Raises:
        DamagedError: what should tell of them is damaged.
        LookupError: there is no metadata on this physical volume: others of its group have it, or it has no group.
    """
    with open(device, "rb") as file:
        own, areas = _label(file.read(_SCANNED * SECTOR))
        if not areas:
            raise LookupError("it is LVM's, and its group keeps its metadata on other physical volumes")
        texts = [_text(file, *area) for area in areas]
    if None in texts and not any(texts):
        raise LookupError("it is LVM's, and belongs to no group")
    if not any(texts):
        raise DamagedError("the metadata of LVM is damaged")
    try:
        groups = [_parsed(text) for text in texts if text]
        name, group = max(groups, key=lambda found: int(found[1]["seqno"]))
        return sorted(_volumes(name, group, own))
    except (KeyError, IndexError, TypeError, ValueError) as problem:
        raise DamagedError("the metadata of LVM can't be read: {!r}".format(problem)) from problem


def labelled(device: str) -> bool:
    """Whether there is a label of LVM's, be it a damaged one."""
    with open(device, "rb") as file:
        return any(file.read(SECTOR)[:8] == _LABEL for _ in range(_SCANNED))


def _label(head: bytes) -> Tuple[str, List[Tuple[int, int]]]:
    """A physical volume's id, and where its areas of metadata are."""
    for place in range(0, len(head) - SECTOR + 1, SECTOR):
        sector = head[place : place + SECTOR]
        if sector[:8] == _LABEL and sector[24:32] == b"LVM2 001":
            break
    else:
        raise DamagedError("the label of LVM is damaged")
    crc, offset = struct.unpack_from("<II", sector, 16)
    if _crc(sector[20:]) != crc:
        raise DamagedError("the label of LVM is damaged")
    lists: List[List[Tuple[int, int]]] = [[], []]  # of data, then of metadata; each ends with zeros
    at = offset + 40
    for one in lists:
        while True:
            start, size = struct.unpack_from("<QQ", sector, at)
            at += 16
            if not start:
                break
            one.append((start, size))
    return sector[offset : offset + 32].decode("ascii", "replace"), lists[1]


def _text(file: Any, start: int, size: int) -> Optional[str]:
    """The text of one area of metadata, which goes round in it; empty where it is damaged, None where there is none."""
    file.seek(start)
    header = file.read(_HEADER)
    if (
        len(header) < _HEADER
        or header[4:20] != _MAGIC
        or _crc(header[4:]) != struct.unpack_from("<I", header)[0]
    ):
        return ""
    offset, length, crc, flags = struct.unpack_from("<QQII", header, 40)
    if flags & _IGNORED or not offset:
        return None
    if not _HEADER <= offset < size or length > min(size, _MOST):
        return ""
    file.seek(start + offset)
    data = file.read(min(length, size - offset))
    if len(data) < length:
        file.seek(start + _HEADER)
        data += file.read(length - len(data))
    return data.decode("utf-8", "replace").rstrip("\0") if _crc(data) == crc else ""


def _crc(data: bytes) -> int:
    """CRC-32 as LVM has it: begun with a number of its own, and not inverted."""
    return zlib.crc32(data, _FIRST_CRC ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def _parsed(text: str) -> Tuple[str, Dict[str, Any]]:
    """The group's name, and its section as dictionaries, lists, numbers and strings."""
    tokens = [match.group(1) for match in _TOKENS.finditer(text) if match.group(1)]
    sections = _section(iter(tokens))
    return next((name, value) for name, value in sections.items() if isinstance(value, dict))


def _section(tokens: Iterator[str]) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for name in tokens:
        if name == "}":
            break
        found[name] = _section(tokens) if next(tokens) == "{" else _value(next(tokens), tokens)
    return found


def _value(word: str, tokens: Iterator[str]) -> Any:
    if word == "[":
        return [_value(one, tokens) for one in iter(lambda: next(tokens), "]") if one != ","]
    return word[1:-1] if word.startswith('"') else int(word) if word.isdigit() else word


def _volumes(group: str, section: Dict[str, Any], own: str) -> Iterator[Logical]:
    extent = section["extent_size"] * SECTOR
    physical = {
        name: one["pe_start"] * SECTOR if one["id"].replace("-", "") == own else None
        for name, one in section["physical_volumes"].items()
    }
    for name, volume in section.get("logical_volumes", {}).items():
        if "VISIBLE" not in volume["status"]:
            continue  # a part of another one, as a pool's data
        whole = "{}/{}".format(group, name)
        segments = [volume["segment{}".format(number + 1)] for number in range(volume["segment_count"])]
        kinds = sorted({one["type"] for one in segments})
        if kinds != ["striped"] or any(one["stripe_count"] != 1 for one in segments):
            kind = "striped" if kinds == ["striped"] else " and ".join(kinds)
            yield Logical(whole, 0, 0, "it is no linear volume, but of the type {}".format(kind))
            continue
        pieces = [(physical[one["stripes"][0]], one["stripes"][1], one["extent_count"]) for one in segments]
        start, first, _ = pieces[0]
        size = sum(count for _, _, count in pieces)
        if start is None or any(base is None for base, _, _ in pieces):
            yield Logical(whole, 0, 0, "it lies on another physical volume of its group")
        elif any(
            at != first + sum(c for _, _, c in pieces[:number]) for number, (_, at, _) in enumerate(pieces)
        ):
            yield Logical(whole, 0, 0, "it lies in {} pieces".format(len(pieces)))
        else:
            yield Logical(whole, start + first * extent, size * extent, "")
