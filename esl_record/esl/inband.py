"""In-band DTMF: the switch listens for tones in the party's audio and reports them as DTMF events."""

import logging
from enum import StrEnum

import gevent
from gevent.event import Event as Flag

from esl_record.errors import CallGone, CommandRefused, CommandTimeout
from esl_record.esl.session import Session
from esl_record.esl.unanswered import await_answer

log = logging.getLogger(__name__)


class InbandDtmf(StrEnum):
    """Which of the switch's detectors runs."""

    OFF = "off"
    START_DTMF = "start_dtmf"
    SPANDSP = "spandsp"


VARIABLE = "esl_record_inband_dtmf"
"""Channel variable: what applies to its call instead of the setting."""

RUNNING = "esl_record_inband_dtmf_running"
"""Channel variable: `true` once a detector has been started. It runs until the call ends."""

_DETECTORS = {
    InbandDtmf.START_DTMF: ("start_dtmf", "mod_dptools"),
    InbandDtmf.SPANDSP: ("spandsp_start_dtmf", "mod_spandsp"),
}
"""Application and module of each."""


def detect_inband(session: Session, setting: InbandDtmf) -> None:
    """Start the detector that the call's variable, or else ``setting``, names: now, or at the answer.

    Never raises: a call without its digits is better than none.
    """
    detector = _chosen(session, setting)
    if detector is InbandDtmf.OFF or f"variable_{RUNNING}" in session.data:
        return
    if session.answered:
        _start(session, detector)
    else:
        started = Flag()
        session.at_answer.append(started)
        gevent.spawn(_start_at_answer, session, detector, started)


def _chosen(session: Session, setting: InbandDtmf) -> InbandDtmf:
    value = session.data.get(f"variable_{VARIABLE}", "")
    try:
        return InbandDtmf(value) if value else setting
    except ValueError:
        known = ", ".join(InbandDtmf)
        log.warning("%s: %s = %r: ignored; known are %s", session.label, VARIABLE, value[:80], known)
        return setting


def _start_at_answer(session: Session, detector: InbandDtmf, started: Flag) -> None:
    try:
        await_answer(session, Flag())
        _start(session, detector)
    except CallGone as error:
        log.debug("%s: no in-band DTMF: %s", session.label, error)
    finally:
        started.set()


def _start(session: Session, detector: InbandDtmf) -> None:
    application, module = _DETECTORS[detector]
    try:
        # An application that the switch does not know hangs the call up.
        if session.api(f"module_exists {module}").strip() != "true":
            log.error("%s: no in-band DTMF: the switch has not loaded %s", session.label, module)
            return
        session.execute(application, timeout=session.timeout)
        session.set_variable(RUNNING, "true")
    except (CallGone, CommandRefused, CommandTimeout) as error:
        log.warning("%s: no in-band DTMF: %s", session.label, error)
