"""`drtest doctor`: whether this machine, the lab and the targets are ready, and what to do where they are not."""

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at: ready or not, what was seen, and what to do."""

    what: str
    ready: bool
    seen: str
    remedy: str = ""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.epilog = "example:\n  drtest doctor"
    parser.add_argument("--config", type=Path, metavar="FILE", help="the drtest.toml to use")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Look, and print a line each; 3 if something is not ready."""
    from tabulate import tabulate

    found = list(_findings(options.config))
    if options.json:
        print(json.dumps([asdict(each) for each in found], indent=2))
    else:
        rows = [("ready" if each.ready else "NOT READY", each.what, each.seen) for each in found]
        print(tabulate(rows, tablefmt="plain", maxcolwidths=[None, None, 80]))
        for each in found:
            if each.remedy:
                print(f"\n{each.what}: {each.remedy}")
    return 0 if all(each.ready for each in found) else 3


def _findings(config: Path | None) -> Iterator[Finding]:
    from drtest.cloud.targets import load_targets
    from drtest.errors import DrtestError
    from drtest.lab import control, images, install

    missing = install.missing()
    yield Finding(
        what="lab: system packages",
        ready=not missing,
        seen=", ".join(package.name for package in missing) + " missing" if missing else "all there",
        remedy="`drtest lab install` installs them, and says why each is needed." if missing else "",
    )
    cached = images.cached("linux")
    yield Finding(
        what="lab: guest image linux",
        ready=True,
        seen=f"built, {cached.layer}" if cached else "not built yet; the first `drtest lab up` builds it",
    )
    free = shutil.disk_usage(Path.home()).free // 2**30
    yield Finding(
        what="lab: disk space",
        ready=free >= 5,
        seen=f"{free} GiB free in {Path.home()}",
        remedy="" if free >= 5 else "The lab wants 5 GiB for its image and the disks of a drill.",
    )
    status = control.status()
    yield Finding(
        what="lab",
        ready=True,
        seen=f"up at {status.endpoint}, {len(status.machines)} machines, {status.accelerator}"
        if status
        else "not up",
    )
    try:
        targets = load_targets(config)
    except DrtestError as error:
        yield Finding(what="drtest.toml", ready=False, seen=error.seen, remedy=error.remedy)
    else:
        yield Finding(
            what="drtest.toml", ready=True, seen=f"targets: {', '.join(sorted(targets)) or 'none'}, and lab"
        )
