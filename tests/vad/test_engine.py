"""The engine hears many growing sources as `detect` hears each alone, and wakes who must know."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import RATE, call, clicks, hum, pcm, silence, voice, white

from esl_record.vad import detect
from esl_record.vad import engine as engine_module
from esl_record.vad.engine import Engine, Track

HOP = 160
CALLS = [
    call(silence(0.7), voice(1.2, -25, 1), silence(1)),
    call(voice(0.8, -35, 2, pitch=210), silence(1.5), noise=-60),
    call(hum(1, -40), voice(1, -20, 3), silence(0.6), clicks(0.4, 9000)),
    np.concatenate([pcm(silence(1)), call(voice(1, -30, 4), silence(0.9), white(0.4, -30))]),
]


class Spool:
    """A source whose audio has appeared up to `there`; hands out one buffer, to be copied by who keeps it."""

    def __init__(self, samples: np.ndarray, there: int = 0) -> None:
        self.samples = samples if samples.ndim == 2 else samples[:, None]
        self.there = 0
        self.grow(there)
        self.position = 0
        self.asked: list[int] = []
        self.failure: Exception | None = None
        self._buffer = np.empty_like(self.samples)

    def grow(self, count: int) -> None:
        self.there = min(self.there + count, len(self.samples))

    def read(self, limit: int) -> np.ndarray:
        self.asked.append(limit)
        if self.failure:
            raise self.failure
        size = min(limit, self.there - self.position)
        self._buffer[:size] = self.samples[self.position : self.position + size]
        self.position += size
        return self._buffer[:size]


class Listener:
    """Joins a spool and keeps what it is told, as a recording does."""

    def __init__(self, engine: Engine, spool: Spool, legs: tuple[int, ...] = (0,), sensitivity: float = 44.0) -> None:
        self.spool = spool
        self.woken = 0
        self.changes: list[tuple[int, bool]] = []
        self.known_at: list[int] = []
        self.track: Track = engine.join(spool, RATE, legs, sensitivity, self.wake)

    def wake(self) -> None:
        self.woken += 1
        taken = self.track.take_changes()
        self.known_at += [self.track.decided] * len(taken)
        self.changes += taken


def changes_of(speech: np.ndarray, first: int = 0) -> list[tuple[int, bool]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], speech.astype(int)])))
    return [(first + int(edge) * HOP, bool(speech[edge])) for edge in edges]


def test_the_calls_used_here_have_changes() -> None:
    assert all(len(changes_of(detect(samples, RATE).speech)) >= 2 for samples in CALLS)


@given(blocks=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3000)), min_size=5, max_size=60))
@settings(max_examples=40, deadline=None)
def test_blocks_of_any_size_give_what_detect_gives(blocks: list[tuple[int, int]]) -> None:
    engine = Engine()
    listeners = [Listener(engine, Spool(samples)) for samples in CALLS]
    for which, size in blocks:
        listeners[which].spool.grow(size)
        engine.tick()
    for listener, samples in zip(listeners, CALLS, strict=True):
        track, whole = listener.track, detect(samples, RATE)
        assert track.position == listener.spool.there
        assert track.decided == track.position // HOP * HOP
        frames = track.decided // HOP
        assert listener.changes == changes_of(whole.speech[:frames])
        if frames:
            assert track.speaking == whole.speech[frames - 1]
            assert track.score == pytest.approx(whole.scores[frames - 1], abs=1e-4)


def test_a_change_is_known_within_the_tick_its_frame_ends_in() -> None:
    engine = Engine()
    listener = Listener(engine, Spool(CALLS[0]))
    while listener.spool.there < len(CALLS[0]):
        listener.spool.grow(800)
        engine.tick()
    assert len(listener.changes) >= 2
    for (at, _), known in zip(listener.changes, listener.known_at, strict=True):
        assert at < known <= at + 800 + HOP


def test_a_thousand_uneven_tracks_do_not_disturb_each_other() -> None:
    engine, rng = Engine(), np.random.default_rng(5)
    truth = [changes_of(detect(samples, RATE).speech) for samples in CALLS]
    listeners: list[tuple[int, Listener]] = []
    for tick in range(75):
        if tick < 10:
            joining = rng.integers(0, len(CALLS), 100).tolist()
            listeners += [(which, Listener(engine, Spool(CALLS[which]))) for which in joining]
        for _, listener in listeners:
            listener.spool.grow(int(rng.integers(0, 1200)))
        if tick == 30:
            for _, listener in listeners[::7]:
                engine.leave(listener.track)
            for _, listener in listeners[1::7]:
                listener.spool.failure = OSError("gone")
        engine.tick()
    for _, listener in listeners:
        listener.spool.grow(10**6)
    engine.tick()
    engine.tick()
    assert len(engine) == 1000 - len(listeners[::7])
    for index, (which, listener) in enumerate(listeners):
        if index % 7 == 0:
            assert listener.track.error is None
        elif index % 7 == 1:
            assert isinstance(listener.track.error, OSError)
        else:
            assert listener.changes == truth[which]


def test_rows_are_used_again_from_a_clean_start() -> None:
    engine = Engine()
    for _ in range(100):
        listener = Listener(engine, Spool(CALLS[0], there=len(CALLS[0])))
        engine.tick()
        assert listener.changes == changes_of(detect(CALLS[0], RATE).speech)
        engine.leave(listener.track)
        engine.leave(listener.track)
    assert len(engine) == 0


def test_speech_on_any_leg_heard_is_speech() -> None:
    quiet, early, late = call(silence(3)), call(voice(1, -25), silence(2)), call(silence(1.6), voice(1.4, -25, 3))
    engine = Engine()
    legs = {
        (0,): np.zeros(150, bool),
        (1,): detect(early, RATE).speech,
        (1, 2): detect(early, RATE).speech | detect(late, RATE).speech,
        (0, 2): detect(late, RATE).speech,
    }
    channels = np.stack([quiet, early, late], axis=1)
    listeners = {heard: Listener(engine, Spool(channels), heard) for heard in legs}
    for _ in range(30):
        for listener in listeners.values():
            listener.spool.grow(800)
        engine.tick()
    for heard, speech in legs.items():
        assert listeners[heard].changes == changes_of(speech)


def test_tracks_of_different_rates_share_a_tick() -> None:
    engine = Engine()
    wide = np.repeat(CALLS[1], 6)
    narrow = Listener(engine, Spool(CALLS[0], there=len(CALLS[0])))
    other = engine.join(Spool(wide, there=len(wide)), 48000, (0,), 44, lambda: None)
    engine.tick()
    assert narrow.changes == changes_of(detect(CALLS[0], RATE).speech)
    whole = detect(wide, 48000).speech
    assert other.take_changes() == [(at * 6, speaking) for at, speaking in changes_of(whole)]


def test_sensitivity_is_each_tracks_own() -> None:
    engine = Engine()
    listeners = [Listener(engine, Spool(CALLS[0], there=10**5), sensitivity=sensitivity) for sensitivity in (0, 44, 90)]
    engine.tick()
    for listener, sensitivity in zip(listeners, (0, 44, 90), strict=True):
        assert listener.changes == changes_of(detect(CALLS[0], RATE, sensitivity).speech)


def test_a_backlog_is_read_in_bounded_pieces_and_does_not_hold_up_a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    backlog = Spool(np.tile(CALLS[0], 4), there=10**6)
    listener = Listener(engine, backlog)
    engine.tick()
    assert listener.track.position == len(backlog.samples) > 10 * RATE
    assert max(backlog.asked) <= RATE
    monkeypatch.setattr(engine_module, "TICK_FRAMES", 100)
    listeners = [Listener(engine, Spool(CALLS[0], there=10**6)) for _ in range(8)]
    engine.tick()
    assert {listener.track.position for listener in listeners} == {RATE // 2}
    for _ in range(5):
        engine.tick()
    assert all(listener.changes == changes_of(detect(CALLS[0], RATE).speech) for listener in listeners)


def test_a_failing_source_ends_its_track_once_and_no_other() -> None:
    engine = Engine()
    broken, sound = Listener(engine, Spool(CALLS[0])), Listener(engine, Spool(CALLS[0]))
    flat = Listener(engine, Spool(CALLS[0]), legs=(3,))
    broken.spool.failure = OSError("no such file")
    for _ in range(len(CALLS[0]) // 800 + 1):
        for listener in (broken, sound, flat):
            listener.spool.grow(800)
        engine.tick()
    assert str(broken.track.error) == "no such file"
    assert (broken.woken, len(broken.spool.asked)) == (1, 1)
    assert isinstance(flat.track.error, IndexError)
    broken.track.catch_up(10**6)
    assert len(broken.spool.asked) == 1
    assert sound.changes == changes_of(detect(CALLS[0], RATE).speech)


def test_a_wake_that_fails_is_logged_and_others_are_woken(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("nobody there")

    engine = Engine()
    engine.join(Spool(CALLS[0], there=10**6), RATE, (0,), 44, fail)
    listener = Listener(engine, Spool(CALLS[0], there=10**6))
    engine.tick()
    assert listener.woken == 1
    assert "nobody there" in caplog.text


def test_a_track_that_left_is_not_woken() -> None:
    engine = Engine()
    listener = Listener(engine, Spool(CALLS[0]))
    first = engine.join(Spool(CALLS[0], there=10**6), RATE, (0,), 44, lambda: engine.leave(second.track))
    second = Listener(engine, Spool(CALLS[0], there=10**6))
    engine.tick()
    assert first.take_changes() == changes_of(detect(CALLS[0], RATE).speech)
    assert (second.woken, listener.woken, len(engine)) == (0, 0, 2)


def test_a_deadline_wakes_once_at_the_first_tick_past_it() -> None:
    engine = Engine()
    listener = Listener(engine, Spool(pcm(silence(3))))
    listener.track.deadline = 1700
    woken = []
    for _ in range(5):
        listener.spool.grow(850)
        engine.tick()
        woken.append(listener.woken)
    # 1700 samples are there after two ticks, and decided, in whole frames, after three.
    assert woken == [0, 0, 1, 1, 1]
    assert listener.track.deadline is None


@given(sizes=st.lists(st.integers(0, 2500), min_size=1, max_size=12), upto=st.lists(st.integers(0, 24000), max_size=4))
@settings(max_examples=40, deadline=None)
def test_catching_up_gives_what_ticks_give(sizes: list[int], upto: list[int]) -> None:
    engine = Engine()
    listener = Listener(engine, Spool(CALLS[0]))
    changes = []
    for size in sizes:
        listener.spool.grow(size)
        for sample in upto:
            before = listener.track.position
            listener.track.catch_up(sample)
            assert listener.track.position == max(before, min(sample, listener.spool.there))
            changes += listener.track.take_changes()
        engine.tick()
        changes += listener.changes
        listener.changes = []
    frames = listener.track.decided // HOP
    assert changes == changes_of(detect(CALLS[0], RATE).speech[:frames])


def test_what_is_past_is_read_by_catching_up_alone() -> None:
    engine = Engine()
    listener = Listener(engine, Spool(CALLS[0], there=8000))
    listener.track.past = True
    engine.tick()
    assert listener.track.position == 0
    listener.track.catch_up(4000)
    engine.tick()
    assert listener.track.position == 4000
    listener.track.past = False
    engine.tick()
    assert listener.track.position == 8000


def test_catching_up_after_leaving_reads_nothing() -> None:
    engine = Engine()
    listener = Listener(engine, Spool(CALLS[0], there=8000))
    engine.leave(listener.track)
    listener.track.catch_up(8000)
    assert listener.track.position == 0


def test_a_source_that_fails_while_catching_up_wakes_too() -> None:
    engine = Engine()
    listener = Listener(engine, Spool(CALLS[0]))
    listener.spool.failure = OSError("gone")
    listener.track.catch_up(8000)
    engine.tick()
    assert (str(listener.track.error), listener.woken) == ("gone", 1)


@given(edges=st.tuples(st.integers(0, 8000), st.integers(0, 8000)), step=st.integers(100, 3000))
@settings(max_examples=40, deadline=None)
def test_masked_silence_is_not_heard(edges: tuple[int, int], step: int) -> None:
    """What the switch writes over a pause changes nothing, and the call goes on where it was."""
    start, length = edges
    samples = CALLS[0].copy()
    loud = samples.copy()
    samples[start : start + length] = 0
    loud[start : start + length] = voice(1, -6, 9)[:length].astype(np.int16)
    results = []
    for content in (samples, loud):
        engine = Engine()
        listener = Listener(engine, Spool(content))
        listener.track.hold(start)
        listener.track.release(start + length)
        while listener.spool.there < len(content):
            listener.spool.grow(step)
            engine.tick()
        assert listener.track.position == len(content)
        results.append(listener.changes)
    assert results[0] == results[1]
    inside = range(-(-start // HOP) * HOP + 1, start + length)
    assert not [at for at, _ in results[0] if at in inside]


def test_hold_and_release_in_the_past_count_from_what_was_read() -> None:
    engine = Engine()
    listener = Listener(engine, Spool(call(voice(3, -20))))
    track = listener.track
    listener.spool.grow(8000)
    engine.tick()
    assert track.speaking
    before = listener.changes.copy()
    track.hold(4000)
    track.hold(5000)
    listener.spool.samples[8000:16000] = 0
    listener.spool.grow(8000)
    engine.tick()
    assert track.speaking
    assert (track.decided, listener.changes) == (16000, before)
    track.release(4000)
    track.release(9000)
    listener.spool.samples[16000:] = 0
    listener.spool.grow(8000)
    engine.tick()
    assert not track.speaking
    assert listener.changes[-1][0] > 16000


def test_level_is_that_of_the_latest_frame_of_the_loudest_leg() -> None:
    engine = Engine()
    tone = pcm(np.concatenate([np.full(8000, 30000.0), np.tile([3276.8, -3276.8], 4000)]))
    spool = Spool(np.stack([tone, tone // 10], axis=1), there=10**6)
    track = engine.join(spool, RATE, (0, 1), 44, lambda: None)
    assert track.level == -100.0
    engine.tick()
    assert track.level == pytest.approx(-20.0, abs=0.01)


@pytest.mark.parametrize(
    ("join", "named"),
    [
        (lambda engine, spool: engine.join(spool, 7000, (0,), 44, print), "7000"),
        (lambda engine, spool: engine.join(spool, 8000, (0,), 101, print), "101"),
        (lambda engine, spool: engine.join(spool, 8000, (), 44, print), "legs"),
        (lambda engine, spool: engine.join(spool, 8000, (0, -1), 44, print), "legs"),
    ],
)
def test_what_cannot_be_joined_is_named(join: Callable[[Engine, Spool], Track], named: str) -> None:
    engine = Engine()
    with pytest.raises(ValueError, match=named):
        join(engine, Spool(CALLS[0]))
    assert len(engine) == 0
