"""prompt: what it asks for, what comes of it, and what it tells."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from test_calls import FakeSession, call_on
from test_play import URL, events_of

from esl_record.errors import CallGone, CommandRefused
from esl_record.esl.digits import Collected
from esl_record.recording.params import ParameterError
from esl_record.swml.call import Call
from esl_record.swml.methods import METHODS, prompt


class Party:
    """Presses what is wanted once the sounds have been played, and keeps how it was asked."""

    def __init__(self) -> None:
        self.presses = Collected("", "")
        self.hangs_up = False
        self.asked: list[Mapping[str, Any]] = []

    def collect(self, session: FakeSession, play: Callable[[], None], **options: Any) -> Collected:
        self.asked.append(options)
        play()
        if self.hangs_up:
            raise session.gone()
        return self.presses


@pytest.fixture
def party(monkeypatch: pytest.MonkeyPatch) -> Party:
    party = Party()
    monkeypatch.setattr(prompt, "collect", party.collect)
    return party


@pytest.fixture(autouse=True)
def _untold() -> Iterator[None]:
    prompt._tell_deaf.cache_clear()
    yield
    prompt._tell_deaf.cache_clear()


def prompted(params: object, session: FakeSession | None = None) -> Call:
    call = call_on(session or FakeSession())
    METHODS["prompt"](call, params)
    return call


RESULTS = [
    (Collected("1", ""), "match_digits"),
    (Collected("12", "#"), "match_digits"),
    (Collected("", "#"), "no_match"),
    (Collected("", ""), "no_input"),
]


@pytest.mark.parametrize(("pressed", "result"), RESULTS)
def test_what_came_of_it_is_in_the_variables(party: Party, pressed: Collected, result: str) -> None:
    party.presses = pressed
    session = FakeSession()
    call = prompted({"play": "say:Press", "terminators": "#"}, session)
    assert call.vars == session.variables
    assert call.vars == {
        "prompt_result": result,
        "prompt_value": pressed.digits,
        "prompt_value_raw": pressed.digits,
        "prompt_digit_terminator": pressed.terminator,
    }


def test_an_earlier_prompt_leaves_nothing_behind(party: Party) -> None:
    call = call_on(FakeSession())
    party.presses = Collected("12", "#")
    METHODS["prompt"](call, {"play": "say:Press"})
    party.presses = Collected("", "")
    METHODS["prompt"](call, {"play": "say:Press"})
    assert (call.vars["prompt_value"], call.vars["prompt_digit_terminator"]) == ("", "")


def test_by_itself_it_is_one_digit_within_five_seconds(party: Party) -> None:
    prompted({"play": "say:Press"})
    assert party.asked == [{"most": 1, "terminators": "", "initial_timeout": 5.0, "digit_timeout": 5.0}]


def test_what_is_asked_for_is_what_the_document_says(party: Party) -> None:
    prompted({"play": "say:a", "max_digits": "4", "terminators": "#a", "initial_timeout": 0, "digit_timeout": "2.5"})
    assert party.asked == [{"most": 4, "terminators": "#A", "initial_timeout": 0.0, "digit_timeout": 2.5}]


@pytest.mark.parametrize("flag", [False, "false"])
def test_without_auto_answer_the_digits_are_read_in_early_media(party: Party, flag: object) -> None:
    session = FakeSession()
    prompted({"play": "/a.wav", "auto_answer": flag}, session)
    assert session.verbs == [("playback", "/a.wav")]


def test_the_sounds_are_played_as_play_does_after_the_answer(party: Party) -> None:
    session = FakeSession()
    prompted({"play": ["say:One", "silence:1"], "volume": 6, "say_voice": "kal"}, session)
    assert session.verbs == [
        ("answer",),
        ("audio_level", 2),
        ("speak", "One"),
        ("playback", "silence_stream://1000"),
        ("audio_level", 0),
    ]
    assert (session.voices, session.ignores_digits) == (["flite|kal"], True)


@pytest.mark.parametrize(("pressed", "result"), [("", "failed"), ("1", "match_digits")])
def test_without_its_sound_it_fails_unless_something_is_pressed(party: Party, pressed: str, result: str) -> None:
    party.presses = Collected(pressed, "")
    call = prompted({"play": "/no.wav"}, FakeSession(missing=["/no.wav"]))
    assert (call.vars["prompt_result"], call.vars["prompt_value"]) == (result, pressed)


# ---- speech


SPEECH: list[dict[str, object]] = [
    {"speech_timeout": 5},
    {"speech_end_timeout": "1.5"},
    {"speech_language": "en-US"},
    {"speech_hints": ["one", "two"], "speech_engine": "Deepgram"},
]


@pytest.mark.parametrize("speech", SPEECH)
def test_speech_alone_fails_and_the_document_goes_on(
    party: Party, speech: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    session = FakeSession()
    call = prompted({"play": "say:Speak", **speech}, session)
    assert (call.vars["prompt_result"], call.vars["prompt_value"]) == ("failed", "")
    assert (party.asked, session.verbs) == ([], [])
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "speech" in caplog.text


@pytest.mark.parametrize("speech", SPEECH)
@pytest.mark.parametrize(
    "digits", [{"max_digits": 1}, {"terminators": ""}, {"digit_timeout": 5}, {"initial_timeout": 5}]
)
def test_speech_besides_digits_leaves_the_digits_and_warns_once(
    party: Party, speech: dict[str, object], digits: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    party.presses = Collected("1", "")
    for _ in range(3):
        assert prompted({"play": "say:Either", **speech, **digits}).vars["prompt_result"] == "match_digits"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_an_engine_asks_for_no_speech(party: Party, caplog: pytest.LogCaptureFixture) -> None:
    prompted({"play": "say:Press", "speech_engine": "Google"})
    assert len(party.asked) == 1
    assert not caplog.records


# ---- status events


TOLD = [
    (Collected("12", "#"), "digit", {"type": "digit", "params": {"digits": "12", "terminator": "#"}}),
    (Collected("", "#"), "no_match", {"type": "no_match"}),
    (Collected("", ""), "no_input", {"type": "no_input"}),
]


@pytest.mark.parametrize(("pressed", "state", "result"), TOLD)
def test_who_wants_to_know_is_told_the_result(
    party: Party, pressed: Collected, state: str, result: Mapping[str, object]
) -> None:
    party.presses = pressed
    call = call_on(FakeSession())
    told = events_of(call)
    METHODS["prompt"](call, {"play": "say:Press", "status_url": URL})
    ((url, key, told_state, body),) = told
    assert (url, told_state, body["event_type"]) == (URL, state, "calling.call.collect")
    assert body["params"] == {"call_id": "3f5b", "node_id": "n", "control_id": key, "result": result}


def ending(params: Mapping[str, object], session: FakeSession) -> list[object]:
    """What is told of a prompt that may end the document."""
    call = call_on(session)
    told = events_of(call)
    try:
        METHODS["prompt"](call, {"play": ["say:Press", "/no.wav"], "status_url": URL, **params})
    except (CallGone, CommandRefused):
        pass
    return [body["params"]["result"] for _, _, _, body in told]


def test_a_caller_who_hangs_up_gave_no_input(party: Party) -> None:
    party.hangs_up = True
    assert ending({}, FakeSession(lives=3)) == [{"type": "no_input"}]


def test_a_failure_is_told_as_an_error(party: Party) -> None:
    assert ending({}, FakeSession(missing=["/no.wav"])) == [{"type": "error"}]
    assert ending({}, FakeSession(refused=["speak"])) == [{"type": "error"}]
    assert ending({"speech_timeout": 5}, FakeSession()) == [{"type": "error"}]


def test_who_does_not_want_to_know_is_not(party: Party) -> None:
    call = call_on(FakeSession())
    told = events_of(call)
    METHODS["prompt"](call, {"play": "say:Press"})
    assert [url for url, *_ in told if url] == []


# ---- what is refused


BAD = [
    ({}, ["prompt", "play", "missing"]),
    ("say:a", ["prompt", "mapping"]),
    ({"play": 5}, ["prompt", "play", "5", "list"]),
    ({"play": None}, ["prompt", "play", "a value is wanted"]),
    ({"play": "mp3:a"}, ["prompt", "play", "mp3:a", "understood"]),
    ({"play": "say:a", "max_digits": 0}, ["prompt", "max_digits", "0", "1"]),
    ({"play": "say:a", "max_digits": 1.5}, ["prompt", "max_digits", "1.5", "multiple of 1"]),
    ({"play": "say:a", "max_digits": "inf"}, ["prompt", "max_digits", "inf"]),
    ({"play": "say:a", "terminators": "x"}, ["prompt", "terminators", "x", "0-9 A-D * #"]),
    ({"play": "say:a", "digit_timeout": -1}, ["prompt", "digit_timeout", "-1", "0"]),
    ({"play": "say:a", "initial_timeout": "soon"}, ["prompt", "initial_timeout", "soon", "number"]),
    ({"play": "say:a", "speech_timeout": "soon"}, ["prompt", "speech_timeout", "soon", "number"]),
    ({"play": "say:a", "speech_hints": "one"}, ["prompt", "speech_hints", "one", "list"]),
    ({"play": "say:a", "volume": -41}, ["prompt", "volume", "-41", "-40"]),
    ({"play": "say:a", "urls": []}, ["prompt", "urls", "play", "max_digits"]),
]


@pytest.mark.parametrize(("params", "named"), BAD, ids=lambda value: str(value)[:40])
def test_wrong_parameters_are_refused_by_name_with_nothing_heard(
    party: Party, params: object, named: list[str]
) -> None:
    session = FakeSession()
    with pytest.raises(ParameterError) as caught:
        METHODS["prompt"](call_on(session), params)
    missing = [word for word in named if word not in str(caught.value)]
    assert (missing, session.verbs, party.asked) == ([], [], [])


def test_no_sound_at_all_still_waits_for_digits(party: Party) -> None:
    party.presses = Collected("1", "")
    assert prompted({"play": []}).vars["prompt_value"] == "1"
