"""What the switch can play: tones, silence, sound files and a synthesised voice."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from esl_record.standin.media import Frame
from esl_record.standin.variables import brackets, integer
from esl_record.standin.voice import say

_READ_BLOCK = 16384
_SECONDS_A_CHARACTER = 0.07
_TONE = re.compile(r"%\(([^)]*)\)|(\w+)=(-?[\d.]+)")


@dataclass(frozen=True)
class Prompt:
    """Samples at the call's rate. ``native`` is how many the file has at ``native_rate``; None is endless silence.

    A file is played in whole frames, with -1 behind its end; what is not ``whole`` ends inside its last frame.
    """

    samples: NDArray[np.int16]
    native: int | None
    native_rate: int
    whole: bool = True

    def frame(self, number: int, size: int) -> Frame | None:
        """The frame of that number, or None behind the end."""
        if self.native is None:
            return np.zeros(size, np.int16)
        part = self.samples[number * size : (number + 1) * size]
        if not len(part):
            return None
        if len(part) < size and self.whole:
            part = np.concatenate([part, np.full(size - len(part), -1, np.int16)])
        return part

    def read(self, played: int, rate: int) -> int:
        """How many native samples the switch has read off the file when ``played`` samples have been played.

        It reads ahead in blocks of 16384.
        """
        blocks = -(-(played * self.native_rate // rate) // _READ_BLOCK) * _READ_BLOCK
        return blocks if self.native is None else min(blocks, self.native)


def open_prompt(name: str, rate: int) -> Prompt | None:
    """What ``playback`` calls ``name``: a path, ``tone_stream://``, ``silence_stream://`` or
    ``tts://<engine>|<voice>|<text>``; None if there is no such."""
    name = brackets(name)[1]
    if name.startswith("tone_stream://"):
        samples = _tones(name.removeprefix("tone_stream://"), rate)
        return Prompt(samples, len(samples), rate)
    if name.startswith("silence_stream://"):
        return _silence(integer(name.removeprefix("silence_stream://")), rate)
    if name.startswith("tts://") and name.count("|") == 2:
        return replace(speech(name.rpartition("|")[2], rate), whole=True)
    if "://" in name:
        return None
    path, _, offset = name.partition("@@")
    return _file(path, integer(offset), rate)


def speech(text: str, rate: int) -> Prompt:
    """``text`` spoken by ``speak``: babble as long as the text takes."""
    samples = _babble(max(_SECONDS_A_CHARACTER * len(text), 0.3), rate, zlib.crc32(text.encode()))
    return Prompt(samples, len(samples), rate, whole=False)


@lru_cache(maxsize=64)
def _babble(seconds: float, rate: int, seed: int) -> NDArray[np.int16]:
    return say(seconds, rate, pitch=165.0, seed=seed)


def _silence(milliseconds: int, rate: int) -> Prompt:
    if milliseconds <= 0:
        return Prompt(np.zeros(0, np.int16), None, rate)
    samples = np.zeros(rate * milliseconds // 1000, np.int16)
    return Prompt(samples, len(samples), rate)


def _tones(script: str, rate: int) -> NDArray[np.int16]:
    """A tone script: ``%(on ms, off ms, Hz, Hz ...)`` in a row, ``v=-7`` dB, ``loops=n`` (or ``L=n``) of the whole."""
    volume, loops = -7.0, 1
    parts: list[NDArray[np.float64]] = []
    for tone, setting, value in _TONE.findall(script):
        if setting == "v":
            volume = float(value)
        elif setting.lower() in ("l", "loops"):
            loops = max(integer(value), 1)
        elif tone:
            on, off, *pitches = [float(number or 0) for number in tone.split(",")]
            at = np.arange(int(rate * on / 1000)) / rate
            wave = sum((np.sin(2 * np.pi * hz * at) for hz in pitches if hz), np.zeros(len(at)))
            parts += [wave * 32767 * 10 ** (volume / 20) / max(len(pitches), 1), np.zeros(int(rate * off / 1000))]
    whole = np.concatenate(parts) if parts else np.zeros(0)
    return np.tile(np.round(whole).astype(np.int16), loops)


def _file(path: str, offset: int, rate: int) -> Prompt | None:
    if not Path(path).is_file():
        return None
    try:
        sound, native_rate = soundfile.read(path, dtype="int16", always_2d=True)
    except soundfile.LibsndfileError:
        return None
    mono = sound[offset:].mean(axis=1) if sound.shape[1] > 1 else sound[offset:, 0].astype(np.float64)
    if native_rate != rate:
        common = gcd(native_rate, rate)
        mono = resample_poly(mono, rate // common, native_rate // common)
    samples = np.clip(np.round(mono), -32768, 32767).astype(np.int16)
    return Prompt(samples, len(sound) - offset, native_rate)
