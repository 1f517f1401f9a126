"""What a monitor asks: is it there, does it work, and its figures. Nothing of any one call."""

import json
from collections.abc import Callable

import falcon


class Alive:
    """``/healthz``: 200 while the process serves."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        _put(resp, [])

    on_head = on_get


class Ready:
    """``/readyz``: what keeps the service from its work, as a JSON list; 200 where nothing does, else 503."""

    def __init__(self, ready: Callable[[], list[str]]) -> None:
        self._ready = ready

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        wrong = self._ready()
        resp.status = 503 if wrong else 200
        _put(resp, wrong)

    on_head = on_get


class Figures:
    """``/metrics``."""

    def __init__(self, metrics: Callable[[], tuple[bytes, str]]) -> None:
        self._metrics = metrics

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.data, resp.content_type = self._metrics()
        resp.set_header("Cache-Control", "no-store")

    on_head = on_get


def _put(resp: falcon.Response, wrong: list[str]) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.set_header("Cache-Control", "no-store")
    resp.data = json.dumps(wrong).encode()
