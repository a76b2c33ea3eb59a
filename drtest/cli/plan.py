"""`drtest plan`: what a scenario will do."""

import argparse
import json
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.epilog = "example:\n  drtest plan scenarios/first.drill.yaml --target lab"
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a scenario file, *.drill.yaml")
    parser.add_argument(
        "--target", metavar="NAME", help="where it would run (default: the scenario's, else lab)"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the drtest.toml to use")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Print the plan of each file."""
    from drtest.doors import LAB, load_plan, target_names
    from drtest.scenario.load import load_scenario
    from drtest.scenario.outline import describe, outline_text

    outlines = []
    for file in options.files:
        named = options.target or load_scenario(file, targets=target_names(options.config)).target or LAB
        outlines.append(describe(load_plan(file, target=named, config=options.config)))
    if options.json:
        shown = [outline.to_json() for outline in outlines]
        print(json.dumps(shown[0] if len(shown) == 1 else shown, indent=2))
    else:
        print("\n\n".join(outline_text(outline) for outline in outlines))
    return 0
