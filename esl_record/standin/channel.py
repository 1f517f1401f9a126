"""One channel: its state, its variables, and the headers that describe both in every event."""

from __future__ import annotations

import random
import uuid
from collections import deque
from collections.abc import Callable, Iterable

from esl_record.standin import headers
from esl_record.standin.caller import CODECS, Caller, Codec
from esl_record.standin.core import Core, Event
from esl_record.standin.headers import Header
from esl_record.standin.profile import Profile
from esl_record.standin.variables import Variables, expand

# Q.850 causes by name; a name that is not here is hung up with as NORMAL_CLEARING, as the switch does.
CAUSES = {
    "UNALLOCATED_NUMBER": 1,
    "NO_ROUTE_DESTINATION": 3,
    "NORMAL_CLEARING": 16,
    "USER_BUSY": 17,
    "NO_USER_RESPONSE": 18,
    "NO_ANSWER": 19,
    "CALL_REJECTED": 21,
    "EXCHANGE_ROUTING_ERROR": 25,
    "DESTINATION_OUT_OF_ORDER": 27,
    "NORMAL_UNSPECIFIED": 31,
    "NORMAL_TEMPORARY_FAILURE": 41,
    "SERVICE_UNAVAILABLE": 63,
    "RECOVERY_ON_TIMER_EXPIRE": 102,
    "INTERWORKING": 127,
    "ORIGINATOR_CANCEL": 487,
    "MANAGER_REQUEST": 503,
    "ALLOTTED_TIMEOUT": 602,
    "MEDIA_TIMEOUT": 604,
}
_Q850 = {"ORIGINATOR_CANCEL": 16, "MANAGER_REQUEST": 16, "ALLOTTED_TIMEOUT": 16, "MEDIA_TIMEOUT": 16}

_HANGUP = 10
"""The number of the state CS_HANGUP: there is no call state to enter after it."""

_CALL_STATES = ("DOWN", "DIALING", "RINGING", "EARLY", "ACTIVE", "HELD", "RING_WAIT", "HANGUP", "UNHELD")
"""By the number the switch gives them."""

# Events that carry no variables.
_BARE = frozenset({"CHANNEL_STATE", "CHANNEL_CALLSTATE", "CODEC", "DTMF"})


def cause_named(text: str | None) -> str:
    """The cause a name or a Q.850 number stands for."""
    if text and text.upper() in CAUSES:
        return text.upper()
    if text and text.isdigit():
        return next((name for name, number in CAUSES.items() if number == int(text)), "NORMAL_CLEARING")
    return "NORMAL_CLEARING"


def _codec_facts(codec: Codec) -> dict[str, str]:
    return {
        "codec": codec.name,
        "module": codec.module,
        "payload": str(codec.payload),
        "clock": str(codec.clock),
        "rate": str(codec.rate),
        "bits": str(codec.bits),
    }


def _codec_headers(codec: Codec) -> list[Header]:
    """What the event of a codec says at its end."""
    found = [
        ("Channel-Write-Codec-Name", codec.name),
        ("Channel-Write-Codec-Rate", str(codec.rate)),
        ("Channel-Write-codec-bit-rate", str(codec.bits)),
    ]
    return found if codec.rate == codec.clock else [*found, ("Channel-Reported-Write-Codec-Rate", str(codec.rate))]


