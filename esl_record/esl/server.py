"""The listener the dialplan's ``socket`` action connects to: admits calls, one greenlet each, and drains."""

import logging
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address, ip_network

import gevent
from gevent import socket
from gevent.event import Event as Flag
from gevent.server import StreamServer

from esl_record.errors import CallGone, CommandRefused, CommandTimeout
from esl_record.esl.session import Session

log = logging.getLogger(__name__)

REFUSED = "esl_record_refused"
"""Channel variable that tells a refused call why."""

_BACKLOG = 1024
_REFUSAL_TIMEOUT = 2.0


class Server:
    """Accepts calls and runs ``handler(session)`` for each in a greenlet of its own.

    A call over ``capacity`` is told so in the variable ``esl_record_refused`` and goes on in the dialplan. A peer
    from none of the networks ``peers`` gets its call back at once. ``on_control`` is told how many seconds a call
    has waited from its connection until it is under control.
    """

    def __init__(
        self,
        listen: tuple[str, int],
        handler: Callable[[Session], None],
        *,
        capacity: int,
        peers: Iterable[str],
        timeout: float = 5.0,
        on_control: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.capacity = capacity
        self.timeout = timeout
        self._handler = handler
        self._on_control = on_control
        self._peers = [ip_network(peer, strict=False) for peer in peers]
        self._calls: dict[Session, gevent.Greenlet] = {}
        self._beginning: set[Flag] = set()
        """One for each connection that has not said yet which call it is of."""
        self._connections = 0
        self._empty = Flag()
        self._empty.set()
        self._listener = StreamServer(listen, self._accept, backlog=_BACKLOG)

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
        gevent.killall(list(self._calls.values()), timeout=_REFUSAL_TIMEOUT * 2)

    def _accept(self, sock: socket.socket, address: tuple[str, int]) -> None:
        peer = ip_address(address[0])
        # What an IPv6 socket calls an IPv4 peer.
        peer = getattr(peer, "ipv4_mapped", None) or peer
        if not any(peer in network for network in self._peers):
            log.warning("connection from %s refused: not in the setting peers", address[0])
            # Closed without a `connect` the switch would keep the call in its `socket` application for ever.
            self._refuse(Session(sock, address, timeout=_REFUSAL_TIMEOUT))
            return
        self._connections += 1
        self._empty.clear()
        try:
            if self._connections > self.capacity:
                session = Session(sock, address, timeout=_REFUSAL_TIMEOUT)
                self._refuse(session, [(REFUSED, "capacity")])
                log.warning("%s refused: %d calls is the capacity", session.label, self.capacity)
            else:
                self._serve(Session(sock, address, timeout=self.timeout))
        finally:
            self._connections -= 1
            if not self._connections:
                self._empty.set()

    def _refuse(self, session: Session, variables: Sequence[tuple[str, str]] = ()) -> None:
        """Hand a call back to its dialplan with channel ``variables``."""
        try:
            session.connect()
        except (CallGone, CommandTimeout):
            pass  # released all the same
        session.release(variables)

    def _begin(self, session: Session) -> None:
        known = Flag()
        self._beginning.add(known)
        try:
            session.begin()
        finally:
            self._beginning.remove(known)
            known.set()

    def _serve(self, session: Session) -> None:
        self._calls[session] = gevent.getcurrent()
        connected = time.monotonic()
        try:
            self._begin(session)
            self._on_control(time.monotonic() - connected)
            self._handler(session)
        except CallGone as error:
            # An orderly end is logged by whoever was at work; a broken wire is nobody else's to tell.
            if session.fault is not None:
                log.error("%s: %s", session.label, session.pressed.redact(session.fault))
            else:
                log.debug("%s", error)
        except (CommandTimeout, CommandRefused) as error:
            log.error("%s", error)
        except gevent.GreenletExit:
            log.warning("%s: given up at shutdown", session.label)
        except Exception:
            log.error("%s: unexpected error", session.label)
            # Line by line: what is in the text of an error may come from the caller.
            for line in traceback.format_exc().splitlines():
                log.error("%s: %s", session.label, session.pressed.redact(line))
        finally:
            self._calls.pop(session, None)
            session.release()
