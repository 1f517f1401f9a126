"""A live recording controlled from outside, and what of it is on disk."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import soundfile
from numpy.typing import NDArray
from phones import Dialled, FreeSwitchPhone, Phone
from running import RunningService
from test_record import likeness

from esl_record.esl.inbound import Inbound
from esl_record.recording.machine import EndReason, State
from esl_record.standin import voice

NO_LIMITS = {"initial_timeout": 0, "end_silence_timeout": 0}
RATE = 8000

OPEN, SECRET = 500.0, 1300.0
"""Hertz of what may be recorded, and of what is said in the pause."""

SECRET_FROM, SECRET_TO = 8.0, 12.0
"""Seconds of what the caller plays."""


def tone(hertz: float, seconds: float) -> NDArray[np.int16]:
    return np.round(8000 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.int16)


def level(samples: NDArray[np.int16], hertz: float) -> float:
    """RMS amplitude of one frequency, the loudest of any half second."""
    half = RATE // 2
    wave = np.exp(-2j * np.pi * hertz * np.arange(half) / RATE)
    blocks = [samples[at : at + half] for at in range(0, max(1, len(samples) - half + 1), half // 4)]
    return max(abs(np.dot(np.pad(block, (0, half - len(block))), wave)) / half for block in blocks) * 2**0.5


def live(service: RunningService) -> list[dict[str, Any]]:
    """The recordings under way, of the one call there is."""
    calls = service.get("/api/v1/calls").json()["data"]
    return [{"call_id": call["id"], **recording} for call in calls for recording in call["recordings"]]


class Spools:
    """Everything that was ever seen in a spool file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: dict[str, bytes] = {}

    def look(self, recording_id: str) -> float:
        """Reads the spool; gives its length in seconds."""
        path = self.folder / f"{recording_id}.raw"
        data = path.read_bytes() if path.exists() else b""
        # The file only grows: what was there before must be there still.
        assert data.startswith(self.seen.get(recording_id, b""))
        self.seen[recording_id] = data
        return len(data) / 2 / RATE

    def samples(self, recording_id: str) -> NDArray[np.int16]:
        return np.frombuffer(self.seen[recording_id][: len(self.seen[recording_id]) // 2 * 2], "<i2")


@pytest.mark.parametrize("behavior", ["skip", "silence"])
def test_what_is_said_in_a_pause_is_nowhere_on_disk(phone: Phone, own_service: RunningService, behavior: str) -> None:
    service = own_service
    service.start()
    phone.service = service
    document = service.document("paused", "answer", {"record": {**NO_LIMITS, "control_id": "r"}}, "hangup")
    said = np.concatenate([tone(OPEN, SECRET_FROM), tone(SECRET, SECRET_TO - SECRET_FROM), tone(OPEN, 4.0)])
    call = phone.dial(Dialled(document, said))
    (recording,) = service.wait(lambda: live(service), "the recording")
    call_id = recording["call_id"]
    # A second recording that is not paused counts the call's time, and shows that the secret was there to be heard.
    assert service.command("calling.record", call_id, control_id="witness", audio=NO_LIMITS).status_code == 200
    _, witness = service.wait(lambda: len(found := live(service)) == 2 and found, "the second recording")
    spools = Spools(service.data / "spool")

    def witnessed(seconds: float) -> bool:
        spools.look(recording["recording_id"])
        return spools.look(witness["recording_id"]) >= seconds

    service.wait(lambda: witnessed(1.0), "a second of audio")
    answer = service.command("calling.record.pause", call_id, control_id="r", behavior=behavior)
    assert answer.status_code == 200
    witnessed(0.0)
    assert level(spools.samples(witness["recording_id"]), SECRET) < 100, "too slow to have paused before it was said"
    assert {one["control_id"]: one["state"] for one in live(service)} == {"r": "paused", "witness": "recording"}
    service.wait(lambda: witnessed(SECRET_TO + 0.5), "the pause to pass")
    assert service.command("calling.record.resume", call_id, control_id="r").status_code == 200
    resumed = spools.look(witness["recording_id"])
    service.wait(lambda: witnessed(resumed + 1.5), "audio after the pause")
    assert service.command("calling.record.stop", call_id, control_id="witness").status_code == 200
    assert service.command("calling.end", call_id, reason="hangup").status_code == 200
    ended = call.end()

    files = {one.control_id: (one, path) for path, one in ended.recordings}
    heard, path = files["r"]
    assert (heard.state, heard.end_reason) == (State.FINISHED, EndReason.HANGUP)
    (pause,) = heard.pauses
    assert pause.behavior == behavior
    samples = soundfile.read(heard.audio(path), dtype="int16")[0]
    for kept in (samples, spools.samples(heard.recording_id)):
        assert level(kept, SECRET) < 20
    before, after = samples[: round(pause.start * RATE)], samples[round(pause.end * RATE) :]
    assert level(before, OPEN) > 2000
    assert level(after, OPEN) > 2000
    if behavior == "silence":
        between = samples[round(pause.start * RATE) : round(pause.end * RATE)]
        assert len(between) > (SECRET_TO - SECRET_FROM) * RATE
        # What was on its way when the mask was set belongs to the time before it.
        assert not between[RATE // 10 :].any()
    else:
        assert heard.duration < SECRET_FROM
    witnessed_one, path = files["witness"]
    assert (witnessed_one.state, witnessed_one.end_reason) == (State.FINISHED, EndReason.STOP)
    assert level(soundfile.read(witnessed_one.audio(path), dtype="int16")[0], SECRET) > 2000


def test_a_recording_is_started_stopped_listed_fetched_and_deleted(phone: Phone, own_service: RunningService) -> None:
    service = own_service
    service.settings |= {"project_id": "p", "api_token": "t"}
    service.start()
    phone.service = service
    document = service.document("waiting", "answer", {"sleep": 600_000}, "hangup")
    call = phone.dial(Dialled(document, tone(OPEN, 30.0), name="Ann"))
    credentials = ("p", "t")
    (leg,) = service.wait(lambda: service.get("/api/v1/calls", auth=credentials).json()["data"], "the call")
    url = f"http://{service.http}/api/calling/calls"

    def command(name: str, **params: object) -> requests.Response:
        body = {"command": name, "id": leg["id"], "params": params}
        return requests.post(url, json=body, auth=credentials, timeout=10)

    audio = {**NO_LIMITS, "format": "wav", "direction": "both", "stereo": True}
    started = command("calling.record", record={"audio": audio})
    control_id = started.json()["control_id"]
    service.wait(
        lambda: service.get("/api/v1/calls", auth=credentials).json()["data"][0]["recordings"][0]["duration"] > 1.0,
        "a second of audio",
    )
    assert command("calling.record", control_id=control_id).status_code == 422
    assert command("calling.record.stop", control_id=control_id).status_code == 200

    def listed() -> list[dict[str, Any]]:
        data = service.get("/api/relay/rest/recordings", auth=credentials).json()["data"]
        return [one for one in data if one["url"]]

    (item,) = service.wait(listed, "the file")
    assert (item["stereo"], item["track"], item["project_id"]) == (True, "both", "p")
    whole = requests.get(item["url"], timeout=10)
    part = requests.get(item["url"], headers={"Range": "bytes=100-199"}, timeout=10)
    assert (whole.status_code, part.status_code, part.content) == (200, 206, whole.content[100:200])
    assert len(whole.content) == item["byte_size"]
    assert requests.get(item["url"][:-1], timeout=10).status_code == 403
    assert service.get("/api/relay/rest/recordings").status_code == 401
    assert command("calling.end").status_code == 200
    ended = call.end()
    assert ended.recording.control_id == control_id

    place = f"/api/relay/rest/recordings/{item['id']}"
    assert requests.delete(f"http://{service.http}{place}", timeout=10).status_code == 401
    assert requests.delete(f"http://{service.http}{place}", auth=credentials, timeout=10).status_code == 204
    assert service.get(place, auth=credentials).status_code == 404
    assert requests.get(item["url"], timeout=10).status_code == 404
    assert not ended.audio.exists()


def test_the_switch_can_play_a_recording_by_its_url(phone: Phone, own_service: RunningService) -> None:
    if not isinstance(phone, FreeSwitchPhone):
        pytest.skip("the stand-in fetches nothing")
    if not phone.has("mod_httapi"):
        pytest.skip("this FreeSWITCH has no mod_httapi")
    service = own_service
    service.start()
    phone.service = service
    kept = {**NO_LIMITS, "max_length": 3, "control_id": "first"}
    document = service.document("again", "answer", {"record": kept}, {"play": "${record_url}"}, "hangup")
    call = phone.dial(Dialled(document, voice.say(3.0)))
    (first,) = service.wait(lambda: live(service), "the recording")
    heard = {**NO_LIMITS, "direction": "listen"}
    assert service.command("calling.record", first["call_id"], control_id="heard", audio=heard).status_code == 200
    ended = call.end()
    files = {one.control_id: soundfile.read(one.audio(path), dtype="int16")[0] for path, one in ended.recordings}
    assert len(files["heard"]) > len(files["first"])
    assert likeness(files["heard"], files["first"]) > 0.9


def test_a_sound_that_the_switch_plays_by_itself_holds_up_no_hang_up(phone: Phone) -> None:
    """As with `execute_on_...` and `uuid_broadcast`: what is queued for the call waits until the sound has ended."""
    service = phone.service
    document = service.document("locked", "answer", {"record": {**NO_LIMITS, "terminators": "#"}}, {"hangup": "busy"})
    before = service.log.count("finished, terminator")
    call = phone.dial(Dialled(document, digits=((4.0, "#"),)))
    (recording,) = service.wait(lambda: live(service), "the recording")
    with Inbound(phone.event_socket, "ClueCon") as switch:
        headers = ("call-command: execute", "execute-app-name: playback", "event-lock: true")
        lines = [f"sendmsg {recording['call_id']}", *headers, "execute-app-arg: tone_stream://%(60000,0,500)", "", ""]
        switch._request("\n".join(lines).encode(), "sendmsg")
    service.wait(lambda: service.log.count("finished, terminator") > before, "the end of the recording")
    ended_at = time.monotonic()
    ended = call.end()
    assert time.monotonic() - ended_at < 1.0
    assert (ended.variables["hangup_cause"], ended.went_on) == ("USER_BUSY", False)
