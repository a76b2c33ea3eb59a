"""What a person sees: the consoles, and the screen of a Windows that has stopped."""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

CONSOLES = ("/dev/console", "/dev/tty0")
"""The serial line, which EC2's console output is, and what a screenshot shows."""


class Stop(Exception):  # noqa: N818 that is what Windows calls it
    """Windows stops here (learn.microsoft.com, "Bug check code reference").

    Args:
        code: the bug check's number.
        name: its name.
        words: what it was.
    """

    def __init__(self, *, code: int, name: str, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.name = name
        self.words = words

    def lines(self) -> list[str]:
        """The screen."""
        return [
            "A problem has been detected and Windows has been shut down to prevent damage",
            "to your computer.",
            "",
            self.name,
            "",
            self.words,
            "",
            "Technical information:",
            "",
            f"*** STOP: 0x{self.code:08X} ({self.name})",
        ]


def say(text: str, *, consoles: Sequence[str] = CONSOLES) -> None:
    """Shows lines on all consoles that there are."""
    for console in consoles:
        with contextlib.suppress(OSError), Path(console).open("w") as out:
            out.write(text)


def stop(why: Stop, *, consoles: Sequence[str] = CONSOLES) -> NoReturn:
    """Shows that Windows has stopped, and does nothing any more: no button, no reboot."""
    with contextlib.suppress(OSError):
        # The kernel's own words have no place on this screen.
        Path("/proc/sys/kernel/printk").write_text("1")
    say("\033[2J\033[H" + "\n".join(why.lines()) + "\n", consoles=consoles)
    while True:
        time.sleep(3600)
