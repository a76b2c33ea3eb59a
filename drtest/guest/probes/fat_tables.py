"""A check of FAT in Python, for helpers without dosfstools: boot partitions are FAT, and stock images lack its checker.

It holds what fsck.fat holds of a structure: the copies of the table are one, every chain of clusters ends where its
file ends, no cluster has two owners, none is taken without one, and names are names, once each in a folder.
"""

import struct
from typing import Any, Dict, Iterator, List, Set, Tuple

MOST_CLUSTERS = 1 << 21
_DIRECTORY = 0x10
_VOLUME_LABEL = 0x08
_NOT_IN_NAMES = b"*?<>|:/\\" + bytes(range(0x20))
_DOT, _DOTS = b".".ljust(11), b"..".ljust(11)


class _Geometry:
    """Where things are, from the boot sector (Microsoft's FAT specification, 1.03, "Boot sector and BPB").

    Raises:
        ValueError: the boot sector is none.
    """

    def __init__(self, sector: bytes, size: int) -> None:
        (self.sector, per_cluster, reserved, self.copies, self.root_entries, total16, self.media, table16) = (
            struct.unpack_from("<HBHBHHBH", sector, 11)
        )
        total32, table32 = struct.unpack_from("<II", sector, 32)
        total, table = total16 or total32, table16 or table32
        if sector[510:512] != b"\x55\xaa" or self.sector not in (512, 1024, 2048, 4096):
            raise ValueError("its boot sector is damaged")
        if (
            not per_cluster
            or per_cluster & (per_cluster - 1)
            or not reserved
            or self.copies not in (1, 2)
            or not table
        ):
            raise ValueError("its boot sector is damaged")
        if total * self.sector > size:
            raise ValueError("it is larger than the device")
        self.table = reserved * self.sector
        self.table_bytes = table * self.sector
        self.root = self.table + self.copies * self.table_bytes
        root_sectors = (self.root_entries * 32 + self.sector - 1) // self.sector
        self.data = self.root + root_sectors * self.sector
        self.cluster = per_cluster * self.sector
        self.clusters = (total * self.sector - self.data) // self.cluster
        self.root_cluster = 0 if table16 else struct.unpack_from("<I", sector, 44)[0]
        # The number of clusters alone says which FAT it is.
        self.bits = 12 if self.clusters < 4085 else 16 if self.clusters < 65525 else 32


def check(device: str, size: int) -> List[str]:
    """What is wrong with a FAT filesystem; nothing where it is whole.

    Raises:
        OverflowError: it is too large to be checked so.
    """
    with open(device, "rb") as file:
        try:
            geometry = _Geometry(file.read(512), size)
        except ValueError as problem:
            return [str(problem)]
        if geometry.clusters > MOST_CLUSTERS:
            raise OverflowError("it has {} clusters".format(geometry.clusters))
        file.seek(geometry.table)
        copies = [file.read(geometry.table_bytes) for _ in range(geometry.copies)]
        problems = ["the copies of its table differ"] if len(set(copies)) > 1 else []
        table = _entries(copies[0], geometry)
        if table[0] & 0xFF != geometry.media:
            problems.append("its table begins with another medium's mark")
        return problems + _Walk(file, geometry, table).problems()


def _entries(raw: bytes, geometry: _Geometry) -> List[int]:
    count = geometry.clusters + 2
    if geometry.bits == 12:
        pairs = [raw[3 * i : 3 * i + 3] for i in range((count + 1) // 2)]
        found: List[int] = []
        for pair in pairs:
            value = int.from_bytes(pair, "little")
            found += [value & 0xFFF, value >> 12]
        return found[:count]
    width = 2 if geometry.bits == 16 else 4
    raw = raw[: count * width].ljust(count * width, b"\0")
    values = struct.unpack("<{}{}".format(count, "H" if width == 2 else "I"), raw)
    return [value & 0x0FFFFFFF for value in values]


class _Walk:
    """A walk through all folders that gives every cluster its owner."""

    def __init__(self, file: Any, geometry: _Geometry, table: List[int]) -> None:
        self._file = file
        self._geometry = geometry
        self._table = table
        self._end = {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8}[geometry.bits]
        self._owned: Set[int] = set()
        self._problems: Dict[str, None] = {}

    def problems(self) -> List[str]:
        if self._geometry.root_cluster:
            root = self._content(self._chain(self._geometry.root_cluster, "/"))
        else:
            self._file.seek(self._geometry.root)
            root = self._file.read(self._geometry.root_entries * 32)
        waiting = [("/", root)]
        while waiting:
            path, content = waiting.pop()
            self._names(path, content)
            for name, attributes, first, length in _files(content):
                whole = path + _text(name)
                chain = self._chain(first, whole) if first else []
                if attributes & _DIRECTORY:
                    waiting.append((whole + "/", self._content(chain)))
                elif (
                    not (len(chain) - 1) * self._geometry.cluster
                    < max(length, 1)
                    <= max(len(chain) * self._geometry.cluster, 1)
                ):
                    self._problems["{} has {} bytes and {} clusters".format(whole, length, len(chain))] = None
        bad = self._end - 1
        taken = {number for number, value in enumerate(self._table) if number > 1 and value and value != bad}
        lost = len(taken - self._owned)
        if lost:
            self._problems["{} clusters are taken and belong to nothing".format(lost)] = None
        return list(self._problems)

    def _names(self, path: str, content: bytes) -> None:
        names = [name for name, _, _, _ in _files(content)]
        for name in names:
            # 0x05 as the first byte stands for 0xE5, which would mark the entry as deleted.
            if name[0] == 0x20 or any(byte in _NOT_IN_NAMES for byte in name[name[0] == 5 :]):
                self._problems["{} has a file whose name is none: {!r}".format(path, name)] = None
        if len(set(names)) < len(names):
            self._problems["{} has two files of one name".format(path)] = None
        if path != "/" and (content[:11], content[32:43]) != (_DOT, _DOTS):
            self._problems["{} does not begin with . and ..".format(path)] = None

    def _chain(self, first: int, owner: str) -> List[int]:
        chain: List[int] = []
        cluster = first
        while cluster < self._end:
            if not 2 <= cluster < len(self._table):
                self._problems["{} goes on at a cluster that there is not".format(owner)] = None
                break
            if cluster in self._owned:
                self._problems["{} shares a cluster with another file".format(owner)] = None
                break
            self._owned.add(cluster)
            chain.append(cluster)
            cluster = self._table[cluster]
        return chain

    def _content(self, chain: List[int]) -> bytes:
        parts = []
        for cluster in chain:
            self._file.seek(self._geometry.data + (cluster - 2) * self._geometry.cluster)
            parts.append(self._file.read(self._geometry.cluster))
        return b"".join(parts)


def _files(content: bytes) -> Iterator[Tuple[bytes, int, int, int]]:
    """Name, attributes, first cluster and length of what a folder holds, but for itself and its parent."""
    for place in range(0, len(content) - 31, 32):
        entry = content[place : place + 32]
        if entry[0] == 0:
            return
        attributes = entry[11]
        if entry[0] == 0xE5 or entry[:11] in (_DOT, _DOTS) or attributes & _VOLUME_LABEL:
            continue
        high, low, length = struct.unpack("<H4xHI", entry[20:32])
        yield entry[:11], attributes, (high << 16) | low, length


def _text(name: bytes) -> str:
    return (name[:8].decode("cp437").strip() + "." + name[8:].decode("cp437").strip()).rstrip(".")
