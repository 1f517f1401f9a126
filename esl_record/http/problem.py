"""What an answer says that is none: the contract's JSON, whatever went wrong."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import falcon
from pydantic import BaseModel, Field, ValidationError

from esl_record.errors import DatabaseError

log = logging.getLogger(__name__)

REFERENCE = "/openapi.json"
"""Where errors are described."""

TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_TIMEOUT: "timeout",
    HTTPStatus.CONFLICT: "conflict",
    HTTPStatus.PRECONDITION_FAILED: "precondition_failed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "range_not_satisfiable",
    HTTPStatus.UNPROCESSABLE_ENTITY: "validation_error",
    HTTPStatus.INTERNAL_SERVER_ERROR: "internal_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
}

_CODES = {
    "missing": "missing_required_parameter",
    "union_tag_not_found": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "union_tag_invalid": "unknown_command",
    "json_invalid": "invalid_json",
}


class Mistake(BaseModel):
    """One thing that is wrong with a request."""

    type: str = Field(description="the kind of error, one for each status")
    code: str = Field(description="what is wrong, for a program")
    message: str = Field(description="what is wrong, for a reader")
    attribute: str | None = Field(description="the parameter that is wrong, where it is one")
    url: str = Field(description="where errors are described")


class Mistakes(BaseModel):
    """Why a request was not carried out."""

    errors: list[Mistake] = Field(min_length=1)


class Problem(Exception):
    """Ends a request with an error of ``status``. ``more``: further mistakes, as code, message, attribute."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        message: str,
        attribute: str | None = None,
        *,
        more: tuple[tuple[str, str, str | None], ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.mistakes = Mistakes(
            errors=[
                Mistake(type=TYPES[status], code=code, message=message, attribute=attribute, url=REFERENCE)
                for code, message, attribute in ((code, message, attribute), *more)
            ]
        )

    @classmethod
    def found(cls, error: ValidationError) -> "Problem":
        """422 with every mistake pydantic found; ``attribute`` is the innermost name."""
        first, *more = (_told(mistake) for mistake in error.errors(include_url=False, include_context=False))
        return cls(HTTPStatus.UNPROCESSABLE_ENTITY, *first, more=tuple(more))

    def answer(self, resp: falcon.Response) -> None:
        resp.status = int(self.status)
        resp.stream = None
        # What is not there yet may be there soon, and who asked may have no right to know.
        resp.set_headers({"Cache-Control": "no-store", **self.headers})
        resp.content_type = falcon.MEDIA_JSON
        resp.data = self.mistakes.model_dump_json().encode()


def unknown_recording() -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, "recording_not_found", "there is no such recording", "id")


def install(app: "falcon.App[Any, Any]") -> None:
    """Lets every error of ``app`` end as a Problem."""
    app.add_error_handler(Problem, lambda req, resp, error, params: error.answer(resp))
    app.add_error_handler(falcon.HTTPError, _answer_falcon)
    app.add_error_handler(DatabaseError, _answer_database)
    app.add_error_handler(Exception, _answer_unexpected)


def _told(mistake: Any) -> tuple[str, str, str | None]:
    place = [str(part) for part in mistake["loc"]]
    names = [part for part in mistake["loc"] if isinstance(part, str)]
    code = _CODES.get(mistake["type"], "invalid_parameter")
    if mistake["type"].startswith("union_tag"):
        names = ["command"]
    message = mistake["msg"].removeprefix("Value error, ")
    # The command itself comes first in the place; it is none of the parameters' names.
    where = ".".join(place[1:] if place[:1] and place[0].startswith("calling.") else place)
    return code, f"{where}: {message}" if where else message, names[-1] if names else None


def _answer_falcon(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: object) -> None:
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.BAD_REQUEST or status not in TYPES:
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "unknown_path" if isinstance(error, falcon.HTTPRouteNotFound) else TYPES[status]
    message = error.description or error.title or status.phrase
    headers = dict(error.headers.items() if isinstance(error.headers, Mapping) else error.headers or ())
    Problem(status, code, message, headers=headers).answer(resp)


def _answer_database(req: falcon.Request, resp: falcon.Response, error: DatabaseError, params: object) -> None:
    log.error("%s", error)
    Problem(HTTPStatus.SERVICE_UNAVAILABLE, "database_unavailable", "the catalog cannot be read now").answer(resp)


def _answer_unexpected(req: falcon.Request, resp: falcon.Response, error: Exception, params: object) -> None:
    log.error("http: %s %s: unexpected error", req.method[:16], req.path[:200], exc_info=error)
    Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "an unexpected error; the log has it").answer(resp)
