"""The bytes of a registry hive: a base block, and bins of cells with keys and values in them.

After M. Suhanov, "Windows registry file format specification" (github.com/msuhanov/regf), version 1.5. What is read is
checked as a kernel checks a hive that it loads: cells tile their bins, and all that is pointed at is what it should be.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

BASE = 4096
"""Bytes of the base block; its first 512 hold all that matters, and are written as one sector."""
SECTOR = 512
ROOT = 32
"""Where the root key lies, from the start of the bins: behind the header of the first."""
NOTHING = 0xFFFFFFFF
BINARY, DWORD, QWORD, TEXT = 3, 4, 11, 1

_HEAD = struct.Struct("<4sIIQIIIIIII64s")
_BIN = struct.Struct("<4sIIQQI")
_KEY = struct.Struct("<2sHQIIIIIIIIIIIIIIIHH")
_VALUE = struct.Struct("<2sHIIIHH")
# Self-relative; owner Administrators, group SYSTEM; all rights for both (MS-DTYP 2.4.6).
_ADMINISTRATORS = bytes.fromhex("01020000000000052000000020020000")
_SYSTEM = bytes.fromhex("010100000000000512000000")


def _descriptor() -> bytes:
    entries = b"".join(
        struct.pack("<BBHI", 0, 2, 8 + len(sid), 0xF003F) + sid for sid in (_SYSTEM, _ADMINISTRATORS)
    )
    acl = struct.pack("<BBHHH", 2, 0, 8 + len(entries), 2, 0) + entries
    head = struct.pack(
        "<BBHIIII", 1, 0, 0x8004, 20, 20 + len(_ADMINISTRATORS), 0, 20 + len(_ADMINISTRATORS) + len(_SYSTEM)
    )
    return head + _ADMINISTRATORS + _SYSTEM + acl


class HiveError(Exception):
    """These bytes are no whole hive."""


@dataclass(kw_only=True)
class Key:
    """A key: its values as (type, data), and the keys below it, by name."""

    values: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    keys: dict[str, "Key"] = field(default_factory=dict)

    def at(self, path: str) -> "Key":
        """The key at a path below this one, made if it is not there."""
        key = self
        for name in path.split("\\"):
            key = key.keys.setdefault(name, Key())
        return key

    def text(self, path: str, name: str) -> str:
        """A value of text; "" where there is none."""
        key = self
        for part in path.split("\\"):
            if part not in key.keys:
                return ""
            key = key.keys[part]
        return key.values.get(name, (TEXT, b""))[1].decode("utf-16-le", "replace").rstrip("\0")


def text(value: str) -> tuple[int, bytes]:
    """A value of text."""
    return TEXT, (value + "\0").encode("utf-16-le")


def number(value: int) -> tuple[int, bytes]:
    """A value of 32 bits."""
    return DWORD, struct.pack("<I", value)


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base block: what a hive says of itself.

    Attributes:
        primary, secondary: the sequence numbers; they differ while it is being written.
        written: when, as FILETIME.
        size: bytes of its bins.
        name: the end of its path.
        kind: 0 a hive, 6 the head of its log.
    """

    primary: int
    secondary: int
    written: int
    size: int
    name: str
    kind: int = 0

    def encode(self) -> bytes:
        """Its first sector."""
        head = _HEAD.pack(
            b"regf", self.primary, self.secondary, self.written, 1, 5, self.kind, 1, ROOT, self.size, 1,
            self.name[-31:].encode("utf-16-le").ljust(64, b"\0"),
        ).ljust(508, b"\0")  # fmt: skip
        return head + struct.pack("<I", _checksum(head))


def base(sector: bytes) -> Base:
    """A base block from its first sector.

    Raises:
        HiveError: it is none, or its checksum does not fit.
    """
    if len(sector) < SECTOR or sector[:4] != b"regf":
        raise HiveError("it has no base block")
    if struct.unpack_from("<I", sector, 508)[0] != _checksum(sector[:508]):
        raise HiveError("the checksum of its base block is wrong")
    head = _HEAD.unpack_from(sector)
    if head[4] != 1 or head[7] != 1 or head[8] != ROOT or not head[9] or head[9] % 4096:
        raise HiveError("its base block has impossible numbers")
    name = head[11].decode("utf-16-le", "replace").split("\0")[0]
    return Base(primary=head[1], secondary=head[2], written=head[3], size=head[9], name=name, kind=head[6])


