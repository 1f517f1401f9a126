"""A call on a switch whose clock the test turns by hand."""

import pytest
from standin_client import Bench

from esl_record.standin.switch import Switch


@pytest.fixture
def bench():
    bench = Bench(Switch(speed=0))
    yield bench
    bench.close()
