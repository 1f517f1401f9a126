"""Switches, disks and peers that misbehave: one clear line, a defined state, no audio lost, the next call served."""

import resource
from collections.abc import Iterator

import numpy as np
import pytest
from gevent import socket
from phones import StandInPhone
from running import PATIENCE, RunningService
from test_record import LIMITS
from test_record import said as a_voice

from esl_record.audio.spool import Spool
from esl_record.recording.machine import EndReason, State
from esl_record.recording.recording import Recording
from esl_record.standin.call import Call
from esl_record.standin.caller import Caller
from esl_record.standin.faults import Faults
from esl_record.standin.switch import Switch

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def only_the_stand_in(switch: str) -> None:
    if switch != "standin":
        pytest.skip("faults are put into the stand-in")


@pytest.fixture
def broken(own_service: RunningService) -> Iterator[RunningService]:
    """A service that gives up soon, for switches that are broken."""
    own_service.settings |= {"command_timeout": 1.0, "stall_timeout": 1.5}
    own_service.start()
    yield own_service
    served(own_service)


def served(service: RunningService) -> None:
    """The service still serves a call: whatever happened has harmed no other."""
    switch = Switch(speed=StandInPhone.SPEED)
    document = service.document("healthy", "answer", {"record": {"initial_timeout": 0.5}}, "hangup")
    call = switch.call(service.address, document, Caller(audio=np.zeros(0, np.int16)))
    call.wait(PATIENCE)
    switch.close()
    assert [recording.state for _, recording in service.recordings(call.uuid)] == [State.NO_INPUT]


def tapped(service: RunningService) -> float:
    """Seconds of audio in the spool, mono at 8 kHz."""
    return sum(path.stat().st_size for path in (service.data / "spool").glob("*.raw")) / 16000


def errors(service: RunningService) -> list[str]:
    return [line for line in service.log.splitlines() if " ERROR " in line or "Traceback" in line]


def only(service: RunningService) -> Recording:
    """The one recording there is."""
    found = list((service.data / "recordings").glob("*/*/*/*.json"))
    assert len(found) == 1, service.log
    return Recording.model_validate_json(found[0].read_bytes())


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        (Faults(garbage=b"\x00\xff\xfe garbage\n\nmore\n\n"), "not a header line"),
        (Faults(garbage=b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n\n\n"), "not a header line"),
        (Faults(garbage=b"Content-Type: api/response\nContent-Length: -5\n\n"), "Content-Length '-5'"),
        (Faults(garbage=b"Content-Type: api/response\nContent-Length: 99999999999\n\n"), "Content-Length"),
        (Faults(garbage=b"Content-Type: text/html\n\n"), "unknown Content-Type"),
        (Faults(truncate_after=1000), "inside a frame"),
        (Faults(wrong_content_length=True), "not a header line"),
        (Faults(deaf=True), "no answer to 'connect' within 1 s"),
    ],
    ids=["bytes", "http", "negative", "huge", "type", "truncated", "length", "deaf"],
)
def test_a_broken_wire_ends_its_call_with_one_line(broken: RunningService, faults: Faults, told: str) -> None:
    switch = Switch(speed=30.0, faults=faults)
    document = broken.document("any", "answer", {"record": LIMITS}, "hangup")
    call = switch.call(broken.address, document, Caller(audio=np.zeros(8000, np.int16), gives_up_after=60))
    broken.wait(lambda: errors(broken), "the line")
    call.wait(PATIENCE)
    switch.close()
    assert len(errors(broken)) == 1, broken.log
    assert told in errors(broken)[0]


