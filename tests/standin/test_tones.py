"""The stand-in's detector of DTMF in audio."""

import numpy as np
import pytest
from numpy.typing import NDArray

from esl_record.standin import voice
from esl_record.standin.inband import Detector

PAIRS = {
    **{"1": (697, 1209), "2": (697, 1336), "3": (697, 1477), "A": (697, 1633)},
    **{"4": (770, 1209), "5": (770, 1336), "6": (770, 1477), "B": (770, 1633)},
    **{"7": (852, 1209), "8": (852, 1336), "9": (852, 1477), "C": (852, 1633)},
    **{"*": (941, 1209), "0": (941, 1336), "#": (941, 1477), "D": (941, 1633)},
}


def tones(digits: str, rate: int = 8000, *, level: float = 6000.0) -> NDArray[np.int16]:
    """Each digit for 100 ms, with 100 ms of silence before and after it."""
    at = np.arange(rate // 10) / rate
    silence = np.zeros(rate // 10)
    sounds = [level * sum(np.sin(2 * np.pi * hertz * at) for hertz in PAIRS[digit]) for digit in digits]
    return np.concatenate([silence, *(part for sound in sounds for part in (sound, silence))]).astype(np.int16)


def heard(samples: NDArray[np.int16], rate: int = 8000) -> str:
    detector, size = Detector(rate), rate // 50
    return "".join(detector.hear(frame) for frame in samples[: len(samples) // size * size].reshape(-1, size))


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
@pytest.mark.parametrize("level", [500.0, 6000.0])
def test_every_digit_is_heard_once(rate: int, level: float) -> None:
    assert heard(tones("".join(PAIRS), rate, level=level), rate) == "".join(PAIRS)


def test_a_digit_pressed_twice_is_heard_twice() -> None:
    assert heard(tones("55#")) == "55#"


def test_a_voice_and_a_tone_are_no_digits() -> None:
    assert heard(voice.say(20.0)) == ""
    assert heard((9000 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)).astype(np.int16)) == ""
