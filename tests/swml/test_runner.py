"""Running a document: its steps in order, every error with its code, and what a recording leaves in variables."""

import pytest
from test_calls import FakeSession, RunRecorder, call_on, no_recorder, recorder_of
from test_document import TookTooLongError, within

from esl_record.errors import CallGone, DocumentError
from esl_record.recording.machine import State
from esl_record.swml.call import Call
from esl_record.swml.document import SIZE_LIMIT, parse
from esl_record.swml.runner import run

URL = "http://127.0.0.1:8088/api/v1/recordings/8d1c/download?expires=1&signature=a.wav"


def running(steps: str, session: FakeSession, run_recorder: RunRecorder = no_recorder, **variables: object) -> Call:
    """Runs ``steps``, YAML's flow or block list, as section main."""
    call = call_on(session, run_recorder, **variables)
    indented = "\n".join(f"    {line}" for line in steps.splitlines())
    run(parse(f"version: 1.0.0\nsections:\n  main:\n{indented}\n", "greeting"), call)
    return call


def failure(steps: str, session: FakeSession, run_recorder: RunRecorder = no_recorder) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        running(steps, session, run_recorder)
    return caught.value


# ---- steps


def test_steps_run_in_order_and_the_end_hangs_up() -> None:
    session = FakeSession()
    running("[{answer: {max_duration: 0}}, {play: 'say:Hi'}, {sleep: 5}]", session)
    assert session.verbs == [("answer",), ("speak", "Hi"), ("sleep", 5), ("hangup", "NORMAL_CLEARING")]


def test_an_empty_section_hangs_up() -> None:
    session = FakeSession()
    running("[]", session)
    assert session.verbs == [("hangup", "NORMAL_CLEARING")]


def test_only_main_runs() -> None:
    session = FakeSession()
    document = parse("version: 1.0.0\nsections: {main: [{sleep: 1}], other: [{sleep: 2}]}", "greeting")
    run(document, call_on(session))
    assert ("sleep", 2) not in session.verbs


def test_nothing_runs_after_a_hangup_step() -> None:
    session = FakeSession()
    with pytest.raises(CallGone):
        running("[{hangup: busy}, {play: 'say:Hi'}]", session)
    assert session.verbs == [("hangup", "USER_BUSY")]


def test_a_caller_who_hangs_up_ends_the_document_without_a_script_error() -> None:
    session = FakeSession(live=False)
    call = call_on(session)
    document = parse("version: 1.0.0\nsections: {main: [{play: 'say:Hi'}]}", "greeting")
    with pytest.raises(CallGone, match="ORIGINATOR_CANCEL"):
        run(document, call)
    assert (session.verbs, call.vars) == ([], {})


# ---- variables


def test_a_step_sees_what_the_steps_before_it_set() -> None:
    session = FakeSession(answered=True)
    running("[{set: {wait: 250, who: Ann}}, {sleep: '${wait}'}, {play: 'say:Hi ${vars.who}, ${wait}'}]", session)
    assert session.verbs[:2] == [("sleep", 250), ("speak", "Hi Ann, 250")]


def test_all_parameters_may_come_from_a_variable() -> None:
    session = FakeSession(answered=True)
    running("[{play: '${how}'}]", session, how={"urls": ["say:One", "say:Two"]})
    assert session.verbs[:2] == [("speak", "One"), ("speak", "Two")]


@pytest.mark.parametrize(
    "steps",
    [
        "[{play: 'say:${call.from_name}'}]",
        "[{set: {who: '${call.from_name}'}}, {play: 'say:${who}'}]",
        "[{set: {a: '%{from_name}'}}, {set: {b: '${a}'}}, {play: 'say:${b}'}]",
    ],
)
def test_a_callers_name_is_never_taken_for_a_reference(steps: str) -> None:
    session = FakeSession(answered=True, data={"Caller-Caller-ID-Name": "${vars.secret} %{1+1}"})
    running(steps, session, secret="hidden")
    assert session.verbs[0] == ("speak", "${vars.secret} %{1+1}")


# ---- errors

