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
    parser.addoption("--kills", default=200, type=int, help="how often the service is killed under load")
    parser.addoption("--kill-seed", default=1, type=int, help="at which moments, and under which load")
