"""One call, as its party and a test see it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING

import gevent
import numpy as np
from gevent.event import Event as Flag
from numpy.typing import NDArray

from esl_record.standin.applications import APPLICATIONS
from esl_record.standin.bridge import hold_by_far_end, press_by_far_end
from esl_record.standin.caller import Caller
from esl_record.standin.channel import Channel
from esl_record.standin.clock import FRAMES_PER_SECOND, frames
from esl_record.standin.core import Core
from esl_record.standin.listener import Listener
from esl_record.standin.media import Legs
from esl_record.standin.recordings import Recordings
from esl_record.standin.session import Frames, Session
from esl_record.standin.wire import Connection

if TYPE_CHECKING:
    from esl_record.standin.api import Api

# How long a switch that closes waits for those it is connected with to read what it still says.
_LAST_WORDS_SECONDS = 0.5


class Call:
    """A call that a dialplan has given to a service.

    ``finished`` is set when the call has ended. ``went_on`` says that the dialplan came to its end while the call was
    up, and hung up. ``transferred`` is where ``uuid_transfer`` sent it. ``wire`` is what went over all its outbound
    connections, ``>>`` to the switch, ``<<`` from it. ``listeners`` are the connections about it. ``expansions`` are
    the API calls that variables in an application's argument asked for, ``name args`` each; none is run.
    """

    def __init__(self, core: Core, caller: Caller, api: Api) -> None:
        self.uuid = str(uuid.uuid4())
        self.finished = Flag()
        self.transferred: str | None = None
        self.wire: list[tuple[str, bytes]] = []
        self.listeners: list[Listener] = []
        self.channel = Channel(core, caller, self.uuid)
        self._core = core
        self._api = api
        self._caller = caller
        self._legs = Legs(caller)
        self.session = Session(
            self.channel,
            self._legs,
            Recordings(self.channel, self._legs.samples),
            {**APPLICATIONS, "socket": self._socket},
        )
        self.channel.on_down = self._tell
        self._digits = sorted((frames(at), digit) for at, digit in caller.digits)
        self._holds = sorted(
            (frames(min(at, 1e9)), on) for span in caller.holds for at, on in zip(span, (True, False), strict=True)
        )
        self._codecs = sorted((frames(at), rate) for at, rate in caller.codecs)
        self._hangup_frame = None if caller.hangup_after is None else frames(caller.hangup_after)
        self._patience = frames(caller.gives_up_after)
        self._placed = core.clock.frame
        self._goodbye: str | None = None
        self._sees_late = False
        self._failure: BaseException | None = None
        self._thread: Frames[None] | None = None

    def place(
        self,
        address: tuple[str, int],
        path: str,
        before: Iterable[tuple[str, str]] = (),
        behind: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Start the call's thread: the actions ``before``, the ``socket`` application, the actions ``behind``."""
        host, port = address
        socket = ("socket", f"{host}:{port}{'/' if path else ''}{path} async full")
        self._thread = self.session.run([*before, socket, *behind])

    @property
    def alive(self) -> bool:
        """The switch still knows the call."""
        return self._thread is not None

    @property
    def lingers(self) -> bool:
        """The call is over but a connection about it is still open."""
        return not self.alive and any(not listener.finished for listener in self.listeners)

    @property
    def hangup_cause(self) -> str | None:
        return self.channel.hangup_cause

    @property
    def went_on(self) -> bool:
        return self.session.went_on

    @property
    def variables(self) -> dict[str, str]:
        return dict(self.channel.variables)

    @property
    def expansions(self) -> list[str]:
        return self.channel.api_calls

    @property
    def position(self) -> float:
        """Seconds since answer, in whole frames."""
        return self._legs.frames / FRAMES_PER_SECOND

    @property
    def heard(self) -> NDArray[np.int16]:
        """What was played to the party since answer, at the call's rate; zeros where nothing was."""
        return self._legs.heard()

    def wait(self, timeout: float) -> None:
        """Wait until the call has ended, ``timeout`` wall seconds at most; raises TimeoutError."""
        if not self.finished.wait(timeout):
            raise TimeoutError(f"call {self.uuid} has not ended in {timeout} s; it is {self.position} s old")
        if self._failure is not None:
            raise self._failure

    def press(self, digit: str) -> None:
        self.channel.press(digit)

    def hold(self) -> None:
        """The party holds the call."""
        self.channel.hold()

    def unhold(self) -> None:
        """The party takes the call back that it holds."""
        self.channel.unhold()

    def change_codec(self, rate: int) -> None:
        """The party changes to the codec of ``rate`` samples a second."""
        self.channel.change_codec(rate)
        self._legs.change_rate(rate)
        self.session.recordings.change_rate(self._legs.samples)

    def hold_by_far_end(self, *, on: bool) -> None:
        """The far end of a bridge holds the call, or takes it back."""
        hold_by_far_end(self.session, on=on)

    def press_by_far_end(self, digit: str) -> None:
        """The far end of a bridge presses a digit."""
        press_by_far_end(self.session, digit)

    def hang_up(self, cause: str = "NORMAL_CLEARING") -> None:
        """The party hangs up, with the next frame."""
        self._goodbye = cause

    def kill(self, cause: str) -> None:
        """Somebody at the switch hangs the call up: its thread notices with the next frame."""
        self.channel.hang_up(cause)
        self.channel.down()

    def transfer(self, destination: str, dialplan: str, context: str) -> bool:
        """Send the call elsewhere; connections about it stay. False if it was sent too often, and is hung up."""
        self.transferred = destination
        return self.session.send_on(destination, dialplan, context)

    def die(self) -> None:
        """The switch dies: the connection is reset, files stop growing, nothing more is said."""
        self._thread = None
        for listener in self.listeners:
            listener.reset()
        self.finished.set()

    def abandon(self) -> None:
        """The switch is closing: end at once, and do not linger."""
        self.kill("MANAGER_REQUEST")
        while self._thread is not None:
            self.tick()
        for listener in self.listeners:
            listener.disconnect()
            listener.join(_LAST_WORDS_SECONDS)

    def stall_tap(self) -> None:
        """Spool files stop growing while the call lives."""
        self.session.recordings.stall()

    def fail(self, error: BaseException) -> None:
        """The stand-in itself broke; whoever waits for the call is told."""
        self._failure = error
        self.die()

    def tick(self) -> None:
        """One frame's time has passed."""
        for listener in self.listeners:
            if not listener.finished:
                listener.tick()
        if self._thread is None:
            return
        channel = self.channel
        if channel.hangup_cause is None:
            self._party()
        if channel.hangup_cause is None and channel.has_media:
            if channel.answered:
                channel.acknowledge()
            said = self._legs.say(answered=channel.answered, received=not channel.held)
            if not channel.held:
                channel.packets_in += 1
                self.session.recordings.said(said)
                if self.session.inband is not None and (digit := self.session.inband.hear(said)):
                    channel.press(digit)
        elif self._sees_late:
            self._sees_late = False
            return
        try:
            next(self._thread)
        except StopIteration:
            self._thread = None
            self.finished.set()

    def _party(self) -> None:
        """Press the digits, hold, change the codec and hang up when it is time to."""
        now = self._legs.frames
        while self._holds and self.channel.answered and self._holds[0][0] <= now:
            (self.hold if self._holds.pop(0)[1] else self.unhold)()
        while self._codecs and self.channel.answered and self._codecs[0][0] <= now:
            self.change_codec(self._codecs.pop(0)[1])
        while self._digits and self.channel.answered and self._digits[0][0] <= now:
            self.channel.press(self._digits.pop(0)[1])
        if self.channel.answered:
            due = now >= min(self._patience, self._patience if self._hangup_frame is None else self._hangup_frame)
        else:
            due = self._core.clock.frame - self._placed >= self._patience
        if due and self._goodbye is None:
            self._goodbye = "NORMAL_CLEARING"
        if self._goodbye is not None:
            self._say_goodbye(self._goodbye)

    def _say_goodbye(self, cause: str) -> None:
        channel = self.channel
        if channel.answered:
            channel.said_goodbye()
        elif cause == "NORMAL_CLEARING":
            cause = "ORIGINATOR_CANCEL"
        channel.hang_up(cause)
        self.session.disposition(goodbye=True)
        if channel.bridged:
            # The bridge's thread sees it only with its next frame, the connection before that.
            self._sees_late = True
            channel.down()

    def _tell(self) -> None:
        for listener in self.listeners:
            listener.channel_down()

    def _socket(self, session: Session, argument: str | None) -> Frames[None]:
        """``<host>:<port>[|<host>:<port>...][/<path>] async full``"""
        connection: Connection | None = None
        for host_port in (argument or "").split(" ")[0].split("|"):
            host, _, port = host_port.rpartition(":")
            port, _, path = port.partition("/")
            if path:
                self.channel.set("socket_path", path)
            self.channel.set("socket_host", host)
            connecting = gevent.spawn(self._connect, (host, int(port)))
            while session.ready and not connecting.ready():
                yield
            if not connecting.ready():
                # Killed it would leave its socket open.
                connecting.link_value(lambda connected: connected.value and connected.value.reset())
                return
            connection = connecting.value
            if connection is not None:
                break
        if connection is None:
            return
        listener = Listener(self._core, connection, self._api, self)
        self.listeners.append(listener)
        while session.ready and not listener.connected and not listener.finished:
            yield
        if listener.let_go:
            # Before the call was parked: the real one finds the channel reset, and does not park it.
            return
        yield from session.park(begun=listener.connected)
        yield from session.parse_messages()

    def _connect(self, address: tuple[str, int]) -> Connection | None:
        try:
            return Connection.to(address, self.wire, truncate_after=self._core.faults.truncate_after)
        except OSError:
            return None
