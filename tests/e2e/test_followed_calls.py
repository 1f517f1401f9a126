"""Calls that no event socket of their own reaches: recorded where they are, over the switch's own event socket."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import numpy as np
import pytest
from alignment import FRAME, RATE, Comparison, Stretch, compare, spoken, tone
from numpy.typing import NDArray
from phones import Dialled, Ended, FreeSwitchPhone, Live, Phone, StandInPhone
from running import RunningService
from test_bridged_calls import THEIRS, _parties, connect  # noqa: F401  # the first is a fixture
from test_control import live
from test_resumed import Relay

from esl_record.esl.inbound import Inbound
from esl_record.recording.machine import EndReason, PauseCause, State
from esl_record.recording.recording import Recording

pytestmark = pytest.mark.slow

FOREVER = 150_000
"""Milliseconds: longer than any of these calls."""

ELSEWHERE = 1700
"""Hertz of what is heard where a call is transferred to."""

SAID = spoken(240, seed=3)

PACKETS = 60.0
"""Milliseconds a real switch may lose or add where media begins or is connected otherwise."""

RECORD = {"record_call": {"control_id": "r", "stereo": True}}


class Orphan:
    """A recorded call. Seconds are the call's own, which pass faster on the stand-in."""

    def __init__(self, phone: Phone, service: RunningService, document: str, **dialled: Any) -> None:
        self.phone = phone
        self.service = service
        self.live: Live = phone.dial(Dialled(document, SAID, patience=600.0, **dialled))
        one: dict[str, Any] = service.wait(lambda: self._seen(2.0), "two seconds of audio")
        self.uuid: str = one["call_id"]
        self.recording_id: str = one["recording_id"]

    def _seen(self, seconds: float) -> Any:
        return next((one for one in live(self.service) if one["duration"] > seconds), None)

    @property
    def shown(self) -> dict[str, Any]:
        """What the API shows of its recording."""
        (one,) = live(self.service)
        shown: dict[str, Any] = one
        return shown

    def api(self, line: str) -> str:
        with Inbound(self.phone.event_socket, "ClueCon") as switch:
            return switch.api(line)

    def written(self) -> float:
        # The stand-in may stand still for so long, on a busy machine, that its tap is restarted.
        files = (self.service.data / "spool").glob(f"{self.recording_id}*.raw")
        return sum(path.stat().st_size for path in files) / 4 / RATE

    def talk(self, seconds: float) -> None:
        """The call goes on for so long, and its tap with it."""
        until = self.written() + seconds
        self.service.wait(lambda: self.written() >= until, "the call to go on")

    def bridged(self) -> str:
        """The id of the far end, once there is one."""

        def far_end() -> str:
            return self.api(f"uuid_getvar {self.uuid} signal_bond").strip().removeprefix("_undef_")

        found: str = self.service.wait(far_end, "the bridge")
        return found

    def kill(self) -> None:
        self.service.kill()
        self.service.process = None

    def followed(self, start: Callable[[], None]) -> None:
        """It is recorded where it is, after ``start``."""
        before = self.service.log.count("its recordings go on there")
        start()
        log = self.service
        log.wait(lambda: self.service.log.count("its recordings go on there") > before, "the call to be followed")
        log.wait(lambda: live(self.service), "the recording to be shown")
        assert self.shown["recording_id"] == self.recording_id

    def command(self, name: str, **params: object) -> None:
        assert self.service.command(f"calling.record.{name}", self.uuid, control_id="r", **params).status_code == 200

    def hang_up(self) -> Ended:
        self.live.hang_up()
        return self.live.end()


@pytest.fixture
def linked(phone: Phone, own_service: RunningService) -> RunningService:
    """A service that the switch's own event socket is open to."""
    own_service.settings["event_socket"] = "{}:{}".format(*phone.event_socket)
    own_service.settings["stall_timeout"] = 3
    phone.service = own_service
    if isinstance(phone, StandInPhone):
        sound = ("playback", f"tone_stream://%({FOREVER},0,{ELSEWHERE})")
        phone.switch.extensions[f"tone-{ELSEWHERE}-{FOREVER}"] = [("answer", ""), sound]
    return own_service


