"""What the features of a frame are, on sounds whose features are known."""

import numpy as np
import pytest
from scipy.signal import resample_poly
from signals import RATE, brown, call, pcm, voice, white

from esl_record.vad.features import BANDS, INPUTS, VOICE_LINES, Features, analyse, harmonicity, hop_of, inputs, joined


def frames(samples: np.ndarray, rate: int = RATE) -> Features:
    hop = hop_of(rate)
    return analyse(np.lib.stride_tricks.sliding_window_view(samples, 2 * hop)[::hop])


@pytest.mark.parametrize(("rate", "hop"), [(8000, 160), (11025, 220), (16000, 320), (44100, 882), (192000, 3840)])
def test_a_hop_lasts_20_ms(rate: int, hop: int) -> None:
    assert hop_of(rate) == hop


def test_no_frames_have_no_features() -> None:
    empty = analyse(np.empty((0, 320), np.int16))
    assert (empty.bands.shape, empty.voice.shape, empty.level.shape) == ((0, BANDS), (0, VOICE_LINES), (0,))


def test_a_full_scale_square_wave_is_the_level_zero() -> None:
    square = np.tile(np.repeat(np.array([32767, -32767], np.int16), 8), 100)
    np.testing.assert_allclose(frames(square).level, 0.0, atol=0.01)


@pytest.mark.parametrize("frequency", [300, 500, 1000, 1800, 3000])
def test_a_tone_is_in_one_band(frequency: int) -> None:
    tone = pcm(10000 * np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE))
    bands = frames(tone).bands
    highest = bands.argmax(axis=1)
    assert len(set(highest.tolist())) == 1
    others = np.delete(bands, range(highest[0] - 1, min(highest[0] + 2, BANDS)), axis=1)
    assert (bands.max(axis=1) - others.max(axis=1) > 30).all()


@pytest.mark.parametrize("rate", [11025, 16000, 44100, 48000])
def test_bands_are_the_same_at_every_rate(rate: int) -> None:
    samples = white(2, -30)
    divisor = np.gcd(rate, RATE)
    there = frames(pcm(resample_poly(samples, rate // divisor, RATE // divisor)), rate)
    here = frames(pcm(samples))
    # The topmost band lies where the resampler's filter begins to fall.
    np.testing.assert_allclose(there.bands.mean(axis=0)[:-2], here.bands.mean(axis=0)[:-2], atol=0.5)


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_a_voice_is_harmonic_and_noise_is_not(power: float) -> None:
    heights = {
        name: np.median(harmonicity(part.voice**power))
        for name, part in {
            "voice": frames(call(voice(3, -25))),
            "high voice": frames(call(voice(3, -25, pitch=240))),
            "white": frames(pcm(white(3, -25))),
            "brown": frames(pcm(brown(3, -25))),
        }.items()
    }
    assert min(heights["voice"], heights["high voice"]) > max(heights["white"], heights["brown"]) + 0.1


def test_what_is_on_the_floor_is_not_harmonic() -> None:
    part = frames(call(voice(1, -25)))
    assert not inputs(part, np.zeros_like(part.bands))[:, 2 * BANDS].any()
    assert inputs(part, np.full_like(part.bands, 30.0))[:, 2 * BANDS].max() > 0.4


def test_the_net_is_told_nothing_out_of_range() -> None:
    loud, nothing = frames(np.tile(np.array([32767, -32768], np.int16), 4000)), frames(np.zeros(8000, np.int16))
    for part in (loud, nothing):
        for above in (-100.0, 0.0, 100.0):
            told = inputs(part, np.full_like(part.bands, above))
            assert told.shape == (len(part.level), INPUTS)
            assert np.isfinite(told).all()
            assert told[:, :BANDS].min() >= -90
            assert np.abs(told[:, BANDS : 2 * BANDS]).max() <= 60


@pytest.mark.parametrize(
    ("samples", "blank"),
    [
        (np.zeros(960), True),
        (-np.random.default_rng(0).integers(0, 2, 960), True),
        (np.full(960, 20), False),
        (white(0.12, -70), False),
    ],
    ids=["zeros", "0 and -1", "an offset", "hiss at -70"],
)
def test_only_digital_silence_is_blank(samples: np.ndarray, blank: bool) -> None:
    assert (frames(pcm(samples.astype(float))).blank == blank).all()


def test_a_frame_beside_a_lost_packet_is_blank() -> None:
    samples = pcm(white(0.2, -30))
    samples[640:800] = 0
    np.testing.assert_array_equal(np.flatnonzero(frames(samples).blank), [3, 4])


def test_batches_are_joined_in_their_order() -> None:
    parts = [frames(pcm(white(0.1, level))) for level in (-20, -40, -60)]
    whole = joined(parts)
    for column, name in enumerate(Features._fields):
        np.testing.assert_array_equal(whole[column], np.concatenate([getattr(part, name) for part in parts]))
    assert joined(parts[:1]) is parts[0]
