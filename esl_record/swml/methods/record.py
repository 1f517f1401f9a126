"""record: in the foreground; what came of it is in ``record_url`` and ``record_result``."""

from typing import Any

from esl_record.errors import DocumentError
from esl_record.recording.machine import State
from esl_record.recording.params import RecordParams
from esl_record.swml.call import Call
from esl_record.swml.methods.parameters import mapping


def record(call: Call, params: Any) -> None:
    """Records until something ends it.

    Raises CallGone after a recording the caller ended by hanging up, DocumentError where not a sample could be
    recorded of a call that lives.
    """
    given = RecordParams.of("record", mapping("record", params))
    recording, url = call.run_recorder(given)
    call.publish(
        record_url=url,
        record_result="success" if recording.succeeded else "failed",
    )
    if recording.state is State.ERROR and not url and call.session.live:
        # The caller would talk to nobody: the dialplan may know of another way to take the message.
        raise DocumentError("relay_script_method_execute_failed", f"record: {recording.error}")
    call.session.raise_if_disconnected()
