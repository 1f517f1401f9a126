"""Playing something to the party until it ends, a digit stops it, or somebody breaks it off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from esl_record.standin.headers import Header
from esl_record.standin.prompt import Prompt, open_prompt
from esl_record.standin.session import Frames, Session

Outcome = Literal["played", "break", "not found", "error"]
OnDigit = Callable[[str], bool]


def play_file(session: Session, name: str | None, on_digit: OnDigit | None) -> Frames[Outcome]:
    """Play what ``name`` names and leave the ``playback_`` variables behind.

    ``on_digit`` is asked about each digit pressed meanwhile and answers True to stop; without it digits wait.
    """
    channel = session.channel
    if not channel.pre_answer() or not name:
        return "error"
    prompt = open_prompt(name, channel.codec.rate)
    if prompt is None:
        return "not found"
    kind: list[Header] = [("Playback-File-Type", "tone_stream")] if name.startswith("tone_stream:") else []
    described = [*kind, ("Playback-File-Path", name)]
    channel.fire("PLAYBACK_START", described)
    outcome, frames = yield from _play(session, prompt, on_digit)
    size = session.legs.samples
    played = frames * size
    if prompt.native is not None:
        played = min(played, len(prompt.samples))
    read = prompt.read(played, channel.codec.rate)
    channel.set("playback_last_offset_pos", str(played))
    channel.set("playback_seconds", str(read // prompt.native_rate))
    channel.set("playback_ms", str(read * 1000 // prompt.native_rate))
    channel.set("playback_samples", str(read))
    status = "break" if outcome == "break" else "done"
    channel.fire("PLAYBACK_STOP", [*described, ("Playback-Status", status)])
    return outcome


def play_prompt(session: Session, prompt: Prompt, on_digit: OnDigit | None) -> Frames[Outcome]:
    """Play samples at hand, as ``speak`` does."""
    if not session.channel.pre_answer():
        return "error"
    outcome, _ = yield from _play(session, prompt, on_digit)
    return outcome


def _play(session: Session, prompt: Prompt, on_digit: OnDigit | None) -> Frames[tuple[Outcome, int]]:
    channel = session.channel
    size = session.legs.samples
    frames = 0
    while True:
        if not session.ready:
            return "error", frames
        if session.take_break():
            return "break", frames
        yield from session.parse_messages()
        if on_digit is not None:
            digit = channel.dequeue_digit()
            if digit is not None and on_digit(digit):
                return "break", frames
        frame = prompt.frame(frames, size)
        if frame is None:
            return "played", frames
        yield
        if not session.ready:
            return "error" if channel.transferred else "played", frames
        session.write(frame)
        frames += 1


def playback_terminator(session: Session) -> OnDigit:
    """Stops playing at a digit of the variable ``playback_terminators``: ``*`` unless set, ``any``, or ``none``."""

    def on_digit(digit: str) -> bool:
        terminators = session.channel.variables.get("playback_terminators") or "*"
        if terminators.lower() == "any":
            terminators = "1234567890*#"
        if terminators.lower() == "none" or digit not in terminators:
            return False
        session.channel.set("playback_terminator_used", digit)
        return True

    return on_digit
