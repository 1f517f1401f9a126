"""The session a Python handler is given: what its verbs tell the switch, and what they answer."""

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import gevent
import pytest
from handler_fakes import (
    PATIENCE,
    PLAYED,
    FakeRecorder,
    FakeRecordings,
    FakeSession,
    background,
    meanwhile,
    ran,
    session_on,
)
from hypothesis import given
from hypothesis import strategies as st

from esl_record.errors import CallGone, CommandRefused, CommandTimeout, WireError
from esl_record.esl import wire
from esl_record.handlers import DTMF, RecordResult
from esl_record.handlers import call as handled
from esl_record.handlers.call import AFTERLIFE
from esl_record.handlers.session import CallSession
from esl_record.recording.machine import PauseBehavior, PauseCause
from esl_record.recording.params import ParameterError, RecordParams

TOLD: list[tuple[str, tuple[Any, ...], object, list[tuple[object, ...]]]] = [
    ("answer", (), 1, [("answer",)]),
    ("preAnswer", (), 1, [("pre_answer", "")]),
    ("execute", ("playback", "/a b.wav"), None, [("playback", "/a b.wav")]),
    ("execute", ("answer",), None, [("answer", "")]),
    ("execute", ("log", "INFO a\nb\0c"), None, [("log", "INFO a b c")]),
    ("streamFile", ("/a.wav",), 1, [("playback", "/a.wav")]),
    ("streamFile", ("/a.wav", 8000), 1, [("playback", "/a.wav@@8000")]),
    ("streamFile", ("/a\r\n.wav",), 1, [("playback", "/a .wav")]),
    ("speak", ("hello",), 1, [("speak", "flite|kal|hello")]),
    ("say", ("12", "en", "number", "pronounced"), None, [("say", "en number pronounced 12")]),
    ("say", ("12", "de", "number", "pronounced", "neuter"), None, [("say", "de number pronounced neuter 12")]),
    ("sayPhrase", ("welcome",), None, [("phrase", "welcome,")]),
    ("sayPhrase", ("welcome", "x"), None, [("phrase", "welcome,x")]),
    ("sleep", (500,), 1, [("sleep", 500)]),
    ("sleep", (-1,), 1, [("sleep", 0)]),
    ("recordFile", ("/a b.wav",), 1, [("record", "'/a b.wav' 0 0 0")]),
    ("recordFile", ("/a.wav", 30, 500, 3), 1, [("record", "'/a.wav' 30 500 3")]),
    ("transfer", ("7000",), 1, [("transfer", "7000")]),
    ("transfer", ("7000", "XML", "public"), 1, [("transfer", "7000 XML public")]),
    ("transfer", ("7000", None, "public"), 1, [("transfer", "7000 XML public")]),
    ("hangup", (), None, [("hangup", "NORMAL_CLEARING")]),
    ("hangup", ("user_busy",), None, [("hangup", "USER_BUSY")]),
    ("flushEvents", (), 0, []),
    ("ready", (), True, []),
    ("getState", (), "CS_EXECUTE", []),
    ("get_uuid", (), "3f5b", []),
    ("hangupCause", (), "NONE", []),
]


@pytest.mark.parametrize(("verb", "arguments", "answered", "told"), TOLD)
def test_a_verb_tells_the_switch(
    verb: str, arguments: tuple[Any, ...], answered: object, told: list[tuple[object, ...]]
) -> None:
    fake = FakeSession()
    assert (getattr(session_on(fake), verb)(*arguments), fake.applications) == (answered, told)


ANSWERING: list[tuple[str, tuple[Any, ...]]] = [
    ("streamFile", ("/a.wav",)),
    ("speak", ("hello",)),
    ("say", ("12", "en", "number", "pronounced")),
    ("sayPhrase", ("welcome",)),
    ("recordFile", ("/a.wav",)),
    ("collectDigits", (1,)),
    ("getDigits", (1, "#", 1)),
    ("read", (1, 1, "silence", 1, "#")),
    ("playAndGetDigits", (1, 1, 1, 1, "#", "", "", "")),
    ("record", ()),
]


