"""Recordings of several segments, with gaps: what is tapped is in the file once and in its place, whatever happens.

The call has a clock of its own, which passes with what it says; the spool's files have its times.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import gevent
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_recorder import LIMIT, NO_LIMITS, RATE, START, Bench, FakeSession, Samples, a_folder, how, said, silence

from esl_record.recording.machine import EndReason, PauseBehavior, State
from esl_record.recording.recorder import ASK_AFTER
from esl_record.recording.recording import Recording
from esl_record.recording.recovery import QUIET, Recovery

WRONG = -1000
"""What a tap writes that was started before the codec changed."""


class TimedSession(FakeSession):
    """A call whose taps write nothing while it is on hold, and what is wrong behind a change of codec."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.held = False
        self._codec = 0
        self._started: dict[Path, int] = {}
        self._modes: dict[Path, str] = {}

    def on_hold(self) -> bool:
        return self.held

    def start_tap(self, path: str, variables: Mapping[str, str]) -> None:
        super().start_tap(path, variables)
        self._started[Path(path)] = self._codec
        self._modes[Path(path)] = ""
        self._date(Path(path))

    def _date(self, path: Path) -> None:
        """The file was written to just now."""
        moment = round(self.now * 1e9)
        os.utime(path, ns=(moment, moment))

    def pause_tap(self, path: str, *, mask: bool) -> None:
        self._steer("mask" if mask else "pause", path)
        self._modes[Path(path)] = "mask" if mask else "pause"

    def resume_tap(self, path: str, *, mask: bool) -> None:
        self._steer("unmask" if mask else "resume", path)
        self._modes[Path(path)] = ""

    def write(self, samples: Samples) -> None:
        self.now += len(samples) / RATE
        if self.held or not len(samples):
            return
        for path, (file, channels) in self._files.items():
            mode = self._modes[path]
            if mode == "pause":
                continue
            heard = np.zeros((len(samples), channels), "<i2")
            if self._started[path] != self._codec:
                heard[:, 0] = WRONG
            elif mode != "mask":
                heard[:, 0] = samples
            file.write(heard.tobytes())
            self._date(path)

    def hold(self, held: bool) -> None:
        self.held = held
        self.tell("CHANNEL_HOLD" if held else "CHANNEL_UNHOLD")

    def change_codec(self) -> None:
        self._codec += 1
        self.tell("CODEC", Channel_Read_Codec_Rate=str(RATE * (1 + self._codec % 2)))


class TimedBench(Bench):
    """A recorder whose spool and recorder take the time from the call."""

    session: TimedSession

    def __init__(self, folder: Path, *, left: "TimedBench | None" = None, **named: Any) -> None:
        with mock.patch("test_recorder.FakeSession", TimedSession):
            super().__init__(folder, left=left, **named)
        self.recorder._clock = self.recorder._spool._clock = lambda: self.session.now

    def pass_silent_second(self) -> None:
        """A second of the wall clock has passed in which the tap wrote nothing."""
        for passed in (0.0, 2 * ASK_AFTER):
            self.recorder._growth.since -= passed
            self.recorder._wake.set()
            gevent.idle()

    def reclaim(self, **named: Any) -> "TimedBench":
        """The next run of the service, which goes on with the recording; this one was killed."""
        again = TimedBench(self.storage.recordings.parent.parent, left=self, **named)
        again._greenlet = gevent.spawn(again.recorder.record)
        assert again.recorder.begun.wait(LIMIT)
        again.tick()
        return again

    def recover(self) -> Recording:
        """The next run completes the recording without its call, which has ended."""
        self.session.close()
        done: list[Recording] = []
        recovery = Recovery(
            self.storage, lambda one: None, lambda one, pausing: done.append(one), clock=lambda: self.session.now + QUIET
        )
        recovery.find()
        assert len(list(recovery.run())) == 1
        assert recovery.left == []
        return done[-1]

    def audio_of(self, recording: Recording) -> Samples:
        import soundfile

        audio = recording.audio(self.storage.document_path(recording))
        if audio is None:
            return np.zeros((0, recording.channels), np.int16)
        samples: Samples = soundfile.read(audio, dtype="int16", always_2d=True)[0]
        return samples