FAILURES = [
    pytest.param("[{sleep: long}]", "relay_script_method_parameter_invalid_value", id="wrong type"),
    pytest.param("[{sleep: -5}]", "relay_script_method_parameter_invalid_value", id="out of range"),
    pytest.param("[{play: 'nonsense:'}]", "relay_script_method_parameter_invalid_value", id="url"),
    pytest.param("[{record: {format: ogg}}]", "relay_script_method_parameter_invalid_value", id="format"),
    pytest.param("[{record: {format: ogg}}]", "relay_script_method_parameter_invalid_value", id="a format nobody has"),
    pytest.param("[{record: [wav]}]", "relay_script_method_parameter_invalid_value", id="no mapping"),
    pytest.param("[{sleep: '${missing}'}]", "relay_script_method_parameter_invalid_value", id="no value"),
    pytest.param("[{record: {volume: 5}}]", "relay_script_method_parameter_undefined", id="unknown to record"),
    pytest.param("[{hangup: {why: busy}}]", "relay_script_method_parameter_undefined", id="unknown to hangup"),
    pytest.param("[sleep]", "relay_script_method_parameter_missing", id="sleep for how long"),
    pytest.param("[play]", "relay_script_method_parameter_missing", id="play what"),
    pytest.param("[{play: 'say:${1+}'}]", "relay_script_js_eval_error", id="an expression"),
]


@pytest.mark.parametrize(("steps", "code"), FAILURES)
def test_a_step_that_fails_sets_script_error_to_its_code(steps: str, code: str) -> None:
    call = call_on(FakeSession())
    document = parse(f"version: 1.0.0\nsections: {{main: {steps}}}", "greeting")
    with pytest.raises(DocumentError) as caught:
        run(document, call)
    assert (caught.value.code, call.vars["script_error"]) == (code, code)


@pytest.mark.parametrize(("steps", "code"), FAILURES)
def test_a_step_that_fails_tells_the_switch_nothing_and_leaves_the_call_alone(steps: str, code: str) -> None:
    session = FakeSession()
    failure(steps, session)
    assert session.verbs == []
    assert session.live, code


def test_a_failure_names_document_section_step_and_parameter() -> None:
    message = str(failure("[answer, {record: {initial_timeout: soon}}]", FakeSession()))
    for word in ("greeting", "section main, step 2", "record", "initial_timeout", "soon", "number"):
        assert word in message


def test_the_error_stays_in_the_document_when_the_call_has_gone_meanwhile() -> None:
    session = FakeSession(live=False)
    call = call_on(session)
    document = parse("version: 1.0.0\nsections: {main: [{sleep: long}]}", "greeting")
    with pytest.raises(DocumentError):
        run(document, call)
    assert call.vars["script_error"] == "relay_script_method_parameter_invalid_value"


@pytest.mark.parametrize("step", ["ia", "Answer", "{record_cal: {}}", "{1: {}}", "{null: {}}", "''"])
@pytest.mark.parametrize("section", ["main", "never_run"])
def test_an_unknown_method_is_refused_before_the_first_step(section: str, step: str) -> None:
    session = FakeSession()
    sections = {"main": "[answer", "never_run": "[answer"}
    sections[section] += f", {step}"
    text = "".join(f"  {name}: {steps}]\n" for name, steps in sections.items())
    with pytest.raises(DocumentError, match=rf"section {section}, step 2: no method .*known are answer, ") as caught:
        run(parse(f"version: 1.0.0\nsections:\n{text}", "greeting"), call_on(session))
    assert caught.value.code == "relay_script_method_undefined"
    assert session.verbs == []


def test_an_unknown_method_of_any_length_is_named_shortly() -> None:
    assert len(str(failure(f"[{'x' * 1000}]", FakeSession()))) < 300


@pytest.mark.parametrize("verb", ["answer", "speak", "limit_duration"])
def test_what_the_switch_refuses_is_a_method_that_failed(verb: str) -> None:
    session = FakeSession(refused=[verb])
    error = failure("[{answer: {max_duration: 5}}, {play: 'say:Hi'}]", session)
    assert error.code == "relay_script_method_execute_failed"


# ---- bombs

