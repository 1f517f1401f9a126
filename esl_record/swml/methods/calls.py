"""answer, hangup, sleep."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from esl_record.esl.causes import CAUSES
from esl_record.recording.params import Seconds
from esl_record.swml.call import Call
from esl_record.swml.methods.parameters import Method


class HangupReason(StrEnum):
    HANGUP = "hangup"
    BUSY = "busy"
    DECLINE = "decline"


class AnswerParams(BaseModel):
    """``max_duration``: seconds after which the switch hangs up, 0 = never."""

    model_config = ConfigDict(extra="forbid")
    max_duration: Seconds = 0.0


class HangupParams(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reason: HangupReason = HangupReason.HANGUP


class SleepParams(BaseModel):
    """``duration``: milliseconds."""

    model_config = ConfigDict(extra="forbid")
    duration: Seconds = Field(le=86_400_000)


def _answer(call: Call, given: AnswerParams) -> None:
    call.session.answer()
    if given.max_duration:
        call.session.limit_duration(given.max_duration)


def _hangup(call: Call, given: HangupParams) -> None:
    call.session.hangup(CAUSES[given.reason])
    # The document is over; what the switch still has to say comes to the session.
    raise call.session.gone()


def _sleep(call: Call, given: SleepParams) -> None:
    call.session.sleep(round(given.duration))


ANSWER = Method("answer", AnswerParams, _answer)
HANGUP = Method("hangup", HangupParams, _hangup, short="reason")
SLEEP = Method("sleep", SleepParams, _sleep, short="duration")
