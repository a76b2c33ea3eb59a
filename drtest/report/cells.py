"""A cell for people: its verdict, findings, times and what the machines themselves said, from the run's folder."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drtest.report.timeline import Timeline, timelines
from drtest.report.tones import HEADLINES, SIGNS, Tone, tone_of
from drtest.scenario.plan import Cell, Expected
from drtest.verdict.case import Case
from drtest.verdict.evidence import Observation
from drtest.verdict.reading import MalformedError, Reading
from drtest.verdict.wording import duration
from drtest.words import ROOT, SET, Capture, Os, Verdict

MOST_LINES = 40
MOST_CHARACTERS = 8192
MOST_IMAGE_BYTES = 2 * 2**20
IMAGES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}
"""What an embedded picture may be, by its first bytes."""

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
UNPRINTABLE = re.compile(
    r"[^\t\n\x20-\x7e\xa0-\u200a\u2010-\u2027\u202f-\u205f\u2070-\ud7ff\ue000-\ufdff\ufe10-\ufefe\uff00-\ufffd"
    r"\U00010000-\U0010ffff]"
)
"""What is shown as nothing, or turns the text around it: control and format characters."""

ASSURANCES = {
    "canary": "every record that was acknowledged before the capture was looked for",
    "standing-canary": "the order of records that a standing canary had written",
    "application": "the scenario's own checks",
    "structure": "filesystem and boot only: nothing is said of the data in the files",
}
CLASSES = {
    "unbootable": ("✕", "bad"),
    "inconsistent": ("✕", "bad"),
    "unreachable": ("?", "doubt"),
    "unknown": ("?", "doubt"),
    "recovered": ("↻", "mild"),
    "note": ("·", "note"),
}
PHASES = ("restore", "initialise", "boot", "checks")


@dataclass(frozen=True, kw_only=True)
class FindingView:
    """One finding, with its sign."""

    sign: str
    tone: str
    check: str
    sentence: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PhaseView:
    """One part of the recovery time, in percent of the whole."""

    name: str
    took: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Words:
    """What a machine said itself: untrusted, and cut to its end."""

    title: str
    text: str
    open: bool


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A console's screenshot, embedded."""

    source: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class CellView:
    """One cell for people."""

    id: str
    anchor: str
    trial: int
    tone: Tone
    headline: str
    sign: str
    verdict: str
    reason: str
    expectation: str
    unmet: bool
    facts: tuple[tuple[str, str], ...]
    findings: tuple[FindingView, ...]
    phases: tuple[PhaseView, ...] = ()
    rto: str = ""
    words: tuple[Words, ...] = ()
    pictures: tuple[Picture, ...] = ()
    timelines: tuple[Timeline, ...] = ()


def cell_view(
    entry: Mapping[str, Any],
    *,
    folder: Path | None = None,
    observations: Sequence[Observation] = (),
    volumes: Sequence[str] = (),
) -> CellView:
    """A cell as a page shows it.

    Args:
        entry: its entry in the results.
        folder: the run's folder, for console logs and screenshots; None to leave them out.
        observations: the run's evidence.
        volumes: all volumes of its server.
    """
    verdict = Verdict(entry["verdict"])
    tone = tone_of(verdict)
    case = _case(entry, observations, volumes)
    return CellView(
        id=entry["id"],
        anchor=anchor(entry["scenario"], entry["id"]),
        trial=entry["trial"],
        tone=tone,
        headline=HEADLINES[tone],
        sign=SIGNS[tone],
        verdict=str(verdict),
        reason=entry["reason"],
        expectation=_expectation(entry, tone),
        unmet=not entry["met"] and tone is not Tone.UNKNOWN,
        facts=_facts(entry),
        findings=tuple(_finding(one) for one in entry["findings"]),
        phases=_phases(entry),
        rto=duration(entry["rto_seconds"]) if entry["rto_seconds"] is not None else "",
        words=_words(case, folder, tone) if folder else (),
        pictures=_pictures(case, folder) if folder else (),
        timelines=timelines(case),
    )


