"""The description: it is valid, and every answer there is keeps to it."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from http_fakes import MakeSite, Site, basic, sites
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from esl_record.http.openapi import description
from esl_record.recording.machine import EndReason, PauseBehavior, PauseCause, State
from esl_record.recording.params import RecordParams
from esl_record.recording.recording import HoldTime, Party, PauseTime, Recording
from esl_record.status.event import Identity, payload

METHODS = {"get", "head", "post", "delete"}

BOUNDED = settings(
    max_examples=25, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)

MakeBusy = Callable[[bool], Site]


@pytest.mark.parametrize("guarded", [True, False])
def test_it_is_valid(guarded: bool) -> None:
    OpenAPIV31SpecValidator(description(guarded=guarded)).validate()


def test_it_is_served_to_everybody(site: Site) -> None:
    answer = site.get("/openapi.json", headers={"Authorization": None})
    assert answer.json == description(guarded=True)


def test_an_open_api_describes_itself_as_open(make_site: MakeSite) -> None:
    assert make_site(guarded=False).get("/openapi.json").json == description(guarded=False)


def test_every_route_and_method_is_in_it(site: Site) -> None:
    routes: dict[str, set[str]] = {}

    def walk(nodes: Any) -> None:
        for node in nodes:
            if node.resource is not None:
                routes[node.uri_template] = {method for method in METHODS if hasattr(node.resource, f"on_{method}")}
            walk(node.children)

    walk(site.app._router._roots)
    described = description(guarded=True)["paths"]
    assert routes == {path: METHODS & set(operations) for path, operations in described.items()}


def test_the_commands_are_told_apart_by_their_name() -> None:
    command = description(guarded=True)["components"]["schemas"]["Command"]
    assert command["discriminator"]["propertyName"] == "command"
    assert set(command["discriminator"]["mapping"]) == {
        "calling.record",
        "calling.record.pause",
        "calling.record.resume",
        "calling.record.stop",
        "calling.end",
    }


def test_every_operation_of_the_api_says_who_may_use_it() -> None:
    for path, operations in description(guarded=True)["paths"].items():
        for operation in operations.values():
            assert bool(operation["security"]) is path.startswith("/api/")
            assert ("401" in operation["responses"]) is path.startswith("/api/")


def test_it_says_what_a_page_token_looks_like(site: Site) -> None:
    for number in range(2):
        site.keep(number)
    link = site.get("/api/relay/rest/recordings", query_string="page_size=1").json["links"]["next"]
    parameters = description(guarded=True)["paths"]["/api/relay/rest/recordings"]["get"]["parameters"]
    (token,) = [parameter for parameter in parameters if parameter["name"] == "page_token"]
    assert re.fullmatch(token["schema"]["pattern"], link.rpartition("=")[2])


# ---- what is no answer of the API: status events, and the JSON beside the audio


def schema_of(name: str) -> Callable[[object], bool]:
    """Whether something is valid by a schema of the description, and has no field that is not in it."""
    schemas = description(guarded=True)["components"]["schemas"]
    closed = {
        one: schema if "properties" not in schema or one == "Command" else {**schema, "additionalProperties": False}
        for one, schema in schemas.items()
    }
    whole = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": closed}}
    valid: Callable[[object], bool] = jsonschema_rs.validator_for(whole).is_valid
    return valid


def recorded(state: State, **more: Any) -> Recording:
    ended = {"end_reason": EndReason.STOP, "end_time": 12.0, "duration": 2.0, "size": 9, "file": "a.wav"}
    begun = Recording.begun("r1", Party(call_id="c1"), RecordParams(control_id="k1"), 10.0)
    return begun.model_copy(update={"state": state, **(ended if state.final else {}), **more})


@pytest.mark.parametrize("state", State)
def test_a_status_event_is_as_described(state: State) -> None:
    pausing = PauseBehavior.SKIP if state is State.PAUSED else None
    body = payload(recorded(state), Identity("p", "s", "n"), 12.5, url="http://a/b", pausing=pausing)
    valid = schema_of("RecordingCallback")
    assert valid(body)
    assert not valid({**body, "more": 1})
    assert not valid({**body, "params": {**body["params"], "end_reason": "boredom"}})


@pytest.mark.parametrize("reason", EndReason)
def test_every_end_reason_is_described(reason: EndReason) -> None:
    recording = recorded(State.FINISHED, end_reason=reason)
    assert schema_of("RecordingCallback")(payload(recording, Identity(), 12.5, url=""))
    assert schema_of("Recording")(recording.model_dump(mode="json"))


def test_holds_gaps_and_pauses_are_described() -> None:
    recording = recorded(
        State.FINISHED,
        holds=[HoldTime(start=1.0, end=2.0), HoldTime(start=1.0, end=1.5, far=True)],
        gaps=[(1.0, 2.0)],
        pauses=[
            PauseTime(
                start=0.5,
                end=0.75,
                behavior=PauseBehavior.SILENCE,
                began_by=PauseCause.DIGITS,
                ended_by=PauseCause.LIMIT,
                since=11.0,
            )
        ],
    )
    valid, written = schema_of("Recording"), recording.model_dump(mode="json")
    assert valid(written)
    assert not valid({**written, "holds": [{"start": 1.0}]})
    assert not valid({**written, "gaps": [[1.0]]})
    properties = description(guarded=True)["components"]["schemas"]["Recording"]["properties"]
    assert properties["gaps"]["description"].startswith("Where the switch wrote nothing")


# ---- asked at random

OPERATIONS = [
    (path, method) for path, operations in description(guarded=True)["paths"].items() for method in operations
]

KEPT_TO: list[Any] = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def make_busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    """Sites with something of everything behind them, one of each kind for all tests."""
    made: dict[bool, Site] = {}
    folder: Path = tmp_path_factory.mktemp("sites")
    with sites(folder) as make:

        def busy(guarded: bool) -> Site:
            if guarded not in made:
                made[guarded] = make(guarded=guarded)
                made[guarded].place()
                made[guarded].tell("calling.record", {"control_id": "c1"})
                for number, state in enumerate(State):
                    made[guarded].keep(number, state=state)
            return made[guarded]

        yield busy


def ask(site: Site, path: str, method: str, mode: GenerationMode, check: Callable[[Any], None]) -> None:
    """Calls ``check`` with requests made of the description: such as keep to it, or such as do not."""
    operation = schemathesis.openapi.from_wsgi("/openapi.json", site.app)[path][method]
    try:
        strategy = operation.as_strategy(generation_mode=mode)
        given(strategy)(BOUNDED(check))()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # it has nothing that could be wrong


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_to_whoever_may_ask(make_busy: MakeBusy, path: str, method: str, mode: GenerationMode) -> None:
    def check(case: Any) -> None:
        answer = case.call(headers=basic())
        case.validate_response(answer, checks=[*KEPT_TO, checks.negative_data_rejection])
        if mode is GenerationMode.POSITIVE and "signature" not in (case.query or {}):
            assert answer.status_code not in (401, 403)

    ask(make_busy(True), path, method, mode, check)


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_to_whoever_may_not(make_busy: MakeBusy, path: str, method: str, mode: GenerationMode) -> None:
    def check(case: Any) -> None:
        answer = case.call(headers={"Authorization": "Basic eDp5"})
        case.validate_response(answer, checks=KEPT_TO)
        if path.startswith("/api/"):
            assert answer.status_code in (401, 403)

    ask(make_busy(True), path, method, mode, check)


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_of_an_open_api(make_busy: MakeBusy, path: str, method: str, mode: GenerationMode) -> None:
    def check(case: Any) -> None:
        answer = case.call(headers={"Host": "127.0.0.1"})
        case.validate_response(answer, checks=[*KEPT_TO, checks.negative_data_rejection])

    ask(make_busy(False), path, method, mode, check)
