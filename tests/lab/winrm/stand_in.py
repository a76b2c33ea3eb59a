"""A WinRM service on loopback for tests: accounts, certificates, probes of the test's own."""

import base64
import contextlib
import datetime
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from drtest.lab.winrm import security
from drtest.lab.winrm.certificate import Certificate, make
from drtest.lab.winrm.probes import Probes
from drtest.lab.winrm.service import Service
from drtest.lab.winrm.shells import Command

USER, PASSWORD = "Administrator", "correct horse"
CODE = "function Any { }\n"
DIGEST = hashlib.sha256(CODE.encode()).hexdigest()


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def certificate(**how: Any) -> Certificate:
    return make("win-host", **{"now": now(), "addresses": ("127.0.0.1",), **how})


def script(name: str, arguments: Mapping[str, Any], *, code: str = CODE, digest: str = DIGEST) -> str:
    """A probe in the form that the service knows."""
    sent = base64.b64encode(json.dumps(arguments).encode()).decode()
    return f"# drtest-probe: {name} version:1 sha256:{digest}\n{code}Invoke-DrtestProbe '{sent}'\n"


def echo(arguments: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Says what it was asked, and as many letters as it was asked for."""
    return [{"asked": dict(arguments), "letters": "x" * int(arguments.get("letters", 0))}]


def fail(arguments: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    raise RuntimeError("no such disk")


def count(arguments: Mapping[str, Any], command: Command) -> None:
    """Answers each line with its number, and says when its input has ended."""
    command.write(b"ready\r\n")
    number = 0
    while (line := command.read_line()) is not None:
        number += 1
        command.write(b"%d %s\r\n" % (number, line))
    command.write(b"end %d\r\n" % number)


PROBES = Probes(
    visits={"echo": echo, "fail": fail},
    streams={"count": count},
    hashes=dict.fromkeys(("echo", "fail", "count"), DIGEST),
)


class Answering(Probes):
    """Runs the same for every command line: what a broken guest would do."""

    def __init__(self, main: Callable[[Command], int]) -> None:
        super().__init__()
        object.__setattr__(self, "_main", main)

    def main(self, line: str) -> Callable[[Command], int]:
        return self._main  # type: ignore[attr-defined, no-any-return]


@contextlib.contextmanager
def serving(
    folder: Path, *, probes: Probes = PROBES, certificate: Certificate | None = None, **how: Any
) -> Iterator[Service]:
    security.install({USER: PASSWORD, "Guest": PASSWORD}, folder / "accounts")
    with Service(("127.0.0.1", 0), probes=probes, certificate=certificate, **how) as service:
        yield service
