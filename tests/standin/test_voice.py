"""The babbling voice and the prompts."""

import numpy as np
import pytest
import soundfile

from esl_record.standin.caller import Caller
from esl_record.standin.prompt import open_prompt, speech
from esl_record.standin.voice import say


def dbfs(sound) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(sound.astype(float) ** 2)) / 32768))


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_a_voice_is_loud_enough_deterministic_and_as_long_as_asked(rate):
    voice = say(3.0, rate)
    assert (voice.dtype, voice.shape) == (np.int16, (3 * rate,))
    assert dbfs(voice) == pytest.approx(-20, abs=1)
    np.testing.assert_array_equal(voice, say(3.0, rate))
    assert (voice != say(3.0, rate, seed=2)).any()


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_voice_never_pauses_for_long(seed):
    voice = say(10.0, seed=seed)
    energy = np.sqrt(np.mean(voice.astype(float).reshape(-1, 80) ** 2, axis=1))
    quiet = energy < 3277 * 0.05
    longest = max(len(run) for run in "".join("q" if q else "." for q in quiet).split("."))
    assert longest < 15, "pauses in units of 10 ms"
    assert 0.02 < quiet.mean() < 0.4


def test_a_voice_is_voiced_at_its_pitch_and_has_formants():
    voice = say(5.0, pitch=150.0).astype(float)
    spectrum = np.abs(np.fft.rfft(voice * np.hanning(len(voice)))) ** 2
    hertz = np.fft.rfftfreq(len(voice), 1 / 8000)
    low = spectrum[(hertz > 80) & (hertz < 3000)].sum()
    assert low / spectrum.sum() > 0.8
    part = voice[8000:12000] - voice[8000:12000].mean()
    echo = np.correlate(part, part, "full")[len(part) :] / np.dot(part, part)
    lag = 40 + int(np.argmax(echo[40:80])) + 1
    assert 120 < 8000 / lag < 190


def test_nothing_said_is_nothing():
    assert say(0.0).size == 0


def test_speech_takes_the_time_of_its_text():
    assert len(speech("please leave a message", 8000).samples) == round(0.07 * 22 * 8000)


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("tone_stream://%(250,0,1000)", 2000),
        ("tone_stream://%(200,100,640,480);loops=2", 4800),
        ("tone_stream://v=-20;%(100,0,500);%(100,0,700)", 1600),
        ("silence_stream://300", 2400),
        ("{vol=1}silence_stream://300,1400", 2400),
    ],
)
def test_streams(name, samples):
    assert len(open_prompt(name, 8000).samples) == samples


def test_a_tone_has_its_pitch():
    tone = open_prompt("tone_stream://%(1000,0,440)", 8000).samples
    assert np.argmax(np.abs(np.fft.rfft(tone))) == 440


def test_endless_silence_goes_on():
    prompt = open_prompt("silence_stream://-1", 8000)
    assert not prompt.frame(10**6, 160).any()


def test_a_file_of_another_rate_is_resampled(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((48000, 2), np.int16), 48000)
    prompt = open_prompt(str(tmp_path / "a.wav"), 8000)
    assert (len(prompt.samples), prompt.native, prompt.native_rate) == (8000, 48000, 48000)


@pytest.mark.parametrize("name", ["/no/such.wav", "http://x/y.wav", "local_stream://moh", __file__])
def test_what_cannot_be_played_is_none(name):
    assert open_prompt(name, 8000) is None


@pytest.mark.parametrize("wrong", [{"rate": 44100}, {"audio": np.zeros(8)}, {"audio": np.zeros((8, 2), np.int16)}])
def test_a_caller_the_switch_cannot_play_is_refused(wrong):
    with pytest.raises(ValueError, match=r"rate|audio"):
        Caller(**{"audio": np.zeros(8, np.int16), **wrong})
