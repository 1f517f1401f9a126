"""What a monitor asks: is it there, does it work, and its figures. Nothing of any one call."""

import json
import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Generic, TypeVar

import falcon

from esl_record.errors import DatabaseError
from esl_record.http.problem import Problem

log = logging.getLogger(__name__)

T = TypeVar("T")

_PAUSE, _LONGEST = 10, 1.0


class Seldom(Generic[T]):
    """The latest result of ``compute``, which may be asked for as often as anybody likes.

    It is computed again only once ten times as long has passed as that took, so that it does not take more than a tenth
    of the time; after ``_LONGEST`` seconds in any case.
    """

    def __init__(self, compute: Callable[[], T], clock: Callable[[], float] = time.perf_counter) -> None:
        self._compute = compute
        self._clock = clock
        self._latest: T | None = None
        self._next = 0.0
        self._computing = False

    def __call__(self) -> T:
        """Return the result. Raises what ``compute`` raises."""
        began = self._clock()
        if self._latest is not None and (self._computing or began < self._next):
            return self._latest
        self._computing = True
        try:
            self._latest = self._compute()
        finally:
            self._computing = False
        now = self._clock()
        self._next = now + min(_LONGEST, _PAUSE * (now - began))
        return self._latest


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
        self._ready = Seldom(ready)
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
        self._metrics = Seldom(metrics)

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
