"""The body of a request: JSON, and not more of it than a command needs."""

from http import HTTPStatus

import falcon
import gevent

from esl_record.http.problem import Problem

LIMIT = 64 * 1024
"""Bytes."""

_PATIENCE = 30.0
_CLOSE = {"Connection": "close"}


def read(req: falcon.Request) -> bytes:
    """The body of ``req``. Raises Problem where it is not said to be JSON, is too large, or does not come."""
    kind = (req.content_type or "").partition(";")[0].strip().lower()
    if kind != falcon.MEDIA_JSON:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "a body of application/json is wanted"
        )
    if (req.content_length or 0) > LIMIT:
        raise _too_large()
    try:
        with gevent.Timeout(_PATIENCE, TimeoutError):
            # Without a length there is a body only in chunks, and the server knows where those end.
            chunked = req.get_header("Transfer-Encoding") is not None
            body: bytes = (req.stream if chunked else req.bounded_stream).read(LIMIT + 1)
    except TimeoutError:
        raise Problem(HTTPStatus.REQUEST_TIMEOUT, "timeout", "the body did not come", headers=_CLOSE) from None
    except (OSError, ValueError):  # gone, or not in chunks after all
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_body", "the body broke off", headers=_CLOSE) from None
    if len(body) > LIMIT:
        raise _too_large()
    return body


def _too_large() -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"a body may have {LIMIT} bytes", headers=_CLOSE)
