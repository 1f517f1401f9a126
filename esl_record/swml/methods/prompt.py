"""prompt: sounds, and the digits the party presses for an answer."""

import logging
from functools import cache
from typing import Annotated

from pydantic import BeforeValidator, Field

from esl_record.errors import CallGone
from esl_record.esl.digits import Collected, collect
from esl_record.recording.params import DTMF_DIGITS, Flag, Seconds, number
from esl_record.status.event import COLLECT
from esl_record.swml.call import Call
from esl_record.swml.methods.parameters import Method
from esl_record.swml.methods.play import MOST_SOUNDS, SoundParams, play, teller
from esl_record.swml.sounds import Playable

log = logging.getLogger(__name__)

SPEECH = {"speech_timeout", "speech_end_timeout", "speech_language", "speech_hints"}
"""Parameters that ask for speech to be recognised, and without one of ``DIGITS`` for nothing else."""

DIGITS = {"max_digits", "terminators", "digit_timeout", "initial_timeout"}


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _digits(value: object) -> object:
    # YAML reads an unquoted 5 as a number.
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not set(text.upper()) <= DTMF_DIGITS:
        raise ValueError("digits 0-9 A-D * # are wanted")
    return text.upper()


class PromptParams(SoundParams):
    """Times in seconds; ``initial_timeout`` runs from the end of the sounds. ``auto_answer`` as in ``play``.

    This service recognises no speech: asked for it besides digits it collects the digits, asked for nothing else it
    fails.
    """

    auto_answer: Flag = True
    play: Annotated[list[Playable], BeforeValidator(_several), Field(max_length=MOST_SOUNDS)]
    max_digits: Annotated[float, BeforeValidator(number), Field(ge=1, multiple_of=1, allow_inf_nan=False)] = 1.0
    terminators: Annotated[str, BeforeValidator(_digits)] = ""
    digit_timeout: Seconds = 5.0
    initial_timeout: Seconds = 5.0
    speech_timeout: Seconds | None = None
    speech_end_timeout: Seconds | None = None
    speech_language: str | None = None
    speech_hints: list[str] = Field(default_factory=list)
    speech_engine: str | None = None


def _prompt(call: Call, given: PromptParams) -> None:
    """Collects digits; what came of it is in ``prompt_result`` and ``prompt_value``.

    A terminator without a digit is ``no_match``. A sound the switch cannot play is passed over; it is ``failed`` if
    nothing was pressed either. A caller who hangs up gave ``no_input``.
    """
    tell = teller(call, given, COLLECT)
    collected, result = Collected("", ""), "failed"
    try:
        if given.model_fields_set & SPEECH and not given.model_fields_set & DIGITS:
            log.error("%s: prompt: speech alone is asked for, and none is recognised here", call.session.label)
        else:
            if given.model_fields_set & SPEECH:
                _tell_deaf()
            collected, result = _collected(call, given)
    except CallGone:
        result = "no_input"
        raise
    finally:
        if result == "match_digits":
            pressed = {"digits": collected.digits, "terminator": collected.terminator}
            tell("digit", {"result": {"type": "digit", "params": pressed}})
        else:
            kind = "error" if result == "failed" else result
            tell(kind, {"result": {"type": kind}})
    call.publish(
        prompt_result=result,
        prompt_value=collected.digits,
        prompt_value_raw=collected.digits,
        prompt_digit_terminator=collected.terminator,
    )


def _collected(call: Call, given: PromptParams) -> tuple[Collected, str]:
    if given.auto_answer:
        call.session.answer()
    played: list[bool] = []
    collected = collect(
        call.session,
        lambda: played.append(play(call, given, given.play)),
        most=int(given.max_digits),
        terminators=given.terminators,
        initial_timeout=given.initial_timeout,
        digit_timeout=given.digit_timeout,
    )
    if collected.digits:
        return collected, "match_digits"
    if collected.terminator:
        return collected, "no_match"
    return collected, "no_input" if all(played) else "failed"


@cache
def _tell_deaf() -> None:
    """Once, not with every call."""
    log.warning("prompt: speech is asked for besides digits, and none is recognised here: digits alone are collected")


PROMPT = Method("prompt", PromptParams, _prompt, waits=True)
