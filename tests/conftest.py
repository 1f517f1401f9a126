"""What every test runs under: gevent's patches, as the service does."""

from gevent import monkey

monkey.patch_all()

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from esl_record.logs import Sparing

# Nothing is said here of how fast the machine is.
settings.register_profile("anywhere", deadline=None)
settings.load_profile("anywhere")

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


@pytest.fixture(autouse=True)
def _every_line_is_logged() -> Iterator[None]:
    """Whatever has been logged so often by earlier tests that no more of it would be."""
    yield
    for one in _sparing(len(sys.modules)):
        one.forget()


@functools.cache
def _sparing(modules: int) -> list[Sparing]:
    """The ones of all modules, looked for again when there are more of these."""
    ours = [vars(module) for name, module in sys.modules.items() if name.startswith("esl_record")]
    return [value for names in ours for value in names.values() if isinstance(value, Sparing)]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is slow, unless it is asked for: by `-m`, or by naming a file or folder."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS or config.getoption("markexpr"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in set(slow)]
