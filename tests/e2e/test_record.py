"""What a caller does, and the recording it leads to."""

from dataclasses import replace

import numpy as np
import pytest
import requests
from numpy.typing import NDArray
from phones import Dialled, Phone

from esl_record.recording.machine import EndReason, State
from esl_record.recording.params import RecordParams
from esl_record.recording.replay import replay
from esl_record.standin import voice

LIMITS = {"initial_timeout": 2.0, "end_silence_timeout": 1.0}


def said(seconds: float = 1.5, *, lead: float = 1.0, rate: int = 8000) -> NDArray[np.int16]:
    """A voice after ``lead`` seconds of silence."""
    return np.concatenate([np.zeros(round(lead * rate), np.int16), voice.say(seconds, rate)])


def likeness(recorded: NDArray[np.int16], spoken: NDArray[np.int16]) -> float:
    """The largest correlation of ``spoken`` with any stretch of ``recorded``, of 1."""
    a, b = recorded.astype(float), spoken.astype(float)
    size = 1 << (len(a) + len(b)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    return float(cross.max() / (np.linalg.norm(b) * max(np.linalg.norm(a), 1e-9)))


def end_in(recorded: NDArray[np.int16], spoken: NDArray[np.int16], *, last: float = 1.0, rate: int = 8000) -> float:
    """Second of what the caller said at which the recording ends, by where its ``last`` seconds are most like that.

    When it began depends on how busy the machine is, and so does whether a switch has lost a packet before.
    """
    a, b = spoken.astype(float), recorded[-round(last * rate) :].astype(float)
    size = 1 << (len(a) + len(b)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)[: len(a) - len(b) + 1]
    energies = np.concatenate([[0.0], np.cumsum(a * a)])
    norm = np.sqrt(np.maximum(energies[len(b) :] - energies[: -len(b)], 1.0))
    return (int((cross / norm).argmax()) + len(b)) / rate


def energy(samples: NDArray[np.int16]) -> float:
    return float(np.sqrt(np.mean(np.square(samples.astype(float))))) if len(samples) else 0.0


def test_silence_after_speech_ends_it(phone: Phone) -> None:
    document = phone.service.document("silence", "answer", {"record": LIMITS}, "hangup")
    ended = phone.call(Dialled(document, said()))
    recording = ended.recording
    assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.END_SILENCE)
    # Where the voice ends in the recording depends on when the tap began: the audio itself tells.
    loud = np.flatnonzero(np.abs(ended.samples[:, 0].astype(int)) > 300)
    assert recording.duration == pytest.approx(loud[-1] / recording.sample_rate + 1.0, abs=0.3)
    assert likeness(ended.samples[:, 0], voice.say(1.5)) > 0.9
    assert len(recording.speech) >= 1
    assert ended.variables["record_result"] == "success"
    url = ended.variables["record_url"]
    assert url.startswith(f"http://{phone.service.http}/api/v1/recordings/{recording.recording_id}/download?")
    assert requests.get(url, timeout=10).content == ended.audio.read_bytes()
    assert not ended.went_on


def test_a_replay_of_the_recording_decides_as_the_call_did(phone: Phone) -> None:
    document = phone.service.document("replayed", "answer", {"record": LIMITS}, "hangup")
    spoken = np.concatenate([said(1.5), said(1.0, lead=0.6)])
    ended = phone.call(Dialled(document, spoken))
    params = RecordParams.of("record", ended.recording.parameters)
    again = replay(ended.samples[:, 0], ended.recording.sample_rate, params)
    assert (again.end.state, again.end.reason) == (ended.recording.state, ended.recording.end_reason)
    assert again.end.at == len(ended.samples)
    assert again.speech == ended.recording.speech


def test_a_terminator_ends_it(phone: Phone) -> None:
    document = phone.service.document("terminator", "answer", {"record": {**LIMITS, "terminators": "#*"}}, "hangup")
    ended = phone.call(Dialled(document, said(10), digits=((1.0, "5"), (3.0, "*"))))
    assert (ended.recording.state, ended.recording.end_reason) == (State.FINISHED, EndReason.TERMINATOR)
    assert ended.recording.terminator == "*"
    # The stand-in runs fast, so that a digit's way through a busy machine is long in its time; never is it early.
    assert 2.9 < end_in(ended.samples[:, 0], said(10)) < 5.0


def test_a_caller_who_says_nothing_is_no_input(phone: Phone) -> None:
    document = phone.service.document("nothing", "answer", {"record": LIMITS}, "hangup")
    ended = phone.call(Dialled(document))
    assert (ended.recording.state, ended.recording.end_reason) == (State.NO_INPUT, EndReason.INITIAL_TIMEOUT)
    assert ended.recording.duration == 2.0
    assert ended.variables["record_result"] == "failed"


@pytest.mark.parametrize("seconds", [1.0, 1.23])
def test_the_maximum_length_is_exact(phone: Phone, seconds: float) -> None:
    document = phone.service.document("longest", "answer", {"record": {**LIMITS, "max_length": seconds}}, "hangup")
    ended = phone.call(Dialled(document, said(5)))
    assert (ended.recording.state, ended.recording.end_reason) == (State.FINISHED, EndReason.MAX_LENGTH)
    assert len(ended.samples) == round(seconds * 8000)


