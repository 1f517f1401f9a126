"""The permanent link to a switch: comes back, tells of far ends, reaches calls without a connection, frees callers."""

import logging
from collections.abc import Iterator
from pathlib import Path

import gevent
import numpy as np
import pytest
from gevent import socket

from esl_record.errors import CallGone, CommandRefused, WireError
from esl_record.esl import wire
from esl_record.esl.inbound import SwitchUnreachable
from esl_record.esl.link import Link
from esl_record.standin.call import Call
from esl_record.standin.caller import Caller
from esl_record.standin.switch import Switch

LIMIT = 10.0


@pytest.fixture
def switch() -> Iterator[Switch]:
    switch = Switch(speed=20.0)
    yield switch
    switch.close()


@pytest.fixture
def link(switch: Switch) -> Iterator[Link]:
    link = Link(switch.listen(), "ClueCon")
    running = gevent.spawn(link.run)
    assert link.tried.wait(LIMIT)
    yield link
    running.kill()


def wait_for(call: Call, application: str) -> None:
    with gevent.Timeout(LIMIT):
        while (call.channel.get("current_application") or "") != application:
            gevent.sleep(0.005)


def placed(switch: Switch, *behind: tuple[str, str]) -> Call:
    """A call whose socket is refused, and that goes on with this."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = gone.getsockname()
    return switch.call(
        address, "x", Caller(np.zeros(0, np.int16), gives_up_after=600.0), behind=[("answer", ""), *behind]
    )


def test_a_call_it_reaches_can_be_tapped_and_its_end_is_told(switch: Switch, link: Link, tmp_path: Path) -> None:
    call = placed(switch, ("playback", "silence_stream://-1"))
    wait_for(call, "playback")
    linked = link.call(call.uuid, {})
    heard: list[str] = []
    linked.listen(lambda event: heard.append(event.name))
    assert linked.exists()
    assert (linked.leg_channels(), linked.leg_rate(), linked.on_hold()) == (1, "8000", False)
    linked.start_tap(f"{tmp_path}/a.raw", {"enable_file_write_buffering": "false"})
    linked.pause_tap(f"{tmp_path}/a.raw", mask=False)
    linked.resume_tap(f"{tmp_path}/a.raw", mask=False)
    linked.stop_tap(f"{tmp_path}/a.raw")
    with pytest.raises(CommandRefused, match="nothing can be played"):
        linked.playback("a.wav")
    linked.hangup()
    assert linked.over.wait(LIMIT)
    assert not linked.live
    assert heard == ["RECORD_STOP", "CHANNEL_HANGUP"]
    with pytest.raises(CallGone):
        linked.stop_tap("/x.raw")
    link.drop(linked)


def test_the_events_of_a_far_end_reach_who_listens_and_no_other(link: Link) -> None:
    heard: list[str] = []
    forget = link.listen_far("a", lambda event: heard.append(event.get("DTMF-Digit")))
    for other, digit in (("a", "1"), ("b", "2")):
        link._on_event(wire.Event({"Event-Name": "DTMF", "DTMF-Digit": digit, "Other-Leg-Unique-ID": other}))
    forget()
    forget()
    link._on_event(wire.Event({"Event-Name": "DTMF", "DTMF-Digit": "3", "Other-Leg-Unique-ID": "a"}))
    assert heard == ["1"]


def test_a_switch_that_is_not_there_is_told_of_once_and_found_later(
    switch: Switch, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esl_record.esl.link.FIRST_RETRY", 0.01)
    monkeypatch.setattr("esl_record.esl.link.LAST_RETRY", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    link = Link(address, "ClueCon")
    caplog.set_level(logging.INFO)
    running = gevent.spawn(link.run)
    assert link.tried.wait(LIMIT)
    assert not link.up
    with pytest.raises(SwitchUnreachable, match="is FreeSWITCH running"):
        link.api("status")
    switch.listen(address)
    with gevent.Timeout(LIMIT):
        while not link.up:
            gevent.sleep(0.01)
    assert link.api("status")
    running.kill()
    assert caplog.text.count("without it calls go on") == 1
    assert caplog.text.count("connected") >= 1


def test_a_caller_in_a_socket_nobody_serves_is_sent_on(switch: Switch, link: Link) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        call = switch.call(
            service.getsockname(),
            "x",
            Caller(np.zeros(0, np.int16), gives_up_after=600.0),
            behind=[("playback", "silence_stream://-1")],
        )
        connection, _ = service.accept()
        connection.close()
    with gevent.Timeout(LIMIT):
        # Too early it does nothing: the call has to be parked within the application.
        while call.channel.get("current_application") != "playback":
            link.free(call.uuid)
            gevent.sleep(0.05)


def test_a_tap_is_found_by_its_path_wherever_it_is(switch: Switch, link: Link, tmp_path: Path) -> None:
    call, other = (placed(switch, ("playback", "silence_stream://-1")) for _ in range(2))
    for one in (call, other):
        wait_for(one, "playback")
    path = str(tmp_path / "a.raw")
    assert link.find_tapped(path, call.uuid) is None
    link.call(other.uuid, {}).start_tap(path, {})
    for likely in (other.uuid, call.uuid, "gone"):
        found = link.find_tapped(path, likely)
        assert found is not None
        assert found.uuid == other.uuid
    assert link.find_tapped(path[:-1], other.uuid) is None


@pytest.mark.parametrize(
    "answer", ["[" * 100_000, "{", "[]", "5", '{"rows": 5}', '{"rows": [5]}', "-", '{"rows": {}}', "\ufffd"]
)
def test_a_list_of_channels_that_is_none_is_an_error_like_any_other(
    link: Link, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(link, "api", lambda line: answer)
    with pytest.raises(WireError, match="no list of channels"):
        link.channels()


@pytest.mark.parametrize("row", ["{}", '{"uuid": [[]]}', '{"uuid": ' + "[0" + ",0" * 400 + "]}"])
def test_a_list_that_would_hold_up_all_calls_is_not_parsed(
    link: Link, monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    listed = f'{{"rows": [{",".join([row] * (15_000_000 // (len(row) + 1)))}]}}'
    monkeypatch.setattr(link, "api", lambda line: listed)
    with pytest.raises(WireError, match="too long"):
        link.channels()


def test_a_list_of_thousands_of_channels_is_parsed(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    row = "{" + ",".join(f'"field{n}": "of a, channel"' for n in range(40)) + "}"
    monkeypatch.setattr(link, "api", lambda line: f'{{"rows": [{",".join([row] * 10_000)}]}}')
    assert len(link.channels()) == 10_000


def test_the_secret_of_a_channel_is_not_kept(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    dumped = "Unique-ID: u1\nvariable_esl_record_secret: 0123456789abcdef\nvariable_a: b\n"
    monkeypatch.setattr(link, "api", lambda line: dumped)
    assert dict(link.data("u1")) == {"Unique-ID": "u1", "variable_a": "b"}
