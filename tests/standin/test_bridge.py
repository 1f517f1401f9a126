"""Who answers a bridge, who does not, and what the switch says of it."""

import numpy as np
import pytest

from esl_record.standin.caller import Caller
from esl_record.standin.voice import say

AT = "127.0.0.1:5080"


@pytest.fixture
def call(bench):
    call = bench.place(Caller(say(1.0)))
    bench.client.execute("set", "continue_on_fail=true")
    bench.advance(0.02)
    return call


def bridge(bench, dial_string: str, seconds: float) -> None:
    bench.client.execute("bridge", dial_string)
    bench.advance(seconds)


def sip(name: str) -> str:
    return f"sofia/internal/{name}@{AT}"


@pytest.mark.parametrize(
    ("dial_string", "seconds", "cause", "status"),
    [
        (sip("busy"), 0.1, "USER_BUSY", "BUSY"),
        (sip("declines"), 0.1, "CALL_REJECTED", "DONTCALL"),
        (sip("0000"), 0.1, "NO_ROUTE_DESTINATION", "NO_ROUTE_DESTINATION"),
        (f"[leg_timeout=2]{sip('deaf')}", 3.1, "ALLOTTED_TIMEOUT", "ALLOTTED_TIMEOUT"),
        (f"{{originate_timeout=2}}{sip('deaf')}", 2.1, "NO_ANSWER", "NOANSWER"),
        (f"{{originate_timeout=2}}{sip('deaf')}|{sip('9196')}", 2.1, "NO_ANSWER", "NOANSWER"),
        (f"{sip('busy')},{sip('0000')}", 0.1, "USER_BUSY", "BUSY"),
        (f"[a=1{sip('9196')}", 0.1, "DESTINATION_OUT_OF_ORDER", "INVALIDARGS"),
    ],
)
def test_why_nobody_is_reached(bench, call, dial_string, seconds, cause, status):
    bridge(bench, dial_string, seconds)
    assert call.hangup_cause is None
    assert not bench.client.named("CHANNEL_BRIDGE")
    assert bench.client.named("CHANNEL_EXECUTE_COMPLETE")[-1]["Application"] == "bridge"
    found = call.variables
    assert (found["originate_disposition"], found["originate_failed_cause"], found["DIALSTATUS"]) == (
        cause,
        cause,
        status,
    )


@pytest.mark.parametrize(
    ("dial_string", "seconds"),
    [
        (f"{sip('busy')}|{sip('hold')}", 0.2),
        (f"[leg_timeout=1]{sip('deaf')}|{sip('hold')}", 2.2),
        (f"{{originate_timeout=1,originate_continue_on_timeout=true}}{sip('deaf')}|{sip('hold')}", 1.2),
        (f"{sip('late-400')},{sip('hold')},{sip('busy')}", 0.2),
    ],
)
def test_who_answers_first_is_connected(bench, call, dial_string, seconds):
    bridge(bench, dial_string, seconds)
    (bridged,) = bench.client.named("CHANNEL_BRIDGE")
    assert bridged["Other-Leg-Destination-Number"] == "hold"
    causes = call.variables["originate_causes"]
    assert f"{bridged['Bridge-B-Unique-ID']};NONE" in causes
    assert causes.startswith("ARRAY::")
    assert causes.count("|:") == call.variables["originated_legs"].count("|:")


def test_who_hangs_up_leaves_the_call(bench, call):
    bridge(bench, sip("tone-700-500"), 1.0)
    assert bench.client.kinds[-2:] == ["UNBRIDGE", "EXECUTE_COMPLETE"]
    assert call.variables["bridge_hangup_cause"] == call.variables["last_bridge_hangup_cause"] == "NORMAL_CLEARING"
    assert np.count_nonzero(call.heard) / 8000 == pytest.approx(0.5, abs=0.02)


def test_a_leg_is_ended_by_what_is_scheduled_at_its_answer(bench, call):
    bridge(bench, f"[^^~execute_on_answer=sched_hangup +2 ALLOTTED_TIMEOUT]{sip('hold')}", 1.9)
    assert call.channel.bridged
    bench.advance(0.3)
    assert not call.channel.bridged
    assert call.hangup_cause is None
    assert call.variables["bridge_hangup_cause"] == "ALLOTTED_TIMEOUT"


def test_a_leg_has_the_id_and_the_caller_it_is_given(bench, call):
    bridge(bench, f"[origination_uuid=mine,origination_caller_id_number=1555]{sip('hold')}", 0.2)
    (bridged,) = bench.client.named("CHANNEL_BRIDGE")
    assert (bridged["Bridge-B-Unique-ID"], bridged["Other-Leg-Caller-ID-Number"]) == ("mine", "1555")


@pytest.mark.parametrize(
    ("ringback", "heard"),
    [
        ("file_string://tone_stream://%(100,0,700)", True),
        ("file_string:///nowhere.wav!tone_stream://%(100,100,700)", True),
        ("file_string:///nowhere.wav", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("answer", [False, True])
def test_a_ringback_is_heard_until_there_is_an_answer(bench, ringback, heard, answer):
    call = bench.place(Caller(say(1.0)), answer=answer)
    bench.api(f"uuid_setvar {call.uuid} {'transfer_ringback' if answer else 'ringback'} {ringback}")
    bridge(bench, f"{{instant_ringback=true,ignore_early_media=true}}{sip('late-1000')}", 0.9)
    assert bool(bench.client.named("CHANNEL_PROGRESS_MEDIA")) is (bool(ringback) and not answer)
    if answer:
        assert bool(np.count_nonzero(call.heard[-800:])) is heard
    bench.advance(1.0)
    assert call.channel.answered
    assert not np.count_nonzero(call.heard[-800:])


def test_a_caller_who_gives_up_while_it_rings(bench, call):
    bridge(bench, sip("deaf"), 0.5)
    call.hang_up()
    bench.advance(0.1)
    assert call.hangup_cause == "NORMAL_CLEARING"
    assert not bench.client.named("CHANNEL_BRIDGE")
