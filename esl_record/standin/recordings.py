"""The recordings of one call, keyed by the very path string each was started with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from esl_record.standin.channel import Channel
from esl_record.standin.headers import Header
from esl_record.standin.media import FILE_BUFFER, PRE_BUFFER_FRAMES, Frame, MediaBug, RawFile, SpoolFile, WaveFile
from esl_record.standin.variables import brackets, integer, is_true

_RATES = frozenset({8000, 12000, 16000, 24000, 32000, 48000})
"""What ``record_sample_rate`` may be, but for multiples of 11025; the switch passes over others without a word."""

_APPENDED_SECONDS = 3
"""``RECORD_MIN_SEC`` of a recording that is appended to another."""

_NOT_SIMULATED = ("RECORD_INITIAL_TIMEOUT_MS", "RECORD_FINAL_TIMEOUT_MS", "RECORD_SILENCE_THRESHOLD")

_CONTAINERS = frozenset({"wav", "flac", "ogg", "aiff", "au"})


class Recordings:
    """Starts, stops and feeds the media bugs of a channel.

    Variables given to a recording hold for it alone; where it has none of a name, the channel's holds. ``start`` raises
    NotImplementedError for those that the switch acts on and this one does not.
    """

    def __init__(self, channel: Channel, samples: int) -> None:
        self._channel = channel
        self._samples = samples
        self._bugs: dict[str, MediaBug] = {}
        self.taps: list[MediaBug] = []
        """All there ever were, in their order."""
        self._heard = 0
        self._stalled = channel.core.faults.never_grow_tap

    def __len__(self) -> int:
        return len(self._bugs)

    def __contains__(self, path: object) -> bool:
        return path in self._bugs

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._bugs))

    def said(self, frame: Frame) -> None:
        """One frame has been read off the call; files grow now, and limits are looked at."""
        self._heard += 1
        for bug in [bug for bug in self._bugs.values() if self._feeds(bug)]:
            bug.said(frame)
            if not bug.ping(self._channel.core.clock):
                self._close(bug)

    def heard(self, frame: Frame, amplified: Frame) -> None:
        for bug in self._bugs.values():
            if bug.answered_only and not self._channel.answered:
                continue
            bug.heard(frame if bug.precedes_amplifier else amplified)

    def _feeds(self, bug: MediaBug) -> bool:
        """Whether what is read off the call now concerns a recording."""
        channel = self._channel
        return (channel.answered or not bug.answered_only) and (channel.bridged or not bug.bridged_only)

    def change_rate(self, samples: int) -> None:
        """A frame has so many samples from now on. Recordings that run are not told of the new rate."""
        self._samples = samples
        for bug in self._bugs.values():
            bug.samples = samples

    def precede_amplifier(self) -> None:
        """Those that run now stand before an amplifier that is put in, those to come behind it."""
        for bug in self._bugs.values():
            bug.precedes_amplifier = True

    def start(self, path: str, limit: int, variables: dict[str, str]) -> bool:
        """Start recording to ``path``, for ``limit`` whole seconds of the clock (0: no limit); False if it cannot be.

        An unanswered call is opened to early media first. A path that is being recorded already is left alone.
        """
        channel = self._channel
        if not channel.pre_answer():
            return False
        given, file_name = brackets(path)
        chosen = {name.lower(): text for name, text in variables.items()}

        def value(name: str) -> str | None:
            return chosen.get(name.lower()) or channel.variables.get(name)

        if path in self._bugs:
            if is_true(value("RECORD_TOGGLE_ON_REPEAT")):
                self._close(self._bugs[path])
            return True
        for name in _NOT_SIMULATED:
            if integer(value(name) or "") > 0:
                raise NotImplementedError(f"{name}={value(name)}: the stand-in switch does not do that")

        # Of the variables in front of the file name only these two reach the recording.
        in_path = {name.lower(): text for name, text in given.items()}
        read_only = is_true(value("RECORD_READ_ONLY")) or is_true(in_path.get("record_read_only"))
        write_only = is_true(value("RECORD_WRITE_ONLY")) or is_true(in_path.get("record_write_only"))
        swapped = is_true(value("RECORD_STEREO_SWAP"))
        stereo = swapped or is_true(value("RECORD_STEREO"))
        rate = channel.codec.rate
        to = integer(value("record_sample_rate") or "")
        if to in (11025, 22050, 44100):
            raise NotImplementedError(f"record_sample_rate={to}: a frame would not be whole")
        to = to if to in _RATES else rate
        channels = 2 if stereo else channel.caller.channels
        appends = is_true(value("RECORD_APPEND"))
        shortest = value("RECORD_MIN_SEC")
        try:
            file = self._open(file_name, to, channels, value("enable_file_write_buffering"), append=appends)
        except (OSError, RuntimeError, ValueError):
            channel.set("record_completion_cause", "uri-failure")
            if is_true(value("RECORD_HANGUP_ON_ERROR")):
                channel.hang_up("DESTINATION_OUT_OF_ORDER")
            return False
        pre_buffer = value("RECORD_PRE_BUFFER_FRAMES")
        bug = MediaBug(
            path,
            file,
            samples=self._samples,
            rates=(rate, to),
            channels=channel.caller.channels,
            read=read_only or not write_only,
            write=not read_only,
            stereo=stereo,
            swapped=swapped,
            pre_buffer=PRE_BUFFER_FRAMES if pre_buffer is None else max(integer(pre_buffer), 0),
            stop_epoch=channel.core.clock.epoch + limit if limit > 0 else None,
            variables=variables,
            answered_only=is_true(value("RECORD_ANSWER_REQ")) or is_true(channel.variables.get("media_bug_answer_req")),
            bridged_only=is_true(value("RECORD_BRIDGE_REQ")),
            shortest=_APPENDED_SECONDS if shortest is None and appends else max(integer(shortest or ""), 0),
            appends=appends,
            began=self._heard,
        )
        if self._stalled:
            bug.stall()
        self._bugs[path] = bug
        self.taps.append(bug)
        channel.fire("RECORD_START", self._described(bug))
        channel.fire("MEDIA_BUG_START", first=self._function(bug))
        return True

    def _open(self, path: str, rate: int, channels: int, buffering: str | None, *, append: bool) -> SpoolFile:
        buffer = FILE_BUFFER
        if buffering is not None:
            buffer = integer(buffering) if integer(buffering) > 0 else FILE_BUFFER if is_true(buffering) else 0
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        extension = target.suffix.removeprefix(".").lower()
        if extension == "raw":
            return RawFile(path, buffer=buffer * channels, append=append)
        if extension in _CONTAINERS:
            return WaveFile(path, rate, channels)
        raise ValueError(f"no file format is named {extension!r}")

    def stop(self, path: str) -> bool:
        """Stop one recording, or ``all``; False if there is none of that path."""
        found = [bug for key, bug in self._bugs.items() if path.lower() == "all" or key == path]
        for bug in found:
            self._close(bug)
        return bool(found)

    def pause(self, path: str, on: bool) -> bool:
        if path in self._bugs:
            self._bugs[path].paused = on
        return path in self._bugs

    def mask(self, path: str, on: bool) -> bool:
        if path in self._bugs:
            self._bugs[path].masked = on
        return path in self._bugs

    def stall(self) -> None:
        """No file grows any more, nor do those of later recordings."""
        self._stalled = True
        for bug in self._bugs.values():
            bug.stall()

    def _close(self, bug: MediaBug) -> None:
        channel = self._channel
        del self._bugs[bug.path]
        size = bug.close()
        channel.set("record_file_size", str(size))
        if not bug.writes and not bug.appends:
            channel.set("RECORD_DISCARDED", "true")
            Path(brackets(bug.path)[1]).unlink(missing_ok=True)
            bug.completion_cause = "empty-file"
        elif bug.samples_out < bug.too_short and not bug.appends:
            channel.set("RECORD_DISCARDED", "true")
            Path(brackets(bug.path)[1]).unlink(missing_ok=True)
            bug.completion_cause = "input-too-short"
        elif channel.hangup_cause is not None:
            bug.completion_cause = "success-silence"
        else:
            bug.completion_cause = "success-maxtime"
        rate = channel.codec.rate
        channel.set("record_samples", str(bug.samples_out))
        channel.set("record_seconds", str(bug.samples_out // rate))
        channel.set("record_ms", str(bug.samples_out // (rate // 1000)))
        channel.set("record_completion_cause", bug.completion_cause)
        described = [*self._described(bug), ("Record-Completion-Cause", bug.completion_cause)]
        channel.fire("RECORD_STOP", described)
        channel.fire("MEDIA_BUG_STOP", first=self._function(bug))

    def _described(self, bug: MediaBug) -> list[Header]:
        named = [(f"Recording-Variable-{name}", value) for name, value in bug.variables.items()]
        return [("Record-File-Path", bug.path), *named]

    def _function(self, bug: MediaBug) -> list[Header]:
        return [("Media-Bug-Function", "session_record"), ("Media-Bug-Target", bug.path)]
