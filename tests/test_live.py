"""Live calls: recordings of one call side by side, each under its own control id."""

import logging
from collections.abc import Callable
from typing import Any, cast

import gevent
import pytest
from gevent.event import Event as Flag

from esl_record import live
from esl_record.errors import CallGone
from esl_record.esl.channel import ReachedCall
from esl_record.esl.session import Session
from esl_record.esl.wire import Event
from esl_record.live import MOST_AT_ONCE, LiveCall, LiveCalls, TooManyRecordings
from esl_record.recording.machine import PauseBehavior, PauseCause, State
from esl_record.recording.params import ParameterError, RecordParams
from esl_record.recording.pause_digits import PauseDigits
from esl_record.recording.recorder import Recorder
from esl_record.recording.recording import Party, Recording

LIMIT = 5.0


class FakeSession:
    def __init__(self, uuid: str = "call-1") -> None:
        self.uuid = uuid
        self.label = f"call {uuid}"
        self.held: list[bool] = []
        self.listeners: list[Callable[[Event], None]] = []

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def press(self, digits: str) -> None:
        for digit in digits:
            for listener in self.listeners:
                listener(Event({"Event-Name": "DTMF", "DTMF-Digit": digit}))

    def hold(self, held: bool) -> None:
        self.held.append(held)


class FakeRecorder:
    """Records until it is stopped."""

    def __init__(self, params: RecordParams) -> None:
        self.params = params
        self.ending = Flag()
        self.begun = Flag()
        self.failure: Exception | None = None
        self.handed_over = False
        self.orders: list[tuple[object, ...]] = []

    def pause(self, *how: object) -> None:
        self.orders.append(("pause", *how))

    def resume(self, *how: object) -> None:
        self.orders.append(("resume", *how))

    def await_answer(self) -> bool:
        return True

    def record(self) -> Recording:
        self.ending.wait(LIMIT)
        if self.failure is not None:
            raise self.failure
        one = Recording.begun(f"r-{self.params.control_id}", Party(call_id="call-1"), self.params, 1.0)
        return one.model_copy(update={"state": State.FINISHED})

    def stop(self) -> None:
        self.ending.set()

    def hand_over(self) -> None:
        self.handed_over = True
        self.failure = CallGone("another connection has the call")
        self.ending.set()


class Bench:
    def __init__(self, pause_digits: PauseDigits | None = None) -> None:
        self.ended: list[str] = []
        self.made: dict[str, FakeRecorder] = {}
        self.left: dict[str, Recording | None] = {}
        self.session = FakeSession()
        self.call = LiveCall(
            cast(Session, self.session),
            Party(call_id="call-1"),
            self._make,
            lambda one: self.ended.append(one.params.control_id),
            pause_digits,
        )

    def _make(
        self, session: ReachedCall, party: Party, params: RecordParams, left: Recording | None, *, foreground: bool
    ) -> Recorder:
        self.left[params.control_id] = left
        assert (session, party) == (self.call.session, self.call.party)
        self.made[params.control_id] = FakeRecorder(params)
        return cast(Recorder, self.made[params.control_id])


def named(control_id: str, **params: Any) -> RecordParams:
    return RecordParams(control_id=control_id, **params)


def test_recordings_run_side_by_side_and_end_each_for_itself() -> None:
    bench = Bench()
    for control_id in ("a", "b"):
        bench.call.start(named(control_id))
    foreground = gevent.spawn(bench.call.record, named("c"))
    gevent.idle()
    assert list(bench.call.recorders) == ["a", "b", "c"]
    assert list(bench.call.background) == ["a", "b"]
    bench.made["b"].stop()
    bench.made["c"].stop()
    assert foreground.get(timeout=LIMIT).control_id == "c"
    gevent.idle()
    assert list(bench.call.recorders) == list(bench.call.background) == ["a"]
    bench.call.end(LIMIT)
    assert sorted(bench.ended) == ["a", "b", "c"]
    assert bench.call.recorders == bench.call.background == {}


def test_a_call_has_only_so_many_recordings_at_once() -> None:
    bench = Bench()
    for number in range(MOST_AT_ONCE):
        bench.call.start(named(str(number)))
    gevent.idle()
    for begin in (bench.call.start, bench.call.record):
        with pytest.raises(TooManyRecordings, match=f"at most {MOST_AT_ONCE} recordings of one call at once"):
            begin(named("more"))
    bench.made["3"].stop()
    gevent.idle()
    bench.call.start(named("more"))
    bench.call.end(LIMIT)


def test_a_call_has_only_so_many_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST", 3)
    bench = Bench()
    for number in range(3):
        bench.call.start(named(str(number)))
        bench.call.end(LIMIT)
    with pytest.raises(TooManyRecordings, match="at most 3 recordings of one call"):
        bench.call.start(named("more"))


def test_a_call_is_held_from_its_first_recording_to_the_end_of_its_last() -> None:
    bench = Bench()
    for control_id in ("a", "b"):
        bench.call.start(named(control_id))
    gevent.idle()
    assert bench.session.held == [True, True]
    bench.made["a"].stop()
    gevent.idle()
    assert bench.session.held == [True, True]
    bench.call.end(LIMIT)
    assert bench.session.held == [True, True, False]


