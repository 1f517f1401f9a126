"""The dialplan applications the stand-in switch has, by name."""

from __future__ import annotations

from collections.abc import Callable

from esl_record.standin.bridge import bridge
from esl_record.standin.channel import cause_named
from esl_record.standin.clock import FRAME_MS
from esl_record.standin.digits import play_and_get_digits
from esl_record.standin.inband import Detector
from esl_record.standin.playing import play_file, play_prompt, playback_terminator
from esl_record.standin.prompt import speech
from esl_record.standin.session import Application, Frames, Session
from esl_record.standin.variables import brackets, integer, is_true, separate

_RESPONSES = {"played": "FILE PLAYED", "break": "FILE PLAYED", "not found": "FILE NOT FOUND", "error": "PLAYBACK ERROR"}

_DIGITS = 99
"""More at once are not sent."""


def playback(session: Session, argument: str | None) -> Frames[None]:
    channel = session.channel
    channel.set("playback_terminator_used", None)
    outcome = yield from play_file(session, argument, playback_terminator(session))
    channel.set("current_application_response", _RESPONSES[outcome])


def speak(session: Session, argument: str | None) -> Frames[None]:
    """``<engine>|<voice>|<text>``; what is missing in front comes from ``tts_engine`` and ``tts_voice``."""
    channel = session.channel
    if not argument:
        return
    parts = argument.split("|", 2)
    engine = parts[0] if len(parts) == 3 else channel.variables.get("tts_engine")
    voice = parts[-2] if len(parts) > 1 else channel.variables.get("tts_voice")
    if not engine or not voice or not parts[-1]:
        session.hang_up("DESTINATION_OUT_OF_ORDER")
    channel.set("playback_terminator_used", None)
    yield from play_prompt(session, speech(parts[-1], channel.codec.rate), playback_terminator(session))


def sleep(session: Session, argument: str | None) -> Frames[None]:
    """Wait so many milliseconds. A digit ends the wait, and stays to be read, unless ``sleep_eat_digits`` is true."""
    channel = session.channel
    on_digit = playback_terminator(session) if is_true(channel.variables.get("sleep_eat_digits")) else None
    for _ in range(-(-integer(argument or "") // FRAME_MS)):
        if not session.ready or session.take_break():
            return
        if channel.has_media:
            yield from session.parse_messages()
            if on_digit is None and channel.digits:
                return
            digit = channel.dequeue_digit()
            if digit is not None and on_digit is not None and on_digit(digit):
                return
        yield


def park(session: Session, argument: str | None) -> Frames[None]:
    """Wait for messages; a channel that a connection has parked stays with that and goes on at once."""
    yield from session.park()


def record(session: Session, argument: str | None) -> Frames[None]:
    """``<path> [<seconds>]``, until then, until a digit, or until it is broken off; silence is not listened for.

    A call that is sent elsewhere meanwhile is hung up instead.
    """
    path, *rest = separate(argument or "", " ", 4) or [""]
    channel = session.channel
    channel.set("playback_terminator_used", None)
    on_digit = playback_terminator(session)
    records = session.recordings.start(path, integer(rest[0].removeprefix("+")) if rest else 0, {})
    while records and session.ready and not session.take_break() and path in session.recordings:
        yield from session.parse_messages()
        digit = channel.dequeue_digit()
        if digit is not None and on_digit(digit):
            break
        yield
    session.recordings.stop(path)
    if not records or not session.ready:
        session.hang_up("DESTINATION_OUT_OF_ORDER")


def record_session(session: Session, argument: str | None) -> Frames[None]:
    """``<path> [+<seconds>] [{variables}]``"""
    path, *rest = separate(argument or "", " ", 5) or [""]
    limit = integer(rest.pop(0)[1:]) if rest and rest[0].startswith("+") else 0
    session.recordings.start(path, limit, brackets(rest[0])[0] if rest else {})
    return
    yield


def _at_once(act: Callable[[Session, str], None]) -> Application:
    def application(session: Session, argument: str | None) -> Frames[None]:
        act(session, argument or "")
        return
        yield

    return application


def _set(session: Session, text: str) -> None:
    name, equals, value = text.partition("=")
    if not equals:
        name, _, value = text.partition(",")
    channel = session.channel
    channel.set(name, channel.expand(value) if value else None, checked=False)


def _multiset(session: Session, text: str) -> None:
    delimiter = " "
    if text.startswith("^^") and len(text) > 2:
        delimiter, text = text[2], text[3:]
    for pair in separate(text, delimiter):
        _set(session, pair)


def _export(session: Session, text: str) -> None:
    name, _, value = text.partition("=")
    channel = session.channel
    channel.set(name, value, checked=False)
    if name and value:
        exported = channel.variables.get("export_vars")
        channel.set("export_vars", f"{exported},{name}" if exported else name)


def _pre_answer(session: Session, text: str) -> None:
    session.channel.pre_answer()


def _break(session: Session, text: str) -> None:
    session.stop_broadcast(flush=bool(text) and text.lower() != "all")


def _send_digits(session: Session, text: str) -> None:
    """The digits are queued to be sent; the variable tells, by two tone lengths of 250 ms each, how long that takes."""
    pressed = sum(digit in "0123456789ABCD*#" for digit in text)
    if pressed and len(text) <= _DIGITS and session.channel.pre_answer():
        session.channel.set("last_dtmf_duration", str(500 * pressed))


def _start_dtmf(session: Session, text: str) -> None:
    if session.channel.pre_answer() and session.inband is None:
        session.inband = Detector(session.channel.caller.rate)


def _stop_dtmf(session: Session, text: str) -> None:
    session.inband = None


def _nothing(session: Session, text: str) -> None:
    """For applications whose effect nobody on the event socket can see."""


APPLICATIONS: dict[str, Application] = {
    "answer": _at_once(lambda session, text: session.channel.answer()),
    "break": _at_once(_break),
    "bridge": bridge,
    "export": _at_once(_export),
    "hangup": _at_once(lambda session, text: session.hang_up(cause_named(text))),
    "info": _at_once(_nothing),
    "log": _at_once(_nothing),
    "multiset": _at_once(_multiset),
    "park": park,
    "play_and_get_digits": play_and_get_digits,
    "playback": playback,
    "pre_answer": _at_once(_pre_answer),
    "record": record,
    "record_session": record_session,
    "send_dtmf": _at_once(_send_digits),
    "set": _at_once(_set),
    "sleep": sleep,
    "speak": speak,
    "spandsp_start_dtmf": _at_once(_start_dtmf),
    "start_dtmf": _at_once(_start_dtmf),
    "stop_dtmf": _at_once(_stop_dtmf),
    "stop_record_session": _at_once(lambda session, text: (session.recordings.stop(text), None)[1]),
    "unset": _at_once(lambda session, text: session.channel.set(text, None)),
}
