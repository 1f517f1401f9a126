"""In-band DTMF: when its detector starts, which one it is, and what happens where it cannot start."""

import logging
from collections.abc import Callable
from typing import cast

import gevent
import pytest
from gevent.event import Event as Flag

from esl_record.errors import CallGone, CommandRefused, CommandTimeout
from esl_record.esl.inband import InbandDtmf, detect_inband
from esl_record.esl.session import Session
from esl_record.esl.wire import Event

LIMIT = 5.0


class FakeSession:
    """Keeps what it was told; ``failure`` is raised by the application."""

    label, timeout = "call c1", 5.0

    def __init__(self, *, answered: bool = True, modules: str = "true", **variables: str) -> None:
        self.data = {f"variable_{name}": value for name, value in variables.items()}
        self.answered = answered
        self.hangup_cause: str | None = None
        self.over = Flag()
        self.at_answer: list[Flag] = []
        self.told: list[str] = []
        self.failure: Exception | None = None
        self._modules = modules
        self._listeners: list[Callable[[Event], None]] = []

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def raise_if_disconnected(self) -> None:
        if self.hangup_cause is not None:
            raise CallGone("call c1: gone")

    def api(self, line: str) -> str:
        self.told.append(line)
        return self._modules

    def execute(self, application: str, *, timeout: float) -> None:
        self.told.append(application)
        if self.failure is not None:
            raise self.failure

    def set_variable(self, name: str, value: str) -> None:
        self.told.append(f"{name}={value}")

    def happens(self, name: str) -> None:
        for listener in tuple(self._listeners):
            listener(Event({"Event-Name": name}))


def started(session: FakeSession, setting: InbandDtmf = InbandDtmf.START_DTMF) -> list[str]:
    """What the switch is told."""
    detect_inband(cast(Session, session), setting)
    gevent.idle()
    return session.told


RUNNING = "esl_record_inband_dtmf_running=true"
START_DTMF = ["module_exists mod_dptools", "start_dtmf", RUNNING]
SPANDSP = ["module_exists mod_spandsp", "spandsp_start_dtmf", RUNNING]


@pytest.mark.parametrize(
    ("setting", "variable", "told"),
    [
        ("off", "", []),
        ("start_dtmf", "", START_DTMF),
        ("spandsp", "", SPANDSP),
        ("off", "spandsp", SPANDSP),
        ("spandsp", "start_dtmf", START_DTMF),
        ("spandsp", "off", []),
    ],
)
def test_the_calls_variable_comes_before_the_setting(setting: str, variable: str, told: list[str]) -> None:
    assert started(FakeSession(esl_record_inband_dtmf=variable), InbandDtmf(setting)) == told


def test_an_unknown_detector_is_named_and_the_setting_applies(caplog: pytest.LogCaptureFixture) -> None:
    assert started(FakeSession(esl_record_inband_dtmf="rfc2833")) == START_DTMF
    assert "esl_record_inband_dtmf = 'rfc2833': ignored; known are off, start_dtmf, spandsp" in caplog.text


def test_a_detector_that_runs_is_not_started_again() -> None:
    assert started(FakeSession(esl_record_inband_dtmf_running="true")) == []


def test_an_unanswered_call_has_it_from_the_answer_on() -> None:
    session = FakeSession(answered=False)
    assert started(session) == []
    session.happens("CHANNEL_PROGRESS_MEDIA")
    gevent.idle()
    assert session.told == []
    assert not session.at_answer[0].is_set()
    session.answered = True
    session.happens("CHANNEL_ANSWER")
    assert session.at_answer[0].wait(LIMIT)
    assert session.told == START_DTMF


def test_a_call_that_is_never_answered_has_none() -> None:
    session = FakeSession(answered=False)
    started(session)
    session.hangup_cause = "ORIGINATOR_CANCEL"
    session.over.set()
    assert session.at_answer[0].wait(LIMIT)
    assert session.told == []


@pytest.mark.parametrize("module", ["false", "-ERR"])
def test_an_application_the_switch_does_not_have_is_never_run(module: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert started(FakeSession(modules=module), InbandDtmf.SPANDSP) == SPANDSP[:1]
    assert [record.getMessage() for record in caplog.records] == [
        "call c1: no in-band DTMF: the switch has not loaded mod_spandsp"
    ]


@pytest.mark.parametrize("failure", [CommandRefused("-ERR no"), CommandTimeout("late"), CallGone("gone")])
def test_one_that_fails_leaves_the_call_alone(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    session = FakeSession()
    session.failure = failure
    assert started(session) == START_DTMF[:2]
    assert str(failure) in caplog.text
