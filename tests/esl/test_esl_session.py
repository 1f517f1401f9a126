"""The verbs of a call: what each says to the switch, what it waits for, and how it ends with the call."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import gevent
import numpy as np
import pytest
from gevent import socket
from hypothesis import given, settings
from hypothesis import strategies as st
from peer import LIMIT, Peer, completion, event, event_uuid

from esl_record.errors import CallGone, CommandRefused, CommandTimeout, WireError
from esl_record.esl.admission import Admission
from esl_record.esl.server import Server
from esl_record.esl.session import Session
from esl_record.esl.wire import Event
from esl_record.standin.call import Call
from esl_record.standin.caller import Caller
from esl_record.standin.switch import Switch

SOON = 0.1
"""Seconds a wait may take where the test is about one that is not answered."""

DATA = (
    b"Event-Name: CHANNEL_DATA\nUnique-ID: u1\nAnswer-State: ringing\nvariable_socket_path: voicemail\n"
    b"Content-Type: command/reply\nReply-Text: %2BOK%0A\n\n"
)


@dataclass
class Line:
    """A session and the switch's end of its socket."""

    peer: Peer
    session: Session

    def does(self, verb: Callable[..., Any], *arguments: Any, **named: Any) -> gevent.Greenlet:
        return gevent.spawn(verb, *arguments, **named)

    def executed(self) -> tuple[str, str, str]:
        """The application asked for next, answered ``+OK``: its name, argument and Event-UUID."""
        command = self.peer.command()
        self.peer.reply()
        headers = dict(line.split(": ", 1) for line in command.splitlines()[1:])
        assert headers["call-command"] == "execute"
        return headers["execute-app-name"], headers.get("execute-app-arg", ""), headers["Event-UUID"]

    def completes(self) -> tuple[str, str]:
        """The application asked for next, which completes; its name and argument."""
        name, argument, uuid = self.executed()
        self.peer.send(completion(name, uuid))
        return name, argument

    def answers(self, text: str = "+OK") -> str:
        """The API command that comes next, answered ``text``."""
        command = self.peer.command()
        assert command.startswith("api "), command
        self.peer.api(text)
        return command.removeprefix("api ")

    def hung_up(self, cause: str = "NORMAL_CLEARING") -> None:
        """The caller hangs up; returns when the session has heard of it."""
        heard = gevent.event.Event()
        forget = self.session.listen(lambda happened: heard.set() if happened.name == "CHANNEL_HANGUP" else None)
        self.peer.event("CHANNEL_HANGUP", Hangup_Cause=cause)
        assert heard.wait(LIMIT)
        forget()

    def silent(self) -> bool:
        """Whether nothing has been said to the switch. Says ``noevents``, so that something is."""
        waiting = gevent.spawn(self.session.send, "noevents")
        nothing = self.peer.command() == "noevents"
        self.peer.reply()
        result(waiting)
        return nothing

    def rest(self) -> list[str]:
        """All the session still says until it closes; each command is answered."""
        said = []
        while True:
            try:
                said.append(self.peer.command())
            except (EOFError, OSError):
                return said
            with suppress(OSError):  # a session that has given up on replies may have closed already
                self.peer.reply()


def opened() -> Line:
    theirs, ours = socket.socketpair()
    line = Line(Peer(theirs), Session(ours, ("192.0.2.7", 40000), timeout=LIMIT))
    connecting = gevent.spawn(line.session.connect)
    assert line.peer.command() == "connect"
    line.peer.send(DATA)
    result(connecting)
    return line


@pytest.fixture
def line() -> Iterator[Line]:
    line = opened()
    yield line
    line.session.abort()
    line.peer.close()


def result(greenlet: gevent.Greenlet) -> Any:
    return greenlet.get(timeout=LIMIT)


