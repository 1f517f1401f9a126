"""Decides frame by frame what is speech, for many calls side by side. Knows nothing of calls, files or time.

What a small recurrent net makes of a frame and of all before it is the score; a score above the threshold begins
speech, one below the release ends it. What the net is told of a frame is its spectrum, how far that is above the noise
floor, and how voiced it is: noise may be loud, or rise in a step, or click, or be music.
"""

import numpy as np
from numpy.typing import NDArray

from esl_record.vad import head, noise
from esl_record.vad.features import Features, inputs
from esl_record.vad.lanes import Lanes

Floats = NDArray[np.float32]

OPERATING_POINT = 44.0
"""The sensitivity at which silence and speech are told apart best."""

TAIL = 0.07
"""Seconds by which a decision for speech outlasts the voice: the median over clean calls."""

_THRESHOLDS = (np.array([0.0, OPERATING_POINT, 100.0]), np.array([6.0, 0.5, -5.0]))  # sensitivity and log odds
_RELEASE = np.float32(1.0)  # log odds below the threshold: speech has ended

_CELLS = slice(noise.COLUMNS, noise.COLUMNS + head.CELLS)
_SPEAKING, _THRESHOLD = _CELLS.stop, _CELLS.stop + 1
_COLUMNS = _CELLS.stop + 2
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
        """Scores, 0 to 1, and decisions, shape (n,), of the next counts[i] > 0 frames of rows[i], row by row.

        `rows` are distinct, and `features` has n = sum(counts) frames. What else is in a run changes nothing for a row.
        """
        lanes = Lanes(counts)
        rows = rows[lanes.order]
        state = self._state[rows]
        above = noise.above_floor(state[:, : noise.COLUMNS], lanes, features.bands, ~features.blank)
        odds = head.log_odds(state[:, _CELLS], lanes, inputs(features, above))
        speech = _latched(state, lanes, odds)
        self._state[rows] = state
        scores: Floats = np.float32(1) / (np.float32(1) + np.exp(-odds))
        return scores, speech


def threshold(sensitivity: float) -> float:
    """The log odds above which speech begins: falling with sensitivity, infinite at 0. ValueError outside 0 to 100."""
    if not 0 <= sensitivity <= 100:
        raise ValueError(f"input sensitivity {sensitivity}: must be 0 to 100")
    return float(np.interp(sensitivity, *_THRESHOLDS)) if sensitivity else float("inf")


def _latched(state: Floats, lanes: Lanes, odds: Floats) -> NDArray[np.bool_]:
    """(n,) whether the odds were last above the threshold or below its release: a lower threshold only adds frames."""
    limit = lanes.spread(state[:, _THRESHOLD])
    begins = odds > limit
    since_begin = lanes.since(begins)
    since_end = lanes.since(odds <= limit - _RELEASE)
    speech = np.where(
        (since_begin < 0) & (since_end < 0),
        lanes.spread(state[:, _SPEAKING]) > 0,
        (since_begin >= 0) & ((since_end < 0) | (since_begin < since_end)),
    )
    state[:, _SPEAKING] = speech[lanes.last]
    return speech
