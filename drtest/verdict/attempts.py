"""The tries to boot copy B: with its data volumes, and where that fails with blank ones in their place."""

from dataclasses import dataclass

from drtest.verdict.case import Case
from drtest.verdict.evidence import Observation
from drtest.verdict.reading import Reading

WITH_DATA = "data volumes"
WITH_BLANKS = "blank volumes"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try to boot copy B."""

    reading: Reading
    volumes: str
    answered: bool
    seconds: float | None

    @classmethod
    def of(cls, observation: Observation) -> "Attempt":
        """One `boot.attempt`."""
        reading = Reading.of(observation)
        started, answered = reading.moment("started_at"), reading.moment("answered_at")
        seconds = max((answered - started).total_seconds(), 0.0) if started and answered else None
        return cls(
            reading=reading, volumes=reading.text("with"), answered=answered is not None, seconds=seconds
        )

    @property
    def blank(self) -> bool:
        """Whether blank volumes stood in for the data volumes."""
        return self.volumes == WITH_BLANKS


def attempts_of(case: Case) -> tuple[Attempt, ...]:
    """All tries, in their order; the last one is what the checks of copy B were made on."""
    return tuple(Attempt.of(seen) for seen in case.every("boot.attempt"))
