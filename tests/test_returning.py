"""Calls of a killed service: which are asked back, and which are left to what they do."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack

import gevent
import numpy as np
import pytest
from gevent import socket

from esl_record.esl.channel import HELD
from esl_record.esl.link import Link
from esl_record.returning import LOOK, Look, Returning
from esl_record.standin.call import Call
from esl_record.standin.caller import Caller
from esl_record.standin.switch import Switch

LIMIT = 10.0
PASSWORD = "ClueCon"
NOBODY = "00000000-0000-4000-8000-000000000000"


class Bench:
    """A switch, the place where calls are to come back to, and a clock."""

    def __init__(self, switch: Switch, listening: socket.socket) -> None:
        self.switch = switch
        self.event_socket = switch.listen()
        self.listening = listening
        self.listen: tuple[str, int] = listening.getsockname()
        self.in_hand: set[str] = set()
        self.now = 1000.0
        self.held = ExitStack()
        self.links: list[gevent.Greenlet] = []

    def returning(self, host: str = "127.0.0.1", password: str = PASSWORD) -> Returning:
        listen = (host, self.listen[1])
        link = Link(self.event_socket, password)
        self.links.append(gevent.spawn(link.run))
        assert link.tried.wait(LIMIT)
        return Returning(link, listen, self.in_hand.__contains__, clock=lambda: self.now)

    def outlived(self, *behind: tuple[str, str]) -> Call:
        """A call whose service is not there; its dialplan goes on with this."""
        with socket.create_server(("127.0.0.1", 0)) as gone:
            return self.placed(gone.getsockname(), *behind)

    def placed(self, address: tuple[str, int], *behind: tuple[str, str]) -> Call:
        caller = Caller(np.zeros(0, np.int16), gives_up_after=600.0)
        return self.switch.call(address, "voicemail", caller, behind=[("set", f"{HELD}=true"), ("answer", ""), *behind])

    def does(self, call: Call, application: str) -> None:
        """Waits until the call does that."""
        with gevent.Timeout(LIMIT):
            while self.switch.api(f"uuid_getvar {call.uuid} current_application").strip() != application:
                gevent.sleep(0.005)

    def comes(self) -> None:
        """A call connects, takes the connection for served, and keeps it."""
        came, _ = self.listening.accept()
        self.held.enter_context(came)
        came.settimeout(LIMIT)
        came.sendall(b"connect\n\n")
        assert came.recv(1)


@pytest.fixture
def bench() -> Iterator[Bench]:
    switch = Switch(speed=20.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(LIMIT)
        bench = Bench(switch, listening)
        yield bench
        bench.held.close()
        gevent.killall(bench.links)
        switch.close()


def test_parked_calls_come_back(bench: Bench) -> None:
    calls = [bench.outlived(("park", "")) for _ in range(3)]
    for call in calls:
        bench.does(call, "park")
    ids = {call.uuid for call in calls}
    assert bench.returning().look(ids) == Look(live=ids, asked=ids)
    for _ in calls:
        bench.comes()


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost"])
def test_a_service_that_listens_everywhere_is_where_the_switch_is_asked_from(bench: Bench, host: str) -> None:
    call = bench.outlived(("park", ""))
    bench.does(call, "park")
    assert bench.returning(host).look([call.uuid]).asked == {call.uuid}
    bench.comes()


def test_without_an_address_for_the_socket_action_no_call_is_moved(bench: Bench) -> None:
    call = bench.outlived(("park", ""))
    bench.does(call, "park")
    assert bench.returning("::1").look([call.uuid]) == Look(live={call.uuid})


@pytest.mark.parametrize(("application", "argument"), [("playback", "silence_stream://-1"), ("bridge", "x/9196")])
def test_a_call_that_does_something_is_left_to_it(bench: Bench, application: str, argument: str) -> None:
    call = bench.outlived((application, argument))
    bench.does(call, application)
    assert bench.returning().look([call.uuid]) == Look(live={call.uuid})
    assert bench.switch.api(f"uuid_getvar {call.uuid} current_application").strip() == application
    assert call.alive


def test_a_call_its_dialplan_has_parked_after_it_was_handed_back_is_left_there(bench: Bench) -> None:
    call = bench.outlived(("unset", HELD), ("park", ""))
    bench.does(call, "park")
    assert bench.returning().look([call.uuid]) == Look(live={call.uuid})
    assert bench.switch.api(f"uuid_getvar {call.uuid} current_application").strip() == "park"


def test_a_call_that_parks_later_is_asked_back_then(bench: Bench) -> None:
    call = bench.outlived(("playback", "silence_stream://-1"), ("park", ""))
    bench.does(call, "playback")
    returning = bench.returning()
    assert not returning.look([call.uuid]).asked
    bench.switch.api(f"uuid_break {call.uuid}")
    bench.does(call, "park")
    assert returning.look([call.uuid]).asked == {call.uuid}
    bench.comes()


def test_a_call_whose_socket_nobody_serves_comes_back(bench: Bench) -> None:
    """It may just be on its way to this service: so it is looked at twice."""
    call = bench.placed(bench.listen)
    bench.comes()
    returning = bench.returning()
    for passed in (0.0, LOOK - 0.1):
        bench.now += passed
        assert returning.look([call.uuid]) == Look(live={call.uuid})
    bench.now += 0.1
    assert returning.look([call.uuid]) == Look(live={call.uuid}, asked={call.uuid})
    bench.comes()


def test_one_that_was_on_its_way_elsewhere_between_two_looks_has_a_new_time(bench: Bench) -> None:
    again = ("socket", f"127.0.0.1:{bench.listen[1]} async full")
    call = bench.placed(bench.listen, ("playback", "silence_stream://-1"), again)
    bench.comes()
    returning = bench.returning()
    returning.look([call.uuid])
    bench.held.pop_all().close()
    bench.does(call, "playback")
    bench.now += LOOK
    returning.look([call.uuid])
    bench.switch.api(f"uuid_break {call.uuid}")
    bench.comes()
    assert not returning.look([call.uuid]).asked


def test_a_call_in_hand_is_not_asked_after(bench: Bench) -> None:
    call = bench.placed(bench.listen)
    bench.comes()
    bench.in_hand.add(call.uuid)
    returning = bench.returning()
    for _ in range(2):
        assert returning.look([call.uuid]) == Look()
        bench.now += LOOK


@pytest.mark.parametrize(
    ("argument", "asked"),
    [
        ("127.0.0.1:{port}/voicemail async full", True),
        ("'127.0.0.1:{port}/python/greeter some text' async full", True),
        ("192.0.2.1:{port}|127.0.0.1:{port} async full", True),
        ("127.0.0.1:{port}|192.0.2.1:1 async full", True),
        ("127.0.0.1:{other}/voicemail async full", False),
        ("192.0.2.1:{port}|127.0.0.1:{other} async full", False),
    ],
)
def test_a_call_at_another_service_stays_there(bench: Bench, argument: str, asked: bool) -> None:
    """What counts is the peer it was connected with."""
    call = bench.placed(bench.listen)
    bench.comes()
    data = argument.format(port=bench.listen[1], other=bench.listen[1] - 1)
    call.channel.set("current_application_data", data, checked=False)
    returning = bench.returning()
    returning.look([call.uuid])
    bench.now += LOOK
    assert bool(returning.look([call.uuid]).asked) is asked


def test_a_call_at_the_same_port_of_another_machine_stays_there(bench: Bench) -> None:
    call = bench.placed(bench.listen)
    bench.comes()
    call.channel.set("socket_host", "192.0.2.1")
    call.channel.set("current_application_data", f"192.0.2.1:{bench.listen[1]} async full")
    returning = bench.returning()
    returning.look([call.uuid])
    bench.now += LOOK
    assert returning.look([call.uuid]) == Look(live={call.uuid})


def test_a_call_that_has_gone_keeps_no_other_from_coming_back(bench: Bench) -> None:
    call = bench.outlived(("park", ""))
    bench.does(call, "park")
    ids = [NOBODY, "x' inline\napi fsctl shutdown", "", call.uuid]
    assert bench.returning().look(ids) == Look(live={call.uuid}, ended={NOBODY}, asked={call.uuid})


@pytest.mark.parametrize(("port", "password"), [(1, PASSWORD), (0, "wrong")], ids=["address", "password"])
def test_a_switch_that_cannot_be_asked_is_told_of_once(
    bench: Bench, port: int, password: str, caplog: pytest.LogCaptureFixture
) -> None:
    call = bench.outlived(("park", ""))
    bench.event_socket = ("127.0.0.1", port or bench.event_socket[1])
    with caplog.at_level(logging.WARNING):
        returning = bench.returning(password=password)
        for _ in range(3):
            assert returning.look([call.uuid]) == Look()
    assert caplog.text.count("without it calls go on") == 1
