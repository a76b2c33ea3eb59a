"""CopySnapshot: within a region, or from another one."""

from dataclasses import replace

from drtest.lab import refusal, snapshots
from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute, new_id, now
from drtest.lab.instances import tag_view
from drtest.lab.lookup import find
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Snapshot

ARBITRARY_VOLUME = "vol-ffffffff"
"""API_CopySnapshot: "Snapshots copies have an arbitrary source volume ID. Do not use this volume ID for any purpose."
"""

MAX_COPIES = 20
"""https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html: "Concurrent snapshot copies per
destination Region"."""


def copy_snapshot(lab: Compute, call: Call) -> Answer:
    """Copy a snapshot into the region of this call (API_CopySnapshot).

    The bytes are the same frozen layer, which stays as long as one of them needs it. "Copies of encrypted
    snapshots are encrypted, even if you omit this parameter […]. You cannot set this parameter to false."

    Raises:
        Refusal: ``InvalidSnapshot.NotFound``, ``IncorrectState`` for a source that is not completed,
            ``InvalidParameterValue``, ``InvalidParameterDependency``, ``ResourceLimitExceeded``.
    """
    # PresignedUrl and DestinationRegion are deprecated; SDKs still send both.
    call.only(
        "Description",
        "DestinationRegion",
        "Encrypted",
        "KmsKeyId",
        "PresignedUrl",
        "SourceRegion",
        "SourceSnapshotId",
        "TagSpecifications",
    )
    there = replace(call, region=call.required("SourceRegion"))
    with lab.books.open():
        source = find(lab, there, Snapshot, call.required("SourceSnapshotId"))
        if source.state != "completed":
            raise Refusal("IncorrectState", f"Snapshot is in invalid state - {source.state}")
        if source.encrypted and not call.flag("Encrypted", default=True):
            raise refusal.bad_value("The copy of an encrypted snapshot can't be unencrypted.")
        encrypted = source.encrypted or call.flag("Encrypted")
        if call.text("KmsKeyId") and not encrypted:
            raise Refusal(
                "InvalidParameterDependency",
                "The parameter KmsKeyId requires the parameter Encrypted to be set.",
            )
        copies = [
            s for s in lab.visible(Snapshot, call) if s.state == "pending" and s.volume == ARBITRARY_VOLUME
        ]
        if len(copies) >= MAX_COPIES:
            raise Refusal("ResourceLimitExceeded", "Too many snapshot copies in progress.")
        tags = call.tags_of("snapshot")
        # A key belongs to a region: without one that is named, the copy has that region's default.
        same_key = source.kms_key if source.region == call.region else ""
        call.not_dry()
        copy = replace(
            source,
            id=new_id("snap"),
            owner=call.owner,
            region=call.region,
            number=lab.books.next_number(),
            created=now(),
            tags=tags,
            state="pending",
            progress=0,
            completed=None,
            volume=ARBITRARY_VOLUME,
            description=call.text("Description"),
            encrypted=encrypted,
            kms_key=(call.text("KmsKeyId") or same_key) if encrypted else "",
            shared_with=(),
            lineage=source.origin,
            lock=None,
        )
        lab.books.put(copy)
    snapshots.complete_later(lab, copy)
    return {"SnapshotId": copy.id, "Tags": tag_view(tags)}
