"""The listener the dialplan's ``socket`` action connects to: admits calls, one greenlet each, and drains."""

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import gevent
from gevent import socket
from gevent.event import Event as Flag
from gevent.server import StreamServer

from esl_record.errors import CallGone, CommandRefused, CommandTimeout
from esl_record.esl.admission import UNKNOWN_PEER, Admission, Refusal
from esl_record.esl.session import Session
from esl_record.esl.stranger import HAND_BACK, Stranger, Strangers
from esl_record.logs import Sparing
from esl_record.peers import peer_key

log = logging.getLogger(__name__)

_BACKLOG = 1024
_ACCEPTED = 50
"""Connections accepted in one round of gevent's loop."""

_REFUSAL_TIMEOUT = 2.0

_REFUSALS = 64
"""Calls that are refused with the reason at once; more are handed back without one, and without waiting."""


class Server:
    """Accepts calls and runs ``handler(session)`` for each in a greenlet of its own.

    A call that ``admission`` does not let in is told why in the variable ``esl_record_refused``, and goes on in the
    dialplan. A peer of no known network gets its call back at once. ``on_control`` is told how many seconds a call has
    waited from its connection until it is under control.
    """

    def __init__(
        self,
        listen: tuple[str, int],
        handler: Callable[[Session], None],
        admission: Admission,
        *,
        timeout: float = 5.0,
        on_control: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.timeout = timeout
        self._handler = handler
        self._admission = admission
        self._on_control = on_control
        self._log = Sparing(log)
        self._calls: dict[Session, gevent.Greenlet] = {}
        self._strangers = Strangers()
        self._beginning: set[Flag] = set()
        """One for each connection that has not said yet which call it is of."""
        self._connections = 0
        self._refusing = 0
        self._empty = Flag()
        self._empty.set()
        self._listener = StreamServer(listen, self._accept, backlog=_BACKLOG)
        self._listener.max_accept = _ACCEPTED

    @property
    def connections(self) -> int:
        """How many connections are open now, those being refused included."""
        return self._connections

    @property
    def address(self) -> tuple[str, int]:
        return self._listener.server_host, self._listener.server_port

    def serves(self, call_id: str) -> bool:
        """Whether a connection of that call is being served."""
        return any(session.uuid == call_id for session in self._calls)

    def settle(self) -> None:
        """Wait until each connection that is open now has said which call it is of, or has ended."""
        gevent.wait(list(self._beginning))

    def start(self) -> None:
        """Starts listening. Raises OSError if the address cannot be bound."""
        self._listener.start()

    def stop_accepting(self) -> None:
        """Closes the listener: a new call finds nobody and goes on in its dialplan."""
        self._listener.close()

    def drain(self, timeout: float) -> bool:
        """Waits until the last call has ended, at most ``timeout`` seconds; says whether it has."""
        return bool(self._empty.wait(timeout))

    def give_up(self) -> None:
        """Ends the handlers of all calls and hands the calls back to the dialplan."""
        self._strangers.give_up()
        gevent.killall(list(self._calls.values()), timeout=_REFUSAL_TIMEOUT * 2)

    def _accept(self, sock: socket.socket, address: tuple[str, int]) -> None:
        if not self._admission.knows(address[0]):
            self._log(logging.WARNING, "connection from %s refused: %s", address[0], UNKNOWN_PEER.detail)
            # Closed without a `connect` the switch would keep the call in its `socket` application for ever.
            self._refuse(sock, address, UNKNOWN_PEER)
            return
        peer = peer_key(address[0])
        self._connections += 1
        self._empty.clear()
        try:
            if refusal := self._admission.over_capacity(peer):
                self._refuse(sock, address, refusal)
            else:
                self._meet(sock, address, peer)
        finally:
            self._connections -= 1
            if not self._connections:
                self._empty.set()

    def _refuse(self, sock: socket.socket, address: tuple[str, int], refusal: Refusal) -> None:
        """Hand the call of a connection that has just been accepted back to its dialplan."""
        if self._refusing < _REFUSALS:
            session = Session(sock, address, timeout=_REFUSAL_TIMEOUT)
            with self._refused(session, refusal):
                with suppress(CallGone, CommandTimeout):  # released all the same
                    session.connect()
                if refusal is not UNKNOWN_PEER:
                    self._log(logging.WARNING, "%s refused: %s", session.label, refusal.detail)
                session.release(refusal.variables)
            return
        if refusal is not UNKNOWN_PEER:
            self._log(logging.WARNING, "connection from %s refused: %s", address[0], refusal.detail)
        with suppress(OSError):  # gone already
            sock.sendall(HAND_BACK)

    @contextmanager
    def _refused(self, session: Session, refusal: Refusal) -> Iterator[None]:
        """Count the call of ``session`` as one that is being refused, for as long as the block runs."""
        session.timeout = _REFUSAL_TIMEOUT
        if self._refusing >= _REFUSALS:
            session.give_up(CallGone(refusal.detail))
        self._refusing += 1
        try:
            yield
        finally:
            self._refusing -= 1

    def _meet(self, sock: socket.socket, address: tuple[str, int], peer: str) -> None:
        """Serve a connection as soon as it says which call it is of."""
        connected = time.monotonic()
        stranger = Stranger(sock, peer)
        with ExitStack() as unknown:
            unknown.enter_context(self._strangers.present(stranger))
            unknown.enter_context(self._asking())
            if stranger.greet(self.timeout):
                session = stranger.meet(address, self.timeout)
                try:
                    self._serve(session, peer, unknown, connected)
                finally:
                    if not session.lasts:
                        session.sock.close()
            elif stranger.fault:
                self._log(logging.ERROR, "connection from %s: %s", address[0], stranger.fault)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Let ``settle`` wait until the block has ended."""
        known = Flag()
        self._beginning.add(known)
        try:
            yield
        finally:
            self._beginning.remove(known)
            known.set()

    def _serve(self, session: Session, peer: str, unknown: ExitStack, connected: float) -> None:
        """Serve the call of a session that is being told the channel's data; ``unknown`` ends when it is there."""
        self._calls[session] = gevent.getcurrent()
        variables: Sequence[tuple[str, str]] = ()
        with ExitStack() as counted:
            try:
                with unknown:
                    session.connect(asked=True)
                if refusal := self._admission.refusal(session, peer):
                    variables = refusal.variables
                    self._log(logging.WARNING, "%s refused: %s", session.label, refusal.detail)
                    counted.enter_context(self._refused(session, refusal))
                    return
                counted.enter_context(self._admission.served.another(peer))
                session.begin()
                self._on_control(time.monotonic() - connected)
                self._handler(session)
            except CallGone as error:
                # An orderly end is logged by whoever was at work; a broken wire is nobody else's to tell.
                if session.fault is not None:
                    self._log(logging.ERROR, "%s: %s", session.label, session.pressed.redact(session.fault))
                else:
                    log.debug("%s", error)
            except (CommandTimeout, CommandRefused) as error:
                self._log(logging.ERROR, "%s", error)
            except gevent.GreenletExit:
                log.warning("%s: given up at shutdown", session.label)
            except Exception:
                if self._log(logging.ERROR, "%s: unexpected error", session.label):
                    # Line by line: what is in the text of an error may come from the caller.
                    for line in traceback.format_exc().splitlines():
                        log.error("%s: %s", session.label, session.pressed.redact(line))
            finally:
                self._calls.pop(session, None)
                session.release(variables)
