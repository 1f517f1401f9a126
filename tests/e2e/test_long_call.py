"""A long call takes no more memory than a short one."""

import os
from pathlib import Path

import gevent
import numpy as np
import pytest
from running import RunningService
from test_control import NO_LIMITS, live

from esl_record.standin import voice
from esl_record.standin.caller import Caller
from esl_record.standin.switch import Switch

pytestmark = pytest.mark.slow

SPEED = 100.0
MINUTES = 8
GROWTH = 5.0


def resident(service: RunningService) -> float:
    """MiB."""
    assert service.process is not None
    pages = int(Path(f"/proc/{service.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="what a process takes is not told here")
def test_memory_stays_after_the_first_minute(switch: str, own_service: RunningService) -> None:
    if switch != "standin":
        pytest.skip("a real switch lets no time pass faster")
    own_service.start()
    document = own_service.document("long", "answer", {"record": {**NO_LIMITS, "format": "mp3", "stereo": True}})
    said = np.tile(voice.say(60.0), MINUTES)
    exchange = Switch(speed=SPEED)
    # The first one is for what is loaded and allocated once.
    for minutes in (3, MINUTES):
        caller = Caller(said, hangup_after=minutes * 60.0, gives_up_after=minutes * 61.0)
        call = exchange.call(own_service.address, document, caller)
        own_service.wait(lambda: any(one["duration"] > 60.0 for one in live(own_service)), "the first minute")
        taken = [resident(own_service)]
        while any(one["call_id"] == call.uuid for one in live(own_service)):
            taken.append(resident(own_service))
            gevent.sleep(0.1)
        own_service.wait(lambda: not own_service.spooled(), "the recording")
    exchange.close()
    assert [round(recording.duration / 60) for _, recording in own_service.recordings(call.uuid)] == [MINUTES]
    assert max(taken) - taken[0] < GROWTH
