"""Card numbers that are masked from the phone: what is said between the digits is nowhere on disk."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from phones import Dialled, Phone, StandInPhone
from running import RunningService
from test_callbacks import Taker
from test_control import NO_LIMITS, OPEN, RATE, SECRET, level, live, tone
from test_handler_calls import press

from esl_record.recording.machine import EndReason, PauseCause, State

pytestmark = pytest.mark.slow

SECRET_FROM, SECRET_TO, END = 8.0, 12.0, 18.0
"""Seconds of what both callers play: OPEN, but SECRET between the first two."""

SAID = np.concatenate([tone(OPEN, SECRET_FROM), tone(SECRET, SECRET_TO - SECRET_FROM), tone(OPEN, END + 2 - SECRET_TO)])

PAUSES = ((3.0, "*"), (3.5, "5"))
RESUMES = ((14.0, "*"), (14.5, "6"))

LIMIT = 11.0
"""Seconds of call after which ``pause_limit`` resumes what PAUSES has paused."""

KEY_TONES = (770.0, 852.0, 941.0, 1209.0, 1336.0, 1477.0)
"""Hertz of the tones of *, 5 and 6."""

PROMPT = 0.3
"""Seconds of wall time within which a pause takes effect, on a busy machine."""

HANDLER = f"""
def handler(session, args):
    session.answer()
    recording = session.record_call(control_id="masked", direction="speak", status_url="{{url}}")
    session.sleep(4000)
    if recording.pause("{{behavior}}").state == "paused":
        session.sleep({{paused}})
        recording.resume()
        session.sleep({round(END * 1000)})
