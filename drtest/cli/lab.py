"""`drtest lab`: the built-in EC2 on this machine."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its subcommands and their options."""
    parser.epilog = "example:\n  drtest lab install --yes && drtest lab up && drtest lab status --json"
    commands = parser.add_subparsers(dest="lab_command", metavar="COMMAND", required=True)
    install = commands.add_parser(
        "install", help="install what the lab needs from the system: QEMU and its like"
    )
    install.add_argument("--yes", action="store_true", help="ask nothing")
    install.set_defaults(call=_install)
    up = commands.add_parser("up", help="bring the lab up; the first time it builds its guest images")
    up.add_argument("--json", action="store_true", help="for machines")
    up.add_argument("--faults", metavar="FILE", type=Path, help="what is to go wrong, as YAML or JSON")
    up.set_defaults(call=_up)
    faults = commands.add_parser("faults", help="set, show or end what goes wrong in a lab that is up")
    faults.add_argument("plan", metavar="FILE|show|off", help="a file as for `up --faults`")
    faults.epilog = "example:\n  drtest lab faults throttled.yaml && drtest lab faults show"
    faults.formatter_class = parser.formatter_class
    faults.set_defaults(call=_faults)
    status = commands.add_parser("status", help="what is up: endpoint, keys, images, machines")
    status.add_argument("--json", action="store_true", help="for machines, secrets included")
    status.set_defaults(call=_status)
    down = commands.add_parser("down", help="stop the lab, its machines and disks")
    down.set_defaults(call=_down)


def _install(options: argparse.Namespace) -> int:
    from drtest.errors import EnvironmentFailedError
    from drtest.lab import install

    missing = install.missing()
    if not missing:
        print("The lab has all that it needs from this system.")
        return 0
    print(install.plan(missing))
    if not options.yes:
        if not sys.stdin.isatty():
            raise EnvironmentFailedError(
                "Nobody is there to say yes.",
                remedy="Run `drtest lab install --yes` to install without a question.",
            )
        if input("Install them now? [y/N] ").strip().lower() not in ("y", "yes"):
            print("Nothing was installed.")
            return 3
    install.install(missing, say=print)
    print("Done: `drtest lab up` brings the lab up, `drtest run … --target lab` does so by itself.")
    return 0


def _up(options: argparse.Namespace) -> int:
    from drtest.cli.terminal import lab_progress
    from drtest.doors import lab_up

    # Read first: a mistake in the file brings nothing up.
    plan = _plan(options.faults) if options.faults else None
    with lab_progress() as progress:
        status = lab_up(on_lab=progress)
    if plan is not None:
        from drtest.lab import control

        control.faults(plan)
    _show(status, as_json=options.json)
    return 0


def _plan(file: Path) -> dict[str, Any]:
    from drtest.lab.faults import read_file

    return read_file(file).model_dump(mode="json", exclude_unset=True)


def _faults(options: argparse.Namespace) -> int:
    from drtest.lab import control

    match options.plan:
        case "show":
            found = control.faults()
        case "off":
            found = control.faults({})
        case file:
            found = control.faults(_plan(Path(file)))
    print(json.dumps(found, indent=2))
    return 0


def _status(options: argparse.Namespace) -> int:
    from drtest.lab import control

    status = control.status()
    if status is None:
        print("{}" if options.json else "No lab is up; `drtest lab up` brings one up.")
        return 3
    _show(status, as_json=options.json)
    return 0


def _down(_: argparse.Namespace) -> int:
    from drtest.lab import control

    stopped = control.down()
    print("\n".join(stopped) if stopped else "No lab was up.")
    return 0


def _show(status: Any, *, as_json: bool) -> None:
    from tabulate import tabulate

    data = asdict(status)
    if as_json:
        print(json.dumps(data, indent=2, default=_plain))
        return
    rows = [
        ("endpoint", data["endpoint"]),
        ("region", data["region"]),
        ("images", ", ".join(f"{name} {ami}" for name, ami in data["images"].items())),
        ("accelerator", f"{data['accelerator']}: {data['accelerator_reason']}"),
        ("machines", len(data["machines"])),
        ("key", data["key_file"]),
        *(("lost", sentence) for sentence in data["lost"]),
        *(("trouble", sentence) for sentence in data["trouble"]),
    ]
    print(tabulate(rows, tablefmt="plain"))


def _plain(value: object) -> str:
    return str(value) if isinstance(value, Path) else repr(value)
