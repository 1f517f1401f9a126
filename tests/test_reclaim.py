"""Calls without an event socket of their own: which are sent on to their dialplan, and which are recorded where they
are."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import pytest
import soundfile
from gevent import socket
from numpy.typing import NDArray
from test_wiring import LIMIT, SPEED, recordings, until

from esl_record.config import Settings
from esl_record.esl.admission import Admission
from esl_record.esl.channel import HELD
from esl_record.esl.link import Link
from esl_record.esl.server import Server
from esl_record.live import LiveCall
from esl_record.recording.machine import EndReason, PauseCause, State
from esl_record.recording.params import RecordParams
from esl_record.recording.recording import Party, Recording
from esl_record.recording.storage import Storage
from esl_record.recording.tap import tap_variables
from esl_record.returning import LOOK, Returning
from esl_record.service import Service
from esl_record.standin.call import Call
from esl_record.standin.caller import Caller
from esl_record.standin.parties import ECHO
from esl_record.standin.switch import Switch

BEHIND = ("playback", "silence_stream://-1")
"""The next action of the dialplan."""


@pytest.fixture
def switch() -> Iterator[Switch]:
    switch = Switch(speed=SPEED)
    yield switch
    switch.close()


# ---- callers in a socket nobody serves


class Strays:
    """A switch, the address its calls are sent to, and who looks for those that nobody serves there."""

    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        self.held = ExitStack()
        self.listening = self.held.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.listening.settimeout(LIMIT)
        self.served: set[str] = set()
        self.settle: Callable[[], None] = lambda: None
        self.now = 1000.0
        link = Link(switch.listen(), "ClueCon")
        self._linking = gevent.spawn(link.run)
        assert link.tried.wait(LIMIT)
        self.returning = Returning(
            link,
            self.listening.getsockname(),
            self.served.__contains__,
            self._settles,
            clock=lambda: self.now,
        )

    def _settles(self) -> None:
        self.settle()

    def placed(self, *before: tuple[str, str], address: tuple[str, int] | None = None) -> Call:
        """A call that is in its `socket`, connected."""
        caller = Caller(np.zeros(0, np.int16), gives_up_after=600.0)
        to = address or self.listening.getsockname()
        call = self.switch.call(to, "x", caller, before=before, behind=[BEHIND])
        if address is None:
            self.connection, _ = self.listening.accept()
            self.held.enter_context(self.connection)
        does(call, "socket")
        return call

    def stray(self, *before: tuple[str, str]) -> Call:
        """A call whose connection ended before it was taken."""
        call = self.placed(*before)
        self.connection.close()
        return call

    def look(self, *spared: str) -> bool:
        return self.returning.free_stray(spared)

    def looks(self, *spared: str) -> bool:
        """Looks twice, as far apart as it takes."""
        self.look(*spared)
        self.now += LOOK
        return self.look(*spared)

    def close(self) -> None:
        self.held.close()
        self._linking.kill()


def does(call: Call, application: str) -> None:
    until(lambda: call.channel.get("current_application") == application, application)


def is_left_alone(call: Call) -> bool:
    gevent.sleep(0.05)
    return call.channel.get("current_application") == "socket"


@pytest.fixture
def strays(switch: Switch) -> Iterator[Strays]:
    strays = Strays(switch)
    yield strays
    strays.close()


def test_a_stray_call_is_sent_on_at_the_second_look(strays: Strays, caplog: pytest.LogCaptureFixture) -> None:
    call = strays.stray()
    assert strays.look()
    strays.now += LOOK - 0.1
    assert strays.look()
    assert is_left_alone(call)
    strays.now += 0.1
    assert not strays.look()
    does(call, BEHIND[0])
    assert f"call {call.uuid} was in a socket nobody serves" in caplog.text


def test_several_are_sent_on_at_once(strays: Strays) -> None:
    calls = [strays.stray() for _ in range(3)]
    strays.looks()
    for call in calls:
        does(call, BEHIND[0])


def test_without_strays_there_is_nothing_to_look_at_again(strays: Strays) -> None:
    assert not strays.look()


def test_a_served_call_is_left_alone(strays: Strays) -> None:
    call = strays.placed()
    strays.served.add(call.uuid)
    assert not strays.looks()
    assert is_left_alone(call)


def test_a_call_that_was_taken_between_two_looks_is_left_alone(strays: Strays) -> None:
    call = strays.placed()
    assert strays.look()
    strays.served.add(call.uuid)
    strays.now += LOOK
    assert not strays.look()
    assert is_left_alone(call)


def test_a_call_that_is_just_connecting_is_waited_for(strays: Strays) -> None:
    """Its connection is open, and has not said yet whose it is."""
    call = strays.placed()
    strays.settle = lambda: strays.served.add(call.uuid)
    assert not strays.looks()
    assert is_left_alone(call)


def test_one_that_comes_a_second_time_has_a_new_time(strays: Strays) -> None:
    call = strays.placed()
    strays.look()
    strays.served.add(call.uuid)
    strays.now += LOOK
    strays.look()
    strays.served.clear()
    assert strays.look()
    assert is_left_alone(call)


def test_what_comes_back_another_way_is_spared(strays: Strays) -> None:
    call = strays.stray()
    assert not strays.looks(call.uuid)
    assert is_left_alone(call)


def test_a_call_that_a_service_records_is_left_alone(strays: Strays) -> None:
    """One that has left the port, and waits for its calls to end."""
    call = strays.placed(("set", f"{HELD}=true"))
    assert not strays.looks()
    assert is_left_alone(call)


def test_a_call_of_another_port_is_left_alone(strays: Strays) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        call = strays.placed(address=other.getsockname())
        assert not strays.looks()
        assert is_left_alone(call)


def test_a_call_of_the_same_port_elsewhere_is_left_alone(strays: Strays) -> None:
    call = strays.stray()
    call.channel.set("socket_host", "192.0.2.1")
    call.channel.set("current_application_data", f"192.0.2.1:{strays.listening.getsockname()[1]} async full")
    assert not strays.looks()
    assert is_left_alone(call)


def test_a_call_that_has_gone_keeps_no_other_there(strays: Strays, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, call = strays.stray(), strays.stray()
    listed = strays.switch.api("show channels as json")
    gone.kill("NORMAL_CLEARING")
    until(lambda: not gone.alive, "the end of the first")
    assert gone.uuid in listed
    monkeypatch.setitem(strays.switch._api._commands, "show", lambda text: listed)
    strays.looks()
    does(call, BEHIND[0])


@pytest.mark.parametrize("listed", ["nonsense", '{"row_count": 0}', "[]", '{"rows": [{"application": "socket"}]}'])
def test_a_list_that_is_none_harms_nothing(strays: Strays, monkeypatch: pytest.MonkeyPatch, listed: str) -> None:
    monkeypatch.setitem(strays.switch._api._commands, "show", lambda text: listed)
    assert not strays.looks()


def test_a_listener_settles_when_every_connection_has_said_whose_it_is(switch: Switch) -> None:
    server = Server(("127.0.0.1", 0), lambda session: session.over.wait(), Admission(["127.0.0.0/8"], capacity=9))
    server.start()
    with socket.create_connection(server.address) as silent:
        until(lambda: server.connections == 1, "the connection")
        settled = gevent.spawn(server.settle)
        assert not settled.ready()
        gevent.sleep(0.02)
        assert not settled.ready()
        silent.close()
        settled.get(timeout=LIMIT)
    call = switch.call(server.address, "x", Caller(np.zeros(0, np.int16), gives_up_after=600.0))
    until(lambda: server.serves(call.uuid), "the call")
    gevent.spawn(server.settle).get(timeout=LIMIT)
    server.stop_accepting()
    server.give_up()


# ---- calls that are followed


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esl_record.reclaim.LOOK", 0.02)
    monkeypatch.setattr("esl_record.reclaim.SETTLES", 0.04)


class Orphan:
    """A call in a bridge, and the recording an earlier run has begun of it."""

    def __init__(self, switch: Switch, service: Service, *behind: tuple[str, str]) -> None:
        noise = np.random.default_rng(1).integers(-9000, 9000, 60 * 8000).astype(np.int16)
        caller = Caller(noise, gives_up_after=3600.0)
        with socket.create_server(("127.0.0.1", 0)) as gone:
            address = gone.getsockname()
        self.call = switch.call(
            address, "x", caller, behind=[("set", f"{HELD}=true"), ("answer", ""), ("bridge", f"x/{ECHO}"), *behind]
        )
        until(lambda: self.call.channel.bridged, "the bridge")
        params = RecordParams(control_id="r", initial_timeout=0, end_silence_timeout=0)
        recording = Recording.begun(Storage.new_id(), Party(call_id=self.call.uuid), params, 1_700_000_000.0)
        self.recording = recording.model_copy(update={"sample_rate": 8000})
        service.storage.prepare()
        service.storage.announce(self.recording)
        self.path = service.storage.spool_path(self.recording.recording_id)
        settings = ",".join(f"{name}={value}" for name, value in tap_variables(params, 8000).items())
        assert switch.api(f"uuid_record {self.call.uuid} start {self.path} 0 {{{settings}}}").startswith("+OK")
        self.tap = self.call.session.recordings.taps[-1]
        until(lambda: self.tap.samples_out > 8000, "a second of audio")


Linked = Callable[..., Service]


@pytest.fixture
def linked(switch: Switch, tmp_path: Path) -> Iterator[Linked]:
    """Makes services that ask this switch after their calls."""
    services: list[Service] = []
    given = {
        "data_dir": tmp_path / "data",
        "listen": ("127.0.0.1", 0),
        "http": ("127.0.0.1", 0),
        "event_socket": switch.listen(),
        "tick": 0.1 / SPEED,
        "disk_floor": 0,
    }

    def making(**named: Any) -> Service:
        services.append(Service(Settings(**{**given, **named})))
        return services[-1]

    yield making
    for service in services:
        service.stop(0.0)


def followed(service: Service, orphan: Orphan) -> LiveCall:
    until(lambda: "r" in recorders_of(service, orphan), "the recording to go on")
    live = service.calls.get(orphan.call.uuid)
    assert live is not None
    assert live.recorders["r"].begun.wait(LIMIT)
    return live


def recorders_of(service: Service, orphan: Orphan) -> dict[str, Any]:
    live = service.calls.get(orphan.call.uuid)
    return live.recorders if live else {}


def completed(service: Service) -> tuple[Recording, NDArray[np.int16]]:
    until(lambda: recordings(service) and not list(service.storage.pending.glob("*.json")), "the recording")
    ((path, recording),) = service.storage.filed()
    audio = recording.audio(path)
    assert audio is not None
    return recording, soundfile.read(audio, dtype="int16", always_2d=True)[0]


def whole(orphan: Orphan, recording: Recording, samples: NDArray[np.int16]) -> None:
    assert len(samples) == orphan.tap.samples_out == round(recording.duration * 8000)


def test_a_call_in_a_bridge_is_followed_to_its_end(linked: Linked, switch: Switch) -> None:
    service = linked()
    orphan = Orphan(switch, service)
    service.start()
    live = followed(service, orphan)
    assert orphan.call.channel.bridged
    assert live.party.call_id == orphan.call.uuid
    assert live.recorders["r"].pause().wait(LIMIT)
    assert live.recorders["r"].recording.state is State.PAUSED
    assert live.recorders["r"].resume().wait(LIMIT)
    before = orphan.tap.samples_out
    until(lambda: orphan.tap.samples_out > before + 4000, "it to go on")
    orphan.call.hang_up()
    recording, samples = completed(service)
    assert (recording.state, recording.end_reason, recording.error) == (State.FINISHED, EndReason.HANGUP, "")
    (pause,) = recording.pauses
    assert pause.began_by is PauseCause.API
    whole(orphan, recording, samples)
    until(lambda: not len(service.calls), "the call to be let go")


@pytest.mark.parametrize("lived", [True, False])
def test_the_checkpoint_of_a_call_that_was_seen_goes_with_it(linked: Linked, switch: Switch, lived: bool) -> None:
    """A call this switch has never known may be another's, and come back."""
    service = linked()
    orphan = Orphan(switch, service)
    folder = service.settings.data_dir / "calls"
    folder.mkdir(parents=True)
    checkpoint = folder / f"{orphan.call.uuid if lived else 'elsewhere'}.checkpoint"
    checkpoint.write_text("x")
    service.start()
    followed(service, orphan)
    orphan.call.hang_up()
    completed(service)
    if lived:
        until(lambda: not checkpoint.exists(), "the checkpoint to go")
    else:
        gevent.sleep(0.1)
        assert checkpoint.exists()


