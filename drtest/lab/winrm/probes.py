"""Which command lines are answered: drtest's own probes, known by the name and the hash in their header.

drtest runs a script by a bootstrap on the command line and sends the script over the input; each begins with

    # drtest-probe: <name> version:<number> sha256:<of the code between this line and the last>

and its last line calls it with its arguments, JSON in base64. This module knows that form as data, and no more.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from drtest.lab.winrm.faults import not_windows
from drtest.lab.winrm.shells import Command

COMMAND_LINE = 8191
"""Characters that cmd.exe takes."""

Seen = Sequence[Mapping[str, Any]]
Visit = Callable[[Mapping[str, Any]], Seen]
"""Answers a probe: from its arguments to what was seen, as the probe itself would put it."""
Stream = Callable[[Mapping[str, Any], Command], None]
"""Runs a probe that goes on: its input by `Command.read_line`, its lines by `Command.write`."""

_POWERSHELL = re.compile(
    r"\s*powershell(?:\.exe)?\s(?:.*\s)?-enc(?:odedcommand)?\s+(\S+)\s*", re.IGNORECASE | re.DOTALL
)
_SENTINEL = re.compile(r"BEGIN DRTEST ([0-9a-f]{8,64})-----")
_GOES_ON = re.compile(r"process\{.*Send-DrtestLine", re.DOTALL)
_HEADER = re.compile(r"# drtest-probe: (\S+) version:(\d+) sha256:([0-9a-f]{64})\n")
_CALL = re.compile(r"[A-Za-z]+-Drtest[A-Za-z]+ '([A-Za-z0-9+/=]*)'\n?\Z")
_END_OF_SCRIPT = b"."


@dataclass(frozen=True, kw_only=True)
class Probes:
    """What a stand-in can answer.

    Attributes:
        visits, streams: by the probe's name.
        hashes: SHA-256 of each probe's code that these answers were made for.
    """

    visits: Mapping[str, Visit] = field(default_factory=dict)
    streams: Mapping[str, Stream] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)

    def main(self, line: str) -> Callable[[Command], int]:
        """What a command line runs.

        Raises:
            FaultError: it is no probe of drtest's.
        """
        if len(line) > COMMAND_LINE:
            return _too_long
        match = _POWERSHELL.fullmatch(line)
        bootstrap = _decoded(match[1], "utf-16-le") if match else None
        if bootstrap is None:
            raise not_windows(f"It has no {line.split()[0][:80] if line.split() else 'empty command'!r}.")
        if _GOES_ON.search(bootstrap):
            return self._stream
        sentinel = _SENTINEL.search(bootstrap)
        if sentinel is None:
            raise not_windows("It has no PowerShell.")
        return lambda command: self._once(command, sentinel[1])

    def _once(self, command: Command, nonce: str) -> int:
        script = _script(command, until_end=True)
        known = self._known(script)
        if isinstance(known, str) or known[0] not in self.visits:
            return _refuse(command, known if isinstance(known, str) else f"It has no probe {known[0]}.")
        name, arguments = known
        command.write(f"-----BEGIN DRTEST {nonce}-----\n".encode())
        code = 0
        try:
            document = json.dumps({"seen": list(self.visits[name](arguments))})
            command.write(document.encode("ascii") + b"\n")
        except Exception as problem:  # as a script that throws: the answer ends, and says so
            code = 1
            command.error(_clixml(f"{type(problem).__name__}: {problem}"))
        command.write(f"\n-----END DRTEST {nonce} {code}-----\n".encode())
        return code

    def _stream(self, command: Command) -> int:
        known = self._known(_script(command, until_end=False))
        if isinstance(known, str) or known[0] not in self.streams:
            return _refuse(command, known if isinstance(known, str) else f"It has no probe {known[0]}.")
        self.streams[known[0]](known[1], command)
        return 0

    def _known(self, script: str) -> tuple[str, dict[str, Any]] | str:
        """A probe's name and arguments; or, as a sentence, why it is none."""
        header, call = _HEADER.match(script), _CALL.search(script)
        if header is None or call is None:
            return "It has no PowerShell."
        name, digest = header[1], header[3]
        code = script[header.end() : call.start()]
        if hashlib.sha256(code.encode()).hexdigest() != digest:
            return f"The probe {name} is not the one that its header names."
        if self.hashes.get(name) != digest:
            return f"It answers another version of the probe {name}."
        arguments = json.loads(base64.b64decode(call[1]))
        return name, arguments


def _script(command: Command, *, until_end: bool) -> str:
    lines = []
    while (line := command.read_line()) is not None:
        if not until_end and line == _END_OF_SCRIPT:
            break
        lines.append(line)
    return _decoded(b"".join(lines).decode("ascii", "replace"), "utf-8") or ""


def _decoded(text: str, encoding: str) -> str | None:
    try:
        return base64.b64decode(text, validate=True).decode(encoding)
    except ValueError:
        return None


def _too_long(command: Command) -> int:
    """What cmd.exe says to more characters than it takes."""
    command.error(b"The command line is too long.\r\n")
    return 1


def _refuse(command: Command, why: str) -> int:
    command.error(_clixml(f"This is not Windows: the lab's stand-in answers drtest's own probes only. {why}"))
    return 1


def _clixml(words: str) -> bytes:
    """An error as PowerShell writes it to a stream that is no console, after its usual word on modules."""
    return (
        '#< CLIXML\r\n<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">'
        '<Obj S="progress" RefId="0"><TN RefId="0"><T>System.Management.Automation.PSCustomObject</T>'
        '<T>System.Object</T></TN><MS><I64 N="SourceId">1</I64><PR N="Record"><AV>Preparing modules for first use.'
        "</AV><AI>0</AI><Nil /><PI>-1</PI><PC>-1</PC><T>Completed</T><SR>-1</SR><SD> </SD></PR></MS></Obj>"
        f'<S S="Error">{html.escape(words, quote=False)}_x000D__x000A_</S></Objs>'
    ).encode()
