"""The noise floor follows the noise, not the speech."""

import numpy as np
import pytest

from esl_record.vad import noise
from esl_record.vad.features import BANDS
from esl_record.vad.lanes import Lanes


def excess(levels: np.ndarray, heard: np.ndarray | None = None) -> np.ndarray:
    """How far a call's levels, dB, the same in all bands, are above the floor: (frames,)."""
    state = np.zeros((1, noise.COLUMNS), np.float32)
    noise.begin(state)
    bands = np.tile(np.asarray(levels, np.float32)[:, None], (1, BANDS))
    heard = np.ones(len(levels), bool) if heard is None else heard
    return noise.above_floor(state, Lanes(np.array([len(levels)])), bands, heard)[:, 0]


@pytest.mark.parametrize("level", [-80, -60, -30, -5])
def test_steady_noise_is_its_own_floor_from_the_first_frame_on(level: int) -> None:
    np.testing.assert_allclose(excess(np.full(300, level)), 0, atol=1e-3)


def test_the_floor_reaches_noise_that_rose_within_two_seconds() -> None:
    above = excess(np.repeat([-60, -48], 200))
    np.testing.assert_allclose(above[200:250], 12, atol=0.1)
    np.testing.assert_allclose(above[300:], 0, atol=0.1)


def test_the_floor_falls_with_the_noise_at_once() -> None:
    assert excess(np.repeat([-40, -60], 100))[110:].max() < 0.3


def test_speech_does_not_raise_the_floor() -> None:
    syllables = np.tile(np.repeat([-30, -60], [15, 5]), 30)
    above = excess(syllables)
    assert above[20:][syllables[20:] == -30].min() > 20


def test_the_floor_is_never_that_of_digital_silence() -> None:
    above = excess(np.repeat([-100, -60], 200), np.repeat([False, True], 200))
    np.testing.assert_allclose(above[200:], 0, atol=1e-3)
    assert excess(np.repeat([-100, -80], 100))[100:].max() <= 5


def test_frames_that_were_not_heard_teach_nothing() -> None:
    heard = np.ones(300, bool)
    heard[::3] = False
    levels = np.where(heard, -50, -100)
    np.testing.assert_allclose(excess(levels, heard), 0, atol=1e-3)
