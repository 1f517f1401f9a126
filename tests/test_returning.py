"""Calls of a killed service: which are asked back, and which are left to what they do."""

import logging
from collections.abc import Iterator

import gevent
import numpy as np
import pytest
from gevent import socket

from esl_record.returning import ask_back
from esl_record.standin.call import Call
from esl_record.standin.caller import Caller
from esl_record.standin.switch import Switch

LIMIT = 10.0
PASSWORD = "ClueCon"


@pytest.fixture
def switch() -> Iterator[Switch]:
    switch = Switch(speed=20.0)
    yield switch
    switch.close()


@pytest.fixture
def service() -> Iterator[socket.socket]:
    """Where calls are to come back to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(LIMIT)
        yield listening


def outlived(switch: Switch, application: str, argument: str = "") -> Call:
    """A call whose service is not there; its dialplan goes on with this."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = gone.getsockname()
    caller = Caller(np.zeros(0, np.int16), gives_up_after=600.0)
    call = switch.call(address, "voicemail", caller, behind=[("answer", ""), (application, argument)])
    with gevent.Timeout(LIMIT):
        while switch.api(f"uuid_getvar {call.uuid} current_application").strip() != application:
            gevent.sleep(0.005)
    return call


def test_a_parked_call_comes_back(switch: Switch, service: socket.socket) -> None:
    calls = [outlived(switch, "park") for _ in range(3)]
    asked = ask_back([call.uuid for call in calls], switch.listen(), PASSWORD, service.getsockname())
    assert asked == [call.uuid for call in calls]
    for _ in calls:
        service.accept()[0].close()


def test_a_service_that_listens_everywhere_is_beside_the_switch(switch: Switch, service: socket.socket) -> None:
    call = outlived(switch, "park")
    assert ask_back([call.uuid], switch.listen(), PASSWORD, ("0.0.0.0", service.getsockname()[1])) == [call.uuid]
    service.accept()[0].close()


@pytest.mark.parametrize(("application", "argument"), [("playback", "silence_stream://-1"), ("bridge", "x/9196")])
def test_a_call_that_does_something_is_left_to_it(
    switch: Switch, service: socket.socket, application: str, argument: str
) -> None:
    call = outlived(switch, application, argument)
    assert ask_back([call.uuid], switch.listen(), PASSWORD, service.getsockname()) == []
    assert switch.api(f"uuid_getvar {call.uuid} current_application").strip() == application
    assert call.alive


def test_a_call_that_has_gone_keeps_no_other_from_coming_back(switch: Switch, service: socket.socket) -> None:
    call = outlived(switch, "park")
    ids = ["00000000-0000-4000-8000-000000000000", "x' inline\napi fsctl shutdown", "", call.uuid]
    assert ask_back(ids, switch.listen(), PASSWORD, service.getsockname()) == [call.uuid]


@pytest.mark.parametrize("password", ["wrong", PASSWORD])
def test_a_switch_that_cannot_be_asked_is_told_of(
    switch: Switch, service: socket.socket, password: str, caplog: pytest.LogCaptureFixture
) -> None:
    call = outlived(switch, "park")
    address = switch.listen() if password == "wrong" else ("127.0.0.1", 1)
    with caplog.at_level(logging.WARNING):
        assert ask_back([call.uuid], address, password, service.getsockname()) == []
    assert "cannot be asked back" in caplog.text
