"""Calls recorded as mp3 and mp4: what others decode is what was said, as long as the recording says it is."""

import hashlib
from pathlib import Path

import numpy as np
import pyrage
import pytest
import requests
from decoding import by_ffmpeg
from numpy.typing import NDArray
from phones import Dialled, Ended, Phone
from running import RunningService
from test_control import NO_LIMITS, live
from test_record import LIMITS, energy, likeness, said

from esl_record.recording.machine import EndReason, State
from esl_record.recording.params import Format
from esl_record.standin import voice

pytestmark = pytest.mark.slow

MEDIA_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg", "mp4": "audio/mp4"}

encoded = pytest.mark.parametrize("format", ["mp3", "mp4"])
sides = pytest.mark.parametrize("stereo", [False, True], ids=["mono", "stereo"])


def decoded(path: Path) -> tuple[NDArray[np.int16], int]:
    audio, rate = by_ffmpeg(path)
    return np.clip(audio * 32768, -32768, 32767).astype(np.int16), rate


def heard(ended: Ended) -> NDArray[np.int16]:
    """The one recording of a call as ffmpeg decodes it; it is as long as its facts say."""
    recording = ended.recording
    samples, rate = decoded(ended.audio)
    assert rate == recording.sample_rate
    assert samples.shape == (round(recording.duration * rate), recording.channels)
    assert ended.audio.suffix == f".{recording.format}"
    data = ended.audio.read_bytes()
    assert (recording.size, recording.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert list(ended.audio.parent.glob(f".*{recording.recording_id}*")) == []
    return samples


def of(recorded: NDArray[np.int16], spoken: NDArray[np.int16]) -> float:
    """How much a second in the middle of the recording is like the second of what was said that it is most like."""
    a, b = spoken.astype(float), recorded[len(recorded) // 2 :][:8000].astype(float)
    size = 1 << (len(a) + len(b)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)[: len(a) - len(b) + 1]
    energies = np.concatenate([[0.0], np.cumsum(a * a)])
    norm = np.sqrt(np.maximum(energies[len(b) :] - energies[: -len(b)], 1.0))
    return float((cross / norm).max() / np.linalg.norm(b))


@encoded
@sides
def test_a_message_is_recorded_in_it(phone: Phone, format: str, stereo: bool) -> None:
    steps = ["answer", {"record": {**LIMITS, "format": format, "stereo": stereo}}, "hangup"]
    ended = phone.call(Dialled(phone.service.document(f"message_{format}_{stereo}", *steps), said()))
    assert (ended.recording.state, ended.recording.end_reason) == (State.FINISHED, EndReason.END_SILENCE)
    samples = heard(ended)
    assert likeness(samples[:, 0], voice.say(1.5)) > 0.9
    if stereo:
        assert energy(samples[:, 1]) < 5
    answer = requests.get(ended.variables["record_url"], timeout=10)
    assert (answer.headers["content-type"], answer.content) == (MEDIA_TYPES[format], ended.audio.read_bytes())
    assert ended.variables["record_url"].endswith(f".{format}")
    part = requests.get(ended.variables["record_url"], headers={"Range": "bytes=100-199"}, timeout=10)
    assert (part.status_code, part.content) == (206, answer.content[100:200])


@encoded
@sides
def test_a_call_is_recorded_in_it_in_the_background(phone: Phone, format: str, stereo: bool) -> None:
    recorded = {"record_call": {"format": format, "stereo": stereo}}
    steps = ["answer", recorded, {"sleep": 4000}, "stop_record_call", "hangup"]
    spoken = voice.say(6.0)
    ended = phone.call(Dialled(phone.service.document(f"call_{format}_{stereo}", *steps), spoken))
    assert (ended.recording.state, ended.recording.end_reason) == (State.FINISHED, EndReason.STOP)
    assert ended.recording.duration == pytest.approx(4.0, abs=0.5)
    assert of(heard(ended)[:, 0], spoken) > 0.9


@encoded
@pytest.mark.parametrize("rate", [16000, 48000])
def test_a_wide_band_call_keeps_its_rate_in_it(phone: Phone, format: str, rate: int) -> None:
    document = phone.service.document(f"wide_{format}", "answer", {"record": {**LIMITS, "format": format}}, "hangup")
    ended = phone.call(Dialled(document, said(rate=rate), rate=rate))
    assert ended.recording.sample_rate == rate
    assert likeness(heard(ended)[:, 0], voice.say(1.5, rate)) > 0.8


@encoded
@pytest.mark.parametrize("seconds", [0.02, 1.23])
def test_the_maximum_length_is_exact_in_it(phone: Phone, format: str, seconds: float) -> None:
    longest = {**LIMITS, "max_length": seconds, "format": format}
    document = phone.service.document(f"longest_{format}", "answer", {"record": longest}, "hangup")
    ended = phone.call(Dialled(document, said(5)))
    assert len(heard(ended)) == round(seconds * 8000)


def test_what_is_asked_for_without_a_format_is_an_mp3(phone: Phone, own_service: RunningService) -> None:
    own_service.start()
    phone.service = own_service
    call = phone.dial(Dialled(own_service.document("asked", "answer", {"sleep": 60_000}), said(10)))
    (leg,) = own_service.wait(lambda: own_service.get("/api/v1/calls").json()["data"], "the call")
    asked = {name: value for name, value in NO_LIMITS.items() if name != "format"}
    assert own_service.command("calling.record", leg["id"], control_id="a", audio=asked).status_code == 200
    own_service.wait(lambda: live(own_service)[0]["duration"] > 2.0, "two seconds of audio")
    assert own_service.command("calling.end", leg["id"]).status_code == 200
    ended = call.end()
    assert ended.recording.format is Format.MP3
    assert len(heard(ended)) > 16000


@encoded
def test_a_killed_service_leaves_what_the_next_start_encodes(
    phone: Phone, own_service: RunningService, format: str
) -> None:
    """What was encoded behind the call is thrown away: the spool has it all."""
    own_service.start()
    phone.service = own_service
    steps = ["answer", {"record": {**NO_LIMITS, "format": format, "stereo": True}}]
    document = own_service.document("killed", *steps)
    spoken = np.concatenate([np.zeros(4000, np.int16), voice.say(20.0)])
    call = phone.dial(Dialled(document, spoken, hangup_after=16.0, parked=True))
    recordings = own_service.data / "recordings"
    own_service.wait(lambda: list(recordings.rglob(f".*.{format}.part")), "an encoding behind the call")
    own_service.kill()
    own_service.process = None
    own_service.start()
    ended = call.end()
    assert (ended.recording.state, ended.recording.end_reason) == (State.FINISHED, EndReason.RECOVERED)
    assert of(heard(ended)[:, 0], spoken) > 0.9
    assert ended.recording.duration > 10.0


def test_with_a_key_a_message_is_encrypted_and_given_as_it_is(
    phone: Phone, own_service: RunningService, tmp_path: Path
) -> None:
    key = pyrage.x25519.Identity.generate()
    own_service.settings["encryption_key_command"] = f"echo {key}"
    own_service.start()
    phone.service = own_service
    document = own_service.document("sealed", "answer", {"record": {**LIMITS, "format": "mp4"}}, "hangup")
    ended = phone.call(Dialled(document, said()))
    assert (ended.recording.state, ended.recording.end_reason) == (State.FINISHED, EndReason.END_SILENCE)
    day = ended.audio.parent
    assert sorted(path.suffix for path in day.iterdir()) == [".age", ".json"]
    url = ended.variables["record_url"]
    answer = requests.get(url, timeout=10)
    assert (answer.headers["content-type"], len(answer.content)) == (MEDIA_TYPES["mp4"], ended.recording.size)
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    assert requests.get(url, headers={"Range": "bytes=9000-"}, timeout=10).content == answer.content[9000:]
    plain = tmp_path / "plain.mp4"
    plain.write_bytes(pyrage.decrypt(ended.audio.read_bytes(), [key]))
    assert plain.read_bytes() == answer.content
    assert likeness(decoded(plain)[0][:, 0], voice.say(1.5)) > 0.9
    assert str(key) not in own_service.log
    # What was recorded stays known without its key, and shut.
    own_service.stop()
    del own_service.settings["encryption_key_command"]
    (own_service.data / "encrypted").unlink()
    own_service.start()
    assert requests.get(url, timeout=10).status_code == 503
    assert "no encryption_key is set" in own_service.log