@pytest.mark.parametrize(("verb", "arguments"), ANSWERING, ids=[verb for verb, _ in ANSWERING])
@pytest.mark.parametrize("chosen", ["", "setAutoAnswer", "preAnswer"])
def test_a_verb_that_plays_reads_or_records_answers_first_unless_early_media_was_chosen(
    verb: str, arguments: tuple[Any, ...], chosen: str
) -> None:
    fake = FakeSession(answered=False)
    session = session_on(fake)
    if chosen:
        getattr(session, chosen)(*([False] if chosen == "setAutoAnswer" else []))
    for _ in range(2):
        getattr(session, verb)(*arguments)
    told = [verb for verb, *_ in fake.applications]
    assert told.count("answer") == (0 if chosen else 1)
    assert chosen or told[0] == "answer"


def test_a_verb_that_only_waits_leaves_a_call_unanswered() -> None:
    fake = FakeSession(answered=False)
    session = session_on(fake)
    session.sleep(10)
    session.execute("playback", "/a.wav")
    session.record(early_media=True)
    assert ("answer",) not in fake.applications


@pytest.mark.parametrize("verb", ["set_tts_params", "set_tts_parms"])
def test_speech_has_the_engine_and_voice_that_were_set(verb: str) -> None:
    fake = FakeSession()
    session = session_on(fake)
    getattr(session, verb)("engine", "voice")
    session.speak("hello")
    assert fake.applications == [("speak", "engine|voice|hello")]
    assert (session.tts_name, session.voice_name, session.uuid) == ("engine", "voice", "3f5b")


def test_a_phrase_has_its_language() -> None:
    fake = FakeSession()
    session_on(fake).sayPhrase("welcome", "x", "de")
    assert (fake.applications, fake.variables["language"]) == ([("phrase", "welcome,x")], "de")


GONE: list[tuple[str, tuple[Any, ...], object]] = [
    ("answer", (), 0),
    ("preAnswer", (), 0),
    ("hangup", (), None),
    ("execute", ("playback", "/a.wav"), None),
    ("streamFile", ("/a.wav",), 0),
    ("speak", ("hello",), 0),
    ("say", ("12", "en", "number", "pronounced"), None),
    ("sayPhrase", ("welcome",), None),
    ("sleep", (10_000,), 0),
    ("recordFile", ("/a.wav",), 0),
    ("collectDigits", (10_000,), 0),
    ("getDigits", (4, "#", 0), ""),
    ("read", (1, 4, "/a.wav", 10_000, "#"), ""),
    ("playAndGetDigits", (1, 4, 500, 10_000, "#", "/a.wav", "/b.wav", ""), ""),
    ("transfer", ("7000",), 0),
    ("setVariable", ("a", "b"), None),
    ("stop_record_call", (), False),
    ("ready", (), False),
    ("answered", (), False),
    ("mediaReady", (), False),
    ("bridged", (), False),
    ("getState", (), "CS_HANGUP"),
    ("hangupCause", (), "USER_BUSY"),
]


@pytest.mark.parametrize(("verb", "arguments", "answered"), GONE, ids=[verb for verb, _, _ in GONE])
def test_a_verb_on_a_call_that_has_gone_does_nothing(verb: str, arguments: tuple[Any, ...], answered: object) -> None:
    fake = FakeSession()
    session = session_on(fake)
    fake.caller_hangs_up("USER_BUSY")
    with gevent.Timeout(PATIENCE):
        assert getattr(session, verb)(*arguments) == answered
    assert fake.applications == []


@pytest.mark.parametrize(
    ("application", "verb", "answered"),
    [
        ("playback", lambda s: s.streamFile("/a.wav"), 0),
        ("sleep", lambda s: s.sleep(10_000), 0),
        ("conference", lambda s: s.execute("conference", "room"), None),
        ("playback", lambda s: s.read(1, 4, "/a.wav", 10_000, "#"), ""),
    ],
)
@pytest.mark.parametrize("gone", ["caller_hangs_up", "transferred_away", "connection_breaks"])
def test_a_verb_ends_when_the_call_goes(
    application: str, verb: Callable[[CallSession], object], answered: object, gone: str
) -> None:
    fake = FakeSession(slow=[application])
    session = session_on(fake)
    meanwhile(fake, getattr(fake, gone))
    with gevent.Timeout(PATIENCE):
        assert verb(session) == answered
    assert not session.ready()


