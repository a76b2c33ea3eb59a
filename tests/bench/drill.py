"""The second run of the first drill: its wall time beside the boots, shutdowns and load that it can't do without.

What a drill can't do without is read from the lab's log (each boot from the start of QEMU to the guest's first answer,
each shutdown from the power button to the end of QEMU) and from the run's evidence (the declared load before each
capture). Boots that run beside each other count once: it is the time in which at least one of these was going on.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from tabulate import tabulate

from drtest.lab import control

SCENARIO = Path("scenarios/first.drill.yaml")
LOAD_SECONDS = 10.0
"""``for`` of the scenario's load."""

LINE = re.compile(r"^(\S+ \S+) \w+ \S+: the (machine|guest|power button) of (i-\w+) (.*)$")
Span = tuple[float, float]


def spans(log: str) -> tuple[list[Span], list[Span]]:
    """Read boots and shutdowns from the lab's log."""
    boots: list[Span] = []
    shutdowns: list[Span] = []
    running: dict[str, float] = {}
    pressed: dict[str, float] = {}
    for line in log.splitlines():
        found = LINE.match(line)
        if not found:
            continue
        # The log has the local time: mktime reads it back.
        when = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f").timestamp()
        what, key, rest = found[2], found[3], found[4]
        if what == "machine" and rest == "runs":
            running[key] = when
        elif what == "guest" and key in running:
            boots.append((running.pop(key), when))
        elif what == "power button":
            pressed.setdefault(key, when)
        elif rest.startswith("has ended"):
            running.pop(key, None)
            if key in pressed:
                shutdowns.append((pressed.pop(key), when))
    return boots, shutdowns


def loads(evidence: Path, shutdowns: list[Span]) -> list[Span]:
    """Place the declared load: right before a capture of the running source, or before its shutdown."""
    found = {}
    for line in evidence.read_text().splitlines():
        entry = json.loads(line)
        if entry["probe"] != "capture":
            continue
        data = entry["data"]
        at = datetime.fromisoformat(data["requested_at"]).astimezone(UTC).timestamp()
        if data["source_state_before"] != "running":
            at = max((start for start, end in shutdowns if end <= at + 1), default=at)
        found[entry["attempt"]] = (at - LOAD_SECONDS, at)
    return list(found.values())


def union(all_: list[Span]) -> float:
    """Seconds in which at least one of them was going on."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(all_):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def main() -> None:
    """Run the drill twice in one lab, and print what the second run's time went into."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "lab"
        os.environ["DRTEST_LAB_DIR"] = str(folder)
        control.up(folder=folder)
        try:
            for number in (1, 2):
                skip = (folder / "lab.log").stat().st_size
                out = Path(place) / f"run{number}"
                words = ["run", str(SCENARIO), "--target", "lab", "--out", str(out)]
                begun = time.time()
                done = subprocess.run(
                    [sys.executable, "-m", "drtest.cli", *words], capture_output=True, text=True, check=False
                )
                ended = time.time()
                if done.returncode:
                    raise SystemExit(f"run {number} ended with {done.returncode}: {done.stdout}{done.stderr}")
            log = (folder / "lab.log").read_bytes()[skip:].decode()
            boots, shutdowns = spans(log)
            load = loads(out / "evidence.jsonl", shutdowns)
        finally:
            control.down(folder)
    inside = [(max(start, begun), min(stop, ended)) for start, stop in boots + shutdowns + load]
    needed = union([span for span in inside if span[1] > span[0]])
    wall = ended - begun
    rows = [
        *((f"boot {n + 1}", f"{a - begun:.1f} s", f"{b - a:.1f} s") for n, (a, b) in enumerate(boots)),
        *(
            (f"shutdown {n + 1}", f"{a - begun:.1f} s", f"{b - a:.1f} s")
            for n, (a, b) in enumerate(shutdowns)
        ),
        *((f"load {n + 1}", f"{a - begun:.1f} s", f"{b - a:.1f} s") for n, (a, b) in enumerate(load)),
        ("all of these, side by side counted once", "", f"{needed:.1f} s"),
        ("wall time of the second run", "", f"{wall:.1f} s"),
        ("ratio (wanted: at most 1.3)", "", f"{wall / needed:.2f}"),
    ]
    print(tabulate(rows, headers=("first.drill.yaml", "begins at", "takes")))
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
