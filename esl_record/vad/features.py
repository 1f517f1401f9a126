"""What one frame of telephone audio says: band levels, spectrum, harmonicity. Arrays in, arrays out.

A frame is a hop of 20 ms. It is analysed through a Hann window of two hops, the one before it and its own, so that
its features are known the moment it ends. Every rate gives the same 25 Hz grid of spectral lines, and only lines below
4 kHz are used: the features of a call do not depend on the rate it is carried at.
"""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

HOP_SECONDS = 0.02
LINES = 160
"""Spectral lines used, 25 Hz apart: 0 to 4 kHz, the highest that an 8 kHz call carries."""

BANDS = 20
INPUTS = 2 * BANDS + 4
"""Of a frame, to the net: bands, bands above the floor, harmonicity twice, blank and level."""
LOWEST_RATE, HIGHEST_RATE = 8000, 192_000

_BAND_RANGE = (100.0, 3800.0)
_PITCH_RANGE = (60.0, 400.0)
_VOICE = slice(3, 80)  # 75 Hz to 2 kHz: the harmonics that are resolved and survive a telephone line
VOICE_LINES = _VOICE.stop - _VOICE.start
_LAGS = 96
_SILENCE = np.float32(1e-10)  # -100 dBFS, below what 16 bits can hold; keeps the logarithm finite
_BLANK = np.float32(1e-9)  # power of samples of 1: (1 / 32768)^2 and a little
_LOWEST = np.float32(-90)  # dB: what is below is silence
_BELOW, _ABOVE = np.float32(-10), np.float32(60)  # dB: how far from the floor the net can tell
_MARGIN, _RANGE = np.float32(3), np.float32(6)  # dB: a band stands out from the first on, fully at that much more
_SHORTEST = 2 * LINES  # samples of a window at 8 kHz: its spectrum ends at 4 kHz
_SLAB = 128  # frames per FFT batch: what stays in a core's cache and in memory already mapped


class Features(NamedTuple):
    """Features of n frames, float32 unless said otherwise."""

    bands: NDArray[np.float32]
    """(n, BANDS) mean power density of each band, dB re a full-scale sine."""
    voice: NDArray[np.float32]
    """(n, VOICE_LINES) amplitudes of the spectral lines from 75 Hz to 2 kHz, re a full-scale sine."""
    level: NDArray[np.float32]
    """(n,) RMS of the frame's own hop, dBFS (0 dBFS is a full-scale square wave)."""
    blank: NDArray[np.bool_]
    """(n,) half the window or more is digital silence (samples of -1, 0 and 1): no audio, rather than quiet."""


def hop_of(rate: int) -> int:
    """Samples in a frame at `rate` Hz. ValueError for a rate below 8 or above 192 kHz."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(f"sample rate {rate} Hz: voice activity needs {LOWEST_RATE} to {HIGHEST_RATE} Hz")
    return round(rate * HOP_SECONDS)


def analyse(windows: NDArray[np.int16]) -> Features:
    """Features of frames given as windows of two hops, shape (n, 2 * hop), int16; any n, 0 included.

    Where nothing is known of the hop before, it is zeros: the frame is blank then, as every other that follows a cut.
    """
    n = len(windows)
    out = Features(
        np.empty((n, BANDS), np.float32),
        np.empty((n, VOICE_LINES), np.float32),
        np.empty(n, np.float32),
        np.empty(n, np.bool_),
    )
    for start in range(0, n, _SLAB):
        part = slice(start, start + _SLAB)
        _analyse(windows[part], Features(out.bands[part], out.voice[part], out.level[part], out.blank[part]))
    return out


def joined(parts: Sequence[Features]) -> Features:
    """The features of several batches as one, in their order."""
    if len(parts) == 1:
        return parts[0]
    bands, voice, level, blank = zip(*parts, strict=True)
    return Features(np.concatenate(bands), np.concatenate(voice), np.concatenate(level), np.concatenate(blank))


def _analyse(windows: NDArray[np.int16], out: Features) -> None:
    n, width = windows.shape
    hop = width // 2
    signal = windows.astype(np.float32)
    halves = signal.reshape(2 * n, hop)
    power = np.einsum("ij,ij->i", halves, halves).reshape(n, 2) / np.float32(hop * 32768.0**2)
    out.level[:] = 10 * np.log10(power[:, 1] + _SILENCE)
    # A window of which half is blank is a step: its spectrum is the cut's, not the sound's.
    out.blank[:] = power.min(axis=1) < _BLANK
    signal *= _window(width)
    # Real and imaginary parts in turn: their squares add up to densities where the bands are summed, not before.
    parts = scipy.fft.rfft(signal, axis=1).view(np.float32)
    if width > _SHORTEST:
        parts = np.ascontiguousarray(parts[:, : 2 * LINES + 2])
    parts *= parts
    out.bands[:] = 10 * np.log10(parts @ _band_parts() + _SILENCE)
    lines = parts[:, 2 * _VOICE.start : 2 * _VOICE.stop]
    np.add(lines[:, ::2], lines[:, 1::2], out=out.voice)
    np.sqrt(out.voice, out=out.voice)


def inputs(features: Features, above: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, INPUTS) what the detector's net is told of each frame; `above`, (n, BANDS) dB, is how far above the floor."""
    bands, voice, level, blank = features
    out = np.empty((len(bands), INPUTS), np.float32)
    np.maximum(bands, _LOWEST, out=out[:, :BANDS])
    np.clip(above, _BELOW, _ABOVE, out=out[:, BANDS : 2 * BANDS])
    weights = ((above - _MARGIN) / _RANGE).clip(0, 1).astype(np.float32, copy=False)
    standing_out: NDArray[np.float32] = voice * (weights @ _band_lines())
    out[:, 2 * BANDS] = harmonicity(standing_out)
    out[:, 2 * BANDS + 1] = harmonicity(np.sqrt(voice))
    out[:, 2 * BANDS + 2] = blank
    out[:, 2 * BANDS + 3] = level
    return out


