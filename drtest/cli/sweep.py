"""`drtest sweep`: what dead runs left behind, by tag."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.epilog = (
        "examples:\n  drtest sweep --yes\n  drtest sweep --target production --run 20261124-175121-a1b2 --yes"
    )
    parser.add_argument("--target", metavar="NAME", default="lab", help="where to look (default: lab)")
    parser.add_argument(
        "--run", metavar="ID", action="append", default=[], help="only what this run left; may be repeated"
    )
    parser.add_argument(
        "--yes",
        action="store_true",
        help="start stopped sources and delete the rest, now; on any target but the lab, of the runs named by --run",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the drtest.toml to use")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """List, or put right."""
    from tabulate import tabulate

    from drtest.doors import LAB, sweep

    left = sweep(options.target, config=options.config, runs=options.run, delete=options.yes)
    if options.json:
        print(json.dumps([asdict(each) for each in left], indent=2))
        return 3 if options.yes and left else 0
    if not left:
        print("Nothing is left over." if not options.yes else "All is clean.")
        return 0
    rows = [(each.run, each.kind, each.id, each.key, each.reason) for each in left]
    print(
        tabulate(
            rows, headers=("run", "kind", "id", "what it was", "why it is still there" if options.yes else "")
        )
    )
    if options.yes:
        print("These could not be put right; the reasons stand beside them.", file=sys.stderr)
        return 3
    named = options.run or ([] if options.target == LAB else ["ID"])
    words = ["drtest sweep", *([] if options.target == LAB else [f"--target {options.target}"])]
    command = " ".join([*words, *(f"--run {one}" for one in named), "--yes"])
    print(
        f"`{command}` starts sources that are stopped, and deletes the rest. A run that is still at work"
        " would lose its resources: name a dead one by --run."
    )
    return 0
