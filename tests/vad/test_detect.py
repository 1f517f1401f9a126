"""What `detect` takes for speech, on sounds whose truth is known."""

import resource
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly
from signals import RATE, brown, call, clicks, hum, pcm, silence, voice, white

from esl_record.vad import Detection, detect


def spoken(detection: Detection) -> list[tuple[float, float]]:
    """(start, end) in seconds of each stretch of speech."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], detection.speech.astype(int), [0]])))
    return [(a * detection.hop, b * detection.hop) for a, b in edges.reshape(-1, 2)]


NOISES = {
    "nothing": pcm(silence(6)),
    "hiss at -70": call(silence(6), noise=-70),
    "hiss at -40": call(silence(6), noise=-40),
    "hiss at -12": call(silence(6), noise=-12),
    "car": call(brown(6, -25)),
    "hum of 50 Hz": call(hum(6, -30)),
    "hum of 60 Hz": call(hum(6, -40, mains=60)),
    "digital silence, then comfort noise": np.concatenate([pcm(silence(2)), pcm(white(4, -55))]),
    "comfort noise in steps": call(white(2, -60), white(2, -50), white(2, -56)),
    "a step of 12 dB": call(white(3, -45), white(3, -33)),
    "a step of 12 dB in a car": call(brown(3, -40), brown(3, -28)),
    "samples of 0 and -1": -np.random.default_rng(0).integers(0, 2, 6 * RATE).astype(np.int16),
    "an offset": pcm(silence(6) + 3000),
    "an offset and hiss": pcm(white(6, -60) + 3000),
    "clicks": call(clicks(6, 20000)),
    "clipped hiss": pcm(white(6, 0) * 3),
}


@pytest.mark.parametrize("samples", NOISES.values(), ids=NOISES)
def test_noise_is_not_speech(samples: np.ndarray) -> None:
    assert spoken(detect(samples, RATE)) == []


VOICES = {
    "loud": (call(silence(1.5), voice(2.5, -12), silence(2)), 1.5),
    "quiet, at -45": (call(silence(1.5), voice(2.5, -45, seed=1), silence(2)), 1.5),
    "high": (call(silence(1.5), voice(2.5, -25, pitch=230), silence(2)), 1.5),
    "in hiss, 15 dB below": (call(silence(1.5), voice(2.5, -25), silence(2), noise=-40), 1.5),
    "in a car, 10 dB below": (call(brown(6, -35) + np.concatenate([silence(1.5), voice(2.5, -25), silence(2)])), 1.5),
    "over a hum": (call(hum(6, -40) + np.concatenate([silence(1.5), voice(2.5, -22), silence(2)])), 1.5),
    "from the first sample on": (call(voice(2.5, -25, seed=2), silence(2)), 0.0),
    "after digital silence": (np.concatenate([pcm(silence(1.5)), call(voice(2.5, -25), silence(2))]), 1.5),
    "clipped": (pcm(np.concatenate([silence(1.5), voice(2.5, 0) * 3, silence(2)]) + white(6, -70)), 1.5),
    "with an offset": (pcm(np.concatenate([silence(1.5), voice(2.5, -25), silence(2)]) + white(6, -70) + 2000), 1.5),
    "then digital silence": (np.concatenate([call(silence(1.5), voice(2.5, -25)), pcm(silence(2))]), 1.5),
}


@pytest.mark.parametrize(("samples", "start"), VOICES.values(), ids=VOICES)
def test_a_voice_is_heard_from_beginning_to_end(samples: np.ndarray, start: float) -> None:
    heard = spoken(detect(samples, RATE))
    assert start <= heard[0][0] <= start + 0.3
    assert start + 2.2 <= heard[-1][1] <= start + 3.0
    assert max((b[0] - a[1] for a, b in pairwise(heard)), default=0) < 0.3


def test_lost_packets_do_not_end_speech() -> None:
    samples = call(silence(1), voice(3, -25), silence(1))
    packets = samples.reshape(-1, 160)
    packets[np.random.default_rng(3).random(len(packets)) < 0.1] = 0
    heard = spoken(detect(packets.reshape(-1), RATE))
    assert sum(end - start for start, end in heard) > 2.7


@pytest.mark.parametrize("rate", [11025, 16000, 22050, 24000, 32000, 44100, 48000])
def test_a_call_is_heard_alike_at_every_rate(rate: int) -> None:
    samples = call(silence(1), voice(2, -25), silence(1.5), white(1.5, -35))
    up = np.gcd(rate, RATE)
    there = detect(pcm(resample_poly(samples.astype(float), rate // up, RATE // up)), rate)
    here = detect(samples, RATE)
    assert there.hop == pytest.approx(0.02, rel=0.005)
    same = min(len(here.speech), len(there.speech))
    assert np.mean(here.speech[:same] == there.speech[:same]) > 0.97


@given(
    levels=st.tuples(st.integers(-50, -10), st.integers(-70, -25)),
    seed=st.integers(0, 99),
    sensitivities=st.tuples(st.floats(0, 100), st.floats(0, 100)),
)
@settings(max_examples=30, deadline=None)
def test_a_higher_sensitivity_only_adds_speech(
    levels: tuple[int, int], seed: int, sensitivities: tuple[float, float]
) -> None:
    samples = call(silence(0.5), voice(1, levels[0], seed), silence(0.5), clicks(1, 9000, seed), noise=levels[1])
    less, more = (detect(samples, RATE, sensitivity).speech for sensitivity in sorted(sensitivities))
    assert not (less & ~more).any()


def test_sensitivity_ends() -> None:
    whisper = np.concatenate([silence(1.5), brown(0.5, -30), silence(1)])
    samples = call(whisper, voice(1, -3), noise=-60)
    assert not detect(samples, RATE, 0).speech.any()
    assert not detect(call(whisper, noise=-60), RATE).speech.any()
    assert detect(call(whisper, noise=-60), RATE, 100).speech[75:100].mean() > 0.7


@given(cut=st.integers(0, 4 * RATE))
@settings(max_examples=20, deadline=None)
def test_a_decision_does_not_wait_for_later_audio(cut: int) -> None:
    samples = call(silence(1), voice(2, -25), silence(1))
    whole, part = detect(samples, RATE), detect(samples[:cut], RATE)
    assert len(part.scores) == len(part.speech) == cut // 160
    np.testing.assert_allclose(part.scores, whole.scores[: cut // 160], atol=1e-4)
    np.testing.assert_array_equal(part.speech, whole.speech[: cut // 160])


@pytest.mark.parametrize(
    ("samples", "rate", "sensitivity", "named"),
    [
        (np.zeros(800, np.int16), 7999, 44, "7999"),
        (np.zeros(800, np.int16), 200_000, 44, "200000"),
        (np.zeros(800, np.int16), 8000, -1, "-1"),
        (np.zeros(800, np.int16), 8000, 100.5, "100.5"),
        (np.zeros(800, np.int16), 8000, float("nan"), "nan"),
        (np.zeros(800, np.float32), 8000, 44, "float32"),
        (np.zeros((800, 2), np.int16), 8000, 44, r"\(800, 2\)"),
    ],
)
def test_what_cannot_be_heard_is_named(samples: np.ndarray, rate: int, sensitivity: float, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        detect(samples, rate, sensitivity)


def test_nothing_is_decided_of_nothing() -> None:
    for samples in (np.empty(0, np.int16), np.zeros(159, np.int16)):
        found = detect(samples, RATE)
        assert (len(found.scores), len(found.speech), found.hop) == (0, 0, 0.02)


def test_full_scale_square_waves_and_extremes_are_survived() -> None:
    square = np.tile(np.repeat(np.array([32767, -32768], np.int16), 20), 400)
    for samples in (
        square,
        np.full(RATE, -32768, np.int16),
        np.concatenate([square, np.zeros(RATE, np.int16), square]),
    ):
        scores = detect(samples, RATE).scores
        assert np.isfinite(scores).all()
        assert ((scores >= 0) & (scores <= 1)).all()


def test_an_hour_takes_no_more_memory_than_a_minute() -> None:
    minute = np.random.default_rng(1).integers(-200, 200, 60 * 8000).astype(np.int16)
    detect(minute, 8000)
    hour = np.tile(minute, 60)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = detect(hour, 8000)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert len(found.scores) == 3600 * 50
    assert grown < 20  # MiB: scores and decisions take 1.6
