"""Whole calls: the service as a process of its own, called by the stand-in switch or by a real FreeSWITCH."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import phones
import pytest
from phones import FreeSwitchPhone, Phone, StandInPhone
from running import RunningService


def pytest_configure(config: pytest.Config) -> None:
    """Let a module know when it is imported which switch places the calls."""
    phones.placed_by = str(config.getoption("--switch"))


@pytest.fixture(scope="session")
def switch(request: pytest.FixtureRequest) -> str:
    """Which switch places the calls."""
    name = str(request.config.getoption("--switch"))
    if name == "freeswitch" and shutil.which("freeswitch") is None:
        pytest.skip("no `freeswitch` on PATH: whole calls run against the stand-in only")
    return name


@pytest.fixture(scope="session")
def service(switch: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """One service for all calls that do it no harm."""
    running = RunningService(tmp_path_factory.mktemp("service"), speed=StandInPhone.SPEED if switch == "standin" else 1)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def exchange(switch: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    with FreeSwitchPhone(tmp_path_factory.mktemp("switch")) if switch == "freeswitch" else StandInPhone() as phone:
        yield phone


@pytest.fixture
def phone(exchange: Phone, service: RunningService) -> Phone:
    """A phone whose calls go to the common service."""
    exchange.service = service
    return exchange


@pytest.fixture
def own_service(switch: str, tmp_path: Path) -> Iterator[RunningService]:
    """A service of the test's own, not started yet, to be stopped, killed and hindered."""
    running = RunningService(tmp_path / "own", speed=StandInPhone.SPEED if switch == "standin" else 1)
    yield running
    running.kill()
