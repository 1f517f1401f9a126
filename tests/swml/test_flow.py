"""The way through a document: labels and jumps, branches, sections within sections, and what ends it."""

import json

import pytest
from test_calls import FakeSession, call_on
from test_document import within

from esl_record.errors import DocumentError
from esl_record.swml.call import Call
from esl_record.swml.document import parse
from esl_record.swml.runner import DEEPEST, STEPS, TRANSFERS, run


def ran(session: FakeSession, sections: object, **variables: object) -> Call:
    """Runs a document of these sections, or of this one list of steps."""
    call = call_on(session, **variables)
    whole = sections if isinstance(sections, dict) else {"main": sections}
    run(parse(json.dumps({"version": "1.0.0", "sections": whole}), "flow"), call)
    return call


def said(session: FakeSession) -> list[object]:
    return [arguments[0] for verb, *arguments in session.verbs if verb == "speak"]


def say(text: str) -> dict[str, object]:
    return {"play": {"url": f"say:{text}"}}


def heard(sections: object, **variables: object) -> list[object]:
    session = FakeSession()
    ran(session, sections, **variables)
    assert session.verbs[-1] == ("hangup", "NORMAL_CLEARING")
    return said(session)


def failed(sections: object, **variables: object) -> DocumentError:
    session = FakeSession()
    with pytest.raises(DocumentError) as caught:
        ran(session, sections, **variables)
    return caught.value


# ---- goto and label


def test_a_jump_is_taken_at_most_as_often_as_it_says() -> None:
    assert heard([{"label": "foo"}, say("again"), {"goto": {"label": "foo", "max": 3}}]) == ["again"] * 4


def test_a_jump_without_a_limit_is_taken_a_hundred_times() -> None:
    assert len(heard([{"label": "foo"}, say("again"), {"goto": {"label": "foo"}}])) == 101


def test_a_jump_is_taken_while_its_condition_holds() -> None:
    steps = [{"label": "foo"}, say("again"), {"set": {"n": "${n + 1}"}}, {"goto": {"label": "foo", "when": "n < 3"}}]
    assert heard(steps, n=0) == ["again"] * 3


def test_a_jump_forward_skips() -> None:
    assert heard([{"goto": {"label": "end"}}, say("skipped"), {"label": "end"}, say("end")]) == ["end"]


def test_a_jump_out_of_a_branch_leads_to_the_section() -> None:
    branch = [{"when": "true", "then": [{"goto": {"label": "end"}}, say("never")]}]
    assert heard([{"cond": branch}, say("skipped"), {"label": "end"}, say("end")]) == ["end"]


def test_a_section_begins_its_count_anew_each_time_it_is_run() -> None:
    sections = {
        "main": [{"execute": "loop"}, {"execute": "loop"}],
        "loop": [{"label": "a"}, say("x"), {"goto": {"label": "a", "max": 1}}],
    }
    assert heard(sections) == ["x"] * 4


@pytest.mark.parametrize("most", [0, 101, 1.5, "many"])
def test_a_limit_is_one_to_a_hundred(most: object) -> None:
    error = failed([{"label": "a"}, {"goto": {"label": "a", "max": most}}])
    assert error.code == "relay_script_method_parameter_invalid_value"


def test_a_label_of_another_section_is_not_jumped_to() -> None:
    error = failed({"main": [{"goto": {"label": "there"}}], "other": [{"label": "there"}]})
    assert error.code == "relay_script_method_parameter_invalid_value"
    assert "no such label" in str(error)


def test_a_label_in_a_branch_that_is_not_run_is_not_jumped_to() -> None:
    hidden = {"cond": [{"when": "false", "then": [{"label": "there"}]}]}
    error = failed([{"goto": {"label": "there"}}, hidden])
    assert error.code == "relay_script_method_execute_failed"


# ---- cond and switch


@pytest.mark.parametrize(("kind", "expected"), [("sip", ["sip"]), ("phone", ["phone"]), ("fax", ["else"])])
def test_the_first_branch_that_holds_is_run(kind: str, expected: list[str]) -> None:
    branches = [
        {"when": "vars.kind.toLowerCase() == 'sip'", "then": [say("sip")]},
        {"when": "kind == 'phone'", "then": [say("phone")]},
        {"when": "kind == 'phone' || true && false", "then": [say("never")]},
        {"else": [say("else")]},
    ]
    assert heard([{"cond": branches}], kind=kind) == expected


