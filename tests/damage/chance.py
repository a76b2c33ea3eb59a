"""Damage that nobody has thought of: drawn by a seed, done to what lies on a disk, and to what was on its way there."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drtest.verdict.evidence import Judgement
from tests.damage.examination import examined, judged
from tests.damage.store import Write, rebuilt
from tests.damage.truth import Content, Truth, content, truth
from tests.damage.worlds import Backup
from tests.guest.images import tool, write

BLOCK = 4096
SECTOR = 512


@dataclass(frozen=True, kw_only=True)
class Case:
    """One draw, and what came of it.

    Attributes:
        seed: by which it can be done again on the same images.
        what: what was done, for people.
        truth: what was lost by it.
        judgement: what the examination made of it.
    """

    seed: int
    what: str
    truth: Truth
    judgement: Judgement

    @property
    def missed(self) -> bool:
        """Whether something acknowledged is lost and the backup is called usable all the same: the one deadly sin."""
        return self.truth.lost and self.judgement.verdict.usable

    @property
    def undecided(self) -> bool:
        """Whether damage was called neither: no sin, but no help."""
        return self.truth.lost and not self.judgement.verdict.decided


class Chance:
    """Draws damage for one volume of a backup.

    Args:
        backup: a whole one.
        volume: which of its volumes.
        folder: where the copies are made.
    """

    def __init__(self, backup: Backup, volume: str, folder: Path) -> None:
        self._backup = backup
        self._volume = volume
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._image = backup.images[volume]
        self._taken = _taken(self._image)
        whole = self._copy("whole.img")
        found = content(whole, backup, volume)
        assert found is not None
        self._whole: Content = found

    def draw(self, seed: int) -> Case:
        """One piece of damage, from its doing to its verdict."""
        image, what = self._done(seed)
        checked = self._folder / "checked.img"
        tool("cp", "--sparse=always", image, checked)
        one = Backup(
            images={self._volume: checked},
            volumes=self._backup.volumes,
            places=self._backup.places,
            series=self._backup.series,
            acknowledged=self._backup.acknowledged,
            capture=self._backup.capture,
            cut=self._backup.cut,
        )
        judgement = judged(one, examined(one), self._volume)
        real = truth(image, self._backup, self._volume, whole=self._whole)
        case = Case(seed=seed, what=what, truth=real, judgement=judgement)
        if case.missed:  # both images have been mounted by now: keep one as it was, for whoever looks into it
            self._done(seed)[0].rename(self._folder / f"missed-{self._volume}-{seed}.img")
        return case

    def _copy(self, name: str) -> Path:
        path = self._folder / name
        tool("cp", "--sparse=always", self._image, path)
        return path

    def _done(self, seed: int) -> tuple[Path, str]:
        chance = random.Random(f"{self._volume} {seed}")
        writes = self._backup.writes.get(self._volume)
        if writes and chance.random() < 0.4:
            kept, what = lost_writes(writes, chance)
            image = rebuilt(kept, size=self._image.stat().st_size, path=self._folder / "damaged.img")
            return image, what
        image = self._copy("damaged.img")
        count = chance.choice([1, 1, 1, 2, 5, 20])
        return image, "; ".join(self._one(image, chance) for _ in range(count))

    def _one(self, image: Path, chance: random.Random) -> str:
        """One change of one block that holds something: of data, metadata, log, whatever it is."""
        place = chance.choice(self._taken)
        with image.open("rb") as file:
            file.seek(place)
            block = bytearray(file.read(BLOCK))
        sector = chance.randrange(0, BLOCK, SECTOR)
        kind = chance.choice(["bit", "bits", "sector", "half", "noise", "block", "swap", "misdirected"])
        match kind:
            case "bit":
                block[chance.randrange(BLOCK)] ^= 1 << chance.randrange(8)
            case "bits":
                for _ in range(20):
                    block[chance.randrange(BLOCK)] ^= 1 << chance.randrange(8)
            case "sector":
                block[sector : sector + SECTOR] = bytes(SECTOR)
            case "half":
                block[BLOCK // 2 :] = bytes(BLOCK // 2)
            case "noise":
                block[sector : sector + SECTOR] = chance.randbytes(SECTOR)
            case "block":
                block[:] = bytes(BLOCK)
            case _:
                other = chance.choice(self._taken)
                with image.open("rb") as file:
                    file.seek(other)
                    theirs = file.read(BLOCK)
                if kind == "swap":
                    write(image, other, bytes(block))
                block[:] = theirs.ljust(BLOCK, b"\0")
                write(image, place, bytes(block))
                return f"{kind} {place} {other}"
        write(image, place, bytes(block))
        return f"{kind} {place}"


def lost_writes(writes: Sequence[Write], chance: random.Random) -> tuple[list[Write], str]:
    """What is left of a stream of writes when a disk breaks its promise.

    Three ways in which disks do: a stretch of time is lost; single writes are; or they sit in a pool that they leave
    in no order, each page for itself, so that the disk holds pages of different moments.
    """
    way = chance.choice(["stretch", "single", "pool"])
    since = chance.randrange(len(writes) // 4, len(writes))
    if way == "stretch":
        until = min(len(writes), since + chance.choice([3, 10, 30, 100, 10000]))
        return [*writes[:since], *writes[until:]], f"writes {since} to {until} of {len(writes)} lost"
    if way == "single":
        part = chance.choice([0.02, 0.2, 0.6])
        kept = [one for number, one in enumerate(writes) if number < since or chance.random() > part]
        return kept, f"{len(writes) - len(kept)} writes of {len(writes) - since} lost"
    left: dict[int, bool] = {}
    kept = list(writes[:since])
    for one in writes[since:]:
        page = one.offset // BLOCK
        if left.setdefault(page, chance.random() < 0.5):
            kept.append(one)
    return kept, f"half of the pages written after write {since} of {len(writes)} still in the pool"


def _taken(image: Path) -> list[int]:
    """Places of all blocks that are not zero."""
    found, zeros = [], bytes(BLOCK)
    with image.open("rb") as file:
        place = 0
        while block := file.read(1 << 20):
            if block.count(0) != len(block):
                found += [
                    place + at
                    for at in range(0, len(block), BLOCK)
                    if block[at : at + BLOCK] != zeros[: len(block) - at]
                ]
            place += len(block)
    return found
