"""`drtest run`: pytest with the right options, a display for people, and the exit codes of the design."""

import argparse
import os
import secrets
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.epilog = (
        "examples:\n"
        "  drtest run scenarios/first.drill.yaml --target lab --out reports/today\n"
        "  drtest run --resume reports/today\n\n"
        "Ctrl-C stops the run and cleans up; a second one leaves at once and says what stays."
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="a scenario file, *.drill.yaml")
    parser.add_argument(
        "--target",
        metavar="NAME",
        help="where to run: lab, or one of drtest.toml (default: the scenario's, else lab)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the run's folder (default: reports/<run-id>)"
    )
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on with the run in this folder")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the drtest.toml to use")
    parser.add_argument(
        "-k",
        metavar="EXPRESSION",
        dest="select",
        help="only cells that match, as in pytest: 'root and running'",
    )
    parser.add_argument(
        "-x", action="store_true", dest="exit_first", help="stop at the first cell that is not as expected"
    )
    parser.add_argument("--json", action="store_true", help="print results.json instead of a table")
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Run, show, and give the exit code."""
    from drtest.doors import LAB, load_plan, target_names
    from drtest.errors import UsageError
    from drtest.record.folder import RunFolder, new_run_id
    from drtest.scenario.load import load_scenario

    if options.resume:
        if options.files:
            raise UsageError(
                "A resumed run has its own scenario files.", remedy="Give either FILE or --resume."
            )
        folder = RunFolder.open(options.resume)
        files = [folder.scenario_file(scenario.name) for scenario in folder.run.scenarios]
        target, out = folder.run.target, options.resume
    else:
        if not options.files:
            raise UsageError(
                "Which scenario?", remedy="As in: drtest run scenarios/first.drill.yaml --target lab"
            )
        files = options.files
        scenarios = [load_scenario(file, targets=target_names(options.config)) for file in files]
        target = options.target or scenarios[0].target or LAB
        out = options.out or Path("reports") / new_run_id(datetime.now(UTC), token=secrets.token_hex(2))
    for file in files:
        load_plan(file, target=target, config=options.config)
    return _pytest(files, target=target, out=out, options=options)


def _pytest(files: list[Path], *, target: str, out: Path, options: argparse.Namespace) -> int:
    import pytest

    from drtest.cli.door import Door

    words = [
        *(str(file) for file in files),
        "--target",
        target,
        "--noconftest",
        "-c",
        os.devnull,
        "--rootdir",
        os.curdir,
    ]
    # The display writes while items run: pytest must not catch it.
    words += ["--capture=no", "-p", "no:cacheprovider", "-o", "addopts=", f"--junitxml={out / 'junit.xml'}"]
    words += [f"--html={out / 'pytest.html'}", "--self-contained-html"]
    words += ["--drill-resume" if options.resume else "--drill-out", str(out)]
    if options.config:
        words += ["--drill-config", str(options.config)]
    if options.select:
        words += ["-k", options.select]
    if options.exit_first:
        words += ["-x"]
    door = Door(as_json=options.json)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = int(pytest.main(words, plugins=[door]))
    except OSError as error:  # one of pytest's own pages, as junit.xml, found no room
        code = door.unwritten(error, out)
    finally:
        signal.signal(signal.SIGTERM, before)
    exit_code = door.close(code)
    if door.left_at_once:
        # Threads that wait for a guest or for the API would hold the process for as long as they wait.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
    return exit_code


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM, as from a scheduler, is a person's Ctrl-C: it cleans up."""
    raise KeyboardInterrupt