def harmonicity(voice: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) 0 to 1: the highest peak of the autocorrelation at pitches of 60 to 400 Hz, of frames' spectral lines.

    It is the transform of a spectrum compressed to |X|^k (Tolonen and Karjalainen 2000), as `voice` gives it: a strong
    formant, or noise that falls off steeply, has not as high a peak then as a comb of harmonics. The detector looks at
    amplitudes (k = 1) where they stand out of the noise, and at k = 1/2 everywhere, which makes much of weak harmonics.
    """
    peaks = voice @ _lag_matrix()
    highest = peaks[np.arange(len(peaks)), peaks.argmax(axis=1)]  # argmax is four times as fast as max here
    relative: NDArray[np.float32] = highest / (voice.sum(axis=1) + np.sqrt(_SILENCE))
    return np.maximum(relative, np.float32(0))


@cache
def _window(width: int) -> NDArray[np.float32]:
    """Hann window, scaled so that a full-scale sine's line has a power of 1 at every rate and int16 is the input."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(width) / width)
    scaled: NDArray[np.float32] = (hann / (hann.sum() / 2 * 32768.0)).astype(np.float32)
    return scaled


@cache
def _band_matrix() -> NDArray[np.float32]:
    """(LINES, BANDS): means over bands of equal width on the mel scale of O'Shaughnessy (1987)."""
    low, high = (2595 * np.log10(1 + f / 700) for f in _BAND_RANGE)
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 1) / 2595) - 1)
    lines = np.round(edges / 25).astype(int)
    matrix = np.zeros((LINES, BANDS), np.float32)
    for band, (first, last) in enumerate(pairwise(lines)):
        matrix[first:last, band] = 1 / (last - first)
    return matrix


@cache
def _band_parts() -> NDArray[np.float32]:
    """(2 * LINES + 2, BANDS): the same of real and imaginary parts in turn, up to 4 kHz and including it."""
    return np.pad(np.repeat(_band_matrix(), 2, axis=0), ((0, 2), (0, 0)))


@cache
def _band_lines() -> NDArray[np.float32]:
    """(BANDS, VOICE_LINES): 1 where a voice line is in a band; those below the lowest are in none."""
    return np.ascontiguousarray((_band_matrix()[_VOICE] > 0).T.astype(np.float32))


@cache
def _lag_matrix() -> NDArray[np.float32]:
    """(VOICE_LINES, _LAGS) from lines to the autocorrelation at lags of pitches spaced evenly in log frequency.

    The autocorrelation of a windowed signal is that of the signal times that of the window; dividing by the latter
    makes peaks at all lags comparable (Boersma 1993).
    """
    lag = 1 / np.geomspace(_PITCH_RANGE[1], _PITCH_RANGE[0], _LAGS)
    frequency = np.arange(LINES)[_VOICE] * 25.0
    cosines = np.cos(2 * np.pi * frequency[:, None] * lag[None, :])
    part = lag / (2 * HOP_SECONDS)
    hann = (1 - part) * (2 / 3 + np.cos(2 * np.pi * part) / 3) + np.sin(2 * np.pi * part) / (2 * np.pi)
    return (cosines / hann).astype(np.float32)
