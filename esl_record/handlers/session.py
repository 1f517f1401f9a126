"""A call as FreeSWITCH's scripting languages have it: the names, arguments and answers of its ``CoreSession``.

They are those of ``switch_cpp.h`` in its sources; besides, ``record`` and ``record_call`` with SWML's parameters.
"""
# ruff: noqa: N802  # the names are FreeSWITCH's

import logging
import time
from collections.abc import Callable
from pathlib import Path

from esl_record.esl import wire
from esl_record.esl.session import Session
from esl_record.handlers.digits import DigitVerbs
from esl_record.handlers.results import BackgroundRecording, RecordResult
from esl_record.recording.machine import PauseBehavior
from esl_record.recording.params import RecordParams
from esl_record.recording.recorder import Recorder
from esl_record.recording.recording import Recording
from esl_record.swml.methods.record import RecordCallParams
from esl_record.swml.recordings import CallRecordings

log = logging.getLogger(__name__)

_GOING = 1.0
_LEVELS = {
    "console": logging.INFO,
    "alert": logging.CRITICAL,
    "crit": logging.CRITICAL,
    "err": logging.ERROR,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "notice": logging.INFO,
    "info": logging.INFO,
}


class CallSession(DigitVerbs):
    """The call a handler is given. Use it in the greenlet the handler runs in, and in no other.

    Verbs answer 1 or text. Once the call has gone, ``ready()`` is False, and every verb does nothing and answers 0, ""
    or None; so it does, with a line in the log, where the switch refuses. A wrong argument raises.
    """

    def __init__(self, session: Session, recordings: CallRecordings, audio_path: Callable[[Recording], Path]) -> None:
        super().__init__(session, recordings)
        self.uuid = session.uuid
        self._audio_path = audio_path

    # ---- the call

    def ready(self) -> bool:
        """Whether the call is there to be told something; ask in every loop."""
        self._breathe()
        self.tell_hangup()
        return self._live

    def answered(self) -> bool:
        return self._live and self._session.answered

    def mediaReady(self) -> bool:
        return self._live and self._media

    def bridged(self) -> bool:
        return self._live and self._bridged

    def getState(self) -> str:
        return "CS_EXECUTE" if self._live else "CS_ROUTING" if self._session.left else "CS_HANGUP"

    def get_uuid(self) -> str:
        return self.uuid

    def hangupCause(self) -> str:
        """Why the call has ended; ``NONE`` while it has not."""
        return self._session.hangup_cause or "NONE"

    def answer(self) -> int:
        return self._done(self._session.answer)

    def preAnswer(self) -> int:
        """Open early media. From then on no verb answers by itself, as after ``setAutoAnswer(False)``."""
        self._auto_answer = False
        return self._done(lambda: self._session.execute("pre_answer"))

    def hangup(self, cause: str = "normal_clearing") -> None:
        self._done(lambda: self._session.hangup(wire.clean(cause).upper()))

    def setAutoHangup(self, val: bool) -> int:
        """Whether the call is hung up when the handler returns, instead of going on in the dialplan."""
        self._auto_hangup = bool(val)
        return 0

    def setAutoAnswer(self, val: bool) -> int:
        """Whether verbs that play, read digits or record answer an unanswered call first, as they do by default."""
        self._auto_answer = bool(val)
        return 0

    def setHangupHook(self, hangup_func: Callable[..., object], arg: object = None) -> None:
        """Calls ``hangup_func(session, "hangup"[, arg])`` once when the call has gone: from the verb that waits then,
        else from the next, at the latest when the handler returns. Where the call was sent elsewhere ``"transfer"``."""
        if not callable(hangup_func):
            raise TypeError(f"setHangupHook: {hangup_func!r}: a function is wanted")
        given = () if arg is None else (arg,)
        self._hook = lambda what: hangup_func(self, what, *given)

    def execute(self, app: str, data: str | None = None) -> None:
        """Runs a dialplan application to its end; it has the digits. ``${...}`` in ``data`` is not expanded."""
        self._done(lambda: self._alone(app, data or ""))
        if app == "transfer":
            # That the call has gone is said a moment later, and to resume it after that would harm it.
            self._keypad.wait(time.monotonic() + _GOING)

    def getVariable(self, var: str) -> str | None:
        """A channel variable; of a call that has gone as it was at the end."""
        name = wire.variable_name(var)
        value = self._verb(lambda: self._session.get_variable(name), None)
        return value if self._live else self._last.get(f"variable_{name}")

    def setVariable(self, var: str, val: object) -> None:
        """Sets a channel variable; None and "" unset it."""
        self._kept.pop(var, None)
        self._done(lambda: self._session.set_variable(var, "" if val is None else str(val)))

    def consoleLog(self, level_str: str, msg: str) -> None:
        """Write to the service's log, not the switch's; three and more digits that the caller pressed as ``***``."""
        level, shown = _LEVELS.get(level_str.lower(), logging.DEBUG), self._session.pressed.redact(msg)
        log.log(level, "%s: %s", self._session.label, shown)

    def consoleLog2(self, level_str: str, file: str, func: str, line: int, msg: str) -> None:
        self.consoleLog(level_str, f"{file}:{line} {func}: {msg}")

    def _done(self, act: Callable[[], object]) -> int:
        def done() -> int:
            act()
            return 1

        return self._verb(done, 0)

    # ---- recordings

    def record(self, **params: object) -> RecordResult:
        """Records in the foreground with the parameters of SWML's ``record``, until something ends it.

        Raises ParameterError that names what is wrong.
        """
        given = RecordParams.of("record", params)
        before = len(self._keypad.waiting)

        def record() -> RecordResult:
            if not given.early_media:
                self._answer_first()
            recording, url = self._recordings.record(given)
            # What was pressed after the terminator is for whoever asks next.
            self._keypad.drop(before, through=recording.terminator)
            return self._result(recording, url)

        return self._verb(record, _unrecorded(given))

    def record_call(self, **params: object) -> BackgroundRecording:
        """Records in the background with the parameters of SWML's ``record_call``. Raises ParameterError."""
        given = RecordCallParams.of("record_call", params)
        return self._background(given, self._verb(lambda: self._recordings.begin(given), None))

    def recordings(self) -> list[BackgroundRecording]:
        """Those that run in the background; in ``resumed`` those that an earlier run of the service began."""
        return [self._background(recorder.params, recorder) for recorder in self._recordings.background]

    def _background(self, given: RecordParams, recorder: Recorder | None) -> BackgroundRecording:
        def look() -> RecordResult:
            if recorder is None or (not recorder.recording.state.final and not self._recordings.running(recorder)):
                return _unrecorded(given)
            return self._result(recorder.recording, self._recordings.url(recorder.recording), recorder.position)

        def wait(timeout: float | None) -> None:
            if recorder is not None:
                self._recordings.wait(recorder, timeout)
                self.tell_hangup()

        def pause(behavior: PauseBehavior) -> None:
            if recorder is not None:
                self._done(lambda: self._recordings.pause(recorder, behavior))

        def resume() -> None:
            if recorder is not None:
                self._done(lambda: self._recordings.resume(recorder))

        return BackgroundRecording(
            given.control_id,
            look=look,
            running=lambda: recorder is not None and self._recordings.running(recorder),
            stop=lambda: recorder.stop() if recorder is not None else None,
            pause=pause,
            resume=resume,
            wait=wait,
        )

    def stop_record_call(self, control_id: str | None = None) -> bool:
        """Ends a recording in the background, without an id the one begun last; whether there was one."""
        return self._verb(lambda: self._recordings.stop(control_id), False)

    def _result(self, recording: Recording, url: str, duration: float | None = None) -> RecordResult:
        return RecordResult(
            state=recording.state.value,
            end_reason=recording.end_reason.value if recording.end_reason else "",
            url=url,
            path=str(self._audio_path(recording)) if recording.file else "",
            duration=recording.duration if duration is None else duration,
            speech=tuple(recording.speech),
            terminator=recording.terminator,
            error=recording.error,
            recording_id=recording.recording_id,
            control_id=recording.control_id,
        )


def _unrecorded(params: RecordParams) -> RecordResult:
    return RecordResult("error", "hangup", error="the call had gone", control_id=params.control_id)
