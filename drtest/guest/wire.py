"""The HTTPS connections below WinRM: to the accepted certificate only, cut at a deadline, no answer without end."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Any

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool

RESPONSE_LIMIT = 4 * 1024 * 1024
"""Bytes that one HTTP response may have: a server keeps to the 153,600 of our MaxEnvelopeSize, or near them."""


class TooLargeError(Exception):
    """One HTTP response had more bytes than are borne."""


class Wire(HTTPAdapter):
    """The adapter that pywinrm's session sends through.

    Args:
        fingerprint: the only certificate that is accepted, as `drtest.guest.fingerprint.parse` gives it; "": any that
            the CA stands for. With a pin alone neither names nor dates are looked at: the certificate in a restored
            server carries an old name, and may have run out.
        validate: whether a CA has to stand for the certificate: where no CA file is given and a pin is, none has.
        name: the name that the certificate has to be for, where it is not the address.
    """

    def __init__(self, *, fingerprint: str, validate: bool, name: str = "") -> None:
        if not fingerprint and not validate:
            raise ValueError("a certificate is always proven: by a fingerprint or by a CA")
        self._fingerprint = fingerprint
        self._validate = validate
        self._name = name
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.certificate = b""
        super().__init__(max_retries=0)
        self.poolmanager.pool_classes_by_scheme = {"https": self._pool_class()}

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        """What a connection has to prove, for the pool."""
        attributes: Any = super().build_connection_pool_key_attributes(request, verify, cert)
        host, pool = attributes
        host["scheme"] = "https"  # no pool for anything else
        if self._fingerprint:
            pool["assert_fingerprint"] = self._fingerprint
        if not self._validate:
            pool["cert_reqs"] = "CERT_NONE"
            pool.pop("ca_certs", None)
        if self._name:
            pool["assert_hostname"] = pool["server_hostname"] = self._name
        return host, pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leaves alone what `build_connection_pool_key_attributes` has said of the pool."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,  # noqa: ARG002 a guest is reached directly
    ) -> requests.Response:
        """Sends one request and reads its answer.

        Raises:
            TooLargeError: the answer has more bytes than `RESPONSE_LIMIT`.
        """
        response = super().send(request, stream, timeout, verify, cert, None)
        if response.status_code == requests.codes.unauthorized:
            # requests_ntlm reads the server's certificate from this answer's open connection: the channel binding.
            if int(response.headers.get("Content-Length", "0")) > RESPONSE_LIMIT:
                raise TooLargeError
            return response
        try:
            data = response.raw.read(RESPONSE_LIMIT + 1, decode_content=True)
        except urllib3.exceptions.HTTPError as problem:
            raise requests.exceptions.ConnectionError(str(problem)) from problem
        if len(data) > RESPONSE_LIMIT:
            response.close()
            raise TooLargeError
        response._content = data  # as Response.content does, which knows no limit
        response._content_consumed = True  # type: ignore[attr-defined]
        response.raw.release_conn()
        return response

    def cut(self) -> None:
        """Ends all connections, under whatever waits for them."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                one.close()

    def _remember(self, connection: socket.socket, certificate: bytes) -> None:
        with self._lock:
            self._sockets = {one for one in self._sockets if one.fileno() >= 0} | {connection}
            self.certificate = certificate or self.certificate

    def _pool_class(self) -> type[HTTPSConnectionPool]:
        wire = self

        class Connection(HTTPSConnection):
            """A connection that can be cut, from the moment on that it has a socket."""

            def _new_conn(self) -> socket.socket:
                made = super()._new_conn()
                wire._remember(made, b"")
                return made

            def connect(self) -> None:
                super().connect()
                if isinstance(self.sock, ssl.SSLSocket):
                    wire._remember(self.sock, self.sock.getpeercert(binary_form=True) or b"")

        class Pool(HTTPSConnectionPool):
            """A pool of them."""

            ConnectionCls = Connection

        return Pool
