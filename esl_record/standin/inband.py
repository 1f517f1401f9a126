"""DTMF in the audio of the party."""

from __future__ import annotations

import numpy as np

from esl_record.standin.media import Frame

_ROWS, _COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
_DIGITS = ("123A", "456B", "789C", "*0#D")

# Of the energy of two frames; speech has less of it in two frequencies.
_LEAST_SHARE = 0.7
_LEAST_LEVEL = 300.0


class Detector:
    """Finds digits in a party's frames, one after the other; ``rate`` is in samples a second."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._before: Frame | None = None
        self._digit = ""

    def hear(self, frame: Frame) -> str:
        """Return the digit that begins within the 40 ms up to the end of ``frame``, or nothing."""
        before, self._before = self._before, frame
        digit = "" if before is None else self._found(np.concatenate([before, frame]).astype(float))
        begins = digit != self._digit
        self._digit = digit
        return digit if begins else ""

    def _found(self, samples: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
        energy = float(np.mean(samples**2))
        if energy < _LEAST_LEVEL**2:
            return ""
        turns = np.outer((*_ROWS, *_COLUMNS), np.arange(len(samples))) / self._rate
        powers = 2 * np.abs(np.exp(-2j * np.pi * turns) @ samples / len(samples)) ** 2
        row, column = int(powers[:4].argmax()), int(powers[4:].argmax())
        share = (powers[row] + powers[4 + column]) / energy
        return _DIGITS[row][column] if share >= _LEAST_SHARE else ""
