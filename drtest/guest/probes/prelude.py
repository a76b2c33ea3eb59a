"""What every program in a guest has: a budget of time, commands with timeouts, and one answer between sentinels."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Pattern, Sequence

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HEAD = 12000
TAIL = 4000
MOST = 8 << 20
"""Bytes that a command may print: a checker that has said so much of a filesystem might never come to an end."""
PATIENCE = 5.0
"""Seconds that a killed command gets to die in; one that hangs in the kernel does not, and is left behind."""

_started = time.monotonic()
_ends = _started + 600.0
_folder = ""


def begin(seconds: float) -> None:
    """Starts the budget: what is left of it bounds every command from here on."""
    global _started, _ends
    _started = time.monotonic()
    _ends = _started + seconds
    os.environ.update(LC_ALL="C", LANG="C", LANGUAGE="C", PATH=PATH)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        os.environ.pop(name, None)


def scratch(name: str) -> str:
    """A path for a file of this program's own; all of them go when it ends."""
    global _folder
    if not _folder:
        _folder = tempfile.mkdtemp(prefix="drtest-", dir="/run" if os.access("/run", os.W_OK) else None)
    return os.path.join(_folder, name)


def left() -> float:
    """How many seconds of the budget are left; never negative."""
    return max(0.0, _ends - time.monotonic())


def narrow(seconds: float) -> None:
    """Cuts the budget of this process, for a child that must leave time to its siblings."""
    global _ends
    _ends = min(_ends, time.monotonic() + seconds)


class Ran(NamedTuple):
    """What came of one command: its exit code (None where it has none), its output, and why it could not run."""

    command: str
    exit: Optional[int]
    output: str
    error: str

    @property
    def ok(self) -> bool:
        """Whether it ran and said 0."""
        return self.exit == 0 and not self.error


def run(
    argv: Sequence[str],
    timeout: float,
    merge: bool = True,
    until: Optional[Pattern[str]] = None,
    environment: Optional[Mapping[str, str]] = None,
) -> Ran:
    """Runs one command, in the C locale, without a terminal, and never longer than `timeout` or the budget.

    One that prints more than `MOST` is ended: what it said by then stands, and its exit is None.

    Args:
        argv: the program and its arguments.
        timeout: seconds.
        merge: whether its error output is part of the output.
        until: the output that is enough; once it is there the command is ended, and its exit is None.
        environment: what it gets beside this process's own.
    """
    command = " ".join(argv)
    ends = min(time.monotonic() + timeout, _ends)
    if ends <= time.monotonic():
        return Ran(command, None, "", "no time was left to run {}".format(argv[0]))
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge else subprocess.DEVNULL,
            start_new_session=True,
            env=dict(os.environ, **dict(environment or {})),
        )
    except FileNotFoundError:
        return Ran(command, None, "", "{} is not installed".format(argv[0]))
    except OSError as problem:
        return Ran(command, None, "", "{} did not start: {}".format(argv[0], problem))
    gathered = _Gathered()
    error = _drain(process, gathered, ends, until)
    if not error:
        try:
            process.wait(max(0.1, min(PATIENCE, ends - time.monotonic())))
        except subprocess.TimeoutExpired:
            error = "{} closed its output and did not end".format(argv[0])
    if error or process.poll() is None:
        _kill(process)
    exit_code = process.poll()
    if error == _ENOUGH:
        return Ran(command, None, gathered.text(), "")
    if exit_code is not None and exit_code < 0 and not error:
        error = "{} was ended by signal {}".format(argv[0], -exit_code)
    return Ran(command, None if error else exit_code, gathered.text(), error)


_ENOUGH = "enough"


def _drain(
    process: "subprocess.Popen[bytes]", gathered: "_Gathered", ends: float, until: Optional[Pattern[str]]
) -> str:
    pipe = process.stdout
    if pipe is None:
        return ""
    while True:
        remaining = ends - time.monotonic()
        if remaining <= 0:
            return "{} did not end in time".format(
                process.args[0] if isinstance(process.args, list) else "it"
            )
        if not select.select([pipe], [], [], min(remaining, 1.0))[0]:
            if process.poll() is not None:  # a child of it still holds the pipe: its own output is all there
                return ""
            continue
        chunk = os.read(pipe.fileno(), 65536)
        if not chunk:
            return ""
        gathered.add(chunk)
        if gathered.length > MOST or (until is not None and until.search(gathered.text())):
            return _ENOUGH


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(
        subprocess.TimeoutExpired
    ):  # stuck in the kernel: all that can be done is to leave it
        process.wait(PATIENCE)


class _Gathered:
    """Output of any length in little memory: its beginning and its end."""

    def __init__(self) -> None:
        self.head = b""
        self.tail = b""
        self.length = 0

    def add(self, chunk: bytes) -> None:
        self.length += len(chunk)
        room = HEAD - len(self.head)
        if room > 0:
            self.head += chunk[:room]
            chunk = chunk[room:]
        self.tail = (self.tail + chunk)[-TAIL:]

    def text(self) -> str:
        missing = self.length - len(self.head) - len(self.tail)
        middle = "\n[... {} bytes left out ...]\n".format(missing).encode() if missing else b""
        return (self.head + middle + self.tail).decode("utf-8", "replace")


