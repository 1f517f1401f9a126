"""Decides frame by frame what is speech, for many calls side by side. Knows nothing of calls, files or time.

The evidence of a frame is how voiced that is which stands out of the noise floor; smoothed over 150 ms it is the
score, and a score above the threshold begins speech, one below a part of the threshold ends it. Noise may be loud, or
rise in a step, or click: it is not voiced. A hum is voiced, but becomes the floor.
"""

import numpy as np
from numpy.typing import NDArray

from esl_record.vad import noise
from esl_record.vad.features import Features, harmonicity
from esl_record.vad.lanes import Lanes

Floats = NDArray[np.float32]

OPERATING_POINT = 44.0
"""The sensitivity at which silence and speech are told apart best."""

TAIL = 0.27
"""Seconds by which the smoothing lets a decision for speech outlast the voice: the median over clean calls."""

_VOICE_BANDS = 10  # up to 1.3 kHz: where voicing is heard
_MARGIN, _RANGE = 6.0, 6.0  # dB: a band stands out from the first on, fully at that much more
_SMOOTHING = np.float32(1 - np.exp(-0.02 / 0.15))  # first order, 150 ms
_LOST_FRAMES = 3  # so many blank frames pass for lost packets; more are silence
_THRESHOLDS = (np.array([0.0, OPERATING_POINT, 100.0]), np.log([8.0, 0.5, 0.03]))  # sensitivity and log threshold
_RELEASE = np.float32(0.45)  # of the threshold: below it, speech has ended

_SCORE, _SPEAKING, _BLANK, _THRESHOLD = range(noise.COLUMNS, noise.COLUMNS + 4)
_COLUMNS = noise.COLUMNS + 4
_FIRST_ROWS = 16


class Detector:
    """State of all calls, a row each, and the recursion over their frames. Taking and dropping take constant time."""

    def __init__(self) -> None:
        self._state = np.zeros((_FIRST_ROWS, _COLUMNS), np.float32)
        self._free = list(range(_FIRST_ROWS))

    def take(self, sensitivity: float) -> int:
        """A row for a call that begins. `sensitivity` is 0 (hears nothing) to 100; ValueError outside of it."""
        limit = threshold(sensitivity)
        if not self._free:
            size = len(self._state)
            self._state = np.concatenate([self._state, np.zeros_like(self._state)])
            self._free = list(range(size, 2 * size))
        row = self._free.pop()
        self._state[row] = 0.0
        noise.begin(self._state[row, : noise.COLUMNS])
        self._state[row, _THRESHOLD] = limit
        return row

    def drop(self, row: int) -> None:
        """Gives a row back."""
        self._free.append(row)

    def run(
        self, rows: NDArray[np.intp], counts: NDArray[np.intp], features: Features
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Scores, 0 to 10, and decisions, shape (n,), of the next counts[i] > 0 frames of rows[i], row by row.

        `rows` are distinct, and `features` has n = sum(counts) frames. What else is in a run changes nothing for a row.
        """
        lanes = Lanes(counts)
        rows = rows[lanes.order]
        state = self._state[rows]
        heard = ~features.blank
        above = noise.above_floor(state[:, : noise.COLUMNS], lanes, features.bands, heard)
        scores = _smoothed(state, lanes, _evidence(above, features.voice), heard)
        speech = _latched(state, lanes, scores)
        self._state[rows] = state
        return scores, speech


def threshold(sensitivity: float) -> float:
    """The score at which speech begins: falls with the sensitivity, infinite at 0. ValueError outside 0 to 100."""
    if not 0 <= sensitivity <= 100:
        raise ValueError(f"input sensitivity {sensitivity}: must be 0 to 100")
    return float(np.exp(np.interp(sensitivity, *_THRESHOLDS))) if sensitivity else float("inf")


def _evidence(above: Floats, voice: Floats) -> Floats:
    """(n,) 0 to 10. The power sets the harmonicity of voices (0.5 and more) apart from that of noise (0.1 to 0.3)."""
    excess = np.maximum(above - np.float32(_MARGIN), np.float32(0.0)) / np.float32(_RANGE)
    presence = np.minimum(excess[:, :_VOICE_BANDS].mean(axis=1), np.float32(1.0))
    present = np.flatnonzero(presence)  # a good part of most calls is silence
    evidence: Floats = np.zeros(len(above), np.float32)
    voiced = harmonicity(voice[present], np.minimum(excess[present], np.float32(1.0)))
    evidence[present] = 10 * (voiced * presence[present]) ** np.float32(2.5)
    return evidence


def _smoothed(state: Floats, lanes: Lanes, evidence: Floats, heard: NDArray[np.bool_]) -> Floats:
    """(n,) the score. It stands still while packets are lost, and falls in digital silence."""
    since = lanes.since(heard)
    blank = np.where(since >= 0, since, lanes.spread(state[:, _BLANK]) - since)
    state[:, _BLANK] = blank[lanes.last]
    evidence = np.where(heard, evidence, np.float32(0.0))
    rate = np.where(heard | (blank > _LOST_FRAMES), _SMOOTHING, np.float32(0.0))
    scores = np.empty_like(evidence)
    current = state[:, _SCORE]
    for live, at in lanes.steps():
        score = current[:live]
        score += rate[at] * (evidence[at] - score)
        scores[at] = score
    return scores


def _latched(state: Floats, lanes: Lanes, scores: Floats) -> NDArray[np.bool_]:
    """(n,) whether the score was last above the threshold or below its release: a lower threshold only adds frames."""
    limit = lanes.spread(state[:, _THRESHOLD])
    begins = scores > limit
    since_begin = lanes.since(begins)
    since_end = lanes.since(scores <= _RELEASE * limit)
    speech = np.where(
        (since_begin < 0) & (since_end < 0),
        lanes.spread(state[:, _SPEAKING]) > 0,
        (since_begin >= 0) & ((since_end < 0) | (since_begin < since_end)),
    )
    state[:, _SPEAKING] = speech[lanes.last]
    return speech