def raised(greenlet: gevent.Greenlet, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        result(greenlet)
    return str(caught.value)


# ---- the call


def taken(session: Session) -> None:
    session.connect()
    session.begin()


def test_it_begins_with_the_channels_data_its_events_and_a_linger() -> None:
    theirs, ours = socket.socketpair()
    peer, session = Peer(theirs), Session(ours, ("192.0.2.7", 40000), timeout=LIMIT)
    assert session.label == "connection from 192.0.2.7"
    beginning = gevent.spawn(taken, session)
    assert peer.command() == "connect"
    peer.send(DATA)
    said = []
    for _ in range(3):
        said.append(peer.command())
        peer.reply()
    result(beginning)
    assert said == ["myevents", "event plain RECORD_START RECORD_STOP CODEC CHANNEL_HOLD CHANNEL_UNHOLD", "linger 5"]
    assert (session.uuid, session.path, session.label) == ("u1", "voicemail", "call u1")
    assert (session.live, session.answered) == (True, False)
    session.abort()
    peer.close()


def test_a_call_is_answered_once(line: Line) -> None:
    answering = line.does(line.session.answer)
    name, _, uuid = line.executed()
    assert name == "answer"
    line.peer.send(event("CHANNEL_ANSWER") + completion("answer", uuid))
    result(answering)
    assert line.session.answered
    line.session.answer()
    assert line.silent()


def test_an_answer_lasts_until_what_starts_with_it_has_started(line: Line) -> None:
    started = gevent.event.Event()
    line.session.at_answer.append(started)
    answering = line.does(line.session.answer)
    _, _, uuid = line.executed()
    line.peer.send(event("CHANNEL_ANSWER") + completion("answer", uuid))
    gevent.sleep(0.05)
    assert not answering.ready()
    started.set()
    result(answering)


def test_an_answer_waits_for_nothing_on_a_call_that_has_gone(line: Line) -> None:
    line.session.at_answer.append(gevent.event.Event())
    answering = line.does(line.session.answer)
    _, _, uuid = line.executed()
    line.peer.send(event("CHANNEL_ANSWER") + completion("answer", uuid) + event("CHANNEL_HANGUP"))
    result(answering)


def test_a_call_that_others_answered_is_not_answered_again(line: Line) -> None:
    heard = gevent.event.Event()
    line.session.listen(lambda _: heard.set())
    line.peer.event("CHANNEL_ANSWER")
    assert heard.wait(LIMIT)
    line.session.answer()
    assert line.silent()


# ---- applications


def test_an_application_is_waited_for_by_its_event_uuid(line: Line) -> None:
    playing = line.does(line.session.playback, "a.wav")
    name, argument, uuid = line.executed()
    assert (name, argument) == ("playback", "a.wav")
    line.peer.send(completion("playback", "another"))
    line.peer.send(completion("playback", ""))
    assert line.silent()
    assert not playing.ready()
    line.peer.send(completion("playback", uuid))
    done = result(playing)
    assert isinstance(done, Event)
    assert done.get("Application-UUID") == uuid


def test_a_completion_on_the_heels_of_the_reply_is_not_missed(line: Line) -> None:
    playing = line.does(line.session.playback, "a.wav")
    uuid = event_uuid(line.peer.command())
    line.peer.send(b"Content-Type: command/reply\nReply-Text: +OK\n\n" + completion("playback", uuid))
    assert result(playing).name == "CHANNEL_EXECUTE_COMPLETE"


def test_an_application_the_switch_refuses_is_told(line: Line) -> None:
    playing = line.does(line.session.playback, "a.wav")
    line.peer.command()
    line.peer.reply("-ERR invalid session id [u1]")
    assert raised(playing, CommandRefused) == "playback: -ERR invalid session id [u1]"
    assert line.session.live


def test_an_application_without_end_is_given_up_and_the_connection_stays(line: Line) -> None:
    playing = line.does(line.session.execute, "playback", "endless", timeout=SOON)
    _, _, uuid = line.executed()
    assert "playback did not complete within 0.1 s" in raised(playing, CommandTimeout)
    line.peer.send(completion("playback", uuid))
    assert line.silent()


def test_a_callers_own_timeout_ends_the_wait_as_his(line: Line) -> None:
    own = gevent.Timeout(SOON)
    with pytest.raises(gevent.Timeout) as caught, own:
        line.session.execute("playback", "endless")
    assert caught.value is own
    assert line.session.connected


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(
            lambda line: (line.hung_up("USER_BUSY"), line.peer.event("CHANNEL_HANGUP_COMPLETE")), id="hang-up"
        ),
        pytest.param(
            lambda line: line.peer.send(
                b"Content-Type: text/disconnect-notice\nContent-Disposition: disconnect\nContent-Length: 0\n\n"
            ),
            id="notice",
        ),
        pytest.param(lambda line: line.peer.close(), id="end of file"),
        pytest.param(lambda line: line.peer.send(b"garbage\n\n"), id="garbage"),
    ],
)
def test_what_ends_the_call_ends_every_application(line: Line, end: Callable[[Line], object]) -> None:
    waits = [line.does(line.session.playback, name) for name in "ab"]
    line.executed()
    line.executed()
    end(line)
    for wait in waits:
        raised(wait, CallGone)


