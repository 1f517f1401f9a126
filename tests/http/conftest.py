"""Fixtures of the HTTP side's tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_fakes import MakeSite, Serve, Site, sites

from esl_record.http.server import HttpServer


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[MakeSite]:
    with sites(tmp_path) as make:
        yield make


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Servers on a port of their own, stopped when the test is over."""
    servers: list[HttpServer] = []

    def serving(site: Site, host: str = "127.0.0.1", **named: Any) -> HttpServer:
        servers.append(HttpServer((host, 0), site.app, **{"open_to_all": site.guarded, **named}))
        servers[-1].start()
        return servers[-1]

    yield serving
    for server in servers:
        server.stop()
