"""The test call: what the switch is asked, and what the caller's exit status tells."""

import re
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.server import StreamServer
from peer import LIMIT, Peer
from rich.console import Console

from esl_record.config import Settings
from esl_record.dial import DialError, TestCall, dial
from esl_record.errors import CommandRefused, EslRecordError, WireError
from esl_record.esl.inbound import SwitchUnreachable

A_MOMENT = 0.05
"""Seconds of the call in which a wrong word would do its harm."""

DIAL_STRING = "sofia/internal/{extension}@127.0.0.1:5080"


class FakeSwitch:
    """A switch's own event socket. ``answer(line, command)`` answers what comes after the login."""

    def __init__(self, answer: Callable[["Wire", str], None], password: str = "ClueCon") -> None:
        self.commands: list[str] = []
        self.failures: list[BaseException] = []
        self._answer = answer
        self._password = password
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.address: tuple[str, int] = (self._server.server_host, self._server.server_port)

    def _serve(self, sock: socket.socket, _: object) -> None:
        wire = Wire(sock)
        try:
            wire.send(b"Content-Type: auth/request\n\n")
            wire.reply("+OK accepted" if wire.command() == f"auth {self._password}" else "-ERR invalid")
            while True:
                command = wire.command()
                self.commands.append(command)
                if command == "exit":
                    wire.reply("+OK bye")
                    return
                self._answer(wire, command)
        except (EOFError, OSError):
            pass  # whoever had connected has gone
        except Exception as failure:
            self.failures.append(failure)
        finally:
            sock.close()

    def close(self) -> None:
        self._server.stop(LIMIT)
        assert self.failures == []

    def settings(self, **named: Any) -> Settings:
        return Settings(**{"event_socket": self.address, "event_socket_password": "ClueCon", **named})


class Wire(Peer):
    """One connection to the fake switch; replies and events may carry more than the session's tests need."""

    def reply(self, text: str = "+OK", **headers: str) -> None:
        self.send(reply(text, **headers))

    def event(self, name: str, body: str = "", **headers: str) -> None:
        self.send(event(name, body, **headers))


