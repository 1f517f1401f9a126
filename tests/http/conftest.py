"""Fixtures of the HTTP side's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from http_fakes import MakeSite, Site, sites


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[MakeSite]:
    with sites(tmp_path) as make:
        yield make


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site()
