"""The judge: from a cell's observations to its verdict, without I/O and without a clock.

Each check is a function from the case to what it found and what it showed to be fine. The worst finding wins,
in this order:

1. The recovery point is not what the cell says (`drtest.verdict.point`): INCONCLUSIVE, whatever else was seen.
2. UNBOOTABLE, then INCONSISTENT: positive evidence of damage outweighs what is not known.
3. UNREACHABLE, then INCONCLUSIVE: what is not known is never a pass.
4. RECOVERED, then CONSISTENT: only where each check that was asked for has shown something to be fine.

A check that crashes is INCONCLUSIVE, with its exception in the finding; what it had found by then stays.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from drtest.scenario.plan import Cell
from drtest.verdict import boot, canary, events, filesystem, measures, point
from drtest.verdict.case import Case, Shown, Steps, unknown
from drtest.verdict.covariates import covariates
from drtest.verdict.evidence import Finding, FindingClass, Judgement, Observation, Phases
from drtest.verdict.measures import Objectives
from drtest.verdict.wording import plain
from drtest.words import ROOT, SET, Assurance, Verdict

CHECKS: Mapping[str, Callable[[Case], Steps]] = {
    "boot": boot.check,
    "filesystem": filesystem.check,
    "canary": canary.check,
    "events": events.check,
}
"""The checks that a scenario can ask for, by name."""

IN_REASONS = ("filesystem", "canary", "boot", "events")
"""The order in which a reason tells what was shown: the data first."""

VERDICTS: Mapping[FindingClass, Verdict] = {
    FindingClass.UNBOOTABLE: Verdict.UNBOOTABLE,
    FindingClass.INCONSISTENT: Verdict.INCONSISTENT,
    FindingClass.UNREACHABLE: Verdict.UNREACHABLE,
    FindingClass.UNKNOWN: Verdict.INCONCLUSIVE,
    FindingClass.RECOVERED: Verdict.RECOVERED,
    FindingClass.NOTE: Verdict.CONSISTENT,
}
"""What the worst finding makes the verdict, worst first: the order in which one outweighs the other."""


def judge(
    cell: Cell,
    observations: Sequence[Observation],
    *,
    volumes: Sequence[str],
    checks: Collection[str] = ("boot", "filesystem", "canary"),
    loaded: bool = True,
    objectives: Objectives | None = None,
    started: datetime | None = None,
) -> Judgement:
    """What one cell comes to.

    Args:
        cell: the cell.
        observations: what was observed of its server, or of the whole run, in the order of the evidence.
        volumes: all volumes of the server, in the order in which the canary goes round them.
        checks: the scenario's checks, by name.
        loaded: whether the scenario asks for a load: without one there is no canary to look for.
        objectives: what recovery has to meet; a miss is a finding, and changes no verdict.
        started: when the drill started, for the RPO of recovery points that it did not make.
    """
    case = Case(cell, observations, volumes=volumes, loaded=loaded)
    void, _ = _attempted("capture", point.voids, case)
    skipped, _ = _attempted("drill", point.skipped, case)
    repeated, _ = _attempted("drill", point.repeated, case)
    findings, shown = _attempted("capture", point.made, case)
    for name in checks:
        found, fine = _attempted(name, CHECKS.get(name, _nobody_knows), case)
        findings += found
        shown += fine
    findings += _unshown(case, findings, shown, checks)
    if VERDICTS[_worst(findings)].usable:
        # The drill failed at something, but after all that was asked for had been seen.
        skipped = [replace(one, effect=FindingClass.NOTE) if one.check == "drill" else one for one in skipped]
    findings = [*void, *skipped, *repeated, *findings]
    worst = _worst(findings)
    verdict = Verdict.INCONCLUSIVE if void else VERDICTS[worst]
    measured = measures.measure(case, started=started, objectives=objectives)
    told = _once([*findings, *(one.finding for one in shown), *measured.findings])
    return Judgement(
        cell=cell.id,
        scenario=cell.scenario,
        verdict=verdict,
        assurance=_assurance(case, shown, findings),
        met=verdict in cell.expected.verdicts,
        reason=_reason(
            case, verdict, void or [one for one in findings if one.effect is worst], findings, shown
        ),
        findings=told,
        capture_loss_seconds=measured.capture_loss_seconds,
        rpo_seconds=measured.rpo_seconds,
        rto_seconds=measured.rto_seconds,
        phases=measured.phases,
        recovery_point=measured.recovery_point,
        covariates=covariates(case),
    )


def not_judged(cell: Cell, *, reason: str) -> Judgement:
    """The judgement of a cell that the run never came to: INCONCLUSIVE, and the reason why."""
    return Judgement(
        cell=cell.id,
        scenario=cell.scenario,
        verdict=Verdict.INCONCLUSIVE,
        assurance=Assurance.STRUCTURE,
        met=False,
        reason=reason,
        findings=(unknown("drill", reason),),
        phases=Phases(),
    )


def _attempted(name: str, look: Callable[[Case], Steps], case: Case) -> tuple[list[Finding], list[Shown]]:
    """What a check found and showed; if it crashes, all of that up to there, and the crash as a finding."""
    findings: list[Finding] = []
    shown: list[Shown] = []
    try:
        for step in look(case):
            if isinstance(step, Shown):
                shown.append(step)
            else:
                findings.append(step)
    except (
        Exception
    ) as crash:  # whatever a probe sent: a crash is never a pass, and never takes the report down
        findings.append(
            unknown(name, f"the {name} check crashed: {type(crash).__name__}: {plain(str(crash))}")
        )
    return findings, shown


def _nobody_knows(_: Case) -> Steps:
    raise LookupError("no such check")


def _unshown(
    case: Case, findings: Sequence[Finding], shown: Sequence[Shown], checks: Collection[str]
) -> list[Finding]:
    """The checks that were asked for and have nothing to say: silence is no pass."""
    told = {one.check for one in shown}
    told |= {one.check for one in findings if one.effect not in (FindingClass.NOTE, FindingClass.RECOVERED)}
    silent = [name for name in checks if name not in told]
    if told & {"filesystem", "canary"} and not case.covers_root:
        # A data volume's verdict comes from copy A; copy B adds to it where it came up.
        silent = [name for name in silent if name not in ("boot", "events")]
    if "canary" in silent and (not case.loaded or not case.drills_own) and told - {"canary"}:
        silent.remove("canary")
    return [unknown(name, f"the {name} check has shown nothing") for name in silent]


def _worst(findings: Iterable[Finding]) -> FindingClass:
    effects = {finding.effect for finding in findings}
    return next((effect for effect in VERDICTS if effect in effects), FindingClass.NOTE)


def _once(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each sentence once, worst first, else in the order of the checks."""
    order = list(VERDICTS)
    first = {finding.sentence: finding for finding in reversed(list(findings))}
    kept = [first[sentence] for sentence in reversed(first)]
    return tuple(sorted(kept, key=lambda finding: order.index(finding.effect)))