def reply(text: str, **headers: str) -> bytes:
    lines = [f"Content-Type: command/reply\nReply-Text: {text}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\n".join(lines).encode() + b"\n\n"


def event(name: str, body: str = "", **headers: str) -> bytes:
    lines = [f"Event-Name: {name}", *(f"{key.replace('_', '-')}: {value}" for key, value in headers.items())]
    data = ("\n".join(lines) + "\n\n" + body).encode()
    return b"Content-Length: %d\nContent-Type: text/event-plain\n\n%b" % (len(data), data)


class Exchange:
    """What the switch makes of the originate: ``script(wire, uuid)`` runs after the reply to it."""

    def __init__(self, script: Callable[[Wire, str], None]) -> None:
        self.script = script
        self.uuid = ""
        self.refused: dict[str, str] = {}
        """Commands, by how they begin, that are answered something else than ``+OK``."""
        self.switch = FakeSwitch(self._answer)

    def _answer(self, wire: Wire, command: str) -> None:
        answer = next((text for start, text in self.refused.items() if command.startswith(start)), "+OK")
        if command.startswith("bgapi originate"):
            found = re.search(r"origination_uuid=([0-9a-f-]{36})", command)
            assert found
            self.uuid = found[1]
            if answer != "+OK":
                wire.reply(answer)
                return
            wire.reply("+OK Job-UUID: j1", Job_UUID="j1")
            self.script(wire, self.uuid)
        elif command.startswith("api "):
            wire.api(answer)
        else:
            wire.reply(answer)

    def sent(self, start: str) -> list[str]:
        return [command for command in self.switch.commands if command.startswith(start)]


@pytest.fixture
def exchange() -> Iterator[Callable[[Callable[[Wire, str], None]], Exchange]]:
    made: list[Exchange] = []

    def making(script: Callable[[Wire, str], None]) -> Exchange:
        made.append(Exchange(script))
        return made[-1]

    yield making
    for one in made:
        one.switch.close()


Make = Callable[[Callable[[Wire, str], None]], Exchange]


def a_call(**named: Any) -> TestCall:
    return TestCall(**{"extension": "7000", "dial_string": DIAL_STRING, "timeout": LIMIT, **named})


def dialled(exchange: Exchange, **named: Any) -> tuple[int, str]:
    """The exit status and what was printed."""
    out = StringIO()
    status = dial(a_call(**named), exchange.switch.settings(), Console(file=out, width=400))
    return status, out.getvalue()


def answers(wire: Wire, uuid: str) -> None:
    wire.event("CHANNEL_ANSWER", Unique_ID=uuid)


def hangs_up(wire: Wire, uuid: str, cause: str = "NORMAL_CLEARING") -> None:
    wire.event("CHANNEL_HANGUP_COMPLETE", Unique_ID=uuid, Hangup_Cause=cause)


def talks(wire: Wire, uuid: str) -> None:
    """Answers and hangs up."""
    answers(wire, uuid)
    hangs_up(wire, uuid)


# ---- the call


def test_a_call_answered_and_ended_by_the_other_side_is_status_0(exchange: Make) -> None:
    status, told = dialled(exchange(talks))
    assert status == 0
    assert re.fullmatch(r"7000: answered\n7000: the other side hung up after \d+\.\d s: NORMAL_CLEARING\n", told)


def test_the_switch_is_asked_for_the_events_then_for_the_call(exchange: Make) -> None:
    made = exchange(talks)
    dialled(made, extension="*98", dial_string="loopback/{extension}/default")
    assert made.switch.commands == [
        "event plain CHANNEL_ANSWER CHANNEL_HANGUP_COMPLETE BACKGROUND_JOB",
        f"bgapi originate {{origination_uuid={made.uuid},origination_caller_id_number=15551230001,"
        "origination_caller_id_name=esl-record,ignore_early_media=true}loopback/*98/default &park()",
        "exit",
    ]


def test_two_calls_have_two_uuids(exchange: Make) -> None:
    made = exchange(talks)
    dialled(made)
    first = made.uuid
    dialled(made)
    assert made.uuid != first


@pytest.mark.parametrize("outcome", ["-ERR USER_BUSY", "-ERR DESTINATION_OUT_OF_ORDER"])
def test_a_call_that_cannot_be_placed_is_status_1_and_tells_the_cause(exchange: Make, outcome: str) -> None:
    def script(wire: Wire, _: str) -> None:
        gevent.sleep(A_MOMENT)
        wire.event("BACKGROUND_JOB", f"{outcome}\n", Job_UUID="j1")

    made = exchange(script)
    assert dialled(made) == (1, f"7000: not answered: {outcome}\n")


def test_a_failure_on_the_heels_of_the_reply_is_not_missed(exchange: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch fails an unknown gateway in no time: both may come in one segment."""
    monkeypatch.setattr("esl_record.dial.ANSWER_WAIT", 1.0)
    made = exchange(talks)

    def at_once(wire: Wire, command: str) -> None:
        if command.startswith("bgapi"):
            wire.send(reply("+OK", Job_UUID="j1") + event("BACKGROUND_JOB", "-ERR GATEWAY_DOWN\n", Job_UUID="j1"))
        elif command.startswith("api "):
            wire.api("-ERR No such channel!")
        else:
            wire.reply()

    made.switch._answer = at_once
    assert dialled(made) == (1, "7000: not answered: -ERR GATEWAY_DOWN\n")


def test_a_call_that_is_declined_is_status_1(exchange: Make) -> None:
    made = exchange(lambda wire, uuid: hangs_up(wire, uuid, "CALL_REJECTED"))
    assert dialled(made) == (1, "7000: not answered: CALL_REJECTED\n")


def test_a_call_nobody_answers_is_status_1_and_taken_back(exchange: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esl_record.dial.ANSWER_WAIT", 0.05)
    made = exchange(lambda wire, uuid: None)
    assert dialled(made) == (1, "7000: not answered: no answer\n")
    assert made.sent("api") == [f"api uuid_kill {made.uuid}"]


def test_a_call_that_lasts_too_long_is_status_1_and_hung_up(exchange: Make) -> None:
    made = exchange(answers)
    assert dialled(made, timeout=0.05) == (1, "7000: answered\n7000: still up after 0.05 s: hanging up\n")
    assert made.sent("api") == [f"api uuid_kill {made.uuid}"]


def test_a_call_that_has_gone_by_then_is_no_error(exchange: Make) -> None:
    made = exchange(answers)
    made.refused["api uuid_kill"] = "-ERR No such channel!"
    assert dialled(made, timeout=0.05)[0] == 1


def test_other_calls_and_jobs_do_not_matter(exchange: Make) -> None:
    def script(wire: Wire, uuid: str) -> None:
        hangs_up(wire, "another")
        wire.event("BACKGROUND_JOB", "-ERR NO_ANSWER\n", Job_UUID="j2")
        gevent.sleep(A_MOMENT)
        wire.event("BACKGROUND_JOB", f"+OK {uuid}\n", Job_UUID="j1")
        answers(wire, "another")
        talks(wire, uuid)

    status, told = dialled(exchange(script))
    assert status == 0
    assert told.startswith("7000: answered\n")


def test_a_call_the_switch_will_not_even_try_is_an_error(exchange: Make) -> None:
    made = exchange(talks)
    made.refused["bgapi"] = "-ERR command not found"
    with pytest.raises(CommandRefused, match="-ERR command not found"):
        dialled(made)


@pytest.mark.parametrize("when", ["ringing", "answered"])
def test_a_switch_that_goes_away_is_noticed(exchange: Make, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Nothing more can be known of the call: there is no use in waiting."""
    monkeypatch.setattr("esl_record.dial.ANSWER_WAIT", 1.0)

    def script(wire: Wire, uuid: str) -> None:
        if when == "answered":
            answers(wire, uuid)
        wire.sock.shutdown(socket.SHUT_RDWR)

    made, began, status = exchange(script), time.monotonic(), 1
    try:
        status, _ = dialled(made, timeout=1.0)
    except EslRecordError:
        pass  # as good a way to tell
    assert status == 1
    assert time.monotonic() - began < 0.8


# ---- the caller


def test_the_caller_speaks_a_file_and_presses_digits(exchange: Make, tmp_path: Path, monkeypatch: Any) -> None:
    audio = tmp_path / "said [1].wav"
    audio.touch()
    monkeypatch.chdir(tmp_path)
    made = exchange(answers)
    pressed = gevent.event.Event()

    def answer(wire: Wire, command: str, answer: Any = made.switch._answer) -> None:
        answer(wire, command)
        if "uuid_send_dtmf" in command:
            hangs_up(wire, made.uuid)
            pressed.set()

    made.switch._answer = answer
    status, told = dialled(made, audio=Path(audio.name), wait=0.0, digits="12a#", after=0.05)
    assert (status, pressed.is_set()) == (0, True)
    (spoken,) = made.sent("sendmsg")
    assert spoken.splitlines()[:4] == [
        f"sendmsg {made.uuid}",
        "call-command: execute",
        "execute-app-name: playback",
        f"execute-app-arg: {audio}",
    ]
    assert made.sent("api") == [f"api uuid_send_dtmf {made.uuid} 12A#"]
    assert "7000: speaking said [1].wav\n7000: pressing 12a#\n" in told


def test_a_caller_without_file_or_digits_says_nothing(exchange: Make) -> None:
    made = exchange(answers)
    dialled(made, timeout=0.1, wait=0.0, after=0.0)
    assert made.sent("sendmsg") + made.sent("api uuid_send_dtmf") == []


def test_what_is_not_due_before_the_hang_up_is_not_said(exchange: Make, tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    made = exchange(talks)
    status, told = dialled(made, audio=tmp_path / "a.wav", wait=60.0, digits="1", after=60.0)
    assert status == 0
    assert "speaking" not in told
    assert made.sent("sendmsg") + made.sent("api") == []


@pytest.mark.parametrize("command", ["sendmsg", "api uuid_send_dtmf"])
def test_speech_or_digits_the_switch_refuses_are_told_in_a_line(
    exchange: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "a.wav").touch()
    made = exchange(answers)
    made.refused[command] = "-ERR not now"
    told = ""
    try:
        _, told = dialled(made, timeout=0.2, audio=tmp_path / "a.wav", wait=0.0, digits="1", after=0.0)
    except EslRecordError as error:
        told = str(error)
    assert "-ERR not now" in told
    assert "Traceback" not in capfd.readouterr().err


# ---- what cannot be dialled


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"extension": ""}, "extension ''"),
        ({"extension": "7000 &hangup"}, "extension '7000 &hangup'"),
        ({"extension": "70\n00"}, r"extension '70\\n00'"),
        ({"extension": "a@evil"}, "extension 'a@evil'"),
        ({"extension": "${x}"}, "extension"),
        ({"extension": "a,b"}, "extension"),
        ({"digits": "12x"}, "digits '12x': 0-9 A-D"),
        ({"digits": "1 2"}, "digits '1 2'"),
        ({"digits": "1\n"}, "digits"),
        ({"audio": Path("/nowhere/a.wav")}, "audio /nowhere/a.wav: no such file"),
        ({"audio": Path("/")}, "audio /: no such file"),
        ({"dial_string": "sofia/internal/7000@x"}, "dial string 'sofia/internal/7000@x': must hold {extension}"),
    ],
)
def test_what_cannot_be_dialled_is_refused_before_anything_is_sent(
    exchange: Make, named: dict[str, Any], told: str
) -> None:
    made = exchange(talks)
    with pytest.raises(DialError, match=told):
        dialled(made, **named)
    assert made.switch.commands == []


