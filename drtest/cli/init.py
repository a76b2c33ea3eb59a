"""`drtest init`: a scenario and a drtest.toml to begin with."""

import argparse
from importlib.resources import files
from pathlib import Path

SCENARIO = """\
# What `drtest plan` and `drtest run` take. Every key: scenarios/README.md of drtest.
drill: first
title: Can this server be restored from its snapshots, running and stopped?
servers:
  - name: web
    os: linux
    launch: {image: linux, volumes: {data: {size: 1GiB, filesystem: ext4}}}
    # A server that exists, instead of one that is launched for the drill:
    # select: {tags: {Name: web-1}, volumes: {data: {device: /dev/sdf}}}
    # may_stop: true
    # may_write: true
load: {canary: {rate: 50/s}, for: 10s}
captures: [running, stopped]
objectives: {rto: 30m}
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.epilog = "example:\n  drtest init && drtest run first.drill.yaml --target lab"
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(), metavar="DIR", help="where (default: here)"
    )
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Write both files, and none over one that is there."""
    from drtest.errors import UsageError

    texts = {
        options.folder / "first.drill.yaml": SCENARIO,
        options.folder / "drtest.toml": (files("drtest.cli") / "example.toml").read_text(encoding="utf-8"),
    }
    for path in texts:
        if path.exists():
            raise UsageError(f"{path} is there already.", remedy="Choose another folder, or move it away.")
    options.folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
        print(path)
    print(f"Next: drtest plan {options.folder / 'first.drill.yaml'}")
    return 0
