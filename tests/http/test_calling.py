"""Commands to live calls: what they do, when they are answered, and every way they can be wrong."""

from typing import Any

import gevent
import pytest
from http_fakes import CALL, MakeSite, Site, codes

from esl_record.errors import CallGone, CommandRefused, CommandTimeout
from esl_record.esl.causes import CAUSES
from esl_record.http.calling import Reason
from esl_record.live import MOST_AT_ONCE
from esl_record.recording.machine import PauseBehavior, State
from esl_record.recording.params import Direction, Format

AT_ONCE = 0.01
"""Seconds a command gets where the switch is not to carry it out."""


@pytest.fixture
def calling(site: Site) -> Site:
    """A site with one live call."""
    site.place()
    return site


def started(site: Site, control_id: str = "c1") -> None:
    assert site.tell("calling.record", {"control_id": control_id}).status_code == 200


# ---- record


def test_a_recording_is_started_and_the_leg_told(calling: Site) -> None:
    answer = calling.tell("calling.record", {"control_id": "c1"})
    assert answer.status_code == 200
    told = answer.json
    assert told.pop("created_at").endswith("Z")
    assert told.pop("recording_id") == calling.recorders["c1"].recording.recording_id
    assert told == {
        "id": CALL,
        "from": "15550100",
        "from_name": "Ann",
        "to": "7001",
        "direction": "inbound",
        "status": "answered",
        "type": "relay_sip_call",
        "control_id": "c1",
    }


def test_what_is_not_given_has_the_default_of_the_rest_api(calling: Site) -> None:
    started(calling)
    params = calling.recorders["c1"].params
    assert params.model_dump(exclude={"control_id"}) == {
        "stereo": False,
        "format": Format.MP3,
        "direction": Direction.SPEAK,
        "terminators": "#",
        "beep": False,
        "input_sensitivity": 44.0,
        "initial_timeout": 4.0,
        "end_silence_timeout": 0.5,
        "max_length": 0.0,
        "early_media": False,
        "status_url": None,
    }


AUDIO = {
    "stereo": True,
    "format": "wav",
    "direction": "both",
    "terminators": "9a",
    "beep": True,
    "input_sensitivity": 80,
    "initial_timeout": 0,
    "end_silence_timeout": 2.5,
    "max_length": 60,
    "early_media": True,
}


@pytest.mark.parametrize("params", [{"record": {"audio": AUDIO}}, {"audio": AUDIO}])
def test_what_is_given_is_what_is_recorded(calling: Site, params: dict[str, Any]) -> None:
    url = "https://example.com/status"
    answer = calling.tell("calling.record", {"control_id": "c1", "status_url": url, **params})
    assert answer.status_code == 200
    given = calling.recorders["c1"].params.model_dump(mode="json")
    assert given == {**AUDIO, "terminators": "9A", "control_id": "c1", "status_url": url}


@pytest.mark.parametrize("params", [None, {}, {"record": {}}])
def test_a_recording_without_a_name_gets_one(calling: Site, params: object) -> None:
    answer = calling.tell("calling.record", params)
    assert list(calling.recorders) == [answer.json["control_id"]]
    assert calling.tell("calling.record", params).json["control_id"] != answer.json["control_id"]


def test_one_recording_too_many_is_refused(calling: Site) -> None:
    for number in range(MOST_AT_ONCE):
        started(calling, f"c{number}")
    answer = calling.tell("calling.record", {"control_id": "more"})
    assert (answer.status_code, codes(answer)) == (422, [("too_many_recordings", "id")])
    assert f"at most {MOST_AT_ONCE}" in answer.text


def test_a_name_in_use_is_refused(calling: Site) -> None:
    started(calling)
    answer = calling.tell("calling.record", {"control_id": "c1"})
    assert (answer.status_code, codes(answer)) == (422, [("control_id_in_use", "control_id")])


@pytest.mark.parametrize("command", ["calling.record", "calling.end"])
def test_a_call_that_has_hung_up_takes_no_more(calling: Site, command: str) -> None:
    calling.session.hangup_cause = "NORMAL_CLEARING"
    answer = calling.tell(command)
    assert (answer.status_code, codes(answer)) == (404, [("call_not_found", "id")])


