"""`drtest schema`: the JSON Schema of scenario files, for editors."""

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.epilog = "example:\n  drtest schema --out drtest/scenario/schema.json"
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there instead of printing it")
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Print or write the schema."""
    from drtest.scenario.schema import schema_text

    if options.out:
        options.out.write_text(schema_text(), encoding="utf-8")
    else:
        print(schema_text(), end="")
    return 0
