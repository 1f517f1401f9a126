"""One call's outbound event socket: typed verbs that wait for what they started, and end with the call."""

import logging
import re
import uuid as _uuid
from collections.abc import Mapping, Sequence
from typing import NoReturn

import gevent
from gevent import socket
from gevent.event import AsyncResult
from gevent.event import Event as Flag
from greenswitch.esl import OutboundSession

from esl_record.errors import CallGone, CommandRefused, CommandTimeout, WireError
from esl_record.esl import wire
from esl_record.esl.allowance import Allowance
from esl_record.esl.channel import HELD, ChannelCommands, pace_of, without_secret
from esl_record.esl.connection import Connection
from esl_record.esl.pressed import Pressed

log = logging.getLogger(__name__)

EXECUTE_LIMIT = 4 * 3600.0
"""Seconds after which an application that has neither completed nor lost its call is given up."""

LINGER = 5
"""Seconds the switch keeps the socket open after the hang-up; without it the last events of a call are lost."""

_LAST_WORD = 1.0

_RIGHT_BEHIND = 0.02
"""Seconds in which an event is read that the switch has sent right behind another."""

_SLEEP = 3_600_000
"""Milliseconds of one sleep: the switch counts microseconds in 32 bits."""

_CALL_ID = re.compile(r"[!-~]{1,256}")

_DIGITS = 99
"""Digits the switch takes at once; it sends none of more."""

SPEECH = "tts://"
"""What a sound that is spoken begins with."""

_EVENTS = "RECORD_START RECORD_STOP CODEC CHANNEL_HOLD CHANNEL_UNHOLD"
"""What `myevents` leaves out."""


