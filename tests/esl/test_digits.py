"""Digits a party presses, collected, ignored, and digits sent to it."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import gevent
import pytest
from gevent.event import Event as Flag
from hypothesis import given, settings
from hypothesis import strategies as st
from test_esl_session import Line, opened, result

from esl_record.errors import CallGone, CommandRefused
from esl_record.esl.digits import Collected, collect
from esl_record.esl.session import Session
from esl_record.esl.wire import Event

LIMIT = 5.0
"""Seconds a test waits for what must come."""

LONG = 3600.0


class Phone:
    """A session whose party presses digits, and which keeps what was begun and broken off."""

    def __init__(self) -> None:
        self.over = Flag()
        self.listeners: list[Callable[[Event], None]] = []
        self.done: list[str] = []
        self.ending = Flag()

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def press(self, digits: str) -> None:
        for digit in digits:
            for listener in tuple(self.listeners):
                listener(Event({"Event-Name": "DTMF", "DTMF-Digit": digit}))

    def hang_up(self) -> None:
        self.over.set()
        for listener in tuple(self.listeners):
            listener(Event({"Event-Name": "CHANNEL_HANGUP"}))

    def play(self, *sounds: str) -> None:
        """Plays until ``ending``."""
        for sound in sounds:
            self.done.append(sound)
            self.ending.wait()
            self.ending.clear()

    def uuid_break(self) -> None:
        self.done.append("break")

    def raise_if_disconnected(self) -> None:
        if self.over.is_set():
            raise CallGone("gone")


class Collecting:
    """``collect`` under way."""

    def __init__(self, **options: Any) -> None:
        self.phone = Phone()
        wanted = {"most": 3, "terminators": "", "initial_timeout": LONG, "digit_timeout": LONG, **options}
        session = cast(Session, self.phone)
        self.task = gevent.spawn(collect, session, lambda: self.phone.play("one", "two"), **wanted)
        gevent.idle()

    def end(self) -> Collected:
        collected: Collected = self.task.get(timeout=LIMIT)
        gevent.idle()
        assert self.phone.listeners == []
        assert self.phone.over.linkcount() == 0
        return collected


def sound_ends(collecting: Collecting, times: int = 2) -> None:
    for _ in range(times):
        collecting.phone.ending.set()
        gevent.idle()


def test_digits_after_the_sound_are_collected() -> None:
    collecting = Collecting()
    sound_ends(collecting)
    collecting.phone.press("12")
    collecting.phone.press("3")
    assert collecting.end() == Collected("123", "")
    assert collecting.phone.done == ["one", "two"]


def test_the_first_digit_ends_the_sound_and_those_after_it() -> None:
    collecting = Collecting()
    collecting.phone.press("1")
    gevent.idle()
    assert collecting.phone.done == ["one", "break"]
    sound_ends(collecting)
    collecting.phone.press("23")
    assert collecting.end() == Collected("123", "")
    assert collecting.phone.done == ["one", "break"]


def test_a_terminator_ends_it_and_is_no_digit() -> None:
    collecting = Collecting(terminators="*#")
    collecting.phone.press("1#2")
    assert collecting.end() == Collected("1", "#")


def test_a_terminator_alone_ends_the_sound_too() -> None:
    collecting = Collecting(terminators="#")
    collecting.phone.press("#")
    assert collecting.end() == Collected("", "#")
    assert collecting.phone.done == ["one", "break"]


def test_what_was_pressed_before_does_not_count() -> None:
    phone = Phone()
    phone.press("9")
    collecting = Collecting(most=1)
    collecting.phone.press("1")
    assert collecting.end() == Collected("1", "")


def test_more_than_wanted_are_left() -> None:
    collecting = Collecting(most=2)
    collecting.phone.press("1234")
    assert collecting.end() == Collected("12", "")


def test_the_initial_timeout_runs_from_the_end_of_the_sound() -> None:
    collecting = Collecting(initial_timeout=0.0)
    gevent.sleep(0.02)
    assert not collecting.task.ready()
    sound_ends(collecting)
    assert collecting.end() == Collected("", "")


def test_the_digit_timeout_runs_from_each_digit() -> None:
    collecting = Collecting(digit_timeout=0.05)
    sound_ends(collecting)
    gevent.sleep(0.1)
    assert not collecting.task.ready()
    collecting.phone.press("1")
    assert collecting.end() == Collected("1", "")


@pytest.mark.parametrize("ended", [False, True], ids=["while it plays", "after the sound"])
def test_a_hang_up_ends_it(ended: bool) -> None:
    collecting = Collecting()
    if ended:
        sound_ends(collecting)
    collecting.phone.hang_up()
    with pytest.raises(CallGone):
        collecting.end()


def test_the_end_of_the_connection_ends_it() -> None:
    collecting = Collecting()
    collecting.phone.over.set()
    with pytest.raises(CallGone):
        collecting.end()


def test_what_fails_in_playing_is_raised_and_printed_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    def play() -> None:
        raise CommandRefused("playback: -ERR")

    session = cast(Session, Phone())
    with pytest.raises(CommandRefused, match="playback"):
        collect(session, play, most=1, terminators="", initial_timeout=LONG, digit_timeout=LONG)
    assert capfd.readouterr().err == ""


def test_ended_from_outside_it_plays_no_more() -> None:
    collecting = Collecting()
    collecting.task.kill()
    sound_ends(collecting)
    assert collecting.phone.done == ["one"]
    assert collecting.phone.listeners == []


def test_an_event_without_a_digit_means_nothing() -> None:
    collecting = Collecting(initial_timeout=0.0)
    for listener in tuple(collecting.phone.listeners):
        listener(Event({"Event-Name": "DTMF"}))
    gevent.sleep(0.01)
    assert not collecting.task.ready()
    collecting.phone.press("abc")
    assert collecting.end() == Collected("ABC", "")


@settings(deadline=None)
@given(st.text("0123456789*#ABCD", max_size=8), st.integers(1, 8), st.text("0123456789*#", max_size=3), st.data())
def test_the_digits_are_what_stands_before_the_terminator(
    pressed: str, most: int, terminators: str, data: st.DataObject
) -> None:
    collecting = Collecting(most=most, terminators=terminators, digit_timeout=0.0, initial_timeout=0.0)
    if data.draw(st.booleans()):
        collecting.phone.press(pressed)
    else:
        collecting.phone.press(pressed[:1])
        collecting.phone.press(pressed[1:])
    sound_ends(collecting)
    found = next((at for at, digit in enumerate(pressed[:most]) if digit in terminators), None)
    found = most if found is None and len(pressed) >= most else found
    expected = pressed[:found][:most]
    after = pressed[len(expected) : len(expected) + 1]
    terminator = after if len(expected) < most and after and after in terminators else ""
    assert collecting.end() == Collected(expected, terminator)


# ---- the session's verbs


@pytest.fixture
def line() -> Iterator[Line]:
    line = opened()
    yield line
    line.session.abort()
    line.peer.close()


IMMUNE = "uuid_setvar_multi u1 playback_terminators=none;sleep_eat_digits=true"


def test_digits_are_ignored_from_once_on(line: Line) -> None:
    asking = line.does(line.session.ignore_digits)
    assert line.answers() == IMMUNE
    result(asking)
    line.session.ignore_digits()
    assert line.silent()


def sent(line: Line, digits: str, told: list[str]) -> list[tuple[str, str]]:
    """What a switch hears of ``digits`` that tells each time how long they take."""
    sending = line.does(line.session.send_digits, digits)
    assert line.answers() == IMMUNE
    heard = []
    for lasts in told:
        name, argument, uuid = line.executed()
        headers = ("Event-Name: CHANNEL_EXECUTE_COMPLETE", f"Application-UUID: {uuid}")
        done = "\n".join([*headers, f"variable_last_dtmf_duration: {lasts}", "", ""])
        line.peer.send(f"Content-Length: {len(done)}\nContent-Type: text/event-plain\n\n{done}".encode())
        heard += [(name, argument), line.completes()]
    result(sending)
    return heard


@pytest.mark.parametrize(
    ("digits", "told", "milliseconds"),
    [
        ("12", "1000", "1040"),
        ("1", "700", "720"),
        ("1wW2", "1000", "2540"),
        ("12", "", "1040"),
        ("ww", "5000", "1000"),
    ],
)
def test_the_call_waits_until_digits_are_out(line: Line, digits: str, told: str, milliseconds: str) -> None:
    assert sent(line, digits, [told]) == [("send_dtmf", digits), ("sleep", milliseconds)]


def test_more_digits_than_the_switch_takes_go_in_pieces(line: Line) -> None:
    assert sent(line, "1" * 150, ["49500", "25500"]) == [
        ("send_dtmf", "1" * 99),
        ("sleep", "51480"),
        ("send_dtmf", "1" * 51),
        ("sleep", "26520"),
    ]


def test_no_digits_are_not_sent(line: Line) -> None:
    assert sent(line, "", []) == []


def test_a_long_sleep_goes_in_pieces(line: Line) -> None:
    sleeping = line.does(line.session.sleep, 7_200_001)
    assert [line.completes()[1] for _ in range(3)] == ["3600000", "3600000", "1"]
    result(sleeping)


@pytest.mark.parametrize(("level", "sent"), [(-4, "start write level -4"), (2, "start write level 2"), (0, "stop")])
def test_the_level_is_the_switchs(line: Line, level: int, sent: str) -> None:
    asking = line.does(line.session.audio_level, level)
    assert line.answers() == f"uuid_audio u1 {sent}"
    result(asking)