def _assurance(case: Case, shown: Sequence[Shown], findings: Sequence[Finding]) -> Assurance:
    """How much the verdict rests on: the canary counts only where it was compared."""
    compared = any(one.check == "canary" and one.volume for one in shown) or any(
        one.check == "canary" and one.effect is FindingClass.INCONSISTENT for one in findings
    )
    if not compared:
        return Assurance.STRUCTURE
    return Assurance.CANARY if case.drills_own else Assurance.STANDING_CANARY


def _reason(
    case: Case,
    verdict: Verdict,
    worst: Sequence[Finding],
    findings: Sequence[Finding],
    shown: Sequence[Shown],
) -> str:
    if verdict.usable:
        return _fine(case, shown)
    sentences = list(dict.fromkeys(finding.sentence for finding in worst))
    more = len(sentences) - 2
    reason = "; ".join(sentences[:2]) + (f"; and {more} more" if more > 0 else "")
    if verdict is Verdict.INCONCLUSIVE:
        damage = [
            one for one in findings if one.effect in (FindingClass.INCONSISTENT, FindingClass.UNBOOTABLE)
        ]
        if damage:
            reason += f"; what was found besides can't be held against the backup: {damage[0].sentence}"
    return reason


def _fine(case: Case, shown: Sequence[Shown]) -> str:
    """``both volumes whole after log replay; all 497 acknowledged records intact; booted in 14 s``."""
    told = sorted(shown, key=lambda one: IN_REASONS.index(one.check) if one.check in IN_REASONS else 0)
    phrases: list[str] = []
    if case.cell.volume == SET:
        whole = [one for one in told if one.check == filesystem.CHECK]
        if whole:
            volumes = {1: "the volume", 2: "both volumes"}.get(len(whole), f"all {len(whole)} volumes")
            after = "after log replay" if any(one.amount for one in whole) else "with nothing to replay"
            phrases.append(f"{volumes} whole {after}")
        records = sum(one.amount for one in told if one.check == canary.CHECK)
        if records and case.drills_own:
            phrases.append(canary.intact(records))
        told = [one for one in told if one.check != filesystem.CHECK and one.volume in ("", ROOT)]
        told = [one for one in told if not one.amount]
    phrases += [one.phrase for one in told if one.phrase]
    return "; ".join(dict.fromkeys(phrases))
