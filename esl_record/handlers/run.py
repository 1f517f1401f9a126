"""Runs a handler so that nothing it does reaches another call."""

import logging
import traceback
from collections.abc import Callable
from pathlib import Path

import gevent

from esl_record.errors import CallGone
from esl_record.esl.causes import CAUSES
from esl_record.esl.session import Session
from esl_record.handlers.loader import Called, Handler
from esl_record.handlers.session import CallSession
from esl_record.recording.recording import Recording
from esl_record.swml.recordings import CallRecordings

log = logging.getLogger(__name__)

WIND_UP = 600.0
"""Seconds a handler may go on, with an upload for example, when its call has gone."""

_FRAMES = 20
_LAST_BREATH = 1.0


def run(
    handler: Handler,
    called: Called,
    session: Session,
    recordings: CallRecordings,
    audio_path: Callable[[Recording], Path],
) -> None:
    """Runs ``handler(session, args)`` to its end. One that fails is logged, and its call is hung up.

    ``audio_path`` is where the audio of a recording lies. Raises CallGone, CommandTimeout where the call has gone
    before it begins.
    """
    call = CallSession(session, recordings, audio_path)
    call.begin()
    # In a greenlet of its own: a gevent.Timeout it leaves behind would strike at whatever comes after it.
    task = gevent.spawn(_run, handler, called, session, call)
    try:
        gevent.wait([task, session.over], count=1)
        task.join(WIND_UP)
        if not task.ready():
            log.error("%s: handler %s goes on %g s after the call: ended", session.label, called.module, WIND_UP)
    finally:
        task.kill(timeout=_LAST_BREATH)
        call.end()


def _run(handler: Handler, called: Called, session: Session, call: CallSession) -> None:
    try:
        try:
            handler(call, called.args)
        finally:
            call.tell_hangup()
    except (CallGone, SystemExit, gevent.GreenletExit) as ended:
        log.debug("%s: handler %s: %s", session.label, called.module, session.pressed.redact(repr(ended)))
    except BaseException as error:
        # Line by line: what is in the text of an error may come from the caller.
        told = "".join(traceback.format_exception(error, limit=-_FRAMES))
        for line in told.splitlines():
            log.error("%s: handler %s: %s", session.label, called.module, session.pressed.redact(line))
        call.fail("relay_script_method_execute_failed", CAUSES["error"])
