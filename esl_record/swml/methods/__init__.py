"""The methods of SWML this service runs, one module a family; adding one is a line here."""

from typing import Any

from esl_record.swml.methods.calls import ANSWER, HANGUP, SEND_DIGITS, SLEEP
from esl_record.swml.methods.connect import CONNECT
from esl_record.swml.methods.flow import COND, EXECUTE, GOTO, LABEL, RETURN, SWITCH, TRANSFER
from esl_record.swml.methods.parameters import Method
from esl_record.swml.methods.play import PLAY
from esl_record.swml.methods.prompt import PROMPT
from esl_record.swml.methods.record import RECORD, RECORD_CALL, STOP_RECORD_CALL
from esl_record.swml.methods.request import REQUEST
from esl_record.swml.methods.variables import SET, UNSET

METHODS: dict[str, Method[Any]] = {
    method.name: method
    for method in (
        *(ANSWER, HANGUP, SLEEP, SEND_DIGITS, PLAY, PROMPT),
        *(RECORD, RECORD_CALL, STOP_RECORD_CALL),
        *(SET, UNSET, REQUEST, CONNECT),
        *(LABEL, GOTO, COND, SWITCH, EXECUTE, RETURN, TRANSFER),
    )
} | {"stop_call_record": STOP_RECORD_CALL}
"""By name; the reference uses two for one of them."""

FOREIGN = frozenset(
    (
        *("ai", "ai_sidecar", "amazon_bedrock", "denoise", "stop_denoise", "detect_machine", "enter_queue"),
        *("join_conference", "join_room", "live_transcribe", "live_translate", "pay", "receive_fax", "send_fax"),
        *("send_sms", "sip_refer", "tap", "stop_tap", "user_event"),
    )
)
"""Methods of SWML a recorder has no business with."""
