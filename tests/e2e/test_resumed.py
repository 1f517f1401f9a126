"""What a call does behind a recording that outlived its service: its document goes on, or its handler is told."""

from collections.abc import Iterator
from contextlib import closing, suppress

import gevent
import pytest
from gevent import socket
from gevent.server import StreamServer
from phones import Dialled, Phone, StandInPhone
from running import PATIENCE, RunningService, free_port
from test_control import NO_LIMITS, live

from esl_record.recording.machine import EndReason, State
from esl_record.standin import voice
from esl_record.standin.caller import Caller
from esl_record.standin.switch import Switch

pytestmark = pytest.mark.slow


@pytest.fixture
def taken(phone: Phone, own_service: RunningService) -> RunningService:
    host, port = phone.event_socket
    own_service.settings["event_socket"] = f"{host}:{port}"
    phone.service = own_service
    return own_service


def killed_and_back(service: RunningService) -> None:
    service.kill()
    service.process = None
    service.start()
    service.wait(lambda: live(service), "the call to come back")


def recorded(service: RunningService, control_id: str) -> bool:
    return any(one["control_id"] == control_id and one["duration"] > 0.5 for one in live(service))


def test_a_document_goes_on(phone: Phone, taken: RunningService) -> None:
    """In a section it had called, with its variables, and while another recording runs beside it."""
    taken.start()
    take = {"execute": {"dest": "take", "params": {"name": "second"}}}
    document = taken.document(
        "going",
        "answer",
        {"record_call": {"control_id": "whole"}},
        {"set": {"count": 1}},
        {"execute": {"dest": "take", "params": {"name": "first"}, "on_return": [{"set": {"count": "${count + 1}"}}]}},
        {"cond": [{"when": "count == 2", "then": [take]}]},
        "hangup",
        take=[{"record": {**NO_LIMITS, "control_id": "${params.name}"}}, {"return": "${record_result}"}],
    )
    call = phone.dial(Dialled(document, voice.say(90.0), parked=True))
    for name in ("first", "second"):
        taken.wait(lambda name=name: recorded(taken, name), f"the {name}")
        killed_and_back(taken)
        taken.wait(lambda name=name: recorded(taken, name), f"the {name} to go on")
        assert taken.command("calling.record.stop", live(taken)[0]["call_id"], control_id=name).status_code == 200
    ended = call.end()
    made = {recording.control_id: recording for _, recording in ended.recordings}
    assert {name: (one.state, one.end_reason) for name, one in made.items()} == {
        "whole": (State.FINISHED, EndReason.HANGUP),
        "first": (State.FINISHED, EndReason.STOP),
        "second": (State.FINISHED, EndReason.STOP),
    }
    assert made["whole"].duration > made["first"].duration + made["second"].duration
    assert not ended.went_on
    assert ended.variables["record_result"] == "success"
    taken.wait(lambda: not list((taken.data / "calls").iterdir()), "its checkpoint to be removed")


def test_a_handler_is_told(phone: Phone, taken: RunningService) -> None:
    taken.start()
    # What is pressed while nobody is there is lost.
    digits = tuple((at, "#") for at in (10.0, 20.0, 40.0, 60.0))
    call = phone.dial(Dialled("python/voicemail", voice.say(90.0), digits=digits, parked=True))
    taken.wait(lambda: any(one["duration"] > 0.5 for one in live(taken)), "the message")
    killed_and_back(taken)
    ended = call.end()
    assert (ended.recording.end_reason, ended.recording.terminator) == (EndReason.TERMINATOR, "#")
    assert ended.variables["voicemail_id"] == ended.recording.recording_id
    assert not ended.went_on


class Relay:
    """Carries event sockets to ``target``, until it is cut."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._ends: list[socket.socket] = []
        self._server = StreamServer(("127.0.0.1", 0), self._carry)
        self._server.start()
        self.address = ("127.0.0.1", self._server.server_port)

    def cut(self) -> None:
        """Breaks what is connected; the next one is carried again."""
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def close(self) -> None:
        self.cut()
        self._server.stop()

    def _carry(self, near: socket.socket, _: object) -> None:
        far = socket.create_connection(self._target)
        self._ends += [near, far]
        with near, far:
            gevent.joinall([gevent.spawn(_pour, near, far), gevent.spawn(_pour, far, near)])


def _pour(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def alone(switch: str, taken: RunningService) -> Iterator[tuple[Switch, RunningService]]:
    """A stand-in whose dialplan the test has for itself."""
    if switch != "standin":
        pytest.skip("what is done to the dialplan is done to the stand-in's")
    with closing(Switch(speed=StandInPhone.SPEED)) as exchange:
        taken.settings["event_socket"] = "{}:{}".format(*exchange.listen())
        taken.start()
        yield exchange, taken


MESSAGE = ("answer", {"record": {**NO_LIMITS, "control_id": "r", "max_length": 20}}, {"set": {"a": 1}}, "hangup")


def test_a_broken_event_socket_breaks_no_recording(alone: tuple[Switch, RunningService]) -> None:
    """The dialplan calls again, while the recording is followed yet for the connection that is gone."""
    exchange, service = alone
    document = service.document("message", *MESSAGE)
    relay = Relay(service.address)
    host, port = relay.address
    again = [("sleep", "200"), ("socket", f"{host}:{port}/{document} async full")]
    caller = Caller(voice.say(60.0), gives_up_after=60.0)
    call = exchange.call(relay.address, document, caller, behind=again * 5)
    for _ in range(2):
        service.wait(lambda: recorded(service, "r"), "the recording")
        seen = service.log.count("goes on")
        relay.cut()
        service.wait(lambda seen=seen: service.log.count("goes on") > seen, "it to go on")
    call.wait(PATIENCE)
    relay.close()
    ((_, recording),) = service.recordings(call.uuid)
    assert (recording.state, recording.end_reason, recording.duration) == (State.FINISHED, EndReason.MAX_LENGTH, 20.0)
    assert call.variables["record_result"] == "success"
    assert not call.went_on


def test_an_inline_dialplan_of_somebody_else_runs_its_document(alone: tuple[Switch, RunningService]) -> None:
    exchange, service = alone
    document = service.document("short", "answer", {"record": {**NO_LIMITS, "max_length": 1}}, "hangup")
    call = exchange.call(("127.0.0.1", free_port()), "x", Caller(voice.say(30.0)), behind=[("park", "")])
    host, port = service.address
    service.wait(lambda: exchange.api(f"uuid_getvar {call.uuid} current_application") == "park", "the park")
    exchange.api(f"uuid_transfer {call.uuid} 'answer,socket:{host}:{port}/{document} async full' inline")
    call.wait(PATIENCE)
    assert [recording.duration for _, recording in service.recordings(call.uuid)] == [1.0]


def test_a_call_that_was_asked_back_ends_with_the_service(alone: tuple[Switch, RunningService]) -> None:
    """It has no dialplan to go back to, and would wait in silence."""
    exchange, service = alone
    service.settings["drain_timeout"] = 0
    document = service.document("message", *MESSAGE)
    call = exchange.call(service.address, document, Caller(voice.say(60.0)), behind=[("park", "")])
    service.wait(lambda: recorded(service, "r"), "the recording")
    killed_and_back(service)
    service.wait(lambda: "goes on" in service.log, "it to go on")
    assert service.stop() == 0
    service.process = None
    call.wait(PATIENCE)
    assert call.variables["hangup_cause"] == "NORMAL_CLEARING"
    assert [recording.end_reason for _, recording in service.recordings(call.uuid)] == [EndReason.STOP]
