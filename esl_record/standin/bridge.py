"""Connecting the call with another party, which the stand-in switch plays itself."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle

import numpy as np

from esl_record.standin.channel import CAUSES, cause_named
from esl_record.standin.clock import FRAMES_PER_SECOND
from esl_record.standin.dialstring import DialString, DialStringError, parse
from esl_record.standin.dialstring import Leg as Dialled
from esl_record.standin.media import Frame
from esl_record.standin.parties import Party, Refusal, party
from esl_record.standin.profile import Profile
from esl_record.standin.prompt import open_prompt
from esl_record.standin.session import Frames, Session
from esl_record.standin.variables import integer, is_true

_DEFAULT_TIMEOUT = 60

_DIALSTATUS = {
    "ORIGINATOR_CANCEL": "CANCEL",
    "USER_BUSY": "BUSY",
    "NO_ANSWER": "NOANSWER",
    "DESTINATION_OUT_OF_ORDER": "INVALIDARGS",
    "CALL_REJECTED": "DONTCALL",
}


class _Leg:
    """One party that is rung."""

    def __init__(self, session: Session, dialled: Dialled) -> None:
        found = re.search(r"([^/@]+)(@[^/]*)?$", dialled.destination)
        self.variables = dialled.variables
        self.number = found[1] if found else dialled.destination
        self.uuid = dialled.variables.get("origination_uuid") or str(uuid.uuid4())
        self.party: Party = party(self.number)
        self.refusal: Refusal | None = None
        self.name = f"sofia/internal/{dialled.destination.rsplit('/', 1)[-1]}"
        self._created = session.channel.core.clock.now_us

    def profile(self, session: Session) -> Profile:
        caller = session.channel.caller
        return Profile(
            "outbound",
            self.variables.get("origination_caller_id_number", caller.number),
            self.variables.get("origination_caller_id_name", caller.name),
            self.number,
            self.uuid,
            self.name,
            self._created,
            callee=self.number,
        )

    @property
    def listed(self) -> str:
        return f"{self.uuid};Outbound Call;{self.number}"

    def limit(self) -> tuple[int | None, str]:
        """Frames after which the switch hangs it up, and with which cause: what a variable has it do at the answer."""
        for name, value in self.variables.items():
            scheduled = re.fullmatch(r"sched_hangup \+(\d+) ?(\w*)", value)
            if name.startswith("execute_on_answer") and scheduled:
                return int(scheduled[1]) * FRAMES_PER_SECOND, cause_named(scheduled[2])
        return None, ""


def bridge(session: Session, argument: str | None) -> Frames[None]:
    """Call the parties of a dial string and connect the first that answers, until either hangs up or is killed by its
    uuid; see ``parties``."""
    if not argument:
        return
    for name in ("originated_legs", "originate_causes"):
        session.channel.set(name, None)
    try:
        dialled = parse(argument)
    except DialStringError:
        _fail(session, [], "DESTINATION_OUT_OF_ORDER")
        return
    tried: list[_Leg] = []
    cause = "NONE"
    for number, group in enumerate(dialled.groups):
        legs = [_Leg(session, one) for one in group]
        tried += legs
        winner, in_time = yield from _ring(session, dialled, legs, first=number == 0)
        if not session.ready:
            return
        if winner is not None:
            yield from _talk(session, tried, winner)
            return
        cause = legs[0].refusal.cause if in_time and legs[0].refusal else "NO_ANSWER"
        if not in_time and not is_true(dialled.variables.get("originate_continue_on_timeout")):
            break
    _fail(session, tried, cause)


def _ring(session: Session, dialled: DialString, legs: list[_Leg], *, first: bool) -> Frames[tuple[_Leg | None, bool]]:
    """Who answers first, if anyone does, and whether the time for all of them was enough."""
    clock = session.channel.core.clock
    began, at = clock.epoch, 0
    longest = integer(dialled.variables.get("originate_timeout", "")) or _DEFAULT_TIMEOUT
    sound = _ringback(session, dialled)
    while True:
        yield
        at += 1
        if not session.ready:
            return None, True
        if at > 1 or not first:
            yield from session.parse_messages()
        if sound is not None:
            session.write(next(sound))
        for leg in legs:
            timeout = integer(leg.variables.get("leg_timeout", ""))
            if leg.refusal is None and leg.party.answers is not None and at >= leg.party.answers:
                leg.refusal = leg.party.refusal
                if leg.refusal is None:
                    for loser in legs:
                        loser.refusal = loser.refusal or (Refusal("LOSE_RACE") if loser is not leg else None)
                    return leg, True
            elif leg.refusal is None and timeout and clock.epoch - began > timeout:
                leg.refusal = Refusal("ALLOTTED_TIMEOUT")
        if all(leg.refusal is not None for leg in legs):
            return None, True
        if clock.epoch - began >= longest:
            for leg in legs:
                leg.refusal = leg.refusal or Refusal("NO_ANSWER")
            return None, False


def _ringback(session: Session, dialled: DialString) -> Iterator[Frame] | None:
    """What the party hears meanwhile: the variables of its channel say it, and only at once if they are told to."""
    channel = session.channel
    name = channel.variables.get("transfer_ringback") if channel.answered else None
    name = name or channel.variables.get("ringback")
    if not name or not is_true(dialled.variables.get("instant_ringback")) or not channel.pre_answer():
        return None
    names = name.removeprefix("file_string://").split("!") if name.startswith("file_string://") else [name]
    prompts = [prompt for one in names if (prompt := open_prompt(one, channel.codec.rate)) is not None]
    size = session.legs.samples
    frames = [prompt.frame(at, size) for prompt in prompts for at in range(-(-len(prompt.samples) // size))]
    return cycle(frame for frame in frames if frame is not None) if frames else None


def _array(values: Iterable[str]) -> str:
    """Several values of one variable."""
    found = list(values)
    return found[0] if len(found) == 1 else f"ARRAY::{'|:'.join(found)}"


def _fail(session: Session, tried: Sequence[_Leg], cause: str) -> None:
    channel = session.channel
    found: list[tuple[str, str]] = []
    if tried:
        last, refusal = tried[-1], tried[-1].refusal or Refusal(cause)
        found += [("originate_signal_bond", last.uuid), ("originated_legs", _array(leg.listed for leg in tried))]
        if refusal.status:
            found += [
                ("sip_invite_failure_status", str(refusal.status)),
                ("sip_invite_failure_phrase", refusal.phrase),
                ("sip_reason", f'Q.850;cause={CAUSES[refusal.cause]};text="{refusal.cause}"'),
                ("sip_hangup_phrase", refusal.phrase),
            ]
        found.append(("last_bridge_hangup_cause", refusal.cause))
        if refusal.status:
            found.append(("last_bridge_proto_specific_hangup_cause", f"sip:{refusal.status}"))
    found += [("originate_disposition", cause), ("DIALSTATUS", _DIALSTATUS.get(cause, cause))]
    if tried:
        found.append(("originate_causes", _causes(tried)))
    for name, value in [*found, ("originate_failed_cause", cause)]:
        channel.set(name, value)
    go_on = channel.variables.get("continue_on_fail")
    listed = [name.strip().upper() for name in (go_on or "").split(",")]
    if not is_true(go_on) and cause not in listed and str(CAUSES.get(cause)) not in listed:
        session.hang_up(cause)


def _causes(tried: Sequence[_Leg]) -> str:
    return _array(f"{leg.uuid};{leg.refusal.cause if leg.refusal else 'NONE'}" for leg in tried)


def _connect(session: Session, tried: Sequence[_Leg], other: Profile) -> None:
    channel = session.channel
    now = channel.core.clock.now_us
    other.times["Answered"] = now
    channel.profile.times["Bridged"] = now
    channel.profile.callee = other.callee
    channel.other = other
    channel.bridged = True
    channel.other_held = False
    for name, value in (
        ("originated_legs", _array(leg.listed for leg in tried)),
        ("switch_m_sdp", channel.variables.get("switch_r_sdp")),
        ("video_media_flow", "inactive"),
        ("text_media_flow", "inactive"),
        ("audio_media_flow", "sendrecv"),
        ("originate_disposition", "SUCCESS"),
        ("DIALSTATUS", "SUCCESS"),
        ("originate_causes", _causes(tried)),
        ("signal_bond", other.uuid),
    ):
        channel.set(name, value)
    channel.fire("CHANNEL_BRIDGE", first=[("Bridge-A-Unique-ID", channel.uuid), ("Bridge-B-Unique-ID", other.uuid)])
    for name, value in (
        ("bridge_to", other.uuid),
        ("last_bridge_to", other.uuid),
        ("bridge_channel", other.channel_name),
        ("bridge_uuid", other.uuid),
        ("signal_bond", other.uuid),
        ("last_sent_callee_id_name", other.callee),
        ("last_sent_callee_id_number", other.callee),
    ):
        channel.set(name, value)


def _talk(session: Session, tried: Sequence[_Leg], other: _Leg) -> Frames[None]:
    channel = session.channel
    channel.answer()
    _connect(session, tried, other.profile(session))
    limit, limited = other.limit()
    prompt = open_prompt(other.party.sound, channel.codec.rate) if other.party.sound else None
    silence = np.zeros(session.legs.samples, np.int16)
    left, at = "", 0
    while session.ready and channel.bridged:
        if other.party.holds is not None and at in other.party.holds:
            hold_by_far_end(session, on=at == other.party.holds[0])
        said = prompt.frame(at, session.legs.samples) if prompt is not None else silence
        if said is None or at == limit:
            left = "NORMAL_CLEARING" if said is None else limited
            break
        if not channel.other_held:
            session.write(session.legs.last_said if other.party.echoes else said)
        at += 1
        yield
        if not session.ready or session.take_break():
            break
        channel.dequeue_digit()
        yield from session.parse_messages()
    _disconnect(session, other.uuid, left)


def hold_by_far_end(session: Session, *, on: bool) -> None:
    """The far end of a bridge holds the call, or takes it back.

    Its own channel's event says so, and none of the party's; the taps go on. The switch plays the hold music to the
    party, of which there is none here.
    """
    channel = session.channel
    assert channel.other is not None
    if on == channel.other_held:
        return
    channel.other_held = on
    now = channel.core.clock.now_us
    if on:
        channel.other.times["Last-Hold"] = now
        channel.set("switch_m_sdp", channel.variables.get("switch_r_sdp"))
        music = {"execute-app-name": "playback", "execute-app-arg": "local_stream://moh", "loops": "-1"}
        session.messages.append({"call-command": "execute", **music})
    else:
        channel.other.held_us += now - channel.other.times["Last-Hold"]
    channel.core.fire("CHANNEL_HOLD" if on else "CHANNEL_UNHOLD", channel.far_end_headers())


def _disconnect(session: Session, other: str, left: str) -> None:
    """``left``: the cause with which the other party did, empty if it did not."""
    channel = session.channel
    channel.bridged = False
    if left:
        channel.set("last_bridge_hangup_cause", left)
    channel.set("bridge_hangup_cause", left or channel.hangup_cause or "NORMAL_CLEARING")
    channel.set("bridge_to", None)
    channel.fire("CHANNEL_UNBRIDGE", first=[("Bridge-A-Unique-ID", channel.uuid), ("Bridge-B-Unique-ID", other)])
    if session.ready and is_true(channel.variables.get("park_after_bridge")):
        session.park_next()
    elif session.ready and is_true(channel.variables.get("hangup_after_bridge")):
        session.hang_up("NORMAL_CLEARING")
