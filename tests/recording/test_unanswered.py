"""Recordings in the background of a call that is not answered yet."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import gevent
import pytest
from test_recorder import LIMIT, Bench, a_folder

from esl_record.esl.session import Session
from esl_record.live import LiveCall
from esl_record.recording.machine import EndReason, PauseBehavior, State
from esl_record.recording.recorder import BEEP
from esl_record.recording.recording import Party, Recording

QUIET: dict[str, Any] = {"control_id": "a", "initial_timeout": 0, "end_silence_timeout": 0}


class Ringing(Bench):
    """A recorder of a call that rings, run as ``record_call`` does; ``foreground``, as ``record`` does."""

    def __init__(self, folder: Path, **params: Any) -> None:
        super().__init__(folder, **{**QUIET, **params})
        self.session.answered = False
        self.session.hold = lambda _: None  # type: ignore[attr-defined]
        self.call = LiveCall(
            cast(Session, self.session),
            Party(call_id="c1"),
            lambda *_, **__: self.recorder,
            lambda _: self.over.append(True),
        )
        self.over: list[bool] = []

    def start(self) -> "Ringing":
        assert self.call.start(self.recorder.params) is self.recorder
        gevent.idle()
        return self

    def answer(self) -> None:
        self.session.answer()
        assert self.session.tapped.wait(LIMIT)
        gevent.idle()

    def ended(self) -> Recording:
        self.call.wait(self.recorder, LIMIT)
        assert (self.over, self.call.recorders) == ([True], {})
        return self.recorder.recording


Make = Callable[..., Ringing]


@pytest.fixture
def ringing() -> Iterator[Make]:
    made: list[Ringing] = []
    with a_folder() as folder:

        def making(**params: Any) -> Ringing:
            made.append(Ringing(Path(folder), **params))
            return made[-1]

        yield making
        for one in made:
            one.call.end(LIMIT)
            one.close()


def taps(bench: Bench) -> list[str]:
    return [line.split()[0] for line in bench.session.said]


def test_nothing_is_played_or_tapped_before_the_answer(ringing: Make) -> None:
    bench = ringing(beep=True).start()
    assert (taps(bench), bench.states, bench.spooled()) == ([], [], [])
    bench.answer()
    assert bench.session.said[0] == f"playback {BEEP}"
    assert taps(bench) == ["playback", "leg_rate", "start"]
    bench.hear(1.0)
    bench.session.hang_up()
    bench.session.record_stop()
    recording = bench.ended()
    assert (recording.state, recording.end_reason, recording.duration) == (State.FINISHED, EndReason.HANGUP, 1.0)


def test_whoever_starts_one_does_not_wait_for_the_answer(ringing: Make) -> None:
    bench = ringing().start()
    assert bench.recorder.begun.is_set()
    assert (bench.recorder.recording.state, bench.recorder.position) == (State.RECORDING, 0)


@pytest.mark.parametrize(("answered", "early_media"), [(True, False), (False, True)])
def test_it_starts_at_once_on_an_answered_call_or_with_early_media(
    ringing: Make, answered: bool, early_media: bool
) -> None:
    bench = ringing(early_media=early_media)
    bench.session.answered = answered
    bench.start()
    assert bench.session.tapped.wait(LIMIT)


def test_in_the_foreground_nothing_is_waited_for(ringing: Make) -> None:
    bench = ringing()
    running = gevent.spawn(bench.call.record, bench.recorder.params)
    assert bench.session.tapped.wait(LIMIT)
    bench.recorder.stop()
    assert running.get(timeout=LIMIT).end_reason is EndReason.STOP


def test_stopped_before_the_answer_it_is_finished_without_audio(
    ringing: Make, caplog: pytest.LogCaptureFixture
) -> None:
    bench = ringing().start()
    with caplog.at_level(logging.WARNING):
        assert bench.recorder.stop().wait(LIMIT)
        recording = bench.ended()
    assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.STOP)
    assert (recording.duration, recording.file, recording.error) == (0, "", "")
    assert bench.states == [State.FINISHED]
    assert [path.suffix for path in bench.kept()] == [".json"]
    assert caplog.records == []
    bench.session.answer()
    gevent.idle()
    assert taps(bench) == []


def test_a_hang_up_while_it_rings_makes_no_recording_and_no_error(
    ringing: Make, caplog: pytest.LogCaptureFixture
) -> None:
    bench = ringing().start()
    with caplog.at_level(logging.INFO):
        bench.session.hang_up()
        bench.ended()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "call c1: no recording a: NORMAL_CLEARING before the answer")
    ]
    assert (bench.states, bench.kept(), bench.spooled()) == ([], [], [])


def test_a_connection_that_breaks_while_it_rings_is_an_error(ringing: Make, caplog: pytest.LogCaptureFixture) -> None:
    bench = ringing().start()
    with caplog.at_level(logging.INFO):
        bench.session.lose()
        bench.ended()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_what_another_connection_takes_over_while_it_rings_is_told_of(
    ringing: Make, caplog: pytest.LogCaptureFixture
) -> None:
    bench = ringing().start()
    with caplog.at_level(logging.INFO):
        bench.call.hand_over(LIMIT)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert bench.over == [True]


@pytest.mark.parametrize("behavior", PauseBehavior)
def test_paused_before_the_answer_it_starts_when_it_is_resumed(ringing: Make, behavior: PauseBehavior) -> None:
    bench = ringing().start()
    assert bench.recorder.pause(behavior).wait(LIMIT)
    assert bench.recorder.recording.state is State.PAUSED
    bench.session.answer()
    gevent.idle()
    assert taps(bench) == []
    assert bench.recorder.resume().wait(LIMIT)
    assert bench.session.tapped.wait(LIMIT)
    gevent.idle()
    bench.hear(0.5)
    bench.recorder.stop()
    recording = bench.ended()
    assert (recording.duration, recording.pauses) == (0.5, [])


def test_stopped_while_paused_before_the_answer_it_has_no_pause(ringing: Make) -> None:
    bench = ringing().start()
    bench.recorder.pause()
    assert bench.recorder.stop().wait(LIMIT)
    assert (bench.ended().state, bench.ended().pauses) == (State.FINISHED, [])


def test_without_room_it_fails_before_the_answer(ringing: Make) -> None:
    bench = ringing()
    bench.full.add(bench.storage.spool_dir)
    bench.room.look()
    bench.start()
    assert bench.ended().state is State.ERROR
