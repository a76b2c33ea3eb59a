"""The service itself: WS-Management over HTTP and HTTPS, as a Windows host answers on 5985 and 5986."""

import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from drtest.lab.winrm import envelope, faults
from drtest.lab.winrm.certificate import Certificate
from drtest.lab.winrm.faults import FaultError
from drtest.lab.winrm.probes import Probes
from drtest.lab.winrm.security import CONTENT_TYPE, Login, RefusedError, bindings
from drtest.lab.winrm.shells import MOST_SHELLS, Shells

SOAP_TYPE = "application/soap+xml;charset=UTF-8"
MOST_BYTES = 512_000
"""MaxEnvelopeSizekb, 500 by default."""
HANDSHAKE = 20.0
"""Seconds that a client may take for TLS."""
IDLE = 120.0
"""Seconds that it may be silent between two requests: http.sys' ConnectionTimeout."""
SIGNAL_END = ("/signal/terminate", "/signal/ctrl_c", "/signal/ctrl_break")


class Service(ThreadingHTTPServer):
    """Listens until it is closed. Use as a context manager: it serves in a thread of its own.

    Args:
        address: host and port; port 0 takes any.
        probes: what is answered.
        certificate: for HTTPS; None: plain HTTP, which then takes encrypted messages only, as Windows does.
        shells: how many a user may have.
        administrators: users that may open a shell, in any case of letters.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        address: tuple[str, int],
        *,
        probes: Probes,
        certificate: Certificate | None,
        shells: int = MOST_SHELLS,
        administrators: Sequence[str] = ("Administrator",),
    ) -> None:
        self.probes = probes
        self.shells = Shells(most=shells)
        self.administrators = frozenset(one.lower() for one in administrators)
        self.channel = bindings(certificate.certificate) if certificate else None
        self._tls = _context(certificate) if certificate else None
        super().__init__(address, _Handler)

    @property
    def encrypted(self) -> bool:
        """Whether it speaks HTTPS."""
        return self._tls is not None

    def get_request(self) -> tuple[socket.socket, Any]:
        """A new connection; its handshake is its own thread's, so that nobody holds up the others."""
        connection, client = super().get_request()
        connection.settimeout(HANDSHAKE)
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, client

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or fails its handshake, is nothing to tell of."""

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True, name="winrm").start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.shells.close_all()
        self.server_close()

    def carry_out(self, request: envelope.Request, user: str) -> bytes:
        """One request of a user who is logged in.

        Raises:
            FaultError: it can't be done.
        """
        if user.lower() not in self.administrators:
            raise faults.access_denied()
        if request.resource != envelope.COMMAND_SHELL:
            raise faults.not_windows(f"It has no {request.resource or 'resource'}.")
        if request.verb == "Create":
            shell = self.shells.open(user)
            return envelope.answer(request, envelope.created(shell.id, owner=user))
        shell = self.shells.get(request.shell, owner=user)
        match request.verb:
            case "Command":
                line = " ".join([request.text("Command"), *request.texts("Arguments")]).strip()
                command = shell.start(self.probes.main(line))
                body = (
                    f"<rsp:CommandResponse><rsp:CommandId>{command.id}</rsp:CommandId></rsp:CommandResponse>"
                )
            case "Send":
                for data, end in request.input():
                    shell.command(request.command()).feed(data, end=end)
                body = "<rsp:SendResponse/>"
            case "Receive":
                command = shell.command(request.command())
                got = command.receive(request.timeout)
                if got is None:
                    raise faults.timed_out()
                body = envelope.output(command.id, *got)
            case "Signal":
                shell.command(request.command())
                if request.text("Code").lower().endswith(SIGNAL_END):
                    shell.drop(request.command())
                body = "<rsp:SignalResponse/>"
            case "Delete":
                self.shells.close(shell.id)
                body = ""
            case _:
                raise faults.not_supported(request.action)
        return envelope.answer(request, body)


def _context(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # ssl reads certificates from files only.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "both.pem"
        file.touch(mode=0o600)
        file.write_bytes(certificate.certificate + certificate.key)
        context.load_cert_chain(file)
    return context


class _Handler(BaseHTTPRequestHandler):
    """One connection: a login, and requests one after the other."""

    server: Service
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_version = "Microsoft-HTTPAPI/2.0"
    sys_version = ""

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        self.request.settimeout(IDLE)
        super().setup()
        self.login = Login(self.server.channel)

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged: requests carry what is nobody's business."""

    def do_POST(self) -> None:
        """One request."""
        for status, body, headers in self._answer():
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _answer(self) -> Iterator[tuple[int, bytes, Sequence[tuple[str, str]]]]:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > MOST_BYTES:
            self.close_connection = True
            yield 413, b"", ()
            return
        body = self.rfile.read(int(length))
        if self.path.rstrip("/").lower() != "/wsman":
            yield 404, b"", ()
            return
        authorization = self.headers.get("Authorization", "")
        if authorization:
            try:
                challenge = self.login.step(authorization)
            except RefusedError:
                yield 401, b"", _CHALLENGES
                return
            if challenge:
                yield 401, b"", (("WWW-Authenticate", challenge),)
                return
        if not self.login.user:
            yield 401, b"", _CHALLENGES
            return
        yield self._soap(body)

    def _soap(self, body: bytes) -> tuple[int, bytes, Sequence[tuple[str, str]]]:
        """The answer to one message of somebody who is logged in."""
        wrapped = self.headers.get("Content-Type", "").startswith("multipart/encrypted")
        if not body:  # a client that wants no more than to log in
            return 200, b"", ()
        if not wrapped and not self.server.encrypted:
            return 500, b"", ()  # AllowUnencrypted=false: Windows answers so, without a word
        message = ""
        status = 200
        try:
            request = envelope.read(self.login.decrypt(body) if wrapped else body)
            message = request.message
            data = self.server.carry_out(request, self.login.user)
        except RefusedError:
            return 400, b"", ()
        except FaultError as problem:
            status, data = 500, envelope.fault(message, problem)
        if wrapped:
            return status, self.login.encrypt(data), (("Content-Type", CONTENT_TYPE),)
        return status, data, (("Content-Type", SOAP_TYPE),)


_CHALLENGES = (("WWW-Authenticate", "Negotiate"), ("WWW-Authenticate", "NTLM"))
