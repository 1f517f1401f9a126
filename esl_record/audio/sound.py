"""Audio files read whole, for a caller to say or a detector to hear."""

from math import gcd
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from esl_record.errors import EslRecordError


class SoundError(EslRecordError):
    """A file that cannot be read as audio; the text names it and says why."""


def read(path: Path, audio: BinaryIO | None = None) -> tuple[NDArray[np.int16], int]:
    """The samples of ``path``, its channels mixed to one, and its rate. ``audio`` is what is in it, where that is not
    what lies on the disk. Raises SoundError."""
    try:
        samples, rate = soundfile.read(audio or path, dtype="int16", always_2d=True)
    except (OSError, soundfile.SoundFileError, TypeError) as error:
        raise SoundError(f"{path}: cannot be read as audio: {error}") from error
    if samples.shape[1] == 1:
        return samples[:, 0], rate
    return np.round(samples.mean(axis=1)).astype(np.int16), rate


def resampled(samples: NDArray[np.int16], rate: int, wanted: int) -> NDArray[np.int16]:
    """``samples`` at the rate ``wanted``."""
    if rate == wanted or not len(samples):
        return samples
    common = gcd(rate, wanted)
    out = resample_poly(samples.astype(np.float64), wanted // common, rate // common)
    return np.clip(np.round(out), -32768, 32767).astype(np.int16)