def test_a_hang_up_finishes_it_with_all_that_was_said(phone: Phone) -> None:
    document = phone.service.document("gone", "answer", {"record": LIMITS})
    ended = phone.call(Dialled(document, said(10), hangup_after=3.0))
    assert (ended.recording.state, ended.recording.end_reason) == (State.FINISHED, EndReason.HANGUP)
    assert end_in(ended.samples[:, 0], said(10)) == pytest.approx(3.0, abs=0.15)


def test_a_hang_up_before_a_word_is_no_input(phone: Phone) -> None:
    document = phone.service.document("gone_silent", "answer", {"record": LIMITS})
    recording = phone.call(Dialled(document, hangup_after=1.5)).recording
    assert (recording.state, recording.end_reason) == (State.NO_INPUT, EndReason.HANGUP)


def test_the_beep_is_heard_and_not_recorded(phone: Phone) -> None:
    document = phone.service.document("beep", "answer", {"record": {**LIMITS, "beep": True}}, "hangup")
    ended = phone.call(Dialled(document))
    assert ended.recording.duration == 2.0
    assert energy(ended.samples) < 5
    assert ended.recording.parameters["beep"] is True


@pytest.mark.parametrize(
    ("direction", "state", "loud"),
    [("speak", State.FINISHED, True), ("listen", State.NO_INPUT, False), ("both", State.FINISHED, True)],
)
def test_each_direction_records_its_leg(phone: Phone, direction: str, state: State, loud: bool) -> None:
    """The party speaks and hears nothing: its own leg has speech, the other none."""
    document = phone.service.document(
        f"direction_{direction}", "answer", {"record": {**LIMITS, "direction": direction}}, "hangup"
    )
    ended = phone.call(Dialled(document, said()))
    assert ended.recording.state is state
    assert ended.recording.channels == 1
    assert (energy(ended.samples) > 100) is loud


@pytest.mark.parametrize(
    ("direction", "state"), [("speak", State.FINISHED), ("listen", State.NO_INPUT), ("both", State.FINISHED)]
)
def test_stereo_has_the_party_on_the_left_and_hears_what_direction_names(
    phone: Phone, direction: str, state: State
) -> None:
    document = phone.service.document(
        f"stereo_{direction}", "answer", {"record": {**LIMITS, "stereo": True, "direction": direction}}, "hangup"
    )
    ended = phone.call(Dialled(document, said()))
    assert ended.recording.state is state
    assert ended.samples.shape[1] == ended.recording.channels == 2
    assert energy(ended.samples[:, 0]) > 100
    assert energy(ended.samples[:, 1]) < 5


@pytest.mark.parametrize("rate", [16000, 48000])
def test_a_wide_band_call_keeps_its_rate(phone: Phone, rate: int) -> None:
    document = phone.service.document("wide", "answer", {"record": LIMITS}, "hangup")
    ended = phone.call(Dialled(document, said(rate=rate), rate=rate))
    assert ended.recording.sample_rate == rate
    assert ended.recording.end_reason is EndReason.END_SILENCE
    assert likeness(ended.samples[:, 0], voice.say(1.5, rate)) > 0.8


def test_two_calls_at_once_do_not_mix(phone: Phone) -> None:
    document = phone.service.document("two", "answer", {"record": LIMITS}, "hangup")
    low, high = voice.say(1.5, pitch=100, seed=1), voice.say(2.0, pitch=210, seed=2)
    lives = [phone.dial(Dialled(document, np.concatenate([np.zeros(8000, np.int16), audio]))) for audio in (low, high)]
    first, second = (live.end() for live in lives)
    assert first.uuid != second.uuid
    assert likeness(first.samples[:, 0], low) > 0.9 > likeness(first.samples[:, 0], high)
    assert likeness(second.samples[:, 0], high) > 0.9 > likeness(second.samples[:, 0], low)


def test_a_newline_in_the_callers_name_stays_in_the_name(phone: Phone) -> None:
    document = phone.service.document("name", "answer", {"record": {"initial_timeout": 0.5}}, "hangup")
    ended = phone.call(Dialled(document, name="Ann\nUnique-ID: forged"))
    assert ended.recording.caller_name == "Ann\nUnique-ID: forged"
    assert ended.recording.call_id == ended.uuid


def test_two_recordings_of_one_call_are_two(phone: Phone) -> None:
    steps = [{"record": {"initial_timeout": 0.5}}, {"play": "silence:0.2"}, {"record": {"max_length": 0.3}}]
    ended = phone.call(Dialled(phone.service.document("both", "answer", *steps)))
    assert {recording.end_reason for _, recording in ended.recordings} == {
        EndReason.INITIAL_TIMEOUT,
        EndReason.MAX_LENGTH,
    }
    assert not ended.went_on


def test_the_built_in_voicemail_records(phone: Phone) -> None:
    dialled = Dialled("voicemail", said(2.0, lead=1.0), digits=((3.5, "#"),))
    ended = phone.call(dialled)
    assert ended.recording.end_reason is EndReason.TERMINATOR
    assert likeness(ended.samples[:, 0], voice.say(2.0)) > 0.9
    silent = phone.call(replace(dialled, audio=np.zeros(0, np.int16), digits=()))
    assert (silent.recording.state, silent.recording.duration) == (State.NO_INPUT, 4.0)
