"""Who can be called from the stand-in switch, and what they do."""

from __future__ import annotations

import re
from dataclasses import dataclass

from esl_record.standin.clock import FRAME_MS

ECHO = "9196"
NOBODY = "0000"

SOON_FRAMES = 20 // FRAME_MS

_REFUSALS = {
    NOBODY: ("NO_ROUTE_DESTINATION", 404, "Not Found"),
    "busy": ("USER_BUSY", 486, "Busy Here"),
    "declines": ("CALL_REJECTED", 603, "Decline"),
}


@dataclass(frozen=True)
class Refusal:
    """Why a party is not reached: the switch's cause, and what SIP said, if it was SIP that said it."""

    cause: str
    status: int = 0
    phrase: str = ""


@dataclass(frozen=True)
class Party:
    """``answers``: frames until it does, or refuses; None never does. ``sound`` is what it plays, and when that is over
    it hangs up; ``echoes`` what it hears. ``holds``: the frames of its call from which and until which it holds it."""

    answers: int | None = SOON_FRAMES
    refusal: Refusal | None = None
    sound: str | None = None
    echoes: bool = False
    holds: tuple[int, int] | None = None


def party(number: str) -> Party:
    """``9196`` echoes, ``0000`` does not exist, ``busy`` and ``declines`` do what they say, ``deaf`` rings for ever,
    ``late-800`` answers after that many ms and says nothing, ``tone-700-1500`` (``700*1500``) plays that many Hz for
    as many ms and hangs up, ``holds-1000-3000`` holds the call from so many ms after its answer until so many; any
    other answers after 20 ms and says nothing.
    """
    if number in _REFUSALS:
        return Party(refusal=Refusal(*_REFUSALS[number]))
    if number == "deaf":
        return Party(answers=None)
    if late := re.fullmatch(r"late-(\d+)", number):
        return Party(answers=max(SOON_FRAMES, int(late[1]) // FRAME_MS))
    if tone := re.fullmatch(r"(?:tone-(\d+)-|(\d+)\*)(\d+)", number):
        return Party(sound=f"tone_stream://%({tone[3]},0,{tone[1] or tone[2]})")
    if holds := re.fullmatch(r"holds-(\d+)-(\d+)", number):
        return Party(holds=(int(holds[1]) // FRAME_MS, int(holds[2]) // FRAME_MS))
    return Party(echoes=number == ECHO)
