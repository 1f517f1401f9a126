"""A call on a switch whose clock the test turns by hand."""

import pytest
from standin_client import NOON, Bench

from esl_record.standin.switch import Switch


@pytest.fixture
def bench():
    bench = Bench(Switch(speed=0, began_us=NOON))
    yield bench
    bench.close()
