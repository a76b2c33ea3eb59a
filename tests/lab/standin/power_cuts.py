"""Files whose writes are recorded, and what of them a power cut, or a disk that flushes in name only, can leave."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

PAGE = 4096


@dataclass(frozen=True)
class Write:
    file: str
    offset: int
    data: bytes

    def pieces(self, size: int) -> "Iterator[Write]":
        """What can be there or not there by itself: a sector, or a page of the system's cache."""
        place = 0
        while place < len(self.data):
            end = min(len(self.data), place + size - (self.offset + place) % size)
            yield Write(self.file, self.offset + place, self.data[place:end])
            place = end


@dataclass(frozen=True)
class Flush:
    file: str


Step = Write | Flush
Files = dict[str, bytes]


class Recorded:
    """A file in memory; all that is done to it goes on the list."""

    def __init__(self, name: str, content: bytes, steps: list[Step]) -> None:
        self.name, self.content, self.steps = name, bytearray(content), steps

    def read(self, offset: int, count: int) -> bytes:
        return bytes(self.content[offset : offset + count])

    def write(self, offset: int, data: bytes) -> None:
        self.content[offset : offset + len(data)] = data
        self.steps.append(Write(self.name, offset, data))

    def flush(self) -> None:
        self.steps.append(Flush(self.name))

    def close(self) -> None:
        pass


def written(files: Files, writes: "list[Write]") -> Files:
    contents = {name: bytearray(data) for name, data in files.items()}
    for one in writes:
        contents[one.file][one.offset : one.offset + len(one.data)] = one.data
    return {name: bytes(data) for name, data in contents.items()}


def cuts(files: Files, steps: list[Step]) -> Iterator[tuple[int, Files, list[Write]]]:
    """For each moment: what is surely on the disk, and the writes since, of which any part can be there."""
    for moment in range(len(steps) + 1):
        sure: list[Write] = []
        unsure: list[Write] = []
        for number, step in enumerate(steps[:moment]):
            if isinstance(step, Write):
                flushed = any(
                    isinstance(later, Flush) and later.file == step.file for later in steps[number:moment]
                )
                (sure if flushed else unsure).append(step)
        yield moment, written(files, sure), unsure


def subsets(writes: list[Write], *, size: int = PAGE) -> Iterator[list[Write]]:
    """Every part of some writes."""
    pieces = [piece for one in writes for piece in one.pieces(size)]
    for chosen in itertools.product((False, True), repeat=len(pieces)):
        yield [piece for piece, there in zip(pieces, chosen, strict=True) if there]


def pooled(files: Files, steps: list[Step], *, seed: int, longest: int) -> Files:
    """What is there if each page leaves a volatile cache after a number of later writes of its own, flushes or not."""
    draw = random.Random(seed)
    pieces = [piece for one in steps if isinstance(one, Write) for piece in one.pieces(PAGE)]
    left = [
        piece for number, piece in enumerate(pieces) if number + draw.randrange(1, longest) <= len(pieces)
    ]
    return written(files, left)
