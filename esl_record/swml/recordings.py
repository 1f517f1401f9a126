"""The recordings of a live call as a document or a handler makes and ends them."""

import logging
from collections.abc import Callable

from esl_record.errors import CallGone, DatabaseError
from esl_record.live import LiveCall
from esl_record.recording.machine import PauseBehavior, PauseCause, State
from esl_record.recording.params import RecordParams
from esl_record.recording.recorder import Recorder
from esl_record.recording.recording import Recording

log = logging.getLogger(__name__)


class CallRecordings:
    """``link`` gives the URL of a recording's file by its id and format; ``stopping`` says whether the service is being
    stopped, when no document goes on. ``patience``: seconds a background recording may take to begin or to end.
    ``begun`` gives what an earlier run of the service began under a control id, and raises DatabaseError.
    """

    def __init__(
        self,
        live: LiveCall,
        link: Callable[[str, str], str],
        stopping: Callable[[], bool],
        *,
        patience: float,
        begun: Callable[[str], Recording | None] = lambda control_id: None,
    ) -> None:
        self._live = live
        self._link = link
        self._stopping = stopping
        self._patience = patience
        self._begun = begun

    def record(self, params: RecordParams) -> tuple[Recording, str]:
        return self._ended(self._live.record(params))

    def ended(self, control_id: str) -> tuple[Recording, str] | None:
        recorder = self._live.recorders.get(control_id)
        if recorder is not None:
            self._live.wait(recorder)
        recording = self._left(recorder, control_id)
        return None if recording is None else self._ended(recording)

    def begun(self, control_id: str) -> str | None:
        recording = self._left(self._live.recorders.get(control_id), control_id)
        return None if recording is None else self.url(recording)

    def start(self, params: RecordParams) -> str:
        recording = self.begin(params).recording
        return "" if recording.state is State.ERROR else self._url(recording)

    def begin(self, params: RecordParams) -> Recorder:
        """As ``start``, for whoever wants more of it than its URL."""
        recorder = self._live.start(params)
        recorder.begun.wait(self._patience)
        return recorder

    @property
    def background(self) -> list[Recorder]:
        """Those in the background, the one begun last at the end."""
        return list(self._live.background.values())

    def running(self, recorder: Recorder) -> bool:
        """Whether a recording in the background is not complete yet."""
        return self._live.running(recorder)

    def wait(self, recorder: Recorder, timeout: float | None) -> None:
        """Waits, up to ``timeout`` seconds, until it is."""
        self._live.wait(recorder, timeout)

    def end(self) -> None:
        """Ends all of the call's recordings."""
        self._live.end(self._patience)

    def url(self, recording: Recording) -> str:
        """Where its audio is had, or will be while it runs."""
        return self._url(recording) if recording.file or not recording.state.final else ""

    def stop(self, control_id: str | None) -> bool:
        background = self._live.background
        recorder = next(reversed(background.values()), None) if control_id is None else background.get(control_id)
        return recorder is not None and recorder.stop().wait(self._patience)

    def pause(self, recorder: Recorder, behavior: PauseBehavior) -> None:
        """Pause a recording, and wait until the switch has done so."""
        recorder.pause(behavior, PauseCause.HANDLER).wait(self._patience)

    def resume(self, recorder: Recorder) -> None:
        """Resume a recording, and wait until the switch has done so."""
        recorder.resume(PauseCause.HANDLER).wait(self._patience)

    def _left(self, recorder: Recorder | None, control_id: str) -> Recording | None:
        """What an earlier run began: that of ``recorder``, which goes on with it, else what has become of it."""
        if recorder is not None:
            return recorder.recording
        try:
            found = self._begun(control_id)
        except DatabaseError as error:
            log.error("%s: recording %s: %s", self._live.session.label, control_id, error)
            return None
        if found is None or (found.state is State.ERROR and not found.file):
            # Announced and no more, or without a sample: it is begun anew.
            return None
        if not found.state.final:
            # It has been told of, cannot be gone on with, and has not been completed yet.
            return found.model_copy(update={"state": State.ERROR, "error": "the service was killed meanwhile"})
        return found

    def _ended(self, recording: Recording) -> tuple[Recording, str]:
        if self._stopping():
            raise CallGone(f"{self._live.session.label}: the service is stopping")
        return recording, self._url(recording) if recording.file else ""

    def _url(self, recording: Recording) -> str:
        return self._link(recording.recording_id, recording.format.value)
