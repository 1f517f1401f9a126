"""answer, hangup, sleep, send_digits."""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from esl_record.errors import CommandRefused
from esl_record.esl.causes import CAUSES
from esl_record.recording.params import DTMF_DIGITS, number
from esl_record.swml.call import Call
from esl_record.swml.methods.parameters import Method, Parameters

FOREVER = -1
"""Milliseconds of a sleep that only the end of the call ends."""

_HOUR = 3_600_000

Whole = Annotated[float, BeforeValidator(number), Field(ge=0, multiple_of=1, allow_inf_nan=False)]


def _sendable(digits: str) -> str:
    if not set(digits) <= DTMF_DIGITS | {"w", "W"}:
        raise ValueError("0-9 A-D * # w W are wanted")
    return digits


class HangupReason(StrEnum):
    HANGUP = "hangup"
    BUSY = "busy"
    DECLINE = "decline"


class AnswerParams(Parameters):
    """``max_duration``: seconds after which the switch hangs up, 0 = never.

    SignalWire's 4 hours are no default here: a switch of one's own need not be guarded against one's own calls.
    ``codecs``, ``username`` and ``password`` are accepted and do nothing: which codec a call has, and who may call, its
    switch has settled before it comes to a document.
    """

    max_duration: Whole = 0.0
    codecs: str | None = None
    username: str | None = None
    password: str | None = None


class HangupParams(Parameters):
    reason: HangupReason = HangupReason.HANGUP


class SleepParams(Parameters):
    """``duration``: milliseconds, or ``FOREVER``."""

    duration: Annotated[float, BeforeValidator(number), Field(ge=FOREVER, multiple_of=1, allow_inf_nan=False)]


class SendDigitsParams(Parameters):
    """``w`` and ``W`` among the digits wait 0.5 and 1 s."""

    digits: Annotated[str, AfterValidator(_sendable)]


def _answer(call: Call, given: AnswerParams) -> None:
    call.session.answer()
    if given.max_duration:
        call.session.limit_duration(given.max_duration)
    call.publish(answer_result="success")


def _hangup(call: Call, given: HangupParams) -> None:
    call.session.end(CAUSES[given.reason])
    # The document is over; what the switch still has to say comes to the session.
    raise call.session.gone()


def _sleep(call: Call, given: SleepParams) -> None:
    """Waits, whatever digits are pressed meanwhile."""
    session = call.session
    session.ignore_digits()
    while given.duration == FOREVER:
        session.sleep(_HOUR)
    session.sleep(int(given.duration))


def _send_digits(call: Call, given: SendDigitsParams) -> None:
    """Answers an unanswered call; the next step begins when the digits are out."""
    try:
        call.session.answer()
        call.session.send_digits(given.digits)
    except CommandRefused:
        call.publish(send_digits_result="failed")
    else:
        call.publish(send_digits_result="success")


ANSWER = Method("answer", AnswerParams, _answer)
HANGUP = Method("hangup", HangupParams, _hangup, short="reason")
SLEEP = Method("sleep", SleepParams, _sleep, short="duration", waits=True)
SEND_DIGITS = Method("send_digits", SendDigitsParams, _send_digits, waits=True)
