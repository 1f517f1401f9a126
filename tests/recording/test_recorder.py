"""One recording from its tap to its file. The test is the switch: it writes the spool, and turns the engine by hand."""

import errno
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast
from unittest import mock

import gevent
import numpy as np
import pytest
import soundfile
from gevent.event import Event as Flag
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from esl_record.audio.encoder import Encoder
from esl_record.audio.spool import Spool
from esl_record.errors import CallGone, CommandRefused, CommandTimeout, DatabaseError, SpoolError
from esl_record.esl.session import Session
from esl_record.esl.wire import Event
from esl_record.recording.encoding import Encodings
from esl_record.recording.machine import EndReason, PauseBehavior, PauseCause, State
from esl_record.recording.params import Direction, RecordParams
from esl_record.recording.recorder import BEEP, Recorder, summary
from esl_record.recording.recording import Party, Recording
from esl_record.recording.recovery import Recovery
from esl_record.recording.room import Room
from esl_record.recording.speech import Speech
from esl_record.recording.storage import Storage
from esl_record.recording.tap import tap_variables
from esl_record.standin import voice
from esl_record.vad.detector import TAIL
from esl_record.vad.engine import Engine, Track

LIMIT = 20.0
"""Seconds a test waits for what must come."""

RATE = 8000
TICK = 800
"""Samples between two ticks."""

START = 1704164645.25  # 2024-01-02 03:04:05.25 UTC
NO_LIMITS = {"initial_timeout": 0, "end_silence_timeout": 0}

Samples = NDArray[np.int16]


class FakeSession:
    """What a recorder uses of a session, with a switch behind it that writes the spool when the test says so."""

    label = "call c1"
    uuid = "c1"
    pace = 0.0
    left = False

    def __init__(self) -> None:
        self.closed = Flag()
        self.over = Flag()
        self.answered = True
        self.at_answer: list[Flag] = []
        self.tapped = Flag()
        self.hangup_cause: str | None = None
        self.fault: Exception | None = None
        self.rate: str | None = str(RATE)
        self.known = True
        """Whether the switch knows the call."""
        self.said: list[str] = []
        self.failures: dict[str, Exception] = {}
        """By verb, what it raises."""
        self.channels = 1
        """Of the leg's codec."""
        self.far_end_holds = False
        self.bypassed = False
        """Whether its media goes past the switch."""
        self.makes_spool = True
        self.path = Path()
        self._listeners: list[Callable[[Event], None]] = []
        self._files: dict[Path, tuple[BinaryIO, int]] = {}
        self._paused = self._masked = False

    # ---- as a session

    @property
    def connected(self) -> bool:
        return not self.closed.is_set()

    @property
    def live(self) -> bool:
        return self.hangup_cause is None and self.connected

    def raise_if_disconnected(self) -> None:
        if not self.live:
            raise CallGone(f"call c1: {self.hangup_cause}")

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def playback(self, path: str) -> None:
        self._say("playback", path)

    def leg_rate(self) -> str:
        self._say("leg_rate")
        return self.rate or ""

    def exists(self) -> bool:
        self._say("exists")
        return self.known

    def leg_channels(self) -> int:
        return self.channels

    def on_hold(self) -> bool:
        return self.far_end_holds

    def bypasses(self) -> bool:
        return self.bypassed

    def start_tap(self, path: str, variables: Mapping[str, str]) -> None:
        self._say("start", path, *(f"{name}={value}" for name, value in variables.items()))
        self.path = Path(path)
        stereo = variables["RECORD_STEREO"] == "true"
        if self.makes_spool:
            # Held open, as the switch does: what becomes of the path does not keep it from writing.
            self._files[self.path] = self.path.open("ab", buffering=0), 2 if stereo else 1
        self._masked = self._paused = False
        self.tapped.set()

    def stop_tap(self, path: str) -> None:
        self._say("stop", path)
        self.close(Path(path) if path else None)

    def pause_tap(self, path: str, *, mask: bool) -> None:
        self._steer("mask" if mask else "pause", path)
        self._masked, self._paused = mask, not mask

    def resume_tap(self, path: str, *, mask: bool) -> None:
        self._steer("unmask" if mask else "resume", path)
        self._masked = self._paused = False

    def _steer(self, verb: str, path: str) -> None:
        self._say(verb, path)
        if path and Path(path) not in self._files and self.makes_spool:
            raise CommandRefused(f"-ERR Cannot {verb} recording session!")

    def _say(self, verb: str, *arguments: str) -> None:
        if not self.live:
            raise CallGone(f"call c1: {self.hangup_cause}")
        self.said.append(" ".join([verb, *arguments]))
        if verb in self.failures:
            raise self.failures[verb]

    # ---- as a switch

    def write(self, samples: Samples) -> None:
        """The call goes on for these samples of the party's side; in stereo it hears silence."""
        for file, channels in [] if self._paused else self._files.values():
            heard = np.zeros((len(samples), channels), "<i2")
            if not self._masked:
                heard[:, 0] = samples
            file.write(heard.tobytes())

    def close(self, path: Path | None = None) -> None:
        """The tap that writes ``path`` is closed, or all are."""
        for one in list(self._files) if path is None else [path]:
            if one in self._files:
                self._files.pop(one)[0].close()

    def tell(self, name: str, **headers: str) -> None:
        """An event, if there is a connection to tell it over; an underscore in a keyword stands for a hyphen."""
        if not self.connected:
            return
        event = Event({"Event-Name": name, **{key.replace("_", "-"): value for key, value in headers.items()}})
        for listener in tuple(self._listeners):
            listener(event)

    def press(self, digits: str) -> None:
        for digit in digits:
            self.tell("DTMF", DTMF_Digit=digit)

    def answer(self) -> None:
        self.answered = True
        self.tell("CHANNEL_ANSWER")

    def hang_up(self) -> None:
        if self.connected:
            self.hangup_cause = "NORMAL_CLEARING"
        self.over.set()
        self.tell("CHANNEL_HANGUP", Hangup_Cause="NORMAL_CLEARING")

    def record_stop(self, cause: str = "success-silence", path: Path | None = None) -> None:
        """The switch has closed a spool, this recording's unless another is named."""
        if path is None:
            self.close()
        self.tell("RECORD_STOP", Record_File_Path=str(path or self.path), Record_Completion_Cause=cause)

    def lose(self, fault: Exception | None = None) -> None:
        """The connection ends."""
        self.fault = fault
        self.closed.set()
        self.over.set()

    @property
    def steered(self) -> list[str]:
        """What the tap was told after its start, without its path."""
        verbs = [line.split()[0] for line in self.said]
        return [verb for verb in verbs if verb in ("pause", "resume", "mask", "unmask", "stop")]


class Bench:
    """A recorder under test, its session and its storage."""

    def __init__(
        self,
        folder: Path,
        *,
        stall_timeout: float = 10.0,
        pause_limit: float = 0.0,
        left: "Bench | None" = None,
        foreground: bool = False,
        prepared: Callable[[FakeSession], None] = lambda session: None,
        **params: Any,
    ) -> None:
        self.storage = Storage(folder / "data")
        self.storage.prepare()
        self.engine = Engine()
        self.encodings = Encodings(self.storage)
        self.full: set[Path] = set()
        """Folders that cannot be written."""
        self.room = Room([self.storage.spool_dir, self.storage.recordings], 0, probe=self._try)
        self.certain = 0
        """Samples that were certain to be in the file at any time."""
        self.session = left.session if left else FakeSession()
        """A call outlives the service that was recording it."""
        prepared(self.session)
        announced = list(self.storage.pending.glob("*.json")) if left else []
        self.told: list[tuple[Recording, PauseBehavior | None]] = []
        """What has been told, in order."""
        self.untellable: Exception | None = None
        self.later = 0.0
        """Seconds by which the time of day is later than START."""
        self.recorder = Recorder(
            cast(Session, self.session),
            self.engine,
            self.storage,
            Party(call_id="c1", caller_number="15551230001"),
            RecordParams(**params),
            self._tell,
            self.encodings,
            self.room,
            left=Recording.model_validate_json(announced[0].read_bytes()) if left else None,
            foreground=foreground,
            stall_timeout=stall_timeout,
            pause_limit=pause_limit,
            clock=lambda: START + self.later,
        )
        self._greenlet: gevent.Greenlet | None = None

    def _try(self, folder: Path) -> None:
        if folder in self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _tell(self, recording: Recording, pausing: PauseBehavior | None) -> None:
        if self.untellable is not None:
            raise self.untellable
        self.told.append((recording, pausing))

    @property
    def states(self) -> list[State]:
        return [recording.state for recording, _ in self.told]

    def begin(self, *, tapped: bool = True) -> "Bench":
        """Start the recording; return when the tap runs, or at once where it is not going to run yet."""
        self._greenlet = gevent.spawn(self.recorder.record)
        if tapped:
            assert gevent.wait([self.session.tapped, self._greenlet], count=1, timeout=LIMIT)
        gevent.idle()
        return self

    def hear(self, samples: Samples | float, step: int = TICK) -> None:
        """The call goes on: these samples, or as many seconds of silence, with a tick each ``step``."""
        heard = silence(samples) if isinstance(samples, int | float) else samples
        # A busy machine may take its time between two writes, and the tap is no silent one for that.
        with mock.patch("esl_record.recording.recorder.ASK_AFTER", LIMIT):
            for at in range(0, len(heard), step):
                self.session.write(heard[at : at + step])
                self.tick()
        self.recorder._wake.set()

    def tick(self) -> None:
        self.engine.tick()
        gevent.idle()
        self.encodings.advance()
        if self.recorder.track is not None:
            self.certain = max(self.certain, self.recorder._certain())

    def press(self, digits: str) -> None:
        self.session.press(digits)
        gevent.idle()

    @property
    def running(self) -> bool:
        assert self._greenlet is not None
        return not self._greenlet.ready() and not self.recorder.recording.state.final

    def result(self) -> Recording:
        """The recording, which has ended or is about to."""
        assert self._greenlet is not None
        recording = self._greenlet.get(timeout=LIMIT)
        assert isinstance(recording, Recording)
        assert len(self.engine) == 0
        return recording

    def raised(self, kind: type[Exception]) -> str:
        with pytest.raises(kind) as caught:
            self.result()
        return str(caught.value)

    def samples(self) -> Samples:
        """The finished audio, shape (samples, channels)."""
        audio = self.result().audio(self.storage.document_path(self.result()))
        assert audio is not None
        samples, rate = soundfile.read(audio, dtype="int16", always_2d=True)
        assert rate == self.result().sample_rate
        return samples

    def spooled(self) -> list[str]:
        return sorted(
            path.suffix for folder in (self.storage.pending, self.storage.spool_dir) for path in folder.iterdir()
        )

    def kept(self) -> list[Path]:
        return sorted(path for path in self.storage.recordings.rglob("*") if path.is_file())

    def die(self) -> None:
        """The service is killed; the switch writes on."""
        if self._greenlet is not None:
            self._greenlet.kill()

    def close(self) -> None:
        self.die()
        self.session.close()


