"""Telephone sounds made by arithmetic: a buzz through formants for a voice, and what must not be taken for one."""

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

RATE = 8000
Samples = NDArray[np.int16]


def at_level(signal: NDArray[np.float64], dbfs: float) -> NDArray[np.float64]:
    """Scaled to an RMS level, where 0 dBFS is a full-scale square wave."""
    return signal * (32768 * 10 ** (dbfs / 20) / np.sqrt(np.mean(signal**2)))


def pcm(signal: NDArray[np.float64]) -> Samples:
    return np.clip(np.round(signal), -32768, 32767).astype(np.int16)


def silence(seconds: float) -> NDArray[np.float64]:
    return np.zeros(round(seconds * RATE))


def white(seconds: float, dbfs: float, seed: int = 0) -> NDArray[np.float64]:
    return at_level(np.random.default_rng(seed).standard_normal(round(seconds * RATE)), dbfs)


def brown(seconds: float, dbfs: float, seed: int = 0) -> NDArray[np.float64]:
    """Noise that falls off towards the top, as in a car."""
    return at_level(lfilter([1.0], [1.0, -0.95], white(seconds, -20, seed)), dbfs)


def hum(seconds: float, dbfs: float, mains: float = 50.0) -> NDArray[np.float64]:
    time = np.arange(round(seconds * RATE)) / RATE
    return at_level(sum(np.sin(2 * np.pi * mains * k * time + k) / k for k in range(1, 12)), dbfs)


def clicks(seconds: float, peak: float, seed: int = 0) -> NDArray[np.float64]:
    """Three sharp clicks a second, decaying within 2 ms."""
    rng = np.random.default_rng(seed)
    train = silence(seconds)
    train[rng.integers(0, len(train), round(3 * seconds))] = peak
    return lfilter([1.0], [1.0, -0.8], train)


def voice(seconds: float, dbfs: float, seed: int = 0, pitch: float = 120.0) -> NDArray[np.float64]:
    """Syllables of 180 ms, 60 ms apart: pulses at a gliding pitch through the formants of changing vowels."""
    rng = np.random.default_rng(seed)
    length = round(seconds * RATE)
    time = np.arange(length) / RATE
    phase = np.cumsum(pitch * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time))) / RATE
    pulses = (np.diff(np.floor(phase), prepend=0) > 0).astype(float)
    out = silence(seconds)
    syllable, pause = round(0.18 * RATE), round(0.06 * RATE)
    vowels = [(730, 1090, 2440), (270, 2290, 3010), (570, 840, 2410), (660, 1720, 2410)]
    for start in range(0, length, syllable + pause):
        part = pulses[start : start + syllable]
        for formant in vowels[rng.integers(len(vowels))]:
            radius = np.exp(-np.pi * 90 / RATE)
            part = lfilter([1.0], [1.0, -2 * radius * np.cos(2 * np.pi * formant / RATE), radius**2], part)
        swell = np.hanning(2 * 160)
        envelope = np.ones(len(part))
        envelope[:160], envelope[-160:] = swell[:160][: len(part)], swell[160:][-len(part) :]
        out[start : start + syllable] = part * envelope / np.sqrt(np.mean(part**2) + 1e-9)
    return at_level(out, dbfs)


def call(*parts: NDArray[np.float64], noise: float = -75.0, seed: int = 1) -> Samples:
    """Parts one after the other, on a line that hisses at `noise` dBFS."""
    whole = np.concatenate(parts)
    return pcm(whole + white(len(whole) / RATE, noise, seed))