@pytest.mark.parametrize(
    ("audio", "expected"),
    [
        ({"stereo": "yes"}, [("invalid_parameter", "stereo")]),
        ({"format": "ogg"}, [("invalid_parameter", "format")]),
        ({"direction": "up"}, [("invalid_parameter", "direction")]),
        ({"terminators": "x"}, [("invalid_parameter", "terminators")]),
        ({"terminators": "#\n"}, [("invalid_parameter", "terminators")]),
        ({"input_sensitivity": 100.1}, [("invalid_parameter", "input_sensitivity")]),
        ({"initial_timeout": -1}, [("invalid_parameter", "initial_timeout")]),
        ({"end_silence_timeout": "soon"}, [("invalid_parameter", "end_silence_timeout")]),
        ({"max_length": True}, [("invalid_parameter", "max_length")]),
        ({"max_length": None}, [("invalid_parameter", "max_length")]),
        ({"lenght": 1}, [("unknown_parameter", "lenght")]),
        (
            {"beep": 1, "max_length": [], "colour": "red"},
            [("invalid_parameter", "beep"), ("invalid_parameter", "max_length"), ("unknown_parameter", "colour")],
        ),
    ],
)
@pytest.mark.parametrize("nested", [True, False])
def test_every_mistake_is_told_with_its_parameter(
    calling: Site, audio: object, expected: list[tuple[str, str]], nested: bool
) -> None:
    params = {"record": {"audio": audio}} if nested else {"audio": audio}
    answer = calling.tell("calling.record", {"control_id": "c1", **params})
    assert answer.status_code == 422
    assert codes(answer) == expected
    assert calling.recorders == {}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"status_url": "ftp://example.com"}, [("invalid_parameter", "status_url")]),
        ({"status_url": 5}, [("invalid_parameter", "status_url")]),
        ({"control_id": ""}, [("invalid_parameter", "control_id")]),
        ({"control_id": "x" * 257}, [("invalid_parameter", "control_id")]),
        ({"control_id": 7}, [("invalid_parameter", "control_id")]),
        ({"audio": {}, "record": {}}, [("invalid_parameter", "audio")]),
        ({"record": {"video": {}}}, [("unknown_parameter", "video")]),
        ([], [("invalid_parameter", "params")]),
        ("x", [("invalid_parameter", "params")]),
    ],
)
def test_so_is_one_beside_the_audio(calling: Site, params: object, expected: list[tuple[str, str]]) -> None:
    answer = calling.tell("calling.record", params)
    assert (answer.status_code, codes(answer)) == (422, expected)


# ---- pause, resume, stop


def test_a_recording_is_paused_resumed_and_stopped(calling: Site) -> None:
    started(calling)
    recorder = calling.recorders["c1"]
    for command, state in [("pause", State.PAUSED), ("resume", State.RECORDING), ("stop", State.FINISHED)]:
        answer = calling.tell(f"calling.record.{command}", {"control_id": "c1"})
        assert answer.status_code == 200
        assert (answer.json["id"], answer.json["control_id"]) == (CALL, "c1")
        assert answer.json["recording_id"] == recorder.recording.recording_id
        assert recorder.recording.state is state
    assert recorder.orders == [("pause", PauseBehavior.SKIP), "resume", "stop"]


@pytest.mark.parametrize("behavior", list(PauseBehavior))
def test_a_pause_has_its_behavior(calling: Site, behavior: PauseBehavior) -> None:
    started(calling)
    calling.tell("calling.record.pause", {"control_id": "c1", "behavior": behavior.value})
    assert calling.recorders["c1"].orders == [("pause", behavior)]


def test_it_is_the_recording_of_that_name_that_is_told(calling: Site) -> None:
    started(calling, "c1")
    started(calling, "c2")
    calling.tell("calling.record.stop", {"control_id": "c1"})
    assert [recorder.orders for recorder in calling.recorders.values()] == [["stop"], []]


