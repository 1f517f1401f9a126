"""Asking the party for digits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from esl_record.standin.clock import FRAME_MS
from esl_record.standin.playing import play_file
from esl_record.standin.session import Frames, Session
from esl_record.standin.variables import integer, separate

_Status = Literal["success", "timeout", "failure"]


@dataclass
class _Wanted:
    least: int
    most: int
    tries: int
    timeout_ms: int
    terminators: str
    prompt: str
    bad_input: str
    variable: str
    pattern: str
    digit_timeout_ms: int


def _wanted(arguments: list[str]) -> _Wanted:
    given = dict(enumerate(arguments))
    least = max(integer(given.get(0, "")), 0)
    timeout = max(integer(given.get(3, "")), 1000)
    return _Wanted(
        least,
        max(integer(given.get(1, "")), least),
        integer(given.get(2, "")),
        timeout,
        given.get(4) or "#",
        given.get(5, ""),
        given.get(6, ""),
        given.get(7, ""),
        given.get(8, ""),
        integer(given.get(9, "")) or timeout,
    )


def play_and_get_digits(session: Session, argument: str | None) -> Frames[None]:
    """Arguments: least and most digits, tries, timeout ms, terminators, file, file for bad input, variable, regex.

    A tenth is the timeout between digits, in ms.
    """
    if not argument:
        return
    wanted = _wanted(separate(argument, " ", 11))
    channel = session.channel
    if wanted.pattern and wanted.variable:
        channel.set(f"{wanted.variable}_invalid", None)
    while session.ready and wanted.tries > 0:
        status, pressed = yield from _read(session, wanted)
        if status == "timeout" and len(pressed) >= wanted.least:
            status = "success"
        if not wanted.least and not pressed and channel.variables.get("read_terminator_used"):
            return
        if status == "success" and pressed:
            if not wanted.pattern or _matches(pressed, wanted.pattern):
                return
            channel.set(wanted.variable, None)
            channel.set(f"{wanted.variable}_invalid", pressed)
        if not session.ready:
            return
        yield from play_file(session, wanted.bad_input, None)
        wanted.tries -= 1


def _matches(pressed: str, pattern: str) -> bool:
    try:
        return re.search(pattern, pressed) is not None
    except re.error:
        return False


def _read(session: Session, wanted: _Wanted) -> Frames[tuple[_Status, str]]:
    """One try. A digit pressed during the prompt ends it and counts."""
    channel = session.channel
    channel.set("read_result", None)
    channel.set(wanted.variable, None)
    pressed: list[str] = []

    def keep(digit: str) -> bool:
        pressed.append(digit)
        return True

    if wanted.prompt and wanted.prompt.lower() != "silence":
        outcome = yield from play_file(session, wanted.prompt, keep)
        if outcome in ("not found", "error"):
            return "failure", ""
    status: _Status = "success"
    terminator = ""
    if len(pressed) < wanted.most:
        status, terminator = yield from _collect(session, wanted, pressed)
    text = "".join(pressed)
    if terminator:
        channel.set("read_terminator_used", terminator)
    if len(text) < wanted.least:
        status = "failure"
    channel.set("read_result", status)
    if wanted.variable and text:
        channel.set(wanted.variable, text)
    return status, text


def _collect(session: Session, wanted: _Wanted, pressed: list[str]) -> Frames[tuple[_Status, str]]:
    if pressed and pressed[0] in wanted.terminators:
        return "success", pressed.pop(0)
    limit = wanted.digit_timeout_ms if pressed else wanted.timeout_ms
    waited = 0
    while session.ready:
        yield from session.parse_messages()
        if waited * FRAME_MS >= limit:
            return "timeout", ""
        digit = session.channel.dequeue_digit()
        if digit is not None:
            limit, waited = wanted.digit_timeout_ms, 0
        while digit is not None:
            if digit in wanted.terminators:
                return "success", digit
            pressed.append(digit)
            if len(pressed) >= wanted.most:
                return "success", ""
            digit = session.channel.dequeue_digit()
        yield
        waited += 1
    return "failure", ""
