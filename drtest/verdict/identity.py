"""Is the guest that answered the machine that was restored? Until that is proven, its word counts for nothing.

Decision 10: the board's asset tag names the scratch instance, the root's serial is the restored volume, the
boot is a new one, and the host key is the source's or the one on this instance's own console. A restored server
must never be mistaken for the one in production.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from drtest.verdict.case import Case, unknown
from drtest.verdict.evidence import Finding
from drtest.verdict.reading import Reading
from drtest.verdict.serials import serial_of
from drtest.verdict.wording import duration, listed, plain
from drtest.words import Os

CHECK = "boot"

SLACK = timedelta(seconds=60)
"""By how much a boot may seem older than the start of its machine: clocks are set while a system comes up."""

LONGEST = 10.0**9
"""Seconds that any machine has been up for, at most."""


def strangers(case: Case, attempt: Reading) -> Iterator[Finding]:
    """What speaks against it, as one finding; nothing where the identity is proven."""
    identity = case.latest("boot.identity")
    if identity is None:
        yield unknown(CHECK, "a guest answered, but it was not shown to be the machine that was restored")
        return
    if identity.text("error"):
        yield unknown(
            CHECK,
            "a guest answered, but it was not shown to be the machine that was restored: "
            f"{plain(identity.text('error'))}",
            identity.evidence,
        )
        return
    against = list(_against(identity, attempt))
    if case.cell.os is Os.WINDOWS:
        against += _older(identity, attempt, seen_at=case.every("boot.identity")[-1].at)
    if against:
        yield unknown(
            CHECK, f"not the machine that was restored: {listed(against, most=4)}", identity.evidence
        )


def _against(identity: Reading, attempt: Reading) -> Iterator[str]:
    tag, instance = identity.text("asset_tag"), attempt.text("instance") or identity.text("instance")
    if not tag.startswith("i-"):
        # Xen has no asset tag; there the metadata service names the instance.
        tag = identity.text("imds_instance")
    if not tag:
        yield "neither its board nor the metadata service names an instance"
    elif tag != instance:
        yield f"it is {tag}, not the scratch instance {instance or '(unknown)'}"
    serial, volume = identity.text("root_serial"), identity.text("root_volume")
    serials = {serial_of(one) for one in (serial, *identity.texts("root_serials")) if one}
    if not volume or serial_of(volume) not in serials:
        yield f"its root is {serial or 'a disk without serial'}, not the restored {volume or '(unknown)'}"
    boot, source = identity.text("boot_id"), identity.text("source_boot_id")
    if not boot:
        yield "its boot id is not known"
    elif boot == source:
        yield "its boot is the source's own"
    if identity.text("host_key_origin") not in ("source", "console"):
        yield "its host key is neither the source's nor the one on its console"


def _older(identity: Reading, attempt: Reading, *, seen_at: datetime) -> Iterator[str]:
    """Whether Windows was up before its machine was started: its LastBootUpTime stands for the boot id it has not.

    By how long it has been up, on the runner's clock: the guest's own may be wrong.
    """
    up, started = identity.number("uptime_seconds"), attempt.moment("started_at")
    if up is None or started is None:
        yield "how long it has been up is not known"
    elif up < 0 or timedelta(seconds=min(up, LONGEST)) > seen_at - started + SLACK:
        yield f"it has been up for {duration(max(up, 0.0))}, since before the scratch instance was started"