def record(service: RunningService, faults: Faults | None = None, **limits: float) -> tuple[Switch, Call]:
    switch = Switch(speed=StandInPhone.SPEED, faults=faults)
    document = service.document("faulty", "answer", {"record": {**LIMITS, **limits}}, "hangup")
    call = switch.call(service.address, document, Caller(audio=a_voice(30), gives_up_after=60))
    return switch, call


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        (Faults(refuse_record="-ERR Cannot record session!"), "the tap could not be started: -ERR Cannot record"),
        (Faults(never_grow_tap=True), "the switch has written nothing for"),
    ],
    ids=["unwritable spool", "tap that never grows"],
)
def test_a_tap_without_audio_is_an_error_and_the_dialplan_takes_the_call(
    broken: RunningService, faults: Faults, told: str
) -> None:
    switch, call = record(broken, faults)
    call.wait(PATIENCE)
    switch.close()
    assert call.went_on
    assert call.variables["record_result"] == "failed"
    assert call.variables["script_error"] == "relay_script_method_execute_failed"
    recording = only(broken)
    assert (recording.state, recording.end_reason, recording.file) == (State.ERROR, EndReason.ERROR, "")
    assert told in recording.error
    assert len(errors(broken)) == 1, broken.log
    assert told in errors(broken)[0]
    assert broken.spooled() == []


def test_a_tap_that_stalls_keeps_what_it_has(broken: RunningService) -> None:
    switch, call = record(broken)
    broken.wait(lambda: tapped(broken) > 2.0, "two seconds of audio")
    call.stall_tap()
    broken.wait(lambda: errors(broken), "the line")
    switch.close()
    recording = only(broken)
    assert (recording.state, recording.end_reason) == (State.ERROR, EndReason.ERROR)
    assert "the switch has written nothing for" in recording.error
    assert recording.duration > 1.5
    assert recording.file
    assert len(errors(broken)) == 1


def test_a_switch_that_dies_leaves_a_recording_of_all_it_wrote(broken: RunningService) -> None:
    switch, call = record(broken)
    broken.wait(lambda: tapped(broken) > 2.0, "two seconds of audio")
    call.die()
    broken.wait(lambda: not broken.spooled(), "the recording")
    switch.close()
    recording = only(broken)
    assert (recording.state, recording.end_reason) == (State.ERROR, EndReason.ERROR)
    assert "event socket lost" in recording.error
    assert recording.duration > 1.5