@pytest.mark.parametrize("error", [CommandRefused("-ERR no"), CommandTimeout("call 3f5b: no answer")])
def test_what_the_switch_refuses_is_logged_and_answered_with_nothing(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeSession()
    session = session_on(fake)

    def refuse(_: str) -> None:
        raise error

    fake.playback = refuse  # type: ignore[method-assign,assignment]
    assert session.streamFile("/a.wav") == 0
    assert str(error) in caplog.text


def test_a_file_that_is_not_there_is_no_success() -> None:
    fake = FakeSession(answers={"playback": {"Application-Response": "FILE NOT FOUND"}})
    assert session_on(fake).streamFile("/a.wav") == 0


@pytest.mark.parametrize(
    "destination",
    [("",), ("7000 inline",), ("-both",), ("7'0",), ("7000", "X ML"), ("7000", "XML", "a\nb"), ("7\\0",)],
)
def test_a_transfer_goes_to_one_extension(destination: tuple[str, ...]) -> None:
    fake = FakeSession()
    with pytest.raises(ValueError, match="transfer"):
        session_on(fake).transfer(*destination)
    assert fake.told == []


@pytest.mark.parametrize("file", ["", "/a'b.wav", "/a\\b.wav"])
def test_a_file_to_record_to_needs_a_plain_name(file: str) -> None:
    with pytest.raises(ValueError, match="recordFile"):
        session_on(FakeSession()).recordFile(file)


@given(text=st.text(max_size=40))
def test_no_text_of_a_handler_breaks_the_line(text: str) -> None:
    fake = FakeSession()
    session = session_on(fake)
    session.streamFile(text)
    session.execute("log", text)
    session.sayPhrase("greeting", text)
    session.hangup(text)
    sent = [str(part) for verb in fake.told for part in verb[1:]]
    assert not [part for part in sent if set(part) & set("\r\n\0")]


@pytest.mark.parametrize("gone", ["caller_hangs_up", "transferred_away", "connection_breaks"])
def test_nobody_is_waited_for_who_has_gone(gone: str) -> None:
    fake = FakeSession()
    session = session_on(fake)
    fake.press("1")
    gevent.spawn_later(0.02, getattr(fake, gone))
    with gevent.Timeout(PATIENCE):
        assert session.getDigits(4, "#", 0) == "1"
    assert not session.ready()


# ---- variables


def test_variables_are_the_channels() -> None:
    fake = FakeSession(there="yes")
    session = session_on(fake)
    session.setVariable("a", 5)
    session.setVariable("there", None)
    assert fake.told == [("set", "a", "5"), ("set", "there", "")]
    assert (session.getVariable("a"), session.getVariable("there")) == ("5", None)


def test_variables_of_a_call_that_has_gone_are_those_it_ended_with() -> None:
    fake = FakeSession(a="begun")
    session = session_on(fake)
    fake.caller_hangs_up(a="ended")
    assert (session.getVariable("a"), session.getVariable("b")) == ("ended", None)


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "${a}"])
def test_a_variables_name_is_checked(name: str) -> None:
    session = session_on(FakeSession())
    with pytest.raises(WireError):
        session.getVariable(name)


def test_events_tell_of_media_and_bridges() -> None:
    fake = FakeSession()
    session = session_on(fake)
    states = [(session.mediaReady(), session.bridged())]
    for event in ("CHANNEL_PROGRESS_MEDIA", "CHANNEL_BRIDGE", "CHANNEL_UNBRIDGE"):
        fake.event(event)
        states.append((session.mediaReady(), session.bridged()))
    assert states == [(False, False), (True, False), (True, True), (True, False)]


def test_the_console_log_is_the_services(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    session = session_on(FakeSession())
    for level in ("err", "WARNING", "notice", "info", "nonsense"):
        session.consoleLog(level, "so it is")
    session.consoleLog2("crit", "a.py", "f", 3, "lost")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "call 3f5b: so it is"),
        ("WARNING", "call 3f5b: so it is"),
        ("INFO", "call 3f5b: so it is"),
        ("INFO", "call 3f5b: so it is"),
        ("DEBUG", "call 3f5b: so it is"),
        ("CRITICAL", "call 3f5b: a.py:3 f: lost"),
    ]


