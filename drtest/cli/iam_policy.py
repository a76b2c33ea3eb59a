"""`drtest iam-policy`: the least IAM policy that drills need."""

import argparse
import json
import sys
from pathlib import Path

EPILOG = """\
examples:
  drtest iam-policy > policy.json
  drtest iam-policy --target production --kms-key arn:aws:kms:eu-central-1:123456789012:key/…
  aws iam create-policy --policy-name drtest --policy-document "$(drtest iam-policy --target production)"
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.epilog = EPILOG
    parser.add_argument(
        "--target", metavar="NAME", help="narrow it to a target of drtest.toml, with the secrets it refers to"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the drtest.toml to use")
    parser.add_argument(
        "--launched-only",
        action="store_true",
        help="leave out what servers need that exist already: scenarios only launch theirs",
    )
    parser.add_argument(
        "--kms-key",
        action="append",
        default=[],
        metavar="ARN",
        help="a customer managed key that volumes are encrypted by; may be given again",
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--caller", action="store_true", help="the policy of whoever assumes the target's role, instead"
    )
    shown.add_argument("--calls", action="store_true", help="the EC2 calls by stage, as a table, instead")
    shown.add_argument(
        "--json", action="store_true", help="policy, calls by stage, and the policy's size, for machines"
    )
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Print the policy."""
    from drtest.cloud.policy import LIMIT, caller_policy, calls_table, policy, size, stages
    from drtest.cloud.targets import choose, load_targets
    from drtest.errors import UsageError

    target = choose(load_targets(options.config), options.target) if options.target else None
    sources = not options.launched_only
    if options.calls:
        print(calls_table(stages(target, sources=sources)))
        return 0
    if options.caller:
        if target is None:
            raise UsageError("--caller goes with a target.", remedy="Add --target NAME.")
        print(json.dumps(caller_policy(target), indent=2))
        return 0
    made = policy(target, sources=sources, keys=options.kms_key)
    text = json.dumps(made, indent=2)
    if options.json:
        whole = {
            "policy": made,
            "calls": stages(target, sources=sources),
            "characters": size(text),
            "limit": LIMIT,
        }
        print(json.dumps(whole, indent=2))
    else:
        print(text)
    if size(text) > LIMIT:
        print(
            f"drtest: {size(text)} characters are more than a managed policy takes ({LIMIT}): split it by statements",
            file=sys.stderr,
        )
    if target is not None and target.role_arn:
        print(
            f"drtest: this is the policy of {target.role_arn}; whoever assumes it needs what "
            f"`drtest iam-policy --target {target.name} --caller` prints",
            file=sys.stderr,
        )
    return 0