class Channel:
    """The switch's side of a call."""

    def __init__(self, core: Core, caller: Caller, call_uuid: str) -> None:
        self.core = core
        self.caller = caller
        self.codec = caller.codec
        self.uuid = call_uuid
        self.name = f"sofia/internal/{caller.number}@127.0.0.1"
        core.sessions_since_startup += 1
        now = core.clock.now_us
        self.profile = Profile(
            "inbound", caller.number, caller.name, caller.destination, call_uuid, self.name, now, index="1"
        )
        self.other: Profile | None = None
        self.other_held = False
        self.state = ("CS_EXECUTE", 4)
        self.running_state = "CS_EXECUTE"
        self.call_state = "RINGING"
        self.answered = False
        self.early = False
        self.held = False
        self.hangup_cause: str | None = None
        self.bridged = False
        self.transferred = False
        self.digits: deque[str] = deque()
        self.dialed: list[str] = []
        self.last_app: tuple[str, str | None] | None = None
        self.api_calls: list[str] = []
        self.packets_in = 0
        self.packets_out = 0
        self.variables = Variables()
        self.on_down: Callable[[], None] = lambda: None
        self._acknowledged = False
        self._own_flow = "sendrecv"
        self._facts = self._sip_facts(now)
        self.set_all(headers.variables("ring", self._facts))

    def _sip_facts(self, now: int) -> dict[str, str]:
        return {
            "uuid": self.uuid,
            "session_id": str(self.core.sessions_since_startup),
            "number": self.caller.number,
            "name": self.caller.name,
            "destination": self.caller.destination,
            "created": str(now),
            "call_id": str(uuid.uuid4()),
            "from_tag": uuid.uuid4().hex[:13],
            "to_tag": uuid.uuid4().hex[:13],
            "cseq": str(random.randrange(10**8, 2 * 10**8)),
            "ssrc": str(random.getrandbits(32)),
            "remote_port": str(random.randrange(16384, 32768, 2)),
            "local_port": str(random.randrange(16384, 32768, 2)),
            "channels": str(self.caller.channels),
            **_codec_facts(self.codec),
        }

    @property
    def ready(self) -> bool:
        """Neither hung up nor sent elsewhere: applications go on."""
        return self.hangup_cause is None and not self.transferred

    @property
    def has_media(self) -> bool:
        return self.answered or self.early

    def set(self, name: str, value: str | None, *, checked: bool = True) -> None:
        self.variables.set(name, value, checked=checked)

    def set_all(self, values: Iterable[Header]) -> None:
        for name, value in values:
            self.variables.set(name, value, checked=False)

    def get(self, name: str) -> str | None:
        """A variable, or a field of the caller profile of that name."""
        found = self.variables.get(name)
        return found if found is not None else self.profile.field(name)

    def expand(self, text: str) -> str:
        return expand(text, self.get, self.api_calls)

    def headers(self) -> list[Header]:
        """The block that describes the channel itself in every event."""
        answer = "ringing"
        if self.hangup_cause is not None:
            answer = "hangup"
        elif self.answered:
            answer = "answered"
        elif self.early:
            answer = "early"
        found = [
            ("Channel-State", self.running_state),
            ("Channel-Call-State", self.call_state),
            ("Channel-State-Number", str(self.state[1])),
            ("Channel-Name", self.name),
            ("Unique-ID", self.uuid),
            ("Call-Direction", "inbound"),
            ("Presence-Call-Direction", "inbound"),
            ("Channel-HIT-Dialplan", "true"),
            ("Channel-Call-UUID", self.variables.get("call_uuid") or self.uuid),
            ("Answer-State", answer),
        ]
        if self.hangup_cause is not None:
            found.append(("Hangup-Cause", self.hangup_cause))
        found += self._codec_headers()
        found += self.profile.headers("Caller")
        if self.other is not None:
            found += [("Other-Type", "originatee"), *self.other.headers("Other-Leg")]
        return found

    def far_end_headers(self) -> list[Header]:
        """The block that describes the channel it is bridged with."""
        assert self.other is not None
        found = [
            ("Channel-State", "CS_EXCHANGE_MEDIA"),
            ("Channel-Call-State", "HELD" if self.other_held else "ACTIVE"),
            ("Channel-State-Number", "5"),
            ("Channel-Name", self.other.channel_name),
            ("Unique-ID", self.other.uuid),
            ("Call-Direction", "outbound"),
            ("Presence-Call-Direction", "outbound"),
            ("Channel-HIT-Dialplan", "false"),
            ("Channel-Call-UUID", self.uuid),
            ("Answer-State", "answered"),
        ]
        found += self._codec_headers()
        return [*found, *self.other.headers("Caller"), ("Other-Type", "originator"), *self.profile.headers("Other-Leg")]

    def _codec_headers(self) -> list[Header]:
        codec = self.codec
        return [
            header
            for direction in ("Read", "Write")
            for header in (
                (f"Channel-{direction}-Codec-Name", codec.name),
                (f"Channel-{direction}-Codec-Rate", str(codec.rate)),
                (f"Channel-{direction}-Codec-Bit-Rate", str(codec.bits)),
            )
        ]

    def variable_headers(self) -> list[Header]:
        return [(f"variable_{name}", value) for name, value in self.variables]

    def fire(self, name: str, own: Iterable[Header] = (), *, first: Iterable[Header] = ()) -> Event:
        """Fire an event of this channel; ``first`` stands before the channel's block, ``own`` at the end."""
        described = self.headers() + ([] if name in _BARE else self.variable_headers())
        return self.core.fire(name, [*first, *described, *own])

    def data(self) -> list[Header]:
        """What ``connect`` answers, without the lines that make it a reply."""
        return [*self.core.preamble("CHANNEL_DATA"), *self.profile.headers("Channel"), *self.dump()]

    def dump(self) -> list[Header]:
        """The channel and all its variables."""
        return [*self.headers(), *self.variable_headers()]

    def answer(self) -> None:
        if self.answered or not self.ready:
            return
        self.answered = True
        self.profile.times["Answered"] = self.core.clock.now_us
        self.set_all(headers.variables("media", self._facts))
        self.fire("CHANNEL_ANSWER")
        self.enter_call_state("ACTIVE")
        self.set("endpoint_disposition", "ANSWER")

    def pre_answer(self) -> bool:
        """Open early media unless there is media already; False if the call is over."""
        if not self.ready:
            return False
        if not self.has_media:
            self.early = True
            self.profile.times["Progress-Media"] = self.core.clock.now_us
            self.set_all(headers.variables("media", self._facts))
            self.set("endpoint_disposition", "EARLY MEDIA")
            self.fire("CHANNEL_PROGRESS_MEDIA")
            self.enter_call_state("EARLY")
        return True

    def hold(self) -> None:
        """The far end holds the call by a re-INVITE: nothing is read off it until it is taken back."""
        if self.held or not self.answered or self.hangup_cause is not None:
            return
        self._offered("sendonly", "recvonly")
        self.held = True
        self.enter_call_state("HELD")
        self.profile.times["Last-Hold"] = self.core.clock.now_us
        self.fire("CHANNEL_HOLD")
        self._accepted()

    def unhold(self) -> None:
        """The far end takes a held call back."""
        if not self.held or self.hangup_cause is not None:
            return
        self._offered("sendrecv", "sendrecv")
        self.held = False
        self.enter_call_state("UNHELD")
        self.profile.held_us += self.core.clock.now_us - self.profile.times["Last-Hold"]
        self.fire("CHANNEL_UNHOLD")
        self.enter_call_state("ACTIVE")
        self._accepted()

    def change_codec(self, rate: int) -> None:
        """The far end changes the codec by a re-INVITE. The variables that say how it is read stay as they were."""
        self.codec = CODECS[rate]
        self._facts |= _codec_facts(self.codec)
        self._offered("sendrecv", "sendrecv")
        self.fire("CODEC", _codec_headers(self.codec))
        self._accepted(codec=True)

    def _offered(self, flow: str, own: str) -> None:
        self.set_all(headers.variables("re-invite", self._facts | {"flow": flow, "own_flow": own}))
        self._own_flow = own

    def _accepted(self, *, codec: bool = False) -> None:
        self.set_all(headers.variables("re-invite answer", self._facts | {"own_flow": self._own_flow}))
        if codec:
            self.set_all(headers.variables("codec", self._facts))
        self.set_all(headers.variables("ack", self._facts))

    def acknowledge(self) -> None:
        """The far end has acknowledged the answer, some milliseconds after it."""
        if not self._acknowledged and self.ready:
            self._acknowledged = True
            self.set_all(headers.variables("ack", self._facts))

    def enter_call_state(self, state: str) -> None:
        before, self.call_state = self.call_state, state
        number = str(_CALL_STATES.index(state))
        self.fire(
            "CHANNEL_CALLSTATE",
            first=[("Original-Channel-Call-State", before), ("Channel-Call-State-Number", number)],
        )

    def press(self, digit: str) -> None:
        if self.hangup_cause is None:
            self.digits.append(digit)

    def dequeue_digit(self) -> str | None:
        """The next digit pressed; whoever takes it makes the switch announce it."""
        if not self.digits:
            return None
        digit = self.digits.popleft()
        self.dialed.append(digit)
        self.fire("DTMF", [("DTMF-Digit", digit), ("DTMF-Duration", "2080"), ("DTMF-Source", "RTP")])
        return digit

    def hang_up(self, cause: str) -> None:
        """Mark the channel hung up; its session notices and does the rest."""
        if self.hangup_cause is not None:
            return
        self.hangup_cause = cause
        self.state = ("CS_HANGUP", 10)
        if self.bridged:
            self.set("last_bridge_role", "originator")
        self.fire("CHANNEL_HANGUP")

    def down(self) -> None:
        """Let a connection know that the channel is down; it looks only now and then, so not at once."""
        self.on_down()

    def said_goodbye(self) -> None:
        """Note what the far end's BYE said."""
        self.set_all(headers.variables("bye", self._facts))

    def enter(self, state: str, number: int) -> None:
        """Run the next state of a transfer or a hang-up."""
        self.state = (state, number)
        self.running_state = state
        if number < _HANGUP:
            media = "ACTIVE" if self.answered else "EARLY" if self.early else self.call_state
            call_state = "RINGING" if state == "CS_ROUTING" else media
            if call_state != self.call_state:
                self.enter_call_state(call_state)
        self.fire("CHANNEL_STATE")

    def close_books(self) -> None:
        """Note the cause among the variables."""
        assert self.hangup_cause is not None
        self.set("hangup_cause", self.hangup_cause)
        number = CAUSES.get(self.hangup_cause, 16)
        self.set("hangup_cause_q850", str(_Q850.get(self.hangup_cause, number)))

    def media_statistics(self) -> list[Header]:
        samples = self.codec.clock // 50
        counts = {
            "bytes_in": str(self.packets_in * (samples + 12)),
            "packets_in": str(self.packets_in),
            "bytes_out": str(self.packets_out * (samples + 12)),
            "packets_out": str(self.packets_out),
        }
        return headers.variables("media statistics", counts)
