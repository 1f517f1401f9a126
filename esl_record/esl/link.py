"""The permanent connection to the switch's own event socket: calls that no outbound event socket reaches any more, and
the far ends of those that one does."""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from gevent.event import Event as Flag

from esl_record.errors import CallGone, CommandRefused, EslRecordError, WireError
from esl_record.esl import wire
from esl_record.esl.channel import ChannelCommands, pace_of, without_secret
from esl_record.esl.inbound import Inbound, SwitchUnreachable
from esl_record.hub import off_hub

log = logging.getLogger(__name__)

Listener = Callable[[wire.Event], None]

FIRST_RETRY, LAST_RETRY = 1.0, 30.0
"""Seconds between two attempts to connect: twice as many each time, up to the second figure."""

WITHOUT = (
    "calls and their recordings go on without it, but parked calls of a killed service are not reclaimed, recordings "
    "of calls that are elsewhere are not resumed after a restart or taken along by an attended transfer, holds and "
    "digits of a far end are not seen, and a caller in a `socket` that nobody serves stays there"
)
"""What the service does while it is not connected, and what it does not."""

VALUES, GROUPS = 2_000_000, 50_000
"""Commas and opening brackets of a list of channels that is parsed: Python reads it in one go, and a switch with 10,000
channels has a fifth of both."""

_ALWAYS = "CHANNEL_HOLD CHANNEL_UNHOLD DTMF"
_OF_LINKED = "CODEC RECORD_STOP CHANNEL_HANGUP"
"""Events of calls that have no event socket of their own; each call of the switch has some."""


