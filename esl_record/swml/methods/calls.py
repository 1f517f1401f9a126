"""answer, hangup, sleep."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from esl_record.esl.causes import CAUSES
from esl_record.recording.params import Seconds, validated
from esl_record.swml.call import Call
from esl_record.swml.methods.parameters import mapping


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


def answer(call: Call, params: Any) -> None:
    given = validated(AnswerParams, "answer", mapping("answer", params))
    call.session.answer()
    if given.max_duration:
        call.session.limit_duration(given.max_duration)


def hangup(call: Call, params: Any) -> None:
    given = validated(HangupParams, "hangup", mapping("hangup", params, "reason"))
    call.session.hangup(CAUSES[given.reason])
    # The document is over; what the switch still has to say comes to the session.
    raise call.session.gone()


def sleep(call: Call, params: Any) -> None:
    given = validated(SleepParams, "sleep", mapping("sleep", params, "duration"))
    call.session.sleep(round(given.duration))