@pytest.fixture
def far() -> str:
    return f"tone-{THEIRS}-{FOREVER}"


def finished(ended: Ended, reason: EndReason = EndReason.HANGUP) -> Recording:
    recording = ended.recording
    assert (recording.state, recording.end_reason, recording.error) == (State.FINISHED, reason, "")
    return recording


def exactly(recorded: NDArray[np.int16]) -> Comparison:
    """As ``compare`` has it, of what the stand-in gives on as it is."""
    said = {SAID[at : at + FRAME].tobytes(): at for at in range(0, len(SAID) - FRAME + 1, FRAME)}
    stretches: list[Stretch] = []
    at = 0
    while at + FRAME <= len(recorded):
        place = said.get(recorded[at : at + FRAME].tobytes())
        what = "silent" if np.abs(recorded[at : at + FRAME]).max() <= 1 else "other" if place is None else "said"
        # Behind a gap the frames of the call begin anywhere.
        step = (
            FRAME
            if what != "other"
            else next(
                (ahead for ahead in range(1, FRAME) if recorded[at + ahead : at + ahead + FRAME].tobytes() in said),
                FRAME,
            )
        )
        offset = (place - at) * 1000 / RATE if place is not None and what == "said" else None
        start, end = round(at * 1000 / RATE), round((at + step) * 1000 / RATE)
        what = "silent" if step < FRAME else what
        if stretches and (stretches[-1].what, stretches[-1].offset) == (what, offset):
            start = stretches.pop().start
        stretches.append(Stretch(start, end, what, offset))
        at += step
    return Comparison(tuple(stretches))


def heard(phone: Phone, ended: Ended, *, jumps: bool = True) -> Comparison:
    """What the caller said, none of it lost or added but for the packets of a real switch."""
    samples = ended.samples[:, 0]
    found = compare(SAID[: 90 * RATE], samples) if isinstance(phone, FreeSwitchPhone) else exactly(samples)
    jump = PACKETS if isinstance(phone, FreeSwitchPhone) else 0.0
    assert not jumps or all(abs(one) <= jump for one in found.jumps), str(found)
    return found


def whole(phone: Phone, ended: Ended, *, silence: float = 0.0) -> None:
    """All that was said is there, but for ``silence`` seconds."""
    found = heard(phone, ended)
    assert found.said >= (len(ended.samples) / RATE - silence) * 1000 - 800, str(found)


# ---- a service that is killed


@pytest.mark.parametrize("doing", ["bridge", "transfer", "play"])
def test_the_recording_of_a_call_that_is_elsewhere_goes_on(
    phone: Phone, linked: RunningService, far: str, doing: str
) -> None:
    linked.start()
    does = {"play": f"tone_stream://%({FOREVER // 5},0,{THEIRS});loops=5"} if doing == "play" else connect(phone, far)
    call = Orphan(phone, linked, linked.document("orphan", "answer", RECORD, does, "hangup"))
    if doing != "play":
        call.bridged()
    if doing == "transfer":
        call.api(f"uuid_transfer {call.uuid} tone-{ELSEWHERE}-{FOREVER}")
    call.talk(1.5)
    call.kill()
    call.talk(1.0)
    call.followed(linked.start)
    call.command("pause", behavior="silence")
    assert call.shown["state"] == "paused"
    call.talk(1.0)
    call.command("resume")
    assert call.shown["state"] == "recording"
    call.talk(2.0)
    written = call.written()
    ended = call.hang_up()
    recording = finished(ended)
    assert written <= recording.duration == len(ended.samples) / RATE
    (pause,) = recording.pauses
    assert (pause.began_by, pause.ended_by) == (PauseCause.API, PauseCause.API)
    whole(phone, ended, silence=pause.end - pause.start)
    behind = tone(ended.samples[round(pause.end * RATE) :, 1], ELSEWHERE if doing == "transfer" else THEIRS)
    assert len(behind) >= 18
    assert not ended.went_on