class Link:
    """Connects while ``run`` runs, again and again. ``up`` says whether it is connected now."""

    def __init__(self, address: tuple[str, int], password: str) -> None:
        self.fault = "not connected yet"
        """Why it is not connected."""
        self._address = address
        self._password = password
        self.tried = Flag()
        """Set when it has connected for the first time, or has failed to."""
        self._switch: Inbound | None = None
        self._linked: dict[str, list[LinkedCall]] = {}
        self._far: dict[str, list[Listener]] = {}

    @property
    def up(self) -> bool:
        return self._switch is not None and self._switch.connected

    def run(self) -> None:
        """Goes on until it is killed."""
        wait, reported = FIRST_RETRY, ""
        while True:
            try:
                with Inbound(self._address, self._password) as switch:
                    switch.listen(self._on_event)
                    switch.send(f"event plain {_ALWAYS}{f' {_OF_LINKED}' if self._linked else ''}")
                    self._switch, self.fault, wait = switch, "", FIRST_RETRY
                    log.info("event socket %s:%d: connected", *self._address)
                    self.tried.set()
                    self._check_linked()
                    reported = ""
                    switch.closed.wait()
                    self.fault = str(switch.fault or "the switch has closed it")
            except (EslRecordError, OSError) as error:
                self.fault = str(error)
            finally:
                self._switch = None
                self.tried.set()
            if self.fault != reported:
                log.warning("the switch's event socket: %s; without it calls go on and are recorded", self.fault)
                reported = self.fault
            gevent.sleep(wait)
            wait = min(2 * wait, LAST_RETRY)

    @property
    def local_host(self) -> str:
        """The address of this machine that the switch sees. Raises SwitchUnreachable."""
        host: str = self._connected().sock.getsockname()[0]
        return host

    def api(self, line: str) -> str:
        """The answer to an API command. Raises SwitchUnreachable, CallGone, CommandTimeout, CommandRefused."""
        return self._connected().api(line)

    def channels(self) -> list[dict[str, Any]]:
        """Return the row of each channel of the switch. Raises as ``api`` does, and WireError for another answer."""
        listed = self.api("show channels as json")
        if listed.count(",") > VALUES or listed.count("{") + listed.count("[") > GROUPS:
            raise WireError("`show channels as json` was answered with no list of channels: it is too long for one")
        try:
            rows = off_hub(lambda: _rows(json.loads(listed)))
        except (ValueError, RecursionError) as error:
            raise WireError(f"`show channels as json` was answered with no list of channels: {error}") from None
        return rows

    def data(self, call_id: str) -> Mapping[str, str]:
        """The headers and variables of a channel. Raises as ``api`` does."""
        dumped = self.api(f"uuid_dump {call_id}").partition("\n\n")[0]
        return without_secret(wire.parse_headers(dumped.encode(), encoded=True))[0]

    def free(self, call_id: str) -> None:
        """Send a call on to the dialplan that waits in a `socket` nobody serves.

        The end of a connection that listens to the call ends the park within `socket`, and the next action runs. Raises
        as ``api`` does.
        """
        with Inbound(self._address, self._password) as switch:
            if not switch.send(f"myevents {call_id}").reply.startswith("+OK"):
                raise CommandRefused(f"call {call_id}: myevents refused")

    def listen_far(self, call_id: str, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with the events of the far end of ``call_id``; it must not block. Gives what ends it."""
        self._far.setdefault(call_id, []).append(listener)

        def end() -> None:
            same = self._far.get(call_id, [])
            if listener in same:
                same.remove(listener)
            if not same:
                self._far.pop(call_id, None)

        return end

    def call(self, call_id: str, data: Mapping[str, str]) -> "LinkedCall":
        """Take on a call of which ``data`` is known, to be recorded without a socket of its own. Never raises."""
        linked, first = LinkedCall(self, call_id, data), not self._linked
        self._linked.setdefault(call_id, []).append(linked)
        if first and self._switch is not None:
            try:
                self._switch.send(f"event plain {_OF_LINKED}")
            except EslRecordError as error:
                # The next connection asks for them at once.
                log.debug("the switch's event socket: %s", error)
        return linked

    def find_tapped(self, path: str, call_id: str) -> "LinkedCall | None":
        """Take on the call whose media bug writes ``path``, most likely ``call_id``. Raises as ``api`` does."""
        if self._taps(call_id, path):
            return self.call(call_id, {})
        others = (str(row.get("uuid", "")) for row in self.channels())
        return next((self.call(other, {}) for other in others if self._taps(other, path)), None)

    def _taps(self, call_id: str, path: str) -> bool:
        try:
            return f"<target>{path}</target>" in self.api(f"uuid_buglist {call_id}")
        except CommandRefused as error:
            if "no reply" in str(error):
                return False  # there is no such call
            raise

    def drop(self, call: "LinkedCall") -> None:
        same = self._linked.get(call.uuid, [])
        if call in same:
            same.remove(call)
        if not same:
            self._linked.pop(call.uuid, None)

    def _connected(self) -> Inbound:
        if self._switch is None:
            raise SwitchUnreachable(f"event socket {self._address[0]}:{self._address[1]}: {self.fault}")
        return self._switch

    def _check_linked(self) -> None:
        """Tell the calls that have ended while there was no connection."""
        for call_id, calls in list(self._linked.items()):
            if self.api(f"uuid_exists {call_id}").strip() != "true":
                for call in calls:
                    call.take(wire.Event({"Event-Name": "CHANNEL_HANGUP", "Hangup-Cause": "UNKNOWN"}))

    def _on_event(self, event: wire.Event) -> None:
        for call in tuple(self._linked.get(event.get("Unique-ID"), ())):
            call.take(event)
        for listener in tuple(self._far.get(event.get("Other-Leg-Unique-ID"), ())):
            listener(event)


def _rows(answer: Any) -> list[dict[str, Any]]:
    rows = answer.get("rows", []) if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("no rows")
    return rows


class LinkedCall(ChannelCommands):
    """A call that the link alone reaches, with what a recorder uses of a session and nothing else."""

    left = True
    lost = True
    answered = True
    fault: Exception | None = None

    def __init__(self, link: Link, call_id: str, data: Mapping[str, str]) -> None:
        self._uuid = call_id
        self.data = data
        self.pace = pace_of(data)
        self.hangup_cause: str | None = None
        self.over = Flag()
        self.at_answer: list[Flag] = []
        self._link = link
        self._listeners: list[Listener] = []

    @property
    def uuid(self) -> str:
        return self._uuid

    @property
    def label(self) -> str:
        return f"call {self.uuid}"

    @property
    def connected(self) -> bool:
        return self._link.up

    @property
    def live(self) -> bool:
        return self.connected and self.hangup_cause is None

    def answer_to(self, line: str) -> str:
        if self.hangup_cause is not None:
            raise CallGone(f"{self.label}: {self.hangup_cause}")
        try:
            return self._link.api(line)
        except SwitchUnreachable as error:
            raise CallGone(str(error)) from error

    def raise_if_disconnected(self) -> None:
        if not self.live:
            raise CallGone(f"{self.label}: {self.hangup_cause or self._link.fault}")

    def playback(self, path: str) -> object:
        raise CommandRefused(f"{self.label}: nothing can be played to a call that is elsewhere")

    def hold(self, held: bool) -> None:
        """Note on the channel whether a recording of it runs. Never raises."""
        self.mark_held(held)

    def hangup(self, cause: str = "NORMAL_CLEARING") -> None:
        """Hang up, and return once the switch has done so."""
        self.ask("uuid_kill", cause)
        self.over.wait(5.0)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with the events of the call; it must not block. Gives the function that ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def take(self, event: wire.Event) -> None:
        if event.name == "CHANNEL_HANGUP":
            self.hangup_cause = event.get("Hangup-Cause", "UNKNOWN")
            self.over.set()
        for listener in tuple(self._listeners):
            listener(event)
        if self.hangup_cause is not None:
            self._link.drop(self)
