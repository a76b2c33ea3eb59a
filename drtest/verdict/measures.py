"""The measures of a cell: what the capture lost, how long recovery took, and whether that meets the objectives."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from drtest.verdict.case import Case, note
from drtest.verdict.evidence import Finding, Phases
from drtest.verdict.order import FAR_OFF
from drtest.verdict.reading import MalformedError, Reading
from drtest.verdict.wording import duration, plain

CHECK = "measures"
OBJECTIVES = "objectives"


class Objectives(Protocol):
    """What recovery has to meet, in seconds; None where nothing is asked."""

    @property
    def rto(self) -> float | None: ...  # noqa: D102

    @property
    def rpo(self) -> float | None: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What was measured of one cell, as in `drtest.verdict.evidence.Judgement`; None where it could not be."""

    capture_loss_seconds: float | None = None
    rpo_seconds: float | None = None
    rto_seconds: float | None = None
    phases: Phases = field(default_factory=Phases)
    recovery_point: str | None = None
    findings: tuple[Finding, ...] = ()


def measure(case: Case, *, started: datetime | None, objectives: Objectives | None) -> Measures:
    """All measures of a cell. What a probe sent malformed is not measured, and said so."""
    findings: list[Finding] = []
    loss = rpo = rto = point = None
    phases = Phases()
    try:
        point = _recovery_point(case)
        phases, rto = _phases(case)
        loss = _capture_loss(case, findings)
        rpo = _rpo(case, started, findings)
    except MalformedError as error:
        findings.append(note(CHECK, f"not all could be measured: {plain(str(error))}"))
    if objectives is not None:
        findings += _objective("RTO", rto if case.covers_root else None, objectives.rto)
        findings += _objective("RPO", rpo, objectives.rpo)
    return Measures(
        capture_loss_seconds=loss,
        rpo_seconds=rpo,
        rto_seconds=rto,
        phases=phases,
        recovery_point=point,
        findings=tuple(findings),
    )


def _recovery_point(case: Case) -> str | None:
    capture = case.latest("capture")
    snapshots = capture.part("snapshots") if capture else None
    if snapshots is None:
        return None
    return ",".join(plain(text) for volume in case.judged if (text := snapshots.text(volume))) or None


def _phases(case: Case) -> tuple[Phases, float | None]:
    seen = case.latest("phases")
    if seen is None:
        return Phases(), None
    phases = Phases(
        restore=_seconds(seen, "restore"),
        initialise=_seconds(seen, "initialise"),
        boot=_seconds(seen, "boot"),
        checks=_seconds(seen, "checks"),
    )
    return phases, _seconds(seen, "rto")


def _seconds(seen: Reading, name: str) -> float | None:
    seconds = seen.number(name)
    return seconds if seconds is not None and seconds >= 0 else None


def _capture_loss(case: Case, findings: list[Finding]) -> float | None:
    """Seconds from the last intact record to the capture's request; of a set, its worst volume's.

    The record's time is the source's clock, the request's the runner's: where they are a day apart, a clock is
    wrong, and the difference measures nothing.
    """
    capture = case.latest("capture")
    requested = capture.moment("requested_at") if capture and case.drills_own else None
    losses = []
    for volume in case.judged:
        seen = case.latest("canary.found", volume)
        last = seen.moment("last_at") if seen else None
        if requested is None or seen is None or last is None:
            continue
        seconds = (requested - last).total_seconds()
        if abs(seconds) > FAR_OFF:
            findings.append(
                note(
                    CHECK,
                    f"the clock of {case.cell.server} was {duration(abs(seconds))} off the runner's: what "
                    "the capture lost can't be dated",
                    seen.evidence,
                )
            )
            continue
        losses.append(max(seconds, 0.0))
    return max(losses, default=None)


def _rpo(case: Case, started: datetime | None, findings: list[Finding]) -> float | None:
    """Seconds from the last intact record to the drill's start; without records, from the snapshot's StartTime."""
    if case.drills_own or started is None:
        return None
    lasts = [
        last
        for volume in case.judged
        if (seen := case.latest("canary.found", volume)) and (last := seen.moment("last_at"))
    ]
    if len(lasts) == len(case.judged) and lasts:
        return max((started - min(lasts)).total_seconds(), 0.0)
    capture = case.latest("capture")
    since = capture.moment("start_time") if capture else None
    if since is None or capture is None:
        return None
    findings.append(
        note(
            CHECK,
            "the RPO is counted from the snapshot's StartTime: no record on it dates it",
            capture.evidence,
        )
    )
    return max((started - since).total_seconds(), 0.0)


def _objective(name: str, measured: float | None, wanted: float | None) -> list[Finding]:
    if wanted is None or measured is None:
        return []
    word = "meets" if measured <= wanted else "misses"
    sentence = f"the {name} of {duration(measured)} {word} the objective of {duration(wanted)}"
    return [note(OBJECTIVES, sentence)]
