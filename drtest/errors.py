"""The one family of errors that drtest raises: each says what was seen and what to do."""


class DrtestError(Exception):
    """Something that a person has to know of.

    Args:
        seen: what was seen, as a sentence, with the evidence in it.
        remedy: what to do next, as a sentence; empty where there is nothing to do.
    """

    def __init__(self, seen: str, *, remedy: str = "") -> None:
        super().__init__(seen)
        self.seen = seen
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.seen}\n  {self.remedy}" if self.remedy else self.seen


class UsageError(DrtestError):
    """The command line, a scenario file or a setting is wrong: exit code 2, and nothing was created."""


class EnvironmentFailedError(DrtestError):
    """The cloud, the lab or this machine did not do its part: exit code 3."""


class DeadlineError(EnvironmentFailedError):
    """A wait ended at its deadline; the message says what was seen last."""