class Session(ChannelCommands, Connection, OutboundSession):  # type: ignore[misc]  # greenswitch has no types
    """greenswitch's ``OutboundSession``, hardened. Use ``connect`` first, then ``begin``.

    Every verb raises CallGone once the caller has hung up or the connection has ended, CommandTimeout if the switch
    does not answer, CommandRefused if it says no.
    """

    body_limit = 1 << 19
    """What a command is answered about one call is far below."""

    def __init__(self, sock: socket.socket, address: tuple[str, int], *, timeout: float = 5.0) -> None:
        self.address = address
        self.data: Mapping[str, str] = {}
        self.secret = ""
        """What the dialplan has given as such."""
        self.hangup_cause: str | None = None
        self.left = False
        """The call was sent elsewhere in the switch; its events still come."""
        self.handed_back = False
        """The dialplan has the call again, or is about to; its connection was there until then."""
        self.lasts = False
        """Its connection is kept as long as the call, which is elsewhere."""
        self.pressed = Pressed()
        self.at_answer: list[Flag] = []
        """Each is set when something that starts at the answer has started; ``answer`` waits for them."""
        self._allowance = Allowance()
        self._over = Flag()
        self._ignores_digits = False
        self._held = False
        self._bridging = False
        self._executing: dict[str, AsyncResult[wire.Event]] = {}
        super().__init__(sock, timeout=timeout)

    # ---- the call

    def begin(self) -> None:
        """Takes control once the channel's data is there: asks for its events."""
        self._held = f"variable_{HELD}" in self.data
        # An earlier run of this service, or another document, may have asked for digits.
        self.pressed.note(self.data.get("variable_prompt_value", ""))
        self.myevents()
        self.send(f"event plain {_EVENTS}")
        self.linger(LINGER)

    def connect(self, *, asked: bool = False) -> None:
        """Ask for the channel's data, unless that was done on the bare socket, and wait for it."""
        command = b"" if asked else wire.command("connect")
        data, self.secret = without_secret(self._request(command, repr("connect")).headers)
        if not _CALL_ID.fullmatch(_call_id(data)):
            # It becomes an argument of commands, and a part of log lines and rows.
            self._lost(WireError("channel data without a usable Unique-ID: up to 256 printable characters, no blanks"))
            raise self.gone()
        self.data = self.session_data = data

    def myevents(self) -> None:
        self.send("myevents")

    def linger(self, timeout: int | None = None) -> None:
        self.send("linger" if timeout is None else f"linger {timeout}")

    @property
    def uuid(self) -> str:
        return _call_id(self.data)

    @property
    def path(self) -> str:
        """What stood after the port in the dialplan's ``socket`` action."""
        return self.data.get("variable_socket_path", "")

    @property
    def live(self) -> bool:
        """Whether the call can still be told to do something."""
        return self.connected and self.hangup_cause is None

    @property
    def lost(self) -> bool:
        """Whether the connection has ended, but as far as is known not the call."""
        return not (self.connected or self.hangup_cause or self.left or self.handed_back)

    @property
    def held(self) -> bool:
        """Whether the channel is marked as a call that is to come back, be it by an earlier connection."""
        return self._held

    @property
    def over(self) -> Flag:
        """Set once the call has ended, or the connection."""
        return self._over

    @property
    def answered(self) -> bool:
        return self.data.get("Answer-State") == "answered"

    @property
    def pace(self) -> float:
        """Seconds of call that pass in one second: 1 on every switch but the stand-in, 0 where that is not fixed."""
        return pace_of(self.data)

    @property
    def label(self) -> str:
        return f"call {self.uuid}" if self.uuid else f"connection from {self.address[0]}"

    # ---- verbs

    def execute(self, application: str, argument: str = "", *, timeout: float = EXECUTE_LIMIT) -> wire.Event:
        """Runs a dialplan application and waits until it has completed; gives its CHANNEL_EXECUTE_COMPLETE."""
        self.raise_if_disconnected()
        event_uuid = str(_uuid.uuid4())
        done: AsyncResult[wire.Event] = AsyncResult()
        self._executing[event_uuid] = done
        limit = gevent.Timeout(timeout)
        try:
            reply = self._request(wire.execute(application, argument, event_uuid), application).reply
            if reply.startswith("-ERR"):
                raise CommandRefused(f"{application}: {reply}")
            with limit:
                event: wire.Event = done.get()
                return event
        except gevent.Timeout as expired:
            if expired is not limit:
                raise
            raise CommandTimeout(f"{self.label}: {application} did not complete within {timeout:g} s") from None
        finally:
            self._executing.pop(event_uuid, None)

    def call_command(
        self, app_name: str, app_args: str | None = None, block: bool = False, response_timeout: float | None = None
    ) -> wire.Event | wire.Frame:
        if block:
            return self.execute(app_name, app_args or "", timeout=response_timeout or EXECUTE_LIMIT)
        self.raise_if_disconnected()
        return self._request(wire.execute(app_name, app_args or "", str(_uuid.uuid4())), app_name)

    def register_expected_event(self, *_: object) -> NoReturn:
        # greenswitch's way of waiting takes any completion of an application of that name for its own.
        raise NotImplementedError("completions are matched by Event-UUID: use execute")

    def answer(self) -> None:
        """Answers the call if that has not been done."""
        if self.answered:
            return
        self.execute("answer", timeout=self.timeout)
        # The next sound would be played within the beep of such a recording, and before its tap runs.
        for started in self.at_answer:
            gevent.wait([started, self._over], count=1, timeout=self.timeout)

    def playback(self, path: str) -> wire.Event:
        """Plays a file or stream to its end, or until ``uuid_break``."""
        return self.execute("playback", path)

    def speak(self, text: str, *, engine: str = "flite", voice: str = "kal") -> wire.Event:
        """Speaks ``text`` through a speech module of the switch. What would end the text, a bar or the call's
        ``playback_delimiter``, becomes a comma.

        As a sound, not by the application `speak`: its last part of a frame would stay in the buffer of every media bug
        that taps the write side, and the bug would deliver nothing until something else is played, and lose the rest.
        """
        delimiter = self.data.get("variable_playback_delimiter", "")[:1] or "|"
        spoken = wire.clean(text).replace("|", ",").replace(delimiter, ",").replace("@@", " ")
        return self.execute("playback", f"{SPEECH}{engine}|{voice}|{spoken}")

    def send_digits(self, digits: str) -> None:
        """Sends DTMF to the party; ``w`` and ``W`` wait 0.5 and 1 s. Returns when the digits are out."""
        self.ignore_digits()
        for at in range(0, len(digits), _DIGITS):
            part = digits[at : at + _DIGITS]
            # The switch only queues them, and with a sound would send them twice as fast.
            told = self.execute("send_dtmf", part).get("variable_last_dtmf_duration")
            pressed = len(part) - part.count("w") - part.count("W")
            lasts = int(told) if pressed and told.isdigit() else 500 * pressed
            self.sleep(lasts + 20 * pressed + 500 * part.count("w") + 1000 * part.count("W"))

    def sleep(self, milliseconds: int) -> None:
        """Lets the call wait, in the switch's time."""
        for slept in range(0, max(1, milliseconds), _SLEEP):
            self.execute("sleep", str(min(_SLEEP, milliseconds - slept)))

    def ignore_digits(self) -> None:
        """From now on no digit of the party ends a sound or a sleep; by itself ``*`` ends the one, any the other."""
        if not self._ignores_digits:
            self._call_api("uuid_setvar_multi", "playback_terminators=none;sleep_eat_digits=true")
            self._ignores_digits = True

    def audio_level(self, level: int) -> None:
        """Makes what the party hears softer or louder, -4 to 4, 0 = as it is. Recordings that run already do not hear
        the difference."""
        self._call_api("uuid_audio", f"start write level {level}" if level else "stop")

    def limit_duration(self, seconds: float) -> None:
        """Lets the switch hang up when the call has lasted another ``seconds``, whatever becomes of this service."""
        self.raise_if_disconnected()
        self.api(f"sched_hangup +{max(1, round(min(seconds, 1e9)))} {self.uuid} ALLOTTED_TIMEOUT")

    def hangup(self, cause: str = "NORMAL_CLEARING") -> None:
        """Hang up, whatever the call is doing.

        Return once the switch has done so: what is sent before, ``resume`` above all, would still reach the call.
        """
        if not self.live:
            return
        try:
            # Not the command of `sendmsg`: it waits, as the application `hangup` does, behind an application that holds
            # the event lock, and each that `execute_on_...` or `uuid_broadcast` has begun does.
            self.ask("uuid_kill", wire.clean(cause))
        except CallGone:
            if not self.connected:
                raise
            # It has hung up by itself; the event that says so is on its way.
        self._over.wait(self.timeout)

    def end(self, cause: str = "NORMAL_CLEARING") -> None:
        """Hang up as ``hangup``, unless the call was sent elsewhere: there it is no longer ours to end.

        The end of a step may be the first that is heard of that; that of `socket` comes right behind it.
        """
        self._hear_of_leaving()
        if not self.left:
            self.hangup(cause)

    def transfer(self, destination: str) -> None:
        """Sends the call to ``extension [dialplan [context]]``; then it takes no more orders from here."""
        self._call_api("uuid_transfer", destination)
        self._leave()

    def uuid_break(self) -> None:
        """Ends what is playing."""
        self._call_api("uuid_break", "all")

    def set_variable(self, name: str, value: str) -> None:
        """Sets a channel variable; control characters in ``value`` become spaces."""
        self._call_api("uuid_setvar", f"{wire.variable_name(name)} {wire.clean(value)}")

    def hold(self, held: bool) -> None:
        """Notes on the channel whether a recording of the call runs. Never raises: the recording matters more."""
        if held == self._held or not self.live:
            return
        self._held = held
        self.mark_held(held)

    def release(self, variables: Sequence[tuple[str, str]] = ()) -> None:
        """Hands the call back to the dialplan, which goes on after the ``socket`` action.

        One that has been sent elsewhere is let go without a word, and so is one in a bridge, which a ``resume`` would
        end: when the bridge is over the switch finds nobody on the socket, and the dialplan goes on as well.
        """
        self.handed_back = self.handed_back or self.connected
        self.hold(False)
        for name, value in variables if self.live else ():
            try:
                self.set_variable(name, value)
            except (CallGone, CommandTimeout, CommandRefused) as error:
                log.debug("%s: release: %s", self.label, error)
        self._hear_of_leaving()
        # From here on it is the resume that ends `socket`.
        elsewhere, bridging = self.left, self._bridging
        try:
            # One that was sent elsewhere it would take out of there, and leave with nothing to do.
            if self.live and not elsewhere and not bridging:
                self.send("resume")
        except (CallGone, CommandTimeout) as error:
            log.debug("%s: release: %s", self.label, error)
        if not self.connected and self.hangup_cause is None and not elsewhere:
            self._resume_blind()
        if elsewhere and self.live:
            # The end of a connection that has held the call ends the park it may be in by now.
            self.lasts = True
            gevent.spawn(self._stop_after_the_call)
        else:
            self.stop()

    def _hear_of_leaving(self) -> None:
        if self.live and not self.left:
            gevent.sleep(_RIGHT_BEHIND)

    def _stop_after_the_call(self) -> None:
        self._over.wait()
        self.stop()

    def _resume_blind(self) -> None:
        """Where replies can no longer be read the switch can still be told to take the call back."""
        unheld = f"api uuid_setvar {wire.clean(self.uuid)} {HELD}\n\n" if self._held else ""
        try:
            with gevent.Timeout(_LAST_WORD, False):
                self.sock.sendall(f"{unheld}resume\n\nexit\n\n".encode())
        except OSError:
            pass  # nobody there to tell

    def _call_api(self, name: str, argument: str) -> str:
        self.raise_if_disconnected()
        return self.ask(name, argument)

    def answer_to(self, line: str) -> str:
        if not self.live:
            raise self.gone()
        return self.api(line)

    def raise_if_disconnected(self) -> None:
        """Raises CallGone once the call is over or elsewhere; greenswitch's ``while_connected`` asks here too."""
        if not self.live or self.left:
            raise self.gone()

    def gone(self) -> CallGone:
        why = self.hangup_cause or ("sent elsewhere" if self.left else "")
        return CallGone(f"{self.label}: {why}") if why else super().gone()

    # ---- what the switch says

    def _request(self, data: bytes, name: str) -> wire.Frame:
        self._allowance.earn()
        return super()._request(data, name)

    def admit_event(self, event: wire.Event, raw: bytes) -> None:
        if not self.data:
            self._count_unasked(f"{event.name[:40]} before the channel's data")
        if not self._allowance.spend(raw):
            raise WireError("more events than the switch sends of one call")

    def on_event(self, event: wire.Event) -> None:
        if event.name == "CHANNEL_EXECUTE" and event.get("Application") == "bridge":
            self._bridging = True
        elif event.name == "CHANNEL_EXECUTE_COMPLETE":
            if event.get("Application") == "bridge":
                self._bridging = False
            done = self._executing.get(event.get("Application-UUID"))
            if done is not None:
                done.set(event)
            elif event.get("Application") == "socket" and self.hangup_cause is None:
                self._leave()
        elif event.name == "DTMF":
            self.pressed.note(event.get("DTMF-Digit"))
        elif event.name == "CHANNEL_ANSWER":
            self.data = {**self.data, "Answer-State": "answered"}
        elif event.name == "CHANNEL_HANGUP":
            self.hangup_cause = event.get("Hangup-Cause", "UNKNOWN")
            self._over.set()
        elif event.name == "CHANNEL_HANGUP_COMPLETE":
            # What was queued behind the hang-up will never complete.
            self._end_executions()
        super().on_event(event)

    def on_notice(self, frame: wire.Frame) -> None:
        # A lingering socket still brings the call's last events, so nothing that waits is failed here.
        if frame.headers.get("Content-Disposition") != "linger":
            self._end_executions()

    def _lost(self, fault: Exception | None) -> None:
        super()._lost(fault)
        self._over.set()
        self._end_executions()

    def _leave(self) -> None:
        self.left = True
        self._end_executions()

    def _end_executions(self) -> None:
        for done in list(self._executing.values()):
            done.set_exception(self.gone())


def _call_id(data: Mapping[str, str]) -> str:
    """Return the UUID of the channel with this ``data``, empty where it names none."""
    return data.get("Unique-ID") or data.get("variable_uuid", "")
