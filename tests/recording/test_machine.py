"""The state machine: what ends a recording, when, and as what; and that it ends once whatever comes."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_record.recording.machine import (
    Action,
    Audio,
    Digit,
    End,
    EndReason,
    Event,
    HangUp,
    Hold,
    HoldSpan,
    Limits,
    Machine,
    Pause,
    PauseBehavior,
    PauseCause,
    PauseTap,
    Resume,
    ResumeTap,
    SpeechEnded,
    SpeechStarted,
    State,
    Stop,
    TapFailed,
    Transfer,
    Unhold,
)

SECOND = 8000
USUAL = Limits(initial_timeout=4 * SECOND, end_silence=5 * SECOND, max_length=60 * SECOND, terminators=frozenset("#"))


def run(limits: Limits, *events: Event) -> tuple[Machine, list[Action]]:
    machine, actions = Machine(limits), []
    for event in events:
        machine, some = machine.step(event)
        actions += some
    return machine, actions


def s(seconds: float) -> int:
    return round(seconds * SECOND)


ENDS = [
    pytest.param([Audio(s(3.9))], None, id="silence within the initial timeout goes on"),
    pytest.param([Audio(s(4.0))], (4.0, State.NO_INPUT, EndReason.INITIAL_TIMEOUT), id="silence for all of it"),
    pytest.param([Audio(s(4.7))], (4.0, State.NO_INPUT, EndReason.INITIAL_TIMEOUT), id="told late, ends on time"),
    pytest.param([SpeechStarted(s(3.9)), Audio(s(30))], None, id="speech at the last moment"),
    pytest.param(
        [SpeechStarted(s(1)), SpeechEnded(s(2)), Audio(s(7))],
        (7.0, State.FINISHED, EndReason.END_SILENCE),
        id="silence after speech counts from its end",
    ),
    pytest.param(
        [SpeechStarted(s(1)), Audio(s(3)), SpeechEnded(s(2)), Audio(s(6.9))], None, id="not a sample too early"
    ),
    pytest.param(
        [SpeechStarted(s(1)), SpeechEnded(s(2)), SpeechStarted(s(6.9)), Audio(s(20))], None, id="speech again in time"
    ),
    pytest.param(
        [SpeechStarted(s(1)), SpeechEnded(s(2)), SpeechStarted(s(7.1))],
        (7.0, State.FINISHED, EndReason.END_SILENCE),
        id="speech again too late",
    ),
    pytest.param([SpeechStarted(s(1)), Audio(s(61))], (60.0, State.FINISHED, EndReason.MAX_LENGTH), id="too long"),
    pytest.param([Digit(s(2), "#")], (2.0, State.FINISHED, EndReason.TERMINATOR), id="terminator"),
    pytest.param([Digit(s(2), "5"), Audio(s(3))], None, id="another digit"),
    pytest.param(
        [Digit(s(4.2), "#")], (4.0, State.NO_INPUT, EndReason.INITIAL_TIMEOUT), id="terminator after the timeout"
    ),
    pytest.param([Stop(s(1))], (1.0, State.FINISHED, EndReason.STOP), id="stop"),
    pytest.param([HangUp(s(1))], (1.0, State.NO_INPUT, EndReason.HANGUP), id="hang-up before a word"),
    pytest.param(
        [SpeechStarted(s(1)), HangUp(s(2))], (2.0, State.FINISHED, EndReason.HANGUP), id="hang-up after a word"
    ),
    pytest.param([TapFailed(s(1), "gone")], (1.0, State.ERROR, EndReason.ERROR), id="tap failed"),
    pytest.param([Transfer(s(1))], (1.0, State.FINISHED, EndReason.TRANSFER), id="transfer"),
    pytest.param([Hold(s(1)), Audio(s(3.9))], None, id="a hold does not end it"),
    pytest.param(
        [Hold(s(1)), Audio(s(4))],
        (4.0, State.NO_INPUT, EndReason.INITIAL_TIMEOUT),
        id="a hold is silence to the timers",
    ),
]


@pytest.mark.parametrize(("events", "ending"), ENDS)
def test_what_ends_a_recording(events: list[Event], ending: tuple[float, State, EndReason] | None) -> None:
    machine, actions = run(USUAL, *events)
    if ending is None:
        assert machine.state is State.RECORDING
        assert actions == []
    else:
        assert [(e.at, e.state, e.reason) for e in actions if isinstance(e, End)] == [(s(ending[0]), *ending[1:])]
        assert machine.end == actions[-1]


@pytest.mark.parametrize(
    ("limits", "events"),
    [
        (Limits(initial_timeout=0), [Audio(s(10_000))]),
        (Limits(initial_timeout=1, end_silence=0), [SpeechStarted(0), SpeechEnded(10), Audio(s(10_000))]),
        (Limits(max_length=0, end_silence=5), [SpeechStarted(0), Audio(s(10_000))]),
        (Limits(end_silence=5), [Audio(s(10_000))]),
    ],
    ids=["initial timeout", "end silence", "maximum length", "end silence before any speech"],
)
def test_zero_switches_a_limit_off(limits: Limits, events: list[Event]) -> None:
    assert run(limits, *events)[0].state is State.RECORDING


def test_without_an_initial_timeout_a_silent_hang_up_is_finished() -> None:
    machine, _ = run(Limits(), Audio(s(1)), HangUp(s(2)))
    assert machine.state is State.FINISHED


def test_the_terminator_that_ended_it_is_kept() -> None:
    machine, _ = run(Limits(terminators=frozenset("#*")), Digit(5, "*"))
    assert machine.end is not None
    assert machine.end.terminator == "*"


def test_timers_stand_still_in_a_masked_pause() -> None:
    """The tap grows with silence from second 2 to 12; four seconds of initial timeout end at 14."""
    masked = [Pause(s(2), PauseBehavior.SILENCE), Audio(s(10)), Resume(s(12))]
    going_on, actions = run(USUAL, *masked, Audio(s(13.9)))
    assert actions == [PauseTap(PauseBehavior.SILENCE), ResumeTap(PauseBehavior.SILENCE)]
    assert going_on.deadline() == s(14)
    ended, _ = going_on.step(Audio(s(15)))
    assert ended.end == End(s(14), State.NO_INPUT, EndReason.INITIAL_TIMEOUT)
    assert [(p.start, p.end) for p in ended.pauses] == [(s(2), s(12))]


def test_end_silence_and_maximum_length_stand_still_in_a_pause() -> None:
    limits = Limits(end_silence=s(5), max_length=s(9))
    spoken = [SpeechStarted(0), SpeechEnded(s(1)), Pause(s(3), PauseBehavior.SILENCE), Resume(s(103))]
    assert run(limits, *spoken)[0].deadline() == s(106)
    assert run(Limits(max_length=s(9)), *spoken)[0].deadline() == s(109)


def test_a_paused_recording_has_no_deadline_and_ends_all_the_same() -> None:
    paused, _ = run(USUAL, Pause(s(1)))
    assert paused.state is State.PAUSED
    assert paused.deadline() is None
    for event, reason in [
        (HangUp(s(1)), EndReason.HANGUP),
        (Stop(s(1)), EndReason.STOP),
        (Digit(s(1), "#"), EndReason.TERMINATOR),
        (TapFailed(s(1)), EndReason.ERROR),
    ]:
        ended, _ = paused.step(event)
        assert ended.end is not None
        assert ended.end.reason is reason
        assert len(ended.pauses) == 1


def test_pausing_twice_and_resuming_unpaused_do_nothing() -> None:
    paused, _ = run(USUAL, Pause(10))
    assert paused.step(Pause(20))[1] == ()
    assert run(USUAL, Resume(10))[1] == []


def test_a_pause_notes_who_began_it_when_and_who_ended_it() -> None:
    paused, _ = run(USUAL, Pause(s(1), PauseBehavior.SKIP, PauseCause.DIGITS, since=1.7e9))
    assert paused.pausing is not None
    assert (paused.pausing.began_by, paused.pausing.ended_by, paused.pausing.since) == (PauseCause.DIGITS, None, 1.7e9)
    for event, ended_by in [
        (Resume(s(1), PauseCause.LIMIT), PauseCause.LIMIT),
        (Resume(s(1)), PauseCause.API),
        (HangUp(s(1)), PauseCause.END),
        (Stop(s(1)), PauseCause.END),
    ]:
        (span,) = paused.step(event)[0].pauses
        assert (span.began_by, span.ended_by, span.since) == (PauseCause.DIGITS, ended_by, 1.7e9)


def test_of_two_limits_due_at_once_the_one_about_speech_is_told() -> None:
    limits = Limits(initial_timeout=s(4), max_length=s(4))
    assert run(limits, Audio(s(4)))[0].state is State.NO_INPUT


def test_a_hold_is_noted_with_its_side_and_ends_with_the_recording() -> None:
    held, _ = run(Limits(), Hold(s(1)), Hold(s(2), far=True), Unhold(s(3)), Hold(s(5)))
    assert (held.holds_by(False), held.holds_by(True)) == (True, True)
    ended, _ = held.step(Stop(s(6)))
    assert set(ended.holds) == {HoldSpan(s(1), s(3)), HoldSpan(s(2), s(6), far=True), HoldSpan(s(5), s(6))}
    assert ended.on_hold == ()


def test_holding_twice_and_unholding_what_is_not_held_do_nothing() -> None:
    held, _ = run(Limits(), Hold(s(1)), Hold(s(2)), Unhold(s(3), far=True))
    assert (held.on_hold, held.holds) == ((Hold(s(1)),), ())
    assert held.step(Unhold(s(4)))[0].holds == (HoldSpan(s(1), s(4)),)


# ---- whatever comes, in any order

samples = st.integers(0, 100_000)
events = st.one_of(
    st.builds(Audio, samples),
    st.builds(SpeechStarted, samples),
    st.builds(SpeechEnded, samples),
    st.builds(Digit, samples, st.sampled_from("0123456789ABCD*#")),
    st.builds(Pause, samples, st.sampled_from(PauseBehavior)),
    st.builds(Resume, samples),
    st.builds(Hold, samples, st.booleans()),
    st.builds(Unhold, samples, st.booleans()),
    st.builds(Stop, samples),
    st.builds(HangUp, samples),
    st.builds(Transfer, samples),
    st.builds(TapFailed, samples, st.text(max_size=5)),
)
limits = st.builds(
    Limits,
    initial_timeout=st.integers(0, 40_000),
    end_silence=st.integers(0, 40_000),
    max_length=st.integers(0, 90_000),
    terminators=st.frozensets(st.sampled_from("0123456789ABCD*#")),
)


@given(limits, st.lists(events, max_size=40), samples)
def test_it_ends_in_one_final_state_once_and_never_outlives_its_call(
    limits: Limits, happened: list[Event], hung_up: int
) -> None:
    machine, actions = run(limits, *happened, HangUp(hung_up))
    ends = [action for action in actions if isinstance(action, End)]
    assert len(ends) == 1
    assert ends[0] == actions[-1] == machine.end
    assert machine.state is ends[0].state
    assert machine.state.final
    assert machine.deadline() is None
    after, more = machine.step(Stop(10**9))
    assert after == machine
    assert more == ()


@given(limits, st.lists(events, max_size=40))
def test_time_never_runs_back_and_the_end_lies_within_what_was_heard(limits: Limits, happened: list[Event]) -> None:
    machine, latest = Machine(limits), 0
    for event in happened:
        before = machine
        machine, actions = machine.step(event)
        if before.state.final:
            continue
        latest = max(latest, event.at)
        for action in actions:
            if isinstance(action, End):
                assert before.at <= action.at <= latest
    if limits.max_length and machine.end is not None:
        assert machine.end.at - machine.held <= limits.max_length


@given(limits, st.lists(events, max_size=40))
def test_pause_and_resume_alternate(limits: Limits, happened: list[Event]) -> None:
    _, actions = run(limits, *happened)
    kinds = [type(action) for action in actions if not isinstance(action, End)]
    assert all(first is not second for first, second in pairwise(kinds))
    assert kinds[:1] != [ResumeTap]


@given(limits, st.lists(events, max_size=30))
def test_the_deadline_is_when_it_ends_if_nothing_else_happens(limits: Limits, happened: list[Event]) -> None:
    machine, _ = run(limits, *happened)
    deadline = machine.deadline()
    if deadline is None:
        assert machine.state is not State.RECORDING or not machine.step(Audio(10**12))[0].state.final
    else:
        if deadline - 1 >= machine.at:
            assert not machine.step(Audio(deadline - 1))[0].state.final
        ended, _ = machine.step(Audio(max(deadline, machine.at)))
        assert ended.end is not None
        assert ended.end.at == deadline


@given(limits, st.lists(st.tuples(st.booleans(), st.integers(1, 20_000)), max_size=20), st.data())
def test_how_often_it_is_told_of_time_changes_nothing(
    limits: Limits, spans: list[tuple[bool, int]], data: st.DataObject
) -> None:
    """Ticks between the changes of speech, in any number, lead to the same end at the same sample."""
    told: list[Event] = []
    at = 0
    for speaking, length in spans:
        told.append(SpeechStarted(at) if speaking else SpeechEnded(at))
        at += length
    plain = [*told, HangUp(at)]
    ticking: list[Event] = []
    for event, following in pairwise(plain):
        ticks = sorted(data.draw(st.lists(st.integers(event.at, following.at), max_size=3)))
        ticking += [event, *(Audio(tick) for tick in ticks)]
    ticking.append(plain[-1])
    assert run(limits, *plain)[0].end == run(limits, *ticking)[0].end


lasting = st.one_of(
    st.builds(Audio, samples),
    st.builds(SpeechStarted, samples),
    st.builds(SpeechEnded, samples),
    st.builds(Pause, samples, st.sampled_from(PauseBehavior)),
    st.builds(Resume, samples),
    st.builds(Hold, samples, st.booleans()),
    st.builds(Unhold, samples, st.booleans()),
)
"""What ends no recording that has no limits."""


@given(limits, st.lists(events, max_size=40), samples)
def test_holds_lie_in_the_recording_and_those_of_a_side_do_not_overlap(
    limits: Limits, happened: list[Event], hung_up: int
) -> None:
    machine, _ = run(limits, *happened, HangUp(hung_up))
    assert machine.end is not None
    assert machine.on_hold == ()
    for far in (False, True):
        edges = [edge for hold in machine.holds if hold.far is far for edge in (hold.start, hold.end)]
        assert edges == sorted(edges)
        assert all(0 <= edge <= machine.end.at for edge in edges)


@given(st.lists(lasting, max_size=40))
def test_a_side_holds_from_its_first_hold_to_its_next_unhold(happened: list[Event]) -> None:
    machine, now = Machine(Limits()), 0
    held: dict[bool, int] = {}
    expected: list[HoldSpan] = []
    for event in happened:
        machine, _ = machine.step(event)
        now = max(now, event.at)
        match event:
            case Hold(far=far):
                held.setdefault(far, now)
            case Unhold(far=far) if far in held:
                expected.append(HoldSpan(held.pop(far), now, far))
        assert [machine.holds_by(far) for far in (False, True)] == [far in held for far in (False, True)]
    assert list(machine.holds) == expected


@given(limits, st.lists(events, max_size=40), samples)
def test_holds_change_nothing_but_what_is_noted_of_them(limits: Limits, happened: list[Event], hung_up: int) -> None:
    """Timers, states and pauses are those of a recording that was told of the time alone."""
    unheld = [Audio(event.at) if isinstance(event, Hold | Unhold) else event for event in happened]
    one, actions = run(limits, *happened, HangUp(hung_up))
    other, same = run(limits, *unheld, HangUp(hung_up))
    assert actions == same
    assert (one.state, one.end, one.pauses, one.held) == (other.state, other.end, other.pauses, other.held)
    assert other.holds == ()


@given(limits, st.lists(events, max_size=40))
def test_the_same_events_at_the_times_they_were_told_lead_to_the_same_end(
    limits: Limits, happened: list[Event]
) -> None:
    """An event that came late counts where it was told; only the end of a voice says itself when that was."""
    machine, told = Machine(limits), []
    for event in happened:
        if machine.state.final:
            break
        now = max(machine.at, event.at)
        told.append(event if isinstance(event, SpeechEnded) else replace(event, at=now))
        machine, _ = machine.step(event)
    assert run(limits, *told)[0] == machine