@pytest.mark.parametrize("extension", ["7000", "*98", "#1", "+15551230001", "ann_b.c-d", "doc-8084-x"])
def test_an_extension_is_dialled_as_it_is(exchange: Make, extension: str) -> None:
    made = exchange(talks)
    dialled(made, extension=extension)
    assert f"}}sofia/internal/{extension}@127.0.0.1:5080 &park()" in made.sent("bgapi")[0]


def test_a_dial_string_of_two_lines_is_never_sent(exchange: Make) -> None:
    made = exchange(talks)
    with pytest.raises(WireError):
        dialled(made, dial_string="sofia/{extension}\n\napi shutdown")
    assert made.sent("bgapi") + made.sent("api") == []


def test_an_extension_is_printed_as_it_is(exchange: Make) -> None:
    made = exchange(lambda wire, uuid: hangs_up(wire, uuid, "[red]BUSY[/red]"))
    assert dialled(made)[1] == "7000: not answered: [red]BUSY[/red]\n"


def test_a_wrong_password_is_an_error_that_names_the_setting() -> None:
    switch = FakeSwitch(lambda wire, command: wire.reply(), password="other")
    with pytest.raises(SwitchUnreachable, match="set event_socket_password"):
        dial(a_call(), switch.settings(), Console(file=StringIO()))
    switch.close()
    assert switch.commands == []
