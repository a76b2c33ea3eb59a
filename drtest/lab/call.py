"""One call of the EC2 API: who asks, where, for what."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from drtest.lab import refusal
from drtest.lab.refusal import Refusal

Answer = Mapping[str, Any]
"""What an action answers, by the names of the API Reference."""

MAX_TAGS = 50


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call, its parameters read.

    Attributes:
        action: the API's action.
        owner: the account that asks.
        region: where.
        params: the parameters, by their names in the API Reference.
    """

    action: str
    owner: str
    region: str
    params: Mapping[str, Any]

    def text(self, name: str, default: str = "") -> str:
        """Read a parameter that is text."""
        return str(self.params.get(name, default))

    def texts(self, name: str) -> list[str]:
        """Read a parameter that is a list of texts, without repetitions."""
        return list(dict.fromkeys(self.params.get(name, [])))

    def number(self, name: str) -> int | None:
        """Read a parameter that is a number."""
        value = self.params.get(name)
        return None if value is None else int(value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Read a parameter that is a flag."""
        return bool(self.params.get(name, default))

    def required(self, name: str) -> str:
        """Read a parameter that has to be there.

        Raises:
            Refusal: ``MissingParameter``.
        """
        value = self.text(name)
        if not value:
            raise refusal.missing(name[0].lower() + name[1:])
        return value

    def only(self, *names: str) -> None:
        """Refuse parameters that the lab would have to ignore.

        Raises:
            Refusal: ``UnsupportedOperation``.
        """
        for name in self.params:
            if name not in names and name != "DryRun":
                raise refusal.unsupported(f"{self.action} with the parameter {name}")

    def not_dry(self) -> None:
        """End a dry run here: all was found well.

        Raises:
            Refusal: ``DryRunOperation``.
        """
        if self.flag("DryRun"):
            raise refusal.dry_run()

    def tags_of(self, kind: str, *, allowed: Collection[str] = ()) -> dict[str, str]:
        """Read the tags that new resources of one kind get.

        Args:
            kind: the resource type, such as ``volume``.
            allowed: other resource types that this action takes tags for.

        Raises:
            Refusal: ``InvalidParameterValue`` or ``TagLimitExceeded``.
        """
        found: dict[str, str] = {}
        for spec in self.params.get("TagSpecifications", []):
            about = spec.get("ResourceType", "")
            if not about:
                raise Refusal("MissingParameter", "Tag specification resource type must have a value")
            if about != kind and about not in allowed:
                raise refusal.bad_value(
                    f"'{about}' is not a valid taggable resource type for this operation."
                )
            if not spec.get("Tags"):
                raise refusal.bad_value("Tag specification must have at least one tag")
            if about == kind:
                found.update(read_tags(spec["Tags"]))
        check_tags(found)
        return found

    def fingerprint(self) -> str:
        """Hash the parameters, to tell an honest repetition from another call with the same ClientToken."""
        asked = {name: value for name, value in self.params.items() if name not in {"ClientToken", "DryRun"}}
        return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def read_tags(given: list[dict[str, str]]) -> dict[str, str]:
    """Read a list of Key and Value.

    Raises:
        Refusal: ``InvalidParameterValue``: a key twice, reserved, empty or too long, or a value too long
            (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions).
    """
    found: dict[str, str] = {}
    for tag in given:
        key, value = tag.get("Key", ""), tag.get("Value", "")
        if key in found:
            raise refusal.bad_value(f"Duplicate tag key '{key}' specified.")
        if key.lower().startswith("aws:"):
            raise refusal.bad_value("Tag keys starting with 'aws:' are reserved for internal use")
        if not 1 <= len(key) <= 128:
            raise refusal.bad_value(f"Tag key '{key[:40]}' has to have 1 to 128 characters.")
        if len(value) > 256:
            raise refusal.bad_value(f"Tag value exceeds the maximum length of 256 characters (key '{key}').")
        if not (key + value).isprintable():
            raise refusal.bad_value(f"Tag '{key[:40]!r}' contains characters that are not allowed.")
        found[key] = value
    return found


def check_tags(tags: Mapping[str, str]) -> None:
    """Hold the limit of 50 tags a resource.

    Raises:
        Refusal: ``TagLimitExceeded``.
    """
    if len(tags) > MAX_TAGS:
        raise Refusal("TagLimitExceeded", f"A resource can have up to {MAX_TAGS} tags.")
