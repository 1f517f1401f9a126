"""The status events of recordings as a receiver sees them, for the description of the HTTP side."""

from typing import Literal

from pydantic import BaseModel, Field

from esl_record.recording.machine import EndReason, PauseBehavior, State
from esl_record.recording.params import Direction, Format


class CallbackAudio(BaseModel):
    """The form of the audio."""

    format: Format
    direction: Direction
    stereo: bool


class CallbackRecord(BaseModel):
    """The recording, where `record_call` has it."""

    audio: CallbackAudio
    url: str
    format: Format
    duration: float = Field(default=0.0, description="seconds, once it has ended")
    size: int = Field(default=0, description="bytes, once it has ended")


class CallbackParams(BaseModel):
    """The recording, where `record` has it."""

    call_id: str
    node_id: str
    control_id: str
    recording_id: str
    state: State
    url: str = Field(description="a link to the audio that expires; empty where there is none, or not yet")
    record: CallbackRecord
    pause_behavior: PauseBehavior | None = Field(default=None, description="of a paused recording; else missing")
    start_time: float | None = Field(default=None, description="Unix seconds, once it has ended; else missing")
    end_time: float | None = Field(default=None, description="Unix seconds, once it has ended; else missing")
    end_reason: EndReason | Literal[""] | None = Field(default=None, description="what ended it; missing until then")
    duration: float = Field(default=0.0, description="seconds, once it has ended; else missing")
    size: int = Field(default=0, description="bytes, once it has ended; else missing")


class RecordingCallback(BaseModel):
    """A state of a recording, POSTed to its `status_url`."""

    event_type: Literal["calling.call.record"]
    event_channel: str
    timestamp: float
    project_id: str
    space_id: str
    params: CallbackParams
