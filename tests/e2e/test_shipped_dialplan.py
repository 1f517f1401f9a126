"""The shipped dialplan files, on a real switch: what becomes of a call whose service is not there, or dies."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from phones import CONF, Dialled, Ended, FreeSwitchPhone, Live, Phone
from running import RunningService, free_port
from test_control import live
from test_taken_back import frames_apart

from esl_record.esl.inbound import Inbound
from esl_record.recording.machine import EndReason, State
from esl_record.standin import voice

WAITS = 7
"""Seconds the dialplan waits for a service, instead of half a minute. A busy machine takes 3 s to start one that
has been dead for 2.5 s."""

LOST = 3
"""Frames a busy machine may lose at any time: one packet lies across so many of ours."""

DIALLED = """<include>
<extension name="dialled"><condition field="destination_number" expression="^doc-\\d+-(700[01])$">
  <action application="transfer" data="$1 XML default"/>
</condition></extension>
</include>
"""


class Shipped:
    """A switch with the shipped dialplan, which calls ``service`` and keeps what it records itself in ``fallbacks``."""

    def __init__(self, phone: FreeSwitchPhone, service: RunningService, fallbacks: Path) -> None:
        self.service = service
        self._fallbacks = fallbacks
        self._phone = phone
        phone.service = service
        self.event_socket = "{}:{}".format(*phone.event_socket)
        dialplan = phone.folder / "conf" / "dialplan"
        for name in ("esl_record.xml", "default/esl_record.xml"):
            text = (CONF / "dialplan" / name).read_text()
            for old, new in (
                ("127.0.0.1:8084", f"127.0.0.1:{service.address[1]}"),
                ("$${recordings_dir}", str(fallbacks)),
                ('loop="30"', f'loop="{WAITS}"'),
            ):
                text = text.replace(old, new)
            (dialplan / name).write_text(text)
        (dialplan / "default" / "00_dialled.xml").write_text(DIALLED)
        with Inbound(phone.event_socket, "ClueCon") as switch:
            assert "Success" in switch.api("reloadxml")

    def dial(self, said: np.ndarray, hangup_after: float | None = None, **how: Any) -> Live:
        return self._phone.dial(Dialled(how.pop("number", "7000"), said, hangup_after=hangup_after, **how))

    def recorded(self, seconds: float) -> None:
        """Waits until a recording is so long."""
        self.service.wait(lambda: any(one["duration"] > seconds for one in live(self.service)), "audio")

    def die(self) -> Callable[[float], None]:
        """Kills the service; gives what waits until the call has lasted so many more seconds."""
        self.service.kill()
        self.service.process = None
        (spool,) = (self.service.data / "spool").glob("*.raw")
        size = spool.stat().st_size
        return lambda seconds: self.service.wait(
            lambda: spool.stat().st_size >= size + seconds * 16000, "the call to go on"
        )

    def own(self) -> list[float]:
        """The lengths of what FreeSWITCH has recorded itself, in seconds."""
        return [soundfile.info(path).duration for path in self._fallbacks.iterdir()]


@pytest.fixture
def shipped(phone: Phone, own_service: RunningService, tmp_path: Path) -> Shipped:
    if not isinstance(phone, FreeSwitchPhone):
        pytest.skip("the stand-in reads no XML")
    fallbacks = tmp_path / "fallbacks"
    fallbacks.mkdir()
    return Shipped(phone, own_service, fallbacks)


def is_let_go(ended: Ended) -> bool:
    return "esl_record_held" not in ended.variables


def test_a_killed_service_takes_its_call_again_and_no_sound_is_lost(shipped: Shipped) -> None:
    shipped.service.start()
    said = np.concatenate([voice.say(9.0), np.zeros(8000 * 60, np.int16)])
    call = shipped.dial(said)
    shipped.recorded(1.5)
    goes_on = shipped.die()
    goes_on(2.5)
    shipped.service.start()
    ended = call.end()
    assert (ended.recording.state, ended.recording.end_reason) == (State.FINISHED, EndReason.END_SILENCE)
    assert 12.5 < ended.recording.duration < 15.0
    assert frames_apart(ended.samples[:, 0], said) <= LOST
    assert shipped.service.log.count("begun") == 1
    assert shipped.own() == []


def test_a_call_that_was_handed_back_does_not_wait(shipped: Shipped) -> None:
    """Not even where it had waited before: its document is run once."""
    elsewhere = {"transfer": {"dest": f"http://127.0.0.1:{free_port()}/"}}
    shipped.service.document("voicemail", "answer", {"record": {"end_silence_timeout": 1}}, elsewhere)
    shipped.service.start()
    call = shipped.dial(np.concatenate([voice.say(6.0), np.zeros(8000 * 60, np.int16)]), hangup_after=11.0)
    shipped.recorded(1.5)
    goes_on = shipped.die()
    goes_on(1.5)
    shipped.service.start()
    ended = call.end()
    assert ended.recording.end_reason is EndReason.END_SILENCE
    assert shipped.service.log.count("begun") == 1
    (fallback,) = shipped.own()
    assert fallback > 2.0
    assert is_let_go(ended)


def test_without_a_service_the_switch_records_at_once(shipped: Shipped) -> None:
    shipped.dial(voice.say(10.0), hangup_after=4.0).end()
    (fallback,) = shipped.own()
    assert fallback > 3.0


def test_where_the_service_stays_away_the_switch_records_in_the_end(shipped: Shipped) -> None:
    shipped.service.start()
    call = shipped.dial(voice.say(30.0), hangup_after=WAITS + 6.0)
    shipped.recorded(1.0)
    goes_on = shipped.die()
    goes_on(WAITS + 2)
    (fallback,) = shipped.own()
    assert 0.0 <= fallback < 3.0
    shipped.service.settings["event_socket"] = shipped.event_socket
    shipped.service.start()
    assert call.end().recording.end_reason is EndReason.RECOVERED


def test_the_echo_is_recorded_and_its_key_hangs_up_at_once(shipped: Shipped) -> None:
    """The echo runs in the call, begun by the switch itself, when the document hangs up."""
    shipped.service.start()
    said = voice.say(20.0)
    call = shipped.dial(said, number="7001", digits=((4.0, "#"),))
    shipped.service.wait(lambda: "finished, terminator" in shipped.service.log, "the end of the recording")
    ended_at = time.monotonic()
    ended = call.end()
    assert time.monotonic() - ended_at < 1.0
    assert (ended.variables["hangup_cause"], ended.went_on) == ("NORMAL_CLEARING", False)
    party, echo = ended.samples[:, 0].astype(float), ended.samples[:, 1].astype(float)
    assert np.abs(party).max() > 1000
    assert np.abs(echo).max() > 1000
