"""The thread that runs a call: it executes the dialplan's applications and those a connection asks for.

It is a generator. Each ``yield`` is a wait for the next 20 ms frame, so an application reads as it does in the switch,
nested ones included, and takes as many frames as it should, whatever the wall clock does.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import TypeVar

from esl_record.standin import cdr
from esl_record.standin.channel import Channel, cause_named
from esl_record.standin.clock import FRAME_MS
from esl_record.standin.inband import Detector
from esl_record.standin.media import Amplifier, Frame, Legs
from esl_record.standin.recordings import Recordings
from esl_record.standin.transfer import arrive, inline, leave
from esl_record.standin.variables import integer, is_true

T = TypeVar("T")
Frames = Generator[None, None, T]
Application = Callable[["Session", "str | None"], Frames[None]]
Message = Mapping[str, str]

# What is received while a call is sent elsewhere. Their place in a recording is kept.
_LOST_FRAMES = 2

# Applications shorter than this are not repeated, however many loops were asked for.
_SHORTEST_LOOP_FRAMES = 500 // FRAME_MS


class Session:
    """Runs the applications of one channel."""

    def __init__(
        self, channel: Channel, legs: Legs, recordings: Recordings, applications: Mapping[str, Application]
    ) -> None:
        self.channel = channel
        self.legs = legs
        self.recordings = recordings
        self.messages: deque[Message] = deque()
        self.dialplan: list[tuple[str, str]] = []
        self.controlled = False
        self.went_on = False
        self._parks = False
        self.break_flag = False
        self.amplifier = Amplifier()
        self.inband: Detector | None = None
        self._applications = applications
        self._broadcast = False
        self._stop_broadcast = False
        self._locks = 0

    @property
    def ready(self) -> bool:
        return self.channel.ready

    def write(self, frame: Frame) -> None:
        """Play one frame to the party."""
        self.channel.packets_out += 1
        amplified = self.amplifier.amplify(frame)
        self.legs.hear(amplified)
        self.recordings.heard(frame, amplified)

    def amplify(self, level: int) -> None:
        """Play softer or louder from now on, -4 to 4."""
        if self.channel.pre_answer():
            if not self.amplifier.level:
                self.recordings.precede_amplifier()
            self.amplifier.level = level

    def run(self, dialplan: list[tuple[str, str]]) -> Frames[None]:
        """Execute the applications of a dialplan in turn; the action behind them hangs up."""
        self.dialplan = dialplan
        yield from self._execute_dialplan()
        while self.channel.transferred and self.channel.hangup_cause is None:
            self.channel.transferred = False
            if self._parks:
                self._parks = False
                self.channel.enter("CS_PARK", 6)
                yield from self.park()
            else:
                yield from self._arrive()
        if self.ready:
            self.went_on = True
            self.hang_up("NORMAL_CLEARING")
        yield from self._end()

    def _execute_dialplan(self) -> Frames[None]:
        while self.dialplan and self.ready:
            name, argument = self.dialplan.pop(0)
            yield from self.execute(name, argument)

    def _arrive(self) -> Frames[None]:
        self.channel.enter("CS_ROUTING", 2)
        if not self.dialplan:
            self.hang_up("NO_ROUTE_DESTINATION")
            return
        arrive(self.channel)
        yield from self._execute_dialplan()

    def send_on(self, destination: str, dialplan: str, context: str) -> bool:
        """Leave what is running for another destination; False if that was too often.

        A destination is one of the dialplan ``inline`` or an extension of the switch. The switch throws away what it
        has just received.
        """
        if not leave(self.channel, destination, dialplan, context):
            return False
        self.dialplan = (
            inline(destination) if dialplan == "inline" else list(self.channel.core.extensions.get(destination, ()))
        )
        self._parks = False
        if self.channel.has_media:
            self.legs.lose(_LOST_FRAMES)
        return True

    def park_next(self) -> None:
        """Leave what is running and park outside of the dialplan, until the call is sent elsewhere."""
        self.channel.state = ("CS_PARK", 6)
        self.channel.transferred = self._parks = True

    def hang_up(self, cause: str) -> None:
        self.channel.hang_up(cause)

    def park(self, *, begun: bool = False) -> Frames[None]:
        """Wait for messages until the call is over or the connection lets go of it.

        ``begun`` says that this was announced already and the wait for this frame is over.
        """
        if self.controlled:
            return
        self.controlled = True
        expires, cause = self._park_timeout()
        if not begun:
            self.channel.fire("CHANNEL_PARK")
        while self.ready and self.controlled:
            if not begun:
                yield
            begun = False
            if expires is not None and self.channel.core.clock.epoch >= expires:
                self.hang_up(cause)
            if not self.ready or not self.controlled:
                break
            yield from self.parse_messages()
            self.channel.dequeue_digit()
        self.controlled = False
        self.channel.fire("CHANNEL_UNPARK")

    def _park_timeout(self) -> tuple[int | None, str]:
        """When, in epoch seconds, the variable ``park_timeout`` ends the call, and with which cause."""
        seconds, _, cause = (self.channel.variables.get("park_timeout") or "").partition(":")
        self.channel.set("park_timeout", None)
        return (self.channel.core.clock.epoch + integer(seconds) if seconds else None), cause_named(cause)

    def parse_messages(self) -> Frames[None]:
        """Carry out queued messages, one after the other, unless one that holds the event lock is being carried out."""
        while self.messages and not self._locks:
            if not (yield from self._parse(self.messages.popleft())):
                return

    def _parse(self, message: Message) -> Frames[bool]:
        command = message.get("call-command", "")
        locked = is_true(message.get("event-lock"))
        self._locks += locked
        try:
            if command == "execute" and message.get("execute-app-name"):
                yield from self._loop(message)
            elif command == "hangup":
                self.hang_up(cause_named(message.get("hangup-cause")))
            elif not command:
                return False
        finally:
            self._locks -= locked
        return not self.break_flag

    def _loop(self, message: Message) -> Frames[None]:
        channel = self.channel
        loops = integer(message["loops"]) if "loops" in message else 1
        self._stop_broadcast = False
        nested = self._broadcast
        self._broadcast = True
        done = 0
        while done < loops or loops < 0:
            began = channel.core.clock.frame
            if message.get("event-uuid"):
                channel.set("app_uuid", message["event-uuid"])
            channel.set("current_loop", str(done + 1))
            channel.set("total_loops", str(loops))
            executed = yield from self.execute(message["execute-app-name"], message.get("execute-app-arg"))
            done += 1
            lasted = channel.core.clock.frame - began
            if not executed or not self.ready or self._stop_broadcast or lasted < _SHORTEST_LOOP_FRAMES:
                break
        channel.set("current_loop", None)
        channel.set("total_loops", None)
        self._broadcast = nested
        if self._stop_broadcast:
            self._broadcast = False
            self.break_flag = True

    def execute(self, name: str, argument: str | None) -> Frames[bool]:
        """Run one application between its two events. False if it does not exist, which ends the call."""
        channel = self.channel
        if not self.ready:
            return False
        application = self._applications.get(name)
        if application is None:
            self.hang_up("DESTINATION_OUT_OF_ORDER")
            return False
        app_uuid = channel.variables.get("app_uuid") or str(uuid.uuid4())
        channel.set("app_uuid", None)
        expanded = channel.expand(argument) if argument else None
        channel.last_app = (name, expanded)
        channel.set("current_application", name)
        channel.set("current_application_data", expanded, checked=False)
        channel.set("current_application_response", None)
        named = [("Application", name)] + ([("Application-Data", expanded)] if expanded else [])
        channel.fire("CHANNEL_EXECUTE", [*named, ("Application-UUID", app_uuid)])
        self.break_flag = False
        channel.set("current_application", name)
        yield from application(self, expanded)
        response = channel.variables.get("current_application_response") or "_none_"
        ending = [("Application-Response", response), ("Application-UUID", app_uuid)]
        channel.fire("CHANNEL_EXECUTE_COMPLETE", [*named, *ending])
        return True

    def stop_broadcast(self, *, flush: bool) -> None:
        """End the application that is running; with ``flush`` forget those that wait."""
        if flush:
            self.messages.clear()
        if self._broadcast:
            self._stop_broadcast = True
        self.break_flag = True

    def release(self) -> None:
        """The connection lets go of the call: parking ends, and whatever it had asked for."""
        self.controlled = False
        self.stop_broadcast(flush=True)

    def take_break(self) -> bool:
        """Whether the running application was told to end; asking clears it."""
        told, self.break_flag = self.break_flag, False
        return told

    def disposition(self, *, goodbye: bool = False) -> None:
        """Note who hung up, ``goodbye`` saying that it was the far end."""
        channel = self.channel
        if channel.variables.get("sip_hangup_disposition"):
            return
        if goodbye and channel.answered:
            channel.set("sip_user_agent", channel.variables.get("sip_user_agent"))
            channel.set("sip_hangup_disposition", "recv_bye")
        elif goodbye:
            channel.set("sip_hangup_disposition", "recv_cancel")
        else:
            channel.set("sip_hangup_disposition", "send_bye" if channel.answered else "send_refuse")

    def _end(self) -> Frames[None]:
        channel = self.channel
        channel.enter("CS_HANGUP", 10)
        if not channel.answered:
            # Refusing a call takes its thread longer than ending one: whoever is connected gets to know in between.
            channel.down()
            yield
        channel.profile.times["Hangup"] = channel.core.clock.now_us
        self.recordings.stop("all")
        channel.close_books()
        channel.set_all(cdr.timestamps(channel))
        channel.enter_call_state("HANGUP")
        self.disposition()
        if channel.has_media:
            channel.set_all(channel.media_statistics())
        channel.enter("CS_REPORTING", 11)
        assert channel.hangup_cause is not None
        channel.fire("CHANNEL_HANGUP_COMPLETE", first=[("Hangup-Cause", channel.hangup_cause)])
        channel.down()