def test_a_followed_recording_can_be_stopped(linked: Linked, switch: Switch) -> None:
    service = linked()
    orphan = Orphan(switch, service)
    service.start()
    assert followed(service, orphan).recorders["r"].stop().wait(LIMIT)
    recording, _ = completed(service)
    assert recording.end_reason is EndReason.STOP
    assert orphan.call.channel.bridged
    until(lambda: orphan.call.channel.get(HELD) is None, "the channel to be told")


def test_a_followed_call_that_comes_back_takes_its_recording_over(
    linked: Linked,
    switch: Switch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = free.getsockname()
    service = linked(listen=listen)
    orphan = Orphan(switch, service, ("socket", f"{listen[0]}:{listen[1]} async full"))
    service.start()
    over_link = followed(service, orphan)
    orphan.call.channel.bridged = False
    until(lambda: service.calls.get(orphan.call.uuid) not in (None, over_link), "the call to come back")
    until(lambda: caplog.text.count(f"recording {orphan.recording.recording_id} goes on") == 2, "the recording")
    assert not over_link.recorders
    before = orphan.tap.samples_out
    until(lambda: orphan.tap.samples_out > before + 4000, "it to go on")
    orphan.call.hang_up()
    recording, samples = completed(service)
    assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.HANGUP)
    whole(orphan, recording, samples)


