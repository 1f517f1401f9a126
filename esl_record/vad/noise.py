"""Follows the noise floor of each band, call by call, through speech and through changes of the noise.

The floor is the minimum of the smoothed level over the last one to two seconds, as speech leaves every band for
moments: minimum statistics (Martin 2001) in the two-register form of Cohen and Berdugo (2002), in dB.
"""

import numpy as np
from numpy.typing import NDArray

from esl_record.vad.features import BANDS
from esl_record.vad.lanes import Lanes

Floats = NDArray[np.float32]

COLUMNS = 3 * BANDS + 1
"""Of a call's state: the smoothed level, the floor and the floor in the making of each band, and the frames heard."""

_SMOOTHED, _FLOOR, _NEXT = (slice(part * BANDS, (part + 1) * BANDS) for part in range(3))
_HEARD = 3 * BANDS

_SMOOTHING = np.float32(0.4)  # a time constant of 40 ms: follows the dips between syllables, not those of noise
_SPAN = 50  # frames in a register: 1 s
_LOWEST = np.float32(-85.0)  # dB: no floor is below it, or what a codec makes of silence would stand out


def begin(state: Floats) -> None:
    """Sets up the state, shape (COLUMNS,) or (n, COLUMNS), of calls that have not been heard yet."""
    state[..., _SMOOTHED] = 0.0
    state[..., _FLOOR] = np.inf
    state[..., _NEXT] = np.inf
    state[..., _HEARD] = 0.0


def above_floor(state: Floats, lanes: Lanes, bands: Floats, heard: NDArray[np.bool_]) -> Floats:
    """How far each band of each frame, `bands` (n, BANDS) in dB, is above its floor: (n, BANDS), dB.

    The floor learns from each frame first, but nothing from those not `heard`, (n,), which count as on it. `state`,
    shape (lanes, COLUMNS) in the order of `lanes`, is updated.
    """
    bands = np.maximum(bands, _LOWEST)
    _start(state, lanes, bands, heard)
    count = lanes.running(heard) + lanes.spread(state[:, _HEARD])
    full = heard & (count % _SPAN == 0)
    ending = lanes.steps_of(full)
    rate = (_SMOOTHING * heard)[lanes.by_step, None]
    levels, full = bands[lanes.by_step], full[lanes.by_step]
    floors = np.empty_like(bands)
    columns = (_SMOOTHED, _FLOOR, _NEXT)
    smoothed, floor, following = (np.ascontiguousarray(state[:, part]) for part in columns)
    for step, (live, at) in enumerate(lanes.steps()):
        level, low, low_next = smoothed[:live], floor[:live], following[:live]
        level += rate[at] * (levels[at] - level)
        np.minimum(low, level, out=low)
        np.minimum(low_next, level, out=low_next)
        floors[at] = low
        if step in ending:
            done = np.flatnonzero(full[at])
            low[done] = low_next[done]
            low_next[done] = level[done]
    for part, values in zip(columns, (smoothed, floor, following), strict=True):
        state[:, part] = values
    heard_frames = count[lanes.last]
    # Only whether any, and how far the register is: a float32 cannot count on for ever.
    state[:, _HEARD] = heard_frames % _SPAN + _SPAN * (heard_frames >= _SPAN)
    bands[lanes.by_step] = levels - floors
    bands[~heard] = 0.0
    return bands


def _start(state: Floats, lanes: Lanes, bands: Floats, heard: NDArray[np.bool_]) -> None:
    """Smoothing begins at the first frame that is heard, not at silence."""
    for lane in np.flatnonzero(state[:, _HEARD] == 0):
        frames = slice(lanes.first[lane], lanes.last[lane] + 1)
        if heard[frames].any():
            state[lane, _SMOOTHED] = bands[frames][heard[frames].argmax()]
