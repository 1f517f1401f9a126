"""The calls under way, as JSON."""

from datetime import UTC, datetime
from typing import Any

import falcon
from pydantic import BaseModel, Field

from esl_record.http.reply import put
from esl_record.live import LiveCall, LiveCalls
from esl_record.recording.machine import State
from esl_record.recording.params import Direction, Format
from esl_record.recording.recorder import Recorder


class Leg(BaseModel):
    """A call leg."""

    id: str
    from_: str = Field(alias="from", description="the caller's number")
    from_name: str = Field(description="the caller's name")
    to: str = Field(description="the number called")
    direction: str = Field(description="inbound or outbound, as the switch sees it")
    status: str = Field(description="created, answered or ended")
    type: str = Field(description="relay_sip_call")
    created_at: datetime = Field(description="when the call came to this service, UTC")


class LiveRecording(BaseModel):
    """A recording of a live call."""

    recording_id: str
    control_id: str
    state: State
    duration: float = Field(description="seconds of audio so far")
    started_at: datetime
    format: Format
    direction: Direction
    stereo: bool


class LiveLeg(Leg):
    """A call leg and what is being recorded of it."""

    recordings: list[LiveRecording]


class LiveLegs(BaseModel):
    """The calls under way."""

    data: list[LiveLeg]


class Calls:
    """``/api/v1/calls``."""

    def __init__(self, calls: LiveCalls) -> None:
        self._calls = calls

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        legs = [
            LiveLeg(
                **facts(call),
                recordings=[_under_way(recorder) for recorder in list(call.recorders.values())],
            )
            for call in self._calls
        ]
        put(resp, LiveLegs(data=legs))

    on_head = on_get


def facts(call: LiveCall) -> dict[str, Any]:
    """What a Leg tells of ``call``."""
    session, party = call.session, call.party
    return {
        "id": party.call_id,
        "from": party.caller_number,
        "from_name": party.caller_name,
        "to": party.destination,
        "direction": session.data.get("Call-Direction") or "inbound",
        "status": ("answered" if session.answered else "created") if session.live else "ended",
        "type": "relay_sip_call",
        "created_at": datetime.fromtimestamp(call.since, UTC),
    }


def _under_way(recorder: Recorder) -> LiveRecording:
    recording = recorder.recording
    return LiveRecording(
        recording_id=recording.recording_id,
        control_id=recording.control_id,
        state=recording.state,
        duration=recorder.position,
        started_at=datetime.fromtimestamp(recording.start_time, UTC),
        format=recording.format,
        direction=recording.direction,
        stereo=recording.stereo,
    )