def test_the_recording_can_be_stopped_and_the_call_goes_on(phone: Phone, linked: RunningService, far: str) -> None:
    linked.start()
    call = Orphan(phone, linked, linked.document("orphan", "answer", RECORD, connect(phone, far), "hangup"))
    call.bridged()
    call.kill()
    call.followed(linked.start)
    call.command("stop")
    linked.wait(lambda: not live(linked), "its end")
    assert call.api(f"uuid_exists {call.uuid}").strip() == "true"
    assert call.api(f"uuid_getvar {call.uuid} esl_record_held").strip() == "_undef_"
    ended = call.hang_up()
    finished(ended, EndReason.STOP)
    whole(phone, ended)


def test_a_call_that_comes_back_takes_its_recording_over(phone: Phone, linked: RunningService, far: str) -> None:
    linked.start()
    document = linked.document("orphan", "answer", RECORD, connect(phone, far), {"sleep": -1})
    call = Orphan(phone, linked, document, again=True)
    far_end = call.bridged()
    call.talk(1.0)
    call.kill()
    call.followed(linked.start)
    begun = linked.log.count(f"recording {call.recording_id} goes on")
    call.api(f"uuid_kill {far_end}")
    linked.wait(lambda: linked.log.count(f"recording {call.recording_id} goes on") > begun, "it to come back")
    linked.wait(lambda: live(linked), "the recording to be shown")
    assert call.shown["recording_id"] == call.recording_id
    call.talk(2.0)
    call.command("pause", behavior="silence")
    call.command("resume")
    ended = call.hang_up()
    (pause,) = finished(ended).pauses
    whole(phone, ended, silence=pause.end - pause.start)


def test_without_the_link_the_recording_is_recovered(phone: Phone, own_service: RunningService, far: str) -> None:
    phone.service = own_service
    own_service.settings["stall_timeout"] = 3
    own_service.start()
    call = Orphan(phone, own_service, own_service.document("orphan", "answer", RECORD, connect(phone, far), "hangup"))
    call.bridged()
    call.kill()
    call.talk(1.0)
    own_service.start()
    call.talk(6.0)
    assert not live(own_service)
    written = call.written()
    ended = call.hang_up()
    recording = finished(ended, EndReason.RECOVERED)
    assert recording.duration >= written
    whole(phone, ended)


@pytest.mark.parametrize("ends", ["before the start", "behind it"])
def test_a_hold_has_its_length_whoever_is_there(phone: Phone, linked: RunningService, far: str, ends: str) -> None:
    linked.start()
    call = Orphan(phone, linked, linked.document("orphan", "answer", RECORD, connect(phone, far), "hangup"))
    call.bridged()
    call.talk(1.0)
    held = time.monotonic()
    assert call.api(f"uuid_hold {call.uuid}").startswith("+OK")
    linked.wait(lambda: holds_noted(call), "the hold to be noted")
    call.kill()
    gevent.sleep(2.0)
    if ends == "before the start":
        call.api(f"uuid_hold off {call.uuid}")
        held = time.monotonic() - held
        call.followed(linked.start)
    else:
        call.followed(linked.start)
        call.api(f"uuid_hold off {call.uuid}")
        held = time.monotonic() - held
    call.talk(3.0)
    ended = call.hang_up()
    recording = finished(ended)
    kept = heard(phone, ended, jumps=False)
    (hold,) = recording.holds
    assert not hold.far
    speed = 1.0 if isinstance(phone, FreeSwitchPhone) else StandInPhone.SPEED
    assert hold.end - hold.start == pytest.approx(held * speed, abs=0.5 * speed)
    silent = [one for one in kept.silences(1000) if one[0] > 500]
    assert len(silent) == 1
    assert (silent[0][1] - silent[0][0]) / 1000 == pytest.approx(hold.end - hold.start, abs=0.5 * speed)


