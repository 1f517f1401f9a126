"""record, record_call, stop_record_call: in the foreground, in the background, and the end of that."""

from esl_record.errors import DocumentError
from esl_record.recording.machine import State
from esl_record.recording.params import Direction, RecordParams, Seconds
from esl_record.recording.recording import Recording
from esl_record.swml.call import Call
from esl_record.swml.methods.parameters import Method, Parameters


class ForegroundParams(RecordParams, Parameters):
    """Those of every recording."""


class RecordCallParams(RecordParams, Parameters):
    """As ``record``, with the defaults of a recording that only its end of call, or a stop, is to end."""

    direction: Direction = Direction.BOTH
    terminators: str = ""
    initial_timeout: Seconds = 0.0
    end_silence_timeout: Seconds = 0.0


class StopRecordCallParams(Parameters):
    """Without a ``control_id`` the background recording started last is meant."""

    control_id: str | None = None


def _record(call: Call, given: RecordParams) -> None:
    """Records until something ends it; what came of it is in ``record_url`` and ``record_result``.

    Raises CallGone after a recording the caller ended by hanging up, DocumentError where not a sample could be
    recorded of a call that lives.
    """
    if not given.early_media:
        call.session.answer()
    _recorded(call, *call.recordings.record(given))


def _record_again(call: Call, given: RecordParams) -> None:
    ended = call.recordings.ended(given.control_id)
    if ended is None:
        _record(call, given)
    else:
        _recorded(call, *ended)


def _recorded(call: Call, recording: Recording, url: str) -> None:
    call.publish(
        record_url=url,
        record_result="success" if recording.succeeded else "failed",
    )
    if recording.state is State.ERROR and not url and call.session.live:
        # The caller would talk to nobody: the dialplan may know of another way to take the message.
        raise DocumentError("relay_script_method_execute_failed", f"record: {recording.error}")
    call.session.raise_if_disconnected()


def _record_call(call: Call, given: RecordCallParams) -> None:
    _started(call, given, call.recordings.start(given))


def _record_call_again(call: Call, given: RecordCallParams) -> None:
    url = call.recordings.begun(given.control_id)
    _started(call, given, call.recordings.start(given) if url is None else url)


def _started(call: Call, given: RecordCallParams, url: str) -> None:
    call.publish(
        record_control_id=given.control_id,
        record_call_url=url,
        record_call_result="success" if url else "failed",
    )


def _stop_record_call(call: Call, given: StopRecordCallParams) -> None:
    stopped = call.recordings.stop(given.control_id)
    call.publish(stop_record_call_result="success" if stopped else "failed")


RECORD = Method("record", ForegroundParams, _record, waits=True, again=_record_again)
RECORD_CALL = Method("record_call", RecordCallParams, _record_call, waits=True, again=_record_call_again)
STOP_RECORD_CALL = Method("stop_record_call", StopRecordCallParams, _stop_record_call, waits=True)
