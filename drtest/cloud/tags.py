"""Ownership: the tags that every resource of a run carries from the call that creates it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

RUN = "drtest:run"
"""The run that created it: what `drtest sweep` looks for."""
KEY = "drtest:key"
"""Its place in the run, as ``lin/scratch``: what a repeated step finds it by."""
PURPOSE = "drtest:purpose"
"""What it is for, in a word of the design: source, scratch, helper, copy A, copy B, recovery point."""
NOTICE = "drtest:notice"
"""On an image: what everybody who sees its verdicts must know."""
STOPPED_BY = "drtest:stopped-by"
"""On a source that is not ours: the run that stopped it and owes it a start."""
CLAIMED_BY = "drtest:claimed-by"
"""On a source that is not ours: the run that is at work on it."""


@dataclass(frozen=True, kw_only=True)
class Ownership:
    """Who a resource belongs to.

    Attributes:
        run: the run's id.
        key: its place in the run; the same key is the same resource when a step runs twice.
        purpose: what it is for.
    """

    run: str
    key: str
    purpose: str

    @property
    def tags(self) -> dict[str, str]:
        """The tags, with a Name that a person recognises in the console."""
        return {RUN: self.run, KEY: self.key, PURPOSE: self.purpose, "Name": f"drtest {self.key}"}

    @property
    def token(self) -> str:
        """The ClientToken: at most 64 ASCII characters (EC2 API Reference, Ensuring idempotency)."""
        return hashlib.sha256(f"{self.run}\n{self.key}".encode()).hexdigest()

    def specification(self, *kinds: str) -> list[dict[str, object]]:
        """The TagSpecifications of a creating call, for each resource type that it makes."""
        return [{"ResourceType": kind, "Tags": to_aws(self.tags)} for kind in kinds]


def to_aws(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as the API takes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def from_aws(tags: object) -> dict[str, str]:
    """Tags as the API gives them; absent is empty."""
    if not isinstance(tags, list):
        return {}
    return {str(tag["Key"]): str(tag.get("Value", "")) for tag in tags}