def version(tool: str, *arguments: str) -> str:
    """The first number with a dot that a tool says of itself; empty where it says none or is not there."""
    found = re.search(r"\d+(?:\.\d+)+", run((tool,) + (arguments or ("-V",)), 10).output)
    return found.group(0) if found else ""


def read(path: str, limit: int = 65536) -> str:
    """A small text file, stripped; empty where it can't be read."""
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def seen(probe: str, command: str, data: Dict[str, Any], volume: Optional[str] = None) -> Dict[str, Any]:
    """One observation, with the seconds since this program began."""
    return {
        "probe": probe,
        "volume": volume,
        "command": command,
        "after": round(time.monotonic() - _started, 3),
        "data": data,
    }


def guarded(
    probe: str, command: str, look: Callable[[], Dict[str, Any]], volume: Optional[str] = None
) -> Dict[str, Any]:
    """An observation by a probe that may fail: then its ``error`` says how, and the others go on."""
    try:
        data = look()
    except Exception as problem:
        where = traceback.extract_tb(sys.exc_info()[2])[-1]
        data = {"error": "{}: {} ({}:{})".format(type(problem).__name__, problem, where[0], where[1])}
    data.setdefault("error", "")
    return seen(probe, command, data, volume)


def serve(main: Callable[[Dict[str, Any]], Any], arguments: Dict[str, Any], nonce: str) -> None:
    """Runs a program and prints its answer; the alarm ends it should everything else hang."""
    seconds = float(arguments.get("seconds", 600))
    begin(seconds)
    scratch("")  # made before any child is, so that all share it and it goes with this process
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(seconds) + 60)
    try:
        document: Dict[str, Any] = {"seen": main(arguments)}
    except Exception:
        document = {"error": traceback.format_exc()[-4000:]}
    finally:
        if _folder:
            shutil.rmtree(_folder, ignore_errors=True)
    document["python"] = sys.version.split()[0]
    answer(document, nonce)


def stream(main: Callable[[Dict[str, Any]], None], arguments: Dict[str, Any], _nonce: str) -> None:
    """Runs a program that prints lines of its own until it is stopped: no sentinels, so no nonce."""
    seconds = float(arguments["seconds"])
    begin(seconds)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(seconds) + 60)
    main(arguments)


def answer(document: Dict[str, Any], nonce: str) -> None:
    """Prints a document between sentinels that nobody else can have printed."""
    body = json.dumps(document, ensure_ascii=True, separators=(",", ":"), default=str)
    out = "\n-----BEGIN DRTEST {0}-----\n{1}\n-----END DRTEST {0}-----\n".format(nonce, body)
    sys.stdout.buffer.write(out.encode("ascii"))
    sys.stdout.buffer.flush()


def isolated(work: Callable[[Callable[[Dict[str, Any]], None]], None], seconds: float) -> "Isolated":
    """Runs `work` in a child process, so that one hang in the kernel costs its own part of the answer only.

    Args:
        work: gets a function to hand over one document with; what was handed over before a hang is kept.
        seconds: how long it may take; the child's own commands end a little earlier.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setsid()
        signal.alarm(int(seconds) + 5)
        narrow(max(1.0, seconds - 3.0))
        problem = ""
        with os.fdopen(writer, "wb") as pipe:

            def hand_over(document: Dict[str, Any]) -> None:
                pipe.write(json.dumps(document, default=str).encode("ascii") + b"\n")
                pipe.flush()

            try:
                work(hand_over)
            except BaseException:
                problem = traceback.format_exc()[-2000:]
            hand_over({"ended": True, "problem": problem})
        os._exit(0)
    os.close(writer)
    return _collect(child, reader, time.monotonic() + seconds)


class Isolated(NamedTuple):
    """What a child process handed over, and why it did not end well, if so."""

    documents: List[Dict[str, Any]]
    error: str


def _collect(child: int, reader: int, ends: float) -> Isolated:
    data = b""
    error = ""
    while True:
        remaining = ends - time.monotonic()
        if remaining <= 0:
            error = "it did not end in time"
            break
        if not select.select([reader], [], [], min(remaining, 1.0))[0]:
            continue
        chunk = os.read(reader, 65536)
        if not chunk:
            break
        data += chunk
    os.close(reader)
    documents = [json.loads(line.decode("ascii")) for line in data.split(b"\n")[:-1]]
    if documents and documents[-1].get("ended"):
        error = error or documents.pop()["problem"]
    else:
        error = error or "it was ended from outside"
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    for _ in range(50):
        if os.waitpid(child, os.WNOHANG)[0]:
            break
        time.sleep(0.1)
    return Isolated(documents, error)