def test_a_full_disk_leaves_the_spool_for_the_next_start(own_service: RunningService) -> None:
    """Files of the service may have 40 kB: enough for its log, not for five seconds of audio."""
    own_service.start()
    assert own_service.process is not None
    resource.prlimit(own_service.process.pid, resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
    switch, call = record(own_service, max_length=5.0)
    call.wait(PATIENCE)
    own_service.wait(lambda: "the audio stays in" in own_service.log, "the line")
    switch.close()
    # The catalog has no room either, and says so once for the beginning.
    catalog, audio = errors(own_service)
    assert "disk I/O error" in catalog
    assert "the audio stays in" in audio
    (raw,) = (own_service.data / "spool").glob("*.raw")
    with Spool(raw, 1) as spool:
        assert spool.size() >= 5 * 8000
    assert list((own_service.data / "recordings").rglob("*.*")) == []
    own_service.stop()
    own_service.start()
    own_service.wait(lambda: not own_service.spooled(), "the recovery")
    recording = only(own_service)
    assert recording.end_reason is EndReason.RECOVERED
    assert recording.duration >= 5.0


def test_below_the_floor_a_recording_is_refused_and_the_dialplan_takes_the_call(own_service: RunningService) -> None:
    own_service.settings["disk_floor"] = 10**18
    own_service.start()
    switch, call = record(own_service)
    call.wait(PATIENCE)
    switch.close()
    assert (call.went_on, call.variables["record_result"]) == (True, "failed")
    recording = only(own_service)
    assert (recording.state, recording.end_reason, recording.file) == (State.ERROR, EndReason.ERROR, "")
    assert f"the recording could not be begun: {own_service.data / 'spool'} has " in recording.error
    assert f"fewer than disk_floor = {10**18}" in recording.error
    assert len(errors(own_service)) == 2, own_service.log


def test_a_tap_that_stalls_as_its_disk_fails_ends_at_once_with_what_it_has(own_service: RunningService) -> None:
    own_service.settings["stall_timeout"] = PATIENCE * 10
    own_service.start()
    switch, call = record(own_service)
    own_service.wait(lambda: tapped(own_service) > 2.0, "two seconds of audio")
    call.stall_tap()
    spool = own_service.data / "spool"
    spool.rename(spool.with_name("unmounted"))
    own_service.wait(lambda: len(errors(own_service)) == 2, "the recording's end")
    switch.close()
    recording = only(own_service)
    assert (recording.state, recording.end_reason) == (State.ERROR, EndReason.ERROR)
    assert recording.error.startswith(f"{spool} cannot be written: ")
    assert recording.duration > 1.5
    assert recording.file


def test_without_a_disk_a_recording_is_refused_until_it_is_back(broken: RunningService) -> None:
    spool = broken.data / "spool"
    spool.rename(spool.with_name("unmounted"))
    broken.wait(lambda: errors(broken), "the line")
    answer = broken.get("/readyz")
    assert (answer.status_code, answer.json()) == (
        503,
        [f"no recording is begun: {spool} cannot be written: No such file or directory"],
    )
    switch, call = record(broken)
    call.wait(PATIENCE)
    switch.close()
    assert call.went_on
    assert call.variables["record_result"] == "failed"
    recording = only(broken)
    assert (recording.state, recording.end_reason, recording.file) == (State.ERROR, EndReason.ERROR, "")
    assert recording.error.startswith(f"the recording could not be begun: {spool} cannot be written")
    first, second = errors(broken)
    assert "no recording is begun any more" in first
    assert recording.error in second
    assert not spool.exists()
    spool.with_name("unmounted").rename(spool)
    broken.wait(lambda: "recordings are begun again" in broken.log, "the other line")
    assert broken.get("/readyz").status_code == 200


def test_strangers_and_idlers_hold_nothing_up(broken: RunningService) -> None:
    idlers = [socket.create_connection(broken.address) for _ in range(30)]
    for idler in idlers[::2]:
        idler.close()
    served(broken)
    broken.wait(lambda: len(errors(broken)) >= 15, "the idlers to be given up")
    for idler in idlers[1::2]:
        idler.close()


def test_a_peer_outside_the_allow_list_is_told_to_go_on(own_service: RunningService) -> None:
    own_service.settings["peers"] = "192.0.2.0/24"
    own_service.start()
    with socket.create_connection(own_service.address) as stranger:
        stranger.settimeout(PATIENCE)
        stranger_reads = stranger.makefile("rb")
        assert [stranger_reads.readline() for _ in range(2)] == [b"connect\n", b"\n"]
        # It answers nothing: the call is told to go on all the same, and the connection ends.
        assert stranger_reads.read() == b"resume\n\nexit\n\n"
    assert "refused: not in the setting peers" in own_service.log


def test_fifty_calls_at_once_all_come_out_right(own_service: RunningService) -> None:
    """A third each says something and falls silent, presses a key, says nothing."""
    own_service.start()
    switch = Switch(speed=2.0)
    document = own_service.document("burst", "answer", {"record": {**LIMITS, "initial_timeout": 6.0}}, "hangup")
    # Nobody speaks before a busy machine has begun to record all of them.
    voices = [a_voice(1.0 + 0.1 * number, lead=3.0) for number in range(5)]
    silence = np.zeros(0, np.int16)
    callers = [
        [
            (Caller(audio=voices[number % 5], gives_up_after=30), EndReason.END_SILENCE),
            (Caller(audio=a_voice(10.0), digits=((6.0, "#"),), gives_up_after=30), EndReason.TERMINATOR),
            (Caller(audio=silence, gives_up_after=30), EndReason.INITIAL_TIMEOUT),
        ][number % 3]
        for number in range(50)
    ]
    calls = [(switch.call(own_service.address, document, caller), reason) for caller, reason in callers]
    for call, _ in calls:
        call.wait(PATIENCE * 2)
    switch.close()
    own_service.wait(lambda: not own_service.spooled(), "the spool to be emptied")
    for call, reason in calls:
        ((path, recording),) = own_service.recordings(call.uuid)
        assert recording.end_reason is reason, recording
        assert path.with_suffix(".wav").stat().st_size == recording.size
    assert errors(own_service) == []
