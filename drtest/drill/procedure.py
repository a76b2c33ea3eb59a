"""The procedure of one drill, on one page.

1. prepare: find or launch the source; note how it is before anything is done to it.
2. For each recovery point:
   a. capture: load the source with the canary, and snapshot all its volumes at one moment;
   b. prove: restore two copies, examine one offline and boot the other, while the next recovery point is made.
3. clean: start a stopped source first, then delete all that was created.

Each of these is a durable step, a proof together with the capture beside it: a killed run goes on after the last one
that was finished. A step can run twice; it then begins by dropping what its first run left half-made.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from drtest.cloud.wait import CancelledError
from drtest.drill.capture import load_and_capture
from drtest.drill.cleanup import Leftover, clean
from drtest.drill.engine import Part, Step, StepFailedError, together
from drtest.drill.existing import pick
from drtest.drill.points import Point, Source
from drtest.drill.prepare import prepare
from drtest.drill.prove import prove
from drtest.drill.site import Site
from drtest.errors import DrtestError
from drtest.guest.transport import GuestCancelledError, UnreachableError
from drtest.scenario.plan import DrillPlan
from drtest.verdict.evidence import Copy
from drtest.words import Capture


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A step that did not do its part."""

    step: str
    seen: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a drill comes to, beside its evidence.

    Attributes:
        failures: steps that failed; the cells that needed them are INCONCLUSIVE or UNREACHABLE.
        cancelled: whether it was stopped before its end.
        leftovers: what could not be deleted.
    """

    failures: tuple[Failure, ...]
    cancelled: bool
    leftovers: tuple[Leftover, ...]


def drill(plan: DrillPlan, *, site: Site, step: Step) -> Outcome:
    """Run the drill of one server, from the source to the clean-up."""
    failures: list[StepFailedError] = []
    try:
        source = step(
            "prepare",
            partial(prepare, plan, site=site),
            gives=Source,
            on_failure=partial(_note, site, "prepare", None),
        )
        _points(plan, source, failures, site=site, step=step)
    except StepFailedError as failed:
        failures.append(failed)
    finally:
        leftovers = _cleaned(site, step, failures)
    return Outcome(
        failures=tuple(
            Failure(step=failed.step, seen=failed.seen, remedy=failed.remedy)
            for failed in failures
            if not failed.cancelled
        ),
        cancelled=any(failed.cancelled for failed in failures),
        leftovers=leftovers,
    )


def _points(
    plan: DrillPlan, source: Source, failures: list[StepFailedError], *, site: Site, step: Step
) -> None:
    """Make each recovery point, and prove it while the next is made.

    The source and the copies have nothing to do with each other, and most of either's time is spent waiting.

    Args:
        plan: with the recovery points.
        source: what they are made of.
        failures: gets what failed: one recovery point that could not be made or proven says nothing about the next.
        site: where.
        step: runs each.

    Raises:
        StepFailedError: a step could not be run at all.
    """
    made: Point | None = None
    for next_ in (*plan.points, None):
        wanted = Point(capture=next_[0], trial=next_[1], snapshots={}) if next_ else None
        parts: list[tuple[Point, Part[Any]]] = []
        if made is not None:
            parts.append((made, _proof(source, made, boots=plan.boots, site=site)))
        if wanted is not None:
            parts.append((wanted, _capture(source, wanted, site=site)))
        if not parts:
            break
        made = None
        for (point, _), result in zip(parts, together(step, [part for _, part in parts]), strict=True):
            try:
                given = result()
            except StepFailedError as failed:
                failures.append(failed)
                if failed.cancelled:
                    continue
            else:
                if point is wanted:
                    made = given
                    continue
            site.settled(point.capture, point.trial)
        if any(failed.cancelled for failed in failures):
            break


def _capture(source: Source, wanted: Point, *, site: Site) -> Part[Point]:
    return Part(
        name=f"capture {wanted.name}",
        function=partial(_CAPTURES.get(wanted.capture, load_and_capture), source, wanted=wanted, site=site),
        gives=Point,
        on_failure=partial(_note, site, "capture", wanted),
    )


def _proof(source: Source, point: Point, *, boots: bool, site: Site) -> Part[bool]:
    return Part(
        name=f"prove {point.name}",
        function=partial(prove, source, point=point, boots=boots, site=site),
        gives=bool,
        on_failure=partial(_note, site, "restore", point),
    )


def _cleaned(site: Site, step: Step, failures: list[StepFailedError]) -> tuple[Leftover, ...]:
    try:
        return step("clean", partial(clean, site=site), gives=tuple[Leftover, ...])
    except StepFailedError as failed:
        # What is left then is what the ledger has open.
        failures.append(failed)
        return ()


_CAPTURES = {Capture.EXISTING: pick}
"""How a recovery point is come by, where it is not made by the drill."""


def _note(site: Site, stage: str, point: Point | None, error: DrtestError) -> None:
    """A stage that failed is evidence too: the judge reads it where the checks' observations are missing."""
    if isinstance(error, CancelledError | GuestCancelledError):
        return
    site.observe(
        "skipped",
        {
            "check": "drill",
            "stage": stage,
            "error": error.seen,
            "remedy": error.remedy,
            "unreachable": isinstance(error, UnreachableError),
        },
        copy=Copy.RUNNER,
        command=stage,
        point=point,
    )
    site.stage(f"{stage} failed", error.seen.partition("\n")[0])
