"""The listener of the HTTP side: gevent's own server, with limits, and the log in one place."""

import logging
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import gevent
from gevent import socket
from gevent.pool import Pool
from gevent.pywsgi import Input, WSGIHandler, WSGIServer

from esl_record.http.access import is_loopback
from esl_record.http.body import LIMIT

log = logging.getLogger(__name__)

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

CONNECTIONS = 1000
"""Connections at once; more wait in the backlog."""

PATIENCE = 30.0
"""Seconds a client may take to say what it wants, and to take each piece of the answer."""

_BACKLOG = 256
_LAST_ANSWERS = 1.0
_LAST_WORDS = 1.0


class HttpServer:
    """Serves ``app`` at ``address``, a host and a port.

    ``open_to_all``: whether it may be reached from other machines. If not, an address that could be gives way to
    loopback with the same port. ``patience`` in seconds, as PATIENCE.
    """

    def __init__(
        self,
        address: tuple[str, int],
        app: WsgiApp,
        *,
        open_to_all: bool,
        connections: int = CONNECTIONS,
        patience: float = PATIENCE,
    ) -> None:
        self._wanted = address
        self._app = app
        self._open_to_all = open_to_all
        self._connections = connections
        self._patience = patience
        self._server: _Server | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; before ``start`` where it will."""
        if self._server is None:
            return self._place()
        return self._server.server_host, self._server.server_port

    def start(self) -> None:
        """Starts listening. Raises OSError if the address cannot be bound."""
        host, port = self._place()
        listener = _listening(host, port)
        self._server = _Server(
            listener,
            self._app,
            spawn=Pool(self._connections),
            log=None,
            error_log=log,
            handler_class=_Handler,
            # Without it gevent asks for the machine's full name, which a name server that hangs would keep it from.
            environ={"SERVER_NAME": host},
        )
        self._server.patience = self._patience
        self._server.start()
        if self._open_to_all:
            return
        if host != self._wanted[0]:
            log.warning(
                "http: no project id and API token are set, so %s is not listened on, only %s: the API is open there",
                self._wanted[0],
                host,
            )
        else:
            log.info("http: no project id and API token are set: the API is open on %s", host)

    def stop(self) -> None:
        """Stops listening; what is being answered gets a moment to end."""
        if self._server is not None:
            self._server.stop(timeout=_LAST_ANSWERS)
            self._server = None

    def _place(self) -> tuple[str, int]:
        host, port = self._wanted
        if self._open_to_all or is_loopback(host):
            return host, port
        return "::1" if ":" in host else "127.0.0.1", port


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


class _Server(WSGIServer):  # type: ignore[misc]  # gevent's server has no types
    patience = PATIENCE

    def handle(self, sock: socket.socket, address: Any) -> None:
        sock.settimeout(self.patience)
        # An answer's head and body are sent apart: without this the body would wait for the head's acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().handle(sock, address)


class _Handler(WSGIHandler):  # type: ignore[misc]
    """One connection. A client that is slow, gone or speaks no HTTP is no error of ours: a line in the log at most."""

    wsgi_input: Any = None

    def read_requestline(self) -> str:
        # The socket's own timeout begins anew with every byte that comes.
        with gevent.Timeout(self.server.patience, TimeoutError):
            line: str = super().read_requestline()
            return line

    def read_request(self, raw_requestline: str) -> bool:
        with gevent.Timeout(self.server.patience, TimeoutError):
            parsed = bool(super().read_request(raw_requestline))
        # Where the body ends must not be read in two ways, by a proxy before this and by this.
        coding = self.headers.get_all("Transfer-Encoding", [])
        lengths = self.headers.get_all("Content-Length", [])
        if [value.strip().lower() for value in coding] not in ([], ["chunked"]):
            raise ValueError("a transfer coding that is not known")
        if len(lengths) > 1 or not all(length.isascii() and length.isdigit() for length in lengths):
            raise ValueError("no one length of the body")
        return parsed

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        told = self.wsgi_input
        body = _Body(self.rfile, self.content_length, told.socket, told.chunked_input)
        body.handler = self
        self.wsgi_input = environ["wsgi.input"] = body
        return environ

    def log_request(self) -> None:
        """The application tells of its answers itself."""

    def handle_error(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        self.close_connection = True
        if isinstance(error, gevent.GreenletExit):
            return
        if isinstance(error, OSError):
            log.debug("http: %s is gone: %s", self.client_address[0], error)
            return
        log.error("http: unexpected error", exc_info=(kind, error, trace))
        self._send_error_response_if_possible(500)

    def _handle_client_error(self, error: Exception) -> tuple[str, bytes] | None:
        # Its own text would hold the request line, and with it the signature of a link.
        log.debug("http: %s sent no request: %s", self.client_address[0], type(error).__name__)
        if isinstance(error, OSError):
            self.close_connection = True
            return None
        return "400", b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class _Body(Input):  # type: ignore[misc]
    """What follows a request's head."""

    handler: _Handler

    def _discard(self) -> None:
        """Reads what the application has left, so that the next request can be; if that is much, there is no next."""
        awaited = self.socket is not None  # the client waits to be told to go on, and was not
        left = 0 if self._chunked_input_error or awaited else LIMIT
        unread = self.chunked_input or self.position < (self.content_length or 0)
        if not unread:
            return
        # Where the connection ends anyway, reading on only lets what is under way not undo the answer.
        patience = _LAST_WORDS if self.handler.close_connection else self.handler.server.patience
        try:
            with gevent.Timeout(patience, TimeoutError):
                while left > 0:
                    data = self.read(min(left, 16384))
                    if not data:
                        return
                    left -= len(data)
        except OSError:
            pass  # gone, slow, or not in chunks after all
        self.handler.close_connection = True