def test_the_hang_up_alone_ends_no_application_whose_completion_is_still_to_come(line: Line) -> None:
    """A bridge completes after CHANNEL_HANGUP, and tells by what."""
    bridging = line.does(line.session.execute, "bridge", "x")
    _, _, uuid = line.executed()
    line.hung_up()
    assert not bridging.ready()
    line.peer.send(completion("bridge", uuid))
    assert result(bridging).get("Application") == "bridge"


def test_a_command_without_wait_gives_the_reply(line: Line) -> None:
    asking = line.does(line.session.call_command, "playback", "a.wav")
    line.executed()
    assert result(asking).reply == "+OK"


def test_greenswitchs_way_of_waiting_is_refused(line: Line) -> None:
    with pytest.raises(NotImplementedError, match="use execute"):
        line.session.register_expected_event("playback")


# ---- what each verb says


def test_a_tap_is_started_by_exactly_this_line(line: Line) -> None:
    starting = line.does(
        line.session.start_tap,
        "/spool/r1.raw",
        {"enable_file_write_buffering": "false", "RECORD_PRE_BUFFER_FRAMES": "1", "RECORD_STEREO": "true"},
    )
    assert line.peer.command() == (
        "api uuid_record u1 start /spool/r1.raw 0 "
        "{enable_file_write_buffering=false,RECORD_PRE_BUFFER_FRAMES=1,RECORD_STEREO=true}"
    )
    line.peer.api("+OK Success\n")
    result(starting)


API_VERBS: list[tuple[Callable[[Session], Any], str]] = [
    (lambda session: session.stop_tap("/s/r.raw"), "uuid_record u1 stop /s/r.raw"),
    (lambda session: session.pause_tap("/s/r.raw", mask=False), "uuid_record u1 pause /s/r.raw"),
    (lambda session: session.pause_tap("/s/r.raw", mask=True), "uuid_record u1 mask /s/r.raw"),
    (lambda session: session.resume_tap("/s/r.raw", mask=False), "uuid_record u1 resume /s/r.raw"),
    (lambda session: session.resume_tap("/s/r.raw", mask=True), "uuid_record u1 unmask /s/r.raw"),
    (lambda session: session.start_tap("/s/r.raw", {"a": "b"}), "uuid_record u1 start /s/r.raw 0 {a=b}"),
    (lambda session: session.uuid_break(), "uuid_break u1 all"),
    (lambda session: session.get_variable("read_rate"), "uuid_getvar u1 read_rate"),
    (lambda session: session.set_variable("a", "b c"), "uuid_setvar u1 a b c"),
]
NAMES = [sent.split(" u1")[0] + sent.split("u1")[1].split("/")[0] for _, sent in API_VERBS]


@pytest.mark.parametrize(
    ("dumped", "rate"),
    [
        ("Unique-ID: u1\nChannel-Read-Codec-Rate: 16000\nvariable_read_rate: 8000\n", "16000"),
        ("Unique-ID: u1\nvariable_read_rate: 8000\n", ""),
    ],
)
def test_the_rate_of_the_leg_is_that_of_its_codec_now(line: Line, dumped: str, rate: str) -> None:
    asking = line.does(line.session.leg_rate)
    assert line.answers(dumped) == "uuid_dump u1"
    assert result(asking) == rate


@pytest.mark.parametrize(("verb", "sent"), API_VERBS, ids=NAMES)
def test_a_verb_is_this_api_command(line: Line, verb: Callable[[Session], Any], sent: str) -> None:
    asking = line.does(verb, line.session)
    assert line.answers("+OK Success\n") == sent
    result(asking)


