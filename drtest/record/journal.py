"""The evidence of a run: an append-only, hash-chained journal of observations, one JSON line each.

Each line holds its id, the hash of the line before, and its own: SHA-256 over the one before and the
observation in canonical JSON. A line that is changed, taken out or put in breaks the chain from there on. A
line that a kill -9 tore at the end of the file was never acknowledged to anybody: it is dropped on opening.
"""

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from drtest.errors import EnvironmentFailedError
from drtest.record.lines import Lines
from drtest.verdict.evidence import Copy, Observation
from drtest.words import Capture

START = "0" * 64
"""What stands for the hash before the first line."""


class JournalError(EnvironmentFailedError):
    """The evidence is not what was written: a line was changed, or can't be read."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """What checking a journal came to.

    Attributes:
        lines: whole lines that the chain holds for.
        head: the hash of the last of them: who knows it knows that nothing before it was changed.
        broken_at: the number of the first line that breaks the chain, from 1; None of a whole one.
        why: what is wrong with that line.
        torn: whether the file ends in the middle of a line.
    """

    lines: int
    head: str
    broken_at: int | None = None
    why: str = ""
    torn: bool = False


class Journal:
    """The journal of a run, open for appending; safe to use from many threads of one process.

    Attributes:
        dropped: what was left of a last line that a kill -9 tore, dropped on opening; "" where there was none.
    """

    def __init__(self, path: Path) -> None:
        """Opens it, or makes it.

        Raises:
            JournalError: the chain of what is there is broken: nothing may be added to such evidence.
        """
        self.path = path
        self._lock = threading.Lock()
        self._lines = Lines(path)
        self.dropped = self._lines.dropped
        observations, chain = _walk(self._lines.found)
        if chain.broken_at is not None:
            self._lines.close()
            raise _broken(path, chain)
        self._observations = observations
        self._head = chain.head

    def append(self, observation: Observation) -> Observation:
        """Adds an observation; it is on disk when this returns.

        Returns:
            The observation with its id, as it is read back later: changing the one given changes nothing here.

        Raises:
            JournalError: it holds something that is no JSON.
            LinesError: the disk did not take it.
        """
        with self._lock:
            numbered = replace(observation, id=f"e{len(self._observations) + 1:06}")
            try:
                # There and back, so that the hash is that of what will be read: 1 and "1" are one key in JSON.
                entry = json.loads(json.dumps(encode(numbered), allow_nan=False))
                kept = decode(entry)
            except (TypeError, ValueError, RecursionError) as error:
                raise JournalError(
                    f"what {observation.probe} saw can't be kept: {error}",
                    remedy="Probes send JSON values only.",
                ) from error
            digest = _digest(self._head, entry)
            self._lines.add(json.dumps({**entry, "previous": self._head, "hash": digest}))
            self._observations.append(kept)
            self._head = digest
            return kept

    def observations(self) -> tuple[Observation, ...]:
        """All observations so far, in their order."""
        with self._lock:
            return tuple(self._observations)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._lines.close()


def read(path: Path) -> tuple[Observation, ...]:
    """The observations of a journal, without changing it; a torn last line is left out.

    Raises:
        JournalError: there is no journal, or its chain is broken.
    """
    observations, chain = _walk(_lines_of(path)[0])
    if chain.broken_at is not None:
        raise _broken(path, chain)
    return tuple(observations)


def verify(path: Path) -> Chain:
    """Whether the chain holds, and if not, at which line it breaks and why.

    Raises:
        JournalError: there is no journal.
    """
    lines, torn = _lines_of(path)
    return _walk(lines, torn=torn)[1]


def encode(observation: Observation) -> dict[str, Any]:
    """An observation as JSON values."""
    return {
        "id": observation.id,
        "at": observation.at.isoformat(),
        "probe": observation.probe,
        "server": observation.server,
        "capture": observation.capture,
        "trial": observation.trial,
        "attempt": observation.attempt,
        "volume": observation.volume,
        "copy": str(observation.copy),
        "command": observation.command,
        "data": dict(observation.data),
    }


def decode(entry: Mapping[str, Any]) -> Observation:
    """An observation from its JSON values.

    Raises:
        KeyError, TypeError, ValueError: they are not those of an observation.
    """
    return Observation(
        id=entry["id"],
        at=datetime.fromisoformat(entry["at"]),
        probe=entry["probe"],
        server=entry["server"],
        capture=None if entry["capture"] is None else Capture(entry["capture"]),
        trial=entry["trial"],
        attempt=entry["attempt"],
        volume=entry["volume"],
        copy=Copy(entry["copy"]),
        command=entry["command"],
        data=entry["data"],
    )


def _digest(previous: str, body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(f"{previous}{canonical}".encode()).hexdigest()


def _walk(lines: Sequence[bytes], *, torn: bool = False) -> tuple[list[Observation], Chain]:
    observations: list[Observation] = []
    head = START
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            previous, digest = entry.pop("previous"), entry.pop("hash")
            observation = decode(entry)
            expected = _digest(head, entry)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            why = f"it is no observation: {type(error).__name__}: {error}"
        else:
            if previous != head:
                why = "it does not follow the line before: a line was changed, taken out or put in"
            elif digest != expected:
                why = "its hash is not that of what it says: it was changed"
            elif observation.id != f"e{number:06}":
                why = f"its id {observation.id} is not that of its place"
            else:
                observations.append(observation)
                head = digest
                continue
        chain = Chain(lines=number - 1, head=head, broken_at=number, why=why, torn=torn)
        return observations, chain
    return observations, Chain(lines=len(lines), head=head, torn=torn)


def _lines_of(path: Path) -> tuple[list[bytes], bool]:
    try:
        *lines, rest = path.read_bytes().split(b"\n")
    except OSError as error:
        raise JournalError(f"{path} can't be read: {error.strerror}") from error
    return lines, bool(rest)


def _broken(path: Path, chain: Chain) -> JournalError:
    return JournalError(
        f"{path}:{chain.broken_at}: the evidence is broken here: {chain.why}",
        remedy="What follows this line proves nothing; take the run's folder from where it was kept unchanged.",
    )