def _checksum(head: bytes) -> int:
    found = 0
    for word in struct.unpack("<127I", head[:508]):
        found ^= word
    return {0: 1, NOTHING: NOTHING - 1}.get(found, found)


class _Bins:
    """One bin of a fixed size, filled with cells from its start."""

    def __init__(self, size: int, written: int) -> None:
        self.data = bytearray(size)
        self.place = ROOT
        _BIN.pack_into(self.data, 0, b"hbin", 0, size, 0, written, 0)

    def reserve(self, length: int) -> int:
        """A cell with room for that many bytes; returns its offset."""
        total = -(-(length + 4) // 8) * 8
        if self.place + total + 8 > len(self.data):
            raise HiveError("its bins are full")
        place = self.place
        struct.pack_into("<i", self.data, place, -total)
        self.place += total
        return place

    def put(self, cell: int, data: bytes) -> None:
        self.data[cell + 4 : cell + 4 + len(data)] = data

    def cell(self, data: bytes) -> int:
        place = self.reserve(len(data))
        self.put(place, data)
        return place

    def free(self, total: int) -> None:
        if total:
            struct.pack_into("<i", self.data, self.place, total)
            self.place += total


def encode(root: Key, *, size: int, written: int, gap: int = 0) -> bytes:
    """The bins of a hive.

    Args:
        root: its root key.
        size: bytes of the bins, in pages of 4096: there is one bin.
        written: the time of its keys, as FILETIME.
        gap: 8-byte units that lie free behind the root key, as in a hive from which something was deleted: what is
            written anew then lies elsewhere.

    Raises:
        HiveError: it does not fit.
    """
    bins = _Bins(size, written)
    top = bins.reserve(_KEY.size + 4)
    bins.free(gap * 8)
    descriptor = _descriptor()
    security = bins.reserve(20 + len(descriptor))
    count = _key(bins, top, b"ROOT", root, parent=0, security=security, written=written, flags=0x2C)
    head = struct.pack("<2sHIIII", b"sk", 0, security, security, count, len(descriptor))
    bins.put(security, head + descriptor)
    bins.free(size - bins.place)
    return bytes(bins.data)


def _key(
    bins: _Bins, cell: int, name: bytes, key: Key, *, parent: int, security: int, written: int, flags: int
) -> int:
    """Writes a key and all below it; returns how many keys that is."""
    values = [_value(bins, title, *value) for title, value in key.values.items()]
    list_ = bins.cell(struct.pack(f"<{len(values)}I", *values)) if values else NOTHING
    names = sorted(key.keys, key=str.upper)
    cells = [bins.reserve(_KEY.size + len(one)) for one in names]
    leaf = NOTHING
    if names:
        pairs = [number for one, at in zip(names, cells, strict=True) for number in (at, hash_of(one))]
        leaf = bins.cell(struct.pack(f"<2sH{len(pairs)}I", b"lh", len(names), *pairs))
    packed = _KEY.pack(
        b"nk", flags, written, 0, parent, len(names), 0, leaf, NOTHING, len(values), list_, security, NOTHING,
        max((2 * len(one) for one in names), default=0), 0, max((2 * len(one) for one in key.values), default=0),
        max((len(data) for _, data in key.values.values()), default=0), 0, len(name), 0,
    )  # fmt: skip
    bins.put(cell, packed + name)
    return 1 + sum(
        _key(bins, at, one.encode("ascii"), key.keys[one], parent=cell, security=security, written=written,
             flags=0x20)
        for one, at in zip(names, cells, strict=True)
    )  # fmt: skip


def _value(bins: _Bins, name: str, kind: int, data: bytes) -> int:
    if len(data) <= 4:
        size, place = len(data) | 0x80000000, int.from_bytes(data.ljust(4, b"\0"), "little")
    else:
        size, place = len(data), bins.cell(data)
    title = name.encode("ascii")
    return bins.cell(_VALUE.pack(b"vk", len(title), size, place, kind, 1, 0) + title)


def hash_of(name: str) -> int:
    """The hash by which a leaf knows a key's name."""
    found = 0
    for letter in name.upper():
        found = (found * 37 + ord(letter)) & NOTHING
    return found


def decode(bins: bytes) -> Key:
    """The root key of a hive, from its bins.

    Raises:
        HiveError: they are not whole; says what is wrong first.
    """
    try:
        return _Reader(bins).root()
    except (struct.error, IndexError) as problem:
        raise HiveError(f"a structure of it ends too early: {problem}") from problem


class _Reader:
    def __init__(self, bins: bytes) -> None:
        self._bins = bins
        self._cells = dict(self._tiles())
        self._keys: dict[int, int] = {}

    def _tiles(self) -> Mapping[int, int]:
        """Cells that are in use, with their lengths: with the free ones they fill each bin exactly."""
        found, start = {}, 0
        while start < len(self._bins):
            magic, offset, size, *_ = _BIN.unpack_from(self._bins, start)
            if magic != b"hbin" or offset != start or size % 4096 or not 0 < size <= len(self._bins) - start:
                raise HiveError(f"there is no bin at {start}")
            place = start + _BIN.size
            while place < start + size:
                length = struct.unpack_from("<i", self._bins, place)[0]
                if not length or length % 8 or place + abs(length) > start + size:
                    raise HiveError(f"the cell at {place} has an impossible length")
                if length < 0:
                    found[place] = -length - 4
                place += abs(length)
            start += size
        return found

    def _cell(self, place: int, magic: bytes = b"") -> bytes:
        length = self._cells.get(place)
        data = b"" if length is None else self._bins[place + 4 : place + 4 + length]
        if length is None or not data.startswith(magic):
            raise HiveError(f"what is pointed at by {place} is no {magic.decode() or 'cell in use'}")
        return data

    def root(self) -> Key:
        found = self._key(ROOT, parent=None, depth=0)[1]
        for place, count in self._keys.items():
            if struct.unpack_from("<I", self._cell(place, b"sk"), 12)[0] != count:
                raise HiveError(f"the security at {place} is that of {count} keys, and says another number")
        return found

    def _key(self, place: int, *, parent: int | None, depth: int) -> tuple[str, Key]:
        data = self._cell(place, b"nk")
        if len(data) < _KEY.size or depth > 32:
            raise HiveError(f"the key at {place} is none")
        head = _KEY.unpack_from(data)
        if parent is not None and head[4] != parent:
            raise HiveError(f"the key at {place} has another parent")
        name = data[_KEY.size : _KEY.size + head[18]].decode("latin-1")
        self._keys[head[11]] = self._keys.get(head[11], 0) + 1
        key = Key()
        for value in self._numbers(head[10], head[9]):
            title, kind, content = self._value(value)
            key.values[title] = (kind, content)
        if head[5]:
            leaf = self._cell(head[7], b"lh")
            count = struct.unpack_from("<H", leaf, 2)[0]
            if count != head[5] or len(leaf) < 4 + 8 * count:
                raise HiveError(f"the key at {place} has {head[5]} keys, and its list {count}")
            for at, sign in struct.iter_unpack("<II", leaf[4 : 4 + 8 * count]):
                below, found = self._key(at, parent=place, depth=depth + 1)
                if hash_of(below) != sign:
                    raise HiveError(f"the key {below} has another hash in its list")
                key.keys[below] = found
        return name, key

    def _numbers(self, place: int, count: int) -> tuple[int, ...]:
        if not count:
            return ()
        data = self._cell(place)
        if len(data) < 4 * count:
            raise HiveError(f"the list at {place} is shorter than {count}")
        return struct.unpack_from(f"<{count}I", data)

    def _value(self, place: int) -> tuple[str, int, bytes]:
        data = self._cell(place, b"vk")
        _, length, size, at, kind, _, _ = _VALUE.unpack_from(data)
        title = data[_VALUE.size : _VALUE.size + length].decode("latin-1")
        if size & 0x80000000:
            return title, kind, at.to_bytes(4, "little")[: size & 7]
        content = self._cell(at)
        if len(content) < size:
            raise HiveError(f"the data of the value {title} are shorter than {size} bytes")
        return title, kind, content[:size]
