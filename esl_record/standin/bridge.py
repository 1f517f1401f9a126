"""Connecting the call with another party, which the stand-in switch plays itself."""

from __future__ import annotations

import re
import uuid

import numpy as np

from esl_record.standin.channel import CAUSES
from esl_record.standin.clock import FRAME_MS
from esl_record.standin.profile import Profile
from esl_record.standin.session import Frames, Session
from esl_record.standin.variables import brackets, is_true

ECHO = "9196"
NOBODY = "0000"
ANSWER_FRAMES = 20 // FRAME_MS


def bridge(session: Session, argument: str | None) -> Frames[None]:
    """Call a party and connect it: ``9196`` echoes, ``0000`` does not exist, any other says nothing.

    It answers after 20 ms and stays until the caller hangs up, or it is killed by its uuid.
    """
    if not argument:
        return
    target = brackets(argument)[1]
    number = _number(target)
    other = str(uuid.uuid4())
    created = session.channel.core.clock.now_us
    for _ in range(ANSWER_FRAMES):
        yield
    if not session.ready:
        return
    if number == NOBODY:
        _fail(session, number, other)
        return
    session.channel.answer()
    name = f"sofia/internal/{target.rsplit('/', 1)[-1]}"
    _connect(
        session,
        Profile(
            "outbound",
            session.channel.caller.number,
            session.channel.caller.name,
            number,
            other,
            name,
            created,
            callee=number,
        ),
    )
    yield from _talk(session, number)
    _disconnect(session, other)


def _number(target: str) -> str:
    found = re.search(r"([^/@]+)(@[^/]*)?$", target.split("|")[0].split(",")[0])
    return found[1] if found else target


def _fail(session: Session, number: str, other: str) -> None:
    channel = session.channel
    cause = "NO_ROUTE_DESTINATION"
    for name, value in (
        ("originate_signal_bond", other),
        ("originated_legs", f"{other};Outbound Call;{number}"),
        ("sip_invite_failure_status", "404"),
        ("sip_invite_failure_phrase", "Not Found"),
        ("sip_reason", f'Q.850;cause={CAUSES[cause]};text="{cause}"'),
        ("sip_hangup_phrase", "Not Found"),
        ("last_bridge_hangup_cause", cause),
        ("last_bridge_proto_specific_hangup_cause", "sip:404"),
        ("originate_disposition", cause),
        ("DIALSTATUS", cause),
        ("originate_causes", f"{other};{cause}"),
        ("originate_failed_cause", cause),
    ):
        channel.set(name, value)
    go_on = channel.variables.get("continue_on_fail")
    listed = [name.strip().upper() for name in (go_on or "").split(",")]
    if not is_true(go_on) and cause not in listed and str(CAUSES[cause]) not in listed:
        session.hang_up(cause)


def _connect(session: Session, other: Profile) -> None:
    channel = session.channel
    now = channel.core.clock.now_us
    other.times["Answered"] = now
    channel.profile.times["Bridged"] = now
    channel.profile.callee = other.callee
    channel.other = other
    channel.bridged = True
    for name, value in (
        ("originated_legs", f"{other.uuid};Outbound Call;{other.destination}"),
        ("switch_m_sdp", channel.variables.get("switch_r_sdp")),
        ("video_media_flow", "inactive"),
        ("text_media_flow", "inactive"),
        ("audio_media_flow", "sendrecv"),
        ("originate_disposition", "SUCCESS"),
        ("DIALSTATUS", "SUCCESS"),
        ("originate_causes", f"{other.uuid};NONE"),
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


def _talk(session: Session, number: str) -> Frames[None]:
    channel = session.channel
    silence = np.zeros(session.legs.samples, np.int16)
    while session.ready and channel.bridged:
        session.write(session.legs.last_said if number == ECHO else silence)
        yield
        if not session.ready or session.take_break():
            return
        channel.dequeue_digit()
        yield from session.parse_messages()


def _disconnect(session: Session, other: str) -> None:
    channel = session.channel
    channel.bridged = False
    channel.set("bridge_hangup_cause", channel.hangup_cause or "NORMAL_CLEARING")
    channel.set("bridge_to", None)
    channel.fire("CHANNEL_UNBRIDGE", first=[("Bridge-A-Unique-ID", channel.uuid), ("Bridge-B-Unique-ID", other)])
    if session.ready and is_true(channel.variables.get("hangup_after_bridge")):
        session.hang_up("NORMAL_CLEARING")