# ---- the input callback


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        (None, False),
        ("", False),
        ("true", False),
        ("undefined", False),
        (True, False),
        ("pause", False),
        ("seek:+2000", False),
        ("volume:-1", False),
        ("restart", False),
        ("break", True),
        ("stop", True),
        ("false", True),
        (False, True),
        (0, True),
        ("seek:far", True),
        ("pause; api status", True),
    ],
)
def test_the_input_callback_decides_whether_playing_goes_on(answer: object, ends: bool) -> None:
    fake = FakeSession(slow=["playback"])
    session = session_on(fake)
    heard: list[object] = []

    def callback(who: object, what: str, digit: DTMF, extra: object) -> object:
        heard.append((who, what, digit, extra))
        return answer

    session.setInputCallback(callback, "extra")
    meanwhile(fake, lambda: fake.press("5"), *([] if ends else [fake.complete]))
    assert session.streamFile("/a.wav") == (0 if ends else 1)
    assert heard == [(session, "dtmf", DTMF("5", 1600), "extra")]
    commands = [("api", f"uuid_fileman 3f5b {answer}")] if not ends and ":" in str(answer) else []
    commands += [("api", f"uuid_fileman 3f5b {answer}")] if answer in ("pause", "restart") else []
    assert fake.applications == [("playback", "/a.wav"), *commands, *([("break",)] if ends else [])]


def test_without_extra_the_callback_has_three_arguments() -> None:
    fake = FakeSession(slow=["playback"])
    session = session_on(fake)
    session.setInputCallback(lambda session, what, digit: digit.digit != "2")
    meanwhile(fake, lambda: fake.press("12"))
    assert session.streamFile("/a.wav") == 0


@pytest.mark.parametrize(
    ("application", "verb"),
    [
        ("speak", lambda s: s.speak("hello")),
        ("sleep", lambda s: s.sleep(10_000)),
        ("record", lambda s: s.recordFile("/a.wav")),
        ("say", lambda s: s.say("1", "en", "number", "iterated")),
        ("phrase", lambda s: s.sayPhrase("welcome")),
    ],
)
def test_the_callback_ends_whatever_plays(application: str, verb: Callable[[CallSession], object]) -> None:
    fake = FakeSession(slow=[application])
    session = session_on(fake)
    session.setInputCallback(lambda *_: "break")
    meanwhile(fake, lambda: fake.press("1"))
    assert not verb(session)
    assert fake.applications[-1] == ("break",)


def test_a_digit_that_waits_ends_the_next_sound_before_it_begins() -> None:
    fake = FakeSession()
    session = session_on(fake)
    session.setInputCallback(lambda *_: "break")
    fake.press("12")
    assert (session.streamFile("/a.wav"), fake.applications) == (0, [])
    session.unsetInputCallback()
    assert session.getDigits(1, "", 1) == "2"


def test_no_callback_is_called_but_while_something_plays() -> None:
    fake = FakeSession(slow=["bridge"])
    session = session_on(fake)
    session.setInputCallback(lambda *_: pytest.fail("nothing plays"))
    meanwhile(fake, lambda: fake.press("1"), fake.complete)
    session.execute("bridge", "x")
    fake.press("2")
    # The bridge has had its digit.
    assert session.getDigits(2, "", 1) == "2"


