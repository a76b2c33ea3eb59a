"""CreateTags, DeleteTags, DescribeTags: over the lab's own resources and over moto's."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from drtest.lab import refusal
from drtest.lab.call import Answer, Call, check_tags, read_tags
from drtest.lab.compute import Compute
from drtest.lab.filters import Field, select
from drtest.lab.lookup import find_all
from drtest.lab.neighbours import Neighbours
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Image, Instance, Snapshot, Volume

Tagged = Instance | Volume | Snapshot | Image

PREFIXES = frozenset({"i", "vol", "snap", "ami"})
"""Prefixes of the ids that are in the lab's own books."""


def _ours(lab: Compute, call: Call, ids: list[str]) -> list[Tagged]:
    def of(prefix: str) -> list[str]:
        return [key for key in ids if key.partition("-")[0] == prefix]

    found: list[Tagged] = []
    found += find_all(lab, call, Instance, of("i"))
    found += find_all(lab, call, Volume, of("vol"))
    found += find_all(lab, call, Snapshot, of("snap"))
    found += find_all(lab, call, Image, of("ami"))
    for thing in found:
        if thing.owner != call.owner:
            raise Refusal("AuthFailure", f"Not authorized for the resource: {thing.id}", status=403)
    return found


def _split(call: Call) -> tuple[list[str], list[str]]:
    ids = call.texts("Resources")
    if not ids:
        raise refusal.missing("resourceIdSet")
    ours = [key for key in ids if key.partition("-")[0] in PREFIXES]
    return ours, [key for key in ids if key not in ours]


def _form(call: Call, ids: list[str], tags: list[dict[str, str]]) -> dict[str, str]:
    form = {"Action": call.action}
    for number, key in enumerate(ids, 1):
        form[f"ResourceId.{number}"] = key
    for number, tag in enumerate(tags, 1):
        for name, value in tag.items():
            form[f"Tag.{number}.{name}"] = value
    return form


def _ask(neighbours: Neighbours, call: Call, ids: list[str], tags: list[dict[str, str]]) -> None:
    status, _, body = neighbours.ask(call.owner, call.region, _form(call, ids, tags))
    if status >= 300:
        code, _, rest = body.decode().partition("<Code>")[2].partition("</Code>")
        message = rest.partition("<Message>")[2].partition("</Message>")[0]
        raise Refusal(code or "InvalidID", message or f"One of {', '.join(ids)} can't be tagged.")


@dataclass(frozen=True)
class Tags:
    """The tag actions; they need moto beside the books."""

    neighbours: Neighbours

    def create(self, lab: Compute, call: Call) -> Answer:
        """Put tags on resources (API_CreateTags): on all of them, or on none."""
        call.only("Resources", "Tags")
        given = call.params.get("Tags", [])
        if not given:
            raise refusal.missing("tagSet")
        tags = read_tags(given)
        ours, others = _split(call)
        with lab.books.open():
            for thing in _ours(lab, call, ours):
                check_tags({**thing.tags, **tags})
                lab.books.put(replace(thing, tags={**thing.tags, **tags}))
            call.not_dry()
            if others:
                _ask(self.neighbours, call, others, given)
        return {}

    def delete(self, lab: Compute, call: Call) -> Answer:
        """Take tags off resources (API_DeleteTags).

        A key without a value takes the tag off whatever its value; with one, only if it has it. Without any
        key, all tags go.
        """
        call.only("Resources", "Tags")
        given = call.params.get("Tags", [])
        ours, others = _split(call)
        with lab.books.open():
            for thing in _ours(lab, call, ours):
                doomed = {
                    tag.get("Key", "")
                    for tag in given
                    if "Value" not in tag or thing.tags.get(tag.get("Key", "")) == tag["Value"]
                }
                kept = {k: v for k, v in thing.tags.items() if given and k not in doomed}
                lab.books.put(replace(thing, tags=kept))
            call.not_dry()
            if others:
                _ask(self.neighbours, call, others, given)
        return {}

    def describe(self, lab: Compute, call: Call) -> Answer:
        """Show tags (API_DescribeTags)."""
        call.only("Filters", "MaxResults", "NextToken")
        call.not_dry()
        found = [
            _Tag(key=key, value=value, resource=thing.id, type=kind)
            for thing, kind in _things(lab, call)
            for key, value in sorted(thing.tags.items())
        ]
        with self.neighbours.ec2(call.owner, call.region) as ec2:
            found += [
                _Tag(
                    key=tag["key"], value=tag["value"], resource=tag["resource_id"], type=tag["resource_type"]
                )
                for tag in ec2.describe_tags()
            ]
        chosen = select(found, call.params.get("Filters", []), fields=FIELDS, tags=lambda t: {t.key: t.value})
        start = int(call.text("NextToken")) if call.text("NextToken").isdigit() else 0
        most = call.number("MaxResults") or len(chosen)
        some = chosen[start : start + most]
        more = start + most < len(chosen)
        return {
            "Tags": [
                {"Key": t.key, "Value": t.value, "ResourceId": t.resource, "ResourceType": t.type}
                for t in some
            ],
            "NextToken": str(start + most) if more else None,
        }


@dataclass(frozen=True, kw_only=True)
class _Tag:
    key: str
    value: str
    resource: str
    type: str


FIELDS: Mapping[str, Field[_Tag]] = {
    "key": lambda t: t.key,
    "resource-id": lambda t: t.resource,
    "resource-type": lambda t: t.type,
    "value": lambda t: t.value,
}
"""What the filters of API_DescribeTags look at."""


def _things(lab: Compute, call: Call) -> list[tuple[Tagged, str]]:
    things: list[tuple[Tagged, str]] = []
    things += [(thing, "instance") for thing in lab.visible(Instance, call)]
    things += [(thing, "volume") for thing in lab.visible(Volume, call)]
    things += [(thing, "snapshot") for thing in lab.visible(Snapshot, call)]
    things += [(thing, "image") for thing in lab.visible(Image, call)]
    return things
