"""One bridge of a call to others, from its dialling to its end, and who is told how it goes.

The event socket tells of the caller's own channel alone. So of a leg that is rung nothing is known until the bridge
stands or has failed: nobody is told that it rings, nor that a leg of a later group was dialled before
its outcome is known.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import gevent
from pydantic import HttpUrl

from esl_record.errors import CallGone, CommandRefused, CommandTimeout
from esl_record.esl.wire import Event
from esl_record.swml.call import Call

REASONS = {
    "NORMAL_CLEARING": "hangup",
    "USER_BUSY": "busy",
    "NO_ANSWER": "no_answer",
    "NO_USER_RESPONSE": "no_answer",
    "ALLOTTED_TIMEOUT": "no_answer",
    "CALL_REJECTED": "declined",
    "ORIGINATOR_CANCEL": "cancel",
    "LOSE_RACE": "cancel",
}
"""Why a leg was not reached, or ended, in SWML's words, by the switch's hang-up cause."""

_CAUSE = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12});([A-Z_0-9]+)")


def reason_of(cause: str) -> str:
    """Why a bridge failed, by the switch's hang-up cause."""
    return REASONS.get(cause) or cause.lower() or "error"


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody to be called. ``uuid`` is the leg's, where the switch lets it be chosen (``named``)."""

    uuid: str
    named: bool
    to: str
    caller: str
    is_sip: bool
    url: HttpUrl | None
    events: frozenset[str]

    @property
    def device(self) -> Mapping[str, object]:
        params = {"from_number": self.caller, "to_number": self.to}
        return {"type": "sip" if self.is_sip else "phone", "params": params}


@dataclass(frozen=True, slots=True)
class Outcome:
    """``reason`` is why it failed: one of ``REASONS``, or the switch's cause in small letters."""

    connected: bool
    reason: str = ""


class Bridging:
    """``groups``: parties rung together, group after group. ``tell`` is told the states of the whole."""

    def __init__(
        self, call: Call, groups: Sequence[Sequence[Party]], tell: Callable[[str, Mapping[str, object]], None]
    ) -> None:
        self._call = call
        self._groups = groups
        self._tell = tell
        self._told: dict[str, str] = {}
        self._answered: gevent.Greenlet | None = None

    def run(self, dial_string: str, *, longest: float) -> Outcome:
        """Dials and waits until the bridge is over, ``longest`` seconds at most. Raises CallGone, CommandTimeout,
        CommandRefused; those who are told have been told then too."""
        self._tell("connecting", {})
        for party in self._groups[0]:
            self._state(party, "created")
        forget = self._call.session.listen(self._on_event)
        try:
            over = self._call.session.execute("bridge", dial_string, timeout=longest)
        except (CallGone, CommandRefused, CommandTimeout):
            self._ended(None)
            raise
        finally:
            forget()
        return self._ended(over)

    def _on_event(self, event: Event) -> None:
        # The reader's greenlet must not wait for what is written down.
        if event.name == "CHANNEL_BRIDGE" and self._answered is None:
            self._answered = gevent.spawn(self._bridged, event)

    def _bridged(self, event: Event) -> Party | None:
        """Tells of the party that has answered; gives it, if it can be told from others."""
        self._lost(event)
        uuid = event.get("Bridge-B-Unique-ID") or event.get("variable_signal_bond")
        unnamed = [party for party in self._parties() if not party.named]
        party = next((party for party in self._parties() if party.uuid == uuid), None)
        party = party or (unnamed[0] if len(unnamed) == 1 else None)
        device = {"device": party.device} if party else {}
        self._tell("connected", {"peer": {"call_id": uuid, "node_id": self._call.site.identity.node_id, **device}})
        if party is not None:
            self._state(party, "answered")
        return party

    def _ended(self, over: Event | None) -> Outcome:
        connected = self._answered is not None
        winner = self._answered.get() if self._answered is not None else None
        cause = "NORMAL_CLEARING" if connected else "ORIGINATOR_CANCEL"
        if over is not None:
            self._lost(over)
            cause = over.get("variable_originate_disposition")
            if cause == "SUCCESS" and not connected:
                # Whoever answered had gone again before there was a bridge.
                connected, winner = True, self._bridged(over)
            if connected:
                cause = over.get("variable_bridge_hangup_cause")
        if winner is not None:
            # What ends a call that was answered is the end of its time, or somebody who hung up.
            self._state(winner, "ended", "error" if REASONS.get(cause) is None else "hangup")
        for party in self._parties():
            if party.uuid in self._told:
                self._state(party, "ended", "cancel" if connected else REASONS.get(cause, "error"))
        if connected:
            self._tell("disconnected", {})
            return Outcome(True)
        reason = reason_of(cause)
        self._tell("failed", {"failed_reason": reason})
        return Outcome(False, reason)

    def _lost(self, event: Event) -> None:
        """Tells of the legs that were dialled in vain, as the switch lists them."""
        causes = dict(_CAUSE.findall(event.get("variable_originate_causes")))
        for party in self._parties():
            cause = causes.get(party.uuid, "NONE")
            if cause != "NONE":
                self._state(party, "created")
                self._state(party, "ended", REASONS.get(cause, "error"))
            elif party.uuid in causes:
                self._state(party, "created")

    def _parties(self) -> Iterator[Party]:
        return (party for group in self._groups for party in group)

    def _state(self, party: Party, state: str, end_reason: str | None = None) -> None:
        """Tells of ``party``, each state once and in their order."""
        order = ("", "created", "answered", "ended")
        if order.index(state) <= order.index(self._told.get(party.uuid, "")):
            return
        self._told[party.uuid] = state
        if state in party.events:
            told: dict[str, object] = {"call_id": party.uuid, "call_state": state, "direction": "outbound"}
            told |= {"device": party.device, "end_reason": end_reason}
            url = str(party.url) if party.url else None
            self._call.tell(url, "calling.call.state", party.uuid, state, told)
