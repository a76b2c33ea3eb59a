"""`drtest report`: report.html again, from what a run left."""

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.epilog = "example:\n  drtest report reports/20261124-175121-a1b2"
    parser.add_argument("folder", type=Path, metavar="DIR", help="a run's folder")
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Write the report, and say where."""
    from drtest.report.page import write_report

    print(write_report(options.folder))
    return 0
