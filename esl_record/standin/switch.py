"""The stand-in switch itself: pure Python, for the demo and the tests; the service never runs it."""

from __future__ import annotations

import time
from collections.abc import Iterable

import gevent
from gevent.event import Event as Flag

from esl_record.standin.api import Api
from esl_record.standin.call import Call
from esl_record.standin.caller import Caller
from esl_record.standin.clock import FRAMES_PER_SECOND, frames
from esl_record.standin.core import Core
from esl_record.standin.faults import Faults
from esl_record.standin.inbound import EventSocket

# How long frames may be worked off, and how long the others then get at least, when the switch runs behind its time.
PACE = "standin_pace"
"""Channel variable that tells whoever compares calls with the clock how fast they pass."""

_TURN_SECONDS = 0.004
_PAUSE_SECONDS = 0.0001
_DELAY_SECONDS = 0.2
"""What is made up for, in seconds of wall time."""


class Switch:
    """Places calls and runs them all from one greenlet.

    ``speed`` is how many seconds of call pass in one second of wall time (1.0 is real time). A switch that runs late
    leaves no frame out, so nothing that is counted in frames depends on the wall clock. As a real one it makes up for
    a short delay alone: behind a longer one its time goes on from there. With speed 0 time
    stands still but for ``advance``. ``began_us`` is the date it starts at, in microseconds since the epoch; now, if
    none is given. ``extensions`` are the destinations a call can be sent to, each with what it does there, application
    and argument each; ``inline`` ones need not be named.
    """

    def __init__(self, *, speed: float = 1.0, faults: Faults | None = None, began_us: int | None = None) -> None:
        if speed < 0:
            raise ValueError(f"speed {speed}: call time does not run backwards")
        self.calls: dict[str, Call] = {}
        self.speed = speed
        self._core = Core(faults or Faults(), began_us)
        self._api = Api(self._core, self.calls)
        self._active: list[Call] = []
        self._event_sockets: list[EventSocket] = []
        self._wake = Flag()
        self._closed = False
        self._started = time.monotonic()
        self._pacer = gevent.spawn(self._pace) if speed else None

    @property
    def extensions(self) -> dict[str, list[tuple[str, str]]]:
        return self._core.extensions

    def call(
        self,
        address: tuple[str, int],
        path: str,
        caller: Caller,
        *,
        before: Iterable[tuple[str, str]] = (),
        behind: Iterable[tuple[str, str]] = (),
    ) -> Call:
        """Place a call whose dialplan is ``socket <host>:<port>/<path> async full``; returns at once.

        ``before`` are the dialplan's actions in front of that, application and argument each, ``behind`` those that
        follow; after the last it hangs up. They run when the ``socket`` application has ended: it does when its
        connection has.
        """
        if self._closed:
            raise RuntimeError("the switch is closed")
        if not self._active and self.speed:
            # Nobody has noticed the frames that passed meanwhile.
            self._core.clock.frame = max(self._core.clock.frame, self._due())
        call = Call(self._core, caller, self._api)
        if self.speed != 1.0:
            call.channel.set(PACE, f"{self.speed:g}")
        self.calls[call.uuid] = call
        call.place(address, path, before, behind)
        self._active.append(call)
        self._wake.set()
        return call

    def listen(self, address: tuple[str, int] = ("127.0.0.1", 0), *, password: str = "ClueCon") -> tuple[str, int]:
        """Open an inbound event socket; the address it listens on."""
        if self._closed:
            raise RuntimeError("the switch is closed")
        self._event_sockets.append(EventSocket(self._core, self._api, address, password))
        return self._event_sockets[-1].address

    def api(self, command: str) -> str:
        """What the console or an inbound event socket's ``api`` answers, such as ``status`` or ``uuid_kill <uuid>``."""
        return self._api(command)

    def advance(self, seconds: float) -> None:
        """Let call time pass, in whole frames, before anything else happens in this process."""
        for _ in range(frames(seconds)):
            self._tick()

    def close(self) -> None:
        """Hang up everything and stop."""
        self._closed = True
        if self._pacer is not None:
            self._pacer.kill()
        for call in self._active:
            call.abandon()
        self._active = []
        for event_socket in self._event_sockets:
            event_socket.close()

    def _pace(self) -> None:
        while True:
            if not self._active:
                self._wake.clear()
                self._wake.wait()
            turn = time.monotonic()
            while self._core.clock.frame < self._due():
                self._started += max(0.0, turn - self._next_frame() - _DELAY_SECONDS)
                self._tick()
                if time.monotonic() - turn > _TURN_SECONDS:
                    gevent.sleep(_PAUSE_SECONDS)
                    turn = time.monotonic()
            next_frame = self._next_frame()
            gevent.sleep(max(next_frame - time.monotonic(), _PAUSE_SECONDS))

    def _next_frame(self) -> float:
        return self._started + (self._core.clock.frame + 1) / (FRAMES_PER_SECOND * self.speed)

    def _due(self) -> int:
        return int((time.monotonic() - self._started) * self.speed * FRAMES_PER_SECOND)

    def _tick(self) -> None:
        self._core.clock.frame += 1
        for event_socket in self._event_sockets:
            event_socket.tick()
        for call in self._active:
            try:
                call.tick()
            except Exception as error:
                call.fail(error)
        self._active = [call for call in self._active if call.alive or call.lingers]
