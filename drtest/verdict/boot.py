"""The boot check: does the restored root come up as the machine that it was, in copy B?

UNBOOTABLE needs positive evidence: the console shows a panic, an emergency shell or a loader without a system,
or the system that answers is in emergency mode. A guest that merely can't be reached is UNREACHABLE: its
operating system may well be up. What a data volume shows in copy B is in `drtest.verdict.mounts`.
"""

from collections.abc import Iterator

from drtest.verdict import disks, events, mounts, windows
from drtest.verdict.attempts import WITH_DATA, Attempt, attempts_of
from drtest.verdict.case import Case, Shown, Steps, finding, inconsistent, note, unknown
from drtest.verdict.console import Kind, failures
from drtest.verdict.evidence import Finding, FindingClass
from drtest.verdict.identity import strangers
from drtest.verdict.reading import Reading
from drtest.verdict.wording import duration, listed, plain, quoted
from drtest.words import ROOT, SET, Os

CHECK = "boot"

OF_STORAGE = ("systemd-fsck", "systemd-remount-fs", "systemd-growfs", "local-fs.target", "swap.target")
"""Units that fail where storage does: these, and mounts and swaps (systemd.special.7)."""


def check(case: Case) -> Steps:
    """Whether copy B comes up, is the machine that was restored, and has what the source had."""
    attempts = attempts_of(case)
    if not attempts:
        told = unknown if case.covers_root else note
        yield told(CHECK, "copy B was not booted" + ("" if case.covers_root else ": judged by copy A alone"))
        return
    last = attempts[-1]
    if not last.answered:
        if case.covers_root:
            yield from _silent(case, attempts)
        else:
            yield note(
                CHECK,
                f"copy B did not answer, so {case.name(case.cell.volume)} was not seen mounted: judged by copy A",
                last.reading.evidence,
            )
        return
    wrong = tuple(strangers(case, last.reading))
    yield from wrong
    if wrong:
        return
    if case.covers_root:
        yield from _came_up(case, last)
    if last.blank:
        yield from _blame(case, attempts)
    if case.cell.os is Os.WINDOWS:
        yield from disks.check(case, blank=last.blank)
        yield from windows.check(case, blank=last.blank)
    yield from mounts.check(case, blank=last.blank, but=disks.offline(case))
    yield from events.kernel_log(case, check=CHECK, blank=last.blank)


def _silent(case: Case, attempts: tuple[Attempt, ...]) -> Steps:
    """Copy B never answered: the last try decides, unless an earlier one already names the root itself."""
    last = attempts[-1]
    for attempt in reversed(attempts):
        shown = failures(attempt.reading)
        telling = shown if attempt is last else tuple(one for one in shown if one.kind is Kind.ROOT)
        if telling:
            yield finding(
                CHECK,
                FindingClass.UNBOOTABLE,
                f"{case.name(ROOT)} does not boot: its console says {quoted(telling[0].line)}"
                + _with(attempt, among=attempts),
                attempt.reading.evidence,
            )
            return
    system, instance = last.reading.text("system_status"), last.reading.text("instance_status")
    if last.reading.moment("running_at") is None:
        why = plain(last.reading.text("error")) or "no reason was given"
        yield finding(
            CHECK,
            FindingClass.UNREACHABLE,
            f"the scratch instance of {case.name(ROOT)} never ran: {why}",
            last.reading.evidence,
        )
        return
    before = case.latest("filesystem.before", ROOT)
    if before is not None and before.flag("boot_code") is False:
        # The firmware then runs into zeros, without a word on any console.
        yield finding(
            CHECK,
            FindingClass.UNBOOTABLE,
            f"{case.name(ROOT)} does not boot: it never answered, and its boot sector has no code",
            last.reading.evidence,
            before.evidence,
        )
        return
    waited = last.reading.number("deadline_seconds")
    error = plain(last.reading.text("error"))
    yield finding(
        CHECK,
        FindingClass.UNREACHABLE,
        f"{case.name(ROOT)} could not be asked"
        + (f" within {duration(waited)}" if waited is not None else "")
        + ", and nothing on its console says that it failed to boot"
        + f" (system check {plain(system) or 'unknown'}, instance check {plain(instance) or 'unknown'}"
        + (f"; {error})" if error else ")"),
        last.reading.evidence,
    )