def holds_noted(call: Orphan) -> bool:
    announced = call.service.data / "pending" / f"{call.recording_id}.json"
    return bool(Recording.model_validate_json(announced.read_bytes()).holds)


# ---- a connection that is cut


@pytest.fixture
def relay(linked: RunningService) -> Iterator[Relay]:
    """What the calls of a test are connected with instead of the service, and what carries them there."""
    linked.start()
    relay = Relay(linked.address)
    yield relay
    relay.close()


def test_a_recording_outlives_its_connection(phone: Phone, linked: RunningService, far: str, relay: Relay) -> None:
    document = linked.document("cut", "answer", RECORD, connect(phone, far), "hangup")
    call = Orphan(phone, linked, document, at=relay.address)
    call.bridged()
    call.talk(1.0)
    call.followed(relay.cut)
    call.talk(2.0)
    call.command("pause", behavior="silence")
    call.command("resume")
    written = call.written()
    ended = call.hang_up()
    assert written <= finished(ended).duration
    whole(phone, ended, silence=1.0)
    assert not ended.went_on


# ---- the far end


def test_what_the_far_end_does_is_noted(phone: Phone, linked: RunningService, far: str) -> None:
    """It holds, and later presses the digits that pause and resume recordings.

    Without a phone a real switch does not hold its far end; see ``test_phone_calls.py``.
    """
    holds = isinstance(phone, StandInPhone)
    # The caller gets them too, and * would end what it plays.
    linked.settings |= {"pause_digits": "85", "resume_digits": "86", "pause_behavior": "silence"}
    linked.start()
    call = Orphan(phone, linked, linked.document("far", "answer", RECORD, connect(phone, far), "hangup"))
    far_end = call.bridged()
    call.talk(1.0)
    if holds:
        assert call.api(f"uuid_hold {far_end}").startswith("+OK")
        call.talk(3.0)
        assert call.api(f"uuid_hold off {far_end}").startswith("+OK")
        call.talk(1.0)
    for digits, state in (("85", "paused"), ("86", "recording")):
        call.api(f"uuid_recv_dtmf {far_end} {digits}")
        linked.wait(lambda state=state: call.shown["state"] == state, state)
        call.talk(2.0)
    ended = call.hang_up()
    recording = finished(ended)
    assert [hold.far for hold in recording.holds] == [True] * holds
    assert all(2.0 <= hold.end - hold.start <= 6.0 for hold in recording.holds)
    (pause,) = recording.pauses
    assert (pause.began_by, pause.ended_by, pause.behavior) == (PauseCause.DIGITS, PauseCause.DIGITS, "silence")
    assert 1.9 <= pause.end - pause.start <= 6.0
    whole(phone, ended, silence=pause.end - pause.start)
    # What was on its way when the tap was masked stands in front.
    masked = ended.samples[round((pause.start + pause.end) / 2 * RATE) : round((pause.end - 0.1) * RATE)]
    assert not masked.any()


# ---- SIGHUP


def test_a_hangup_signal_changes_nothing(phone: Phone, linked: RunningService, far: str) -> None:
    linked.start()
    call = Orphan(phone, linked, linked.document("hup", "answer", RECORD, connect(phone, far), "hangup"))
    call.bridged()
    assert linked.process is not None
    for _ in range(2):
        seen = linked.log.count("SIGHUP")
        os.kill(linked.process.pid, signal.SIGHUP)
        linked.wait(lambda seen=seen: linked.log.count("SIGHUP") > seen, "the signal")
        call.talk(1.0)
    assert call.shown["recording_id"] == call.recording_id
    ended = call.hang_up()
    finished(ended)
    whole(phone, ended)