def test_a_callback_that_fails_ends_the_sound_and_fails_the_handler() -> None:
    fake = FakeSession(slow=["playback"])
    session = session_on(fake)
    session.setInputCallback(lambda *_: 1 // 0)
    meanwhile(fake, lambda: fake.press("1"))
    with pytest.raises(ZeroDivisionError):
        session.streamFile("/a.wav")
    assert fake.applications[-1] == ("break",)


def test_a_callback_may_play_something_itself() -> None:
    fake = FakeSession(slow=["playback"])
    session = session_on(fake)
    session.setInputCallback(lambda session, *_: session.speak("you pressed"))
    meanwhile(fake, lambda: fake.press("1"))
    assert session.streamFile("/a.wav") == 0
    assert fake.applications == [("playback", "/a.wav"), ("speak", "flite|kal|you pressed"), ("break",)]


@pytest.mark.parametrize("verb", ["setInputCallback", "setHangupHook"])
def test_a_callback_must_be_a_function(verb: str) -> None:
    with pytest.raises(TypeError, match=verb):
        getattr(session_on(FakeSession()), verb)("handler")


def test_collect_digits_gives_the_digits_to_the_callback_until_time_is_up() -> None:
    fake = FakeSession()
    session = session_on(fake)
    heard: list[str] = []
    session.setInputCallback(lambda session, what, digit: heard.append(digit.digit))
    fake.press("12")
    assert session.collectDigits(50) == 0
    gevent.spawn_later(0.02, fake.press, "3")
    assert session.collectDigits(60, 10_000) == 0
    assert heard == ["1", "2", "3"]
    session.setInputCallback(lambda *_: "break")
    fake.press("45")
    assert session.collectDigits(10_000) == 0
    session.unsetInputCallback()
    assert session.collectDigits(10_000) == 0
    assert session.getDigits(1, "", 1) == "5"


# ---- the hang-up hook


def test_the_hook_is_called_once_from_the_verb_that_waits() -> None:
    fake = FakeSession(slow=["playback"])
    session = session_on(fake)
    calls: list[object] = []
    session.setHangupHook(lambda *given: calls.append(given), "extra")
    meanwhile(fake, fake.caller_hangs_up)
    assert session.streamFile("/a.wav") == 0
    assert calls == [(session, "hangup", "extra")]
    session.ready()
    session.speak("hello")
    assert len(calls) == 1


def test_the_hook_is_called_by_ready() -> None:
    fake = FakeSession()
    session = session_on(fake)
    calls: list[object] = []
    session.setHangupHook(lambda session, what: calls.append(what))
    assert session.ready()
    fake.caller_hangs_up()
    assert (calls, session.ready(), calls) == (["hangup"], False, ["hangup"])


def test_the_hook_is_called_at_the_latest_when_the_handler_returns() -> None:
    calls: list[object] = []

    def handler(session: CallSession, args: str) -> None:
        session.setHangupHook(lambda session, what: calls.append((what, session.getVariable("billsec"))))
        fake.caller_hangs_up(billsec="7")

    fake = FakeSession()
    ran(handler, fake)
    assert calls == [("hangup", "7")]


@pytest.mark.parametrize("away", [lambda s, f: s.transfer("7000"), lambda s, f: f.transferred_away()])
def test_the_hook_tells_a_transfer_from_a_hang_up(away: Callable[[CallSession, FakeSession], None]) -> None:
    fake = FakeSession()
    session = session_on(fake)
    calls: list[object] = []
    session.setHangupHook(lambda session, what: calls.append(what))
    away(session, fake)
    assert (session.ready(), session.getState(), calls) == (False, "CS_ROUTING", ["transfer"])


def test_the_handlers_own_hangup_calls_the_hook_too() -> None:
    session = session_on(FakeSession())
    calls: list[object] = []
    session.setHangupHook(lambda session, what: calls.append(what))
    session.hangup()
    assert calls == ["hangup"]


def test_no_hook_while_the_call_lives() -> None:
    def handler(session: CallSession, args: str) -> None:
        session.setHangupHook(lambda *_: pytest.fail("the call lives"))
        session.answer()

    ran(handler, FakeSession())


# ---- digits


@pytest.mark.parametrize(
    ("pressed", "arguments", "digits", "left"),
    [
        ("1234", (4, "#", 50), "1234", ""),
        ("12345", (4, "#", 50), "1234", "5"),
        ("12#3", (4, "#", 50), "12", "3"),
        ("#3", (4, "#", 50), "", "3"),
        ("12", (4, "#", 50), "12", ""),
        ("12", (4, "", 50), "12", ""),
        ("1*#", (4, "*#", 50), "1", "#"),
        ("", (4, "#", 50), "", ""),
        ("12", (4, "#", 0, 50), "12", ""),
        ("12", (4, "#", 0, 0, 50), "12", ""),
        ("12", (0, "#", 50), "", "12"),
    ],
)
def test_digits_pressed_before_count(pressed: str, arguments: tuple[Any, ...], digits: str, left: str) -> None:
    fake = FakeSession(slow=["playback"])
    session = session_on(fake)
    meanwhile(fake, lambda: fake.press(pressed), fake.complete)
    session.streamFile("/a.wav")
    with gevent.Timeout(PATIENCE):
        assert session.getDigits(*arguments) == digits
        assert session.getDigits(9, "", 1) == left


def test_flushed_digits_do_not() -> None:
    fake = FakeSession()
    session = session_on(fake)
    fake.press("12")
    assert session.flushDigits() == 0
    assert session.getDigits(2, "", 20) == ""


def test_digits_are_waited_for() -> None:
    fake = FakeSession()
    session = session_on(fake)
    for delay, digit in ((0.02, "1"), (0.04, "2"), (0.06, "#")):
        gevent.spawn_later(delay, fake.press, digit)
    assert session.getDigits(9, "#", 2000) == "12"


@given(digit=st.text(max_size=3), duration=st.text(max_size=12))
def test_only_digits_are_digits(digit: str, duration: str) -> None:
    fake = FakeSession()
    session = session_on(fake)
    fake.event("DTMF", DTMF_Digit=digit, DTMF_Duration=duration)
    taken = session.getDigits(1, "", 1)
    assert taken == (digit.upper() if digit and digit.upper() in "0123456789ABCD*#" and len(digit) == 1 else "")


def test_a_party_that_never_stops_pressing_fills_no_memory() -> None:
    fake = FakeSession()
    session = session_on(fake)
    fake.press("1" * 2000)
    assert len(session.getDigits(2000, "", 1)) == 512


@pytest.mark.parametrize(
    ("pressed", "arguments", "digits", "result", "terminator"),
    [
        ("12#", (1, 4, "/a.wav", 50, "#"), "12", "success", "#"),
        ("1234", (1, 4, "/a.wav", 50, "#"), "1234", "success", None),
        ("12", (1, 4, "/a.wav", 50, "#"), "12", "timeout", None),
        ("12", (3, 4, "/a.wav", 50, "#"), "12", "failure", None),
        ("12", (1, 4, "/a.wav", 50, "=#"), "12", "failure", None),
        ("12#", (1, 4, "/a.wav", 50, "=#"), "12", "success", "#"),
        ("12#", (1, 4, "/a.wav", 50, "+#"), "12#", "success", "#"),
        ("12*", (1, 4, "/a.wav", 50, "+#*"), "12", "success", "*"),
        ("", (1, 4, "/a.wav", 50, "#"), "", "failure", None),
        ("1", (0, 0, "silence", 50, "#"), "1", "success", None),
    ],
)
def test_read_follows_the_switchs_rules(
    pressed: str, arguments: tuple[Any, ...], digits: str, result: str, terminator: str | None
) -> None:
    fake = FakeSession()
    session = session_on(fake)
    gevent.spawn_later(0.01, fake.press, pressed)
    assert session.read(*arguments) == digits
    assert fake.variables.get("read_result") == result
    assert fake.variables.get("read_terminator_used") == terminator


def test_the_first_digit_ends_the_prompt() -> None:
    fake = FakeSession(slow=["playback"])
    session = session_on(fake)
    meanwhile(fake, lambda: fake.press("12#"))
    assert session.read(1, 4, "/a.wav", 1000, "#") == "12"
    assert fake.applications == [("playback", "/a.wav"), ("break",)]
    fake.press("3#")
    assert session.read(1, 4, "/a.wav", 1000, "#") == "3"
    assert len(fake.applications) == 2


def test_a_break_the_switch_never_completes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handled, "_BREAK_WAIT", 0.05)
    fake = FakeSession(slow=["playback"])
    fake.uuid_break = lambda: fake.told.append(("break",))  # type: ignore[method-assign]
    session = session_on(fake)
    meanwhile(fake, lambda: fake.press("1#"))
    with gevent.Timeout(PATIENCE):
        assert session.read(1, 4, "/a.wav", 1000, "#") == "1"


