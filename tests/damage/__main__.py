"""The table: `python -m tests.damage`; `--help` says how to have less of it, or more.

Machines boot beside the rest: each on its own would take as long as all else together.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tabulate import tabulate

from drtest.drill.check import Checked
from drtest.verdict.evidence import Judgement
from drtest.words import Verdict
from tests.damage.boots import BOOTS, Boot, booted, disk_of_the_image
from tests.damage.catalogue import Material
from tests.damage.chance import Chance
from tests.damage.clean import CAPTURES, captures
from tests.damage.foreign import FOREIGN
from tests.damage.material import CATALOGUE, VOLUMES, made, suffer

Row = tuple[str, str, str, str, str, str, str]
HEADERS = ("", "damage", "of", "must give", "gives", "took", "because")
KINDS = {**{name: str(kind) for name, kind in VOLUMES.items()}, "set": "all three"}


def main() -> int:
    """Makes backups, damages, examines, judges, and prints what came of it; 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.damage", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORDS", help="damage with these words in its name")
    parser.add_argument("--no-boots", action="store_true", help="boot no machines")
    parser.add_argument(
        "--clean", type=int, default=CAPTURES, metavar="N", help="clean captures (default: 50)"
    )
    parser.add_argument(
        "--draws", type=int, default=10, metavar="N", help="random damage, per volume and state"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first draw's")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="damage-") as name, ThreadPoolExecutor(1) as beside:
        folder = Path(name)
        machines = [each for each in BOOTS if options.only in each.name and not options.no_boots]
        boots = beside.submit(_boots, folder, machines)
        rows: list[Row] = []
        with made(folder / "material") as material:
            rows += _catalogue(material, folder / "copy", options.only)
            drawn, missed = _draws(material, folder / "draws", options) if not options.only else ([], 0)
        rows += _foreign(folder, options.only)
        alarms = _clean(folder, options.clean) if options.clean and not options.only else []
        rows += boots.result()
    wrong = sum(row[0] == "WRONG" for row in rows)
    print(tabulate(rows, headers=HEADERS, maxcolwidths=[None, 36, None, None, None, None, 80]))
    print(f"\n{len(rows)} pieces of damage with a name: {wrong} not as named")
    if not options.only:
        print(f"\n{tabulate(drawn, headers=('random damage to', 'lost nothing', 'lost something'))}")
        print(f"\ncalled usable though something acknowledged was lost: {missed}")
        print(f"{options.clean} clean captures under load: {len(alarms)} alarms", *alarms, sep="\n")
    return 1 if wrong or missed or alarms else 0


def _row(name: str, of: str, gives: Verdict, judgement: Judgement | Checked, begun: float) -> Row:
    mark = "as named" if judgement.verdict is gives else "WRONG"
    print(f"{mark}  {name}: {judgement.verdict}", file=sys.stderr, flush=True)
    took = f"{time.monotonic() - begun:.1f} s"
    return (mark, name, of, str(gives), str(judgement.verdict), took, judgement.reason)


def _catalogue(material: Material, folder: Path, words: str) -> Iterator[Row]:
    for each in CATALOGUE:
        if words in each.name:
            begun = time.monotonic()
            judgement = suffer(each, material, folder)
            yield _row(each.name, KINDS[each.volume], each.gives, judgement, begun)


def _foreign(folder: Path, words: str) -> Iterator[Row]:
    for each in FOREIGN:
        if words in each.name:
            begun = time.monotonic()
            checked = each.checked(folder)
            yield _row(each.name, checked.filesystem or "", each.gives, checked, begun)


def _boots(folder: Path, wanted: Sequence[Boot]) -> list[Row]:
    disk = disk_of_the_image(folder) if wanted else folder
    rows = []
    for number, each in enumerate(wanted):
        begun = time.monotonic()
        judgement = booted(each, disk, folder / f"boot{number}")
        rows.append(_row(each.name, "root, booted", each.gives, judgement, begun))
    return rows


def _draws(material: Material, folder: Path, options: argparse.Namespace) -> tuple[list[list[str]], int]:
    rows, missed = [], 0
    for state, backup in (("running", material.running), ("stopped", material.stopped)):
        for volume, kind in VOLUMES.items():
            chance = Chance(backup, volume, folder)
            counts: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
            for seed in range(options.seed, options.seed + options.draws):
                case = chance.draw(seed)
                counts[case.truth.lost][str(case.judgement.verdict)] += 1
                missed += case.missed
                if case.missed:
                    print(f"MISSED {state} {volume} {seed}: {case.what} {case.truth}", file=sys.stderr)
            cells = [
                ", ".join(f"{number} {verdict}" for verdict, number in sorted(each.items()))
                for each in counts.values()
            ]
            rows.append([f"{kind}, {state}", *cells])
            print(f"drawn: {rows[-1]}", file=sys.stderr, flush=True)
    return rows, missed


def _clean(folder: Path, count: int) -> list[str]:
    return [
        f"  {one.number} {one.volume}: {one.judgement.verdict}: {one.judgement.reason}"
        for one in captures(folder, count=count)
        if one.alarm
    ]


if __name__ == "__main__":
    sys.exit(main())
