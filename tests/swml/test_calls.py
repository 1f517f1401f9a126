"""answer, hangup, sleep, send_digits and set: what they tell the switch, and what they refuse."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

import pytest
from gevent.event import Event as Flag

from esl_record.errors import CallGone, CommandRefused
from esl_record.esl.pressed import Pressed
from esl_record.esl.session import Session
from esl_record.esl.wire import Event
from esl_record.recording.machine import State
from esl_record.recording.params import ParameterError, RecordParams
from esl_record.recording.recording import Party, Recording
from esl_record.status.event import Identity
from esl_record.swml.call import Call
from esl_record.swml.methods import METHODS
from esl_record.swml.site import Site

MISSING: Any = object()

RunRecorder = Callable[[RecordParams], tuple[Recording, str]]


class FakeSession:
    """A call's session that keeps what it was told. A verb in ``refused`` is refused by the switch, a sound in
    ``missing`` cannot be played; after ``lives`` verbs the caller hangs up."""

    def __init__(
        self,
        *,
        answered: bool = False,
        live: bool = True,
        data: Mapping[str, str] | None = None,
        refused: Collection[str] = (),
        missing: Collection[str] = (),
        lives: float = math.inf,
    ) -> None:
        self.verbs: list[tuple[object, ...]] = []
        self.voices: list[str] = []
        self.ignores_digits = False
        self.variables: dict[str, str] = {}
        self.answered = answered
        self.hangup_cause: str | None = None if live else "ORIGINATOR_CANCEL"
        self.over = Flag()
        if not live:
            self.over.set()
        self.data: Mapping[str, str] = data or {}
        self.pressed = Pressed()
        self.uuid = "3f5b"
        self.label = "call 3f5b"
        self._refused = refused
        self._missing = missing
        self._lives = lives

    @property
    def live(self) -> bool:
        return self.hangup_cause is None

    def answer(self) -> None:
        if not self.answered:
            self._told("answer")
            self.answered = True

    def playback(self, path: str) -> Event:
        self._told("playback", path)
        return Event({"Application-Response": "FILE NOT FOUND" if path in self._missing else "FILE PLAYED"})

    def speak(self, text: str, *, engine: str = "flite", voice: str = "kal") -> None:
        self._told("speak", text)
        self.voices.append(f"{engine}|{voice}")

    def ignore_digits(self) -> None:
        self.ignores_digits = True

    def audio_level(self, level: int) -> None:
        self._told("audio_level", level)

    def send_digits(self, digits: str) -> None:
        self._told("send_digits", digits)

    def sleep(self, milliseconds: int) -> None:
        self._told("sleep", milliseconds)

    def limit_duration(self, seconds: float) -> None:
        self._told("limit_duration", seconds)

    def end(self, cause: str = "NORMAL_CLEARING") -> None:
        self.hangup(cause)

    def hangup(self, cause: str = "NORMAL_CLEARING") -> None:
        if self.live:
            self._told("hangup", cause)
            self.hangup_cause = cause
            self.over.set()

    def set_variable(self, name: str, value: str) -> None:
        self.raise_if_disconnected()
        self.variables[name] = value

    def raise_if_disconnected(self) -> None:
        if not self.live:
            raise self.gone()

    def gone(self) -> CallGone:
        return CallGone(f"{self.label}: {self.hangup_cause or 'connection ended'}")

    def _told(self, verb: str, *arguments: object) -> None:
        self.raise_if_disconnected()
        if verb in self._refused:
            raise CommandRefused(f"{verb}: -ERR refused")
        self.verbs.append((verb, *arguments))
        if len(self.verbs) >= self._lives:
            self.hangup_cause = "ORIGINATOR_CANCEL"


def no_recorder(_: RecordParams) -> tuple[Recording, str]:
    raise AssertionError("nothing was to be recorded")


class FakeRecordings:
    """What a call records: in the foreground as ``run_recorder`` does, in the background until it is stopped."""

    def __init__(self, run_recorder: RunRecorder) -> None:
        self.record = run_recorder
        self.started: dict[str, RecordParams] = {}
        self.url = "http://x/background.wav"
        """Empty for a recording that cannot begin."""

    def start(self, params: RecordParams) -> str:
        self.started[params.control_id] = params
        return self.url

    def begun(self, control_id: str) -> str | None:
        return None

    def ended(self, control_id: str) -> tuple[Recording, str] | None:
        return None

    def stop(self, control_id: str | None) -> bool:
        named = next(reversed(self.started), "") if control_id is None else control_id
        return self.started.pop(named, None) is not None


def call_on(session: FakeSession, run_recorder: RunRecorder = no_recorder, **variables: object) -> Call:
    return Call(cast(Session, session), FakeRecordings(run_recorder), dict(variables))


def recorder_of(
    state: State, url: str, error: str = "", *, then: Callable[[], None] = lambda: None
) -> tuple[RunRecorder, list[RecordParams]]:
    """A recorder whose recordings end in ``state`` with ``url``, and what it is asked for."""
    asked: list[RecordParams] = []

    def record(params: RecordParams) -> tuple[Recording, str]:
        asked.append(params)
        recording = Recording.begun("8d1c", Party(call_id="3f5b"), params, 1.7e9)
        then()
        return recording.model_copy(update={"state": state, "error": error}), url

    return record, asked


def told(method: str, params: object = MISSING, **session: Any) -> list[tuple[object, ...]]:
    """What ``method`` tells the switch; a hang-up of its own ends it."""
    fake = FakeSession(**session)
    try:
        METHODS[method](call_on(fake), {} if params is MISSING else params)
    except CallGone:
        assert not fake.live
    return fake.verbs


GOOD = [
    pytest.param("answer", {}, [("answer",)], id="answer"),
    pytest.param("answer", {"max_duration": 60}, [("answer",), ("limit_duration", 60.0)], id="answer for a minute"),
    pytest.param("answer", {"max_duration": "60"}, [("answer",), ("limit_duration", 60.0)], id="a numeric string"),
    pytest.param("answer", {"max_duration": 0}, [("answer",)], id="answer without a limit"),
    pytest.param("hangup", {}, [("hangup", "NORMAL_CLEARING")], id="hangup"),
    pytest.param("hangup", {"reason": "hangup"}, [("hangup", "NORMAL_CLEARING")], id="hangup in so many words"),
    pytest.param("hangup", {"reason": "busy"}, [("hangup", "USER_BUSY")], id="busy"),
    pytest.param("hangup", "decline", [("hangup", "CALL_REJECTED")], id="the short form"),
    pytest.param("sleep", {"duration": 1500}, [("sleep", 1500)], id="sleep"),
    pytest.param("sleep", 1500, [("sleep", 1500)], id="sleep, short"),
    pytest.param("sleep", "1500", [("sleep", 1500)], id="sleep, a numeric string"),
    pytest.param("sleep", {"duration": 0}, [("sleep", 0)], id="sleep no time"),
    pytest.param("sleep", {"duration": 864_000_000}, [("sleep", 864_000_000)], id="sleep ten days"),
    pytest.param("answer", {"codecs": "PCMU,OPUS", "username": "u", "password": "p"}, [("answer",)], id="SIP's own"),
    pytest.param("send_digits", {"digits": "1wW*#ABCD"}, [("answer",), ("send_digits", "1wW*#ABCD")], id="digits"),
    pytest.param("send_digits", {"digits": ""}, [("answer",), ("send_digits", "")], id="no digits"),
]


@pytest.mark.parametrize(("method", "params", "expected"), GOOD)
def test_a_method_tells_the_switch(method: str, params: object, expected: list[tuple[object, ...]]) -> None:
    assert told(method, params) == expected


def test_an_answered_call_is_not_answered_again_but_limited() -> None:
    assert told("answer", {"max_duration": 5}, answered=True) == [("limit_duration", 5.0)]


BAD = [
    ("answer", {"max_duration": True}, ["answer", "max_duration", "True", "number"]),
    ("answer", {"max_duration": "long"}, ["answer", "max_duration", "long", "number"]),
    ("answer", {"max_duration": ""}, ["answer", "max_duration", "number"]),
    ("answer", {"max_duration": -1}, ["answer", "max_duration", "-1", "greater than or equal to 0"]),
    ("answer", {"max_duration": float("nan")}, ["answer", "max_duration", "nan"]),
    ("answer", {"max_duration": "inf"}, ["answer", "max_duration", "inf"]),
    ("answer", {"max_duration": None}, ["answer", "max_duration", "None"]),
    ("answer", {"loud": True}, ["answer", "loud", "max_duration"]),
    ("answer", [], ["answer", "mapping"]),
    ("answer", 5, ["answer", "5", "mapping"]),
    ("answer", "now", ["answer", "now", "mapping"]),
    ("hangup", {"reason": "bored"}, ["hangup", "reason", "bored", "hangup", "busy", "decline"]),
    ("hangup", "bored", ["hangup", "reason", "bored", "busy"]),
    ("hangup", {"reason": None}, ["hangup", "reason", "None", "a value is wanted"]),
    ("hangup", {"cause": "busy"}, ["hangup", "cause", "reason"]),
    ("hangup", ["busy"], ["hangup", "busy", "mapping"]),
    ("sleep", {}, ["sleep", "duration"]),
    ("answer", {"max_duration": 60.5}, ["answer", "max_duration", "60.5", "multiple of 1"]),
    ("answer", {"codecs": ["PCMU"]}, ["answer", "codecs", "PCMU", "string"]),
    ("sleep", {"duration": -2}, ["sleep", "duration", "-2", "-1"]),
    ("sleep", {"duration": 0.6}, ["sleep", "duration", "0.6", "multiple of 1"]),
    ("sleep", {"duration": -0.5}, ["sleep", "duration", "-0.5"]),
    ("sleep", {"duration": "inf"}, ["sleep", "duration", "inf"]),
    ("sleep", {"duration": "1s"}, ["sleep", "duration", "1s", "number"]),
    ("sleep", True, ["sleep", "duration", "True", "number"]),
    ("sleep", {"duration": 5, "unit": "s"}, ["sleep", "unit", "duration"]),
    ("sleep", None, ["sleep", "mapping"]),
    ("send_digits", {}, ["send_digits", "digits", "missing"]),
    ("send_digits", {"digits": "12x"}, ["send_digits", "digits", "12x", "0-9 A-D * # w W"]),
    ("send_digits", {"digits": "1+2"}, ["send_digits", "digits", "1+2"]),
    ("send_digits", {"digits": "~1@500"}, ["send_digits", "digits", "~1@500"]),
    ("send_digits", {"digits": "1\n2"}, ["send_digits", "digits"]),
    ("send_digits", {"digits": "\u0661"}, ["send_digits", "digits"]),
    ("send_digits", {"digits": 12}, ["send_digits", "digits", "12", "string"]),
    ("send_digits", "12", ["send_digits", "mapping"]),
    ("set", [1], ["set", "mapping"]),
    ("set", "a", ["set", "mapping"]),
]


@pytest.mark.parametrize(("method", "params", "named"), BAD, ids=lambda value: str(value)[:40])
def test_a_wrong_parameter_is_refused_by_name_before_the_switch_is_told(
    method: str, params: object, named: list[str]
) -> None:
    session = FakeSession()
    with pytest.raises(ParameterError) as caught:
        METHODS[method](call_on(session), params)
    missing = [word for word in named if word not in str(caught.value)]
    assert (missing, session.verbs) == ([], [])


def test_a_complaint_shows_only_the_beginning_of_a_long_value() -> None:
    with pytest.raises(ParameterError) as caught:
        METHODS["hangup"](call_on(FakeSession()), {"reason": "x" * 100_000})
    assert len(str(caught.value)) < 300


def test_hangup_ends_the_document() -> None:
    session = FakeSession()
    with pytest.raises(CallGone, match="USER_BUSY"):
        METHODS["hangup"](call_on(session), {"reason": "busy"})
    assert not session.live


def test_a_sleep_without_end_lasts_until_the_caller_hangs_up() -> None:
    session = FakeSession(lives=3)
    with pytest.raises(CallGone):
        METHODS["sleep"](call_on(session), -1)
    assert session.verbs == [("sleep", 3_600_000)] * 3


def test_a_sleep_is_not_cut_short_by_digits() -> None:
    session = FakeSession()
    METHODS["sleep"](call_on(session), 5)
    assert session.ignores_digits


@pytest.mark.parametrize(("refused", "result"), [((), "success"), (("send_digits",), "failed")])
def test_whether_digits_were_sent_is_told(refused: tuple[str, ...], result: str) -> None:
    session = FakeSession(refused=refused)
    call = call_on(session)
    METHODS["send_digits"](call, {"digits": "12"})
    assert call.vars == session.variables == {"send_digits_result": result}


def test_an_answer_is_told() -> None:
    call = call_on(FakeSession())
    METHODS["answer"](call, {})
    assert call.vars == {"answer_result": "success"}


def test_set_keeps_values_with_their_types_and_overwrites() -> None:
    call = call_on(FakeSession(), kept=1, changed="old")
    METHODS["set"](call, {"changed": ["new"], "half": 0.5, 7: "seven"})
    assert call.vars == {"kept": 1, "changed": ["new"], "half": 0.5, "7": "seven"}


# ---- the call


def test_the_call_scope_is_what_the_switch_told() -> None:
    data = {
        "Caller-Caller-ID-Number": "+15550100",
        "Caller-Caller-ID-Name": "Ann",
        "Caller-Destination-Number": "7000",
        "Call-Direction": "inbound",
        "variable_sip_h_X-Account": "42",
        "variable_sip_to_user": "7000",
    }
    call = call_on(FakeSession(data=data))
    call.site = Site(Identity("p", "s", "n"))
    assert call.scopes["call"] == {
        "call_id": "3f5b",
        "node_id": "n",
        "segment_id": "3f5b",
        "headers": [{"name": "X-Account", "value": "42"}],
        "project_id": "p",
        "space_id": "s",
        "from": "+15550100",
        "from_number": "+15550100",
        "from_name": "Ann",
        "to": "7000",
        "to_number": "7000",
        "direction": "inbound",
        "call_state": "created",
        "type": "sip",
    }


def test_the_call_state_follows_the_answer() -> None:
    session = FakeSession()
    call = call_on(session)
    before = call.scopes["call"]["call_state"]
    session.answer()
    assert (before, call.scopes["call"]["call_state"]) == ("created", "answered")


def test_no_environment_reaches_a_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hidden")
    assert not call_on(FakeSession()).scopes["envs"]


def test_publish_sets_variables_of_document_and_channel() -> None:
    session = FakeSession()
    call = call_on(session)
    call.publish(record_result="success", record_url="file:///x.wav")
    assert call.vars == session.variables == {"record_result": "success", "record_url": "file:///x.wav"}


def test_publish_on_a_call_that_has_gone_sets_the_documents_alone() -> None:
    session = FakeSession(live=False)
    call = call_on(session)
    call.publish(record_result="success")
    assert (call.vars, session.variables) == ({"record_result": "success"}, {})