def test_else_may_stand_beside_when() -> None:
    assert heard([{"cond": [{"when": "false", "then": [say("a")], "else": [say("b")]}]}]) == ["b"]


def test_without_a_branch_that_holds_nothing_is_run() -> None:
    assert heard([{"cond": [{"when": "false", "then": [say("a")]}]}, say("b")]) == ["b"]


@pytest.mark.parametrize(
    ("value", "expected"), [(5, "five"), ("5", "five"), (True, "yes"), (None, "default"), (6, "default")]
)
def test_a_switch_compares_as_text(value: object, expected: str) -> None:
    case = {"5": [say("five")], "true": [say("yes")]}
    assert heard([{"switch": {"variable": "foo", "case": case, "default": [say("default")]}}], foo=value) == [expected]


def test_a_switch_reads_any_scope_and_needs_no_default() -> None:
    sections = {
        "main": [{"set": {"foo": 5}}, {"execute": {"dest": "fn", "params": {"foo": "${foo}"}}}],
        "fn": [
            {"switch": {"variable": "params.foo", "case": {"5": [say("yup, math works!")]}}},
            {"switch": {"variable": "params.bar", "case": {"5": [say("never")]}}},
        ],
    }
    assert heard(sections) == ["yup, math works!"]


def test_else_is_for_when_nothing_holds_wherever_it_stands() -> None:
    assert heard([{"cond": [{"else": [say("else")]}, {"when": "true", "then": [say("then")]}]}]) == ["then"]


# ---- execute, return, transfer


def test_a_section_is_run_with_its_parameters_and_then_the_next_step() -> None:
    sections = {
        "main": [{"execute": {"dest": "sub", "params": {"what": "hello"}}}, say("[${params.what}]")],
        "sub": [say("${params.what}")],
    }
    assert heard(sections) == ["hello", "[]"]


def test_what_is_returned_is_a_variable() -> None:
    sections = {
        "main": [{"execute": {"dest": "fn"}}, say("returned ${return_value[0].a}")],
        "fn": [{"return": [{"a": 1}]}, say("never")],
    }
    assert heard(sections) == ["returned 1"]


def test_on_return_runs_with_what_was_returned() -> None:
    sections = {
        "main": [{"execute": {"dest": "fn", "on_return": [say("returned ${return_value}")]}}],
        "fn": [{"return": "hello"}],
    }
    assert heard(sections) == ["returned hello"]


@pytest.mark.parametrize(
    "result",
    [
        {"case": {"1": [say("one")]}, "default": [say("other")]},
        {"variable": "return_value", "case": {"1": [say("one")]}},
        [{"when": "return_value == 1", "then": [say("one")]}, {"else": [say("other")]}],
    ],
)
def test_a_result_branches_on_what_was_returned(result: object) -> None:
    sections = {"main": [{"execute": {"dest": "fn", "result": result}}], "fn": [{"return": 1}]}
    assert heard(sections) == ["one"]


def test_a_result_may_be_a_switch_on_any_variable() -> None:
    result = {"variable": "vars.kind", "case": {"sip": [say("sip")], "1": [say("one")]}}
    sections = {"main": [{"execute": {"dest": "fn", "result": result}}], "fn": [{"return": 1}]}
    assert heard(sections, kind="sip") == ["sip"]


def test_a_return_without_a_value_returns_none() -> None:
    sections = {
        "main": [{"execute": "fn"}, {"cond": [{"when": "!return_value", "then": [say("none")]}]}],
        "fn": ["return"],
    }
    assert heard(sections) == ["none"]


@pytest.mark.parametrize("method", ["execute", "switch"])
def test_steps_do_not_come_from_a_variable(method: str) -> None:
    given = {
        "execute": {"dest": "fn", "on_return": [say("never")]},
        "switch": {"variable": "a", "case": {"": [say("never")]}},
    }
    error = failed({"main": [{method: "${given}"}], "fn": []}, given=given[method])
    assert error.code == "relay_script_method_parameter_invalid_value"


def test_a_return_in_main_ends_the_document() -> None:
    assert heard([say("a"), {"return": 1}, say("b")]) == ["a"]


def test_a_transfer_does_not_come_back() -> None:
    sections = {
        "main": [{"execute": "first"}, say("never")],
        "first": [{"transfer": {"dest": "second", "params": {"n": 1}}}, say("never")],
        "second": [say("second ${params.n}")],
    }
    assert heard(sections) == ["second 1"]


