"""The shell's door: `drtest`, its subcommands and their exit codes."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from drtest import __version__

COMMANDS = {
    "init": "write a scenario and a drtest.toml to begin with",
    "plan": "say what a scenario will do, without touching anything",
    "run": "run the drills of scenario files, and judge their cells",
    "report": "write report.html again from a run's folder",
    "sweep": "list what dead runs left behind, and delete it",
    "check": "examine an image file or a device, as a drill examines a restored volume",
    "doctor": "say whether this machine, the lab and the targets are ready",
    "iam-policy": "print the least IAM policy that drills need in an account",
    "schema": "print the JSON Schema of scenario files",
    "lab": "the built-in EC2 on this machine: install, up, status, down",
}
"""Each is a module of this package of the same name (- is _), imported only when it is called."""

EPILOG = """\
example:
  drtest run scenarios/first.drill.yaml --target lab

exit codes: 0 all as expected; 1 a cell is not as expected; 2 usage or scenario error;
3 a cell is UNREACHABLE or INCONCLUSIVE, or the environment failed
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and give its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = next((word for word in words if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(
        prog="drtest",
        description="Proves that EBS backups can be restored: takes them, restores them, boots them, reads them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"drtest {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command, what in COMMANDS.items():
        sub = commands.add_parser(
            command,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        # Only the command that was asked for is imported: `drtest --help` has to be there at once.
        if command == name:
            import_module(f"drtest.cli.{command.replace('-', '_')}").arguments(sub)
    options = parser.parse_args(words)
    from drtest.errors import DrtestError, UsageError

    try:
        return int(options.call(options))
    except DrtestError as error:
        print(f"drtest: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 3
    except KeyboardInterrupt:
        print("drtest: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader went away, as `| head` does: there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
