"""Evidence: what the probes saw, as they saw it, and what the judge makes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from drtest.words import Assurance, Capture, Verdict


class Copy(StrEnum):
    """Where an observation was made."""

    SOURCE = "source"
    """The server whose backup is proven."""
    RUNNER = "runner"
    """The machine that drtest runs on."""
    CLOUD = "cloud"
    """The EC2 API."""
    A = "A"
    """The copy that is examined offline, on a helper."""
    B = "B"
    """The copy that is booted, on a scratch instance."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What one probe saw, raw: never a judgement.

    Attributes:
        probe: the probe's name, as ``filesystem.check``.
        server: the server's name in the scenario.
        capture, trial: the recovery point that it belongs to; None for the source before any capture.
        attempt: which making of that recovery point it belongs to (a retry makes a new one); empty before any.
        volume: the volume's name in the scenario; None where it is of the whole guest.
        copy: where it was made.
        at: when, in UTC, by the runner's clock.
        command: what was asked, as a person would type it.
        data: what came back: JSON values only.
        id: its place in the run's evidence, as ``e000042``; empty until recorded.
    """

    probe: str
    server: str
    copy: Copy
    at: datetime
    command: str
    data: Mapping[str, Any]
    capture: Capture | None = None
    trial: int | None = None
    attempt: str = ""
    volume: str | None = None
    id: str = ""


class FindingClass(StrEnum):
    """What a finding does to a verdict, worst last."""

    NOTE = "note"
    """Worth knowing; changes nothing."""
    RECOVERED = "recovered"
    """A log was replayed or an unclean shutdown was seen: expected of a running capture."""
    UNKNOWN = "unknown"
    """A check did not run or could not tell."""
    UNREACHABLE = "unreachable"
    """The guest could not be asked."""
    INCONSISTENT = "inconsistent"
    """The filesystem or its data is not whole."""
    UNBOOTABLE = "unbootable"
    """The operating system does not come up."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the judge makes of one or more observations.

    Attributes:
        check: the scenario's check that it belongs to: boot, filesystem, canary, events.
        effect: what it does to the verdict.
        sentence: one sentence for a person, with the numbers in it.
        evidence: ids of the observations that it rests on.
    """

    check: str
    effect: FindingClass
    sentence: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Phases:
    """Where the recovery time went, in seconds; None where a phase was not reached."""

    restore: float | None = None
    initialise: float | None = None
    boot: float | None = None
    checks: float | None = None


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """One cell's verdict, with all that it rests on.

    Attributes:
        cell: the cell's id.
        scenario: the scenario's name.
        verdict, assurance: see `drtest.words`.
        met: whether the verdict is as expected.
        reason: one sentence.
        capture_loss_seconds: from the last intact record to the capture; for captures made by the drill.
        rpo_seconds: from the last intact record to the start of the drill; for existing recovery points.
        rto_seconds: from the first restore call of copy B to the last check passed, queueing and copy A left out.
        recovery_point: the snapshot of this volume (for ``set``, the snapshots joined by a comma).
        covariates: what else could explain it, by the names of `drtest.verdict.covariates`.
    """

    cell: str
    scenario: str
    verdict: Verdict
    assurance: Assurance
    met: bool
    reason: str
    findings: tuple[Finding, ...] = ()
    capture_loss_seconds: float | None = None
    rpo_seconds: float | None = None
    rto_seconds: float | None = None
    phases: Phases = field(default_factory=Phases)
    recovery_point: str | None = None
    covariates: Mapping[str, str] = field(default_factory=dict)
