"""Programs for guests: how one is put together from its modules, sent over an input, and answered."""

import ast
import hashlib
import json
import threading
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from drtest.guest.transport import AnswerError, LoginError, Result

PACKAGE = "drtest.guest.probes"
_PARSING = threading.Lock()

# One line for any login shell, csh and fish included: no quotes inside, no "!".
_BOOTSTRAP = "import sys; exec(compile(sys.stdin.buffer.read(int(sys.argv[1])), sys.argv[2], sys.argv[3]))"
_SHELL = (
    "p=$(command -v python3 || command -v /usr/libexec/platform-python) || { echo drtest: no python3 >&2; exit 127; }; "
    'if [ "$(id -u)" = 0 ]; then exec "$p" -I -c "$0" "$@"; else exec sudo -n -- "$p" -I -c "$0" "$@"; fi'
)


def command(program: str, text: bytes) -> str:
    """The shell command that reads a program of that length from its input and runs it as root."""
    return f"exec sh -c '{_SHELL}' '{_BOOTSTRAP}' {len(text)} drtest-{program} exec"


def text(name: str, arguments: Mapping[str, Any], *, nonce: str, entry: str) -> bytes:
    """A program as it is sent: its header, its modules as they are, and its arguments.

    The header names the program and the hash of its code, by which a stand-in can know it.
    """
    code = _bundle(name)
    digest = hashlib.sha256(code.encode()).hexdigest()
    call = f"_prelude.{entry}(_main.main, _json.loads({json.dumps(arguments)!r}), {nonce!r})\n"
    return f"# drtest-probe: {name} sha256:{digest}\n{code}{call}".encode()


@cache
def _bundle(name: str) -> str:
    """The modules that a program needs, in the order of their needs, each loaded as a module of its own."""
    parts = [
        "import json as _json, sys as _sys, types as _types\n"
        "def _module(name, source):\n"
        "    module = _types.ModuleType(name)\n"
        "    module.__path__ = []\n"
        "    _sys.modules[name] = module\n"
        "    exec(compile(source, name, 'exec'), module.__dict__)\n"
        "    parent, _, last = name.rpartition('.')\n"
        "    if parent:\n"
        "        setattr(_sys.modules[parent], last, module)\n"
        "    return module\n"
        "for _name in ('drtest', 'drtest.guest', 'drtest.guest.probes'):\n"
        "    _module(_name, '')\n"
    ]
    for module in _needs(name):
        parts.append(f"_module({PACKAGE + '.' + module!r}, {_source(module)!r})\n")
    parts.append(
        f"_main, _prelude = _sys.modules[{PACKAGE + '.' + name!r}], _sys.modules[{PACKAGE + '.prelude'!r}]\n"
    )
    return "".join(parts)


def _needs(name: str) -> list[str]:
    """A program's modules, those that others need first."""
    order: list[str] = []

    def visit(module: str) -> None:
        if module in order:
            return
        # CPython counts the depth of all threads' trees in one place (gh-106905): one at a time.
        with _PARSING:
            tree = ast.parse(_source(module))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
                for one in node.names:
                    visit(one.name)
        order.append(module)

    visit("prelude")
    visit(name)
    return order


@cache
def _source(module: str) -> str:
    return resources.files(PACKAGE).joinpath(module + ".py").read_text(encoding="utf-8")


def answer(result: Result, nonce: str, address: str) -> dict[str, Any]:
    """The document between the sentinels; anything else is no answer, whatever the exit code says."""
    begin, end = f"-----BEGIN DRTEST {nonce}-----\n".encode(), f"\n-----END DRTEST {nonce}-----".encode()
    _, found, rest = result.stdout.partition(begin)
    body, whole, _ = rest.partition(end)
    if not found or not whole:
        refuse(result, address)
        what = "only half of an answer" if found else "no answer"
        raise AnswerError(
            f"{address} gave {what} (exit {result.exit}, {len(result.stdout)} bytes): {_printable(result.tail())}",
            remedy="Log in to it by hand and look at what a command prints, and at its memory and disk.",
        )
    try:
        document = json.loads(body)
    except ValueError as problem:
        raise AnswerError(f"{address} gave an answer that is no JSON: {problem}") from problem
    if not isinstance(document, dict):
        raise AnswerError(f"{address} gave an answer that is no JSON object")
    return document


def refuse(result: Result, address: str) -> None:
    """Raises where the guest would not run a program at all."""
    said = result.stderr.decode("utf-8", "replace")
    if "drtest: no python3" in said:
        raise AnswerError(f"{address} has no python3", remedy="Install Python 3.6 or newer in the server.")
    if said.lstrip().startswith("sudo:") and result.exit != 0:
        raise LoginError(
            f"{address}: the login user may not become root: {said.strip()[:300]}",
            remedy="Let the user of the target's login settings sudo without a password, or log in as root.",
        )


def tail(stdout: bytes, stderr: bytes) -> str:
    """The end of two outputs, fit to be shown."""
    return _printable(Result(exit=None, stdout=stdout, stderr=stderr).tail())


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
