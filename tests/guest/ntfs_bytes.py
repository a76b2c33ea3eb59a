"""NTFS volumes of a few structures, built byte by byte: boot sector, MFT records 2 and 3, restart pages of the log."""

import struct

CLUSTER, RECORD, TABLE, LOG = 4096, 1024, 4, 16
SERIAL = 0x3AD264DE0902EDCA
SIZE = 128 * 1024
IN_USE, CLOSED = 0x0000, 0x0002


def volume(
    *, flags: int = 0, log: int = CLOSED, clients: int = 0, torn: bool = False, blank_log: bool = False
) -> bytes:
    """A volume.

    Args:
        flags: of $VOLUME_INFORMATION; 1 is dirty.
        log: flags of the log's restart area.
        clients: the first client that has it open; 0xFFFF: nobody.
        torn: whether record 3 was written in part.
        blank_log: whether the log was never written to, as mkfs leaves it.
    """
    image = bytearray(SIZE)
    boot = bytearray(512)
    boot[3:11] = b"NTFS    "
    struct.pack_into("<HB", boot, 0x0B, 512, CLUSTER // 512)
    struct.pack_into("<QQb", boot, 0x30, TABLE, TABLE, -10)
    struct.pack_into("<Q", boot, 0x48, SERIAL)
    boot[510:512] = b"\x55\xaa"
    image[:512] = boot
    information = struct.pack("<QBBH", 0, 3, 1, flags)
    resident = struct.pack("<IIBBHHHIHH", 0x70, 40, 0, 0, 0, 0, 0, len(information), 24, 0) + information
    run = bytes([0x11, 2, LOG, 0])
    outside = struct.pack("<IIBBHHHQQH", 0x80, 72, 1, 0, 64, 0, 0, 0, 1, 64).ljust(64, b"\0") + run
    for number, attribute in ((2, outside), (3, resident)):
        record = _record(attribute)
        if number == 3 and torn:
            record[1022:1024] = b"\xee\xee"
        place = TABLE * CLUSTER + number * RECORD
        image[place : place + RECORD] = record
    for page in range(2):
        place = LOG * CLUSTER + page * 4096
        data = b"\xff" * 4096 if blank_log else bytes(_restart(log, clients, lsn=100 + page))
        image[place : place + 4096] = data
    return bytes(image)


def _record(attribute: bytes) -> bytearray:
    record = bytearray(RECORD)
    struct.pack_into("<4sHH", record, 0, b"FILE", 48, 3)
    struct.pack_into("<H", record, 0x14, 56)
    body = attribute.ljust(-(-len(attribute) // 8) * 8, b"\0") + struct.pack("<I", 0xFFFFFFFF)
    record[56 : 56 + len(body)] = body
    _protect(record, 48)
    return record


def _restart(flags: int, clients: int, *, lsn: int) -> bytearray:
    page = bytearray(4096)
    struct.pack_into("<4sHHQIIH", page, 0, b"RSTR", 30, 9, 0, 4096, 4096, 64)
    struct.pack_into("<QHHHH", page, 64, lsn, 1, 0xFFFF, clients, flags)
    _protect(page, 30)
    return page


def _protect(data: bytearray, place: int) -> None:
    """The update sequence: the last two bytes of each sector are kept at `place`, a number is in theirs."""
    struct.pack_into("<H", data, place, 7)
    for number, end in enumerate(range(510, len(data), 512)):
        data[place + 2 + 2 * number : place + 4 + 2 * number] = data[end : end + 2]
        struct.pack_into("<H", data, end, 7)


def mbr(volume: bytes, *, start: int = 63 * 512, signature: int = 0xCAFEF00D) -> bytes:
    """A disk with one partition by MBR."""
    sector = bytearray(512)
    struct.pack_into("<I", sector, 0x1B8, signature)
    sector[446:462] = struct.pack("<B3sB3sII", 0x80, b"", 7, b"", start // 512, len(volume) // 512)
    sector[510:512] = b"\x55\xaa"
    return bytes(sector).ljust(start, b"\0") + volume


def gpt(volume: bytes, *, start: int = 64 * 512) -> bytes:
    """A disk with one partition by GPT."""
    sector = bytearray(512)
    sector[446:462] = struct.pack("<B3sB3sII", 0, b"", 0xEE, b"", 1, 0xFFFFFFFF)
    sector[510:512] = b"\x55\xaa"
    head = bytearray(512)
    head[:8] = b"EFI PART"
    head[56:72] = bytes(range(16))
    struct.pack_into("<QII", head, 72, 2, 4, 128)
    last = (start + len(volume)) // 512 - 1
    entry = b"\x11" * 32 + struct.pack("<QQ", start // 512, last)
    return (bytes(sector) + bytes(head) + entry).ljust(start, b"\0") + volume


IMAGES: dict[str, bytes] = {
    "clean": volume(),
    "nobody has the log open": volume(log=IN_USE, clients=0xFFFF),
    "dirty flag": volume(flags=1),
    "log in use": volume(log=IN_USE),
    "log never written to": volume(blank_log=True),
    "torn record": volume(torn=True),
    "by mbr": mbr(volume(flags=1)),
    "by gpt": gpt(volume(log=IN_USE)),
    "no ntfs": bytes(SIZE),
    "impossible numbers": volume()[:0x30] + bytes(8) + volume()[0x38:],
}
