"""AAC in an mp4, encoded by libavcodec."""

from array import array
from fractions import Fraction

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray

from esl_record.audio import mp4
from esl_record.audio.facts import Tags
from esl_record.audio.part import Part

RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)

_DELAY = mp4.FRAME
"""Samples the encoder puts in front; it does not tell."""


class AacWriter:
    """Writes an mp4 to ``file``, which is empty; ``bit_rate`` in bit/s. Everything raises OSError."""

    def __init__(self, file: Part, rate: int, channels: int, bit_rate: float, tags: Tags) -> None:
        if rate not in RATES:
            raise OSError(f"there is no AAC of {rate} Hz")
        self._file = file
        self._tags = tags
        self._samples = 0
        self._sizes = array("H")
        self._layout = "mono" if channels == 1 else "stereo"
        codec = av.CodecContext.create("aac", "w")
        assert isinstance(codec, AudioCodecContext)
        codec.sample_rate, codec.layout, codec.format = rate, self._layout, "fltp"
        codec.time_base = Fraction(1, rate)
        codec.bit_rate = round(bit_rate)
        # A sixth of the time of the usual search, and at these rates no worse.
        codec.options = {"aac_coder": "fast"}
        self._codec = codec
        file.write(mp4.HEAD + mp4.audio_head(0))

    def write(self, block: NDArray[np.int16]) -> None:
        if not len(block):
            return
        frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="s16", layout=self._layout)
        frame.sample_rate, frame.pts = self._codec.sample_rate, self._samples
        self._samples += len(block)
        self._encode(frame)

    def close(self) -> None:
        """Completes the file."""
        if self._samples:
            self._encode(None)
        sizes = np.frombuffer(self._sizes, np.uint16).astype(np.uint32)
        codec = self._codec
        config = codec.extradata or b""
        told = mp4.index(sizes, self._samples, _DELAY, codec.sample_rate, codec.channels, config, self._tags)
        self._file.write(told)
        self._file.seek(len(mp4.HEAD))
        self._file.write(mp4.audio_head(int(sizes.sum(dtype=np.uint64))))

    def _encode(self, frame: av.AudioFrame | None) -> None:
        packets = encoded(self._codec, frame)
        self._sizes.extend(map(len, packets))
        self._file.write(b"".join(packets))


def encoded(codec: AudioCodecContext, frame: av.AudioFrame | None) -> list[bytes]:
    """The packets that come of ``frame``, or of no more being there. Raises OSError."""
    try:
        return [bytes(packet) for packet in codec.encode(frame)]
    except av.FFmpegError as error:
        raise OSError(str(error)) from error