@pytest.mark.parametrize(
    ("tries", "regex", "digits", "sounds"),
    [
        (["12#"], "", "12", ["/ask"]),
        (["12#"], "^1", "12", ["/ask"]),
        (["22#", "12#"], "^1", "12", ["/ask", "/bad", "/ask"]),
        (["22#", "32#"], "^1", "", ["/ask", "/bad", "/ask", "/bad"]),
        (["", "12#"], "", "12", ["/ask", "/bad", "/ask"]),
        (["", ""], "", "", ["/ask", "/bad", "/ask", "/bad"]),
        (["1#", "123#"], r"\d{3}$", "123", ["/ask", "/bad", "/ask"]),
    ],
)
def test_play_and_get_digits_asks_until_they_match(
    tries: list[str], regex: str, digits: str, sounds: list[str]
) -> None:
    fake = FakeSession()
    session = session_on(fake)
    asked = iter(tries)

    def play(path: str) -> wire.Event:
        fake.told.append(("playback", path))
        if path == "/ask":
            gevent.spawn_later(0.01, fake.press, next(asked))
        return wire.Event(PLAYED)

    fake.playback = play  # type: ignore[method-assign]
    given = (1, 4, 2, 60, "#", "/ask", "/bad", regex)
    assert session.playAndGetDigits(*given, var_name="pin") == digits
    assert [verb[1] for verb in fake.applications] == sounds
    assert fake.variables.get("pin", "") == digits
    wrong = tries[-1].removesuffix("#") if regex and not digits else None
    assert fake.variables.get("pin_invalid") == wrong


