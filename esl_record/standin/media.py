"""What a call carries, 20 ms at a time: what its party says, what it hears, and the media bugs that tap both."""

from __future__ import annotations

import os
from collections import deque
from math import gcd
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import firwin, resample_poly, upfirdn

from esl_record.standin.caller import Caller
from esl_record.standin.clock import FRAMES_PER_SECOND, Clock, frames

Frame = NDArray[np.int16]

FILE_BUFFER = 65536
PRE_BUFFER_FRAMES = 25


class Legs:
    """Both directions of a call, counted in frames since answer."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._gaps = [(frames(begin), frames(end)) for begin, end in caller.gaps]
        self.frames = 0
        self._heard: list[tuple[int, int, Frame]] = []
        self._to_lose = 0
        self.change_rate(caller.rate)

    def change_rate(self, rate: int) -> None:
        """Both directions have ``rate`` samples a second from here on."""
        self.samples = rate // FRAMES_PER_SECOND
        audio = resample(self._caller.audio, self._caller.rate, rate)
        whole = -(-len(audio) // self.samples)
        padded = np.zeros(whole * self.samples, np.int16)
        padded[: len(audio)] = audio
        self._said = padded.reshape(-1, self.samples)
        self._silence = np.zeros(self.samples, np.int16)
        self._nothing = np.full(self.samples, -1, np.int16)
        self.last_said = self._silence

    def lose(self, frames: int) -> None:
        """So many of the next frames the party says are not received."""
        self._to_lose = frames

    def say(self, *, answered: bool, received: bool = True) -> Frame:
        """The next frame the party says; before answer it says nothing, and the count stands.

        What is not ``received`` is silence to those who ask for the last frame.
        """
        self.last_said = self._silence
        if answered:
            if received and self.frames < len(self._said):
                self.last_said = self._said[self.frames]
            self.frames += 1
        gap = any(begin < self.frames <= end for begin, end in self._gaps)
        if self._to_lose or gap:
            self._to_lose = max(self._to_lose - 1, 0)
            self.last_said = self._nothing
        return self.last_said

    def hear(self, frame: Frame) -> None:
        self._heard.append((self.frames, self.samples * FRAMES_PER_SECOND, frame))

    def heard(self) -> NDArray[np.int16]:
        """All that was played since answer at the caller's first rate, zeros where nothing was; as long as the call has
        been answered."""
        rate = self._caller.rate
        samples = rate // FRAMES_PER_SECOND
        out = np.zeros(self.frames * samples, np.int16)
        for at, frame_rate, frame in self._heard:
            # What the party hears in the frame it was just read in; media before answer has no place here.
            if at > 0:
                heard = resample(frame, frame_rate, rate)
                out[(at - 1) * samples : (at - 1) * samples + len(heard)] = heard
        return out


def resample(sound: Frame, rate: int, to: int) -> Frame:
    """``sound`` of ``rate`` samples a second, at ``to`` samples a second."""
    if rate == to or not len(sound):
        return sound
    common = gcd(rate, to)
    wide = resample_poly(sound.astype(np.float64), to // common, rate // common)
    narrow: Frame = np.clip(np.round(wide), -32768, 32767).astype(np.int16)
    return narrow


class Resampler:
    """Resamples a stream of interleaved samples, a piece at a time; what comes out is late by the filter's length."""

    def __init__(self, rate: int, to: int, channels: int) -> None:
        common = gcd(rate, to)
        self._up, self._down = to // common, rate // common
        longest = max(self._up, self._down)
        self._filter = firwin(20 * longest + 1, 1 / longest) * self._up
        past = self._down * -(-len(self._filter) // (self._up * self._down))
        self._past = np.zeros((past, channels))

    def __call__(self, piece: Frame) -> Frame:
        held = len(self._past)
        both = np.concatenate([self._past, piece.reshape(-1, self._past.shape[1])])
        self._past = both[-held:]
        wide = upfirdn(self._filter, both, self._up, self._down, axis=0)
        begin = held * self._up // self._down
        new = wide[begin : begin + (len(both) - held) * self._up // self._down]
        narrow: Frame = np.clip(np.round(new), -32768, 32767).astype(np.int16)
        return narrow.reshape(-1)


class _Queue:
    """Samples of one direction of a call, in the pieces they came in."""

    def __init__(self) -> None:
        self.samples = 0
        self._pieces: deque[Frame] = deque()

    def push(self, piece: Frame) -> None:
        self._pieces.append(piece)
        self.samples += len(piece)

    def pop(self, samples: int) -> Frame:
        self.samples -= samples
        if len(self._pieces[0]) == samples:
            return self._pieces.popleft()
        whole = np.concatenate(self._pieces)
        self._pieces = deque([whole[samples:]] if len(whole) > samples else [])
        return whole[:samples]


class Amplifier:
    """Makes what is played softer or louder, by ``level`` steps, -4 to 4."""

    _FACTORS = (1.0, 1.3, 2.3, 3.3, 4.3, 0.2, 0.4, 0.6, 0.8)

    def __init__(self) -> None:
        self.level = 0

    def amplify(self, frame: Frame) -> Frame:
        if not self.level:
            return frame
        louder: Frame = np.clip(frame * self._FACTORS[self.level], -32768, 32767).astype(np.int16)
        return louder


class SpoolFile(Protocol):
    """Where a media bug's frames go. ``write`` takes whole frames, interleaved if there are two channels."""

    def write(self, frame: Frame) -> None: ...

    def close(self) -> int:
        """Flush and close; the file's size in bytes."""
        ...


class RawFile:
    """A headerless file of signed 16-bit little-endian samples, written behind a buffer of ``buffer`` bytes.

    With ``buffer`` 0 every frame is one write. ``stalled`` swallows what is written, as a full disk would.
    """

    def __init__(self, path: str, *, buffer: int, append: bool = False) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC)
        self._file = os.open(path, flags, 0o640)
        self._buffer = buffer
        self._held = bytearray()
        self.stalled = False

    def write(self, frame: Frame) -> None:
        if self.stalled:
            return
        if not self._buffer:
            os.write(self._file, frame.astype("<i2", copy=False).tobytes())
            return
        self._held += frame.astype("<i2", copy=False).tobytes()
        if len(self._held) >= self._buffer:
            os.write(self._file, self._held[: self._buffer])
            del self._held[: self._buffer]

    def close(self) -> int:
        if self._held and not self.stalled:
            os.write(self._file, self._held)
        size = os.fstat(self._file).st_size
        os.close(self._file)
        return size


class WaveFile:
    """A recording whose file name asks for a container; nobody reads behind it, so it is written as it comes."""

    def __init__(self, path: str, rate: int, channels: int) -> None:
        self._path = path
        self._channels = channels
        self._sound = soundfile.SoundFile(path, "w", rate, channels, subtype="PCM_16")
        self.stalled = False

    def write(self, frame: Frame) -> None:
        if not self.stalled:
            self._sound.write(frame.reshape(-1, self._channels))

    def close(self) -> int:
        self._sound.close()
        return Path(self._path).stat().st_size


class MediaBug:
    """A tap on one call that writes what it hears to a file.

    What is said and what is heard queue up separately, and each frame read off the call pairs the oldest of both. The
    queues are what makes a pre-buffer of n frames delay the file by n frames, and lose the frames still queued at the
    close when a leg carries nothing: there is nothing to pair them with. A queue with part of a frame in it, as
    ``speak`` leaves behind, holds everything back (``switch_core_media_bug_read``): from then on each frame that is
    played gets one frame out, and what is said piles up. ``began``: frames of the call before it.

    ``rates`` are the call's rate at the start and the file's. Who changes the codec changes ``samples``, and the file
    is then written at the wrong speed: the switch does not tell its resampler. ``channels`` is 2 for a call that has
    two channels itself; its taps do too, whatever else is asked for.
    """

    def __init__(
        self,
        path: str,
        file: SpoolFile,
        *,
        samples: int,
        rates: tuple[int, int],
        channels: int = 1,
        read: bool,
        write: bool,
        stereo: bool,
        swapped: bool,
        pre_buffer: int,
        stop_epoch: int | None,
        variables: dict[str, str],
        answered_only: bool = False,
        bridged_only: bool = False,
        shortest: int = 0,
        appends: bool = False,
        began: int = 0,
    ) -> None:
        self.path = path
        self.variables = variables
        self.began = began
        self.stop_epoch = stop_epoch
        self.paused = False
        self.masked = False
        self.precedes_amplifier = False
        self.samples_out = 0
        self.completion_cause: str | None = None
        self._file = file
        self.answered_only = answered_only
        self.bridged_only = bridged_only
        self.appends = appends
        self.too_short = shortest * rates[1]
        """The file is deleted if ``samples_out`` is less at the close."""
        self._read = _Queue() if read else None
        self._write = _Queue() if write else None
        self._stereo = stereo and channels == 1
        self._swapped = swapped
        self._pre_buffer = pre_buffer
        self._channels = channels
        self.samples = samples
        rate, to = rates
        self._resample = None if rate == to else Resampler(rate, to, 2 if self._stereo else channels)
        self.writes = 0

    @property
    def _size(self) -> int:
        return self.samples * self._channels

    def said(self, frame: Frame) -> None:
        if self._read is not None and not self.paused:
            self._read.push(np.repeat(frame, 2) if self._channels == 2 else frame)

    def heard(self, frame: Frame) -> None:
        if self._write is not None and not self.paused:
            self._write.push(np.repeat(frame, 2) if self._channels == 2 else frame)

    def ping(self, clock: Clock) -> bool:
        """One frame's time has passed: write what there is. False once the limit is reached."""
        if not self.paused:
            frame = self._next(fill=True)
            while frame is not None:
                self._out(frame)
                self.samples_out += self.samples
                self.writes += 1
                frame = self._next(fill=False)
        return self.stop_epoch is None or clock.epoch < self.stop_epoch

    def _out(self, frame: Frame) -> None:
        frame = np.zeros_like(frame) if self.masked else frame
        self._file.write(frame if self._resample is None else self._resample(frame))

    def _next(self, *, fill: bool) -> Frame | None:
        """The next frame of the file, or None. Without ``fill`` a leg that carries nothing holds the other back."""
        read, write, size = self._read, self._write, self._size
        said = read.samples if read is not None else 0
        heard = write.samples if write is not None else 0
        if self._pre_buffer and (said or heard):
            self._pre_buffer -= 1
            return None
        if write is not None and heard > max(said, 2 * size):
            write.pop(size)
            heard -= size
        if 0 < said < size or 0 < heard < size:
            return None
        lacks_read = read is not None and not said
        lacks_write = write is not None and not heard
        if (lacks_read and lacks_write) or (not fill and (lacks_read or lacks_write)):
            return None
        left = None if read is None else read.pop(size) if said else np.full(size, -1, np.int16)
        right = None if write is None else write.pop(size) if heard else np.full(size, -1, np.int16)
        return self._mix(left, right)

    def _mix(self, left: Frame | None, right: Frame | None) -> Frame:
        if self._stereo:
            both = np.zeros((self.samples, 2), np.int16)
            for column, leg in enumerate((right, left) if self._swapped else (left, right)):
                if leg is not None:
                    both[:, column] = leg
            return both.reshape(-1)
        if left is None or right is None:
            only = left if left is not None else right
            assert only is not None
            return only
        mixed: Frame = np.clip(left.astype(np.int32) + right, -32768, 32767).astype(np.int16)
        return mixed

    def close(self) -> int:
        """Write what can still be paired and close the file; its size in bytes.

        A stereo frame written here comes out at twice its length: the switch takes the two channels' samples for one's,
        and writes what lies behind them in memory too (upstream issue 3105).
        """
        frame = self._next(fill=False)
        while frame is not None:
            self._out(np.concatenate([frame, frame]) if self._stereo else frame)
            self.samples_out += self.samples * (2 if self._stereo else 1)
            frame = self._next(fill=False)
        return self._file.close()

    def stall(self) -> None:
        """The file stops growing; nobody is told."""
        if isinstance(self._file, RawFile | WaveFile):
            self._file.stalled = True