"""


class Watched:
    """Everything that was ever seen in the spools of live recordings, by control id."""

    def __init__(self, service: RunningService) -> None:
        self._service = service
        self.seen: dict[str, bytes] = {}

    def look(self) -> dict[str, float]:
        """Read the spools, and return how many seconds each has had at most."""
        for one in live(self._service):
            path = self._service.data / "spool" / f"{one['recording_id']}.raw"
            data, before = path.read_bytes() if path.exists() else b"", self.seen.get(one["control_id"], b"")
            if len(data) >= len(before):
                # It only grows: what was there before must be there still.
                assert data.startswith(before)
                self.seen[one["control_id"]] = data
        return {control_id: len(data) / 2 / RATE for control_id, data in self.seen.items()}

    def samples(self, control_id: str) -> NDArray[np.int16]:
        data = self.seen[control_id]
        return np.frombuffer(data[: len(data) // 2 * 2], "<i2")


@pytest.mark.parametrize(
    ("began_by", "ended_by", "behavior"),
    [
        (PauseCause.DIGITS, PauseCause.DIGITS, "silence"),
        (PauseCause.DIGITS, PauseCause.DIGITS, "skip"),
        (PauseCause.DIGITS, PauseCause.LIMIT, "silence"),
        (PauseCause.HANDLER, PauseCause.HANDLER, "silence"),
        (PauseCause.HANDLER, PauseCause.DIGITS, "skip"),
    ],
)
def test_what_is_said_while_masked_is_nowhere_on_disk(
    phone: Phone, own_service: RunningService, began_by: PauseCause, ended_by: PauseCause, behavior: str
) -> None:
    service, taker = own_service, Taker([])
    speed = _speed(phone)
    handlers = service.folder / "handlers"
    handlers.mkdir()
    service.settings |= {
        "pause_digits": "*5",
        "resume_digits": "*6",
        "pause_behavior": behavior,
        "pause_limit": LIMIT / speed if ended_by is PauseCause.LIMIT else 0,
        "handlers": handlers,
    }
    service.start()
    phone.service = service
    if began_by is PauseCause.HANDLER:
        paused = 10_000 if ended_by is PauseCause.HANDLER else 60_000
        (handlers / "masks.py").write_text(HANDLER.format(url=taker.url, behavior=behavior, paused=paused))
        document = "python/masks"
    else:
        masked_params = {**NO_LIMITS, "control_id": "masked", "status_url": taker.url}
        document = service.document("masks", "answer", {"record": masked_params}, "hangup")
    digits = (PAUSES if began_by is PauseCause.DIGITS else ()) + (RESUMES if ended_by is PauseCause.DIGITS else ())
    # Another call at the same time in which nobody presses anything: it shows that there was something to be heard.
    open_document = service.document("open", "answer", {"record": {**NO_LIMITS, "control_id": "open"}}, "hangup")
    calls = [
        phone.dial(Dialled(open_document, SAID, hangup_after=END)),
        phone.dial(Dialled(document, SAID, digits=digits, hangup_after=END)),
    ]
    watched = Watched(service)
    service.wait(lambda: watched.look().get("open", 0) > SECRET_TO, "the secret to be said")
    assert {one["control_id"]: one["state"] for one in live(service)} == {"masked": "paused", "open": "recording"}
    service.wait(lambda: watched.look()["open"] > END - 1.5, "audio after the secret")
    service.wait(lambda: not live(service), "the end of both calls")
    ended = {one.control_id: (path, one) for call in calls for path, one in call.end().recordings}

    path, masked = ended["masked"]
    assert (masked.state, masked.end_reason) == (State.FINISHED, EndReason.HANGUP)
    (pause,) = masked.pauses
    assert (pause.began_by, pause.ended_by, pause.behavior) == (began_by, ended_by, behavior)
    samples = _samples(path, masked)
    open_path, open_one = ended["open"]
    assert level(_samples(open_path, open_one), SECRET) > 2000
    assert level(watched.samples("open"), SECRET) > 2000
    for kept in (samples, watched.samples("masked")):
        assert level(kept, SECRET) < 20
        for hertz in KEY_TONES:
            assert level(kept, hertz) < 200
    assert level(samples[: round(pause.start * RATE)], OPEN) > 2000
    assert level(samples[round(pause.end * RATE) :], OPEN) > 2000
    between = samples[round(pause.start * RATE) : round(pause.end * RATE)]
    # The pause is noted on disk and the switch is told between the request and its effect.
    late = round(PROMPT * speed * RATE)
    if behavior == "silence":
        assert len(between) > (SECRET_TO - SECRET_FROM) * RATE
        assert not between[late:].any()
    else:
        assert len(between) <= late
        assert masked.duration < open_one.duration - (SECRET_TO - SECRET_FROM)
    service.wait(taker.finished, "the callbacks")
    told = [post.json["params"] for post in taker.taken]
    assert [params["state"] for params in told] == ["recording", "paused", "recording", "finished"]
    assert told[1]["pause_behavior"] == behavior


def _samples(path: Path, recording: Any) -> NDArray[np.int16]:
    return np.asarray(soundfile.read(recording.audio(path), dtype="int16")[0])


def test_a_pause_outlives_the_service_and_is_resumed_by_digits(phone: Phone, own_service: RunningService) -> None:
    service = own_service
    host, port = phone.event_socket
    service.settings |= {"pause_digits": "*5", "resume_digits": "*6", "event_socket": f"{host}:{port}"}
    service.start()
    phone.service = service
    taker = Taker([])
    params = {**NO_LIMITS, "control_id": "r", "status_url": taker.url}
    document = service.document("outlives", "answer", {"record": params}, "hangup")
    call = phone.dial(Dialled(document, tone(OPEN, 90.0), parked=True))

    def is_(state: str, seconds: float = 0.0) -> bool:
        return any(one["state"] == state and one["duration"] >= seconds for one in live(service))

    service.wait(lambda: is_("recording", 0.5), "the recording")
    press(call, "*5")
    # It is told of once the switch has done it.
    service.wait(lambda: any(post.json["params"]["state"] == "paused" for post in taker.taken), "the pause")
    service.kill()
    service.process = None
    service.start()
    service.wait(lambda: is_("paused"), "the paused recording to come back")
    press(call, "*6")
    service.wait(lambda: is_("recording"), "the end of the pause")
    paused_until = live(service)[0]["duration"]
    service.wait(lambda: is_("recording", paused_until + 1.0), "audio after the pause")
    call_id = live(service)[0]["call_id"]
    assert service.command("calling.record.stop", call_id, control_id="r").status_code == 200
    ended = call.end()
    (pause,) = ended.recording.pauses
    assert (pause.began_by, pause.ended_by, pause.behavior) == (PauseCause.DIGITS, PauseCause.DIGITS, "silence")
    samples = ended.samples[:, 0]
    between = samples[round(pause.start * RATE) : round(pause.end * RATE)]
    late = round(PROMPT * _speed(phone) * RATE)
    assert len(between) > late
    assert not between[late:].any()
    assert level(samples[round(pause.end * RATE) :], OPEN) > 2000


def _speed(phone: Phone) -> float:
    return StandInPhone.SPEED if isinstance(phone, StandInPhone) else 1.0
