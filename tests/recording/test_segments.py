"""Recordings of several segments, with gaps: what is tapped is in the file once and in its place, whatever happens.

The call has a clock of its own, which passes with what it says; the spool's files have its times.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import gevent
import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_recorder import LIMIT, NO_LIMITS, RATE, START, Bench, FakeSession, Samples, a_folder, how, said, silence

from esl_record.recording.machine import EndReason, PauseBehavior, State
from esl_record.recording.recorder import ASK_AFTER, _Happening
from esl_record.recording.recording import PauseTime, Recording
from esl_record.recording.recovery import QUIET, Recovery

WRONG = -1000
"""What a tap writes that was started before the codec changed."""


class TimedSession(FakeSession):
    """A call whose taps write nothing while it is on hold, and what is wrong behind a change of codec."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0
        """Samples since the call began."""
        self.held = False
        self._codec = 0
        self._started: dict[Path, int] = {}
        self._modes: dict[Path, str] = {}

    @property
    def now(self) -> float:
        return START + self.passed / RATE

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
        self.passed += len(samples)
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

    def leg_rate(self) -> str:
        return str(RATE * (1 + self._codec % 2))

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

    def settle(self) -> None:
        """Wait until the recorder has done all that it was told, and has looked after its tap."""
        for _ in range(2):
            happening = _Happening(0, None)
            self.recorder._put(happening)
            assert happening.done.wait(LIMIT)

    def pass_silent_second(self) -> None:
        """A second of the wall clock has passed in which the tap wrote nothing."""
        for passed in (0.0, 2 * ASK_AFTER):
            self.recorder._growth.since -= passed
            self.settle()

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
            self.storage,
            lambda one: None,
            lambda one, pausing: done.append(one),
            clock=lambda: self.session.now + QUIET + 1,
        )
        recovery.find()
        assert len(list(recovery.run())) == 1
        assert recovery.left == []
        return done[-1]

    def audio_of(self, recording: Recording) -> Samples:
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
    """Samples since the last that was written: only who is there knows how long a hold lasts."""
    held: bool = False
    untapped: bool = False
    """The codec has changed in a pause: no tap runs until its end."""
    pause: PauseBehavior | None = None
    said: int = 0

    def say(self, size: int) -> Samples:
        """The next samples the party says; no two are the same."""
        heard = (np.arange(self.said, self.said + size) % 32000 + 1).astype(np.int16)
        self.said += size
        if self.pause is PauseBehavior.SKIP:
            return heard
        if self.held or self.untapped:
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
            model.pause, model.untapped = None, False
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
            one.settle()
        case "codec":
            model.untapped = model.pause is not None
            one.session.change_codec()
            one.settle()
        case "kill":
            one.settle()
            one.die()
            one.session.write(model.say(400))
            return one.reclaim(**NO_LIMITS)
    return one


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(LIVE, max_size=14), recovered=st.booleans())
@example(steps=[("say", 1000), ("hold", 0), ("say", 3000), ("unhold", 0), ("say", 1000)], recovered=False)
@example(steps=[("say", 1000), ("hold", 0), ("say", 400), ("skip", 0), ("say", 3000), ("resume", 0)], recovered=False)
@example(steps=[("say", 1000), ("silence", 0), ("hold", 0), ("say", 3000), ("unhold", 0)], recovered=False)
@example(steps=[("say", 1000), ("hold", 0), ("say", 400), ("kill", 0), ("unhold", 0), ("say", 400)], recovered=False)
@example(steps=[("say", 1000), ("codec", 0), ("say", 1000), ("kill", 0), ("codec", 0), ("say", 400)], recovered=True)
@example(steps=[("hold", 0), ("say", 400), ("skip", 0), ("say", 1000)], recovered=True)
@example(steps=[("say", 160), ("skip", 0), ("hold", 0), ("kill", 0)], recovered=False)
@example(steps=[("say", 160), ("skip", 0), ("hold", 0), ("kill", 0), ("say", 400), ("resume", 0)], recovered=False)
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


# ---- killed and gone on with, or completed by the next run, against one that lived

TALK = st.one_of(
    st.tuples(st.sampled_from(["talk", "hush"]), st.sampled_from([2400, 4000, 7200])),
    st.tuples(st.sampled_from(["skip", "silence", "resume", "hold", "unhold", "codec"]), st.just(0)),
)
LIMITS = {"initial_timeout": 2.0, "end_silence_timeout": 1.5, "max_length": 5.0, "terminators": ""}


def live(one: TimedBench, model: Model, step: Step, *, alive: bool = True) -> None:
    what, size = step
    if what in ("talk", "hush"):
        heard = said(size / RATE) if what == "talk" else silence(size / RATE)
        if alive:
            one.hear(heard)
        else:
            one.session.write(heard)
    elif one.running:
        act(one, model, step)


@dataclass(frozen=True)
class Outcome:
    """What a recording has become; its length is that of the audio."""

    ended: tuple[State, EndReason | None]
    speech: list[tuple[float, float]]
    pauses: list[PauseTime]
    holds: list[float]
    gaps: list[tuple[float, float]]
    audio: bytes

    @classmethod
    def of(cls, one: TimedBench, recording: Recording) -> "Outcome":
        assert one.spooled() == []
        assert recording.error == ""
        audio = one.audio_of(recording)
        assert len(audio) == round(recording.duration * RATE)
        # A restart parts a hold in two, and makes one of two without anything in between.
        before = [-1.0, *(hold.end for hold in recording.holds)]
        starts = [hold.start for hold, end in zip(recording.holds, before, strict=False) if hold.start > end]
        return cls(how(recording), recording.speech, recording.pauses, starts, recording.gaps, audio.tobytes())