@pytest.mark.parametrize("verb", [verb for verb, _ in API_VERBS], ids=NAMES)
def test_what_the_switch_refuses_is_raised(line: Line, verb: Callable[[Session], Any]) -> None:
    asking = line.does(verb, line.session)
    line.answers("-ERR Cannot do that!\n")
    assert raised(asking, CommandRefused) == "-ERR Cannot do that!"
    assert line.session.live


@pytest.mark.parametrize("answer", ["-ERR No such channel!\n", "-ERR Cannot locate session!\n"])
@pytest.mark.parametrize("verb", [verb for verb, _ in API_VERBS], ids=NAMES)
def test_a_call_the_switch_knows_no_more_is_gone(line: Line, verb: Callable[[Session], Any], answer: str) -> None:
    asking = line.does(verb, line.session)
    line.answers(answer)
    raised(asking, CallGone)


@pytest.mark.parametrize(("answer", "there"), [("true", True), ("false", False)])
def test_whether_the_switch_knows_the_call(line: Line, answer: str, there: bool) -> None:
    asking = line.does(line.session.exists)
    assert line.answers(answer) == "uuid_exists u1"
    assert result(asking) is there


@pytest.mark.parametrize(("seconds", "sent"), [(60, "+60"), (0.2, "+1"), (1.5, "+2"), (1e300, "+1000000000")])
def test_a_limit_of_the_call_is_whole_seconds(line: Line, seconds: float, sent: str) -> None:
    asking = line.does(line.session.limit_duration, seconds)
    assert line.answers() == f"sched_hangup {sent} u1 ALLOTTED_TIMEOUT"
    result(asking)


def test_a_sleep_is_the_switchs(line: Line) -> None:
    sleeping = line.does(line.session.sleep, 1500)
    assert line.completes() == ("sleep", "1500")
    result(sleeping)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello", "flite|kal|hello"),
        ("a|b|c", "flite|kal|a,b,c"),
        ("a@@1000", "flite|kal|a 1000"),
        ("slt|rm -rf", "flite|kal|slt,rm -rf"),
        ("two\nlines\r\0", "flite|kal|two lines "),
        ("${system id}", "flite|kal|{system id}"),
    ],
)
def test_spoken_text_is_text_and_nothing_else(line: Line, text: str, said: str) -> None:
    speaking = line.does(line.session.speak, text)
    assert line.completes() == ("playback", f"tts://{said}")
    result(speaking)


def test_any_text_is_spoken_in_one_argument() -> None:
    line = opened()

    @settings(max_examples=100, deadline=None)
    @given(text=st.text(st.characters(codec="utf-8")) | st.text("|,${}\n\r\0\x85'\\ a"))
    def property_(text: str) -> None:
        speaking = line.does(line.session.speak, text)
        name, argument = line.completes()
        result(speaking)
        assert name == "playback"
        assert argument.startswith("tts://flite|kal|")
        assert argument.count("|") == 2
        assert "@@" not in argument
        assert "${" not in argument

    property_()
    line.session.abort()
    line.peer.close()


# ---- variables


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("plain", "plain"),
        ("a\nb", "a b"),
        ("a\r\n\r\napi system rm", "a api system rm"),
        ("nul\0", "nul "),
        ("\u2028", " "),
        ("", ""),
        ("${system id}", "${system id}"),
    ],
)
def test_a_variables_value_is_one_line(line: Line, value: str, sent: str) -> None:
    setting = line.does(line.session.set_variable, "note", value)
    assert line.answers() == f"uuid_setvar u1 note {sent}"
    result(setting)


@pytest.mark.parametrize("name", ["a b", "a\n", "", "a\n\napi x"])
def test_a_hostile_variable_name_is_never_sent(line: Line, name: str) -> None:
    with pytest.raises(WireError):
        line.session.set_variable(name, "x")
    with pytest.raises(WireError):
        line.session.get_variable(name)
    assert line.silent()


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("_undef_", None),
        ("", ""),
        ("8000", "8000"),
        ("a\nContent-Type: x\n\nb", "a\nContent-Type: x\n\nb"),
        ("true", "true"),
        ("naïve", "naïve"),
    ],
)
def test_a_variable_is_as_the_switch_has_it(line: Line, answer: str, value: str | None) -> None:
    asking = line.does(line.session.get_variable, "x")
    line.answers(answer)
    assert result(asking) == value