def test_a_document_may_stand_in_a_destination() -> None:
    inner = json.dumps({"version": "1.0.0", "sections": {"main": [say("inner"), {"return": "done"}]}})
    assert heard([{"execute": {"dest": inner}}, say("${return_value}")]) == ["inner", "done"]
    assert heard([{"transfer": inner}, say("never")]) == ["inner"]


def test_transfers_are_counted() -> None:
    error = failed({"main": [{"transfer": "main"}]})
    assert error.code == "relay_script_too_many_transfers"
    assert str(TRANSFERS) in str(error)


def test_sections_within_sections_are_counted() -> None:
    error = failed({"main": [{"execute": "main"}]})
    assert error.code == "relay_script_nested_too_deep"
    assert str(DEEPEST) in str(error)


def test_steps_without_end_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esl_record.swml.runner.STEPS", 500)
    assert STEPS > 500
    twice = [{"execute": "b"}, {"execute": "b"}]
    sections = {
        "main": twice,
        "b": [{"execute": "c"}] * 10,
        "c": [{"execute": "d"}] * 10,
        "d": [{"set": {"a": 1}}] * 10,
    }
    error = failed(sections)
    assert error.code == "relay_script_method_execute_failed"
    assert "500 steps" in str(error)


def test_blocks_within_blocks_through_all_sections_have_an_end() -> None:
    """Python's own stack must not decide: where it ends within JavaScript so does the process."""
    steps: list[object] = [{"execute": "main"}]
    for _ in range(24):
        steps = [{"cond": [{"when": "1 < 2", "then": steps}]}]
    assert failed({"main": steps}).code == "relay_script_nested_too_deep"


@pytest.mark.parametrize(("pressed", "expected"), [("007", "as pressed"), ("*1", "star"), ("other", "other")])
def test_a_reference_in_a_switch_is_what_it_stands_for_and_no_program(pressed: str, expected: str) -> None:
    case = {"007": [say("as pressed")], "*1": [say("star")], "secret": [say("leaked")]}
    choice = {"switch": {"variable": "${p}", "case": case, "default": [say("other")]}}
    assert heard([choice], p=pressed, other="secret") == [expected]


@pytest.mark.parametrize(
    "step",
    [
        {"request": "https://ann:hunter2@example.com/"},
        {"request": {"url": "https://example.com/", "method": "GET", "headers": {"Authorization": ["hunter2"]}}},
        {"connect": [{"to": "+1555", "username": "ann", "password": "hunter2"}]},
        {"transfer": " https://ann:hunter2@example.com/"},
        {"execute": "wss://ann:hunter2@example.com/"},
        {"play": "https://ann:hunter2@/"},
    ],
)
def test_no_message_shows_a_password(step: object) -> None:
    assert "hunter2" not in str(failed([step]))


# ---- variables and background recordings


def test_a_variable_can_be_taken_back() -> None:
    call = ran(FakeSession(), [{"set": {"a": 1, "b": 2, "c": 3}}, {"unset": "a"}, {"unset": ["b", "vars.c", "d"]}])
    assert call.vars == {}


def test_a_background_recording_is_begun_named_and_stopped() -> None:
    session = FakeSession()
    call = ran(
        session, [{"record_call": {"control_id": "a", "stereo": True}}, say("${record_call_url}"), "stop_record_call"]
    )
    assert said(session) == ["http://x/background.wav"]
    assert session.variables == {
        "record_control_id": "a",
        "record_call_url": "http://x/background.wav",
        "record_call_result": "success",
        "stop_record_call_result": "success",
    }
    assert call.vars == session.variables


def test_a_background_recording_has_the_documented_defaults() -> None:
    call = ran(FakeSession(), ["record_call"])
    ((control_id, params),) = call.recordings.started.items()  # type: ignore[attr-defined]
    assert call.vars["record_control_id"] == control_id == params.control_id
    assert (params.direction.value, params.terminators) == ("both", "")
    assert (params.initial_timeout, params.end_silence_timeout, params.max_length) == (0, 0, 0)


def test_a_named_one_is_stopped_and_one_that_is_not_there_is_failed() -> None:
    steps = [
        {"record_call": {"control_id": "a"}},
        {"record_call": {"control_id": "b"}},
        {"stop_call_record": {"control_id": "a"}},
    ]
    call = ran(FakeSession(), steps)
    assert list(call.recordings.started) == ["b"]  # type: ignore[attr-defined]
    call = ran(FakeSession(), [{"stop_record_call": {"control_id": "a"}}])
    assert call.vars["stop_record_call_result"] == "failed"


