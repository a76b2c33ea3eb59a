"""Marvin32, the checksum of a hive's log entries (regf specification, "Log entries", notes 1 to 3)."""

import struct

SEED = 0x82EF4D887A4E55C5
_ALL = 0xFFFFFFFF


def marvin32(data: bytes, *, seed: int = SEED) -> int:
    """The 64-bit hash of some bytes.

    >>> hex(marvin32(b"", seed=0x004FB61A001BDBCC))
    '0x30ed35c100cd3c7d'
    """
    low, high = seed & _ALL, seed >> 32
    whole = len(data) // 4 * 4
    tail = (data[whole:] + b"\x80").ljust(4, b"\0")
    for word in (*struct.unpack(f"<{whole // 4}I", data[:whole]), int.from_bytes(tail, "little"), 0):
        low = (low + word) & _ALL
        high ^= low
        low = ((low << 20 | low >> 12) + high) & _ALL
        high = (high << 9 | high >> 23) & _ALL ^ low
        low = ((low << 27 | low >> 5) + high) & _ALL
        high = (high << 19 | high >> 13) & _ALL
    return high << 32 | low
