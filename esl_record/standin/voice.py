"""A synthesised voice that babbles: speech to a detector, meaningless to a listener.

Source and filter, as in Klatt's formant synthesiser (JASA 67, 1980): glottal pulses with jitter and shimmer on a slow
pitch contour run through resonators that move from vowel to vowel; some syllables start with fricative noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter

Floats = NDArray[np.float64]

LEVEL_DBFS = -20.0

# First to third formant of /a e i o u ə/, Hz (Peterson and Barney, JASA 24, 1952, male speakers).
_VOWELS = np.array(
    [[730, 1090, 2440], [530, 1840, 2480], [270, 2290, 3010], [570, 840, 2410], [300, 870, 2240], [500, 1500, 2500]],
    float,
)
_BANDWIDTHS = (80.0, 100.0, 140.0)
_BLOCK_SECONDS = 0.005


def say(seconds: float, rate: int = 8000, *, pitch: float = 120.0, seed: int = 1) -> NDArray[np.int16]:
    """``seconds`` of babble at ``rate`` samples a second, one-dimensional, at -20 dBFS (RMS of the whole).

    About four syllables a second around ``pitch`` Hz, with pauses shorter than 150 ms. The same arguments give the
    same samples.
    """
    count = round(seconds * rate)
    if count <= 0:
        return np.zeros(0, np.int16)
    rng = np.random.default_rng(seed)
    voiced, hissed, formants = _score(count, rate, rng)
    voice = _formant_filter(_glottis(count, rate, pitch, rng) * voiced, formants, rate)
    hiss = _band(rng.standard_normal(count), rate) * hissed
    sound = voice / _rms(voice) + 0.35 * hiss / max(_rms(hiss), 1e-9)
    sound *= 32768 * 10 ** (LEVEL_DBFS / 20) / _rms(sound)
    return np.round(32767 * np.tanh(sound / 32767)).astype(np.int16)


def _score(count: int, rate: int, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """How loud the voice and the hiss are at each sample, and the formants, one row a sample block."""
    voiced, hissed = np.zeros(count), np.zeros(count)
    block = max(round(_BLOCK_SECONDS * rate), 1)
    formants = np.zeros((-(-count // block), 3))
    at, until_pause, vowel = 0, int(rng.integers(3, 7)), _VOWELS[rng.integers(len(_VOWELS))]
    while at < count:
        consonant = int(rate * rng.uniform(0.04, 0.07)) if rng.random() < 0.4 else 0
        length = int(rate * rng.uniform(0.15, 0.22))
        _add(hissed, at, np.hanning(consonant))
        _add(voiced, at + consonant, rng.uniform(0.7, 1.0) * np.hanning(length) ** 0.4)
        target = _VOWELS[rng.integers(len(_VOWELS))] * rng.uniform(0.95, 1.05)
        end = at + consonant + length
        rows = np.arange(at // block, min(-(-end // block), len(formants)))
        glide = np.clip((rows * block - at) / (0.6 * (consonant + length)), 0, 1)[:, None]
        formants[rows] = vowel + (target - vowel) * glide
        vowel = target
        until_pause -= 1
        pause = 0.02
        if until_pause <= 0:
            pause, until_pause = rng.uniform(0.08, 0.13), int(rng.integers(3, 7))
        at = end + int(rate * pause)
        formants[end // block : at // block + 1] = target
    return voiced, hissed, formants


def _add(track: Floats, at: int, shape: Floats) -> None:
    room = track[at : at + len(shape)]
    room += shape[: len(room)]


def _glottis(count: int, rate: int, pitch: float, rng: np.random.Generator) -> Floats:
    """Glottal pulses, each with its own length (jitter) and loudness (shimmer)."""
    pulses = np.zeros(count)
    at = 0.0
    phase = rng.uniform(0, 2 * np.pi)
    while at < count:
        now = at / rate
        contour = 1 + 0.12 * np.sin(2 * np.pi * 0.7 * now + phase) + 0.05 * np.sin(2 * np.pi * 2.3 * now)
        pulses[int(at)] = 1 + 0.05 * rng.standard_normal()
        at += rate / (pitch * contour) * (1 + 0.01 * rng.standard_normal())
    # Two real poles near 100 Hz give the source its fall of 12 dB an octave; radiation from the lips takes 6 back.
    pole = np.exp(-2 * np.pi * 100 / rate)
    return np.asarray(lfilter([1, -1], np.convolve([1, -pole], [1, -pole]), pulses))


def _formant_filter(source: Floats, formants: Floats, rate: int) -> Floats:
    block = max(round(_BLOCK_SECONDS * rate), 1)
    out = source
    for column, bandwidth in enumerate(_BANDWIDTHS):
        radius = np.exp(-np.pi * bandwidth / rate)
        state = np.zeros(2)
        filtered = np.empty_like(out)
        for row, frequency in enumerate(np.minimum(formants[:, column], 0.45 * rate)):
            part = slice(row * block, (row + 1) * block)
            feedback = [1.0, -2 * radius * np.cos(2 * np.pi * frequency / rate), radius**2]
            filtered[part], state = lfilter([sum(feedback)], feedback, out[part], zi=state)
        out = filtered
    return out


def _band(noise: Floats, rate: int) -> Floats:
    """Fricative noise: what of the noise lies above 2 kHz."""
    numerator, denominator = butter(2, 2000 / (rate / 2), "high")
    return np.asarray(lfilter(numerator, denominator, noise))


def _rms(sound: Floats) -> float:
    return float(np.sqrt(np.mean(sound**2))) or 1.0
