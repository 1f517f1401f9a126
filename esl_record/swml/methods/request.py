"""request: an HTTP request, and what comes of it in variables."""

import json
import logging
import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from esl_record import yamltree
from esl_record.errors import WebError
from esl_record.esl import wire
from esl_record.esl.errand import errand
from esl_record.recording.params import Flag, Seconds
from esl_record.status.receiver import Receiver
from esl_record.swml.call import Call
from esl_record.swml.fetching import lent
from esl_record.swml.methods.parameters import Method, Parameters
from esl_record.swml.site import Answer

log = logging.getLogger(__name__)

_HEADER = re.compile(r"(?:Accept|Authorization|Content-Type|Range|X-[A-Za-z0-9_.-]{1,100})\Z", re.IGNORECASE)

_RESULTS = (
    *("request_url", "request_result", "return_value", "request_response"),
    *("request_response_code", "request_response_headers", "request_response_body"),
)


class HttpMethod(StrEnum):
    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"


def _url(value: str) -> str:
    Receiver.of(value)
    return value


def _header(name: str) -> str:
    if not _HEADER.match(name):
        raise ValueError("Accept, Authorization, Content-Type, Range and X-... are allowed")
    return name


def _value(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("text is wanted")
    # It may hold a caller's name.
    return wire.clean(str(value)).strip()


class RequestParams(Parameters):
    """``timeout`` and ``connect_timeout``: seconds for all of it and until connected; 0, and more than a minute, is a
    minute. With ``save_variables`` the JSON of the answer becomes ``request_response``."""

    url: Annotated[str, AfterValidator(_url)]
    method: HttpMethod
    headers: dict[Annotated[str, AfterValidator(_header)], Annotated[str, BeforeValidator(_value)]] = Field({})
    body: str | dict[str, Any] | None = None
    timeout: Seconds = 0.0
    connect_timeout: Seconds = 0.0
    save_variables: Flag = False


def _request(call: Call, given: RequestParams) -> None:
    """Asks, and waits for the answer; ``success`` is one with a status of 2xx. A failure ends no document.

    Raises CallGone as soon as the call is over.
    """
    for name in _RESULTS:
        call.vars.pop(name, None)
    # Without the password it may hold: variables are sent to others.
    call.vars["request_url"] = Receiver.of(given.url).url
    succeeded = False
    try:
        answer = _answer(call, given)
    except WebError as error:
        log.warning("%s: request: %s", call.session.label, call.session.pressed.redact(error))
    else:
        succeeded = 200 <= answer.status < 300
        call.vars.update(
            request_response_code=answer.status,
            request_response_headers=dict(answer.headers),
            request_response_body=answer.body.decode(errors="replace"),
        )
        if given.save_variables and (saved := _saved(answer.body)) is not None:
            call.vars["request_response"] = saved
    call.vars["request_result"] = call.vars["return_value"] = "success" if succeeded else "failed"


def _answer(call: Call, given: RequestParams) -> Answer:
    web, headers, body = lent(call), dict(given.headers), None
    if given.body is not None:
        text = given.body if isinstance(given.body, str) else json.dumps(given.body)
        body = text.encode(errors="replace")
        if not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = _kind(text)
    return errand(
        call.session,
        lambda: web.request(
            given.method,
            given.url,
            headers,
            body,
            timeout=given.timeout,
            connect_timeout=given.connect_timeout,
        ),
    )


def _kind(text: str) -> str:
    """What ``text`` most likely is, by its first character that is not blank; a form, as to most clients, where that
    tells nothing."""
    first = text.lstrip()[:1]
    return {"{": "application/json", "[": "application/json", "<": "application/xml"}.get(
        first, "application/x-www-form-urlencoded"
    )


def _saved(body: bytes) -> Any:
    """The object or list that ``body`` is as JSON; None where it is none, or holds what can be put on no wire."""
    try:
        tree = yamltree.read_json(body.decode())
        json.dumps(tree, ensure_ascii=False, allow_nan=False).encode()
    except (yamltree.TreeError, ValueError):
        return None
    return tree if isinstance(tree, dict | list) else None


REQUEST = Method("request", RequestParams, _request, waits=True)
