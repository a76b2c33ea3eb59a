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
    up.add_argument(
        "--image",
        metavar="NAME",
        action="append",
        help="a guest image that it must have: linux (if none is named), windows, windows-helper; more than once",
    )
    up.add_argument("--faults", metavar="FILE", type=Path, help="what is to go wrong, as YAML or JSON")
    up.add_argument(
        "--pool",
        metavar="NAME=STRENGTH",
        action="append",
        default=[],
        help="how strong the write pool in front of an image's root volumes is, from 0 to 1; more than once",
    )
    up.add_argument("--seed", metavar="N", type=int, help="what the write pools draw from, to have it again")
    up.epilog = "example:\n  drtest lab up --image windows --pool windows=0 --pool linux=0.8 --seed 7"
    up.formatter_class = parser.formatter_class
    up.set_defaults(call=_up)
    faults = commands.add_parser("faults", help="set, show or end what goes wrong in a lab that is up")
    faults.add_argument("plan", metavar="FILE|show|off", help="a file as for `up --faults`")
    faults.epilog = "example:\n  drtest lab faults throttled.yaml && drtest lab faults show"
    faults.formatter_class = parser.formatter_class
    faults.set_defaults(call=_faults)
    image = commands.add_parser("image", help="images of your own: add, list, remove")
    _image_arguments(image, parser.formatter_class)
    status = commands.add_parser("status", help="what is up: endpoint, keys, images, machines")
    status.add_argument("--json", action="store_true", help="for machines, secrets included")
    status.set_defaults(call=_status)
    down = commands.add_parser("down", help="stop the lab, its machines and disks")
    down.set_defaults(call=_down)


def _image_arguments(parser: argparse.ArgumentParser, form: Any) -> None:
    parser.epilog = "example:\n  drtest lab image add server-2022.vhdx --os windows"
    parser.formatter_class = form
    commands = parser.add_subparsers(dest="image_command", metavar="COMMAND", required=True)
    add = commands.add_parser("add", help="copy a disk, to run it in the place of the lab's own image")
    add.add_argument("file", metavar="FILE", type=Path, help="raw, qcow2, VHD, VHDX or VMDK")
    add.add_argument("--os", choices=["linux", "windows"], required=True, help="what is in it")
    add.add_argument("--name", default="", help="what scenarios call it; by default as its operating system")
    add.add_argument(
        "--pool",
        metavar="STRENGTH",
        default="0",
        help="the write pool in front of its root volumes, from 0 to 1",
    )
    add.set_defaults(call=_image_add)
    commands.add_parser("list", help="which there are").set_defaults(call=_image_list)
    remove = commands.add_parser("remove", help="forget one: the lab's own has its place back")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(call=_image_remove)


def _image_add(options: argparse.Namespace) -> int:
    from drtest.cli.terminal import lab_progress
    from drtest.lab import own_images
    from drtest.lab.pool import parse

    name, pool = parse(f"{options.name or options.os}={options.pool}")
    _refuse_while_up(name)
    with lab_progress() as progress:
        own_images.add(options.file, os=options.os, name=name, pool=pool, tell=progress)
    print(f"Labs that come up from now on have it as {name!r}.")
    return 0


def _refuse_while_up(name: str) -> None:
    """Volumes of a lab that is up are built on the image's disk."""
    from drtest.errors import UsageError
    from drtest.lab import control

    status = control.status()
    if status is not None and name in status.images:
        raise UsageError(
            f"The lab that is up has an image {name!r}, which its volumes are made of.",
            remedy="Run `drtest lab down` first, which removes what is in it.",
        )


def _image_list(_: argparse.Namespace) -> int:
    from tabulate import tabulate

    from drtest.lab import own_images

    brought = [(name, found[1]) for name in own_images.names() if (found := own_images.found(name))]
    rows = [
        (name, about["os"], f"{about['size'] // own_images.GIB} GiB", about["pool"], about["from"])
        for name, about in brought
    ]
    print(tabulate(rows, headers=["name", "os", "size", "write pool", "from"]) if rows else "There are none.")
    return 0


def _image_remove(options: argparse.Namespace) -> int:
    from drtest.lab import own_images

    _refuse_while_up(options.name)
    there = own_images.remove(options.name)
    print(
        f"{options.name} is gone."
        if there
        else f"There is no image of yours that is called {options.name!r}."
    )
    return 0 if there else 2


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
    from drtest.lab.pool import parse

    # Read first: a mistake in the file brings nothing up.
    plan = _plan(options.faults) if options.faults else None
    with lab_progress() as progress:
        status = lab_up(
            on_lab=progress,
            images=options.image or ("linux",),
            pool=dict(parse(text) for text in options.pool),
            seed=options.seed,
        )
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
        ("write pools", _pools(data["pool"], data["seed"])),
        ("accelerator", f"{data['accelerator']}: {data['accelerator_reason']}"),
        ("machines", len(data["machines"])),
        ("key", data["key_file"]),
        ("password", data["password_file"]),
        *(("lost", sentence) for sentence in data["lost"]),
        *(("trouble", sentence) for sentence in data["trouble"]),
    ]
    print(tabulate(rows, tablefmt="plain"))


def _pools(pool: dict[str, float], seed: int) -> str:
    acting = [f"{name} {strength:g}" for name, strength in pool.items() if strength]
    return f"{', '.join(acting)} (seed {seed})" if acting else "none"


def _plain(value: object) -> str:
    return str(value) if isinstance(value, Path) else repr(value)
