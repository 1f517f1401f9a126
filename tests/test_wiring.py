"""The service in this process: how it starts and stops, what it refuses to start with, and what it wires together."""

import gc
import logging
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import pytest
import requests
import yaml
from gevent import socket
from gevent.monkey import get_original
from receivers import SECRETS, SIGNING_KEY, Endpoint

from esl_record.config import Settings
from esl_record.errors import ConfigError, DatabaseError
from esl_record.esl.link import WITHOUT
from esl_record.recording.machine import EndReason, State
from esl_record.recording.params import RecordParams
from esl_record.recording.recording import Party, Recording
from esl_record.recording.recovery import Recovery
from esl_record.recording.retention import EMPTY, expired
from esl_record.recording.room import Room
from esl_record.recording.storage import Storage
from esl_record.service import Service
from esl_record.standin import voice
from esl_record.standin.call import Call
from esl_record.standin.caller import Caller
from esl_record.standin.switch import Switch
from esl_record.status import signature
from esl_record.status.outbox import Status

LIMIT = 10.0
"""Seconds a test waits for what must come."""

SPEED = 20.0
NO_LIMITS = {"initial_timeout": 0, "end_silence_timeout": 0}


@pytest.fixture
def make(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Service]]:
    """Services under the test's folder, stopped when it is over."""
    caplog.set_level(logging.INFO)
    services: list[Service] = []
    (tmp_path / "documents").mkdir()

    def making(**named: Any) -> Service:
        given = {
            "data_dir": tmp_path / "data",
            "documents": tmp_path / "documents",
            "listen": ("127.0.0.1", 0),
            "http": ("127.0.0.1", 0),
            "callback_networks": ["127.0.0.0/8"],
            "callback_retry": 0.05,
            "tick": 0.1 / SPEED,
            "capacity": 10,
            "disk_floor": 0,
            **named,
        }
        services.append(Service(Settings(**given)))
        return services[-1]

    yield making
    for service in services:
        service.stop(0.0)


@pytest.fixture
def switch() -> Iterator[Switch]:
    switch = Switch(speed=SPEED)
    yield switch
    switch.close()


Make = Callable[..., Service]


def document(service: Service, *steps: object) -> str:
    folder = service.settings.documents
    assert folder is not None
    (folder / "call.yaml").write_text(yaml.safe_dump({"version": "1.0.0", "sections": {"main": list(steps)}}))
    return "call"


def placed(service: Service, switch: Switch, *steps: object, **caller: Any) -> Call:
    """A call that runs these steps."""
    given = {"audio": np.zeros(0, np.int16), "gives_up_after": 60.0, **caller}
    return switch.call(service.address, document(service, *steps), Caller(**given))


def recordings(service: Service) -> list[Recording]:
    return [recording for _, recording in service.storage.filed()]


def until(condition: Callable[[], object], what: str) -> None:
    """Waits for what no event tells of."""
    with gevent.Timeout(LIMIT, AssertionError(f"waited in vain for {what}")):
        while not condition():
            gevent.sleep(0.005)


def refused(service: Service) -> str:
    with pytest.raises(ConfigError) as caught:
        service.start()
    return str(caught.value)


# ---- start and stop


def test_a_started_service_listens_and_a_stopped_one_does_not(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = make()
    service.start()
    host, port = service.address
    socket.create_connection((host, port)).close()
    assert f"listening on 127.0.0.1:{port}, recordings in {tmp_path}/data/recordings" in caplog.messages
    service.stop(LIMIT)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port))
    assert caplog.messages[-1] == "stopped"


def test_its_folders_are_nobody_elses(make: Make, tmp_path: Path) -> None:
    make().start()
    assert (tmp_path / "data" / "recordings").stat().st_mode & 0o007 == 0
    assert (tmp_path / "data" / "spool").stat().st_mode & 0o7777 == 0o2770