@pytest.mark.parametrize("command", ["pause", "resume", "stop"])
def test_what_takes_too_long_is_said_to(make_site: MakeSite, command: str) -> None:
    site = make_site(timeout=AT_ONCE)
    site.place()
    started(site)
    site.recorders["c1"].deaf = True
    answer = site.tell(f"calling.record.{command}", {"control_id": "c1"})
    assert (answer.status_code, codes(answer)) == (503, [("not_in_time", None)])


def test_the_answer_waits_until_it_is_so(calling: Site) -> None:
    started(calling)
    recorder = calling.recorders["c1"]
    recorder.deaf = True
    done = gevent.event.Event()
    recorder.stop = lambda: done  # type: ignore[method-assign]
    asked = gevent.spawn(calling.tell, "calling.record.stop", {"control_id": "c1"})
    gevent.idle()
    assert not asked.ready()
    recorder.become(State.FINISHED)
    done.set()
    assert asked.get(timeout=5).status_code == 200


@pytest.mark.parametrize("command", ["pause", "resume", "stop"])
def test_a_recording_that_failed_meanwhile(calling: Site, command: str) -> None:
    started(calling)
    calling.recorders["c1"].become(State.ERROR)
    answer = calling.tell(f"calling.record.{command}", {"control_id": "c1"})
    assert (answer.status_code, codes(answer)) == (409, [("recording_ended", "control_id")])


@pytest.mark.parametrize(("command", "status"), [("pause", 409), ("resume", 409), ("stop", 200)])
@pytest.mark.parametrize("state", [State.FINISHED, State.NO_INPUT])
def test_a_recording_that_has_ended_by_itself(calling: Site, command: str, status: int, state: State) -> None:
    started(calling)
    calling.recorders["c1"].become(state)
    assert calling.tell(f"calling.record.{command}", {"control_id": "c1"}).status_code == status


def test_a_recording_outlives_its_call_for_a_moment(calling: Site) -> None:
    started(calling)
    calling.session.hangup_cause = "NORMAL_CLEARING"
    answer = calling.tell("calling.record.stop", {"control_id": "c1"})
    assert (answer.status_code, answer.json["status"]) == (200, "ended")


@pytest.mark.parametrize("command", ["pause", "resume", "stop"])
def test_an_unknown_recording(calling: Site, command: str) -> None:
    started(calling)
    answer = calling.tell(f"calling.record.{command}", {"control_id": "c2"})
    assert (answer.status_code, codes(answer)) == (404, [("recording_not_found", "control_id")])


@pytest.mark.parametrize(
    ("command", "params", "expected"),
    [
        ("pause", {}, [("missing_required_parameter", "control_id")]),
        ("resume", {}, [("missing_required_parameter", "control_id")]),
        ("stop", None, [("missing_required_parameter", "params")]),
        ("pause", {"control_id": "c1", "behavior": "mute"}, [("invalid_parameter", "behavior")]),
        ("resume", {"control_id": "c1", "behavior": "skip"}, [("unknown_parameter", "behavior")]),
    ],
)
def test_wrong_parameters_of_them(calling: Site, command: str, params: object, expected: object) -> None:
    answer = calling.tell(f"calling.record.{command}", params)
    assert (answer.status_code, codes(answer)) == (422, expected)


# ---- end


@pytest.mark.parametrize(
    ("params", "cause"),
    [(None, "NORMAL_CLEARING"), ({}, "NORMAL_CLEARING"), *(({"reason": reason}, CAUSES[reason]) for reason in Reason)],
)
def test_a_call_is_ended(calling: Site, params: object, cause: str) -> None:
    answer = calling.tell("calling.end", params)
    assert (answer.status_code, answer.json["status"]) == (200, "ended")
    assert calling.session.hangup_cause == cause
    assert not {"control_id", "recording_id"} & set(answer.json)


def test_an_unknown_reason_ends_nothing(calling: Site) -> None:
    answer = calling.tell("calling.end", {"reason": "boredom"})
    assert (answer.status_code, codes(answer)) == (422, [("invalid_parameter", "reason")])
    assert calling.session.live


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (CallGone("call: gone"), 404, ("call_not_found", "id")),
        (CommandRefused("hangup: -ERR"), 503, ("switch_unavailable", None)),
        (CommandTimeout("hangup: no answer"), 503, ("switch_unavailable", None)),
    ],
)
def test_a_switch_that_does_not_hang_up(
    calling: Site, failure: Exception, status: int, code: tuple[str, str | None]
) -> None:
    calling.session.failure = failure
    answer = calling.tell("calling.end")
    assert (answer.status_code, codes(answer)) == (status, [code])


