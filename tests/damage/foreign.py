"""Damage that nobody here made: the images by which the makers of filesystem checkers test their own."""

import csv
import gzip
import lzma
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drtest.drill import check, overlay
from drtest.drill.check import Checked
from drtest.guest.probes import ext
from drtest.words import Verdict
from tests.guest.images import tool

FOLDER = Path(__file__).parent / "foreign"
DEADLINE = 300.0


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """One image.

    Attributes:
        file: where it lies, in the folder.
        gives: the verdict.
        sentence: what its makers say of it.
    """

    file: str
    gives: Verdict
    sentence: str

    @property
    def name(self) -> str:
        """Its makers, and what they call it."""
        return re.sub(r"\.(?:img\.\w+|xxd)$", "", self.file).replace("/", " ")

    def unpacked(self, path: Path) -> None:
        """Writes the bytes of its disk to a file."""
        packed = FOLDER / self.file
        if self.file.endswith(".img.gz"):
            path.write_bytes(gzip.decompress(packed.read_bytes()))
        elif self.file.endswith(".xxd"):
            _from_hexadecimal(packed.read_text(), path)
        else:
            _from_metadata(lzma.decompress(packed.read_bytes()), path)

    def checked(self, folder: Path) -> Checked:
        """What ``drtest check fs`` makes of it."""
        image = folder / "foreign.img"
        self.unpacked(image)
        checked = check.check(
            overlay.find(image), examiner=check.here, partition=None, filesystem="", deadline=DEADLINE
        )
        image.unlink()
        return checked


def _read() -> Iterator[Foreign]:
    with (FOLDER / "images.tsv").open(newline="") as file:
        for packed, verdict, sentence in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield Foreign(file=packed, gives=Verdict(verdict), sentence=sentence)


FOREIGN = tuple(_read())


def _from_hexadecimal(text: str, path: Path) -> None:
    """What ``xxd -a`` printed; a line ``*`` stands for lines of zeros."""
    with path.open("wb") as file:
        for place, digits in re.findall(r"^([0-9a-f]{8}): ((?:[0-9a-f]{2,4} )+)", text, re.MULTILINE):
            file.seek(int(place, 16))
            file.write(bytes.fromhex(digits))


def _from_metadata(dump: bytes, path: Path) -> None:
    """What ``btrfs-image`` dumped: not the contents of files, nor the superblock's mirror, which is put back."""
    packed = path.with_suffix(".dump")
    packed.write_bytes(dump)
    tool("btrfs-image", "-r", packed, path)
    packed.unlink()
    first, mirror = 64 << 10, 64 << 20
    with path.open("r+b") as file:
        file.seek(first)
        block = bytearray(file.read(4096))
        struct.pack_into("<Q", block, 0x30, mirror)
        struct.pack_into("<I", block, 0, ext.crc32c(bytes(block[32:])) ^ 0xFFFFFFFF)
        file.seek(mirror)
        file.write(block)
