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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is slow, unless it is asked for: by `-m`, or by naming a file or folder."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS or config.getoption("markexpr"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in set(slow)]
