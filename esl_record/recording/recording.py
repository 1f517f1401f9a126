"""What is known of one recording, as it stands in the JSON file beside the audio."""

from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from esl_record.audio.timeline import Segment, Span, Timeline
from esl_record.recording.machine import EndReason, PauseBehavior, PauseCause, State
from esl_record.recording.params import Direction, Format, RecordParams

_NAME = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
"""Of an id and a file: whatever a file says, they lead nowhere but into the folder they belong in."""

LONGEST = 256
"""Characters kept of a caller's number or name, and of the number called: whoever calls chooses them, and they stand in
each recording's JSON, in the catalog and in callbacks."""


class Party(BaseModel):
    """Whose call it is, as the switch told when the call came in."""

    model_config = ConfigDict(frozen=True)

    call_id: str
    caller_number: str = ""
    caller_name: str = ""
    destination: str = ""
    document: str = ""


class PauseTime(BaseModel):
    """A pause, in seconds of the recording.

    ``ended_by`` is None while it lasts, and both causes are None in files of versions that did not note them.
    """

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    start: float
    end: float
    behavior: PauseBehavior
    began_by: PauseCause | None = None
    ended_by: PauseCause | None = None
    since: float | None = None
    """Unix time at which the pause was requested."""


class HoldTime(BaseModel):
    """A hold by the recorded leg or by the far end, in seconds of the recording.

    While the recorded leg holds the switch writes nothing, and the recording is silent.
    """

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    start: float
    end: float
    far: bool = False
    """Whether the far end held. The recorded leg is heard meanwhile."""
    since: float = 0.0
    """The unix time at which it began."""


class Recording(BaseModel):
    """One recording. Times of day are unix seconds, everything else seconds from the start of the recording."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    recording_id: str = Field(pattern=_NAME)
    control_id: str
    call_id: str
    caller_number: str = ""
    caller_name: str = ""
    destination: str = ""
    document: str = ""
    state: State
    end_reason: EndReason | None = None
    """What ended it, null while it runs. ``transfer``: the call left for another part of the dialplan while a document
    or handler waited for the recording."""
    terminator: str = ""
    error: str = ""
    format: Format
    stereo: bool
    direction: Direction
    sample_rate: int = 0
    channels: int = Field(1, ge=1, le=2)
    duration: float = 0.0
    size: int = 0
    sha256: str = ""
    file: str = Field("", pattern=f"^$|{_NAME}")
    """The audio's file name, beside this file; empty where there is none."""
    start_time: float
    end_time: float | None = None
    parameters: dict[str, Any]
    speech: list[tuple[float, float]] = []
    pauses: list[PauseTime] = []
    holds: list[HoldTime] = []
    gaps: list[tuple[float, float]] = []
    """Where the switch wrote nothing, read as silence: start and end."""
    segments: list[Segment] = []
    """What its taps write, while it runs; none is one segment with the recording's channels."""
    spans: list[Span] = []
    """Where which of the segments is in it, while it runs."""

    @classmethod
    def begun(cls, recording_id: str, party: Party, params: RecordParams, start_time: float) -> "Recording":
        """A recording about to start."""
        return cls(
            recording_id=recording_id,
            control_id=params.control_id,
            state=State.RECORDING,
            format=params.format,
            stereo=params.stereo,
            direction=params.direction,
            channels=2 if params.stereo else 1,
            start_time=start_time,
            parameters=params.model_dump(mode="json"),
            **party.model_dump(),
        )

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self.timeline()
        return self

    def timeline(self) -> Timeline:
        """Return where its audio is, as far as that has been noted. Raises ValueError."""
        timeline = Timeline(self.segments or [Segment(channels=self.channels)], self.spans)
        skipping = self.state is State.PAUSED and bool(self.pauses) and self.pauses[-1].behavior is PauseBehavior.SKIP
        # Nothing stands in the recording for a hold of which all is skipped so far.
        for hold in self.holds if not skipping else ():
            start = round(hold.start * self.sample_rate)
            open_ended = hold.end == hold.start and not hold.far and hold.since
            if (
                open_ended
                and not self.state.final
                and timeline.last.segment is not None
                and start > timeline.last.start
            ):
                # It was noted before the tap had fallen silent.
                timeline.spans.append(Span(start=start, segment=None, since=hold.since))
        return timeline

    def noted(self, timeline: Timeline, end: int | None = None) -> dict[str, object]:
        """Return the fields that say of ``timeline`` what a later start must know; ``end``: the last sample, if any."""
        rate = self.sample_rate or 1
        gaps = [(start, until if end is None else min(until, end)) for start, until in timeline.gaps]
        usual = timeline.plain and timeline.segments == [Segment(channels=self.channels)]
        return {
            "gaps": [(start / rate, until / rate) for start, until in gaps if start < until],
            "segments": [] if usual else list(timeline.segments),
            "spans": [] if usual else list(timeline.spans),
        }

    @property
    def succeeded(self) -> bool:
        """What ``record_result`` says: finished is success, no_input and error are failed."""
        return self.state is State.FINISHED

    @property
    def status_url(self) -> str | None:
        """Where its status events go."""
        url: str | None = self.parameters.get("status_url")
        return url

    def told(self) -> "Recording":
        """What may be shown and kept: without the password an address may hold."""
        url = self.status_url
        if url is None or "@" not in url:
            return self
        parts = urlsplit(url)
        shown = parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}").geturl()
        return self.model_copy(update={"parameters": {**self.parameters, "status_url": shown}})

    def audio(self, document: Path) -> Path | None:
        """The audio beside the JSON file ``document``."""
        return document.with_name(self.file) if self.file else None
