"""Connections that have not said which call they are of: asked, waited for, and given up for others."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from gevent import GreenletExit, socket
from gevent.socket import wait_read

from esl_record.errors import CallGone
from esl_record.esl.session import Session

FEW = 64
"""Connections that may take as long as they like, within the timeout of a command, to say which call they are of."""

PATIENCE = 1.0
"""Seconds each has where there are more; a switch takes milliseconds."""

STRANGERS = 512
"""Connections that may be in that state at all; a switch would have to begin so many calls in milliseconds."""

_ASK = b"connect\n\n"
_LET_GO = b"resume\n\nexit\n\n"
_GAVE_WAY = "gave way to others, as it has not said which call it is of"

HAND_BACK = _ASK + _LET_GO
"""What hands a call back unheard; the switch carries it out even where the connection is closed at once."""


class Stranger:
    """One such connection, of ``peer``. Until it says something it costs next to nothing."""

    def __init__(self, sock: socket.socket, peer: str) -> None:
        self.peer = peer
        self.fault = ""
        """Why it was given up."""
        self._sock = sock
        self._session: Session | None = None

    def greet(self, timeout: float) -> bool:
        """Ask for the channel's data; return whether an answer begins within ``timeout`` seconds.

        Where none does the call is handed back.
        """
        try:
            self._sock.sendall(_ASK)
            wait_read(self._sock.fileno(), timeout, TimeoutError())
            if not self.fault and self._sock.recv(1, socket.MSG_PEEK):
                return True
        except TimeoutError:
            self.fault = f"no answer to 'connect' within {timeout:g} s"
        except OSError:
            return False  # gone
        except GreenletExit:
            self.fault = "given up at shutdown"
        with suppress(OSError):
            self._sock.sendall(_LET_GO)
        return False

    def meet(self, address: tuple[str, int], timeout: float) -> Session:
        """The session of a connection that answers; it may outlast the handler that has the connection now."""
        self._session = Session(self._sock.dup(), address, timeout=timeout)
        return self._session

    def give_up(self) -> None:
        """End the waiting for it; its call is handed back."""
        self.fault = _GAVE_WAY
        if self._session is not None:
            self._session.give_up(CallGone(f"{self._session.label}: {_GAVE_WAY}"))
            return
        with suppress(OSError):  # gone already
            self._sock.shutdown(socket.SHUT_RD)


class Strangers:
    """All such connections. They take no call's place.

    A switch says within milliseconds which call it is; so the oldest give way to new ones, not the new ones to them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[Stranger, float] = {}
        """Since when."""

    @contextmanager
    def present(self, stranger: Stranger) -> Iterator[None]:
        """Count ``stranger`` for as long as the block runs, or until it gives way."""
        now = self._clock()
        while len(self._waiting) >= FEW and now - self._waiting[self._oldest()] >= PATIENCE:
            self._drop(self._oldest())
        if len(self._waiting) >= STRANGERS:
            ((most, _),) = Counter(one.peer for one in self._waiting).most_common(1)
            self._drop(next(one for one in self._waiting if one.peer == most))
        self._waiting[stranger] = now
        try:
            yield
        finally:
            self._waiting.pop(stranger, None)

    def give_up(self) -> None:
        """Give all of them up."""
        while self._waiting:
            self._drop(self._oldest())

    def _oldest(self) -> Stranger:
        return next(iter(self._waiting))

    def _drop(self, stranger: Stranger) -> None:
        del self._waiting[stranger]
        stranger.give_up()