def test_who_never_answers_is_transferred() -> None:
    fake = FakeSession()
    session = session_on(fake)
    assert session.playAndGetDigits(1, 4, 1, 1, "#", "/a", "", "", None, 0, "7000 XML public extra") == ""
    assert fake.applications[-1] == ("transfer", "7000 XML public")


def test_nothing_but_the_terminator_is_enough_where_no_digit_is_wanted() -> None:
    fake = FakeSession()
    session = session_on(fake)
    gevent.spawn_later(0.01, fake.press, "#")
    assert session.playAndGetDigits(0, 4, 3, 60, "#", "", "/bad", "") == ""
    assert fake.applications == []


def test_a_regular_expression_that_is_none_is_told_before_anything_is_played() -> None:
    fake = FakeSession()
    with pytest.raises(re.error):
        session_on(fake).playAndGetDigits(1, 4, 1, 1, "#", "/a", "", "(")
    assert fake.told == []


# ---- recordings


def test_record_takes_swmls_parameters_and_gives_what_came_of_it() -> None:
    recordings = FakeRecordings(duration=2.5, file="8d1c.wav", speech=[(0.5, 1.0)], terminator="#")
    result = session_on(FakeSession(), recordings).record(max_length=10, beep=True, control_id="mine")
    assert result == RecordResult(
        state="finished",
        end_reason="terminator",
        url="http://x/8d1c.wav",
        path="/recordings/8d1c.wav",
        duration=2.5,
        speech=((0.5, 1.0),),
        terminator="#",
        recording_id="8d1c",
        control_id="mine",
    )
    assert result.succeeded
    assert recordings.asked == [RecordParams(max_length=10, beep=True, control_id="mine")]


@pytest.mark.parametrize(
    ("verb", "params", "named"),
    [
        ("record", {"max_length": -1}, ["record: max_length = '-1'", "greater than or equal to 0"]),
        ("record", {"loud": True}, ["record: unknown parameter 'loud'", "known are"]),
        ("record_call", {"terminators": "x"}, ["record_call: terminators = 'x'", "0-9"]),
    ],
)
def test_a_wrong_parameter_is_told(verb: str, params: Mapping[str, object], named: list[str]) -> None:
    recordings = FakeRecordings()
    with pytest.raises(ParameterError) as caught:
        getattr(session_on(FakeSession(), recordings), verb)(**params)
    assert ([word for word in named if word not in str(caught.value)], recordings.asked) == ([], [])


@pytest.mark.parametrize(
    ("pressed", "terminator", "left"), [("1#2", "#", "2"), ("12", "", ""), ("##3", "#", "#3"), ("", "", "")]
)
def test_what_is_pressed_after_the_terminator_counts_for_the_menu(pressed: str, terminator: str, left: str) -> None:
    fake = FakeSession()
    recordings = FakeRecordings(terminator=terminator)
    recordings.meanwhile = lambda: fake.press(pressed)
    session = session_on(fake, recordings)
    fake.press("9")
    session.record()
    assert session.getDigits(9, "", 1) == f"9{left}"


