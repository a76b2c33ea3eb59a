"""The events check: what the system of copy B logged since it started.

Windows by its event log (`drtest.verdict.windows_events`), Linux by its kernel's log, which the boot check reads too.
"""

from drtest.verdict import windows_events
from drtest.verdict.attempts import attempts_of
from drtest.verdict.case import Case, Shown, Steps, finding, inconsistent, note, unknown
from drtest.verdict.evidence import FindingClass
from drtest.verdict.identity import strangers
from drtest.verdict.kernel import Kind, kind, volume_of
from drtest.verdict.mounts import owners_of
from drtest.verdict.wording import plain, quoted
from drtest.words import ROOT, Capture, Os

CHECK = "events"


def check(case: Case) -> Steps:
    """What copy B's logs say of this boot."""
    attempts = attempts_of(case)
    if not attempts or not attempts[-1].answered:
        told = unknown if case.covers_root else note
        yield told(CHECK, "the logs of copy B are not known: it did not answer")
        return
    wrong = tuple(strangers(case, attempts[-1].reading))
    yield from wrong
    if wrong:
        return
    if case.cell.os is Os.WINDOWS:
        yield from windows_events.check(case, blank=attempts[-1].blank)
        return
    yield from kernel_log(case, check=CHECK, blank=attempts[-1].blank)


def kernel_log(case: Case, *, check: str, blank: bool) -> Steps:
    """What copy B's Linux kernel says of the cell's volumes.

    Args:
        case: the cell's case.
        check: the check that asks.
        blank: whether blank volumes stood in for the data volumes: what is said of them says nothing then.
    """
    if case.cell.os is not Os.LINUX:
        return
    judged = [volume for volume in case.judged if volume == ROOT or not blank]
    kernel = case.latest("boot.kernel")
    if not judged:
        return
    if kernel is None or kernel.text("error"):
        why = f": {plain(kernel.text('error'))}" if kernel else ""
        told = unknown if case.covers_root else note
        yield told(check, f"the kernel log of copy B is not known{why}", kernel.evidence if kernel else "")
        return
    said: dict[str, list[str]] = {}
    devices = _devices(case)
    for message in kernel.parts("messages"):
        pattern, line = message.text("pattern"), message.text("line")
        text = line if pattern.lower() in line.lower() else f"{pattern}: {line}"
        said.setdefault(volume_of(text, devices=devices, otherwise=ROOT), []).append(text)
    replays = boot_replays(case)
    for volume in judged:
        yield from _kernel_of(
            case, volume, said.get(volume, []), replays.get(volume, []), check, kernel.evidence
        )


def _kernel_of(
    case: Case, volume: str, lines: list[str], replays: list[str], check: str, evidence: str
) -> Steps:
    name = case.name(volume)
    kinds = {line: kind(line) for line in lines}
    damage = [line for line in lines if kinds[line] is Kind.DAMAGE]
    slow = [line for line in lines if kinds[line] is Kind.SLOW]
    trouble = [line for line in lines if kinds[line] in (Kind.DISK, Kind.OTHER)]
    if damage:
        yield inconsistent(check, f"the kernel of the copy says of {name}: {quoted(damage[0])}", evidence)
    if trouble:
        below = ", below the filesystem" if kinds[trouble[0]] is Kind.DISK else ""
        yield unknown(
            check, f"the kernel of the copy met trouble with {name}{below}: {quoted(trouble[0])}", evidence
        )
    if slow:
        yield note(
            check, f"the copy was slow, which a volume that is loaded lazily is: {quoted(slow[0])}", evidence
        )
    if replays and case.cell.capture is not Capture.STOPPED:
        yield finding(
            check,
            FindingClass.RECOVERED,
            f"{name} came up after a log replay in the copy: {quoted(replays[0])}",
            evidence,
        )
    if not damage and not trouble:
        yield Shown(
            check=check,
            volume=volume,
            phrase="",
            sentence=f"the kernel of the copy names no damage on {name}",
            evidence=(evidence,) if evidence else (),
        )


def boot_replays(case: Case) -> dict[str, list[str]]:
    """Lines of copy B's kernel that tell of a replayed log, by volume."""
    kernel = case.latest("boot.kernel")
    devices = _devices(case)
    replays: dict[str, list[str]] = {}
    for line in kernel.texts("replays") if kernel else ():
        replays.setdefault(volume_of(line, devices=devices, otherwise=ROOT), []).append(line)
    return replays


def _devices(case: Case) -> dict[str, str]:
    """From a device of copy B to the volume that is mounted from it."""
    seen, owners = case.latest("boot.mounts"), owners_of(case)
    return {
        mount.text("source").split("[")[0]: owners.get(mount.text("uuid").lower(), ROOT)
        for mount in (seen.parts("mounts") if seen else ())
        if mount.text("source").startswith("/dev/")
    }