@settings(max_examples=12, deadline=None)
@given(
    before=st.lists(TALK, max_size=8),
    dead=st.lists(TALK.filter(lambda step: step[1] > 0), max_size=3),
    after=st.lists(TALK, max_size=6),
    limited=st.booleans(),
)
@example(
    before=[("talk", 4000), ("hold", 0), ("hush", 4000), ("unhold", 0), ("talk", 4000)],
    dead=[("talk", 4000)],
    after=[("hold", 0), ("hush", 2400)],
    limited=True,
)
@example(
    before=[("talk", 4000), ("hold", 0), ("hush", 4000), ("unhold", 0), ("skip", 0), ("talk", 4000), ("resume", 0)],
    dead=[],
    after=[("codec", 0), ("talk", 4000)],
    limited=True,
)
def test_a_recording_that_was_killed_equals_one_that_lived(
    before: list[Step], dead: list[Step], after: list[Step], limited: bool
) -> None:
    """Whatever holds, pauses and codecs it has had; only when a hold ended may be noted later."""
    params = LIMITS if limited else {**NO_LIMITS, "terminators": ""}
    outcomes = []
    for killed in (False, True):
        model = Model()
        with timed(**params) as one:
            for step in before:
                live(one, model, step)
            if not one.running:
                return
            one.settle()
            if killed:
                one.die()
            for step in dead:
                live(one, model, step, alive=not killed)
            if killed:
                one = one.reclaim(**params)
            for step in after:
                live(one, model, step)
            one.session.hang_up()
            one.session.record_stop()
            outcomes.append(Outcome.of(one, one.result()))
            one.close()
    assert outcomes[0] == outcomes[1]


@settings(max_examples=12, deadline=None)
@given(before=st.lists(TALK, max_size=10), dead=st.lists(TALK.filter(lambda step: step[1] > 0), max_size=3))
@example(before=[("talk", 4000), ("hold", 0), ("hush", 4000), ("unhold", 0), ("talk", 4000)], dead=[("talk", 4000)])
@example(before=[("talk", 4000), ("codec", 0), ("talk", 4000), ("silence", 0), ("talk", 4000)], dead=[("hush", 4000)])
def test_a_recording_completed_without_its_call_equals_one_that_lived(before: list[Step], dead: list[Step]) -> None:
    outcomes = []
    for killed in (False, True):
        model = Model()
        with timed(**NO_LIMITS, terminators="") as one:
            for step in before:
                live(one, model, step)
            # What a call does at its end while it writes nothing only who is there can know.
            for step in [("resume", 0), ("unhold", 0)]:
                live(one, model, step)
            one.settle()
            if killed:
                one.die()
            for step in [*dead, ("talk", 160)]:
                live(one, model, step, alive=not killed)
            if killed:
                recording = one.recover()
            else:
                one.session.hang_up()
                one.session.record_stop()
                recording = one.result()
            outcomes.append(replace(Outcome.of(one, recording), ended=(recording.state, None)))
            one.close()
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("behavior", list(PauseBehavior))
def test_a_codec_that_changes_in_a_pause_is_known_after_a_restart(behavior: PauseBehavior) -> None:
    with timed(**NO_LIMITS) as one:
        one.hear(said(0.5))
        assert one.recorder.pause(behavior).wait(LIMIT)
        one.session.change_codec()
        one.settle()
        one.die()
        one.session.write(said(0.5))
        one = one.reclaim(**NO_LIMITS)
        one.hear(said(0.5))
        assert one.recorder.resume().wait(LIMIT)
        one.hear(said(0.5))
        one.recorder.stop()
        recording = one.result()
        audio = one.audio_of(recording)[:, 0]
        one.close()
    assert how(recording) == (State.FINISHED, EndReason.STOP)
    paused = 1.0 if behavior is PauseBehavior.SILENCE else 0.0
    assert np.array_equal(audio, np.concatenate([said(0.5), silence(paused), said(0.5)]))


def test_speech_behind_a_hold_is_heard_again_before_the_timers_are() -> None:
    """A hold that was noted says how long the recording was, and not what was said before."""
    params = {**NO_LIMITS, "initial_timeout": 1.0}
    with timed(**params) as one:
        one.hear(said(0.8))
        act(one, Model(), ("hold", 0))
        one.hear(silence(2.0))
        act(one, Model(held=True), ("unhold", 0))
        one.hear(said(0.5))
        one.settle()
        one.die()
        one = one.reclaim(**params)
        one.hear(said(0.5))
        one.session.hang_up()
        one.session.record_stop()
        recording = one.result()
        one.close()
    assert how(recording) == (State.FINISHED, EndReason.HANGUP)
    assert recording.duration == pytest.approx(3.8)


def test_a_codec_that_changed_while_there_was_no_service_is_never_finished_audio() -> None:
    with timed(**NO_LIMITS) as one:
        one.hear(said(1.0))
        one.settle()
        one.die()
        one.session._codec += 1
        one.session.write(said(1.0))
        again = one.reclaim(**NO_LIMITS)
        again.hear(said(0.5))
        again.session.hang_up()
        again.session.record_stop()
        recording = again.result()
        assert how(recording) == (State.ERROR, EndReason.ERROR)
        assert "wrong speed from some point after 0.0 to 2.0 s" in recording.error
        assert np.array_equal(again.audio_of(recording)[-RATE // 2 :, 0], said(0.5))
        again.close()
        one.close()
