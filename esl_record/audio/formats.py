"""The formats a recording can have."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from esl_record.audio import aac, id3
from esl_record.audio.aac import AacWriter
from esl_record.audio.facts import Quality, Tags
from esl_record.audio.part import Part
from esl_record.audio.sndfile import SoundFileWriter

_LARGEST_WAV = 2**32 - 2**16
"""Bytes of audio; the rest is for the header."""

_SPEECH = 0.5
"""LAME's variable bit rate at V5: some 32 kbit/s for a voice at 8 kHz."""

_MP3_RATES = ((32_000, (32, 320)), (16_000, (8, 160)), (0, (8, 64)))
"""kbit/s at a sampling rate and above."""


class Writer(Protocol):
    """Encodes blocks of samples, shape (samples, channels); ``close`` completes the file. Both raise OSError."""

    def write(self, block: NDArray[np.int16]) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Sound:
    """What is to be encoded, at ``rate`` Hz; ``samples`` are how many at most, as far as that is known."""

    rate: int
    channels: int
    samples: int
    tags: Tags
    quality: Quality


@dataclass(frozen=True, slots=True)
class Format:
    """``writer`` begins a file that is empty; it raises OSError. ``rates`` in Hz, none for all."""

    media_type: str
    writer: Callable[[Part, Sound], Writer]
    rates: tuple[int, ...] = ()


def check(name: str, rate: int) -> None:
    """Raises ValueError if the format cannot hold audio of this rate."""
    rates = FORMATS[name].rates
    if rates and rate not in rates:
        raise ValueError(f"{name} cannot hold {rate} Hz; what it can is {', '.join(map(str, rates))}")


def _wav(file: Part, sound: Sound) -> Writer:
    # What a wav's 32-bit sizes cannot tell of is RF64 (EBU Tech 3306), which readers of wav know too.
    most = _LARGEST_WAV // (2 * max(sound.channels, 1))
    container, limit = ("RF64", None) if sound.samples > most else ("WAV", most)
    tags = sound.tags
    strings = {"title": tags.title, "artist": tags.artist, "date": tags.date, "comment": tags.comment}
    encoding = sound.quality.wav_samples.upper()
    return SoundFileWriter(file, sound.rate, sound.channels, container, encoding, most=limit, strings=strings)


def _mp3(file: Part, sound: Sound) -> Writer:
    file.write(id3.tag(sound.tags))
    mode, level = "VARIABLE", _SPEECH
    if sound.quality.mp3_bit_rate:
        # libsndfile takes a place between the highest and the lowest rate of the MPEG version in question.
        low, high = next(limits for above, limits in _MP3_RATES if sound.rate >= above)
        wanted = sound.quality.mp3_bit_rate * sound.channels
        # An average: at a constant rate LAME's frame that tells of delay and padding may not fit.
        mode, level = "AVERAGE", min(max((high - wanted - 0.5) / (high - low), 0.0), 0.99)
    # As floating point: the 16-bit stereo of libsndfile up to 1.2.2 reads half of what it is given.
    return SoundFileWriter(
        file,
        sound.rate,
        sound.channels,
        "MP3",
        "MPEG_LAYER_III",
        floating=True,
        bitrate_mode=mode,
        compression_level=level,
    )


def _mp4(file: Part, sound: Sound) -> Writer:
    # Three bits a sample, as far up as speech gains by it.
    wanted = 1000 * sound.quality.mp4_bit_rate or min(3 * sound.rate, 64_000)
    return AacWriter(file, sound.rate, sound.channels, wanted * sound.channels, sound.tags)


FORMATS = {
    "wav": Format("audio/wav", _wav),
    "mp3": Format("audio/mpeg", _mp3, (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)),
    "mp4": Format("audio/mp4", _mp4, aac.RATES),
}
"""By the suffix of the file's name."""
