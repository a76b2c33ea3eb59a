"""The lab's own images in its books, under ids that follow from their recipes."""

import hashlib
from collections.abc import Iterable

from drtest.lab.compute import Compute, now
from drtest.lab.images import Image as Guest
from drtest.lab.pool import Settings, notice
from drtest.lab.resources import Device, Image, Snapshot
from drtest.lab.sizes import GIB

NOTICE = "drtest:notice"
"""The tag that says what has to be known of an image, wherever it is found."""


def image_id(guest: Guest) -> str:
    """Give an image the same id wherever and whenever it is entered: it follows from its recipe."""
    return "ami-" + _digits(guest)


def _digits(guest: Guest) -> str:
    return hashlib.sha256(f"{guest.name} {guest.version}".encode()).hexdigest()[:17]


def enter(
    lab: Compute, guests: Iterable[Guest], *, owner: str, region: str, pools: Settings
) -> dict[str, str]:
    """Write images into the books, as AMIs with a snapshot each; one that is there already stays as it is.

    Args:
        lab: where.
        guests: which.
        owner: whose they are.
        region: where they are.
        pools: how the write pools in front of their root volumes are set.

    Returns:
        The AMI ids by the names of the images.
    """
    ids = {}
    with lab.books.open():
        for guest in guests:
            ids[guest.name] = image_id(guest)
            if lab.books.find(Image, image_id(guest)) is not None:
                continue
            snapshot = Snapshot(
                id="snap-" + _digits(guest),
                owner=owner,
                region=region,
                number=lab.books.next_number(),
                created=now(),
                state="completed",
                progress=100,
                completed=now(),
                volume="vol-ffffffff",
                size=-(-guest.size // GIB),
                description=f"the lab's image {guest.name}",
                layer=str(guest.layer),
                kept=True,
                os=guest.os,
            )
            pool = pools.strengths.get(guest.name, guest.pool)
            notices = [text for text in (guest.notice, notice(pool, seed=pools.seed)) if text]
            tags = {"Name": guest.name, **({NOTICE: " ".join(notices)} if notices else {})}
            image = Image(
                id=image_id(guest),
                owner=owner,
                region=region,
                number=lab.books.next_number(),
                created=now(),
                tags=tags,
                state="available",
                name=f"drtest-{guest.name}-{guest.version[:8]}",
                description=f"the lab's image {guest.name}",
                os=guest.os,
                root_device=guest.root_device,
                devices=(Device(name=guest.root_device, snapshot=snapshot.id, size=snapshot.size),),
                pool=pool,
            )
            lab.books.put(snapshot)
            lab.books.put(image)
    return ids
