"""What the runner takes while it waits for machines: memory, and its share of one core, over a whole drill."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate


def main() -> None:
    """Run the first drill and read /proc as it goes."""
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "run")
        words = ["run", "scenarios/first.drill.yaml", "--target", "lab", "--out", out]
        begun = time.monotonic()
        runner = subprocess.Popen([sys.executable, "-m", "drtest.cli", *words], stderr=subprocess.DEVNULL)
        proc = Path("/proc") / str(runner.pid)
        peak = ticks = 0
        seconds: list[float] = []
        tick = os.sysconf("SC_CLK_TCK")
        while runner.poll() is None:
            try:
                status = (proc / "status").read_text()
                # Fields after the command's name, which may hold spaces (proc_pid_stat(5): utime, stime).
                fields = (proc / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                break
            if "VmHWM:" in status:
                peak = max(peak, int(status.partition("VmHWM:")[2].split()[0]))
            now = int(fields[11]) + int(fields[12])
            seconds.append((now - ticks) / tick)
            ticks = now
            time.sleep(1)
        wall = time.monotonic() - begun
        cpu = ticks / tick
        rows = [
            ("wall", f"{wall:.0f} s", ""),
            ("peak memory", f"{peak / 1024:.0f} MB", "200 MB"),
            # It waits in nearly every second: the median one is a second of waiting.
            ("processor, median second", f"{100 * statistics.median(seconds):.0f} % of one core", "5 %"),
            ("processor, whole run with its start", f"{cpu:.1f} s, {100 * cpu / wall:.1f} % of one core", ""),
        ]
        print(tabulate(rows, headers=("runner", "measured", "wanted below")))


if __name__ == "__main__":
    main()