def test_without_a_link_the_recording_is_recovered_when_the_call_is_over(linked: Linked, switch: Switch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = free.getsockname()
    service = linked(event_socket=nobody, stall_timeout=0.1)
    orphan = Orphan(switch, service)
    service.start()
    before = orphan.tap.samples_out
    until(lambda: orphan.tap.samples_out > before + 8000, "it to go on")
    assert not recordings(service)
    assert not len(service.calls)
    orphan.call.hang_up()
    recording, samples = completed(service)
    assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.RECOVERED)
    whole(orphan, recording, samples)


def test_a_call_that_has_ended_meanwhile_is_recovered_at_once(linked: Linked, switch: Switch) -> None:
    service = linked(stall_timeout=600.0)
    orphan = Orphan(switch, service)
    orphan.call.hang_up()
    orphan.call.wait(LIMIT)
    service.start()
    recording, samples = completed(service)
    assert recording.end_reason is EndReason.RECOVERED
    whole(orphan, recording, samples)


def test_a_service_frees_a_stray_call_while_it_runs(
    linked: Linked,
    switch: Switch,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One that reached another address of this machine on the same port, where somebody closed its connection."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("esl_record.reclaim.STRAY_LOOK", 0.02)
    monkeypatch.setattr("esl_record.returning.LOOK", 0.05)
    service = linked()
    service.start()
    with socket.create_server(("127.0.0.2", service.address[1])) as elsewhere:
        call = switch.call(
            elsewhere.getsockname(), "x", Caller(np.zeros(0, np.int16), gives_up_after=600.0), behind=[BEHIND]
        )
        elsewhere.accept()[0].close()
    does(call, BEHIND[0])
    assert f"call {call.uuid} was in a socket nobody serves" in caplog.text