def test_a_recording_of_a_call_that_has_gone_is_an_error_not_an_exception() -> None:
    fake, recordings = FakeSession(), FakeRecordings()
    session = session_on(fake, recordings)
    fake.caller_hangs_up()
    result = session.record(control_id="mine")
    assert (result.state, result.end_reason, result.url, result.control_id) == ("error", "hangup", "", "mine")
    background = session.record_call(control_id="mine")
    assert (background.running, background.url, background.stop().state) == (False, "", "error")
    assert recordings.asked == []


def test_a_service_that_stops_ends_the_handler() -> None:
    recordings = FakeRecordings()

    def stopping() -> None:
        raise CallGone("call 3f5b: the service is stopping")

    recordings.meanwhile = stopping
    went_on: list[bool] = []

    def handler(session: CallSession, args: str) -> None:
        session.record()
        went_on.append(True)

    fake = FakeSession()
    assert (ran(handler, fake, recordings=recordings), went_on, fake.live) == ([], [], True)


def test_a_background_recording_can_be_asked_waited_for_and_stopped() -> None:
    session = background(FakeSession())
    recording = session.record_call(stereo=True, control_id="mine")
    assert (recording.control_id, recording.running, recording.url) == ("mine", True, "http://x/8d1c.wav")
    assert (recording.result.state, recording.result.duration, recording.result.path) == ("recording", 1.5, "")
    assert recording.wait(0.01).state == "recording"
    result = recording.stop()
    assert (result.state, result.end_reason, result.path) == ("finished", "stop", "/recordings/8d1c.wav")
    assert (recording.running, recording.stop()) == (False, result)


def test_a_background_recording_is_stopped_by_its_id_or_as_the_last() -> None:
    session = background(FakeSession())
    first, second = session.record_call(control_id="first"), session.record_call()
    assert session.stop_record_call()
    assert (first.wait(0.1).state, second.wait(1).state) == ("recording", "finished")
    assert (session.stop_record_call("other"), session.stop_record_call("first")) == (False, True)
    assert first.wait(1).succeeded


def test_a_background_recording_is_paused_and_resumed() -> None:
    made: list[FakeRecorder] = []
    recording = background(FakeSession(), made=made).record_call()
    assert recording.resume().state == "recording"
    assert (recording.pause("silence").state, recording.result.state) == ("paused", "paused")
    assert recording.resume().state == "recording"
    assert recording.pause().state == "paused"
    assert recording.stop().state == "finished"
    assert (recording.pause().state, recording.resume().state) == ("finished", "finished")
    assert made[0].orders[:4] == [
        (PauseCause.HANDLER,),
        (PauseBehavior.SILENCE, PauseCause.HANDLER),
        (PauseCause.HANDLER,),
        (PauseBehavior.SKIP, PauseCause.HANDLER),
    ]


@pytest.mark.parametrize("behavior", ["mute", "", "Skip", None, 1])
def test_a_pause_that_is_neither_skip_nor_silence_is_an_error(behavior: Any) -> None:
    made: list[FakeRecorder] = []
    recording = background(FakeSession(), made=made).record_call()
    with pytest.raises(ParameterError, match=r"pause: behavior = .*: skip or silence is allowed"):
        recording.pause(behavior)
    assert made[0].orders == []


def test_a_pause_the_switch_does_not_make_in_time_is_not_waited_for() -> None:
    made: list[FakeRecorder] = []
    recording = background(FakeSession(), made=made, patience=0.01).record_call()
    made[0].deaf = True
    with gevent.Timeout(PATIENCE):
        assert recording.pause().state == "recording"


def test_a_recording_of_a_call_that_has_gone_is_neither_paused_nor_resumed() -> None:
    fake, made = FakeSession(), list[FakeRecorder]()
    session = background(fake, made=made)
    recording = session.record_call()
    fake.caller_hangs_up()
    assert (recording.pause().state, recording.resume().state) == ("recording", "recording")
    assert made[0].orders == []
    for _ in range(AFTERLIFE - 2):
        recording.pause()
    with pytest.raises(CallGone):
        recording.pause()


def test_a_background_recording_that_cannot_begin_is_an_error() -> None:
    recording = background(FakeSession(), fails=True).record_call()
    assert (recording.running, recording.result.state, recording.url) == (False, "error", "")


def test_recordings_end_before_a_transfer() -> None:
    session = background(FakeSession())
    recording = session.record_call()
    session.transfer("7000")
    assert (recording.running, recording.result.state) == (False, "finished")