# ---- the end


def test_hanging_up_waits_until_the_switch_has(line: Line) -> None:
    ending = line.does(line.session.hangup, "USER_BUSY")
    assert line.answers("+OK\n") == "uuid_kill u1 USER_BUSY"
    gevent.idle()
    assert not ending.ready()
    line.hung_up("USER_BUSY")
    result(ending)
    assert line.session.hangup_cause == "USER_BUSY"


@pytest.mark.parametrize("variables", [[], [("a", "b")]], ids=["bare", "with a variable"])
def test_after_a_hang_up_the_release_sends_no_resume(line: Line, variables: list[tuple[str, str]]) -> None:
    """A resume that reaches the call before its hang-up would send it on in the dialplan."""
    line.does(lambda: (line.session.hangup(), line.session.release(variables)))
    assert line.answers().startswith("uuid_kill")
    line.peer.event("CHANNEL_HANGUP", Hangup_Cause="NORMAL_CLEARING")
    assert line.rest() == ["exit"]


def test_a_hang_up_the_switch_never_tells_of_ends_all_the_same(line: Line) -> None:
    line.session.timeout = SOON
    ending = line.does(line.session.hangup)
    line.answers()
    assert result(ending) is None


def test_hanging_up_what_has_hung_up_says_nothing(line: Line) -> None:
    line.hung_up()
    line.session.hangup()
    assert line.silent()


def test_hanging_up_ends_with_the_connection(line: Line) -> None:
    ending = line.does(line.session.hangup)
    line.answers()
    line.peer.close()
    assert result(ending) is None


def test_hanging_up_what_hangs_up_by_itself_waits_for_the_news(line: Line) -> None:
    ending = line.does(line.session.hangup)
    line.answers("-ERR No such channel!\n")
    gevent.idle()
    assert not ending.ready()
    line.hung_up("ORIGINATOR_CANCEL")
    assert result(ending) is None
    assert line.session.hangup_cause == "ORIGINATOR_CANCEL"


VERBS: list[Callable[[Session], Any]] = [
    *(verb for verb, _ in API_VERBS),
    lambda session: session.answer(),
    lambda session: session.execute("playback", "x"),
    lambda session: session.call_command("playback", "x"),
    lambda session: session.call_command("playback", "x", block=True),
    lambda session: session.playback("x"),
    lambda session: session.speak("x"),
    lambda session: session.sleep(20),
    lambda session: session.limit_duration(60),
]


@pytest.mark.parametrize("verb", VERBS, ids=map(str, range(len(VERBS))))
def test_after_the_hang_up_a_verb_says_the_call_has_gone(line: Line, verb: Callable[[Session], Any]) -> None:
    line.hung_up("ORIGINATOR_CANCEL")
    with pytest.raises(CallGone, match="call u1: ORIGINATOR_CANCEL"):
        verb(line.session)
    assert line.silent()


@pytest.mark.parametrize("verb", VERBS, ids=map(str, range(len(VERBS))))
def test_after_the_end_of_the_connection_a_verb_says_the_call_has_gone(
    line: Line, verb: Callable[[Session], Any]
) -> None:
    line.peer.close()
    assert line.session.closed.wait(LIMIT)
    with pytest.raises(CallGone, match="call u1: connection ended"):
        verb(line.session)


def test_greenswitchs_while_connected_lets_a_live_call_through_and_no_other(line: Line) -> None:
    with line.session.while_connected():
        pass
    line.hung_up("ORIGINATOR_CANCEL")
    with pytest.raises(CallGone, match="ORIGINATOR_CANCEL"), line.session.while_connected():
        pass


def held(line: Line) -> None:
    holding = line.does(line.session.hold, True)
    assert line.answers() == "uuid_setvar u1 esl_record_held true"
    result(holding)


def test_a_call_is_held_and_let_go_of_with_one_exchange_each(line: Line) -> None:
    line.session.hold(False)
    held(line)
    line.session.hold(True)
    letting_go = line.does(line.session.hold, False)
    assert line.answers() == "uuid_setvar u1 esl_record_held"
    result(letting_go)
    line.session.hold(False)
    assert line.silent()


