"""Windows PowerShell 5.1 from afar: how a script is put together, carried over an input, and answered.

A command line holds 8,191 characters, so it only carries a bootstrap; the script comes over the input, in base64,
which no code page can spoil. The bootstrap reads `$input`: the host itself reads the standard input of a
``-EncodedCommand`` and would race with a script that did.
"""

import base64
import hashlib
import json
import re
import textwrap
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from drtest.guest import clixml
from drtest.guest.transport import AnswerError, Result

PACKAGE = "drtest.guest.probes"
PRELUDE = "windows_prelude"
COMMAND_LINE = 8191
"""Characters that cmd.exe takes (facts/domain.md C): beyond them output can be empty with exit code 0."""
LINE = 4000
END_OF_SCRIPT = "."
"""The line between a program and what it is told while it runs."""

_PROGRAM = "powershell.exe -NoLogo -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand "
_QUIET = (
    "$ErrorActionPreference='Stop';$ProgressPreference='SilentlyContinue';"
    "try{{[Console]::OutputEncoding=New-Object Text.UTF8Encoding $false}}catch{{}};"
)
_DECODE = "[Text.Encoding]::UTF8.GetString([Convert]::FromBase64String({0}))"
# What went wrong goes to the error stream, for a person: nothing of it is ever parsed.
_SAY = (
    "[Console]::Error.WriteLine([string]$_.Exception.Message+' '+[string]$_.InvocationInfo.PositionMessage)"
)
_ONCE = (
    _QUIET
    + "$s="
    + _DECODE.format("(@($input) -join '')")
    + ';$o=[Console]::Out;$o.Write("-----BEGIN DRTEST {nonce}-----`n");$x=0;'
    'try{{& ([ScriptBlock]::Create($s))|ForEach-Object{{$o.Write([string]$_+"`n")}}}}catch{{$x=1;'
    + _SAY
    + "}};"
    '$o.Write("`n-----END DRTEST {nonce} $x-----`n");$o.Flush();exit $x'
)
# A process block sees each line as it comes; an end block alone would be given none before the last.
_STREAM = (
    "begin{{" + _QUIET + "$b=New-Object Text.StringBuilder;$n='{nonce}';$up=$false}}"
    "\nprocess{{$l=[string]$_;if($up){{Send-DrtestLine $l}}elseif($l -eq '.'){{. ([ScriptBlock]::Create("
    + _DECODE.format("$b.ToString()")
    + "));$up=$true}}else{{[void]$b.Append($l)}}}}"
    "\nend{{if($up){{Stop-DrtestStream}}}}"
)


def command(nonce: str) -> str:
    """The command line that runs a script once, from its input, between sentinels with this nonce."""
    return _command(_ONCE.format(nonce=nonce))


def stream_command(nonce: str) -> str:
    """The command line of a program that goes on, and is told lines by ``Send-DrtestLine``."""
    return _command(_STREAM.format(nonce=nonce))


def _command(bootstrap: str) -> str:
    line = _PROGRAM + base64.b64encode(bootstrap.encode("utf-16-le")).decode()
    if len(line) > COMMAND_LINE:
        raise AssertionError(f"the bootstrap has {len(line)} characters")
    return line


def packed(script: str) -> bytes:
    """A script as it goes over the input: base64 of its UTF-8, in lines."""
    code = base64.b64encode(script.encode()).decode()
    return "".join(code[place : place + LINE] + "\r\n" for place in range(0, len(code), LINE)).encode()


def packed_stream(script: str) -> bytes:
    """A program that goes on, as it goes over the input."""
    return packed(script) + END_OF_SCRIPT.encode() + b"\r\n"


def unwrap(result: Result, nonce: str, address: str) -> Result:
    """What stood between the sentinels, with the script's own exit code.

    Raises:
        AnswerError: a sentinel is missing: this is no answer, whatever the exit code says.
    """
    begin = f"-----BEGIN DRTEST {nonce}-----\n".encode()
    # A console turns \n into \r\n.
    stdout = result.stdout.replace(b"\r\n", b"\n")
    _, found, rest = stdout.partition(begin)
    end = re.search(rf"\n-----END DRTEST {nonce} (\d+)-----".encode(), rest)
    if not found or end is None:
        what = "only half of an answer" if found else "no answer"
        said = Result(exit=None, stdout=result.stdout, stderr=clixml.plain(result.stderr)).tail()
        raise AnswerError(
            f"{address} gave {what} (exit {result.exit}, {len(result.stdout)} bytes): {_printable(said)}",
            remedy="Log in to it by hand and look at what PowerShell prints, at its language mode and its memory.",
        )
    return Result(exit=int(end[1]), stdout=rest[: end.start()], stderr=clixml.plain(result.stderr))


def document(result: Result, address: str) -> dict[str, Any]:
    """The JSON object that a probe answered, between its sentinels.

    Raises:
        AnswerError: the probe failed, or its answer is none.
    """
    if result.exit != 0:
        raise AnswerError(f"{address}: the probe failed in the guest: {_printable(result.tail())}")
    try:
        found = json.loads(result.stdout)
    except ValueError as problem:
        raise AnswerError(f"{address} gave an answer that is no JSON: {problem}") from problem
    if not isinstance(found, dict):
        raise AnswerError(f"{address} gave an answer that is no JSON object")
    return found


def text(name: str, arguments: Mapping[str, Any], *, entry: str = "Invoke-DrtestProbe") -> str:
    """A probe as it is sent: its header, its modules as they are, and the call with its arguments.

    The header names the probe, its version and the hash of its code, by which a stand-in can know it.
    """
    code = bundle(name)
    head = f"# drtest-probe: {name} version:{version(name)} sha256:{digest(name)}\n"
    sent = base64.b64encode(json.dumps(arguments).encode()).decode()
    return f"{head}{code}{entry} '{sent}'\n"


def digest(name: str) -> str:
    """The SHA-256 of a probe's code, its modules included."""
    return hashlib.sha256(bundle(name).encode()).hexdigest()


@cache
def bundle(name: str) -> str:
    """The code of a probe: the modules that it needs, those that others need first, then its own."""
    order: list[str] = []

    def visit(module: str) -> None:
        if module not in order:
            for other in header(module).get("needs", "").replace(",", " ").split():
                visit(other)
            order.append(module)

    visit(PRELUDE)
    visit(name)
    return "".join(source(module) for module in order)


def version(name: str) -> int:
    """A probe's version, from its header."""
    return int(header(name)["version"])


def header(module: str) -> dict[str, str]:
    """The ``# key: value`` lines that a module begins with.

    Raises:
        ValueError: it does not begin with its own name and a version.
    """
    found: dict[str, str] = {}
    for line in source(module).splitlines():
        key, colon, value = line.removeprefix("#").partition(":")
        if not line.startswith("#") or not colon:
            break
        found[key.strip()] = value.strip()
    if found.get("drtest-probe") != module or not found.get("version", "").isdigit():
        raise ValueError(f"{module}.ps1 does not begin with its name and version")
    return found


@cache
def source(module: str) -> str:
    """The text of a module of probes."""
    return resources.files(PACKAGE).joinpath(module + ".ps1").read_text(encoding="ascii")


def _printable(said: str) -> str:
    return "".join(
        char if char.isprintable() or char == "\n" else "?" for char in textwrap.shorten(said, 400)
    )
