"""The description of the HTTP side for programs, made of the models it works with."""

import json
from importlib.metadata import version
from typing import Any

import falcon
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from esl_record.audio.formats import FORMATS
from esl_record.http.callback import RecordingCallback
from esl_record.http.calling import Answer, Command
from esl_record.http.calls import LiveLegs
from esl_record.http.problem import Mistakes
from esl_record.http.recordings import PATH, Item, Page, PageQuery
from esl_record.recording.recording import Recording

_JSON = falcon.MEDIA_JSON
_SHOWN: tuple[type[BaseModel], ...] = (Answer, Item, LiveLegs, Mistakes, Page, Recording, RecordingCallback)
"""``Recording`` is no answer: it is the JSON file beside the audio."""

_BASIC: dict[str, list[str]] = {"basic": []}
_SIGNED: dict[str, list[str]] = {"signedLink": []}

_ID = {
    "name": "recording_id",
    "in": "path",
    "required": True,
    "description": "the recording",
    "schema": {"type": "string"},
}
_TEXT = {"schema": {"type": "string"}}

Operation = dict[str, Any]


class Description:
    """``/openapi.json``."""

    def __init__(self, *, guarded: bool) -> None:
        self._text = json.dumps(description(guarded=guarded)).encode()

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = _JSON
        resp.data = self._text

    on_head = on_get


