"""What a monitor asks: is it there, does it work, and its figures. Nothing of any one call."""

import json
import logging
from collections.abc import Callable
from http import HTTPStatus

import falcon

from esl_record.errors import DatabaseError
from esl_record.http.problem import Problem

log = logging.getLogger(__name__)


class Alive:
    """``/healthz``: 200 while the process serves."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        _put(resp, [])

    on_head = on_get


class Ready:
    """``/readyz``: what is wrong, as a JSON list; 503 where it keeps the service from its work, else 200.

    ``lacking`` gives what the service does without.
    """

    def __init__(self, ready: Callable[[], list[str]], lacking: Callable[[], list[str]] = list) -> None:
        self._ready = ready
        self._lacking = lacking

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        try:
            wrong = self._ready()
        except (OSError, DatabaseError) as error:
            # What cannot be found out is not well.
            log.error("http: whether it is ready cannot be told: %s", error)
            wrong = ["whether it is ready cannot be told; the log has it"]
        resp.status = 503 if wrong else 200
        _put(resp, wrong or self._lacking())

    on_head = on_get


class Figures:
    """``/metrics``."""

    def __init__(self, metrics: Callable[[], tuple[bytes, str]]) -> None:
        self._metrics = metrics

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        try:
            resp.data, resp.content_type = self._metrics()
        except OSError as error:
            log.error("http: the figures cannot be read: %s", error)
            message = "a figure cannot be read now"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "figures_unavailable", message) from None
        resp.set_header("Cache-Control", "no-store")

    on_head = on_get


def _put(resp: falcon.Response, wrong: list[str]) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.set_header("Cache-Control", "no-store")
    resp.data = json.dumps(wrong).encode()