def test_without_a_name_the_one_started_last_of_those_that_run_is_stopped() -> None:
    started = [{"record_call": {"control_id": name}} for name in "abc"]
    call = ran(FakeSession(), [*started, {"stop_record_call": {"control_id": "c"}}, "stop_record_call"])
    assert list(call.recordings.started) == ["a"]  # type: ignore[attr-defined]
    assert call.vars["stop_record_call_result"] == "success"
    assert ran(FakeSession(), ["stop_record_call"]).vars["stop_record_call_result"] == "failed"


# ---- all that is wrong, at once


def test_every_mistake_is_told_with_its_place_and_code_before_the_first_step() -> None:
    session = FakeSession()
    sections = {
        "main": [
            "answer",
            {"recrod": {}},
            {"record": {"stereo": "perhaps", "volume": 5}},
            {"cond": [{"when": "true", "then": [{"sleep": -5}, {"ai": {}}]}]},
            {"execute": "nowhere"},
            {"play": {}},
        ],
        "other": [{"sleep": {}}, {"goto": {"label": "${anywhere}"}}, {"sleep": "${later}"}],
    }
    with pytest.raises(DocumentError) as caught:
        ran(session, sections)
    assert session.verbs == []
    told = str(caught.value)
    for words in (
        "section main, step 2: no method 'recrod'",
        "section main, step 3: record: stereo = 'perhaps'",
        "section main, step 3: record: unknown parameter 'volume'",
        "section main, step 4 cond 1 then 1: sleep: duration = ",
        "section main, step 4 cond 1 then 2: ai is a method of SWML that this recorder does not run",
        "section main, step 5: execute: dest = 'nowhere'",
        "section other, step 1: sleep: parameter 'duration' is missing",
    ):
        assert words in told
    assert caught.value.code == "relay_script_method_undefined"
    assert "relay_script_method_parameter_undefined" in caught.value.codes
    assert "relay_script_method_parameter_missing" in caught.value.codes
    assert "later" not in told
    assert "anywhere" not in told


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ({"record": {"volume": "${x}"}}, "undefined"),
        ({"record": {"status_url": None}}, "invalid_value"),
        ({"stop_record_call": {"control_id": None}}, "invalid_value"),
        ({"goto": {"label": "a", "when": None}}, "invalid_value"),
        ({"switch": {"variable": "a", "case": "${x}"}}, "invalid_value"),
        ({"switch": {"variable": "a", "case": {"b": "${x}"}}}, "invalid_value"),
        ({"cond": "${x}"}, "invalid_value"),
        ({"cond": [{"when": "true", "then": "${x}"}]}, "invalid_value"),
        ({"execute": {"dest": "main", "on_return": "${x}"}}, "invalid_value"),
        ({"execute": {"dest": "main", "result": {"cases": {}}}}, "missing"),
        ({"execute": {"dest": "main", "result": {"case": {}, "cases": {}}}}, "undefined"),
        ({"execute": {"dest": "main", "result": [{"when": "true"}]}}, "invalid_value"),
    ],
    ids=str,
)
def test_a_mistake_beside_a_reference_or_in_place_of_steps_is_told(step: object, code: str) -> None:
    session = FakeSession()
    with pytest.raises(DocumentError) as caught:
        ran(session, [{"label": "a"}, step])
    assert (caught.value.code, session.verbs) == (f"relay_script_method_parameter_{code}", [])


# ---- limits


@pytest.mark.parametrize("grown", [{"a": "${a}${a}"}, {"a": ["${a}", "${a}"]}, {"a": ["${a}"]}], ids=str)
def test_variables_do_not_grow_without_end(grown: object) -> None:
    sections = {
        "main": [{"set": {"a": "x"}}, {"execute": "grow"}, {"execute": "grow"}],
        "grow": [{"label": "round"}, {"set": grown}, {"goto": {"label": "round"}}],
    }
    with within(5):
        assert failed(sections).code == "relay_script_method_parameter_invalid_value"


def test_all_variables_together_do_not_either() -> None:
    steps = [{"set": {"a": "x" * 100_000}}, *({"set": {f"b{n}": "${a}"}} for n in range(20))]
    assert failed(steps).code == "relay_script_method_parameter_invalid_value"


def test_a_call_that_cannot_be_hung_up_is_left_to_the_dialplan() -> None:
    with pytest.raises(DocumentError, match="at its end: hangup"):
        ran(FakeSession(refused=["hangup"]), ["answer"])