def a_folder() -> tempfile.TemporaryDirectory[str]:
    """In memory where there is such a file system: what is synced to a disk here is synced by the hundred."""
    return tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    with a_folder() as folder:

        def making(**named: Any) -> Bench:
            benches.append(Bench(Path(folder), **named))
            return benches[-1]

        yield making
        for one in benches:
            one.close()


@pytest.fixture(autouse=True, scope="module")
def patient() -> Iterator[None]:
    """However long a test takes, no tap is a silent one for that."""
    with mock.patch("esl_record.recording.recorder.ASK_AFTER", LIMIT):
        yield


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock's limits, a good deal shorter."""
    monkeypatch.setattr("esl_record.recording.recorder.ASK_AFTER", 0.1)
    monkeypatch.setattr("esl_record.recording.recorder.FIRST_AUDIO", 0.3)


@pytest.fixture
def ask_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets how long a tap may be silent before it is looked after; while a test writes on it must not be short."""
    return lambda seconds: monkeypatch.setattr("esl_record.recording.recorder.ASK_AFTER", seconds)


Make = Callable[..., Bench]
AskAfter = Callable[[float], None]


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.int16)


def said(seconds: float, *, lead: float = 0.0, trail: float = 0.0) -> Samples:
    """A voice between two silences."""
    return np.concatenate([silence(lead), voice.say(seconds), silence(trail)])


def how(recording: Recording) -> tuple[State, EndReason | None]:
    return recording.state, recording.end_reason


# ---- what ends it


def terminator(bench: Bench) -> None:
    bench.hear(said(1.0))
    bench.press("#")


def hangup(bench: Bench) -> None:
    bench.hear(said(1.0))
    bench.session.hang_up()
    bench.session.record_stop()


def stopping(bench: Bench) -> None:
    bench.hear(said(1.0))
    bench.recorder.stop()


def operator(bench: Bench) -> None:
    """Somebody ends the tap by its path."""
    bench.hear(said(1.0))
    bench.session.record_stop("success-maxtime")
    bench.session.failures["stop"] = CommandRefused("-ERR Cannot stop record session!")


def full_disk(bench: Bench) -> None:
    bench.hear(said(1.0))
    bench.session.record_stop("uri-failure")


@pytest.mark.parametrize(
    ("ending", "state", "reason", "error"),
    [
        (terminator, State.FINISHED, EndReason.TERMINATOR, ""),
        (hangup, State.FINISHED, EndReason.HANGUP, ""),
        (stopping, State.FINISHED, EndReason.STOP, ""),
        (operator, State.FINISHED, EndReason.STOP, ""),
        (full_disk, State.ERROR, EndReason.ERROR, "the switch could not write the spool: disk full?"),
    ],
)
def test_what_happens_ends_it_with_all_the_audio_until_then(
    bench: Make, ending: Callable[[Bench], None], state: State, reason: EndReason, error: str
) -> None:
    running = bench().begin()
    ending(running)
    recording = running.result()
    assert how(recording) == (state, reason)
    assert (recording.error, recording.duration) == (error, 1.0)
    assert np.array_equal(running.samples()[:, 0], voice.say(1.0))
    assert running.spooled() == []


def test_silence_after_speech_ends_it(bench: Make) -> None:
    running = bench(end_silence_timeout=1.0).begin()
    running.hear(said(1.5, lead=0.5, trail=3.0))
    recording = running.result()
    assert how(recording) == (State.FINISHED, EndReason.END_SILENCE)
    assert recording.duration == pytest.approx(3.0, abs=0.25)
    assert recording.duration == recording.speech[-1][1] + 1.0


def test_silence_within_the_timeout_does_not_end_it(bench: Make) -> None:
    running = bench(end_silence_timeout=1.0).begin()
    for _ in range(3):
        running.hear(said(1.0, trail=0.8))
    assert running.running
    running.recorder.stop()
    assert running.result().duration == 5.4


@pytest.mark.parametrize("seconds", [0.5, 1.23, 4.0, 0.0201])
def test_no_speech_at_all_is_no_input_after_exactly_the_timeout(bench: Make, seconds: float) -> None:
    running = bench(initial_timeout=seconds).begin()
    running.hear(5.0)
    recording = running.result()
    assert how(recording) == (State.NO_INPUT, EndReason.INITIAL_TIMEOUT)
    assert len(running.samples()) == round(seconds * RATE)
    assert recording.speech == []


@pytest.mark.parametrize("seconds", [0.02, 0.5, 1.23, 1.0001])
@pytest.mark.parametrize("step", [160, 800, 3000])
@pytest.mark.parametrize("stereo", [False, True], ids=["mono", "stereo"])
def test_the_maximum_length_is_exact_to_the_sample(bench: Make, seconds: float, step: int, stereo: bool) -> None:
    running = bench(**NO_LIMITS, max_length=seconds, stereo=stereo).begin()
    spoken = said(2.0)
    running.hear(spoken, step)
    assert how(running.result()) == (State.FINISHED, EndReason.MAX_LENGTH)
    assert np.array_equal(running.samples()[:, 0], spoken[: round(seconds * RATE)])
    assert running.samples().shape[1] == (2 if stereo else 1)


@pytest.mark.parametrize("step", [37, 160, 5000, 40000])
def test_the_outcome_does_not_depend_on_how_often_it_is_looked_at(bench: Make, step: int) -> None:
    running = bench(end_silence_timeout=1.0).begin()
    running.hear(said(1.5, lead=0.5, trail=3.0), step)
    usual = bench(end_silence_timeout=1.0).begin()
    usual.hear(said(1.5, lead=0.5, trail=3.0))
    for fact in ("state", "end_reason", "duration", "speech"):
        assert getattr(running.result(), fact) == getattr(usual.result(), fact)
    assert np.array_equal(running.samples(), usual.samples())


def test_a_hang_up_before_a_word_is_no_input(bench: Make) -> None:
    running = bench().begin()
    running.hear(1.0)
    running.session.hang_up()
    running.session.record_stop()
    assert how(running.result()) == (State.NO_INPUT, EndReason.HANGUP)


def test_a_hang_up_and_its_end_of_connection_are_one_end(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    running.hear(1.0)
    running.session.hang_up()
    running.session.record_stop()
    running.session.lose()
    assert how(running.result()) == (State.FINISHED, EndReason.HANGUP)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (ConnectionResetError("reset by peer"), "event socket lost: reset by peer"),
        (None, "event socket lost: the switch closed it"),
    ],
)
def test_a_lost_event_socket_ends_it_when_the_tap_falls_silent(
    bench: Make, ask_after: AskAfter, fault: Exception, error: str
) -> None:
    spoken = said(1.0)
    running = bench(**NO_LIMITS).begin()
    running.hear(spoken)
    running.session.lose(fault)
    running.hear(0.5, step=4000)
    ask_after(0.03)
    running.recorder._wake.set()
    recording = running.result()
    assert how(recording) == (State.ERROR, EndReason.ERROR)
    assert (recording.error, recording.duration) == (error, 1.5)
    assert running.session.steered == []


def test_a_lost_event_socket_leaves_the_limits_as_they_are(bench: Make) -> None:
    running = bench(max_length=1.5).begin()
    running.hear(said(1.0))
    running.session.lose()
    running.hear(1.0)
    assert how(running.result()) == (State.FINISHED, EndReason.MAX_LENGTH)
    assert running.result().duration == 1.5


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("behavior", list(PauseBehavior))
def test_a_lost_event_socket_ends_a_paused_recording_too(bench: Make, behavior: PauseBehavior) -> None:
    """Nobody can resume it, nor will anybody tell of the hang-up."""
    running = bench(**NO_LIMITS).begin()
    running.hear(1.0)
    done = running.recorder.pause(behavior)
    assert done.wait(LIMIT)
    running.tick()
    running.session.lose()
    with gevent.Timeout(0.6, AssertionError("it waits for ever")):
        recording = running.result()
    assert how(recording) == (State.ERROR, EndReason.ERROR)
    assert recording.duration == 1.0


def test_the_end_of_another_recording_of_the_call_does_not_matter(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    running.hear(0.5)
    running.session.record_stop("uri-failure", path=Path("/elsewhere.raw"))
    running.tick()
    assert running.running
    running.recorder.stop()
    assert how(running.result()) == (State.FINISHED, EndReason.STOP)


def test_stopping_before_the_tap_runs_ends_it_without_audio(bench: Make) -> None:
    early = bench()
    early.recorder.stop()
    recording = early.begin().result()
    assert recording.end_reason is EndReason.STOP
    assert (recording.duration, recording.file) == (0.0, "")
    assert early.session.steered == ["stop"]
    assert early.spooled() == []


def test_stopping_twice_or_afterwards_changes_nothing(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    running.hear(0.5)
    running.recorder.stop()
    running.recorder.stop()
    recording = running.result()
    running.recorder.stop()
    done = running.recorder.pause()
    assert done.wait(LIMIT)
    done = running.recorder.resume()
    assert done.wait(LIMIT)
    assert running.recorder.recording == recording
    assert running.session.steered == ["stop"]


# ---- digits


@pytest.mark.parametrize(
    ("terminators", "pressed", "by"),
    [("#", "5#", "#"), ("#*", "*#", "*"), ("#*", "12#*", "#"), ("1", "21", "1"), ("A", "#A", "A")],
)
def test_the_first_terminator_pressed_ends_it(bench: Make, terminators: str, pressed: str, by: str) -> None:
    """Though they come with no audio between them."""
    running = bench(terminators=terminators).begin()
    running.hear(0.5)
    running.press(pressed)
    recording = running.result()
    assert (recording.end_reason, recording.terminator, recording.duration) == (EndReason.TERMINATOR, by, 0.5)


def test_digits_that_end_nothing_are_ignored(bench: Make) -> None:
    running = bench(terminators="").begin()
    running.hear(0.5)
    running.press("0123456789*#ABCD")
    assert running.running


def test_a_terminator_in_the_middle_of_a_word_cuts_there(bench: Make) -> None:
    running = bench().begin()
    running.hear(said(1.5, lead=0.5)[: round(1.2 * RATE)])
    running.press("#")
    recording = running.result()
    assert recording.duration == 1.2
    assert recording.speech[-1][1] == 1.2
    assert recording.speech[0][0] == pytest.approx(0.5, abs=0.35)


def test_a_digit_counts_from_where_the_audio_was_though_nobody_had_looked(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    running.hear(0.5)
    running.session.write(silence(0.31))
    running.press("#")
    assert running.result().duration == 0.81


def test_what_fell_due_before_the_digit_comes_first(bench: Make) -> None:
    """A second of audio nobody had looked at: the timeout lies within it, the digit behind it."""
    running = bench(initial_timeout=0.5).begin()
    running.session.write(silence(1.0))
    running.press("#")
    recording = running.result()
    assert how(recording) == (State.NO_INPUT, EndReason.INITIAL_TIMEOUT)
    assert (recording.duration, recording.terminator) == (0.5, "")


def test_what_was_said_before_the_digit_is_heard_first(bench: Make) -> None:
    """The timeout would lie within the audio nobody had looked at, were it not for the voice in it."""
    running = bench(initial_timeout=0.8).begin()
    running.session.write(voice.say(1.0))
    running.press("#")
    recording = running.result()
    assert how(recording) == (State.FINISHED, EndReason.TERMINATOR)
    assert len(recording.speech) == 1


def test_what_was_said_before_a_hang_up_is_no_silence(bench: Make) -> None:
    running = bench(initial_timeout=4.0).begin()
    running.session.write(voice.say(1.0))
    running.session.hang_up()
    running.session.record_stop()
    assert how(running.result()) == (State.FINISHED, EndReason.HANGUP)


# ---- pausing


@pytest.mark.parametrize(
    ("behavior", "steered", "length", "end"),
    [
        (PauseBehavior.SKIP, ["pause", "resume", "stop"], 2.0, 1.0),
        (PauseBehavior.SILENCE, ["mask", "unmask", "stop"], 2.5, 1.5),
    ],
)
def test_a_pause_is_the_switchs_and_stands_in_the_recording(
    bench: Make, behavior: PauseBehavior, steered: list[str], length: float, end: float
) -> None:
    running = bench(**NO_LIMITS).begin()
    spoken = said(2.5)
    running.hear(spoken[:RATE])
    done = running.recorder.pause(behavior)
    assert done.wait(LIMIT)
    running.tick()
    assert running.recorder.recording.state is State.PAUSED
    running.hear(spoken[RATE : RATE * 3 // 2])
    done = running.recorder.resume()
    assert done.wait(LIMIT)
    running.tick()
    assert running.recorder.recording.state is State.RECORDING
    running.hear(spoken[RATE * 3 // 2 :])
    running.recorder.stop()
    recording = running.result()
    assert running.session.steered == steered
    assert recording.duration == length
    assert [(pause.start, pause.end, pause.behavior) for pause in recording.pauses] == [(1.0, end, behavior)]
    heard = running.samples()[:, 0]
    assert np.array_equal(heard[:RATE], spoken[:RATE])
    assert np.array_equal(heard[-RATE:], spoken[-RATE:])
    assert not heard[RATE:-RATE].any()


@pytest.mark.parametrize("behavior", list(PauseBehavior))
@pytest.mark.parametrize("limit", ["initial_timeout", "max_length"])
def test_the_timers_stand_still_while_paused(bench: Make, behavior: PauseBehavior, limit: str) -> None:
    running = bench(**{**NO_LIMITS, limit: 2.0}).begin()
    running.hear(1.0)
    done = running.recorder.pause(behavior)
    assert done.wait(LIMIT)
    running.tick()
    running.hear(3.0)
    assert running.recorder.recording.state is State.PAUSED
    done = running.recorder.resume()
    assert done.wait(LIMIT)
    running.tick()
    running.hear(2.0)
    assert running.result().end_reason == EndReason(limit)
    assert len(running.samples()) == (2 if behavior is PauseBehavior.SKIP else 5) * RATE


def test_masked_speech_is_not_heard(bench: Make) -> None:
    running = bench(initial_timeout=1.0).begin()
    running.hear(0.5)
    done = running.recorder.pause(PauseBehavior.SILENCE)
    assert done.wait(LIMIT)
    running.tick()
    running.hear(said(1.5))
    done = running.recorder.resume()
    assert done.wait(LIMIT)
    running.tick()
    running.hear(1.0)
    recording = running.result()
    assert how(recording) == (State.NO_INPUT, EndReason.INITIAL_TIMEOUT)
    assert recording.speech == []
    assert recording.duration == 2.5


def test_a_word_cut_by_a_mask_goes_on_behind_it(bench: Make) -> None:
    running = bench(end_silence_timeout=1.0).begin()
    running.hear(said(1.0))
    done = running.recorder.pause(PauseBehavior.SILENCE)
    assert done.wait(LIMIT)
    running.tick()
    running.hear(2.0)
    done = running.recorder.resume()
    assert done.wait(LIMIT)
    running.tick()
    running.hear(said(1.0))
    running.recorder.stop()
    recording = running.result()
    assert how(recording) == (State.FINISHED, EndReason.STOP)
    # What is masked is nobody's.
    assert [end for _, end in recording.speech] == [1.0, 4.0]
    assert recording.speech[1][0] == 3.0


def test_pausing_the_paused_and_resuming_the_running_does_nothing(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    done = running.recorder.resume()
    assert done.wait(LIMIT)
    running.hear(0.5)
    done = running.recorder.pause()
    assert done.wait(LIMIT)
    done = running.recorder.pause(PauseBehavior.SILENCE)
    assert done.wait(LIMIT)
    running.tick()
    done = running.recorder.resume()
    assert done.wait(LIMIT)
    done = running.recorder.resume()
    assert done.wait(LIMIT)
    running.tick()
    running.recorder.stop()
    assert len(running.result().pauses) == 1
    assert running.session.steered == ["pause", "resume", "stop"]


@pytest.mark.parametrize("behavior", list(PauseBehavior))
@pytest.mark.parametrize("ending", [terminator, hangup, stopping])
def test_an_end_while_paused_ends_the_pause(
    bench: Make, behavior: PauseBehavior, ending: Callable[[Bench], None]
) -> None:
    running = bench(**NO_LIMITS).begin()
    running.hear(0.5)
    done = running.recorder.pause(behavior)
    assert done.wait(LIMIT)
    running.tick()
    ending(running)
    recording = running.result()
    assert recording.state is State.FINISHED
    assert [(pause.start, pause.end) for pause in recording.pauses] == [(0.5, recording.duration)]
    assert not running.samples().any()


def test_the_metadata_says_who_paused_when_and_who_resumed(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    for began_by, ended_by in ((PauseCause.API, PauseCause.DIGITS), (PauseCause.HANDLER, PauseCause.END)):
        running.hear(0.5)
        assert running.recorder.pause(PauseBehavior.SKIP, began_by).wait(LIMIT)
        (announced,) = running.storage.pending.glob("*.json")
        assert Recording.model_validate_json(announced.read_bytes()).pauses[-1].ended_by is None
        if ended_by is not PauseCause.END:
            assert running.recorder.resume(ended_by).wait(LIMIT)
    running.recorder.stop()
    filed = Recording.model_validate_json(running.storage.document_path(running.result()).read_bytes())
    assert [(pause.began_by, pause.ended_by, pause.since) for pause in filed.pauses] == [
        (PauseCause.API, PauseCause.DIGITS, START),
        (PauseCause.HANDLER, PauseCause.END, START),
    ]


def resumed(bench: Bench) -> None:
    """Wait until the recording, which is paused, has resumed."""
    with gevent.Timeout(LIMIT):
        while bench.recorder.recording.state is State.PAUSED:
            gevent.sleep(0.005)


@pytest.mark.parametrize("behavior", list(PauseBehavior))
def test_a_pause_that_is_too_long_is_resumed(
    bench: Make, behavior: PauseBehavior, caplog: pytest.LogCaptureFixture
) -> None:
    running = bench(pause_limit=0.05, **NO_LIMITS).begin()
    running.hear(said(1.0))
    with caplog.at_level(logging.INFO):
        assert running.recorder.pause(behavior).wait(LIMIT)
        resumed(running)
    running.hear(said(1.0))
    running.recorder.stop()
    recording = running.result()
    assert [(pause.start, pause.ended_by) for pause in recording.pauses] == [(1.0, PauseCause.LIMIT)]
    assert running.states == [State.RECORDING, State.PAUSED, State.RECORDING, State.FINISHED]
    assert f"call c1: recording {recording.recording_id} resumes: pause_limit" in caplog.messages
    assert running.samples()[RATE:].any()


def test_a_pause_within_the_limit_is_left_to_whoever_resumes_it(bench: Make) -> None:
    running = bench(pause_limit=LIMIT, **NO_LIMITS).begin()
    for _ in range(2):
        assert running.recorder.pause().wait(LIMIT)
        running.hear(0.5)
        assert running.recorder.recording.state is State.PAUSED
        assert running.recorder.resume(PauseCause.DIGITS).wait(LIMIT)
    running.recorder.stop()
    assert [pause.ended_by for pause in running.result().pauses] == [PauseCause.DIGITS] * 2


def test_each_pause_is_limited(bench: Make) -> None:
    running = bench(pause_limit=0.03, **NO_LIMITS).begin()
    for _ in range(3):
        assert running.recorder.pause().wait(LIMIT)
        resumed(running)
    running.recorder.stop()
    assert [pause.ended_by for pause in running.result().pauses] == [PauseCause.LIMIT] * 3


def test_a_resume_by_the_limit_that_the_switch_refuses_is_an_error(bench: Make) -> None:
    running = bench(pause_limit=0.03, **NO_LIMITS).begin()
    running.hear(1.0)
    running.session.failures["resume"] = CommandRefused("-ERR Cannot resume")
    assert running.recorder.pause().wait(LIMIT)
    assert how(running.result()) == (State.ERROR, EndReason.ERROR)
    assert running.result().duration == 1.0


@pytest.mark.parametrize("verb", ["pause", "mask"])
@pytest.mark.parametrize("error", [CommandRefused("-ERR Cannot pause"), CommandTimeout("no answer to pause")])
def test_a_pause_the_switch_refuses_is_an_error_that_keeps_the_audio(bench: Make, verb: str, error: Exception) -> None:
    """What was to be kept secret would be heard."""
    running = bench(**NO_LIMITS).begin()
    running.session.failures[verb] = error
    running.hear(said(1.0))
    done = running.recorder.pause(PauseBehavior.SILENCE if verb == "mask" else PauseBehavior.SKIP)
    assert done.wait(LIMIT)
    recording = running.result()
    assert how(recording) == (State.ERROR, EndReason.ERROR)
    assert recording.error == str(error)
    assert recording.duration == 1.0


def test_a_pause_that_crosses_a_hang_up_is_a_hang_up(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    running.hear(1.0)
    running.session.failures["pause"] = CallGone("call c1: NORMAL_CLEARING")
    done = running.recorder.pause()
    assert done.wait(LIMIT)
    gevent.idle()
    running.session.hang_up()
    running.session.record_stop()
    recording = running.result()
    assert how(recording) == (State.FINISHED, EndReason.HANGUP)
    assert recording.duration == 1.0


# ---- the end of the spool


@pytest.mark.parametrize(("stereo", "duration"), [(False, 1.1), (True, 1.0)], ids=["mono", "stereo"])
def test_what_the_switch_adds_while_it_closes_is_kept_in_mono_alone(bench: Make, stereo: bool, duration: float) -> None:
    """In stereo it can be torn between the channels."""
    running = bench(**NO_LIMITS, stereo=stereo).begin()
    running.hear(1.0)
    running.session.hang_up()
    gevent.idle()
    running.session.write(silence(0.1))
    running.session.record_stop()
    recording = running.result()
    assert (recording.end_reason, recording.duration) == (EndReason.HANGUP, duration)
    assert len(running.samples()) == round(duration * RATE)


def test_a_spool_the_switch_never_closes_is_not_waited_for_long(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esl_record.recording.recorder.CLOSE_WAIT", 0.02)
    running = bench(**NO_LIMITS).begin()
    running.hear(1.0)
    running.session.hang_up()
    assert running.result().duration == 1.0


@pytest.mark.parametrize("ending", [terminator, stopping, full_disk])
def test_what_is_written_after_the_end_is_not_in_the_file(bench: Make, ending: Callable[[Bench], None]) -> None:
    running = bench(**NO_LIMITS).begin()
    ending(running)
    running.session.write(silence(0.5))
    assert running.result().duration == 1.0


def test_half_a_sample_at_the_end_is_no_sample(bench: Make) -> None:
    running = bench(**NO_LIMITS, stereo=True).begin()
    running.hear(0.5)
    with running.session.path.open("ab") as file:
        file.write(b"\x01\x02\x03")
    running.recorder.stop()
    assert running.result().duration == 0.5


# ---- what comes of it


@pytest.mark.parametrize("format", ["wav", "mp3", "mp4"])
@pytest.mark.parametrize("stereo", [False, True], ids=["mono", "stereo"])
def test_it_is_encoded_while_the_call_runs(bench: Make, format: str, stereo: bool) -> None:
    running = bench(**NO_LIMITS, format=format, stereo=stereo).begin()
    running.hear(said(1.0))
    (part,) = running.kept()
    assert (part.name[0], part.suffixes) == (".", [f".{format}", ".part"])
    encoding = running.recorder._encoding
    assert encoding is not None
    assert encoding._draft is not None
    assert RATE * 0.8 < encoding._draft.position < RATE
    running.press("#")
    recording = running.result()
    assert (recording.duration, recording.file[-4:]) == (1.0, f".{format}")
    document = running.storage.document_path(recording)
    assert running.kept() == sorted([document, document.with_suffix(f".{format}")])
    assert running.spooled() == []


def test_what_is_told_late_to_have_ended_it_has_not_been_encoded(bench: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A voice is told to have ended a moment after it has, when a digit may have said that the call goes on."""
    running = bench(end_silence_timeout=0.001, format="mp3").begin()
    heard = said(1.5, lead=0.5, trail=1.0)
    for at in range(0, len(heard), 160):
        running.hear(heard[at : at + 160])
        running.press("5")
    recording = running.result()
    assert recording.end_reason is EndReason.END_SILENCE
    assert 0 < running.certain <= len(running.samples())
    assert "anew" not in caplog.text


