"""Recordings as others decode them."""

from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

AAC_FRAME = 1024


def by_ffmpeg(path: Path) -> tuple[NDArray[np.float64], int]:
    """What ffmpeg decodes, shape (samples, channels) from -1 to 1, and the rate.

    Of an mp4 it gives the last frame whole, and tells where the audio ends: who plays it stops there.
    """
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        frames = list(container.decode(stream))
        assert frames[0].pts is not None
        if path.suffix == ".mp4":
            assert frames[0].pts == stream.start_time == 0
        blocks = []
        for frame in frames:
            block = frame.to_ndarray().astype(np.float64)
            if not frame.format.is_planar:
                block = block.reshape(-1, stream.channels).T
            blocks.append(block.T if frame.format.name.startswith("flt") else block.T / 32768)
        audio = np.concatenate(blocks)
        if path.suffix == ".mp4":
            assert stream.duration is not None
            assert len(audio) - AAC_FRAME < stream.duration <= len(audio)
            audio = audio[: stream.duration]
        return audio, stream.rate


def by_libsndfile(path: Path) -> tuple[NDArray[np.float64], int]:
    audio, rate = soundfile.read(path, dtype="float64", always_2d=True)
    return audio, rate
