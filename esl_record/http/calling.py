"""Control of live calls: SignalWire's ``calling`` commands, one a request."""

import uuid
from collections.abc import Callable
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any, Literal

import falcon
from gevent.event import Event as Flag
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, RootModel, StringConstraints, ValidationError

from esl_record.errors import CallGone, CommandRefused, CommandTimeout
from esl_record.esl.causes import CAUSES
from esl_record.http import body
from esl_record.http.calls import Leg, facts
from esl_record.http.problem import Problem
from esl_record.http.reply import put
from esl_record.live import LiveCall, LiveCalls, TooManyRecordings
from esl_record.recording.machine import PauseBehavior, State
from esl_record.recording.params import Direction, Format, ParameterError, RecordParams
from esl_record.recording.recorder import Recorder

UNNAMED_FORMAT = Format.MP3
"""What a request that names no format gets; a document that names none gets wav."""

Name = Annotated[str, Field(min_length=1, max_length=256)]
Digits = Annotated[str, StringConstraints(pattern=r"^[0-9A-Da-d*#]*$")]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Reason(StrEnum):
    """Why a call is ended."""

    HANGUP = "hangup"
    CANCEL = "cancel"
    BUSY = "busy"
    NO_ANSWER = "noAnswer"
    DECLINE = "decline"
    ERROR = "error"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Audio(_Strict):
    """What is recorded, and what ends it; times in seconds, 0 = off."""

    stereo: bool = False
    format: Format = UNNAMED_FORMAT
    direction: Direction = Direction.SPEAK
    terminators: Digits = "#"
    beep: bool = False
    input_sensitivity: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 44.0
    initial_timeout: Seconds = 4.0
    end_silence_timeout: Seconds = 0.5
    max_length: Seconds = 0.0
    early_media: bool = Field(default=False, description="record a call before its answer, too")


class Record(_Strict):
    """What is to be recorded."""

    audio: Audio = Audio()


class RecordRequest(_Strict):
    """``audio`` may stand in ``record`` or beside it."""

    control_id: Name | None = Field(default=None, description="names the recording; without it one is made")
    record: Record | None = None
    audio: Audio | None = None
    status_url: HttpUrl | None = None


class PauseRequest(_Strict):
    control_id: Name
    behavior: PauseBehavior = PauseBehavior.SKIP


class RecordingRequest(_Strict):
    control_id: Name


class EndRequest(_Strict):
    reason: Reason = Reason.HANGUP


class _Command(_Strict):
    id: Name = Field(description="the call")


class RecordCommand(_Command):
    """Starts a recording beside whatever the call does."""

    command: Literal["calling.record"]
    params: RecordRequest = RecordRequest()


class PauseCommand(_Command):
    """Pauses a recording; answered when no more audio of the call reaches the disk."""

    command: Literal["calling.record.pause"]
    params: PauseRequest


class ResumeCommand(_Command):
    """Resumes a recording."""

    command: Literal["calling.record.resume"]
    params: RecordingRequest


class StopCommand(_Command):
    """Ends a recording; answered when it has ended. Its file is complete a moment later."""

    command: Literal["calling.record.stop"]
    params: RecordingRequest


class EndCommand(_Command):
    """Hangs up."""

    command: Literal["calling.end"]
    params: EndRequest = EndRequest()


class Command(
    RootModel[
        Annotated[
            RecordCommand | PauseCommand | ResumeCommand | StopCommand | EndCommand, Field(discriminator="command")
        ]
    ]
):
    """What a call is to do."""


class Answer(Leg):
    """The call leg as it is after the command, and the recording the command was about."""

    control_id: str = Field(default="", description="missing after calling.end")
    recording_id: str = Field(default="", description="missing after calling.end")


class Calling:
    """``/api/calling/calls``. ``timeout``: seconds a command may take to be carried out."""

    def __init__(self, calls: LiveCalls, timeout: float) -> None:
        self._calls = calls
        self._timeout = timeout

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        command = parsed(body.read(req))
        call = self._calls.get(command.id)
        if call is None:
            raise _no_call()
        told: dict[str, Any] = {}
        match command:
            case RecordCommand():
                told = _named(_start(call, record_params(command.params)))
            case EndCommand():
                _hang_up(call, CAUSES[command.params.reason])
            case PauseCommand():
                behavior = command.params.behavior
                told = self._carry_out(command.id, command.params.control_id, lambda recorder: recorder.pause(behavior))
            case ResumeCommand():
                told = self._carry_out(command.id, command.params.control_id, lambda recorder: recorder.resume())
            case StopCommand():
                told = self._carry_out(
                    command.id, command.params.control_id, lambda recorder: recorder.stop(), ends=True
                )
        put(resp, Answer(**facts(call), **told))

    def _carry_out(
        self, call_id: str, control_id: str, order: Callable[[Recorder], Flag], *, ends: bool = False
    ) -> dict[str, Any]:
        """Gives ``order`` and waits until it is in effect. ``ends``: whether an ended recording is what is wanted."""
        found = (call.recorders.get(control_id) for call in reversed(self._calls.all(call_id)))
        recorder = next(filter(None, found), None)
        if recorder is None:
            message = "this call has no such recording under way"
            raise Problem(HTTPStatus.NOT_FOUND, "recording_not_found", message, "control_id")
        done = order(recorder).wait(self._timeout)
        state = recorder.recording.state
        if state is State.ERROR or (state.final and not ends):
            message = f"the recording has ended: {state.value}"
            raise Problem(HTTPStatus.CONFLICT, "recording_ended", message, "control_id")
        if not done:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "not_in_time", "the switch did not do so in time")
        return _named(recorder)


def parsed(text: bytes) -> RecordCommand | PauseCommand | ResumeCommand | StopCommand | EndCommand:
    """The command a body holds. Raises Problem 422 with every mistake in it."""
    try:
        return Command.model_validate_json(text).root
    except ValidationError as error:
        raise Problem.found(error) from None


def record_params(request: RecordRequest) -> RecordParams:
    """What to record. Raises Problem 422 with every mistake there is."""
    if request.audio is not None and request.record is not None:
        message = "params.audio: give it in record or beside it, not both"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_parameter", message, "audio")
    audio = request.audio or (request.record or Record()).audio
    given: dict[str, Any] = audio.model_dump()
    given["control_id"] = request.control_id or str(uuid.uuid4())
    if request.status_url is not None:
        given["status_url"] = str(request.status_url)
    try:
        return RecordParams.model_validate(given)
    except ValidationError as error:
        raise Problem.found(error) from None


def _start(call: LiveCall, params: RecordParams) -> Recorder:
    if not call.session.live:
        raise _no_call()
    try:
        return call.start(params)
    except TooManyRecordings as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too_many_recordings", str(error), "id") from None
    except ParameterError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "control_id_in_use", str(error), "control_id") from None


def _hang_up(call: LiveCall, cause: str) -> None:
    if not call.session.live:
        raise _no_call()
    try:
        call.session.hangup(cause)
    except CallGone:
        raise _no_call() from None
    except (CommandRefused, CommandTimeout) as error:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "switch_unavailable", str(error)) from None
    if call.session.live:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "not_in_time", "the switch did not hang up in time")


def _named(recorder: Recorder) -> dict[str, Any]:
    return {"control_id": recorder.params.control_id, "recording_id": recorder.recording.recording_id}


def _no_call() -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, "call_not_found", "there is no such call, or not any more", "id")