def test_a_call_that_still_lives_after_it(calling: Site) -> None:
    calling.session.deaf = True
    answer = calling.tell("calling.end")
    assert (answer.status_code, codes(answer)) == (503, [("not_in_time", None)])


# ---- any command


@pytest.mark.parametrize("call", ["nobody", "\u0000", "x" * 256])
def test_an_unknown_call(calling: Site, call: str) -> None:
    answer = calling.tell("calling.end", call=call)
    assert (answer.status_code, codes(answer)) == (404, [("call_not_found", "id")])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", [("invalid_json", None)]),
        (b"{", [("invalid_json", None)]),
        (b"\xff", [("invalid_json", None)]),
        (b'"\\ud800"', [("invalid_json", None)]),
        (b"[" * 60000, [("invalid_json", None)]),
        (b"null", [("invalid_parameter", None)]),
        (b"[]", [("invalid_parameter", None)]),
        (b"{}", [("missing_required_parameter", "command")]),
        (b'{"command": "calling.sing", "id": "x"}', [("unknown_command", "command")]),
        (b'{"command": 5, "id": "x"}', [("unknown_command", "command")]),
        (b'{"command": "calling.end"}', [("missing_required_parameter", "id")]),
        (b'{"command": "calling.end", "id": 5}', [("invalid_parameter", "id")]),
        (b'{"command": "calling.end", "id": "x", "at": 1}', [("unknown_parameter", "at")]),
        (
            b'{"command": "calling.record", "id": "x", '
            b'"params": {"audio": {"max_length": NaN, "initial_timeout": 1e999}}}',
            [("invalid_parameter", "initial_timeout"), ("invalid_parameter", "max_length")],
        ),
    ],
)
def test_a_body_that_is_no_command(calling: Site, body: bytes, expected: list[tuple[str, str | None]]) -> None:
    headers = {"Content-Type": "application/json"}
    answer = calling.ask("POST", "/api/calling/calls", body=body, headers=headers)
    assert answer.status_code == 422
    assert sorted(codes(answer)) == sorted(expected)


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx", "", None,
     "application/json-patch+json", "text/plain; application/json"],
)  # fmt: skip
@pytest.mark.parametrize("guarded", [True, False])
def test_a_body_of_another_kind_is_refused(make_site: MakeSite, kind: str | None, guarded: bool) -> None:
    site = make_site(guarded=guarded)
    call = site.place()
    body = b'{"command": "calling.end", "id": "%s"}' % CALL.encode()
    answer = site.ask("POST", "/api/calling/calls", body=body, headers={"Content-Type": kind})
    assert (answer.status_code, codes(answer)) == (415, [("unsupported_media_type", None)])
    assert call.session.live


def test_its_charset_may_be_named(calling: Site) -> None:
    body = b'{"command": "calling.end", "id": "%s"}' % CALL.encode()
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert calling.ask("POST", "/api/calling/calls", body=body, headers=headers).status_code == 200


def test_a_body_that_is_too_large(calling: Site) -> None:
    headers = {"Content-Type": "application/json"}
    for size, status in ((65536, 422), (65537, 413)):
        answer = calling.ask("POST", "/api/calling/calls", body=b" " * size, headers=headers)
        assert answer.status_code == status
    assert codes(answer) == [("too_large", None)]
    assert answer.headers["connection"] == "close"


def test_without_credentials_nothing_is_told_or_done(calling: Site) -> None:
    for command, call in (("calling.end", CALL), ("calling.end", "nobody"), ("nonsense", CALL)):
        sent = {"command": command, "id": call}
        answer = calling.ask("POST", "/api/calling/calls", json=sent, headers={"Authorization": None})
        assert (answer.status_code, codes(answer)) == (401, [("unauthorized", None)])
    assert calling.session.live