def test_what_an_earlier_run_left_goes_on_as_it_was_asked_for() -> None:
    bench = Bench()
    left = Recording.begun("r-a", Party(call_id="call-1"), named("a", stereo=True, max_length=5), 1.0)
    recorder = bench.call.go_on(left)
    gevent.idle()
    assert bench.left == {"a": left}
    assert (recorder.params.stereo, recorder.params.max_length, recorder.params.control_id) == (True, 5, "a")
    assert list(bench.call.background) == ["a"]
    bench.call.end(LIMIT)
    assert bench.ended == ["a"]


PAUSED = ("pause", PauseBehavior.SKIP, PauseCause.DIGITS)
RESUMED = ("resume", PauseCause.DIGITS)


def test_pause_digits_pause_and_resume_every_recording_of_the_call() -> None:
    bench = Bench(PauseDigits("*5", "*6", PauseBehavior.SKIP))
    bench.call.start(named("a"))
    foreground = gevent.spawn(bench.call.record, named("b"))
    gevent.idle()
    bench.session.press("1*5")
    assert [bench.made[name].orders for name in "ab"] == [[PAUSED], [PAUSED]]
    bench.call.start(named("c"))
    bench.session.press("*6")
    assert [bench.made[name].orders for name in "abc"] == [[PAUSED, RESUMED], [PAUSED, RESUMED], [RESUMED]]
    bench.call.end(LIMIT)
    foreground.join(LIMIT)


def test_the_digits_of_each_leg_are_a_sequence_of_their_own() -> None:
    bench = Bench(PauseDigits("*5", "*6", PauseBehavior.SKIP))
    bench.call.start(named("a"))
    for digit, leg in (("*", "agent"), ("5", ""), ("1", "")):
        bench.call.digit_pressed(digit, leg)
    assert bench.made["a"].orders == []
    bench.call.digit_pressed("5", "agent")
    assert bench.made["a"].orders == [PAUSED]
    bench.session.press("*6")
    assert bench.made["a"].orders == [PAUSED, RESUMED]
    bench.call.end(LIMIT)


def test_a_digit_that_ends_a_recording_does_not_pause_it() -> None:
    bench = Bench(PauseDigits("*5", "*6", PauseBehavior.SKIP))
    for control_id, terminators in (("a", "5"), ("b", "#")):
        bench.call.start(named(control_id, terminators=terminators))
    bench.session.press("*5")
    assert (bench.made["a"].orders, bench.made["b"].orders) == ([], [PAUSED])
    for digit in "*5":
        bench.call.digit_pressed(digit, "agent")
    assert (bench.made["a"].orders, bench.made["b"].orders) == ([PAUSED], [PAUSED, PAUSED])
    bench.call.end(LIMIT)


def test_without_pause_digits_nobody_listens() -> None:
    bench = Bench()
    bench.call.start(named("a"))
    assert bench.session.listeners == []
    bench.call.digit_pressed("5")
    assert bench.made["a"].orders == []
    bench.call.end(LIMIT)


def test_a_control_id_is_taken_until_its_recording_has_ended() -> None:
    bench = Bench()
    bench.call.start(named("a"))
    for ask in (bench.call.start, bench.call.record):
        with pytest.raises(ParameterError, match="control_id = 'a': is in use"):
            ask(named("a"))
    bench.call.end(LIMIT)
    bench.call.start(named("a"))
    bench.call.end(LIMIT)
    assert bench.ended == ["a", "a"]


@pytest.mark.parametrize("failure", [CallGone("call-1: gone"), ValueError("a mistake")])
def test_a_recording_that_fails_is_one_entry_in_the_log(caplog: pytest.LogCaptureFixture, failure: Exception) -> None:
    bench = Bench()
    bench.call.start(named("a"))
    bench.made["a"].failure = failure
    with caplog.at_level(logging.ERROR):
        bench.call.end(LIMIT)
    assert len(caplog.records) == 1
    assert (bench.ended, bench.call.recorders) == (["a"], {})


def test_one_that_does_not_end_is_not_waited_for_forever() -> None:
    bench = Bench()
    bench.call.start(named("a"))
    bench.made["a"].stop = lambda: None  # type: ignore[method-assign]
    with gevent.Timeout(LIMIT):
        bench.call.end(0.01)
    bench.made["a"].ending.set()


def test_calls_are_found_while_they_live() -> None:
    calls, bench = LiveCalls(), Bench()
    calls.add(bench.call)
    assert calls.get("call-1") is bench.call
    assert (list(calls), len(calls)) == ([bench.call], 1)
    bench.call.start(named("a"))
    assert [recorder.params.control_id for recorder in calls.recorders] == ["a"]
    bench.call.end(LIMIT)
    calls.remove(bench.call)
    calls.remove(bench.call)
    assert (calls.get("call-1"), len(calls), calls.recorders) == (None, 0, [])


def test_a_call_that_came_back_is_not_removed_with_its_forerunner() -> None:
    calls, first, second = LiveCalls(), Bench(), Bench()
    calls.add(first.call)
    calls.add(second.call)
    calls.remove(first.call)
    assert calls.get("call-1") is second.call


def test_what_is_handed_over_is_let_go_of(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    for name in ("a", "b"):
        bench.call.start(named(name))
    with caplog.at_level(logging.INFO):
        bench.call.hand_over(LIMIT)
    assert bench.call.recorders == {}
    assert sorted(bench.ended) == ["a", "b"]
    assert caplog.records == []
