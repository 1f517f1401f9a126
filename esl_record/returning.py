"""Calls that outlived a killed service: asked back over the switch's own event socket, and gone on with."""

import logging
import re
from collections.abc import Callable, Iterable

from esl_record.errors import CommandRefused, EslRecordError
from esl_record.esl.inbound import Inbound
from esl_record.esl.session import Session
from esl_record.live import LiveCall
from esl_record.recording.params import ParameterError
from esl_record.recording.recording import Recording

log = logging.getLogger(__name__)

PARKED = 60
"""Seconds a call that was asked back waits if this service dies too, before the switch hangs it up."""

_CALL_ID = re.compile(r"[\w-]{1,64}\Z", re.ASCII)
_PARK = "park"
_INLINE = "inline"


def ask_back(calls: Iterable[str], event_socket: tuple[str, int], password: str, listen: tuple[str, int]) -> list[str]:
    """Has every call of ``calls`` that is parked come to the service at ``listen``; gives their ids.

    One that does anything else is left to it: a transfer would cut off who talks in a bridge, and ends the call where
    the dialplan records it by now. Where the switch cannot be asked none is.
    """
    host, port = listen
    peer = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else host
    asked = []
    try:
        with Inbound(event_socket, password) as switch:
            # Without the pause the end of the old connection can end this park too.
            way = f"sleep:100,socket:{peer}:{port} async full,set:park_timeout={PARKED},park"
            for call_id in calls:
                # The id was read of a file, and an IPv6 address has colons the `socket` action would split at.
                if _CALL_ID.match(call_id) and ":" not in peer and _transferred(switch, call_id, way):
                    asked.append(call_id)
    except EslRecordError as error:
        log.warning("calls of a killed service that are parked cannot be asked back: %s", error)
    return asked


def _transferred(switch: Inbound, call_id: str, way: str) -> bool:
    """Whether the call was there, parked, and could be sent that way."""
    try:
        if switch.api(f"uuid_exists {call_id}").strip() != "true":
            return False
        if switch.api(f"uuid_getvar {call_id} current_application").strip() != _PARK:
            return False
        switch.api(f"uuid_transfer {call_id} '{way}' inline")
    except CommandRefused as error:
        log.info("call %s: not asked back: %s", call_id, error)
        return False
    return True


def go_on(live: LiveCall, left: Iterable[Recording], spare: Callable[[Recording], None]) -> None:
    """Goes on with the recordings of a call that has come back, to their end; ``spare`` is given what cannot be gone on
    with. The call then goes on in the dialplan, or is hung up, where it has none any more."""
    session, recorders = live.session, []
    for one in left:
        try:
            recorders.append(live.go_on(one))
        except ParameterError as error:
            log.error("%s: recording %s is completed without its call: %s", session.label, one.recording_id, error)
            spare(one)
    for recorder in recorders:
        live.wait(recorder)
    if was_asked_back(session):
        session.hangup()
    session.release()


def was_asked_back(session: Session) -> bool:
    """Whether the call is here for what an earlier run has left of it, and has no dialplan behind."""
    return session.data.get("Caller-Dialplan") == _INLINE
