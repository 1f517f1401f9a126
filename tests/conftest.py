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
        default="standin",
        help="which switch the whole-call tests run against; freeswitch must be on PATH",
    )