def comes_back(line: Line, take: Callable[[], None], *, asks: int) -> None:
    """The call connects once more, held, and is asked for that much beside its data."""
    taking = line.does(take)
    assert line.peer.command() == "connect"
    line.peer.send(DATA.replace(b"Content-Type", b"variable_esl_record_held: true\nContent-Type"))
    for _ in range(asks):
        line.peer.command()
        line.peer.reply()
    result(taking)


def test_a_call_that_came_back_held_is_let_go_of(line: Line) -> None:
    comes_back(line, lambda: taken(line.session), asks=3)
    line.session.hold(True)
    releasing = line.does(line.session.release)
    assert line.answers() == "uuid_setvar u1 esl_record_held"
    assert line.rest() == ["resume", "exit"]
    result(releasing)


def test_one_that_is_refused_may_come_again(line: Line) -> None:
    comes_back(line, line.session.connect, asks=0)
    releasing = line.does(line.session.release)
    assert line.rest() == ["resume", "exit"]
    result(releasing)


def test_a_call_that_cannot_be_held_is_recorded_all_the_same(line: Line) -> None:
    holding = line.does(line.session.hold, True)
    line.answers("-ERR no")
    result(holding)
    line.hung_up()
    line.session.hold(False)


def test_one_that_was_sent_elsewhere_is_let_go_of_too(line: Line) -> None:
    held(line)
    sent_elsewhere(line)
    letting_go = line.does(line.session.hold, False)
    assert line.answers() == "uuid_setvar u1 esl_record_held"
    result(letting_go)


def test_a_released_call_is_resumed_and_let_go(line: Line) -> None:
    releasing = line.does(line.session.release)
    assert line.rest() == ["resume", "exit"]
    result(releasing)
    assert line.session.closed.is_set()


def test_a_released_call_has_its_variables_first(line: Line) -> None:
    releasing = line.does(line.session.release, [("why", "a\nb"), ("code", "7")])
    assert [line.answers(), line.answers()] == ["uuid_setvar u1 why a b", "uuid_setvar u1 code 7"]
    assert line.rest() == ["resume", "exit"]
    result(releasing)


def test_a_variable_that_is_refused_does_not_keep_the_call(line: Line) -> None:
    releasing = line.does(line.session.release, [("why", "x")])
    line.answers("-ERR no")
    said = line.rest()
    result(releasing)
    assert said[:2] == ["resume", "exit"]


def test_releasing_a_call_that_hung_up_lets_go_without_resume(line: Line) -> None:
    line.hung_up()
    releasing = line.does(line.session.release)
    assert line.rest() == ["exit"]
    result(releasing)


def sent_elsewhere(line: Line) -> None:
    """Somebody else transfers the call; its next extension is not this session's."""
    waiting = line.does(line.session.playback, "/long.wav")
    line.executed()
    line.peer.event("CHANNEL_EXECUTE_COMPLETE", Application="socket")
    with pytest.raises(CallGone, match="call u1: sent elsewhere"):
        result(waiting)


def test_a_socket_application_of_its_own_sends_the_call_nowhere(line: Line) -> None:
    waiting = line.does(line.session.execute, "socket", "127.0.0.1:9 async full")
    line.completes()
    result(waiting)
    assert not line.session.left


def test_a_call_that_was_sent_elsewhere_takes_no_more_orders(line: Line) -> None:
    sent_elsewhere(line)
    for verb in (line.session.answer, line.session.uuid_break, lambda: line.session.playback("a.wav")):
        with pytest.raises(CallGone, match="sent elsewhere"):
            verb()
    assert line.silent()


def test_a_call_that_was_sent_elsewhere_is_let_go_without_a_word_until_it_is_over(line: Line) -> None:
    sent_elsewhere(line)
    result(line.does(line.session.release, [("why", "x")]))
    line.hung_up()
    assert line.rest() == ["exit"]


