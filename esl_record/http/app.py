"""The HTTP side as one WSGI application."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import falcon

from esl_record.http import problem
from esl_record.http.access import ADMITTED, Access
from esl_record.http.calling import Calling
from esl_record.http.calls import Calls
from esl_record.http.downloads import Downloads
from esl_record.http.health import Alive, Figures, Ready
from esl_record.http.links import Links
from esl_record.http.openapi import Description
from esl_record.http.recordings import PATH, OneRecording, Recordings
from esl_record.live import LiveCalls
from esl_record.logs import Sparing
from esl_record.recording.storage import Storage
from esl_record.status.ledger import Ledger

log = logging.getLogger(__name__)

_SHOWN = 200
"""Characters of a path in the log."""

_UNADMITTED = 120
"""Lines a minute for answers to those who have shown no right to anything."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application works with.

    ``project_id`` and ``token`` are what clients authenticate with; with neither the API is open. ``public_host``:
    the host in the URL others reach this by. ``command_timeout``: seconds. ``ready`` gives what is wrong, ``lacking``
    what the service does without, ``metrics`` the figures and their content type.
    """

    ledger: Ledger
    storage: Storage
    calls: LiveCalls
    links: Links
    project_id: str
    token: str
    public_host: str
    command_timeout: float
    ready: Callable[[], list[str]]
    lacking: Callable[[], list[str]]
    metrics: Callable[[], tuple[bytes, str]]


def build(parts: Parts) -> "falcon.App[Any, Any]":
    """The application of ``parts``."""
    access = Access(parts.project_id, parts.token, parts.links, parts.public_host)
    middleware: list[Any] = [_Log(), _Methods(), access]
    app = falcon.App(middleware=middleware)
    # A comma in a parameter is part of it.
    app.req_options.auto_parse_qs_csv = False
    problem.install(app)
    catalog = parts.ledger.catalog
    routes = {
        "/api/calling/calls": Calling(parts.calls, parts.command_timeout),
        "/api/v1/calls": Calls(parts.calls),
        "/api/v1/recordings/{recording_id}/download": Downloads(catalog, parts.storage),
        PATH: Recordings(catalog, parts.links, parts.project_id),
        f"{PATH}/{{recording_id}}": OneRecording(parts.ledger, parts.links, parts.project_id),
        "/healthz": Alive(),
        "/readyz": Ready(parts.ready, parts.lacking),
        "/metrics": Figures(parts.metrics),
        "/openapi.json": Description(guarded=not access.open),
    }
    for route, resource in routes.items():
        app.add_route(route, resource)
    return app


class _Log:
    """A line for each answer, not for all of a flood. The query is left out: the signature of a link is in it."""

    def __init__(self) -> None:
        self._sparing = Sparing(log, _UNADMITTED)

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        req.context.began = time.monotonic()

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool) -> None:
        now = time.monotonic()
        took = (now - (req.context.get("began") or now)) * 1000
        write = log.log if ADMITTED in req.env else self._sparing
        write(logging.INFO, "http: %s %s %d %.0f ms", req.method[:16], req.path[:_SHOWN], resp.status_code, took)


class _Methods:
    """Refuses a method falcon has never heard of as it does those it knows."""

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, params: dict[str, Any]
    ) -> None:
        if req.method not in falcon.COMBINED_METHODS:
            known = [method for method in falcon.HTTP_METHODS if hasattr(resource, f"on_{method.lower()}")]
            raise falcon.HTTPMethodNotAllowed([*known, "OPTIONS"])
