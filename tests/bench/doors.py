"""How long the doors take to open: medians over several runs, beside a Python that does nothing."""

import statistics
import subprocess
import sys
import time

from tabulate import tabulate

RUNS = 9
COMMANDS = {
    "python -c pass": ([sys.executable, "-c", "pass"], None),
    "drtest --help": ([sys.executable, "-m", "drtest.cli", "--help"], 0.3),
    "drtest plan": ([sys.executable, "-m", "drtest.cli", "plan", "scenarios/first.drill.yaml"], 1.0),
}


def seconds(command: list[str]) -> float:
    """Wall seconds of one run."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    """Measure in turn, so that a machine that slows down slows all of them, and print the table."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, (command, _wanted) in COMMANDS.items():
            taken[name].append(seconds(command))
    empty = statistics.median(taken["python -c pass"])
    rows = [
        (
            name,
            f"{statistics.median(all_):.2f} s",
            f"{statistics.median(all_) / empty:.1f}",
            f"{wanted} s" if wanted else "",
        )
        for (name, all_), (_, wanted) in zip(taken.items(), COMMANDS.values(), strict=True)
    ]
    print(tabulate(rows, headers=("command", f"median of {RUNS}", "× empty Python", "wanted below")))


if __name__ == "__main__":
    main()