@pytest.mark.parametrize(
    ("verb", "sent"),
    [
        (lambda session: session.stop_tap("/x.raw"), "stop"),
        (lambda session: session.pause_tap("/x.raw", mask=True), "mask"),
        (lambda session: session.pause_tap("/x.raw", mask=False), "pause"),
        (lambda session: session.resume_tap("/x.raw", mask=False), "resume"),
    ],
)
def test_a_tap_obeys_in_a_call_that_was_sent_elsewhere_too(
    line: Line, verb: Callable[[Session], None], sent: str
) -> None:
    """It writes on, and a pause that did not reach it would record what was to be kept out."""
    sent_elsewhere(line)
    obeying = line.does(verb, line.session)
    assert line.answers() == f"uuid_record u1 {sent} /x.raw"
    result(obeying)


def test_what_ends_with_a_transfer_does_not_end_the_call_elsewhere(line: Line) -> None:
    """The step that a transfer breaks off is over first, and then `socket`."""

    def document() -> None:
        line.session.playback("/long.wav")
        line.session.end()

    running = line.does(document)
    line.completes()
    line.peer.event("CHANNEL_EXECUTE_COMPLETE", Application="socket")
    result(running)
    assert line.silent()


def test_the_end_of_a_document_hangs_up(line: Line) -> None:
    ending = line.does(line.session.end, "USER_BUSY")
    assert line.answers("+OK\n") == "uuid_kill u1 USER_BUSY"
    line.hung_up("USER_BUSY")
    result(ending)


def test_an_operator_ends_a_call_that_was_sent_elsewhere_all_the_same(line: Line) -> None:
    sent_elsewhere(line)
    ending = line.does(line.session.hangup)
    assert line.answers("+OK\n") == "uuid_kill u1 NORMAL_CLEARING"
    line.hung_up()
    result(ending)


def test_a_call_that_leaves_while_it_is_let_go_is_not_resumed(line: Line) -> None:
    releasing = line.does(line.session.release, [("why", "x")])
    line.peer.event("CHANNEL_EXECUTE_COMPLETE", Application="socket")
    assert line.answers("+OK\n") == "uuid_setvar u1 why x"
    result(releasing)
    line.hung_up()
    assert line.rest() == ["exit"]


def test_a_call_it_has_transferred_is_not_resumed(line: Line) -> None:
    transferring = line.does(line.session.transfer, "7000 XML default")
    assert line.answers() == "uuid_transfer u1 7000 XML default"
    result(transferring)
    result(line.does(line.session.release))
    line.hung_up()
    assert line.rest() == ["exit"]


def test_a_transfer_that_is_refused_changes_nothing(line: Line) -> None:
    transferring = line.does(line.session.transfer, "7000")
    line.answers("-ERR no")
    with pytest.raises(CommandRefused):
        result(transferring)
    assert not line.session.left


def test_releasing_what_the_switch_has_closed_does_nothing(line: Line) -> None:
    line.peer.close()
    assert line.session.closed.wait(LIMIT)
    line.session.release([("a", "b")])
    line.session.release()
    assert line.session.fault is None


def spoilt(line: Line) -> None:
    """The switch says what is no event socket's; it still listens."""
    line.peer.send(b"garbage\n\n")
    assert line.session.closed.wait(LIMIT)


def unanswered(line: Line) -> None:
    """A command gets no answer within its time."""
    line.session.timeout = SOON
    with pytest.raises(CommandTimeout):
        line.session.send("api slow")
    assert line.peer.command() == "api slow"


@pytest.mark.parametrize("variables", [[], [("a", "b")]], ids=["bare", "with a variable"])
@pytest.mark.parametrize("break_", [spoilt, unanswered])
def test_a_call_is_resumed_where_replies_can_no_longer_be_read(
    line: Line, break_: Callable[[Line], None], variables: list[tuple[str, str]]
) -> None:
    """The switch still hears: a call whose socket closes without resume stays parked, with nobody to end it."""
    break_(line)
    line.session.release(variables)
    assert line.rest() == ["resume", "exit"]


def test_a_held_call_does_not_wait_where_replies_can_no_longer_be_read(line: Line) -> None:
    held(line)
    spoilt(line)
    line.session.release()
    assert line.rest() == ["api uuid_setvar u1 esl_record_held", "resume", "exit"]


def test_a_release_that_gets_no_reply_has_asked_for_the_resume(line: Line) -> None:
    line.session.timeout = SOON
    line.session.release()
    assert line.peer.command() == "resume"


