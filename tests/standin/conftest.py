"""A call on a switch whose clock the test turns by hand."""

import pytest
from standin_client import NOON, Bench, Console

from esl_record.standin.switch import Switch


@pytest.fixture
def bench():
    bench = Bench(Switch(speed=0, began_us=NOON))
    yield bench
    bench.close()


@pytest.fixture
def address(bench):
    return bench.switch.listen()


@pytest.fixture
def console(address):
    console = Console(address)
    yield console
    console.close()
