"""One event-socket connection: greenswitch's protocol object with its reading, sending and waiting made safe.

greenswitch 0.0.19 is overridden here and in ``session``, nowhere else; ``tests/esl/test_greenswitch.py`` has the
reason for every override.
"""

import logging
import socket as _socket
from collections import deque
from collections.abc import Callable

import gevent
from gevent import socket
from gevent.event import AsyncResult
from gevent.event import Event as Flag
from gevent.lock import BoundedSemaphore
from greenswitch.esl import ESLProtocol

from esl_record.errors import CallGone, CommandRefused, CommandTimeout, WireError
from esl_record.esl import wire
from esl_record.hub import Reader
from esl_record.logs import Sparing

log = logging.getLogger(__name__)
_sparing = Sparing(log)

Listener = Callable[[wire.Event], None]

_CHUNK = 1 << 16
_FAREWELL = 1.0

UNASKED = 10
"""Frames nobody asked for that a switch may send: late replies, notices of its end."""


class Connection(ESLProtocol):  # type: ignore[misc]  # greenswitch has no types
    """Reads frames in a greenlet of its own, answers the waits for them, and never leaves one hanging.

    ``timeout`` (s) bounds the sending of a command and the wait for its reply. A reply that did not come in time
    would be taken for the next command's, so a timeout ends the connection; ``stop`` or ``abort`` closes its socket.
    A peer that sends what no switch does ends it too, and none keeps the hub from others.
    """

    body_limit = wire.BODY_LIMIT
    """Bytes a frame's body may have."""

    def __init__(self, sock: socket.socket, *, timeout: float = 5.0) -> None:
        # Not super(): greenswitch's subclasses open the socket themselves, or read it while half made.
        ESLProtocol.__init__(self)
        self.sock = sock
        self.timeout = timeout
        self.connected = True
        self.fault: Exception | None = None
        """What broke the connection, None while it stands and after an orderly end."""
        self.closed = Flag()
        self._replies: deque[AsyncResult[wire.Frame]] = deque()
        self._aborted = False
        self._unasked = 0
        self._sending = BoundedSemaphore(1)
        self._listeners: list[Listener] = []
        _keep_alive(sock)
        self.start_event_handlers()

    # ---- reading

    def start_event_handlers(self) -> None:
        self._receive_events_greenlet = gevent.spawn(self.receive_events)

    def receive_events(self) -> None:
        frames, reader = wire.FrameReader(self.body_limit), Reader()
        try:
            while data := self.sock.recv(_CHUNK):
                reader.begin()
                for frame in frames.feed(data):
                    self._take(frame)
                    reader.step()
                    if self._aborted:
                        return
                reader.step()
            frames.close()
        except WireError as error:
            self._lost(error)
        except OSError as error:
            self._lost(error if self.connected else None)
        finally:
            self._lost(None)

    def _take(self, frame: wire.Frame) -> None:
        kind = frame.content_type
        if kind in ("command/reply", "api/response"):
            if self._replies:
                self._replies.popleft().set(frame)
            else:
                # Without its text: it may be the answer to a `uuid_getvar` that came late, and have digits.
                size = len(frame.reply)
                _sparing(logging.WARNING, "%s: reply of %d characters to no command", self.label, size)
                self._count_unasked(f"reply of {size} characters")
        elif kind == "text/event-plain":
            event = wire.parse_event(frame)
            if not event.name:
                raise WireError("event without a name")
            self.admit_event(event, frame.body)
            self.on_event(event)
        elif kind == "text/disconnect-notice":
            self._count_unasked("notice")
            self.on_notice(frame)
        elif kind == "auth/request":
            self._count_unasked("request to log in")
            self._auth_request_event.set()
        elif kind == "text/rude-rejection":
            raise WireError("the switch refuses this address: see apply-inbound-acl in event_socket.conf.xml")
        else:
            raise WireError(f"frame of unknown Content-Type {kind[:40]!r}")

    def _count_unasked(self, what: str) -> None:
        self._unasked += 1
        if self._unasked > UNASKED:
            raise WireError(f"more than {UNASKED} frames that no command asked for, the last a {what}")

    def admit_event(self, event: wire.Event, raw: bytes) -> None:
        """Raise WireError where no switch would send this event, which is ``raw`` on the wire."""

    def on_event(self, event: wire.Event) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                _sparing(logging.ERROR, "%s: listener failed at %s", self.label, event.name, exc_info=True)

    def on_notice(self, frame: wire.Frame) -> None:
        """A ``text/disconnect-notice``: the end of the file follows it, or events first where it lingers."""

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Calls ``listener`` with every event from now on, in the reader's greenlet: it must not block.

        Gives the function that ends it.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    @property
    def label(self) -> str:
        """How log lines name this connection."""
        return "event socket"

    def _lost(self, fault: Exception | None) -> None:
        """Nothing more can be asked. The socket stays open: a last word may still be said on it."""
        self.fault = self.fault or fault
        self.connected = False
        self._run = False
        while self._replies:
            self._replies.popleft().set_exception(self.gone())
        self.closed.set()

    def give_up(self, fault: Exception) -> None:
        """End all waits with CallGone, because of ``fault``; nothing more can be asked, and nothing is read."""
        self._lost(fault)
        if self._receive_events_greenlet is not gevent.getcurrent():
            self._receive_events_greenlet.kill(block=False)

    def gone(self) -> CallGone:
        """The error of whoever still wants something of this connection; it says what ended it."""
        return CallGone(f"{self.label}: {self.fault or 'connection ended'}")

    # ---- sending

    def send(self, data: str) -> wire.Frame:
        """Sends one command and gives the switch's reply.

        Raises CallGone if the connection has ended or ends meanwhile, CommandTimeout, WireError for text that
        must not go on the wire.
        """
        # The words that name the command: its arguments may have what a caller pressed.
        return self._request(wire.command(data), repr(" ".join(data.split()[: 2 if data.startswith("api") else 1])))

    def api(self, line: str) -> str:
        """The answer to an API command. Raises CommandRefused where it begins with ``-ERR`` or ``-USAGE``."""
        answer = self.send(f"api {line}").reply
        if answer.startswith(("-ERR", "-USAGE")):
            raise CommandRefused(answer.strip())
        return answer

    def _request(self, data: bytes, name: str) -> wire.Frame:
        """``send`` of what is formatted already; errors call it ``name``."""
        if not self.connected:
            raise self.gone()
        reply: AsyncResult[wire.Frame] = AsyncResult()
        limit = gevent.Timeout(self.timeout)
        try:
            with limit:
                with self._sending:
                    self._replies.append(reply)
                    self.sock.sendall(data)
                answer: wire.Frame = reply.get()
                return answer
        except gevent.Timeout as expired:
            if expired is not limit:
                raise
            error = CommandTimeout(f"{self.label}: no answer to {name} within {self.timeout:g} s")
            self._lost(error)
            raise error from None
        except OSError as error:
            self._lost(error)
            raise CallGone(f"{self.label}: {error}") from error

    # ---- ending

    def stop(self) -> None:
        """Says ``exit`` and closes; never takes longer than a second."""
        if self.connected:
            self.timeout = min(self.timeout, _FAREWELL)
            try:
                self.send("exit")
            except (CallGone, CommandTimeout):
                pass  # it is closed either way
        self.abort()

    def abort(self) -> None:
        """Closes at once. Every wait on the connection ends with CallGone."""
        self.connected = False
        self._aborted = True
        try:
            self.sock.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # the other side was faster
        if self._receive_events_greenlet is not gevent.getcurrent():
            self._receive_events_greenlet.join(_FAREWELL)
        self.sock.close()


def _keep_alive(sock: socket.socket) -> None:
    """Finds out within two minutes that the switch's machine has gone without a word."""
    if sock.family not in (_socket.AF_INET, _socket.AF_INET6):
        return
    sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 3)):
        if hasattr(_socket, option):
            sock.setsockopt(_socket.IPPROTO_TCP, getattr(_socket, option), value)