def test_a_release_never_raises_though_nobody_reads(line: Line) -> None:
    line.session.timeout = SOON
    with pytest.raises(CommandTimeout):
        line.session.send("api " + "x" * 4_000_000)
    line.session.release([("a", "b")])
    assert line.session.closed.is_set()


# ---- with the stand-in switch


@dataclass
class Placed:
    """A call of the stand-in and what the handler made of it."""

    call: Call
    given: list[Any] = field(default_factory=list)

    def wire(self) -> list[str]:
        """The commands the switch was given."""
        return [data.decode().strip() for direction, data in self.call.wire if direction == ">>"]


Handler = Callable[[Session], Any]


@pytest.fixture
def place() -> Iterator[Callable[[Handler, Caller], Placed]]:
    switch = Switch(speed=50.0)
    servers: list[Server] = []

    def placing(handler: Handler, caller: Caller) -> Placed:
        given: list[Any] = []
        server = Server(
            ("127.0.0.1", 0), lambda session: given.append(handler(session)), Admission(["127.0.0.1"], capacity=9)
        )
        servers.append(server)
        server.start()
        call = switch.call(server.address, "voicemail", caller)
        call.wait(LIMIT)
        assert server.drain(LIMIT)
        return Placed(call, given)

    yield placing
    switch.close()
    for server in servers:
        server.stop_accepting()


def a_caller(**named: Any) -> Caller:
    return Caller(np.zeros(800, np.int16), gives_up_after=30.0, **named)


Place = Callable[[Handler, Caller], Placed]


def test_a_switch_answers_once_and_plays_to_the_end(place: Place) -> None:
    def handler(session: Session) -> str:
        session.answer()
        session.answer()
        return session.playback("tone_stream://%(200,0,400)").get("Application-Response")

    placed = place(handler, a_caller())
    assert placed.given == ["FILE PLAYED"]
    assert sum("execute-app-name: answer" in command for command in placed.wire()) == 1
    assert placed.call.went_on


def test_a_switch_gives_back_what_was_set(place: Place) -> None:
    def handler(session: Session) -> list[str | None]:
        session.set_variable("note", "line one\nline two")
        return [session.get_variable("note"), session.get_variable("never_set"), session.get_variable("read_rate")]

    assert place(handler, a_caller()).given == [["line one line two", None, "8000"]]


def test_a_callers_name_with_a_newline_comes_whole(place: Place) -> None:
    name = "Ann\nUnique-ID: forged\nContent-Length: 5"
    placed = place(lambda session: (session.data["Caller-Caller-ID-Name"], session.uuid), a_caller(name=name))
    assert placed.given == [(name, placed.call.uuid)]


def test_a_switch_hangs_up_and_does_not_go_on(place: Place) -> None:
    placed = place(lambda session: (session.answer(), session.hangup("CALL_REJECTED"))[0], a_caller())
    assert placed.call.hangup_cause == "CALL_REJECTED"
    assert not placed.call.went_on
    assert "resume" not in placed.wire()


def test_a_caller_who_hangs_up_ends_the_playing(place: Place) -> None:
    def handler(session: Session) -> str:
        session.answer()
        with suppress(CallGone):  # the switch may tell of the application's end before the call's
            session.playback("tone_stream://%(20000,0,400)")
        with pytest.raises(CallGone) as caught:
            session.playback("tone_stream://%(20000,0,400)")
        return str(caught.value)

    placed = place(handler, a_caller(hangup_after=2.0))
    assert placed.given == [f"call {placed.call.uuid}: NORMAL_CLEARING"]
    assert placed.call.position < 3


def test_playing_is_broken_off(place: Place) -> None:
    def handler(session: Session) -> bool:
        session.answer()
        begun = gevent.event.Event()
        session.listen(lambda happened: begun.set() if happened.get("Application") == "playback" else None)
        playing = gevent.spawn(session.playback, "tone_stream://%(20000,0,400)")
        assert begun.wait(LIMIT)
        session.uuid_break()
        playing.get(timeout=LIMIT)
        return session.live

    placed = place(handler, a_caller())
    assert placed.given == [True]
    assert placed.call.position < 20
