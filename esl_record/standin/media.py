"""What a call carries, 20 ms at a time: what its party says, what it hears, and the media bugs that tap both."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from esl_record.standin.caller import Caller
from esl_record.standin.clock import FRAMES_PER_SECOND, Clock

Frame = NDArray[np.int16]

FILE_BUFFER = 65536
PRE_BUFFER_FRAMES = 25


class Legs:
    """Both directions of a call, counted in frames since answer."""

    def __init__(self, caller: Caller) -> None:
        self.samples = caller.rate // FRAMES_PER_SECOND
        self.frames = 0
        whole = -(-len(caller.audio) // self.samples)
        padded = np.zeros(whole * self.samples, np.int16)
        padded[: len(caller.audio)] = caller.audio
        self._said = padded.reshape(-1, self.samples)
        self._silence = np.zeros(self.samples, np.int16)
        self.last_said = self._silence
        self._heard: list[tuple[int, Frame]] = []
        self._nothing = np.full(self.samples, -1, np.int16)
        self._to_lose = 0

    def lose(self, frames: int) -> None:
        """So many of the next frames the party says are not received."""
        self._to_lose = frames

    def say(self, *, answered: bool) -> Frame:
        """The next frame the party says; before answer it says nothing, and the count stands."""
        self.last_said = self._silence
        if answered:
            if self.frames < len(self._said):
                self.last_said = self._said[self.frames]
            self.frames += 1
        if self._to_lose:
            self._to_lose -= 1
            self.last_said = self._nothing
        return self.last_said

    def hear(self, frame: Frame) -> None:
        self._heard.append((self.frames, frame))

    def heard(self) -> NDArray[np.int16]:
        """All that was played since answer, zeros where nothing was; as long as the call has been answered."""
        out = np.zeros(self.frames * self.samples, np.int16)
        for at, frame in self._heard:
            # What the party hears in the frame it was just read in; media before answer has no place here.
            if at > 0:
                out[(at - 1) * self.samples : at * self.samples] = frame
        return out


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
    close when a leg carries nothing: there is nothing to pair them with. ``began``: frames of the call before it.
    """

    def __init__(
        self,
        path: str,
        file: SpoolFile,
        *,
        samples: int,
        read: bool,
        write: bool,
        stereo: bool,
        swapped: bool,
        pre_buffer: int,
        stop_epoch: int | None,
        variables: dict[str, str],
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
        self._read: deque[Frame] | None = deque() if read else None
        self._write: deque[Frame] | None = deque() if write else None
        self._stereo = stereo
        self._swapped = swapped
        self._pre_buffer = pre_buffer
        self._empty = np.full(samples, -1, np.int16)
        self._masked = np.zeros(samples * (2 if stereo else 1), np.int16)
        self._samples = samples
        self.writes = 0

    def said(self, frame: Frame) -> None:
        if self._read is not None and not self.paused:
            self._read.append(frame)

    def heard(self, frame: Frame) -> None:
        if self._write is not None and not self.paused:
            self._write.append(frame)

    def ping(self, clock: Clock) -> bool:
        """One frame's time has passed: write what there is. False once the limit is reached."""
        if not self.paused:
            frame = self._next(fill=True)
            while frame is not None:
                self._file.write(self._masked if self.masked else frame)
                self.samples_out += self._samples
                self.writes += 1
                frame = self._next(fill=False)
        return self.stop_epoch is None or clock.epoch < self.stop_epoch

    def _next(self, *, fill: bool) -> Frame | None:
        """The next frame of the file, or None. Without ``fill`` a leg that carries nothing holds the other back."""
        read, write = self._read, self._write
        if self._pre_buffer and (read or write):
            self._pre_buffer -= 1
            return None
        if write and len(write) > max(len(read) if read else 0, 2):
            write.popleft()
        lacks_read = read is not None and not read
        lacks_write = write is not None and not write
        if (lacks_read and lacks_write) or (not fill and (lacks_read or lacks_write)):
            return None
        left = read.popleft() if read else self._empty if lacks_read else None
        right = write.popleft() if write else self._empty if lacks_write else None
        return self._mix(left, right)

    def _mix(self, left: Frame | None, right: Frame | None) -> Frame:
        if self._stereo:
            both = np.zeros((self._samples, 2), np.int16)
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
            written = self._masked if self.masked else frame
            self._file.write(np.concatenate([written, written]) if self._stereo else written)
            self.samples_out += self._samples * (2 if self._stereo else 1)
            frame = self._next(fill=False)
        return self._file.close()

    def stall(self) -> None:
        """The file stops growing; nobody is told."""
        if isinstance(self._file, RawFile | WaveFile):
            self._file.stalled = True
