"""What can be told of a sound by its samples."""

import numpy as np
from numpy.typing import NDArray


def loud(samples: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Which 20 ms have a sound in them."""
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160).astype(float)
    return np.sqrt(np.mean(frames**2, axis=1)) > 100


def loud_seconds(samples: NDArray[np.int16], hertz: float) -> float:
    """How long a tone of that frequency is to be heard, in steps of 50 ms."""
    wave = np.exp(-2j * np.pi * hertz * np.arange(400) / 8000)
    blocks = samples[: len(samples) // 400 * 400].reshape(-1, 400).astype(float)
    return float(np.count_nonzero(np.abs(blocks @ wave) / 400 > 1000)) * 0.05


def seconds_besides(samples: NDArray[np.int16], hertz: float) -> float:
    """How long anything is heard besides a tone of that frequency, and about as loud; its gaps are not."""
    blocks = samples[: len(samples) // 1000 * 1000].reshape(-1, 1000).astype(float)
    window = np.hanning(1000)
    spectra = np.abs(np.fft.rfft(blocks * window, axis=1)) ** 2
    at = round(hertz / 8)
    spectra[:, at - 5 : at + 6] = 0
    rms = np.sqrt(np.sum(spectra, axis=1) * 2 / 1000 / np.sum(window**2))
    return float(np.count_nonzero(rms > 2000)) / 8


def likeness_within(heard: NDArray[np.int16], samples: NDArray[np.int16]) -> float:
    """How like ``samples`` the stretch of ``heard`` is that is most like them, of 1."""
    a, b = heard.astype(float), samples.astype(float)
    if len(a) < len(b):
        return 0.0
    size = 1 << (len(a) + len(b)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)[: len(a) - len(b) + 1]
    energies = np.concatenate([[0.0], np.cumsum(a * a)])
    norm = np.sqrt(np.maximum(energies[len(b) :] - energies[: len(a) - len(b) + 1], 1.0))
    return float((cross / norm).max() / max(np.linalg.norm(b), 1.0))
