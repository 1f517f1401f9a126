"""One connection to the HTTP side, as gevent's own server handles it, with limits."""

import io
import logging
from types import TracebackType
from typing import Any

import gevent
from gevent import socket
from gevent.pywsgi import Input, WSGIHandler

from esl_record.http import head
from esl_record.http.access import ADMITTED
from esl_record.http.body import LIMIT
from esl_record.hub import Turns
from esl_record.logs import Sparing
from esl_record.peers import peer_key

log = logging.getLogger(__name__)
_sparing = Sparing(log)

_LAST_WORDS = 1.0
_PIECE = 8192
_ANSWER = "HTTP/1.1 {}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Connection(WSGIHandler):  # type: ignore[misc]  # gevent's has no types
    """One connection. A client that is slow, gone or speaks no HTTP is no error of ours: a line in the log at most."""

    wsgi_input: Any = None
    rfile: Any
    path: str

    def __init__(self, sock: socket.socket, address: Any, server: Any) -> None:
        super().__init__(sock, address, server)
        self._incoming = _Incoming(self.rfile.detach(), server.turns)
        self.rfile = io.BufferedReader(self._incoming, _PIECE)
        self._peer = peer_key(address[0])

    @property
    def admitted(self) -> bool:
        return bool(self.environ and self.environ.get(ADMITTED))

    def drop(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # gone already

    def handle(self) -> None:
        with self.server.clients.present(self, self._peer):
            super().handle()

    def handle_one_request(self) -> Any:
        self.environ: dict[str, Any] | None = None
        result = super().handle_one_request()
        if isinstance(result, tuple):
            self._part(result[1])
            return None
        return result

    def read_requestline(self) -> str:
        # The socket's own timeout begins anew with every byte that comes.
        with gevent.Timeout(self.server.head_patience, TimeoutError):
            line: str = super().read_requestline()
        if not self._incoming.fresh:
            # What was read before would do for many requests.
            self.server.turns.take()
        self._incoming.fresh = False
        self.server.clients.begins(self, self._peer)
        return line

    def read_request(self, raw_requestline: str) -> bool:
        head.check_line(raw_requestline)
        self._line_length = len(raw_requestline)
        with gevent.Timeout(self.server.head_patience, TimeoutError):
            parsed = bool(super().read_request(raw_requestline))
        host, self.path = head.split(self.path)
        if host is not None:
            del self.headers["Host"]
            self.headers["Host"] = host
        return parsed

    def MessageClass(self, rfile: Any, *_: object) -> Any:  # noqa: N802  # gevent's name
        """The headers, checked before gevent makes anything of them."""
        lines = head.read(rfile, head.LARGEST - self._line_length)
        headers = super().MessageClass(io.BytesIO(lines))
        head.check(headers, self.request_version)
        return headers

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        if not self.path.startswith("/"):
            # Nor may it begin so when it is decoded: it would be another's name.
            environ["PATH_INFO"] = self.path.partition("?")[0]
        told = self.wsgi_input
        body = _Body(self.rfile, self.content_length, told.socket, told.chunked_input)
        body.connection = self
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
        _sparing(logging.ERROR, "http: unexpected error", exc_info=(kind, error, trace))
        self._send_error_response_if_possible(500)

    def _handle_client_error(self, error: Exception) -> tuple[str, bytes] | None:
        # Its own text would hold the request line, and with it the signature of a link.
        log.debug("http: %s sent no request: %s", self.client_address[0], type(error).__name__)
        if isinstance(error, OSError):
            self.close_connection = True
            return None
        status = "431 Request Header Fields Too Large" if isinstance(error, head.TooLarge) else "400 Bad Request"
        return status[:3], _ANSWER.format(status).encode()

    def _part(self, answer: bytes) -> None:
        """Says ``answer`` and no more. What is under way must be read, or it undoes the answer."""
        left = LIMIT
        try:
            with gevent.Timeout(_LAST_WORDS, TimeoutError):
                self.socket.sendall(answer)
                self.socket.shutdown(socket.SHUT_WR)
                while left > 0 and (data := self.rfile.read1(_PIECE)):
                    left -= len(data)
        except OSError:
            pass  # gone, or it says something still


class _Incoming(io.RawIOBase):
    """What ``source`` reads, one piece a turn."""

    def __init__(self, source: io.RawIOBase, turns: Turns) -> None:
        self.fresh = False
        """Whether anything was read since the latest request, and a turn taken for it."""
        self._source = source
        self._turns = turns

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count: int | None = self._source.readinto(buffer)
        self.fresh = True
        self._turns.take()
        return count

    def close(self) -> None:
        self._source.close()
        super().close()


class _Body(Input):  # type: ignore[misc]  # nor has this
    """What follows a request's head."""

    connection: Connection

    def _discard(self) -> None:
        """Reads what the application has left, so that the next request can be; if that is much, there is no next."""
        awaited = self.socket is not None  # the client waits to be told to go on, and was not
        left = 0 if self._chunked_input_error or awaited else LIMIT
        unread = self.chunked_input or self.position < (self.content_length or 0)
        if not unread:
            return
        # Where the connection ends anyway, reading on only lets what is under way not undo the answer.
        patience = _LAST_WORDS if self.connection.close_connection else self.connection.server.patience
        try:
            with gevent.Timeout(patience, TimeoutError):
                while left > 0:
                    data = self.read(min(left, 16384))
                    if not data:
                        return
                    left -= len(data)
        except (OSError, ValueError):
            pass  # gone, slow, or not in chunks after all
        self.connection.close_connection = True
