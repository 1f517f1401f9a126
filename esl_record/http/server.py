"""The listener of the HTTP side: gevent's own server, with limits, and the log in one place."""

import logging
from collections.abc import Callable, Iterable
from typing import Any

from gevent import socket
from gevent.pool import Pool
from gevent.pywsgi import WSGIServer

from esl_record.http.access import is_loopback
from esl_record.http.clients import Clients
from esl_record.http.connection import Connection
from esl_record.hub import Turns
from esl_record.peers import peer_key

log = logging.getLogger(__name__)

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

CONNECTIONS = 1000
"""Connections at once; more wait in the backlog."""

PATIENCE = 30.0
"""Seconds a client may take for a body, and to take each piece of the answer."""

HEAD_PATIENCE = 10.0
"""Seconds it may take for the line of a request, the next one included, and as many for the rest of the head."""

_BACKLOG = 256
_LAST_ANSWERS = 1.0


class HttpServer:
    """Serves ``app`` at ``address``, a host and a port.

    ``open_to_all``: whether it may be reached from other machines. If not, an address that could be gives way to
    loopback with the same port. ``patience`` and ``head_patience`` in seconds, as PATIENCE and HEAD_PATIENCE; for a
    head there is never more than for all else.
    """

    def __init__(
        self,
        address: tuple[str, int],
        app: WsgiApp,
        *,
        open_to_all: bool,
        connections: int = CONNECTIONS,
        patience: float = PATIENCE,
        head_patience: float = HEAD_PATIENCE,
    ) -> None:
        self._wanted = address
        self._app = app
        self._open_to_all = open_to_all
        self._connections = connections
        self._patience = patience
        self._head_patience = min(head_patience, patience)
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
            handler_class=Connection,
            # Without it gevent asks for the machine's full name, which a name server that hangs would keep it from.
            environ={"SERVER_NAME": host},
        )
        self._server.patience = self._patience
        self._server.head_patience = self._head_patience
        self._server.clients = Clients(self._connections)
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
    head_patience = HEAD_PATIENCE
    clients = Clients(CONNECTIONS)
    max_accept = 20
    """In one round of gevent's loop."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.turns = Turns()

    def handle(self, sock: socket.socket, address: Any) -> None:
        peer = peer_key(address[0])
        if not self.clients.admit(peer):
            log.debug("http: %s has too many connections", peer)
            _refuse(sock)
            return
        sock.settimeout(self.patience)
        # An answer's head and body are sent apart: without this the body would wait for the head to be confirmed.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().handle(sock, address)


def _refuse(sock: socket.socket) -> None:
    try:
        sock.sendall(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    except OSError:
        pass  # gone already