def test_a_rate_the_format_cannot_hold_is_told_before_the_tap_runs(bench: Make) -> None:
    running = bench(format="mp3")
    running.session.rate = "96000"
    recording = running.begin().result()
    assert recording.state is State.ERROR
    assert "mp3 cannot hold 96000 Hz; what it can is 8000, 11025" in recording.error
    assert not any(line.startswith("start") for line in running.session.said)


def test_a_recording_whose_greenlet_is_killed_leaves_its_spool_and_no_part(bench: Make) -> None:
    running = bench(**NO_LIMITS, format="mp3").begin()
    running.hear(said(1.0))
    assert len(running.kept()) == 1
    running.close()
    assert running.kept() == []
    assert running.spooled() == [".json", ".raw"]


def test_a_finished_recording_is_a_wav_and_a_json_and_no_spool(bench: Make) -> None:
    running = bench(control_id="k1").begin()
    terminator(running)
    recording = running.result()
    document = running.storage.document_path(recording)
    assert running.kept() == [document, document.with_suffix(".wav")]
    assert running.spooled() == []
    assert Recording.model_validate_json(document.read_bytes()) == recording
    data = document.with_suffix(".wav").read_bytes()
    assert (recording.size, recording.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (recording.call_id, recording.caller_number, recording.control_id) == ("c1", "15551230001", "k1")
    assert (recording.start_time, recording.end_time) == (START, START)
    assert running.recorder.recording == recording


def test_speech_is_told_in_seconds(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    running.hear(said(1.0, lead=1.0, trail=1.5))
    running.hear(said(1.5, trail=1.0))
    running.recorder.stop()
    (first, second) = running.result().speech
    assert first == pytest.approx((1.0, 2.0), abs=0.35)
    assert second == pytest.approx((3.5, 5.0), abs=0.35)


def test_a_span_of_speech_ends_with_the_recording_at_the_latest() -> None:
    speech = Speech(RATE)
    assert list(speech.changes([])) == []
    list(speech.changes([(0, True), (RATE, False), (2 * RATE, True)]))
    (first, second) = speech.seconds(3 * RATE)
    assert first == pytest.approx((0.0, 1.0), abs=0.3)
    assert second == (2.0, 3.0)
    assert speech.seconds(2 * RATE) == [first]
    assert speech.seconds(RATE // 2) == [(0.0, 0.5)]


@pytest.mark.parametrize(
    ("masked", "spans"),
    [
        ([], [(1.0, 4.0)]),
        ([(2, 3)], [(1.0, 2.0), (3.0, 4.0)]),
        ([(0, 2)], [(2.0, 4.0)]),
        ([(3, 9)], [(1.0, 3.0)]),
        ([(0, 9)], []),
        ([(0, 1), (4, 9)], [(1.0, 4.0)]),
    ],
)
def test_nobody_is_heard_in_what_is_masked(masked: list[tuple[int, int]], spans: list[tuple[float, float]]) -> None:
    speech = Speech(RATE)
    list(speech.changes([(RATE, True), (4 * RATE + round(TAIL * RATE), False)]))
    assert speech.seconds(9 * RATE, [(start * RATE, end * RATE) for start, end in masked]) == spans


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_times_are_counted_at_the_calls_own_rate(bench: Make, rate: int) -> None:
    running = bench(initial_timeout=0.25)
    running.session.rate = str(rate)
    running.begin().hear(np.zeros(rate, np.int16))
    recording = running.result()
    assert (recording.sample_rate, recording.duration) == (rate, 0.25)
    assert len(running.samples()) == rate // 4


@pytest.mark.parametrize("rate", [None, "", "0", "-1", "eight", "\u0668"])
def test_a_call_that_does_not_know_its_rate_has_8000(bench: Make, rate: str | None) -> None:
    running = bench(initial_timeout=0.25)
    running.session.rate = rate
    running.begin().hear(0.5)
    assert running.result().sample_rate == 8000


def test_it_can_be_watched(bench: Make) -> None:
    running = bench(**NO_LIMITS)
    assert running.recorder.position == 0.0
    running.begin().hear(0.5)
    assert running.recorder.position == 0.5
    assert running.recorder.recording.state is State.RECORDING
    running.recorder.stop()
    recording = running.result()
    assert running.recorder.recording == recording
    assert running.recorder.position == recording.duration


def test_its_end_is_one_line_of_the_log(bench: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    running = bench().begin()
    terminator(running)
    recording = running.result()
    assert caplog.messages == [
        f"call c1: recording {recording.recording_id} begun",
        f"call c1: recording {recording.recording_id}: finished, terminator, 1.00 s",
    ]
    failed = recording.model_copy(update={"state": State.ERROR, "end_reason": EndReason.ERROR, "error": "no"})
    assert summary(failed) == f"{recording.recording_id}: error, error, 1.00 s (no)"


# ---- what is told


def test_every_state_is_told_once_and_in_order(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    running.hear(0.5)
    for behavior in PauseBehavior:
        done = running.recorder.pause(behavior)
        assert done.wait(LIMIT)
        done = running.recorder.pause(behavior)
        assert done.wait(LIMIT)
        running.tick()
        done = running.recorder.resume()
        assert done.wait(LIMIT)
        done = running.recorder.resume()
        assert done.wait(LIMIT)
        running.tick()
    running.recorder.stop()
    recording = running.result()
    paused, on = State.PAUSED, State.RECORDING
    assert running.states == [on, paused, on, paused, on, State.FINISHED]
    assert [pausing for _, pausing in running.told if pausing] == list(PauseBehavior)
    assert running.told[-1] == (recording, None)


def test_the_end_is_told_when_the_file_is_in_place_and_before_the_spool_goes(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    seen: list[tuple[list[Path], list[str]]] = []
    tell = running.recorder._tell_state
    running.recorder._tell_state = lambda *told: seen.append((running.kept(), running.spooled())) or tell(*told)
    terminator(running)
    document = running.storage.document_path(running.result())
    assert seen == [([document, document.with_suffix(".wav")], [".json", ".raw"])]
    assert running.spooled() == []


def test_what_cannot_be_told_is_told_later_in_order(bench: Make, caplog: pytest.LogCaptureFixture) -> None:
    running = bench(**NO_LIMITS)
    running.untellable = DatabaseError("database is full")
    running.begin().hear(0.5)
    done = running.recorder.pause()
    assert done.wait(LIMIT)
    running.tick()
    assert "database is full" in caplog.text
    running.untellable = None
    done = running.recorder.resume()
    assert done.wait(LIMIT)
    running.tick()
    terminator(running)
    running.result()
    assert running.states == [State.RECORDING, State.PAUSED, State.RECORDING, State.FINISHED]
    assert running.spooled() == []


def test_a_recording_whose_end_cannot_be_told_keeps_its_spool_for_the_recovery(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    running.untellable = DatabaseError("database is full")
    terminator(running)
    assert running.result().file
    assert running.spooled() == [".json", ".raw"]


def test_the_end_of_a_recording_that_cannot_be_put_in_place_is_not_told(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    running.storage.recordings.rmdir()
    running.storage.recordings.touch()
    terminator(running)
    assert running.result().state is State.ERROR
    assert running.states == [State.RECORDING]
    assert running.spooled() == [".json", ".raw"]


def test_a_recording_that_was_never_announced_tells_of_its_error(bench: Make) -> None:
    running = bench()
    for place in (running.storage.pending, running.storage.recordings):
        place.rmdir()
        place.touch()
    recording = running.begin().result()
    assert running.told == [(recording, None)]
    assert recording.state is State.ERROR


@pytest.mark.parametrize("order", ["pause", "resume", "stop"])
def test_who_gives_an_order_can_wait_until_it_is_carried_out(bench: Make, order: str) -> None:
    running = bench(**NO_LIMITS).begin()
    running.hear(0.5)
    before = list(running.session.steered)
    done = getattr(running.recorder, order)()
    assert not done.is_set()
    assert running.session.steered == before
    assert done.wait(LIMIT)
    if order != "resume":
        assert running.session.steered[-1:] == [order] or running.recorder.recording.state.final
    running.recorder.stop()
    running.result()
    assert getattr(running.recorder, order)().is_set()


def test_an_order_that_comes_too_late_is_not_waited_for(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    running.hear(0.5)
    running.recorder.stop()
    late = running.recorder.pause()
    running.result()
    assert late.is_set()
    assert State.PAUSED not in running.states


# ---- the beginning


def test_the_tap_is_asked_for_what_the_parameters_say(bench: Make) -> None:
    running = bench(beep=True).begin()
    path = running.storage.spool_path(running.recorder.recording.recording_id)
    variables = tap_variables(RecordParams(beep=True), RATE)
    assert running.session.said == [
        f"playback {BEEP}",
        "leg_rate",
        " ".join([f"start {path}", *(f"{name}={value}" for name, value in variables.items())]),
    ]


@pytest.mark.parametrize(
    ("stereo", "direction", "variable"),
    [
        (False, Direction.SPEAK, "RECORD_READ_ONLY"),
        (False, Direction.LISTEN, "RECORD_WRITE_ONLY"),
        (False, Direction.BOTH, None),
        (True, Direction.SPEAK, "RECORD_STEREO"),
        (True, Direction.LISTEN, "RECORD_STEREO"),
        (True, Direction.BOTH, "RECORD_STEREO"),
    ],
)
def test_the_tap_carries_the_legs_asked_for(stereo: bool, direction: Direction, variable: str | None) -> None:
    given = tap_variables(RecordParams(stereo=stereo, direction=direction), 16000)
    assert given["enable_file_write_buffering"] == "false"
    assert given["RECORD_PRE_BUFFER_FRAMES"] == "1"
    assert given["record_sample_rate"] == "16000"
    assert [name for name, value in given.items() if value == "true"] == [
        "RECORD_USE_THREAD",
        *([variable] if variable else []),
    ]


def test_no_setting_of_the_tap_is_left_to_the_channel() -> None:
    # The names that `get_recording_var` is called with in FreeSWITCH's switch_ivr_async.c and that change the audio.
    read_by_the_switch = {
        *("RECORD_READ_ONLY", "RECORD_WRITE_ONLY", "RECORD_STEREO", "RECORD_STEREO_SWAP", "RECORD_ANSWER_REQ"),
        *("RECORD_BRIDGE_REQ", "RECORD_APPEND", "RECORD_MIN_SEC", "RECORD_INITIAL_TIMEOUT_MS"),
        *("RECORD_FINAL_TIMEOUT_MS", "RECORD_SILENCE_THRESHOLD", "RECORD_PRE_BUFFER_FRAMES"),
        *("RECORD_HANGUP_ON_ERROR", "RECORD_TOGGLE_ON_REPEAT", "RECORD_CHECK_BRIDGE", "RECORD_USE_THREAD"),
        *("record_sample_rate", "enable_file_write_buffering"),
    }
    assert set(tap_variables(RecordParams(), RATE)) == read_by_the_switch


@pytest.mark.parametrize(
    ("direction", "state"),
    [("speak", State.FINISHED), ("listen", State.NO_INPUT), ("both", State.FINISHED)],
)
def test_in_stereo_the_direction_says_which_leg_is_listened_to(bench: Make, direction: str, state: State) -> None:
    running = bench(stereo=True, direction=direction, initial_timeout=1.0, end_silence_timeout=0.5).begin()
    running.hear(said(1.5, trail=1.5))
    assert running.result().state is state


@pytest.mark.parametrize("error", [CommandTimeout("no answer"), CallGone("call c1: connection reset")])
def test_a_tap_that_was_not_answered_for_may_run_and_its_spool_stays(bench: Make, error: Exception) -> None:
    running = bench()
    running.session.failures["start"] = error
    assert running.begin().raised(type(error)) == str(error)
    assert running.spooled() == [".json"]
    assert running.states == []


@pytest.mark.parametrize("verb", ["playback", "leg_rate"])
@pytest.mark.parametrize("error", [CommandRefused("-ERR no"), CommandTimeout("no answer")])
def test_a_recording_that_cannot_be_begun_is_told_of(bench: Make, verb: str, error: Exception) -> None:
    running = bench(beep=True)
    running.session.failures[verb] = error
    recording = running.begin().result()
    assert running.told == [(recording, None)]
    assert recording.state is State.ERROR
    assert recording.error == f"the recording could not be begun: {error}"


@pytest.mark.parametrize("folder", ["spool_dir", "recordings"])
def test_without_room_it_is_refused_before_anything_is_heard(bench: Make, folder: str) -> None:
    running = bench(beep=True)
    full = getattr(running.storage, folder)
    running.full = {full}
    running.room.look()
    recording = running.begin().result()
    assert running.session.said == []
    assert how(recording) == (State.ERROR, EndReason.ERROR)
    told = f"the recording could not be begun: {full} cannot be written: No space left on device"
    assert (recording.error, recording.file) == (told, "")
    assert running.told == [(recording, None)]
    assert running.kept() == [running.storage.document_path(recording)]
    assert running.spooled() == []


def test_what_cannot_be_written_has_the_disk_looked_into(bench: Make) -> None:
    running = bench()
    running.room.look()
    running.full = {running.storage.spool_dir}
    running.room.look()
    assert running.room.refusal == ""
    running.storage.spool_dir.rmdir()
    running.storage.spool_dir.touch()
    assert running.begin().result().state is State.ERROR
    running.room.look()
    assert "No space left" in running.room.refusal


@pytest.mark.parametrize("error", [CommandRefused("-ERR Cannot record session!")])
def test_a_tap_that_is_refused_is_an_error_without_file(bench: Make, error: Exception) -> None:
    running = bench()
    running.session.failures["start"] = error
    recording = running.begin().result()
    assert how(recording) == (State.ERROR, EndReason.ERROR)
    assert recording.error == f"the tap could not be started: {error}"
    assert (recording.file, recording.duration) == ("", 0.0)
    assert running.kept() == [running.storage.document_path(recording)]
    assert running.spooled() == []
    assert running.session.steered == []


def test_a_spool_folder_that_has_gone_is_an_error_without_file(bench: Make) -> None:
    running = bench()
    running.storage.spool_dir.rmdir()
    running.storage.spool_dir.touch()
    recording = running.begin().result()
    assert how(recording) == (State.ERROR, EndReason.ERROR)
    assert "the tap could not be started: " in recording.error
    assert recording.file == ""


@pytest.mark.parametrize("verb", ["playback", "leg_rate", "start"])
def test_a_call_that_ends_before_the_recording_has_begun_leaves_nothing(bench: Make, verb: str) -> None:
    running = bench(beep=True)
    running.session.failures[verb] = CallGone("call c1: ORIGINATOR_CANCEL")
    getting_there = getattr(running.session, "start_tap" if verb == "start" else verb)

    def hung_up(*arguments: Any) -> Any:
        try:
            return getting_there(*arguments)
        finally:
            running.session.hangup_cause = "ORIGINATOR_CANCEL"

    setattr(running.session, "start_tap" if verb == "start" else verb, hung_up)
    assert running.begin().raised(CallGone) == "call c1: ORIGINATOR_CANCEL"
    assert running.spooled() == []
    assert running.kept() == []


@pytest.mark.parametrize("rate", ["4000", "384000"])
def test_a_rate_nobody_can_record_leaves_no_tap_behind(bench: Make, rate: str) -> None:
    """Whatever it leads to: a tap that runs on would fill the spool with nobody to end it."""
    running = bench()
    running.session.rate = rate
    running.begin()
    with suppress(ValueError):
        assert running.result().state is State.ERROR
    assert running.session.steered == (["stop"] if running.session.tapped.is_set() else [])


# ---- when something breaks


def test_a_spool_that_was_never_there_is_an_error(bench: Make) -> None:
    running = bench()
    running.session.makes_spool = False
    running.begin().tick()
    recording = running.result()
    assert how(recording) == (State.ERROR, EndReason.ERROR)
    assert f"spool {running.session.path}: No such file" in recording.error
    assert recording.file == ""


def test_a_spool_whose_name_vanishes_is_recorded_to_its_end(bench: Make) -> None:
    running = bench(**NO_LIMITS, terminators="#").begin()
    running.hear(said(0.1))
    running.session.path.unlink()
    running.press("#")
    recording = running.result()
    assert how(recording) == (State.FINISHED, EndReason.TERMINATOR)
    assert len(running.samples()) == 800
    assert running.spooled() == []


@pytest.mark.parametrize(("left", "files"), [(400, 2), (0, 1)])
def test_a_spool_that_shrinks_is_an_error_that_keeps_the_rest(bench: Make, left: int, files: int) -> None:
    running = bench().begin()
    running.hear(said(1.0))
    os.truncate(running.session.path, left * 2)
    running.tick()
    recording = running.result()
    assert how(recording) == (State.ERROR, EndReason.ERROR)
    assert "has become shorter" in recording.error
    assert recording.duration == left / RATE
    assert len(running.kept()) == files
    assert running.spooled() == []


def test_audio_nobody_has_looked_at_yet_is_kept_when_the_detector_fails(
    bench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = bench(**NO_LIMITS).begin()
    running.hear(1.0)
    running.session.write(silence(5.0))

    def broken(*_: object) -> None:
        raise SpoolError("Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Spool, "read", broken)
        running.tick()
    recording = running.result()
    assert how(recording) == (State.ERROR, EndReason.ERROR)
    assert recording.duration == 6.0


def test_a_detector_that_fails_is_an_error_that_keeps_the_audio(bench: Make) -> None:
    class Broken:
        def read(self, limit: int) -> Samples:
            raise RuntimeError("broken source")

    running = bench().begin()
    running.hear(said(1.0))
    assert running.recorder.track is not None
    running.recorder.track.source = Broken()
    running.tick()
    recording = running.result()
    assert how(recording) == (State.ERROR, EndReason.ERROR)
    assert recording.error == "broken source"
    assert recording.duration == 1.0
    assert running.session.steered == ["stop"]


def test_a_full_disk_leaves_the_spool_and_says_where(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    running = bench().begin()
    with monkeypatch.context() as patched:
        patched.setattr(Encoder, "write", full)
        terminator(running)
        recording = running.result()
    assert how(recording) == (State.ERROR, EndReason.ERROR)
    assert recording.error.startswith(f"the audio stays in {running.session.path}: ")
    assert "No space left on device" in recording.error
    assert recording.file == ""
    assert running.kept() == []
    assert running.spooled() == [".json", ".raw"]
    told: list[Recording] = []
    later = running.session.path.stat().st_mtime + 60
    recovery = Recovery(running.storage, lambda begun: None, lambda one, _: told.append(one), clock=lambda: later)
    recovery.find()
    (recovered,) = recovery.run()
    assert (recovered.recording_id, recovered.duration) == (recording.recording_id, 1.0)
    assert running.spooled() == []


def test_what_failed_before_is_told_with_what_failed_after(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Storage, "file", full)
    running = bench().begin()
    full_disk(running)
    recording = running.result()
    assert recording.state is State.ERROR
    assert recording.error.startswith("the switch could not write the spool: disk full?; the audio stays in ")
    assert running.spooled() == [".json", ".raw"]


def test_a_tap_that_cannot_be_stopped_does_not_keep_the_recording(bench: Make) -> None:
    running = bench().begin()
    running.session.failures["stop"] = CommandTimeout("no answer to 'stop'")
    terminator(running)
    assert how(running.result()) == (State.FINISHED, EndReason.TERMINATOR)


@pytest.mark.usefixtures("hurried")
def test_a_tap_that_never_writes_is_an_error_soon(bench: Make) -> None:
    recording = bench().begin().result()
    assert how(recording) == (State.ERROR, EndReason.ERROR)
    assert "the switch has written nothing for 0.3 s" in recording.error


@pytest.mark.usefixtures("hurried")
def test_a_tap_that_stalls_is_an_error_that_keeps_the_audio(bench: Make) -> None:
    running = bench(stall_timeout=0.4).begin()
    running.hear(0.5)
    recording = running.result()
    assert how(recording) == (State.ERROR, EndReason.ERROR)
    assert "the switch has written nothing for 0.4 s" in recording.error
    assert recording.duration == 0.5
    assert "exists" in running.session.said


@pytest.mark.usefixtures("hurried")
def test_a_tap_that_stalls_on_a_full_disk_ends_at_once_and_says_so(bench: Make) -> None:
    running = bench(stall_timeout=LIMIT * 10).begin()
    running.hear(0.5)
    running.full = {running.storage.spool_dir}
    running.room.look()
    recording = running.result()
    assert how(recording) == (State.ERROR, EndReason.ERROR)
    assert recording.error == f"{running.storage.spool_dir} cannot be written: No space left on device"
    assert recording.duration == 0.5
    assert running.spooled() == []


@pytest.mark.usefixtures("hurried")
def test_a_tap_that_gets_but_little_onto_a_full_disk_ends_before_there_is_more(bench: Make) -> None:
    running = bench(**NO_LIMITS, stall_timeout=LIMIT * 10).begin()
    running.hear(0.5)
    running.full = {running.storage.spool_dir}
    running.room.look()
    with gevent.Timeout(LIMIT):
        while running.running:
            running.session.write(silence(0.001))
            gevent.sleep(0.01)
    assert how(running.result()) == (State.ERROR, EndReason.ERROR)
    assert running.result().duration < 2.0


@pytest.mark.usefixtures("hurried")
def test_a_full_disk_ends_nothing_that_is_written_elsewhere(bench: Make) -> None:
    running = bench(stall_timeout=0.4).begin()
    running.hear(0.5)
    running.full = {running.storage.recordings}
    running.room.look()
    assert "the switch has written nothing for 0.4 s" in running.result().error


@pytest.mark.usefixtures("hurried")
def test_a_tap_whose_call_the_switch_has_forgotten_is_a_hang_up(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    running.hear(0.5)
    running.session.known = False
    recording = running.result()
    assert how(recording) == (State.FINISHED, EndReason.HANGUP)
    assert recording.duration == 0.5


@pytest.mark.usefixtures("hurried")
def test_a_switch_that_does_not_answer_for_its_tap_is_an_error(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    running.hear(0.5)
    running.session.failures["exists"] = CommandTimeout("no answer to 'uuid_exists'")
    recording = running.result()
    assert (recording.state, recording.error) == (State.ERROR, "no answer to 'uuid_exists'")


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("behavior", list(PauseBehavior))
def test_a_paused_tap_may_stand_still_for_as_long_as_it_likes(bench: Make, behavior: PauseBehavior) -> None:
    running = bench(**NO_LIMITS, stall_timeout=0.15).begin()
    running.hear(0.1)
    done = running.recorder.pause(behavior)
    assert done.wait(LIMIT)
    running.tick()
    gevent.sleep(0.35)  # more than twice what a tap may stall: nothing is to happen
    assert running.recorder.recording.state is State.PAUSED
    running.recorder.stop()
    assert how(running.result()) == (State.FINISHED, EndReason.STOP)


# ---- whatever comes


VOICE = voice.say(4.0)
HAPPENINGS = st.one_of(
    st.tuples(st.just("speech"), st.integers(1, 6000)),
    st.tuples(st.just("silence"), st.integers(1, 6000)),
    st.tuples(st.just("unseen"), st.integers(1, 2000)),
    st.tuples(st.just("press"), st.sampled_from("5#*")),
    st.tuples(st.just("pause"), st.sampled_from(list(PauseBehavior))),
    st.tuples(st.sampled_from(["resume", "stop", "hangup", "operator", "lose", "transfer"]), st.none()),
    st.tuples(st.sampled_from(["hold", "far hold"]), st.booleans()),
    st.tuples(st.just("codec"), st.sampled_from([RATE, 2 * RATE])),
)
ANY_PARAMS = st.fixed_dictionaries(
    {
        "terminators": st.sampled_from(["", "#", "*#"]),
        "initial_timeout": st.sampled_from([0, 0.3]),
        "end_silence_timeout": st.sampled_from([0, 0.02, 0.2]),
        "max_length": st.sampled_from([0, 0.51]),
        "stereo": st.booleans(),
        "format": st.sampled_from(["wav", "mp3"]),
    }
)
ANYTHING = {**NO_LIMITS, "terminators": "#", "max_length": 0, "stereo": False, "format": "wav"}


def happen(bench: Bench, what: str, value: Any) -> None:
    session, recorder = bench.session, bench.recorder
    match what:
        case "speech":
            bench.hear(VOICE[:value])
        case "silence":
            bench.hear(np.zeros(value, np.int16))
        case "unseen":
            session.write(np.zeros(value, np.int16))
        case "press":
            session.press(value)
        case "pause":
            recorder.pause(value)
        case "resume":
            recorder.resume()
        case "stop":
            recorder.stop()
        case "hangup":
            session.hang_up()
            session.record_stop()
        case "operator":
            session.record_stop("success-maxtime")
        case "lose":
            session.lose()
        case "transfer":
            session.left = True
            session.tell("CHANNEL_EXECUTE_COMPLETE", Application="socket")
        case "hold":
            session.tell("CHANNEL_HOLD" if value else "CHANNEL_UNHOLD")
        case "far hold":
            recorder.far_end_holds(value)
        case "codec":
            session.tell("CODEC", Channel_Read_Codec_Rate=str(value))


@settings(max_examples=80, deadline=None)
@given(
    params=ANY_PARAMS,
    happenings=st.lists(HAPPENINGS, max_size=20),
    at_once=st.booleans(),
    foreground=st.booleans(),
)
@example(ANYTHING, [("speech", 800), ("pause", PauseBehavior.SKIP), ("hangup", None)], True, False)
@example(ANYTHING, [("pause", PauseBehavior.SILENCE), ("stop", None), ("resume", None), ("press", "#")], True, False)
@example(ANYTHING, [("speech", 800), ("lose", None), ("hangup", None), ("stop", None)], True, False)
@example(ANYTHING, [("speech", 800), ("hold", True), ("codec", 2 * RATE), ("hold", False)], True, False)
@example(
    ANYTHING, [("pause", PauseBehavior.SKIP), ("codec", 2 * RATE), ("far hold", True), ("resume", None)], True, False
)
@example(ANYTHING, [("speech", 800), ("codec", 2 * RATE), ("transfer", None)], True, True)
def test_whatever_happens_in_whatever_order_ends_in_one_state_and_one_file(
    params: dict[str, Any], happenings: list[tuple[str, Any]], at_once: bool, foreground: bool
) -> None:
    """``at_once``: happenings without audio come before the recorder's greenlet has run. At the end the caller hangs
    up; where the event socket was lost, nobody tells of it, and the recording is stopped."""
    with (
        a_folder() as folder,
        mock.patch("esl_record.recording.recorder.CLOSE_WAIT", 0.01),
    ):
        bench = Bench(Path(folder), foreground=foreground, **params).begin()
        for what, value in happenings:
            happen(bench, what, value)
            if not at_once:
                gevent.idle()
        happen(bench, "hangup", None)
        if not bench.session.connected:
            happen(bench, "stop", None)
        recording = bench.result()
        check(bench, recording, params)
        assert recording.end_reason is not EndReason.TRANSFER or (foreground and ("transfer", None) in happenings)
        bench.recorder.stop()
        assert bench.recorder.recording == recording
        bench.close()


def check(bench: Bench, recording: Recording, params: dict[str, Any]) -> None:
    """What holds of every recording that has ended."""
    document = bench.storage.document_path(recording)
    assert recording.state.final
    assert recording.end_reason is not None
    assert (recording.state is State.ERROR) == (recording.end_reason is EndReason.ERROR) == bool(recording.error)
    assert (recording.terminator != "") == (recording.end_reason is EndReason.TERMINATOR)
    assert recording.terminator in params["terminators"]
    assert bench.spooled() == []
    assert Recording.model_validate_json(document.read_bytes()) == recording
    assert bench.kept() == [document, *([document.with_name(recording.file)] if recording.file else [])]
    frames = len(bench.samples()) if recording.file else 0
    assert bench.certain <= frames
    assert frames == round(recording.duration * RATE)
    masked = sum(pause.end - pause.start for pause in recording.pauses)
    if params["max_length"]:
        assert recording.duration <= params["max_length"] + masked + 1e-9
    edges = [edge for pause in recording.pauses for edge in (pause.start, pause.end)]
    assert edges == sorted(edges)
    edges = [edge for span in recording.speech for edge in span]
    assert edges == sorted(edges)
    assert all(0 <= edge <= recording.duration for edge in edges)
    for far in (False, True):
        edges = [edge for hold in recording.holds if hold.far is far for edge in (hold.start, hold.end)]
        assert edges == sorted(edges)
        assert all(0 <= edge <= recording.duration + 1e-9 for edge in edges)
    edges = [edge for gap in recording.gaps for edge in gap]
    assert edges == sorted(edges)
    taps = [line.split()[1] for line in bench.session.said if line.startswith("start ")]
    assert len(set(taps)) == len(taps)
    if len(taps) > 1:
        return
    steered = bench.session.steered
    assert steered.count("stop") <= 1
    assert "stop" not in steered[:-1]
    undone = {"pause": "resume", "mask": "unmask"}
    verbs = [verb for verb in steered if verb != "stop"]
    assert set(verbs[::2]) <= set(undone)
    assert verbs[1::2] == [undone[verb] for verb in verbs[: len(verbs) // 2 * 2 : 2]]


def test_what_is_announced_lies_where_the_recording_will(bench: Make) -> None:
    """However late the tap starts: a start after a crash looks there for whether the recording is whole."""
    running = bench(max_length=0.1)
    times = iter(range(1_700_000_000, 1_800_000_000))
    running.recorder._clock = lambda: float(next(times))
    running.begin()
    (announced,) = running.storage.pending.glob("*.json")
    promised = Recording.model_validate_json(announced.read_bytes())
    running.hear(0.2)
    assert running.storage.document_path(promised) == running.storage.document_path(running.result())


# ---- after the service was killed


Step = tuple[str, float]

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["say", "hush"]), st.sampled_from([0.3, 0.5, 0.9, 1.3])),
        st.tuples(st.sampled_from(["skip", "silence", "resume"]), st.just(0.0)),
    ),
    max_size=8,
)


def does(bench: Bench, step: Step, *, alive: bool = True) -> None:
    """One thing the caller or an operator does; nobody hears the caller while there is no service."""
    what, seconds = step
    if what in ("say", "hush"):
        heard = voice.say(seconds) if what == "say" else silence(seconds)
        if alive:
            bench.hear(heard)
        else:
            bench.session.write(heard)
    elif alive and bench.running:
        # The switch is told at once, and what it was told before a kill holds.
        done = bench.recorder.resume() if what == "resume" else bench.recorder.pause(PauseBehavior(what))
        assert done.wait(LIMIT)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(before=STEPS, dead=STEPS, after=STEPS)
@example(before=[("say", 0.9), ("silence", 0.0), ("hush", 1.3)], dead=[("hush", 1.3)], after=[("resume", 0.0)])
@example(before=[("say", 0.9), ("skip", 0.0), ("say", 0.9)], dead=[("say", 1.3)], after=[("resume", 0.0), ("say", 0.9)])
@example(before=[("say", 0.9)], dead=[("hush", 1.3), ("hush", 1.3), ("say", 1.3)], after=[])
def test_a_recording_that_is_gone_on_with_is_as_if_nothing_had_been(
    before: list[Step], dead: list[Step], after: list[Step]
) -> None:
    results = []
    for killed in (False, True):
        with a_folder() as folder:
            one = Bench(Path(folder), initial_timeout=5, end_silence_timeout=2.0, terminators="").begin()
            for step in before:
                does(one, step)
            if not one.running:
                one.close()
                return
            if killed:
                one.die()
                for step in dead:
                    does(one, step, alive=False)
                one = Bench(Path(folder), left=one, initial_timeout=5, end_silence_timeout=2.0, terminators="")
                one._greenlet = gevent.spawn(one.recorder.record)
                assert one.recorder.begun.wait(LIMIT)
                one.tick()
            else:
                for step in dead:
                    does(one, step if step[0] in ("say", "hush") else ("hush", 0.0))
            for step in after:
                does(one, step)
            one.session.hang_up()
            done = one.result()
            audio = one.samples().tobytes() if done.file else b""
            results.append((how(done), done.duration, done.speech, done.pauses, audio))
            one.close()
    assert results[0] == results[1]


def test_what_cannot_be_gone_on_with_stays_to_be_completed(bench: Make) -> None:
    first = bench().begin()
    first.hear(said(1.0))
    first.die()
    announced = next(first.storage.pending.glob("*.json"))
    second = bench(left=first)
    first.storage.spool_path(announced.stem).unlink()
    second._greenlet = gevent.spawn(second.recorder.record)
    second.raised(SpoolError)
    assert announced.exists()


def test_what_goes_on_is_not_refused_for_want_of_room(bench: Make) -> None:
    first = bench(**NO_LIMITS).begin()
    first.hear(said(1.0))
    first.die()
    second = bench(left=first, **NO_LIMITS)
    second.full = {second.storage.spool_dir, second.storage.recordings}
    second.room.look()
    second.begin().hear(said(1.0))
    second.recorder.stop()
    assert how(second.result()) == (State.FINISHED, EndReason.STOP)
    assert second.result().duration == 2.0


@pytest.mark.parametrize("behavior", list(PauseBehavior))
@pytest.mark.parametrize("paused", [True, False])
def test_the_tap_does_what_was_noted_last(bench: Make, paused: bool, behavior: PauseBehavior) -> None:
    """The service was killed before the switch could be told, or anybody."""
    first, mask = bench(**NO_LIMITS).begin(), behavior is PauseBehavior.SILENCE
    first.hear(said(1.0))
    assert first.recorder.pause(behavior).wait(LIMIT)
    if not paused:
        assert first.recorder.resume().wait(LIMIT)
    tell = first.session.resume_tap if paused else first.session.pause_tap
    tell("", mask=mask)
    first.die()
    second = bench(left=first, **NO_LIMITS).begin()
    assert second.recorder.begun.wait(LIMIT)
    second.hear(said(1.0))
    assert second.told[0][0].state is (State.PAUSED if paused else State.RECORDING)
    assert second.told[0][1] is (behavior if paused else None)
    second.recorder.stop()
    assert how(second.result()) == (State.FINISHED, EndReason.STOP)
    assert second.result().duration == (1.0 if paused and not mask else 2.0)
    assert second.samples()[RATE:].any() == (not paused)


@pytest.mark.parametrize("behavior", list(PauseBehavior))
def test_a_pause_whose_limit_passed_without_a_service_is_resumed_at_once(bench: Make, behavior: PauseBehavior) -> None:
    first = bench(pause_limit=60.0, **NO_LIMITS).begin()
    first.hear(said(1.0))
    assert first.recorder.pause(behavior, PauseCause.DIGITS).wait(LIMIT)
    first.die()
    second = bench(left=first, pause_limit=60.0, **NO_LIMITS)
    second.later = 61.0
    second.begin()
    assert second.recorder.begun.wait(LIMIT)
    resumed(second)
    second.hear(said(1.0))
    second.recorder.stop()
    (pause,) = second.result().pauses
    assert (pause.start, pause.end, pause.since) == (1.0, 1.0, START)
    assert (pause.began_by, pause.ended_by) == (PauseCause.DIGITS, PauseCause.LIMIT)
    assert second.states == [State.PAUSED, State.RECORDING, State.FINISHED]
    assert second.samples()[RATE:].any()


def test_a_pause_has_what_is_left_of_its_limit_after_a_restart(bench: Make) -> None:
    first = bench(pause_limit=60.0, **NO_LIMITS).begin()
    assert first.recorder.pause().wait(LIMIT)
    first.die()
    second = bench(left=first, pause_limit=60.0, **NO_LIMITS)
    second.later = 60.0 - 0.2
    second.begin()
    assert second.recorder.begun.wait(LIMIT)
    assert second.recorder.recording.state is State.PAUSED
    resumed(second)
    second.recorder.stop()
    assert [pause.ended_by for pause in second.result().pauses] == [PauseCause.LIMIT]


def test_what_came_after_a_pause_is_not_heard_before_it(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ticks of live calls go on while it is gone through."""
    params = {**NO_LIMITS, "max_length": 1.0}
    first = bench(**params).begin()
    first.hear(said(0.5))
    assert first.recorder.pause(PauseBehavior.SILENCE).wait(LIMIT)
    first.session.write(silence(3.0))
    first.die()
    second = bench(left=first, **params)

    def ticked(track: Track, upto: int) -> None:
        second.engine.tick()
        caught_up(track, upto)

    caught_up = Track.catch_up
    monkeypatch.setattr(Track, "catch_up", ticked)
    second.begin()
    assert second.recorder.resume().wait(LIMIT)
    second.hear(said(1.0))
    assert how(second.result()) == (State.FINISHED, EndReason.MAX_LENGTH)
    assert [(pause.start, pause.end) for pause in second.result().pauses] == [(0.5, 3.5)]
    assert second.result().duration == 4.0


@pytest.mark.parametrize("limited", [True, False])
def test_a_tap_that_was_stopped_before_the_kill_has_ended_its_recording(bench: Make, limited: bool) -> None:
    params = {**NO_LIMITS, "max_length": 0.5 if limited else 0.0}
    first = bench(**params).begin()
    first.session.write(said(1.0))
    first.session.stop_tap("")
    first.die()
    second = bench(left=first, **params).begin()
    assert how(second.result()) == (State.FINISHED, EndReason.MAX_LENGTH if limited else EndReason.STOP)
    assert second.result().duration == (0.5 if limited else 1.0)
    assert second.spooled() == []


def test_a_hang_up_before_it_goes_on_ends_it(bench: Make) -> None:
    first = bench(initial_timeout=0).begin()
    first.hear(said(1.0))
    first.die()
    first.session.hangup_cause = "NORMAL_CLEARING"
    second = bench(left=first, initial_timeout=0)
    second._greenlet = gevent.spawn(second.recorder.record)
    assert how(second.result()) == (State.FINISHED, EndReason.HANGUP)
    assert second.result().duration == 1.0


# ---- holds


def wait_for(condition: Callable[[], object]) -> None:
    with gevent.Timeout(LIMIT):
        while not condition():
            gevent.sleep(0.01)


def test_a_hold_is_silence_of_its_length_and_the_recording_resumes_behind_it(bench: Make, ask_after: AskAfter) -> None:
    running = bench(**NO_LIMITS).begin()
    running.hear(said(1.0))
    ask_after(0.03)
    running.recorder._wake.set()
    running.session.tell("CHANNEL_HOLD")
    spool = running.recorder._spool
    wait_for(lambda: spool.in_gap)
    wait_for(lambda: spool.size() >= 1.5 * RATE)
    running.tick()
    running.session.tell("CHANNEL_UNHOLD")
    ask_after(LIMIT)
    running.hear(said(1.0))
    running.session.hang_up()
    recording = running.result()
    assert len(recording.gaps) == 1, (recording.gaps, recording.holds, running.session.said, spool.timeline.spans)
    ((start, end),), (hold,) = recording.gaps, recording.holds
    assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.HANGUP)
    assert start == 1.0
    assert end >= 1.5
    assert recording.duration == pytest.approx(1 + end)
    assert hold.start == pytest.approx(1.0)
    audio = running.samples()[:, 0]
    assert not audio[RATE : round(end * RATE)].any()
    assert np.array_equal(audio[:RATE], said(1.0))
    assert np.array_equal(audio[round(end * RATE) :], said(1.0))


def test_a_hold_that_ends_between_two_runs_has_the_length_of_its_silence(bench: Make, ask_after: AskAfter) -> None:
    first = bench(**NO_LIMITS).begin()
    first.hear(said(1.0))
    ask_after(0.03)
    first.recorder._wake.set()
    first.session.tell("CHANNEL_HOLD")
    announced = next(first.storage.pending.glob("*.json"))
    wait_for(lambda: Recording.model_validate_json(announced.read_bytes()).holds)
    first.die()
    ask_after(LIMIT)
    gevent.sleep(0.5)
    first.session.write(said(0.1))
    second = bench(left=first, **NO_LIMITS).begin()
    second.hear(said(1.0))
    second.session.hang_up()
    recording = second.result()
    ((start, end),), (hold,) = recording.gaps, recording.holds
    assert end - start >= 0.4
    assert (hold.start, hold.end) == (start, end) == (pytest.approx(1.0), end)
    assert recording.duration == pytest.approx(end + 1.1)


def test_a_hold_of_the_far_end_is_found_by_asking_and_ends_with_the_audio(bench: Make, ask_after: AskAfter) -> None:
    running = bench(**NO_LIMITS).begin()
    running.hear(said(1.0))
    ask_after(0.03)
    running.recorder._wake.set()
    running.session.far_end_holds = True
    spool = running.recorder._spool
    wait_for(lambda: spool.in_gap and spool.size() >= 1.5 * RATE)
    running.session.far_end_holds = False
    ask_after(LIMIT)
    running.hear(said(1.0))
    running.session.hang_up()
    recording = running.result()
    (hold,) = recording.holds
    assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.HANGUP)
    assert hold.end > hold.start
    assert recording.duration >= 2.3
    assert np.array_equal(running.samples()[-RATE:, 0], said(1.0))


def test_media_that_bypass_the_switch_are_silence_until_they_are_back(
    bench: Make, ask_after: AskAfter, caplog: pytest.LogCaptureFixture
) -> None:
    """For longer than a tap may write nothing: the call lives, and nothing is wrong with its tap."""
    running = bench(**NO_LIMITS, stall_timeout=0.2).begin()
    running.hear(said(1.0))
    running.session.bypassed = True
    ask_after(0.03)
    running.recorder._wake.set()
    spool = running.recorder._spool
    wait_for(lambda: spool.in_gap and spool.size() >= 1.5 * RATE)
    running.session.bypassed = False
    ask_after(LIMIT)
    running.hear(said(1.0))
    running.session.hang_up()
    recording = running.result()
    assert (recording.state, recording.end_reason, recording.holds) == (State.FINISHED, EndReason.HANGUP, [])
    ((start, end),) = recording.gaps
    assert (start, recording.duration) == (1.0, pytest.approx(1 + end))
    assert np.array_equal(running.samples()[-RATE:, 0], said(1.0))
    assert caplog.text.count("the media bypasses the switch") == 1


def test_a_silence_nobody_explains_has_its_length_once_the_tap_writes_again(bench: Make, ask_after: AskAfter) -> None:
    running = bench(**NO_LIMITS, stall_timeout=60.0).begin()
    running.hear(said(1.0))
    ask_after(0.03)
    running.recorder._wake.set()
    spool = running.recorder._spool
    wait_for(lambda: spool.in_gap)
    assert spool.size() == RATE
    gevent.sleep(0.3)
    ask_after(LIMIT)
    running.hear(said(0.02))
    running.session.hang_up()
    recording = running.result()
    assert (recording.state, recording.holds) == (State.FINISHED, [])
    ((start, end),) = recording.gaps
    assert start == 1.0
    assert end - start >= 0.25


def test_a_tap_that_stays_silent_behind_a_hold_ends_in_error(bench: Make, ask_after: AskAfter) -> None:
    running = bench(**NO_LIMITS, stall_timeout=2.0).begin()
    running.hear(said(1.0))
    ask_after(0.03)
    running.recorder._wake.set()
    running.session.tell("CHANNEL_HOLD")
    wait_for(lambda: running.recorder._spool.in_gap)
    running.session.tell("CHANNEL_UNHOLD")
    assert "has written nothing" in running.result().error


def test_a_tap_that_falls_silent_is_started_anew(bench: Make, ask_after: AskAfter) -> None:
    running = bench(**NO_LIMITS, stall_timeout=60.0).begin()
    first = running.session.path
    running.hear(said(1.0))
    ask_after(0.03)
    running.recorder._wake.set()
    wait_for(lambda: running.session.path != first)
    ask_after(LIMIT)
    running.hear(said(1.0))
    running.session.hang_up()
    recording = running.result()
    assert recording.state is State.FINISHED
    assert recording.duration >= 2.0
    assert np.array_equal(running.samples()[-RATE:, 0], said(1.0))
    assert [line for line in running.session.said if line.startswith("stop")] == [
        f"stop {first}",
    ]


def test_a_tap_that_writes_more_than_time_passes_is_never_finished_audio(
    bench: Make, hurried: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esl_record.recording.tap.CONFIRMED_AFTER", 0.0)
    running = bench(**NO_LIMITS, prepared=lambda session: setattr(session, "pace", 1.0)).begin()
    first = running.session.path
    running.session.write(said(2.1))
    running.tick()
    wait_for(lambda: running.recorder._growth.next_look(0.0) == 0.0)
    running.session.write(said(2.0))
    running.tick()
    wait_for(lambda: running.session.path != first)
    running.session.hang_up()
    recording = running.result()
    assert how(recording) == (State.ERROR, EndReason.ERROR)
    assert "wrong speed from 0.0 to 4.1 s" in recording.error
    assert recording.file
    assert "of audio more than time has passed" in caplog.text


# ---- changes of the leg


def codec(running: Bench, rate: int) -> None:
    running.session.rate = str(rate)
    running.session.tell("CODEC", Channel_Read_Codec_Rate=str(rate))
    gevent.idle()


def test_another_codec_is_another_segment(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    first = running.session.path
    running.hear(said(1.0))
    running.session.tapped.clear()
    codec(running, 2 * RATE)
    assert running.session.tapped.wait(LIMIT)
    gevent.idle()
    assert running.session.path != first
    assert f"stop {first}" in running.session.said
    running.hear(said(1.0))
    running.session.record_stop(path=first)
    running.session.hang_up()
    recording = running.result()
    assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.HANGUP)
    audio = running.samples()[:, 0]
    assert np.array_equal(audio[:RATE], said(1.0))
    assert np.array_equal(audio[-RATE:], said(1.0))
    assert running.spooled() == []


def test_the_codec_there_is_already_is_no_change(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    codec(running, RATE)
    running.hear(1.0)
    running.session.hang_up()
    assert running.result().duration == 1.0
    assert running.session.steered == []


def test_a_codec_that_changes_in_a_pause_makes_the_segment_at_its_end(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    first = running.session.path
    running.hear(said(1.0))
    running.recorder.pause()
    gevent.idle()
    codec(running, 2 * RATE)
    assert running.session.path == first
    running.recorder.resume().wait(LIMIT)
    assert running.session.path != first
    running.hear(said(1.0))
    running.session.hang_up()
    recording = running.result()
    assert recording.duration == pytest.approx(2.0, abs=0.1)
    assert len(recording.pauses) == 1


@pytest.mark.parametrize("stereo", [False, True])
def test_a_leg_of_two_channels_is_recorded_at_the_right_speed(bench: Make, stereo: bool) -> None:
    running = bench(**NO_LIMITS, stereo=stereo, prepared=lambda session: setattr(session, "channels", 2)).begin()
    starts = [line for line in running.session.said if line.startswith("start ")]
    assert len(starts) == 1 + stereo
    assert all("RECORD_STEREO=false" in line for line in starts)
    if stereo:
        assert "RECORD_READ_ONLY=true" in starts[0]
        assert "RECORD_WRITE_ONLY=true" in starts[1]
    spool = running.recorder._spool
    party, far = np.full(RATE, 100, "<i2"), np.full(RATE, 30, "<i2")
    for path, side in zip(spool.paths, (party, far), strict=False):
        path.write_bytes(np.repeat(side, 2).tobytes())
    running.tick()
    running.session.hang_up()
    assert running.result().duration == 1.0
    audio = running.samples()
    assert audio.shape == (RATE, 1 + stereo)
    assert set(audio[:, 0]) == {100}
    if stereo:
        assert set(audio[:, 1]) == {30}


def test_a_killed_recording_resumes_in_its_last_segment(bench: Make) -> None:
    first = bench(**NO_LIMITS).begin()
    first.hear(said(1.0))
    first.session.tapped.clear()
    codec(first, 2 * RATE)
    assert first.session.tapped.wait(LIMIT)
    gevent.idle()
    first.hear(said(1.0))
    first.die()
    second = bench(left=first, **NO_LIMITS).begin(tapped=False)
    second.hear(said(1.0))
    second.session.hang_up()
    assert second.result().duration == pytest.approx(3.0, abs=0.1)
    audio = second.samples()[:, 0]
    assert np.array_equal(audio[:RATE], said(1.0))
    assert np.array_equal(audio[-RATE:], said(1.0))


def test_a_segment_that_was_noted_and_not_started_is_started_behind_a_kill(bench: Make) -> None:
    first = bench(**NO_LIMITS).begin()
    first.hear(said(1.0))
    before = first.session.path
    first.session.failures["start"] = CallGone("killed")
    codec(first, 2 * RATE)
    wait_for(lambda: len(first.recorder._spool.timeline.segments) == 2)
    first.die()
    del first.session.failures["start"]
    second = bench(left=first, **NO_LIMITS).begin(tapped=False)
    wait_for(lambda: second.session.path != before)
    second.hear(said(1.0))
    second.session.hang_up()
    recording = second.result()
    assert how(recording) == (State.FINISHED, EndReason.HANGUP)
    assert np.array_equal(second.samples()[-RATE:, 0], said(1.0))
    assert second.spooled() == []


# ---- transfers


@pytest.mark.parametrize("foreground", [True, False])
def test_a_transfer_ends_what_was_waited_for_and_nothing_else(bench: Make, foreground: bool) -> None:
    running = bench(**NO_LIMITS, foreground=foreground).begin()
    running.hear(1.0)
    running.session.left = True
    running.session.tell("CHANNEL_EXECUTE_COMPLETE", Application="socket")
    gevent.idle()
    running.hear(1.0)
    running.session.hang_up()
    recording = running.result()
    reason, duration = (EndReason.TRANSFER, 1.0) if foreground else (EndReason.HANGUP, 2.0)
    assert (recording.state, recording.end_reason, recording.duration) == (State.FINISHED, reason, duration)