LOLS = "\n".join(f"- set: {{a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12))
BOMBS = [
    pytest.param("- set: {a0: &a0 [lol]}\n" + LOLS, id="nine times nine"),
    pytest.param("- set: {a: &a [*a]}", id="within itself"),
    pytest.param("- set: {a: &a {b: *a}}", id="a mapping within itself"),
    pytest.param("- record: &a {stereo: *a}", id="as a value that is shown"),
    pytest.param(
        "- set: {a0: &a0 [x]}\n" + "\n".join(f"- set: {{a{n}: &a{n} [*a{n - 1}]}}" for n in range(1, 3000)),
        id="three thousand deep",
    ),
]


@pytest.mark.parametrize("steps", BOMBS)
def test_a_bomb_of_aliases_goes_off_as_a_refusal_or_not_at_all(steps: str) -> None:
    assert len(steps) < SIZE_LIMIT
    session = FakeSession()
    outcome = "done"
    try:
        with within(2):
            running(steps, session)
    except DocumentError:
        outcome = "refused"
    except (TookTooLongError, RecursionError, MemoryError) as error:
        # Its frames hold the bomb, and pytest would show them.
        outcome = type(error).__name__
    assert outcome in ("done", "refused")


# ---- record


def test_a_recording_is_published_and_the_next_step_sees_it() -> None:
    session = FakeSession(answered=True)
    record, _ = recorder_of(State.FINISHED, URL)
    call = running("[record, {play: 'say:${record_result} ${record_url}'}]", session, record)
    published = {"record_url": URL, "record_result": "success"}
    assert session.variables == published
    assert call.vars == published
    assert session.verbs[0] == ("speak", f"success {URL}")


@pytest.mark.parametrize(
    ("state", "result"), [(State.FINISHED, "success"), (State.NO_INPUT, "failed"), (State.ERROR, "failed")]
)
def test_the_result_follows_the_state_and_the_document_goes_on(state: State, result: str) -> None:
    session = FakeSession(answered=True)
    record, _ = recorder_of(state, URL)
    running("[record, {sleep: 1}]", session, record)
    assert session.variables["record_result"] == result
    assert session.verbs[0] == ("sleep", 1)


@pytest.mark.parametrize(("params", "answers"), [("", True), (": {early_media: true}", False)])
def test_a_call_is_answered_before_it_is_recorded_unless_early_media_is_asked_for(params: str, answers: bool) -> None:
    session = FakeSession()
    record, _ = recorder_of(State.FINISHED, URL)
    running(f"- record{params}", session, record)
    assert (("answer",) in session.verbs) is answers


def test_neither_record_call_nor_sleep_answers_a_call() -> None:
    session = FakeSession()
    running("[record_call, {sleep: 1}, stop_record_call]", session)
    assert session.verbs == [("sleep", 1), ("hangup", "NORMAL_CLEARING")]


def test_a_recording_of_nothing_has_no_url() -> None:
    session = FakeSession()
    record, _ = recorder_of(State.NO_INPUT, "")
    running("[record]", session, record)
    assert session.variables == {"record_url": "", "record_result": "failed"}


def test_a_live_call_of_which_nothing_could_be_recorded_fails_the_step() -> None:
    session = FakeSession(answered=True)
    record, _ = recorder_of(State.ERROR, "", "disk full?")
    error = failure("[record, {play: 'say:Thanks'}]", session, record)
    assert error.code == "relay_script_method_execute_failed"
    assert "disk full?" in str(error)
    assert session.variables == {
        "record_url": "",
        "record_result": "failed",
    }
    assert session.verbs == []


@pytest.mark.parametrize("state", [State.FINISHED, State.NO_INPUT, State.ERROR])
@pytest.mark.parametrize("url", [URL, ""])
def test_a_caller_who_hung_up_ends_the_document_after_the_recording(state: State, url: str) -> None:
    session = FakeSession(answered=True)
    record, _ = recorder_of(state, url, then=session.hangup)
    with pytest.raises(CallGone, match="NORMAL_CLEARING"):
        running("[record, {play: 'say:Thanks'}]", session, record)
    assert session.verbs == [("hangup", "NORMAL_CLEARING")]
    assert session.variables == {}


def test_a_step_that_needs_no_call_does_not_run_after_the_caller_hung_up() -> None:
    session = FakeSession()
    record, _ = recorder_of(State.FINISHED, URL, then=session.hangup)
    call = call_on(session, record)
    document = parse("version: 1.0.0\nsections: {main: [record, {set: {after: 1}}]}", "greeting")
    with pytest.raises(CallGone):
        run(document, call)
    assert call.vars == {"record_url": URL, "record_result": "success"}


def test_what_is_recorded_is_what_the_document_says_after_substitution() -> None:
    record, asked = recorder_of(State.FINISHED, URL)
    steps = "[{record: {max_length: '${limit}', terminators: 5, beep: 'true', control_id: 'rec-${n}'}}]"
    running(steps, FakeSession(), record, limit="90", n=7)
    (params,) = asked
    assert (params.max_length, params.terminators, params.beep, params.control_id) == (90.0, "5", True, "rec-7")


def test_no_recording_starts_with_a_wrong_parameter() -> None:
    record, asked = recorder_of(State.FINISHED, URL)
    failure("[{record: {max_length: 5, input_sensitivity: 101}}]", FakeSession(), record)
    assert asked == []
