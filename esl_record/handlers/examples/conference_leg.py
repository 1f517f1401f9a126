"""Puts the call into a conference and records this leg of it: on the left who speaks here, on the right what is heard.

``args`` is the room, ``name`` or ``name@profile``. Where the recording is had is in the channel variables
``conference_leg_url`` and ``conference_leg_id``. The switch needs mod_conference.
"""

import re

from esl_record.handlers import Session

ROOM = "esl-record"

_ROOM = re.compile(r"[A-Za-z0-9_-]{1,64}(?:@[A-Za-z0-9_-]{1,64})?\Z")


def handler(session: Session, args: str) -> None:
    room = args or ROOM
    if not _ROOM.match(room):
        raise ValueError(f"room {room[:80]!r}: letters, digits, - and _ are wanted, then perhaps @ and a profile")
    session.answer()
    leg = session.record_call(stereo=True)
    session.setVariable("conference_leg_url", leg.url)
    session.setVariable("conference_leg_id", leg.result.recording_id)
    session.execute("conference", room if "@" in room else f"{room}@default")
    taken = leg.stop()
    session.consoleLog("notice", f"conference {room}: {taken.state}, {taken.duration:.1f} s")