@contextmanager
def timed(**params: Any) -> Iterator[TimedBench]:
    with a_folder() as folder, mock.patch("esl_record.recording.recorder.CLOSE_WAIT", 0.01):
        one = TimedBench(Path(folder), **params)
        one.begin()
        yield one


@dataclass
class Model:
    """What must be in the file, by the rules: skipped is what was said in a pause, silence what was masked or held."""

    pieces: list[Samples] = field(default_factory=list)
    trailing: int = 0
    """Samples of a hold since the last that was written."""
    held: bool = False
    pause: PauseBehavior | None = None
    said: int = 0

    def say(self, size: int) -> Samples:
        """The next samples the party says; no two are the same."""
        heard = (np.arange(self.said, self.said + size) % 32000 + 1).astype(np.int16)
        self.said += size
        if self.pause is PauseBehavior.SKIP:
            return heard
        if self.held:
            self.trailing += size
        else:
            self.trailing = 0 if size else self.trailing
        lost = self.held or self.pause is PauseBehavior.SILENCE
        self.pieces.append(np.zeros(size, np.int16) if lost else heard)
        return heard

    def audio(self, *, whole: bool) -> Samples:
        audio = np.concatenate([np.zeros(0, np.int16), *self.pieces])
        return audio if whole else audio[: len(audio) - self.trailing]


Step = tuple[str, int]

LIVE = st.one_of(
    st.tuples(st.just("say"), st.sampled_from([160, 400, 1000, 3000])),
    st.tuples(st.sampled_from(["skip", "silence", "resume", "hold", "unhold", "codec", "kill"]), st.just(0)),
)


def act(one: TimedBench, model: Model, step: Step) -> TimedBench:
    """Have ``step`` happen to the call; gives the run of the service that records from there on."""
    what, size = step
    match what:
        case "say":
            one.hear(model.say(size))
        case "skip" | "silence" if model.pause is None:
            model.pause = PauseBehavior(what)
            if what == "skip":
                model.trailing = 0
            assert one.recorder.pause(model.pause).wait(LIMIT)
        case "resume" if model.pause is not None:
            model.pause = None
            assert one.recorder.resume().wait(LIMIT)
            if model.held:
                one.pass_silent_second()
        case "hold" if not model.held:
            model.held = True
            one.session.hold(True)
            one.pass_silent_second()
        case "unhold" if model.held:
            model.held = False
            one.session.hold(False)
            gevent.idle()
        case "codec":
            one.session.tapped.clear()
            one.session.change_codec()
            assert model.pause is not None or one.session.tapped.wait(LIMIT)
            gevent.idle()
        case "kill":
            one.die()
            one.session.write(model.say(400))
            return one.reclaim(**NO_LIMITS)
    return one


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(LIVE, max_size=14), recovered=st.booleans())
@example(steps=[("say", 1000), ("hold", 0), ("say", 3000), ("unhold", 0), ("say", 1000)], recovered=False)
@example(steps=[("say", 1000), ("hold", 0), ("say", 400), ("skip", 0), ("say", 3000), ("resume", 0)], recovered=False)
@example(steps=[("say", 1000), ("silence", 0), ("hold", 0), ("say", 3000), ("unhold", 0)], recovered=False)
@example(steps=[("say", 1000), ("hold", 0), ("say", 400), ("kill", 0), ("unhold", 0), ("say", 400)], recovered=False)
@example(steps=[("say", 1000), ("codec", 0), ("say", 1000), ("kill", 0), ("codec", 0), ("say", 400)], recovered=True)
def test_every_tapped_sample_is_in_the_file_once_and_in_its_place(steps: list[Step], recovered: bool) -> None:
    model = Model()
    with timed(**NO_LIMITS) as one:
        for step in steps:
            one = act(one, model, step)
        if recovered:
            one.die()
            recording = one.recover()
        else:
            one.session.hang_up()
            one.session.record_stop()
            recording = one.result()
        expected = model.audio(whole=not recovered)
        found = one.audio_of(recording)[:, 0]
        assert one.spooled() == []
        one.close()
    reason = EndReason.RECOVERED if recovered else EndReason.HANGUP
    assert (how(recording), recording.error) == ((State.FINISHED, reason), "")
    assert len(found) == len(expected)
    assert np.array_equal(found, expected)
