"""Writes which probes the stand-in answers: ``python -m tests.lab.standin.write_hashes``, after a change of a probe.

The lab may not import the guest's side, so their hashes are data in it, and a test holds them to the probes.
"""

from pathlib import Path

from drtest.guest import powershell
from drtest.lab import standin

NAMES = ("baseline", "booted", "helper", "load", "offline", "prepare")
FILE = Path(standin.__file__).parent / "hashes.py"


def text() -> str:
    """The module as it should be."""
    lines = [f'    "windows_{name}": "{powershell.digest(f"windows_{name}")}",\n' for name in NAMES]
    return (
        '"""The probes that are answered, by the SHA-256 of their code: see tests/lab/standin/write_hashes.py."""\n\n'
        "HASHES = {\n" + "".join(lines) + "}\n"
    )


if __name__ == "__main__":
    FILE.write_text(text(), encoding="ascii")