def description(*, guarded: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document. ``guarded``: whether the API wants credentials."""
    models = [(model, "serialization") for model in _SHOWN]
    _, schemas = models_json_schema(
        [*models, (Command, "validation")],  # type: ignore[list-item]  # the mode is a literal
        ref_template="#/components/schemas/{model}",
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "esl-record",
            "version": version("esl-record"),
            "description": "Recordings of FreeSWITCH calls: their control, their list and their audio, as "
            "SignalWire's REST API has them.",
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/api/calling/calls": {"post": _calling(guarded)},
            "/api/v1/calls": _read(
                _operation("calls", "The calls under way", {200: _of(LiveLegs, "the calls")}, guarded)
            ),
            "/api/v1/recordings/{recording_id}/download": _read(_download(guarded)),
            PATH: _read(_recordings(guarded)),
            f"{PATH}/{{recording_id}}": _recording(guarded),
            **_health(),
        },
        "webhooks": {"recording": {"post": _callback()}},
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "project id and API token"},
                "signedLink": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "signature",
                    "description": "with `expires`, as links to a recording have it",
                },
            },
        },
    }


def _calling(guarded: bool) -> Operation:
    answers = {
        200: _of(Answer, "carried out; the call leg as it is now"),
        404: _error("no such call, or no such recording of it"),
        408: _error("the body did not come"),
        409: _error("the recording has ended meanwhile"),
        413: _error("the body is too large"),
        415: _error("the body is no application/json"),
        422: _error("the command is wrong, with an error for each mistake"),
        503: _error("the switch did not do so in time"),
    }
    operation = _operation("command", "Tells a call what to do", answers, guarded)
    operation["requestBody"] = {
        "required": True,
        "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Command"}}},
    }
    return operation


def _recordings(guarded: bool) -> Operation:
    answers = {
        200: _of(Page, "some of the recordings, the newest first"),
        422: _error("a parameter is wrong"),
        503: _error("the catalog cannot be read now"),
    }
    operation = _operation("recordings", "The recordings there are", answers, guarded)
    operation["parameters"] = [
        {"name": name, "in": "query", "required": False, "description": schema["description"], "schema": schema}
        for name, schema in _properties(PageQuery).items()
    ]
    return operation


def _recording(guarded: bool) -> dict[str, Operation]:
    missing = {404: _error("no such recording"), 503: _error("the catalog cannot be read or written now")}
    get = _operation("recording", "One recording", {200: _of(Item, "the recording"), **missing}, guarded)
    gone: dict[int, Any] = {204: {"description": "deleted"}, 409: _error("it is still being recorded"), **missing}
    delete = _operation("delete", "Deletes a recording and its files", gone, guarded)
    for operation in (get, delete):
        operation["parameters"] = [_ID]
    return {**_read(get), "delete": delete}


def _download(guarded: bool) -> Operation:
    headers = {
        name: {"description": text, **_TEXT}
        for name, text in {
            "ETag": "of the audio, strong",
            "Last-Modified": "when the file was completed",
            "Accept-Ranges": "bytes",
        }.items()
    }
    audio: dict[str, Any] = {"content": {form.media_type: {} for form in FORMATS.values()}}
    answers: dict[int, Any] = {
        200: {"description": "the whole file", "headers": headers, **audio},
        206: {
            "description": "a part of the file",
            "headers": {**headers, "Content-Range": {"description": "which bytes, of how many", **_TEXT}},
            **audio,
        },
        304: {"description": "the client has this file already"},
        404: _error("no such recording, or no file of it, or not yet"),
        412: _error("the file is not the one that is asked for"),
        416: _error("the part begins behind the end of the file"),
        500: _error("the file is encrypted, and not as it was written"),
        503: _error("the catalog cannot be read now, or the file is encrypted and its key is not here"),
    }
    operation = _operation("download", "The audio of a recording", answers, guarded)
    operation["parameters"] = [
        _ID,
        {
            "name": "expires",
            "in": "query",
            "required": False,
            "description": "unix seconds, of a signed link",
            **_TEXT,
        },
        *(
            {"name": name, "in": "header", "required": False, "description": text, **_TEXT}
            for name, text in {
                "Range": "which bytes are wanted, such as bytes=0-1023; of several ranges the whole file comes",
                "If-Range": "the ETag or date of the file the range is of",
                "If-Match": "ETags of the files that will do, or *",
                "If-Unmodified-Since": "the date of the file that will do",
                "If-None-Match": "ETags of files the client has",
                "If-Modified-Since": "the date of the file the client has",
            }.items()
        ),
    ]
    operation["responses"]["403"] = _error("the link is not valid, or not any more")
    if guarded:
        operation["security"] = [_BASIC, _SIGNED]
    return operation


def _callback() -> Operation:
    operation = _open("status", "A state of a recording, sent to its status_url", {200: {"description": "received"}})
    operation["requestBody"] = {
        "required": True,
        "content": {_JSON: {"schema": {"$ref": f"#/components/schemas/{RecordingCallback.__name__}"}}},
    }
    return operation


def _health() -> dict[str, dict[str, Operation]]:
    wrong = {"content": {_JSON: {"schema": {"type": "array", "items": {"type": "string"}}}}}
    ready = {
        200: {"description": "it can do its work; what it does without", **wrong},
        503: {"description": "it cannot, and why", **wrong},
    }
    figures = {
        200: {"description": "the figures in Prometheus' text format", "content": {"text/plain": _TEXT}},
        503: _error("a figure cannot be read now"),
    }
    this = {"description": "this", "content": {_JSON: {"schema": {"type": "object"}}}}
    return {
        "/healthz": _read(_open("alive", "Whether it is there", {200: {"description": "it is", **wrong}})),
        "/readyz": _read(_open("ready", "Whether it can do its work", ready)),
        "/metrics": _read(_open("metrics", "Its figures", figures)),
        "/openapi.json": _read(_open("description", "This description", {200: this})),
    }


def _open(name: str, summary: str, answers: dict[int, Any]) -> Operation:
    responses = {str(status): answer for status, answer in answers.items()}
    return {"operationId": name, "summary": summary, "security": [], "responses": responses}


def _operation(name: str, summary: str, answers: dict[int, Any], guarded: bool) -> Operation:
    """An operation of the API; ``guarded`` says what it answers to who has no right to it."""
    operation = _open(name, summary, answers)
    if guarded:
        operation["security"] = [_BASIC]
        unauthorized = _error("no credentials, or the wrong ones")
        unauthorized["headers"] = {"WWW-Authenticate": {"description": "Basic", **_TEXT}}
        operation["responses"]["401"] = unauthorized
    else:
        operation["responses"]["403"] = _error("asked for under the name of another host")
    return operation


def _read(get: Operation) -> dict[str, Operation]:
    """``get`` and its ``head``, which has the same answers without a body."""
    answers = {
        status: {key: value for key, value in answer.items() if key != "content"}
        for status, answer in get["responses"].items()
        if status not in ("206", "416")
    }
    return {"get": get, "head": {**get, "operationId": f"{get['operationId']}_head", "responses": answers}}


def _of(model: type[BaseModel], text: str) -> dict[str, Any]:
    return {"description": text, "content": {_JSON: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}}


def _error(text: str) -> dict[str, Any]:
    return _of(Mistakes, text)


def _properties(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """The fields of ``model`` as schemas of parameters; where nothing may be given, nothing is."""
    properties: dict[str, dict[str, Any]] = {}
    for name, schema in model.model_json_schema()["properties"].items():
        given = next((kind for kind in schema.get("anyOf", []) if kind["type"] != "null"), schema)
        properties[name] = {key: value for key, value in given.items() if key != "title"}
    return properties
