"""What every test runs under: gevent's patches, as the service does."""

from gevent import monkey

monkey.patch_all()

from pathlib import Path

import pytest

TRANSCRIPTS = Path(__file__).parent / "transcripts"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--switch",
        choices=("standin", "freeswitch"),
        default=None,
        help="run the whole-call tests against this switch only; without it against every one there is",
    )
