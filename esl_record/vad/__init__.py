"""Voice activity: which frames of a call are speech, live for many calls at once (`engine`) or for one (`detect`)."""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from esl_record.vad.detector import Detector
from esl_record.vad.features import analyse, hop_of

_CHUNK = 1000  # frames at a time: bounds the memory a long file takes


class Detection(NamedTuple):
    """What the detector decided of n frames; frame i is [i * hop, (i + 1) * hop) seconds."""

    hop: float
    """Seconds a frame lasts."""
    scores: NDArray[np.float64]
    """(n,) the higher, the more like speech."""
    speech: NDArray[np.bool_]
    """(n,) whether the frame is speech, as known when it ends."""


def detect(samples: NDArray[np.int16], sample_rate: int, input_sensitivity: float = 44.0) -> Detection:
    """The decisions a live recording of `samples`, shape (n,), takes, frame by frame.

    `sample_rate` in Hz, 8 to 192 kHz; `input_sensitivity` 0 (hears nothing) to 100. An unfinished last frame gives
    none. Raises ValueError.
    """
    if samples.ndim != 1 or samples.dtype != np.int16:
        raise ValueError(f"samples of shape {samples.shape} and type {samples.dtype}: one channel of int16 is needed")
    hop = hop_of(sample_rate)
    detector = Detector()
    row = np.array([detector.take(input_sensitivity)])
    frames = len(samples) // hop
    scores, speech = np.empty(frames), np.empty(frames, np.bool_)
    history = np.zeros(hop, np.int16)
    for start in range(0, frames, _CHUNK):
        count = min(_CHUNK, frames - start)
        block = samples[start * hop : (start + count) * hop]
        windows = sliding_window_view(np.concatenate([history, block]), 2 * hop)[::hop]
        part = slice(start, start + count)
        scores[part], speech[part] = detector.run(row, np.array([count]), analyse(windows))
        history = block[-hop:]
    return Detection(hop / sample_rate, scores, speech)
