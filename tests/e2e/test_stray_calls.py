"""Calls whose connection ended before the service had taken it: their dialplan goes on. Those that are served stay."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import pytest
from gevent import socket
from gevent.event import Event as Flag
from phones import Dialled, Phone
from receivers import Endpoint, Post
from running import PATIENCE, RunningService
from test_control import NO_LIMITS

from esl_record.esl.inbound import Inbound
from esl_record.recording.machine import EndReason
from esl_record.standin import voice

pytestmark = pytest.mark.slow

FREED = 15.0
"""Seconds within which such a call is sent on."""

SENT_ON = "was in a socket nobody serves"


@pytest.fixture
def linked(phone: Phone, own_service: RunningService) -> RunningService:
    """A service that the switch's own event socket is open to."""
    own_service.settings["event_socket"] = "{}:{}".format(*phone.event_socket)
    phone.service = own_service
    return own_service


@contextmanager
def slamming(address: tuple[str, int]) -> Iterator[Flag]:
    """Takes one connection there and closes it without a word; the flag is set then."""
    slammed = Flag()

    def slam() -> None:
        listening.accept()[0].close()
        slammed.set()

    with socket.create_server(address) as listening:
        slamming = gevent.spawn(slam)
        yield slammed
        slamming.kill()


def is_in_socket(phone: Phone) -> bool:
    with Inbound(phone.event_socket, "ClueCon") as switch:
        return ",socket," in switch.api("show channels")


def test_a_call_that_was_left_before_the_start_goes_on(phone: Phone, linked: RunningService) -> None:
    with slamming(linked.address) as slammed:
        call = phone.dial(Dialled("nothing", patience=600.0))
        assert slammed.wait(PATIENCE)
    linked.wait(lambda: is_in_socket(phone), "the call to be listed")
    linked.start()
    started = time.monotonic()
    ended = call.end()
    assert time.monotonic() - started < FREED
    assert linked.log.count(SENT_ON) == 1
    # The stand-in's dialplan has come to its end, a real one's has another action.
    assert ended.went_on
    assert ended.recordings == []


def test_a_call_that_is_left_while_the_service_runs_goes_on(phone: Phone, linked: RunningService) -> None:
    linked.start()
    # Another address of this machine: the port is the service's, and who answers there is not.
    at = ("127.0.0.2", linked.address[1])
    with slamming(at) as slammed:
        call = phone.dial(Dialled("nothing", at=at, patience=600.0))
        assert slammed.wait(PATIENCE)
    left = time.monotonic()
    ended = call.end()
    assert time.monotonic() - left < FREED
    assert linked.log.count(SENT_ON) == 1
    assert ended.went_on


def test_a_served_call_stays_however_long_its_document_takes(phone: Phone, linked: RunningService) -> None:
    """It does nothing but wait in its `socket`, connected, as long as a server of documents takes to answer."""
    takes = 9.0

    def answering(sock: socket.socket, post: Post) -> bool:
        gevent.sleep(takes)
        body = b'{"version": "1.0.0", "sections": {"main": ["answer", {"record": {"max_length": 1}}, "hangup"]}}'
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        sock.sendall(head + body)
        return True

    endpoint = Endpoint(answering)
    linked.settings["document_timeout"] = 20
    linked.start()
    call = phone.dial(Dialled("", voice.say(90.0), url=endpoint.url, patience=600.0))
    linked.wait(lambda: is_in_socket(phone), "the call")
    ended = call.end()
    assert SENT_ON not in linked.log
    assert not ended.went_on
    assert [one.end_reason for _, one in ended.recordings] == [EndReason.MAX_LENGTH]


def test_calls_that_are_just_connecting_stay(phone: Phone, linked: RunningService) -> None:
    """They wait for a service that stands still for a while, with its connections open."""
    linked.start()
    document = linked.document("brief", "answer", {"record": {**NO_LIMITS, "max_length": 1}}, "hangup")
    assert linked.process is not None
    linked.wait(lambda: "connected" in linked.log, "the link")
    calls = []
    for pause in (0.5, 2.5):
        linked.process.send_signal(signal.SIGSTOP)
        calls += [phone.dial(Dialled(document, voice.say(30.0), patience=600.0)) for _ in range(3)]
        gevent.sleep(pause)
        linked.process.send_signal(signal.SIGCONT)
    for call in calls:
        ended = call.end()
        assert not ended.went_on
        assert [one.end_reason for _, one in ended.recordings] == [EndReason.MAX_LENGTH]
    assert SENT_ON not in linked.log


def test_a_service_leaves_the_calls_of_another_port_alone(
    phone: Phone, linked: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Both ask the same switch; the other one starts later, and sends its own call on."""
    other = RunningService(tmp_path_factory.mktemp("other"))
    other.settings["event_socket"] = linked.settings["event_socket"]
    with slamming(other.address) as slammed:
        phone.service = other
        call = phone.dial(Dialled("nothing", patience=600.0))
        assert slammed.wait(PATIENCE)
    linked.start()
    # Two looks, and some more.
    gevent.sleep(6.0)
    assert is_in_socket(phone)
    assert SENT_ON not in linked.log
    other.start()
    try:
        assert call.end().went_on
        assert other.log.count(SENT_ON) == 1
        assert SENT_ON not in linked.log
    finally:
        other.kill()
