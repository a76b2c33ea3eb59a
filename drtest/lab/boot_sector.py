"""Whether a disk could boot in the lab, told from its first bytes: by BIOS, which is what QEMU's SeaBIOS does.

Source: UEFI Specification, chapter 5 (the protective MBR and GPT); GNU GRUB manual, "BIOS installation".
"""

import struct

LOOKS_AT = 64 * 1024
"""Bytes of a disk's beginning that are looked at: its boot sector and its partition table, whichever kind it has."""

_SECTOR = 512
_CODE = 440
_SIGNATURE = b"\x55\xaa"
_GPT, _UEFI_SYSTEM = 0xEE, 0xEF
_BIOS_BOOT = b"Hah!IdontNeedEFI"
"""The type of the partition in which GRUB keeps what its boot sector loads, on disks with a GPT."""


def why_not(start: bytes) -> str:
    """Say why a disk can't boot by BIOS; empty if it could.

    Args:
        start: its first `LOOKS_AT` bytes.
    """
    sector = start[:_SECTOR]
    if sector[510:] != _SIGNATURE:
        return "it has no boot sector"
    types = {sector[at + 4] for at in range(446, 510, 16)} - {0}
    if _GPT in types and not _has_bios_boot(start):
        return "it is made for UEFI (a GPT without a BIOS boot partition)"
    if types == {_UEFI_SYSTEM}:
        return "it is made for UEFI (there is a UEFI system partition alone)"
    if not any(sector[:_CODE]):
        return "there is no code in its boot sector"
    return ""


def _has_bios_boot(start: bytes) -> bool:
    header = start[_SECTOR : 2 * _SECTOR]
    if header[:8] != b"EFI PART":
        return False
    first, count, size = struct.unpack_from("<QII", header, 72)
    entries = start[first * _SECTOR : first * _SECTOR + count * size]
    return any(entries[at : at + 16] == _BIOS_BOOT for at in range(0, len(entries), max(size, 128)))