def anchor(scenario: str, cell: str) -> str:
    """The cell's place in the page."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", f"cell-{scenario}-{cell}")


def _case(entry: Mapping[str, Any], observations: Sequence[Observation], volumes: Sequence[str]) -> Case:
    cell = Cell(
        id=entry["id"],
        scenario=entry["scenario"],
        server=entry["server"],
        os=Os(entry["os"]),
        volume=entry["volume"],
        capture=Capture(entry["capture"]),
        trial=entry["trial"],
        expected=Expected(text=entry["expected"], verdicts=frozenset()),
    )
    return Case(cell, observations, volumes=volumes, loaded=True)


def _expectation(entry: Mapping[str, Any], tone: Tone) -> str:
    if entry["met"]:
        return "" if tone is Tone.USABLE else "as expected"
    if tone is Tone.UNKNOWN:
        return f"expected: {entry['expected']}"
    return f"not as expected (expected: {entry['expected']})"


def _facts(entry: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    facts = [("Rests on", f"{entry['assurance']}: {ASSURANCES[entry['assurance']]}")]
    if entry["recovery_point"]:
        facts.append(("Recovery point", entry["recovery_point"].replace(",", ", ")))
    if entry["capture_loss_seconds"] is not None:
        lost = entry["capture_loss_seconds"]
        when = f"written {duration(lost)} before the capture" if lost else "written up to the capture itself"
        facts.append(("Last intact record", when))
    if entry["rpo_seconds"] is not None:
        facts.append(("Recovery point's age (RPO)", duration(entry["rpo_seconds"])))
    if entry["rto_seconds"] is not None and not _phases(entry):
        facts.append(("Recovery took (RTO)", duration(entry["rto_seconds"])))
    return tuple(facts)


def _finding(entry: Mapping[str, Any]) -> FindingView:
    sign, tone = CLASSES[entry["class"]]
    return FindingView(
        sign=sign,
        tone=tone,
        check=entry["check"],
        sentence=entry["sentence"],
        evidence=tuple(entry["evidence"]),
    )


def _phases(entry: Mapping[str, Any]) -> tuple[PhaseView, ...]:
    took = {name: entry["phases"].get(name) for name in PHASES}
    whole = sum(seconds for seconds in took.values() if seconds)
    if not whole:
        return ()
    return tuple(
        PhaseView(name=name, took=duration(seconds), share=100 * seconds / whole)
        for name, seconds in took.items()
        if seconds
    )


def _words(case: Case, folder: Path, tone: Tone) -> tuple[Words, ...]:
    told = []
    for volume in case.judged:
        try:
            seen = case.latest("filesystem.check", volume)
            replay = case.latest("filesystem.replay", volume)
            said = _tail(
                "\n".join(one.text("output") for one in (replay, seen) if one and one.text("output"))
            )
            tool = seen.text("tool") if seen else ""
        except MalformedError:
            continue
        if said:
            title = f"What {tool or 'the checker'} said of {case.name(volume)}"
            told.append(Words(title=title, text=said, open=tone is Tone.UNUSABLE))
    if case.covers_root:
        for attempt in _attempts(case):
            text = _console(folder, attempt)
            if text:
                title = _tried(f"Console of the restored {case.cell.server}", attempt)
                told.append(Words(title=title, text=text, open=tone is not Tone.USABLE))
    return tuple(told)


def _attempts(case: Case) -> tuple[Reading, ...]:
    readings = []
    for seen in case.every("boot.attempt"):
        try:
            reading = Reading.of(seen)
            reading.text("console"), reading.text("screenshot"), reading.text("with")
        except MalformedError:
            continue
        readings.append(reading)
    return tuple(readings)


def _console(folder: Path, attempt: Reading) -> str:
    content = inside(folder, attempt.text("console"))
    return _tail(content.decode(errors="replace")) if content else ""


def _pictures(case: Case, folder: Path) -> tuple[Picture, ...]:
    if case.cell.volume not in (ROOT, SET):
        return ()
    pictures = []
    for attempt in _attempts(case):
        content = inside(folder, attempt.text("screenshot"))
        kind = next((kind for start, kind in IMAGES.items() if content and content.startswith(start)), None)
        if content and kind:
            source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
            caption = _tried(f"Screen of the restored {case.cell.server}", attempt)
            pictures.append(Picture(source=source, caption=caption))
    return tuple(pictures)


def _tried(what: str, attempt: Reading) -> str:
    return f"{what}, booted with {attempt.text('with')}" if attempt.text("with") else what


def inside(folder: Path, name: str) -> bytes | None:
    """A file of the run's folder; None where there is none, it is too large, or its name leads out of the folder."""
    if not name:
        return None
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            return None
        with path.open("rb") as file:
            content = file.read(MOST_IMAGE_BYTES + 1)
    except (OSError, ValueError):
        return None
    return content if len(content) <= MOST_IMAGE_BYTES else None


def _tail(text: str) -> str:
    """The end of what a machine said, without what would move a terminal's cursor or change its colours."""
    clean = UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", ESCAPES.sub("", text.replace("\r", "")))
    lines = [line.rstrip() for line in clean[-MOST_CHARACTERS:].rstrip().split("\n")]
    return "\n".join(lines[-MOST_LINES:]).strip("\n")