def _with(attempt: Attempt, *, among: tuple[Attempt, ...]) -> str:
    return f" (booted with {plain(attempt.volumes)})" if len(among) > 1 and attempt.volumes else ""


def _came_up(case: Case, last: Attempt) -> Steps:
    system = case.latest("boot.system")
    if system is None:
        yield unknown(CHECK, f"{case.name(ROOT)} answered, but its system state was not asked")
        return
    if system.text("error"):
        yield unknown(
            CHECK,
            f"the system state of {case.name(ROOT)} is not known: {plain(system.text('error'))}",
            system.evidence,
        )
        return
    state = plain(system.text("state"))
    if state == "maintenance":
        yield finding(
            CHECK,
            FindingClass.UNBOOTABLE,
            f"{case.name(ROOT)} comes up in emergency mode (system state maintenance)",
            system.evidence,
        )
        return
    if state not in ("running", "degraded"):
        yield unknown(
            CHECK,
            f"{case.name(ROOT)} answered but had not come up: system state {state or 'unknown'}",
            system.evidence,
        )
        return
    troubled = False
    for step in _failed_units(case, system, state=state):
        troubled = troubled or step.effect is not FindingClass.NOTE
        yield step
    if not troubled:
        took = f" in {duration(last.seconds)}" if last.seconds is not None else ""
        yield Shown(
            check=CHECK,
            volume=ROOT,
            phrase=f"booted{took}",
            sentence=f"{case.name(ROOT)} booted{took}, is the machine that was restored, "
            f"and its system state is {state}",
            evidence=tuple(one for one in (last.reading.evidence, system.evidence) if one),
        )


def _failed_units(case: Case, system: Reading, *, state: str) -> Iterator[Finding]:
    failed = system.texts("failed_units")
    baseline = case.latest("baseline.system")
    before = frozenset(baseline.texts("failed_units")) if baseline else frozenset()
    new = tuple(unit for unit in failed if unit not in before)
    old = tuple(unit for unit in failed if unit in before)
    if state == "degraded" and not failed:
        yield unknown(
            CHECK, "the system state is degraded, and no unit is named that failed", system.evidence
        )
    storage = tuple(unit for unit in new if unit.endswith((".mount", ".swap")) or unit.startswith(OF_STORAGE))
    other = tuple(unit for unit in new if unit not in storage)
    asked = "not on the source" if baseline else "the source was not asked"
    if storage:
        yield inconsistent(
            CHECK, f"storage failed to come up in the copy ({asked}): {listed(storage)}", system.evidence
        )
    if other:
        # A service may miss the network that a scratch instance is kept from: neither fine nor proof of damage.
        yield unknown(
            CHECK,
            f"failed in the copy ({asked}): {listed(other)}; whether for its data or for the copy's isolation "
            "can't be told",
            system.evidence,
        )
    if old:
        yield note(CHECK, f"failed in the copy as on the source: {listed(old)}", system.evidence)


def _blame(case: Case, attempts: tuple[Attempt, ...]) -> Steps:
    """The root came up with blank volumes in place of its own: what does that say of each?"""
    first = next((attempt for attempt in attempts if attempt.volumes == WITH_DATA), None)
    if first is None or first.answered:
        return
    data = tuple(volume for volume in case.volumes if volume != ROOT)
    ids = (first.reading.evidence, attempts[-1].reading.evidence)
    shown = failures(first.reading)
    said = f" (its console then said {quoted(shown[0].line)})" if shown else ""
    if case.cell.volume == ROOT:
        yield note(
            CHECK,
            f"{case.name(ROOT)} booted only with blank volumes in place of {listed(data)}{said}: "
            "the root is not to blame",
            *ids,
        )
    elif len(data) == 1 or case.cell.volume == SET:
        names = listed([case.name(volume) for volume in data])
        yield inconsistent(
            CHECK,
            f"the server comes up with a blank volume in place of {names}, but not with its own{said}",
            *ids,
        )
    else:
        yield unknown(
            CHECK,
            f"the server comes up with blank volumes but not with its own: one of {listed(data)} keeps it{said}",
            *ids,
        )