def test_a_stopped_service_leaves_its_place_to_the_next(make: Make) -> None:
    first = make()
    first.start()
    listen = first.address
    first.stop(LIMIT)
    second = make(listen=listen)
    second.start()
    assert second.address == listen


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # gevent leaves the socket it could not bind
def test_a_port_in_use_is_an_error_that_names_the_setting(make: Make, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refused(make(listen=("127.0.0.1", port)))
    gc.collect()
    assert told.startswith(f"setting listen = 127.0.0.1:{port}: Address already in use")


def test_a_second_service_on_the_same_data_is_refused(make: Make, tmp_path: Path) -> None:
    make().start()
    told = refused(make())
    assert told == f"setting data_dir = {tmp_path}/data: another esl-record uses it; each needs its own"


@pytest.mark.parametrize("named", [True, False], ids=["the second names it", "the first names it"])
def test_a_second_service_on_the_same_spool_is_refused(make: Make, tmp_path: Path, named: bool) -> None:
    spool = tmp_path / "other" / "spool"
    pair = [{"spool_dir": spool}, {"data_dir": tmp_path / "other"}]
    first, second = pair[::-1] if named else pair
    make(**first).start()
    assert refused(make(**second)) == f"setting spool_dir = {spool}: another esl-record uses it; each needs its own"


def test_services_with_data_of_their_own_do_not_disturb_each_other(make: Make, tmp_path: Path) -> None:
    first, second = make(), make(data_dir=tmp_path / "other")
    first.start()
    second.start()
    assert first.address != second.address


def test_a_data_directory_that_cannot_be_made_is_an_error_that_names_the_setting(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = refused(make(data_dir=tmp_path / "file" / "data"))
    assert told.startswith(f"setting data_dir = {tmp_path}/file/data: ")
    assert "Not a directory" in told


# ---- descriptors


class Descriptors:
    """The limit on open files, without the process's own being touched."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> None:
        self.soft, self.hard = soft, hard
        monkeypatch.setattr(resource, "getrlimit", lambda which: (self.soft, self.hard))
        monkeypatch.setattr(resource, "setrlimit", self._set)

    def _set(self, which: int, limits: tuple[int, int]) -> None:
        assert which == resource.RLIMIT_NOFILE
        self.soft, self.hard = limits


def test_a_capacity_above_the_descriptor_limit_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Descriptors(monkeypatch, 256, 1024)
    told = refused(make(capacity=1000))
    assert told.startswith("setting capacity = 1000: needs 7048 open files and the limit is 1024")
    assert "ulimit -n, LimitNOFILE" in told
    assert limit.soft == 256


@pytest.mark.parametrize(
    ("soft", "hard", "then"),
    [
        (256, 8192, 7048),
        (256, resource.RLIM_INFINITY, 7048),
        (7048, 7048, 7048),
        (9999, 9999, 9999),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, resource.RLIM_INFINITY),
    ],
)
def test_the_descriptor_limit_is_raised_as_far_as_the_capacity_needs(
    make: Make, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, then: int
) -> None:
    limit = Descriptors(monkeypatch, soft, hard)
    make(capacity=1000).start()
    assert (limit.soft, limit.hard) == (then, hard)


# ---- recovery


def left_behind(data: Path, seconds: float, ago: float = 60.0) -> Recording:
    """What a killed service leaves: a spool, and beside it what it was to be."""
    storage = Storage(data)
    storage.prepare()
    party = Party(call_id="c1", caller_number="15551230001")
    recording = Recording.begun(storage.new_id(), party, RecordParams(), 1704164645.0)
    recording = recording.model_copy(update={"sample_rate": 8000})
    storage.announce(recording)
    path = storage.spool_path(recording.recording_id)
    path.write_bytes(voice.say(seconds).tobytes())
    then = path.stat().st_mtime - ago
    os.utime(path, (then, then))
    return recording


def test_a_spool_that_was_left_becomes_its_recording(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = [left_behind(tmp_path / "data", seconds) for seconds in (1.0, 2.0)]
    service = make()
    service.start()
    until(lambda: sum("recovered" in message for message in caplog.messages) == 2, "the recovery")
    assert list(service.storage.spool_dir.glob("[!.]*")) == []
    found = {recording.recording_id: recording for recording in recordings(service)}
    assert [found[one.recording_id].duration for one in left] == [1.0, 2.0]
    assert {one.end_reason for one in found.values()} == {EndReason.RECOVERED}
    assert f"recording {left[0].recording_id} recovered: 1.00 s" in caplog.messages


def test_a_spool_that_still_grows_is_waited_for(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esl_record.service._RECOVERY_PAUSE", 0.01)
    run, looks = Recovery.run, []
    monkeypatch.setattr(Recovery, "run", lambda self: looks.append(1) or run(self))
    left = left_behind(tmp_path / "data", 1.0, ago=0.0)
    service = make()
    service.start()
    path = service.storage.spool_path(left.recording_id)
    until(lambda: len(looks) > 3, "a few looks at the spool")
    assert path.exists()
    assert recordings(service) == []
    os.utime(path, (1.0, 1.0))
    until(lambda: not path.exists(), "the recovery")
    assert [recording.end_reason for recording in recordings(service)] == [EndReason.RECOVERED]


def test_a_recording_under_way_is_not_taken_for_one_left_behind(
    make: Make, switch: Switch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("esl_record.service._RECOVERY_PAUSE", 0.01)
    monkeypatch.setattr(Recovery, "_grows", lambda self, recording: recording.call_id == "c1")
    left_behind(tmp_path / "data", 1.0)  # keeps the recovery looking
    service = make()
    service.start()
    call = placed(service, switch, "answer", {"record": {"initial_timeout": 3}}, "hangup")
    call.wait(LIMIT)
    assert service.finished is not None
    assert (service.finished.end_reason, service.finished.duration) == (EndReason.INITIAL_TIMEOUT, 3.0)


# ---- a call


def test_a_callers_name_takes_no_more_room_than_a_name(make: Make, switch: Switch) -> None:
    """Each recording, its row and its callbacks hold it."""
    service = make()
    service.start()
    call = placed(service, switch, "answer", {"record": {"initial_timeout": 1}}, "hangup", name="N" * 5_000)
    call.wait(LIMIT)
    assert service.finished is not None
    assert service.finished.caller_name == "N" * 256
    assert service.storage.document_path(service.finished).stat().st_size < 4096


def test_a_call_is_recorded_and_told_of(make: Make, switch: Switch) -> None:
    service = make()
    service.start()
    said = np.concatenate([np.zeros(4000, np.int16), voice.say(1.0)])
    call = placed(
        service,
        switch,
        "answer",
        {"record": {"terminators": "5"}},
        "hangup",
        audio=said,
        digits=((2.0, "5"),),
        number="15550100",
        name="Ann",
        destination="7001",
    )
    call.wait(LIMIT)
    assert service.finished is not None
    recording = service.finished
    assert (recording.state, recording.end_reason, recording.terminator) == (State.FINISHED, EndReason.TERMINATOR, "5")
    assert (recording.call_id, recording.caller_number, recording.caller_name) == (call.uuid, "15550100", "Ann")
    assert (recording.destination, recording.document) == ("7001", "call")
    assert recordings(service) == [recording]
    audio = recording.audio(service.storage.document_path(recording))
    assert audio is not None
    assert audio.stat().st_size == recording.size
    assert call.variables["record_result"] == "success"
    assert requests.get(call.variables["record_url"], timeout=LIMIT).content == audio.read_bytes()
    assert service.calls.recorders == []
    assert not call.went_on


def test_recordings_under_way_can_be_seen(make: Make, switch: Switch) -> None:
    service = make()
    service.start()
    call = placed(service, switch, "answer", {"record": NO_LIMITS}, "hangup")
    until(lambda: service.calls.recorders, "the recording")
    (recorder,) = service.calls.recorders
    until(lambda: recorder.position > 1.0, "a second of audio")
    assert recorder.recording.state is State.RECORDING
    call.hang_up()
    call.wait(LIMIT)
    until(lambda: not service.calls.recorders, "its end")


@pytest.mark.parametrize(
    ("path", "code", "told"),
    [
        ("call", "relay_script_method_undefined", "no method 'recrod'"),
        ("nowhere", "relay_script_", "nowhere"),
    ],
)
def test_a_document_that_cannot_be_run_leaves_the_call_to_the_dialplan(
    make: Make, switch: Switch, caplog: pytest.LogCaptureFixture, path: str, code: str, told: str
) -> None:
    service = make()
    service.start()
    document(service, "answer", {"recrod": {}})
    call = switch.call(service.address, path, Caller(np.zeros(0, np.int16), gives_up_after=30))
    call.wait(LIMIT)
    assert call.went_on
    assert call.variables["script_error"].startswith(code)
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert told in errors[0]
    assert errors[0].endswith("; the dialplan goes on")


def test_a_status_url_gets_every_state(make: Make, switch: Switch, tmp_path: Path) -> None:
    endpoint = Endpoint()
    service = make(webhook_secrets=SECRETS, signing_key=SIGNING_KEY)
    service.start()
    record = {"initial_timeout": 0.5, "status_url": endpoint.url}
    placed(service, switch, "answer", {"record": record}, "hangup").wait(LIMIT)
    posts = endpoint.wait(2)
    assert [post.json["params"]["state"] for post in posts] == ["recording", "no_input"]
    assert all(post.signed for post in posts)


def test_without_secrets_one_is_made_and_signs(make: Make, switch: Switch, tmp_path: Path) -> None:
    endpoint = Endpoint()
    service = make()
    service.start()
    record = {"initial_timeout": 0.5, "status_url": endpoint.url}
    placed(service, switch, "answer", {"record": record}, "hangup").wait(LIMIT)
    post = endpoint.wait(2)[-1]
    secret = (tmp_path / "data" / "webhook.secret").read_text().strip()
    sent = post.headers["webhook-id"], int(post.headers["webhook-timestamp"])
    wanted = signature.headers(*sent, post.body, [secret], endpoint.url, secret)
    assert {name.lower(): value for name, value in wanted.items()}.items() <= post.headers.items()


def test_a_receiver_on_a_private_network_gets_nothing_unless_it_is_allowed(
    make: Make, switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = Endpoint()
    service = make(callback_networks=[])
    service.start()
    record = {"initial_timeout": 0.5, "status_url": endpoint.url}
    placed(service, switch, "answer", {"record": record}, "hangup").wait(LIMIT)
    until(lambda: "callback_networks" in caplog.text, "the refusal")
    assert endpoint.posts == []
    assert [callback.status for callback in service.ledger.outbox.listed()] == [Status.PENDING] * 2


def test_figures_and_readiness_are_served(make: Make, switch: Switch) -> None:
    service = make()
    service.start()
    call = placed(service, switch, "answer", {"record": NO_LIMITS}, "hangup")
    until(lambda: service.calls.recorders, "the recording")
    host, port = service.http_address

    def figures() -> str:
        return requests.get(f"http://{host}:{port}/metrics", timeout=LIMIT).text

    until(lambda: 'esl_record_recordings{state="recording"} 1.0' in figures(), "it to be counted")
    assert requests.get(f"http://{host}:{port}/readyz", timeout=LIMIT).status_code == 200
    call.hang_up()
    call.wait(LIMIT)
    ended = 'esl_record_recordings_ended_total{end_reason="hangup",state="finished"} 1.0'
    until(lambda: ended in figures() and not len(service.calls), "its end to be counted")
    told = figures()
    assert "esl_record_calls 0.0" in told
    assert "esl_record_accept_seconds_count 1.0" in told
    assert "esl_record_refusing 0.0" in told


def test_monitors_take_one_thread_of_a_disk_that_does_not_answer(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    service = make()
    service.start()
    url = "http://{}:{}/metrics".format(*service.http_address)
    answers, asked = get_original("threading", "Event")(), []

    def hanging() -> tuple[int, int]:
        asked.append(1)
        answers.wait()
        return 7, 1234

    monkeypatch.setattr(service.storage, "usage", hanging)
    try:
        first = gevent.spawn(requests.get, url, timeout=LIMIT)
        until(lambda: asked, "the disk to be asked")
        assert requests.get(url, timeout=LIMIT).status_code == 200
        assert len(asked) == 1
    finally:
        answers.set()
    assert 'esl_record_bytes{of="spool"} 7.0' in first.get(timeout=LIMIT).text
    monkeypatch.setattr(Room, "late", True)
    assert requests.get(url, timeout=LIMIT).status_code == 200
    assert len(asked) == 1


def test_with_a_disk_that_does_not_answer_it_starts_and_says_so(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esl_record.recording.room.LATE", 0.05)
    answers = get_original("threading", "Event")()
    service = make()
    monkeypatch.setattr(service._room, "_probe", lambda folder: answers.wait() and None)
    try:
        service.start()
        answer = requests.get("http://{}:{}/readyz".format(*service.http_address), timeout=LIMIT)
        told = f"no recording is begun: {service.storage.spool_dir} has not answered for 0.05 s"
        assert (answer.status_code, answer.json()) == (503, [told])
    finally:
        answers.set()
    until(lambda: not service._room.refusal, "the disk")


def test_ready_says_what_it_does_not_do_while_the_event_socket_is_away(
    make: Make, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esl_record.esl.link.FIRST_RETRY", 0.05)
    monkeypatch.setattr("esl_record.esl.link.LAST_RETRY", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    service = make(event_socket=address)
    service.start()
    assert service.link.tried.wait(LIMIT)
    host, port = service.http_address

    def ready() -> tuple[int, list[str]]:
        answer = requests.get(f"http://{host}:{port}/readyz", timeout=LIMIT)
        return answer.status_code, answer.json()

    status, (lacking,) = ready()
    assert status == 200
    assert f"no event socket at 127.0.0.1:{address[1]}" in lacking
    assert lacking.endswith(WITHOUT)
    switch.listen(address)
    until(lambda: service.link.up, "the event socket")
    assert ready() == (200, [])


def test_below_the_floor_no_recording_is_begun(make: Make, switch: Switch, caplog: pytest.LogCaptureFixture) -> None:
    service = make(disk_floor=10**18)
    service.start()
    (told,) = (record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)
    refusal = told.removeprefix("no recording is begun any more: ").split(";")[0]
    assert refusal.startswith(f"{service.storage.spool_dir} has ")
    assert refusal.endswith(f" bytes free, fewer than disk_floor = {10**18}")
    assert "set disk_floor lower (0 = off)" in told
    host, port = service.http_address
    answer = requests.get(f"http://{host}:{port}/readyz", timeout=LIMIT)
    assert (answer.status_code, answer.json()) == (503, [f"no recording is begun: {refusal}"])
    assert "esl_record_refusing 1.0" in requests.get(f"http://{host}:{port}/metrics", timeout=LIMIT).text
    call = placed(service, switch, "answer", {"record": {**NO_LIMITS, "beep": True}}, "hangup")
    call.wait(LIMIT)
    assert (call.went_on, call.variables["record_result"]) == (True, "failed")
    (recording,) = recordings(service)
    assert (recording.state, recording.end_reason) == (State.ERROR, EndReason.ERROR)
    assert recording.error == f"the recording could not be begun: {refusal}"


def test_a_caller_who_calls_on_and_on_below_the_floor_takes_no_more_than_a_note_each_time(
    make: Make, switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    service = make(disk_floor=10**18, capacity=10)
    service.start()
    before = len(caplog.records)
    calls = [placed(service, switch, "answer", {"record": NO_LIMITS}, "hangup") for _ in range(10)]
    for call in calls:
        call.wait(LIMIT)
    assert [(call.went_on, call.variables["record_result"]) for call in calls] == [(True, "failed")] * 10
    until(lambda: len(service.ledger.catalog.all()) == 10, "the rows")
    assert [path for path in service.storage.spool_dir.rglob("*") if path.is_file() and path.stat().st_size] == []
    assert sum(path.stat().st_size for path in service.storage.recordings.rglob("*") if path.is_file()) < 10 * EMPTY
    errors = [record for record in caplog.records[before:] if record.levelno >= logging.ERROR]
    assert len(errors) == 10
    host, port = service.http_address
    assert requests.get(f"http://{host}:{port}/healthz", timeout=LIMIT).status_code == 200
    # And what they have left goes as do recordings.
    assert len(list(expired(service.ledger, time.time(), size=4 * EMPTY))) == 6


def test_with_a_full_catalog_calls_are_recorded_and_listed_once_there_is_room(
    make: Make, switch: Switch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("esl_record.service._RECOVERY_PAUSE", 0.01)
    service = make(stall_timeout=0.1)
    service.start()
    database = service.ledger._database

    def grow_to(pages: int) -> None:
        database.run(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}").scalar())

    kept = len(service.ledger.catalog.all())
    grow_to(1)  # as many as it has
    filler = Recording.begun("0" * 36, Party(call_id="x", document="y" * 3000), RecordParams(control_id="z"), 1.0)

    def fill() -> None:
        for number in range(100):
            service.ledger.tell(filler.model_copy(update={"recording_id": f"{number:036d}"}))

    with pytest.raises(DatabaseError, match="full"):
        fill()
    before = len(service.ledger.catalog.all())
    call = placed(service, switch, "answer", {"record": {"initial_timeout": 0.5}}, "hangup")
    call.wait(LIMIT)
    assert "catalog.sqlite: database or disk is full" in caplog.text
    assert (kept, len(service.ledger.catalog.all())) == (0, before)
    host, port = service.http_address
    assert requests.get(f"http://{host}:{port}/healthz", timeout=LIMIT).status_code == 200
    grow_to(2**20)
    service._recovery.hurry()
    until(lambda: service.ledger.catalog.of_call(call.uuid), "the row")
    (recording,) = service.ledger.catalog.of_call(call.uuid)
    assert recording.state.final


def test_what_was_left_is_completed_as_soon_as_there_is_room(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("esl_record.recording.room.EVERY", 0.01)
    service = make()
    service.start()
    left = left_behind(tmp_path / "data", 1.0)
    service._recovery.add(left)
    spool = service.storage.spool_dir
    spool.rename(spool.with_name("unmounted"))
    until(lambda: "no recording is begun any more" in caplog.text, "the line")
    spool.with_name("unmounted").rename(spool)
    until(lambda: recordings(service), "the recovery")
    assert recordings(service)[0].recording_id == left.recording_id
    assert "cannot be completed" not in caplog.text


def test_a_recording_in_the_background_ends_with_its_call(make: Make, switch: Switch) -> None:
    service = make()
    service.start()
    call = placed(service, switch, "answer", {"sleep": 2000}, "hangup")
    until(lambda: len(service.calls) and next(iter(service.calls)).session.answered, "the call")
    (live,) = service.calls
    live.start(RecordParams(initial_timeout=0, end_silence_timeout=0, control_id="b"))
    call.wait(LIMIT)
    until(lambda: not len(service.calls), "its end")
    (recording,) = recordings(service)
    assert (recording.control_id, recording.state) == ("b", State.FINISHED)
    assert recording.end_reason is EndReason.HANGUP


def test_no_tap_waits_for_the_answer_because_the_channel_says_so(make: Make, switch: Switch) -> None:
    """``media_bug_answer_req`` cannot be given with a tap: it is taken from the channel."""
    service = make()
    service.start()
    steps = ({"record_call": {"early_media": True}}, {"sleep": 2000}, "hangup")
    waits = [("set", "media_bug_answer_req=true")]
    call = switch.call(service.address, document(service, *steps), Caller(voice.say(5.0)), before=waits)
    call.wait(LIMIT)
    assert not call.channel.answered
    assert call.variables["media_bug_answer_req"] == "false"
    until(lambda: recordings(service), "the recording")
    (recording,) = recordings(service)
    assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.HANGUP)
    assert recording.duration > 1.5


def test_a_recording_in_the_background_ends_when_the_call_is_handed_back(make: Make, switch: Switch) -> None:
    service = make()
    service.start()
    wrong = {"set": {"url": "nothing:to play"}}, {"play": "${url}"}
    call = placed(service, switch, "answer", {"sleep": 2000}, *wrong)
    until(lambda: len(service.calls) and next(iter(service.calls)).session.answered, "the call")
    (live,) = service.calls
    live.start(RecordParams(initial_timeout=0, end_silence_timeout=0))
    call.wait(LIMIT)
    assert call.went_on
    (recording,) = recordings(service)
    assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.STOP)


def test_a_tick_that_fails_is_logged_and_the_next_one_comes(
    make: Make, switch: Switch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = make()
    tick, failures = service._engine.tick, [ValueError("broken tick")] * 3

    def failing() -> None:
        if failures:
            raise failures.pop()
        tick()

    monkeypatch.setattr(service._engine, "tick", failing)
    service.start()
    placed(service, switch, "answer", {"record": {"initial_timeout": 1}}, "hangup").wait(LIMIT)
    assert service.finished is not None
    assert service.finished.end_reason is EndReason.INITIAL_TIMEOUT
    assert caplog.messages.count("detector tick failed") == 3


# ---- the end


def test_stopping_waits_for_a_call_that_ends_by_itself(make: Make, switch: Switch) -> None:
    service = make()
    service.start()
    call = placed(service, switch, "answer", {"record": {"initial_timeout": 2}}, "hangup")
    until(lambda: service.calls.recorders, "the recording")
    service.stop(LIMIT)
    assert call.finished.wait(LIMIT)
    assert not call.went_on
    assert service.finished is not None
    assert service.finished.end_reason is EndReason.INITIAL_TIMEOUT


def test_stopping_keeps_what_outlasts_it_and_hands_the_call_back(
    make: Make, switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    service = make()
    service.start()
    calls = [placed(service, switch, "answer", {"record": NO_LIMITS}, "hangup") for _ in range(3)]
    until(lambda: len(service.calls.recorders) == 3, "the recordings")
    service.stop(0.0)
    assert "calls still live after 0 s: they go on in the dialplan" in caplog.messages
    for call in calls:
        call.wait(LIMIT)
        assert call.went_on
    assert [recording.end_reason for recording in recordings(service)] == [EndReason.STOP] * 3
    assert list(service.storage.spool_dir.glob("[!.]*")) == []


def test_stopping_hands_back_a_call_that_records_nothing(make: Make, switch: Switch) -> None:
    service = make()
    service.start()
    call = placed(service, switch, "answer", {"sleep": 600_000}, "hangup")
    until(lambda: any(b"sleep" in data for _, data in call.wire), "the sleep")
    service.stop(0.0)
    call.wait(LIMIT)
    assert call.went_on
